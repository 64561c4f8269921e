// Messages as elements.
import { button, icon, make, say } from "./frame.js";
import { copyText, render } from "./markdown.js";
import { path, versions } from "./store.js";

const shown = new WeakMap(); // message → the element's parts that grow

// drawMessage is a message of a conversation with all that can be done with it.
export function drawMessage(talk, node, actions) {
  return node.role === "user" ? drawQuestion(talk, node, actions) : drawAnswer(talk, node, actions);
}

function drawQuestion(talk, node, actions) {
  const bubble = make("div", { className: "bubble" }, node.content);
  const bar = make("div", { className: "bar" }, ...switches(talk, node, actions), copier(node),
    button("edit", "edit", () => editor(node, bubble, bar, actions), { className: "icon act-edit" }));
  return make("article", { className: "user", "aria-label": say("you") },
    node.pictures ? make("div", { className: "pictures" }, ...node.pictures.map((src, i) => make("img", { src, alt: say("picture") + " " + (i + 1) }))) : null, bubble, bar);
}

function editor(node, bubble, bar, actions) {
  const area = make("textarea", { value: node.content, rows: Math.min(12, node.content.split("\n").length + 1), "aria-label": say("edit") });
  const back = () => { form.replaceWith(bubble); bar.hidden = false; };
  const form = make("form", { className: "editor", onsubmit: e => { e.preventDefault(); if (area.value.trim()) actions.edit(node, area.value.trim()); }, onkeydown: e => {
    if (e.isComposing) return;
    if (e.key === "Escape") { e.stopPropagation(); back(); }
    if (e.key === "Enter" && !e.shiftKey) { e.preventDefault(); form.requestSubmit(); }
  } }, area, make("menu", {}, make("button", { type: "button", onclick: back }, say("cancel")), make("button", { className: "main" }, say("save"))));
  bubble.replaceWith(form);
  bar.hidden = true;
  area.focus();
}

function drawAnswer(talk, node, actions) {
  const parts = { thought: make("details", { className: "thought", hidden: true }, make("summary"), make("div", { className: "md" })), runs: make("div"), text: make("div", { className: "md answer" }), calls: make("div"), end: make("p", { className: "end", hidden: true }) };
  const results = new Map(path(talk).filter(n => n.role === "tool").map(n => [n.call, n.content]));
  parts.give = (call, text) => actions.result(node, call, text);
  parts.results = results;
  shown.set(node, parts);
  update(node);
  const bar = make("div", { className: "bar" }, ...switches(talk, node, actions), copier(node), button("again", "again", () => actions.again(node)),
    node.end === "length" ? button("more", "more", () => actions.more(node)) : null, make("span", { className: "quiet" }, facts(node)));
  return make("article", { className: "assistant", "aria-label": say("said") }, parts.thought, parts.runs, parts.text, parts.calls, parts.end, bar);
}

// facts are an answer's model and speed.
function facts(node) {
  const s = node.speed;
  return [node.model, s && say("stats", s.tokens, s.rate.toFixed(1), s.first.toFixed(2))].filter(Boolean).join(" · ");
}

const copier = node => {
  const b = button("copy", "copy", () => copyText(node.content, b));
  return b;
};

// switches move between the versions of a message, where it has any.
function switches(talk, node, actions) {
  const all = versions(talk, node), at = all.findIndex(n => n.id === node.id);
  if (all.length < 2) return [];
  return [button("left", "previous", () => actions.turn(node, -1), { disabled: at === 0 }), make("span", { className: "quiet" }, `${at + 1}/${all.length}`),
    button("right", "next", () => actions.turn(node, 1), { disabled: at === all.length - 1 })];
}

// update shows what has come of an answer since.
export function update(node) {
  const p = shown.get(node);
  if (!p) return;
  p.thought.hidden = !node.reasoning;
  if (node.reasoning) {
    const over = node.content || node.calls || node.end || node.error || node.speed;
    p.thought.classList.toggle("live", !over);
    p.thought.firstChild.textContent = !over ? say("thinking") : node.thought !== undefined ? say("thought", (node.thought / 1000).toFixed(1)) : say("thoughtOnce");
    if (p.thought.open || over) render(node.reasoning, p.thought.lastChild);
    p.thought.ontoggle = () => render(node.reasoning, p.thought.lastChild);
  }
  grow(p.runs, node.runs ?? [], drawRun);
  render(node.content, p.text);
  p.text.classList.toggle("waiting", !node.content && !node.reasoning && !node.calls && !node.end && !node.error && !node.speed);
  grow(p.calls, node.calls ?? [], c => drawCall(c, p));
  const end = node.error ? say("failed", node.error) : node.end === "length" ? say("length") : node.end === "abort" ? say("stopped") : "";
  p.end.textContent = end;
  p.end.hidden = !end;
  p.end.classList.toggle("bad", Boolean(node.error));
}

function grow(into, list, draw) {
  for (const x of list.slice(into.children.length)) into.append(draw(x));
}

function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
}

// drawCall is a call of a tool with its result, or with a form that takes the result.
function drawCall(call, p) {
  const box = make("details", { className: "call", open: true }, make("summary", {}, icon("settings"), say("call") + " ", make("code", {}, call.name)), make("pre", { tabIndex: 0 }, pretty(call.arguments)));
  const result = p.results.get(call.id);
  if (result !== undefined) {
    box.append(make("p", { className: "quiet" }, say("result")), make("pre", { tabIndex: 0 }, pretty(result)));
    box.open = false;
    return box;
  }
  const area = make("textarea", { rows: 2, placeholder: say("giveResult"), "aria-label": say("giveResult") });
  box.append(make("form", { onsubmit: e => { e.preventDefault(); p.give(call, area.value); } }, area, make("button", { className: "main" }, say("answerCall"))));
  return box;
}

// drawRun is code that the server ran for the model.
function drawRun(run) {
  return make("details", { className: "call" }, make("summary", {}, icon("settings"), say("ran"), run.exit_code ? " · " + say("exit", run.exit_code) : ""), make("pre", { tabIndex: 0 }, run.code),
    make("p", { className: "quiet" }, say("result")), make("pre", { tabIndex: 0 }, run.output));
}
