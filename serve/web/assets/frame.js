// Language, theme, icons and requests: what all pages share.
import { words } from "./words.js";

export const el = id => document.getElementById(id);

// make builds an element: properties, then children. Text is always text, never markup.
export function make(tag, props = {}, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(props)) {
    if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
    else if (k in e && k !== "list") e[k] = v;
    else e.setAttribute(k, v);
  }
  e.append(...children.filter(c => c !== null && c !== undefined));
  return e;
}

// kept is a value in this browser's storage, where it has one.
export const kept = {
  get(key, fallback) {
    try { return JSON.parse(localStorage.getItem("danlu." + key)) ?? fallback; } catch { return fallback; }
  },
  set(key, value) {
    try { localStorage.setItem("danlu." + key, JSON.stringify(value)); return true; } catch { return false; }
  },
  drop(key) { try { localStorage.removeItem("danlu." + key); } catch { /* there is no storage */ } },
};

let language = kept.get("language", (navigator.language || "en").startsWith("zh") ? "zh" : "en");

export function say(key, ...values) {
  return (words[language][key] ?? key).replace(/\{(\d)\}/g, (_, i) => values[i]);
}
export const known = key => key in words[language];

const paths = {
  menu: "M4 7h16M4 12h16M4 17h16", close: "M6 6l12 12M18 6L6 18", plus: "M12 5v14M5 12h14", send: "M12 19V5M6 11l6-6 6 6", stop: "M7 7h10v10H7z",
  settings: "M4 8h9M17 8h3M4 16h3M11 16h9M15 6v4M9 14v4", image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9h.01", copy: "M9 9h10v11H9zM5 15V4h10",
  edit: "M5 19l1-4L16 5l3 3L9 18zM14 7l3 3", again: "M19 12a7 7 0 1 1-2-5M19 4v4h-4", left: "M14 6l-6 6 6 6", right: "M10 6l6 6-6 6", remove: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  down: "M12 5v14M6 13l6 6 6-6", theme: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16", runs: "M4 4v16h16M7 15l4-5 3 3 5-7", plan: "M4 20V9h4v11zM10 20V4h4v16zM16 20v-7h4v7z",
  code: "M8 7l-5 5 5 5M16 7l5 5-5 5M14 5l-4 14",
  chat: "M4 5h16v11H10l-5 4v-4H4z", save: "M12 4v11M7 11l5 5 5-5M5 20h14", help: "M9 9a3 3 0 1 1 4 3c-1 .5-1 1-1 2M12 18h.01", more: "M5 12h14M13 6l6 6-6 6", think: "M9 18h6M10 21h4M8 14a6 6 0 1 1 8 0l-1 2H9z",
};

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", paths[name]);
  svg.append(path);
  return svg;
}

// button is one that shows an icon and is named for those who hear the page.
export const button = (name, label, onclick, props = {}) =>
  make("button", { type: "button", className: "icon", title: say(label), "aria-label": say(label), onclick, ...props }, icon(name));

// dress puts words and icons into the static parts of a page.
function dress() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const e of document.querySelectorAll("[data-t]")) e.textContent = say(e.dataset.t);
  for (const e of document.querySelectorAll("[data-hint]")) e.placeholder = say(e.dataset.hint);
  for (const e of document.querySelectorAll("[data-label]")) {
    e.setAttribute("aria-label", say(e.dataset.label));
    if (e.matches("button, a")) e.title = say(e.dataset.label);
  }
  for (const e of document.querySelectorAll("[data-icon]:not(:has(svg))")) e.prepend(icon(e.dataset.icon));
}

function paint() {
  const theme = kept.get("theme", "auto");
  document.documentElement.dataset.theme = theme;
}

// start makes a page ready; changed is called when the language is another one.
export function start(changed) {
  paint();
  dress();
  el("theme")?.addEventListener("click", () => {
    const order = ["auto", "light", "dark"];
    kept.set("theme", order[(order.indexOf(kept.get("theme", "auto")) + 1) % order.length]);
    paint();
  });
  el("language")?.addEventListener("click", () => {
    language = language === "zh" ? "en" : "zh";
    kept.set("language", language);
    dress();
    changed();
  });
}

let asking = null;

// askKey lets the user enter the API key; false when they do not.
function askKey(again) {
  asking ??= new Promise(resolve => {
    const input = make("input", { type: "password", autocomplete: "off", required: true, "aria-label": say("key") });
    const box = make("dialog", { className: "small", "aria-label": say("key"), onclose: () => {
      if (box.returnValue === "ok") kept.set("key", input.value.trim());
      resolve(box.returnValue === "ok");
      box.remove();
      asking = null;
    } },
      make("form", { method: "dialog" }, make("p", {}, say("keyAsk")), again ? make("p", { className: "bad" }, say("keyWrong")) : null, input,
        make("menu", {}, make("button", { type: "button", onclick: () => box.close() }, say("cancel")), make("button", { value: "ok", className: "main" }, say("ok")))));
    document.body.append(box);
    box.showModal();
  });
  return asking;
}

// request is fetch with the API key, which is asked for when the server wants one.
export async function request(path, options = {}) {
  for (;;) {
    const key = kept.get("key", "");
    const headers = { ...options.headers };
    if (key) headers.Authorization = "Bearer " + key;
    const answer = await fetch(path, { ...options, headers });
    if (answer.status !== 401 || !await askKey(key !== "")) return answer;
  }
}

// fault is the message in an answer that is an error.
export async function fault(answer) {
  const text = await answer.text();
  try { return JSON.parse(text).error.message; } catch { return text || answer.statusText; }
}

export async function json(path) {
  const answer = await request(path);
  if (!answer.ok) throw new Error(await fault(answer));
  return answer.json();
}
