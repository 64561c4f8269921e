// Conversations in this browser's storage. One is a tree of messages: to edit or to answer again adds a branch, and what
// is shown is the path to one leaf.
import { kept } from "./frame.js";

const fresh = () => Math.random().toString(36).slice(2, 10) + Date.now().toString(36);

// list is every conversation's { id, title, time }, newest first.
export const list = () => kept.get("list", []);

export function create(settings) {
  return { id: fresh(), title: "", time: Date.now(), settings: { ...settings }, nodes: {}, leaf: null };
}

export function open(id) {
  return id ? kept.get("talk." + id, null) : null;
}

// save keeps a conversation; false when there is no room.
export function save(talk) {
  talk.time = Date.now();
  const entry = { id: talk.id, title: talk.title, time: talk.time };
  return kept.set("talk." + talk.id, talk) && kept.set("list", [entry, ...list().filter(x => x.id !== talk.id)]);
}

export function remove(id) {
  kept.drop("talk." + id);
  kept.set("list", list().filter(x => x.id !== id));
}

// add puts a message behind another one (null: at the beginning) and shows it.
export function add(talk, parent, message) {
  const node = { ...message, id: fresh(), parent, time: Date.now() };
  talk.nodes[node.id] = node;
  talk.leaf = node.id;
  return node;
}

// path is the messages that are shown, in order.
export function path(talk) {
  const out = [];
  for (let n = talk.nodes[talk.leaf]; n; n = talk.nodes[n.parent]) out.unshift(n);
  return out;
}

const children = (talk, parent) => Object.values(talk.nodes).filter(n => n.parent === parent).sort((a, b) => a.time - b.time || (a.id < b.id ? -1 : 1));

// versions are a message and its alternatives.
export const versions = (talk, node) => children(talk, node.parent);

// turn shows another version of a message and what follows it.
export function turn(talk, node, by) {
  const all = versions(talk, node);
  let n = all[all.findIndex(x => x.id === node.id) + by];
  for (let next = n; next; next = children(talk, n.id).at(-1)) n = next;
  talk.leaf = n.id;
}
