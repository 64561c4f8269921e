"""Runs the official OpenAI client (pip install openai) against a server: openai_check.py [BASE_URL [MODEL]].

Start one with `danlu serve MODEL`; a model whose template has tools is checked with tools too. Prints a line for each
check and exits with 1 if one failed."""

import base64
import json
import struct
import sys

import openai

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/v1"
client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=300)
model = sys.argv[2] if len(sys.argv) > 2 else client.models.list().data[0].id
question = [{"role": "user", "content": "Name a city and the year it was founded."}]
failures = 0


def check(f):
    global failures
    try:
        f()
        print("ok  ", f.__name__)
    except Skip as e:
        print("skip", f.__name__, e)
    except Exception as e:
        failures += 1
        print("FAIL", f.__name__, type(e).__name__, e)


class Skip(Exception):
    pass


def ask(**more):
    return client.chat.completions.create(**{"model": model, "messages": question, "max_completion_tokens": 40, "temperature": 0, **more})


def models():
    assert client.models.retrieve(model).id == model


def chat():
    r = ask(n=2, seed=1, temperature=0.8)
    assert len(r.choices) == 2 and all(c.message.role == "assistant" and c.message.content for c in r.choices), r
    assert r.usage.total_tokens == r.usage.prompt_tokens + r.usage.completion_tokens, r.usage


def stream():
    whole = ask().choices[0].message.content
    parts, usage = [], None
    for e in ask(stream=True, stream_options={"include_usage": True}):
        parts += [c.delta.content or "" for c in e.choices]
        usage = e.usage or usage
    assert "".join(parts) == whole, ("".join(parts), whole)
    assert usage.completion_tokens > 0, usage


def logprobs():
    r = ask(logprobs=True, top_logprobs=3, max_completion_tokens=5).choices[0].logprobs.content
    assert len(r) == 5 and all(len(t.top_logprobs) == 3 and t.logprob <= 0 for t in r), r


def cached():
    messages = [{"role": "system", "content": "You are a careful geographer. " * 40}] + question
    first, second = ask(messages=messages), ask(messages=messages)
    assert second.usage.prompt_tokens_details.cached_tokens > 100, second.usage
    assert first.choices[0].message.content == second.choices[0].message.content


def json_mode():
    r = ask(response_format={"type": "json_object"}, max_completion_tokens=200).choices[0]
    assert r.message.content.startswith("{"), r
    if r.finish_reason == "stop":
        json.loads(r.message.content)


city = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 30}, "founded": {"type": "integer", "minimum": -3000, "maximum": 2026}, "large": {"type": "boolean"}},
    "required": ["city", "founded", "large"],
    "additionalProperties": False,
}


def json_schema():
    r = ask(response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": city, "strict": True}}, max_completion_tokens=200).choices[0]
    v = json.loads(r.message.content)
    assert set(v) == set(city["required"]) and isinstance(v["founded"], int) and -3000 <= v["founded"] <= 2026 and isinstance(v["large"], bool), v


def parsed():
    try:
        import pydantic
    except ImportError:
        raise Skip("no pydantic")

    class City(pydantic.BaseModel):
        city: str
        founded: int

    r = client.chat.completions.parse(model=model, messages=question, response_format=City, max_completion_tokens=200, temperature=0)
    assert isinstance(r.choices[0].message.parsed, City), r


tools = [{"type": "function", "function": {"name": "look_up", "description": "Looks a city up.", "parameters": city}}, {"type": "function", "function": {"name": "give_up"}}]


def with_tools(**more):
    try:
        return ask(tools=tools, max_completion_tokens=200, **more)
    except openai.BadRequestError as e:
        if e.param == "tools" and e.code == "unsupported_parameter":
            raise Skip(e.message)
        raise


def tools_auto():
    r = with_tools(tool_choice="auto").choices[0]
    assert r.message.content or r.message.tool_calls, r


def tools_forced():
    for choice, names in (("required", {"look_up", "give_up"}), ({"type": "function", "function": {"name": "look_up"}}, {"look_up"})):
        r = with_tools(tool_choice=choice, parallel_tool_calls=False).choices[0]
        assert r.finish_reason == "tool_calls" and len(r.message.tool_calls) == 1, r
        call = r.message.tool_calls[0].function
        assert call.name in names, call
        v = json.loads(call.arguments)
        assert call.name == "give_up" or set(v) == set(city["required"]), v
    call = r.message.tool_calls[0]
    messages = question + [r.message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": "It was founded in 753 BC."}]
    assert with_tools(messages=messages, tool_choice="none").choices[0].message.content


def tools_streamed():
    name, arguments = "", ""
    for e in with_tools(tool_choice={"type": "function", "function": {"name": "look_up"}}, stream=True):
        for c in e.choices:
            for t in c.delta.tool_calls or []:
                name, arguments = name + (t.function.name or ""), arguments + (t.function.arguments or "")
    assert name == "look_up" and json.loads(arguments), (name, arguments)


def completions():
    r = client.completions.create(model=model, prompt=["Once upon a time", "The sea"], max_tokens=8, temperature=0, logprobs=2, echo=True)
    assert [c.text.strip()[:8] for c in r.choices] == ["Once upo", "The sea"] or all(c.text for c in r.choices), r
    first = r.choices[0].logprobs
    assert first.token_logprobs[0] is None and first.token_logprobs[1] <= 0 and len(first.tokens) == len(first.text_offset), first


def embeddings():
    texts = ["a cat", "a kitten", "the stock market"]
    r = client.embeddings.create(model=model, input=texts, encoding_format="float")
    vectors = [d.embedding for d in r.data]
    assert len(vectors) == 3 and all(abs(sum(x * x for x in v) - 1) < 1e-3 for v in vectors)
    coded = client.embeddings.create(model=model, input=texts[0], encoding_format="base64").data[0].embedding
    if isinstance(coded, str):
        coded = struct.unpack("<%df" % (len(base64.b64decode(coded)) // 4), base64.b64decode(coded))
    assert max(abs(a - b) for a, b in zip(coded, vectors[0])) < 1e-5
    assert len(client.embeddings.create(model=model, input="x", dimensions=16).data[0].embedding) == 16


def refused(status, param, **more):
    try:
        ask(**more)
    except openai.APIStatusError as e:
        assert e.status_code == status and e.param == param and e.message, (e.status_code, e.param, e.message)
        return
    raise AssertionError("was not refused: %s" % more)


def errors():
    refused(404, "model", model="no-such-model")
    refused(400, "temperature", temperature=3)
    refused(400, "messages", messages=[])
    refused(400, "response_format", response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}})
    refused(400, "nonsense", extra_body={"nonsense": 1})
    refused(400, "messages", messages=[{"role": "user", "content": "word " * 200000}])


for f in (models, chat, stream, logprobs, cached, json_mode, json_schema, parsed, tools_auto, tools_forced, tools_streamed, completions, embeddings, errors):
    check(f)
sys.exit(failures > 0)
