// The chat: what is on the page and what happens when it is used. message.js draws messages, store.js keeps them.
import { button, el, icon, json, kept, make, say, start } from "./frame.js";
import * as store from "./store.js";
import { body, listen } from "./stream.js";
import { drawMessage, update } from "./message.js";
import { openSettings, settingsReady } from "./settings.js";

const mostPictures = 4, pictureSide = 1280; // pixels of the longer side that are sent

let models = [], talk, answering = null, pictures = [];

const chosen = () => models.find(m => m.id === el("adapter").value) ?? models.find(m => m.id === el("model").value);

// --- models

async function loadModels() {
  try {
    models = (await json("/v1/models")).data;
  } catch (e) {
    return notice(e instanceof TypeError ? say("offline") : e.message);
  }
  for (const m of models) m.can = what => m.capabilities.includes(what);
  const bases = models.filter(m => !m.parent);
  el("model").replaceChildren(...bases.map(m => make("option", { value: m.id }, m.id)));
  const last = models.find(m => m.id === kept.get("model", ""));
  if (last) el("model").value = last.parent || last.id;
  showAdapters(last?.parent ? last.id : "");
}

function showAdapters(id) {
  const list = models.filter(m => m.parent === el("model").value);
  el("adapter").replaceChildren(make("option", { value: "" }, say("noAdapter")), ...list.map(m => make("option", { value: m.id }, m.id)));
  el("adapter").value = id;
  el("adapter").hidden = list.length === 0;
  showAbilities();
}

function showAbilities() {
  const m = chosen();
  if (!m) return;
  kept.set("model", m.id);
  el("attach").hidden = !m.can("vision");
  el("think").hidden = !m.can("thinking");
  el("think").setAttribute("aria-pressed", talk.settings.think !== false);
  el("code").hidden = !m.can("code_interpreter");
  el("code").setAttribute("aria-pressed", talk.settings.code === true);
  if (!m.can("vision")) pictures = [];
  showPictures();
  notice(m.can("chat") ? "" : say("noChat", m.id));
  showRoom();
}

function notice(text) {
  el("room").textContent = text;
  el("room").classList.toggle("bad", text !== "");
}

function showRoom() {
  const last = store.path(talk).findLast(n => n.usage), m = chosen();
  if (!m?.can("chat")) return;
  notice("");
  if (last) el("room").textContent = say("room", last.usage.total_tokens.toLocaleString(), m.max_model_len.toLocaleString());
}

// --- conversations

function openTalk(t) {
  stop();
  talk = t;
  kept.set("open", t.id);
  drawTalk();
  drawList();
  showAbilities();
  side(false);
}

function newTalk() {
  openTalk(store.create(talk?.settings ?? kept.get("settings", {})));
  el("ask").focus();
}

function keep() {
  if (!talk.title) talk.title = store.path(talk).find(n => n.role === "user")?.content.trim().replace(/\s+/g, " ").slice(0, 60) ?? "";
  kept.set("settings", talk.settings);
  if (talk.leaf && !store.save(talk)) notice(say("full"));
  drawList();
}

function drawList() {
  el("talks").replaceChildren(...store.list().map(entry => {
    const open = make("button", { type: "button", className: "talk", onclick: () => openTalk(store.open(entry.id) ?? talk) }, entry.title || say("untitled"));
    if (entry.id === talk.id) open.setAttribute("aria-current", "page");
    return make("li", {}, open, button("edit", "rename", () => rename(entry, open)), button("remove", "remove", () => {
      if (!confirm(say("confirm"))) return;
      store.remove(entry.id);
      if (entry.id === talk.id) newTalk(); else drawList();
    }));
  }));
}

function rename(entry, at) {
  const done = save => {
    const title = input.value.trim();
    if (save && title) {
      const t = entry.id === talk.id ? talk : store.open(entry.id);
      t.title = title;
      store.save(t);
    }
    drawList();
  };
  const input = make("input", { value: entry.title, "aria-label": say("rename"), onblur: () => done(true), onkeydown: e => {
    if (e.key === "Enter") input.blur();
    if (e.key === "Escape") { e.stopPropagation(); input.value = ""; input.blur(); }
  } });
  at.replaceWith(input);
  input.select();
}

function drawTalk() {
  const path = store.path(talk);
  el("export").hidden = path.length === 0;
  el("log").replaceChildren(...(path.length ? path.filter(n => n.role !== "tool").map(n => drawMessage(talk, n, actions)) : [welcome()]));
  toBottom();
}

function welcome() {
  return make("div", { className: "welcome" }, make("img", { src: "/assets/icon.svg", alt: "", width: 56, height: 56 }), make("h1", {}, say("welcome")),
    make("ul", {}, ...["try1", "try2", "try3", "try4"].map(k => make("li", {}, make("button", { type: "button", onclick: () => {
      el("ask").value = say(k);
      fit();
      el("ask").focus();
    } }, say(k))))));
}

// --- answers

