// The dialog for the system prompt, sampling and tools.
import { el, make, say } from "./frame.js";

// numbers are [field, least, most, step].
const numbers = [["temperature", 0, 2, 0.05], ["top_p", 0, 1, 0.01], ["top_k", 0, 1000, 1], ["min_p", 0, 1, 0.01], ["repetition_penalty", 0.5, 2, 0.01],
  ["max_tokens", 1, 1000000, 1], ["seed", 0, 2 ** 53 - 1, 1], ["thinking_budget", 0, 38912, 1]];

let inputs = {}, save;

// settingsReady says what to do with settings that were changed.
export function settingsReady(f) {
  save = f;
  el("choices").addEventListener("submit", e => {
    const s = read();
    if (!s) e.preventDefault();
    else save(s);
  });
  el("settings").addEventListener("cancel", e => {
    const s = read();
    if (!s) e.preventDefault();
    else save(s);
  });
  el("reset").addEventListener("click", () => show({}));
}

let think, code;

// openSettings shows settings for a model.
export function openSettings(settings, model) {
  think = settings.think;
  code = settings.code;
  inputs = {};
  el("numbers").replaceChildren(...numbers.filter(([k]) => k !== "thinking_budget" || model?.can("thinking")).map(([key, min, max, step]) => {
    inputs[key] = make("input", { type: "number", min, max, step, placeholder: say("own"), inputMode: "decimal" });
    return make("label", {}, make("span", {}, say(key)), inputs[key]);
  }));
  el("tool-box").hidden = model !== undefined && !model.can("tools");
  show(settings);
  el("settings").showModal();
}

function show(settings) {
  el("wrong").textContent = "";
  el("system").value = settings.system ?? "";
  el("tools").value = settings.tools ? JSON.stringify(settings.tools, null, 2) : "";
  for (const [k, input] of Object.entries(inputs)) input.value = settings[k] ?? "";
}

// read is what the dialog holds, null where that is wrong.
function read() {
  const s = {};
  if (el("system").value.trim()) s.system = el("system").value;
  for (const [k, input] of Object.entries(inputs)) if (input.value !== "") s[k] = Number(input.value);
  if (think !== undefined) s.think = think;
  if (code) s.code = true;
  const tools = el("tools").value.trim();
  if (!tools) return s;
  try {
    s.tools = JSON.parse(tools);
    if (!Array.isArray(s.tools)) throw new Error();
  } catch {
    el("wrong").textContent = say("badTools");
    return null;
  }
  return s;
}
