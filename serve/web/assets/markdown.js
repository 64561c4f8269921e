// Markdown as elements. The text of a model is never read as markup: every element is made here, every text is a text
// node, and links lead to http, https and mailto alone. Pictures are links, so that no answer makes the browser ask
// another host.
import { make, button, say } from "./frame.js";
import { colour } from "./colour.js";

const deepest = 12; // nesting of quotes, lists and emphasis

const fence = /^( {0,3})(`{3,}|~{3,})[ \t]*([^\s`]*)[^`]*$/;
const heading = /^ {0,3}(#{1,6})[ \t]+(?=\S)/;
const rule = /^ {0,3}(?:(?:-[ \t]*){3,}|(?:\*[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const item = /^( {0,3})([-+*]|\d{1,9}[.)])(?:([ \t]+)(.*)|)$/;
const delimiters = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const mathOpen = /^ {0,3}(\$\$|\\\[)/;

// cut splits a text into blocks, each with its own source, so that a growing text changes its last block alone.
export function cut(text) {
  const lines = text.replace(/\r\n?/g, "\n").split("\n"), blocks = [];
  let at = 0;
  const take = (kind, end, more) => {
    blocks.push({ kind, source: lines.slice(at, end).join("\n"), lines: lines.slice(at, end), ...more });
    at = end;
  };
  while (at < lines.length) {
    const line = lines[at];
    let m;
    if (!line.trim()) { at++; continue; }
    if ((m = fence.exec(line))) take("code", afterFence(lines, at, m[2]), { language: m[3], indent: m[1].length });
    else if ((m = heading.exec(line))) take("heading", at + 1, { level: m[1].length, text: line.slice(m[0].length).trimEnd().replace(/(?<=\s)#+$/, "").trimEnd() });
    else if (rule.test(line)) take("rule", at + 1);
    else if ((m = mathOpen.exec(line))) take("math", afterMath(lines, at, m[1] === "$$" ? "$$" : "\\]"));
    else if (/^ {0,3}>/.test(line)) take("quote", afterQuote(lines, at));
    else if ((m = item.exec(line))) take("list", afterList(lines, at, m));
    else if (isTable(lines, at)) take("table", afterParagraph(lines, at, true));
    else take("paragraph", afterParagraph(lines, at, false));
  }
  return blocks;
}

function afterFence(lines, at, mark) {
  const close = new RegExp("^ {0,3}" + (mark[0] === "`" ? "`" : "~") + "{" + mark.length + ",}[ \\t]*$");
  for (let i = at + 1; i < lines.length; i++) if (close.test(lines[i])) return i + 1;
  return lines.length;
}

function afterMath(lines, at, close) {
  for (let i = at; i < lines.length; i++) if (lines[i].trimEnd().endsWith(close) && (i > at || lines[i].trim().length > 2)) return i + 1;
  return lines.length;
}

const starts = (lines, i) => fence.test(lines[i]) || heading.test(lines[i]) || rule.test(lines[i]) || /^ {0,3}>/.test(lines[i]) || item.test(lines[i]) || mathOpen.test(lines[i]);

function afterQuote(lines, at) {
  let i = at + 1;
  while (i < lines.length && lines[i].trim() && (/^ {0,3}>/.test(lines[i]) || !starts(lines, i))) i++;
  return i;
}

// sameList says whether two markers belong to one list.
const ordered = marker => marker.length > 1;
const sameList = (a, b) => ordered(a) === ordered(b) && a.at(-1) === b.at(-1);

function afterList(lines, at, first) {
  let i = at + 1, width = first[1].length + first[2].length + 1;
  for (; i < lines.length; i++) {
    const m = item.exec(lines[i]), indent = lines[i].search(/\S/);
    if (indent < 0) {
      const next = lines.slice(i + 1).find(l => l.trim());
      const n = next === undefined ? null : item.exec(next);
      if (next === undefined || next.search(/\S/) < Math.min(width, 2) && !(n && sameList(n[2], first[2]))) break;
      continue;
    }
    if (indent >= Math.min(width, 2) && !(m && indent < width && sameList(m[2], first[2]))) continue;
    if (m) {
      if (!sameList(m[2], first[2])) break;
      width = m[1].length + m[2].length + 1;
      continue;
    }
    if (!lines[i - 1].trim() || starts(lines, i)) break; // no lazy continuation
  }
  return i;
}

const isTable = (lines, at) => lines[at].includes("|") && at + 1 < lines.length && lines[at + 1].includes("-") && delimiters.test(lines[at + 1]) &&
  cells(lines[at]).length === cells(lines[at + 1]).length;

function afterParagraph(lines, at, table) {
  let i = at + (table ? 2 : 1);
  while (i < lines.length && lines[i].trim() && !(table ? !lines[i].includes("|") : starts(lines, i) && !/^ {0,3}(?!1[.)])\d+[.)]/.test(lines[i]) || isTable(lines, i))) i++;
  return i;
}

const cells = line => {
  const parts = line.trim().replace(/^\|/, "").split(/(?<!\\)\|/);
  if (!parts.at(-1).trim()) parts.pop();
  return parts.map(c => c.trim().replaceAll("\\|", "|"));
};

// element is a block as an element.
function element(b, depth) {
  switch (b.kind) {
    case "code": return codeBlock(b);
    case "heading": return make("h" + Math.min(6, b.level + 1), {}, ...inline(b.text, depth));
    case "rule": return make("hr");
    case "math": return make("div", { className: "math" }, b.source.trim().replace(/^(\$\$|\\\[)|(\$\$|\\\])$/g, "").trim());
    case "quote": return make("blockquote", {}, ...nested(b.lines.map(l => l.replace(/^ {0,3}> ?/, "")).join("\n"), depth));
    case "list": return listOf(b.lines, depth);
    case "table": return tableOf(b.lines, depth);
  }
  return make("p", {}, ...inline(b.lines.map(l => l.trimStart()).join("\n"), depth));
}

const nested = (text, depth) => depth >= deepest ? [text] : cut(text).map(b => element(b, depth + 1));

function codeBlock(b) {
  const open = b.lines[0].trim().match(/^[`~]+/)[0], last = b.lines.at(-1).trim();
  const closed = b.lines.length > 1 && last.length >= open.length && last === open[0].repeat(last.length);
  const body = b.lines.slice(1, closed ? -1 : undefined).map(l => l.replace(new RegExp("^ {0," + b.indent + "}"), "")).join("\n");
  const copy = button("copy", "copy", () => copyText(body, copy));
  return make("figure", { className: "code" }, make("figcaption", {}, make("span", {}, b.language || ""), copy),
    make("pre", { tabIndex: 0 }, make("code", {}, ...colour(body, b.language))));
}