// actions are what can be done with a message.
const actions = {
  again(node) { answer(node.parent); },
  more(node) { answer(node.parent, node); },
  turn(node, by) { stop(); store.turn(talk, node, by); keep(); drawTalk(); },
  edit(node, text) {
    const other = store.add(talk, node.parent, { role: "user", content: text, pictures: node.pictures });
    answer(other.id);
  },
  result(node, call, text) {
    let last = talk.leaf;
    last = store.add(talk, last, { role: "tool", call: call.id, content: text }).id;
    const given = store.path(talk).filter(n => n.role === "tool").map(n => n.call);
    if (node.calls.every(c => given.includes(c.id))) return answer(last);
    keep();
    drawTalk();
  },
};

// answer asks for what follows a message; with a node it goes on with that answer.
async function answer(parent, goOn) {
  const model = chosen();
  if (!model) return notice(say("noModel"));
  stop();
  talk.leaf = parent;
  const path = store.path(talk), t = talk;
  const node = goOn ?? store.add(talk, parent, { role: "assistant", content: "", model: model.id });
  talk.leaf = node.id;
  if (goOn) path.push(node);
  delete node.end;
  delete node.error;
  const request = body(model, talk.settings, path, goOn);
  const mine = answering = new AbortController();
  busy(true);
  drawTalk();
  const came = performance.now();
  let first = 0, thought = 0, tokens = 0;
  const show = perFrame(() => { if (talk === t) { update(node); follow(); } });
  try {
    await listen(request, mine.signal, data => {
      if (data.usage) { node.usage = data.usage; tokens = data.usage.completion_tokens; }
      const choice = data.choices[0];
      if (!choice) return;
      const d = choice.delta, now = performance.now();
      if (!first && (d.content || d.reasoning_content || d.tool_calls || d.code_interpreter)) first = now;
      if (d.reasoning_content) node.reasoning = (node.reasoning ?? "") + d.reasoning_content;
      if (node.reasoning && !thought && (d.content || d.tool_calls || choice.finish_reason)) node.thought = (thought = now) - first;
      if (d.content) node.content += d.content;
      for (const c of d.tool_calls ?? []) (node.calls ??= []).push({ id: c.id, name: c.function.name, arguments: c.function.arguments });
      for (const r of d.code_interpreter ?? []) (node.runs ??= []).push(r);
      if (choice.finish_reason) node.end = choice.finish_reason;
      show();
    });
  } catch (e) {
    if (e.name === "AbortError") node.end = "abort";
    else node.error = e instanceof TypeError ? say("offline") : e.message;
  }
  if (tokens > 1 && first) node.speed = { tokens, rate: (tokens - 1) / (performance.now() - first) * 1000, first: (first - came) / 1000 };
  if (answering === mine) { answering = null; busy(false); }
  if (talk === t) {
    keep();
    drawTalk();
    showRoom();
    el("status").textContent = node.error ? say("failed", node.error) : node.content.slice(0, 600);
  } else store.save(t);
}

function stop() {
  answering?.abort();
  answering = null;
  busy(false);
}

function busy(on) {
  el("send").hidden = on;
  el("stop").hidden = !on;
  el("log").setAttribute("aria-busy", on);
}

// perFrame calls f at most once for each frame that is drawn.
function perFrame(f) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; f(); });
  };
}

function send() {
  const text = el("ask").value.trim();
  if (answering || !text && !pictures.length) return;
  const node = store.add(talk, talk.leaf, { role: "user", content: text, ...(pictures.length ? { pictures } : {}) });
  el("ask").value = "";
  pictures = [];
  showPictures();
  fit();
  answer(node.id);
}

// --- scrolling: new text is followed as long as the end is in view

let following = true;

function follow() { if (following) el("scroll").scrollTop = el("scroll").scrollHeight; }
function toBottom() { following = true; follow(); }

el("scroll").addEventListener("scroll", () => {
  const s = el("scroll");
  following = s.scrollHeight - s.scrollTop - s.clientHeight < 60;
  el("bottom").hidden = following;
});
el("bottom").addEventListener("click", toBottom);

// --- the box to write in

function fit() {
  const a = el("ask");
  a.style.height = "auto";
  a.style.height = Math.min(a.scrollHeight, innerHeight * 0.4) + "px";
}

async function addPictures(files) {
  if (!chosen()?.can("vision")) return;
  for (const file of files) {
    if (pictures.length === mostPictures) return notice(say("tooMany", mostPictures));
    try {
      pictures.push(await shrink(file));
    } catch {
      notice(say("badPicture", file.name));
    }
  }
  showPictures();
}

// shrink is a picture as a data URL, no larger than models look at.
async function shrink(file) {
  const bitmap = await createImageBitmap(file);
  const by = Math.min(1, pictureSide / Math.max(bitmap.width, bitmap.height));
  const canvas = make("canvas", { width: Math.max(1, Math.round(bitmap.width * by)), height: Math.max(1, Math.round(bitmap.height * by)) });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return file.type === "image/png" ? canvas.toDataURL("image/png") : canvas.toDataURL("image/jpeg", 0.88);
}

