// The page that follows training runs: a list to choose from, curves of all that are chosen, and what they write.
import { el, json, kept, known, make, say, start } from "./frame.js";
import { chart, short, smooth } from "./chart.js";

const colours = ["#b23a2b", "#2f6fae", "#2f7d55", "#b07d12", "#7a4a9e", "#0f8a94", "#c2568f", "#6b6f76"];
const every = 2000; // ms between looks
const first = ["loss", "eval_loss", "learning_rate", "grad_norm", "tokens_per_s"]; // these curves come first
const axes = ["step", "epoch", "total_tokens"];

let runs = [], folder = "";
const seen = new Map(); // run → { rows, samples, next, nextSample }
let picked = new Set(kept.get("picked", []));

// label is a run's name; the folder itself can be one.
const label = name => name === "." ? folder : name;
const colourOf = name => colours[runs.map(r => r.name).sort().indexOf(name) % colours.length];

// look reads the list of runs and what is new of those that are chosen.
async function look() {
  try {
    const answer = await json("/runs/list");
    folder = answer.folder;
    runs = answer.runs;
    if (![...picked].some(n => runs.some(r => r.name === n)) && runs.length) picked = new Set([runs[0].name]);
    const news = await Promise.all(runs.filter(r => picked.has(r.name)).map(read));
    drawList();
    if (news.some(Boolean)) draw();
  } catch (e) {
    el("none").textContent = e instanceof TypeError ? say("offline") : e.message;
  }
}

// read fetches what a run has logged since the last look; true when there was something.
async function read(run) {
  const s = seen.get(run.name) ?? { rows: [], samples: [], next: 0, mark: "" };
  const query = new URLSearchParams({ run: run.name, after: s.next, mark: s.mark });
  const news = await json("/runs/metrics?" + query);
  if (news.restarted) s.rows = [];
  const added = news.rows.length > 0 || news.restarted || !seen.has(run.name) || news.samples.length !== s.samples.length;
  for (const r of news.rows) s.rows.push(r);
  s.next = news.next;
  s.mark = news.mark;
  s.samples = news.samples;
  seen.set(run.name, s);
  return added;
}

function drawList() {
  el("board").hidden = runs.length === 0;
  el("none").textContent = runs.length ? "" : folder ? say("noRuns", folder) : say("noFolder");
  const focused = document.activeElement?.dataset?.run;
  el("runs").replaceChildren(...runs.map(r => {
    const box = make("input", { type: "checkbox", checked: picked.has(r.name), onchange: () => {
      if (box.checked) picked.add(r.name); else picked.delete(r.name);
      kept.set("picked", [...picked]);
      look().then(draw);
    } });
    box.dataset.run = r.name;
    box.style.accentColor = colourOf(r.name);
    const facts = [r.live ? say("live") : say("ended"), r.steps ? say("of", r.step.toLocaleString(), r.steps.toLocaleString()) : r.step.toLocaleString(), r.loss !== undefined ? short(r.loss) : null,
      r.live && r.left ? say("left", clock(r.left)) : null];
    const progress = r.steps ? make("progress", { max: r.steps, value: r.step, "aria-label": label(r.name) }) : null;
    return make("label", { className: r.live ? "run live" : "run" }, box, make("span", {}, make("b", {}, label(r.name)), make("span", { className: "quiet" }, facts.filter(Boolean).join(" · ")), progress));
  }));
  if (focused) document.querySelector(`[data-run="${CSS.escape(focused)}"]`)?.focus();
}

const clock = s => s >= 3600 ? `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min` : s >= 60 ? `${Math.floor(s / 60)} min` : `${Math.round(s)} s`;

// title is a curve's name: a word of ours where there is one.
const title = key => known(key) && !axes.includes(key) || key === "total_tokens" ? say(key) : key;

function draw() {
  const shown = runs.filter(r => picked.has(r.name) && seen.has(r.name));
  const axis = el("axis").value, weight = Number(el("smooth").value), log = el("log").checked;
  el("smooth-now").textContent = weight.toFixed(2);
  const keys = new Set();
  for (const r of shown) for (const row of seen.get(r.name).rows) for (const [k, v] of Object.entries(row)) if (typeof v === "number" && !axes.includes(k) && k !== "eta_s") keys.add(k);
  const order = [...first.filter(k => keys.has(k)), ...[...keys].filter(k => !first.includes(k)).sort()];
  el("charts").replaceChildren(...order.map(key => {
    const lines = shown.map(r => ({ name: label(r.name), colour: colourOf(r.name), points: seen.get(r.name).rows.filter(row => typeof row[key] === "number" && typeof row[axis] === "number").map(row => [row[axis], row[key]]) }))
      .filter(l => l.points.length);
    if (weight > 0 && key !== "learning_rate" && !key.startsWith("eval_")) {
      for (const l of lines) {
        const y = smooth(l.points.map(p => p[1]), weight);
        l.smoothed = l.points.map((p, i) => [p[0], y[i]]);
      }
    }
    return lines.length ? chart(title(key), lines, log) : null;
  }).filter(Boolean));
  const samples = shown.flatMap(r => seen.get(r.name).samples.map(s => ({ ...s, run: r.name }))).sort((a, b) => b.step - a.step).slice(0, 40);
  el("samples").replaceChildren(...(samples.length ? [make("h2", {}, say("samples")), ...samples.map(drawSample)] : []));
}

function drawSample(s) {
  const dot = make("i");
  dot.style.background = colourOf(s.run);
  return make("article", { className: "sample" }, make("p", { className: "quiet" }, dot, say("stepN", s.step.toLocaleString()) + (picked.size > 1 ? " · " + label(s.run) : "")),
    make("p", {}, make("span", { className: "prompt" }, s.prompt), " ", s.text));
}

for (const [id, key, fallback] of [["smooth", "value", 0.6], ["axis", "value", "step"], ["log", "checked", false]]) {
  el(id)[key] = kept.get("runs." + id, fallback);
  el(id).addEventListener("input", () => { kept.set("runs." + id, el(id)[key]); draw(); });
}
el("view").addEventListener("submit", e => e.preventDefault());
start(() => { drawList(); draw(); });

async function follow() {
  if (!document.hidden) await look();
  setTimeout(follow, every);
}
follow();
