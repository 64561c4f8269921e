// Line charts as SVG.
import { make, say } from "./frame.js";

const width = 560, height = 260, pad = { left: 56, right: 14, top: 12, bottom: 28 };
const most = 1200; // points of a line; more are thinned to the least and the largest of each stretch

const svg = (tag, attributes, ...children) => {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  e.append(...children);
  return e;
};

// smooth is the exponential mean of values, without the pull towards zero at the beginning.
export function smooth(values, weight) {
  let sum = 0, mass = 0;
  return values.map(v => {
    sum = weight * sum + (1 - weight) * v;
    mass = weight * mass + (1 - weight);
    return sum / mass;
  });
}

function thin(points) {
  if (points.length <= most) return points;
  const out = [], stretch = Math.ceil(2 * points.length / most);
  for (let i = 0; i < points.length; i += stretch) {
    const part = points.slice(i, i + stretch);
    const low = part.reduce((a, b) => b[1] < a[1] ? b : a), high = part.reduce((a, b) => b[1] > a[1] ? b : a);
    out.push(...[low, high].sort((a, b) => a[0] - b[0]));
  }
  return out;
}

// ticks are about n round numbers from lo to hi.
export function ticks(lo, hi, n) {
  const raw = (hi - lo) / n, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find(k => k * power >= raw);
  const out = [];
  for (let i = Math.ceil(lo / step - 1e-9); i * step <= hi + step * 1e-9; i++) out.push(Number((i * step).toPrecision(12)));
  return out;
}

function powers(lo, hi) {
  const out = [];
  for (let p = Math.floor(Math.log10(lo)); p <= Math.ceil(Math.log10(hi)); p++) {
    for (const k of hi / lo < 30 ? [1, 2, 5] : [1]) if (k * 10 ** p >= lo * 0.999 && k * 10 ** p <= hi * 1.001) out.push(k * 10 ** p);
  }
  return out;
}

export function short(x) {
  const a = Math.abs(x);
  if (x === 0) return "0";
  if (a >= 1e9) return +(x / 1e9).toPrecision(3) + "G";
  if (a >= 1e6) return +(x / 1e6).toPrecision(3) + "M";
  if (a >= 1e4) return +(x / 1e3).toPrecision(3) + "k";
  if (a < 1e-3) return x.toExponential(1).replace("e-", "e−");
  return String(+x.toPrecision(4));
}

// chart draws lines { name, colour, points: [[x, y]...], smoothed: [[x, y]...] } over a title.
export function chart(title, lines, logarithmic) {
  const all = lines.flatMap(l => l.points), log = logarithmic && all.every(p => p[1] > 0);
  let [x0, x1] = extent(all.map(p => p[0])), [y0, y1] = extent(all.map(p => p[1]));
  if (x0 === x1) x1 = x0 + 1;
  if (y0 === y1) { const d = Math.abs(y0) * 0.1 || 1; y0 -= log ? y0 / 2 : d; y1 += d; }
  if (!log) { const d = (y1 - y0) * 0.05; y0 = y0 >= 0 ? Math.max(0, y0 - d) : y0 - d; y1 += d; }
  const inner = { w: width - pad.left - pad.right, h: height - pad.top - pad.bottom };
  const sx = x => pad.left + (x - x0) / (x1 - x0) * inner.w;
  const share = log ? y => Math.log(y / y0) / Math.log(y1 / y0) : y => (y - y0) / (y1 - y0);
  const sy = y => pad.top + (1 - share(y)) * inner.h;
  const path = points => thin(points).map((p, i) => (i ? "L" : "M") + sx(p[0]).toFixed(1) + " " + sy(p[1]).toFixed(1)).join("");
  const grid = [];
  for (const y of log && y1 / y0 > 8 ? powers(y0, y1) : ticks(y0, y1, 5)) {
    grid.push(svg("line", { class: "grid", x1: pad.left, x2: width - pad.right, y1: sy(y), y2: sy(y) }), svg("text", { x: pad.left - 8, y: sy(y) + 4, "text-anchor": "end" }, short(y)));
  }
  for (const x of ticks(x0, x1, 6)) grid.push(svg("text", { x: sx(x), y: height - 8, "text-anchor": "middle" }, short(x)));
  const drawn = [];
  for (const l of lines) {
    if (l.smoothed) drawn.push(svg("path", { class: "faint", d: path(l.points), stroke: l.colour }));
    drawn.push(svg("path", { class: "line", d: path(l.smoothed ?? l.points), stroke: l.colour }));
    if (l.points.length === 1) drawn.push(svg("circle", { cx: sx(l.points[0][0]), cy: sy(l.points[0][1]), r: 3, fill: l.colour }));
  }
  const cross = svg("line", { class: "cross", y1: pad.top, y2: height - pad.bottom, visibility: "hidden" });
  const spoken = title + ": " + lines.map(l => `${l.name} ${short(l.points.at(-1)[1])}`).join(", ");
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": spoken }, ...grid, cross, ...drawn);
  const tip = make("output", { className: "tip", hidden: true });
  const figure = make("figure", { className: "chart" }, make("figcaption", {}, title), picture, tip);
  picture.addEventListener("pointermove", e => {
    const box = picture.getBoundingClientRect();
    const x = x0 + ((e.clientX - box.left) / box.width * width - pad.left) / inner.w * (x1 - x0);
    const near = lines.map(l => ({ l, i: nearest(l.points, x) }));
    const at = near.reduce((a, b) => Math.abs(b.l.points[b.i][0] - x) < Math.abs(a.l.points[a.i][0] - x) ? b : a);
    const px = sx(at.l.points[at.i][0]);
    cross.setAttribute("x1", px);
    cross.setAttribute("x2", px);
    cross.setAttribute("visibility", "visible");
    tip.hidden = false;
    tip.classList.toggle("flip", px > width / 2);
    tip.replaceChildren(make("b", {}, short(at.l.points[at.i][0])), ...near.map(({ l, i }) => {
      const dot = make("i");
      dot.style.background = l.colour;
      return make("span", {}, dot, l.name + " ", make("b", {}, short((l.smoothed ?? l.points)[i][1])));
    }));
  });
  picture.addEventListener("pointerleave", () => { tip.hidden = true; cross.setAttribute("visibility", "hidden"); });
  return figure;
}

function extent(values) {
  let lo = Infinity, hi = -Infinity;
  for (const v of values) { if (v < lo) lo = v; if (v > hi) hi = v; }
  return [lo, hi];
}

// nearest is the index of the point whose x is closest; points are in order of x.
function nearest(points, x) {
  let lo = 0, hi = points.length - 1;
  while (hi - lo > 1) {
    const mid = (lo + hi) >> 1;
    if (points[mid][0] < x) lo = mid; else hi = mid;
  }
  return x - points[lo][0] < points[hi][0] - x ? lo : hi;
}