export async function copyText(text, at) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // a page that is not from this machine has no clipboard
    const area = make("textarea", { value: text, className: "away" });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  at.classList.add("good");
  at.setAttribute("aria-label", say("copied"));
  setTimeout(() => { at.classList.remove("good"); at.setAttribute("aria-label", say("copy")); }, 1500);
}

function listOf(lines, depth) {
  const items = [];
  let width = 0, loose = false;
  const first = item.exec(lines[0]);
  for (const [i, line] of lines.entries()) {
    const m = item.exec(line), indent = line.search(/\S/);
    if (m && sameList(m[2], first[2]) && (i === 0 || indent < width)) {
      const gap = m[3] === undefined ? 1 : m[3].length > 4 ? 1 : m[3].length;
      width = m[1].length + m[2].length + gap;
      if (items.length && !items.at(-1).at(-1).trim()) loose = true;
      items.push([m[4] ?? ""]);
      continue;
    }
    items.at(-1).push(line.replace(new RegExp("^ {0," + width + "}"), ""));
  }
  const isOrdered = ordered(first[2]);
  const list = make(isOrdered ? "ol" : "ul");
  if (isOrdered && parseInt(first[2]) !== 1) list.start = parseInt(first[2]);
  for (const source of items) {
    const task = /^\[([ xX])\][ \t]+/.exec(source[0]);
    if (task) source[0] = source[0].slice(task[0].length);
    const li = make("li", task ? { className: "task" } : {});
    if (task) li.append(make("input", { type: "checkbox", disabled: true, checked: task[1] !== " " }));
    const content = nested(source.join("\n"), depth);
    for (const c of content) {
      if (!loose && c.tagName === "P") li.append(...c.childNodes);
      else li.append(c);
    }
    list.append(li);
  }
  return list;
}

function tableOf(lines, depth) {
  const align = cells(lines[1]).map(c => (c.startsWith(":") ? 1 : 0) + (c.endsWith(":") ? 2 : 0));
  const row = (line, tag) => make("tr", {}, ...cells(line).slice(0, align.length).map((c, i) =>
    make(tag, { className: ["", "left", "right", "centre"][align[i]] }, ...inline(c, depth))));
  return make("div", { className: "table", tabIndex: 0 }, make("table", {}, make("thead", {}, row(lines[0], "th")), make("tbody", {}, ...lines.slice(2).map(l => row(l, "td")))));
}

