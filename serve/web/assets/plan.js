// The planner: what is asked goes into the address of a sheet that the server computes.
import { el, json, kept, make, start } from "./frame.js";

function show() {
  const asked = { model: el("model").value.trim(), task: el("task").value, gpu: el("gpu").value };
  kept.set("plan", asked);
  el("sheet").hidden = false;
  el("sheet").src = "/plan/sheet?" + new URLSearchParams(asked);
}

el("request").addEventListener("submit", e => { e.preventDefault(); show(); });
start(() => {});
const choices = await json("/plan/choices");
el("models").append(...choices.models.map(value => make("option", { value })));
for (const [id, list] of [["task", choices.tasks], ["gpu", choices.gpus]]) el(id).append(...list.map(value => make("option", { value }, value)));
const last = { model: "7B", task: "qlora", gpu: choices.gpus[0], ...kept.get("plan", {}) };
for (const k of ["model", "task", "gpu"]) el(k).value = last[k];
show();
