// One answer of the server: the request's body and the events that come.
import { request, fault } from "./frame.js";

// body is the request for an answer to the messages of a path.
export function body(model, settings, path, goOn) {
  const messages = path.map(wire);
  if (settings.system) messages.unshift({ role: "system", content: settings.system });
  const b = { model: model.id, messages, stream: true, stream_options: { include_usage: true } };
  for (const k of ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed"]) if (settings[k] !== undefined) b[k] = settings[k];
  if (model.can("thinking")) {
    if (settings.think !== undefined) b.enable_thinking = settings.think;
    if (settings.thinking_budget !== undefined && settings.think !== false) b.thinking_budget = settings.thinking_budget;
  }
  const tools = model.can("tools") ? [...settings.tools ?? []] : [];
  if (settings.code && model.can("code_interpreter")) tools.push({ type: "code_interpreter" });
  if (tools.length) b.tools = tools;
  if (goOn) b.continue_final_message = true;
  return b;
}

// wire is a message as the API takes it.
function wire(n) {
  const m = { role: n.role, content: n.content };
  if (n.pictures?.length) m.content = [...n.pictures.map(url => ({ type: "image_url", image_url: { url } })), { type: "text", text: n.content }];
  if (n.calls?.length) m.tool_calls = n.calls.map(c => ({ id: c.id, type: "function", function: { name: c.name, arguments: c.arguments } }));
  if (n.reasoning) m.reasoning_content = n.reasoning;
  if (n.call) m.tool_call_id = n.call;
  return m;
}

// listen sends a body and calls event with the data of each event. It ends when the server or the signal ends it.
export async function listen(b, signal, event) {
  const answer = await request("/v1/chat/completions", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(b), signal });
  if (!answer.ok) throw new Error(await fault(answer));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const lines = held.split("\n");
    held = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
      const data = JSON.parse(line.slice(6));
      if (data.error) throw new Error(data.error.message);
      event(data);
    }
  }
}