const wide = /[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]/; // Chinese lines join without a space
const special = /[\\`*_~\[!<$\n]|https?:\/\//g;

// inline is a text with emphasis, code and links.
function inline(text, depth) {
  const out = [];
  let plain = "", at = 0;
  const put = node => {
    if (plain) out.push(plain);
    plain = "";
    out.push(node);
  };
  while (at < text.length) {
    special.lastIndex = at;
    const next = special.exec(text);
    if (!next) break;
    plain += text.slice(at, next.index);
    at = next.index;
    const found = depth < deepest ? mark(text, at, depth) : null;
    if (found) {
      if (found.node === undefined) plain += found.text;
      else put(found.node);
      at += found.length;
    } else plain += text[at++];
  }
  plain += text.slice(at);
  if (plain) out.push(plain);
  return out;
}

// mark reads what a special character begins, null where it is only itself.
function mark(text, at, depth) {
  const rest = text.slice(at, at + 4000);
  let m;
  switch (text[at]) {
    case "\\":
      if (rest[1] === "\n") return { node: make("br"), length: 2 };
      if ((m = /^\\\(([\s\S]+?)\\\)/.exec(rest))) return { node: make("span", { className: "math" }, m[1].trim()), length: m[0].length };
      return /^\\[!-\/:-@\[-`{-~]/.test(rest) ? { text: rest[1], length: 2 } : null;
    case "`":
      m = /^(`+)(?!`)([\s\S]*?[^`])\1(?!`)/.exec(rest);
      return m && { node: make("code", {}, m[2].replace(/\n/g, " ").replace(/^ (.*[^ ].*) $/, "$1")), length: m[0].length };
    case "$":
      m = /^\$\$?(?=[^\s$])([^$\n]*?[^\s$\\])\$\$?(?!\d)/.exec(rest);
      return m && { node: make("span", { className: "math" }, m[1]), length: m[0].length };
    case "\n":
      if (/ {2,}$/.test(text.slice(Math.max(0, at - 8), at))) return { node: make("br"), length: 1 };
      return { text: wide.test(text[at - 1] ?? "") && wide.test(text[at + 1] ?? "") ? "" : "\n", length: 1 };
    case "<":
      if (/^<br *\/?>/i.test(rest)) return { node: make("br"), length: rest.indexOf(">") + 1 };
      m = /^<((?:https?:\/\/|mailto:)[^\s<>]+)>/.exec(rest);
      return m && { node: link(m[1], [m[1]]), length: m[0].length };
    case "!":
    case "[":
      m = /^!?\[((?:\\.|[^\[\]\\]|\[[^\[\]]*\])*)\]\(\s*<?([^\s<>]*?)>?(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/.exec(rest);
      return m && { node: link(m[2], m[1] ? inline(m[1], depth + 1) : [m[2]]), length: m[0].length };
    case "h":
      m = /^https?:\/\/[^\s<>"'`\u3000-\u303f\uff00-\uffef]*[^\s<>"'`.,;:!?)\]*_~\u3000-\u303f\uff00-\uffef]/.exec(rest);
      return m && { node: link(m[0], [m[0]]), length: m[0].length };
  }
  return emphasis(text, at, rest, depth);
}

const tags = { "*": "em", "_": "em", "**": "strong", "__": "strong", "~~": "del" };

function emphasis(text, at, rest, depth) {
  const run = /^(\*{1,3}|_{1,3}|~~)(?=\S)/.exec(rest)?.[1];
  if (!run || run[0] === "_" && /[\p{L}\p{N}]/u.test(text[at - 1] ?? "")) return null;
  for (let end = rest.indexOf(run, run.length + 1); end > 0; end = rest.indexOf(run, end + 1)) {
    if (/\s/.test(rest[end - 1]) || rest[end - 1] === "\\" || rest[end + run.length] === run[0] && run.length < 3) continue;
    if (run[0] === "_" && /[\p{L}\p{N}]/u.test(rest[end + run.length] ?? "")) continue;
    const inner = inline(rest.slice(run.length, end), depth + 1);
    const node = run.length === 3 ? make("strong", {}, make("em", {}, ...inner)) : make(tags[run], {}, ...inner);
    return { node, length: end + run.length };
  }
  return null;
}

function link(address, children) {
  let url;
  try { url = new URL(address); } catch { return make("span", {}, ...children); }
  if (!["http:", "https:", "mailto:"].includes(url.protocol)) return make("span", {}, ...children);
  return make("a", { href: url.href, target: "_blank", rel: "noopener noreferrer nofollow" }, ...children);
}

// render shows a text in an element. Blocks that are the same as before stay as they are.
export function render(text, into) {
  const blocks = cut(text), old = [...into.children];
  blocks.forEach((b, i) => {
    if (old[i]?.source === b.source) return;
    const e = element(b, 0);
    e.source = b.source;
    if (old[i]) old[i].replaceWith(e);
    else into.append(e);
  });
  for (const e of old.slice(blocks.length)) e.remove();
}