function showPictures() {
  el("pictures").hidden = pictures.length === 0;
  el("pictures").replaceChildren(...pictures.map((src, i) => make("li", {}, make("img", { src, alt: say("picture") + " " + (i + 1) }), button("close", "remove", () => {
    pictures.splice(i, 1);
    showPictures();
  }))));
}

// --- the side on small screens

function side(open) {
  document.body.classList.toggle("open", open);
  el("menu").setAttribute("aria-expanded", open);
  el("side").inert = !open && matchMedia("(max-width: 48rem)").matches;
  if (open) el("shut").focus();
}

// --- export

function asMarkdown() {
  const parts = [`# ${talk.title || say("untitled")}\n`];
  for (const n of store.path(talk)) {
    parts.push(`## ${say(n.role === "user" ? "you" : n.role === "tool" ? "result" : "said")}${n.model ? " · " + n.model : ""}\n`);
    if (n.content) parts.push(n.content + "\n");
    for (const c of n.calls ?? []) parts.push("```json\n" + JSON.stringify({ name: c.name, arguments: c.arguments }) + "\n```\n");
  }
  const a = make("a", { href: URL.createObjectURL(new Blob([parts.join("\n")], { type: "text/markdown" })), download: (talk.title || "chat").replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40) + ".md" });
  a.click();
  setTimeout(() => URL.revokeObjectURL(a.href), 1000);
}

// --- keyboard

const shortcuts = [["Enter", "keySend"], ["Shift Enter", "keyLine"], ["Esc", "keyStop"], ["Ctrl K", "keyNew"], ["/", "keyFocus"], ["↑", "keyEdit"], ["Ctrl B", "keySide"], ["?", "keyHelp"]];

function showKeys() {
  el("shortcuts").replaceChildren(...shortcuts.flatMap(([keys, what]) => [make("dt", {}, ...keys.split(" ").map(k => make("kbd", {}, k))), make("dd", {}, say(what))]));
  el("keys").showModal();
}

document.addEventListener("keydown", e => {
  if (e.isComposing || document.querySelector("dialog[open]")) return;
  const typing = e.target.closest("input, textarea, select"), command = e.ctrlKey || e.metaKey;
  if (e.key === "Escape") {
    if (document.body.classList.contains("open")) return side(false);
    if (answering) stop();
  } else if (command && e.key === "k") newTalk();
  else if (command && e.key === "b") side(!document.body.classList.contains("open"));
  else if (!typing && !command && !e.altKey && e.key === "/") el("ask").focus();
  else if (!typing && !command && !e.altKey && e.key === "?") showKeys();
  else return;
  e.preventDefault();
});

el("ask").addEventListener("keydown", e => {
  if (e.isComposing || e.keyCode === 229) return; // an input method is at work
  if (e.key === "Enter" && !e.shiftKey && !matchMedia("(pointer: coarse)").matches) {
    e.preventDefault();
    send();
  } else if (e.key === "ArrowUp" && !el("ask").value) {
    const edits = document.querySelectorAll("article.user .act-edit");
    if (edits.length) { e.preventDefault(); edits[edits.length - 1].click(); }
  }
});
el("ask").addEventListener("input", fit);
el("ask").addEventListener("paste", e => {
  const files = [...e.clipboardData.files].filter(f => f.type.startsWith("image/"));
  if (files.length) { e.preventDefault(); addPictures(files); }
});
document.addEventListener("dragover", e => e.preventDefault());
document.addEventListener("drop", e => { e.preventDefault(); addPictures(e.dataTransfer.files); });

el("composer").addEventListener("submit", e => { e.preventDefault(); send(); });
el("stop").addEventListener("click", stop);
el("new").addEventListener("click", newTalk);
el("menu").addEventListener("click", () => side(true));
el("shut").addEventListener("click", () => side(false));
el("veil").addEventListener("click", () => side(false));
el("help").addEventListener("click", showKeys);
el("export").addEventListener("click", asMarkdown);
el("attach").addEventListener("click", () => el("files").click());
el("files").addEventListener("change", () => { addPictures(el("files").files); el("files").value = ""; });
el("model").addEventListener("change", () => showAdapters(""));
el("adapter").addEventListener("change", showAbilities);
el("configure").addEventListener("click", () => openSettings(talk.settings, chosen()));
el("think").addEventListener("click", () => {
  if (talk.settings.think === false) delete talk.settings.think; else talk.settings.think = false;
  el("think").setAttribute("aria-pressed", talk.settings.think !== false);
  keep();
});

el("code").addEventListener("click", () => {
  if (talk.settings.code) delete talk.settings.code; else talk.settings.code = true;
  el("code").setAttribute("aria-pressed", talk.settings.code === true);
  keep();
});

settingsReady(settings => { talk.settings = settings; keep(); });
start(() => { drawTalk(); drawList(); showAdapters(el("adapter").value); });
openTalk(store.open(kept.get("open", "")) ?? store.create(kept.get("settings", {})));
loadModels();
