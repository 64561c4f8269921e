"""Writes a small LLaMA as PyTorch checkpoints of several kinds, for the tests of package weights: checkpoint_fixtures.py MODEL DIR.

MODEL is a folder with config.json and model.safetensors. DIR gets bin/ (one file), sharded/ (two and an index) and meta/
(two consolidated files and params.json)."""
import json
import os
import shutil
import sys

import torch
from safetensors.torch import load_file

model, out = sys.argv[1:]
config = json.load(open(os.path.join(model, "config.json")))
state = load_file(os.path.join(model, "model.safetensors"))
for kind in "bin", "sharded", "meta":
    os.makedirs(os.path.join(out, kind), exist_ok=True)
    if kind != "meta":
        shutil.copy(os.path.join(model, "config.json"), os.path.join(out, kind))
torch.save(state, os.path.join(out, "bin", "pytorch_model.bin"))
names = sorted(state)
where = {}
for i, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :])):
    file = f"pytorch_model-0000{i + 1}-of-00002.bin"
    torch.save({n: state[n] for n in part}, os.path.join(out, "sharded", file), _use_new_zipfile_serialization=i == 0)
    where.update({n: file for n in part})
json.dump({"metadata": {}, "weight_map": where}, open(os.path.join(out, "sharded", "pytorch_model.bin.index.json"), "w"))

heads, kv = config["num_attention_heads"], config.get("num_key_value_heads", config["num_attention_heads"])


def pairs(w, n):  # the order of rows that Meta's rotation wants
    return w.view(n, 2, w.shape[0] // n // 2, w.shape[1]).transpose(1, 2).reshape(w.shape)


parts = [{}, {}]
layer = {"self_attn.q_proj": ("attention.wq", 0), "self_attn.k_proj": ("attention.wk", 0), "self_attn.v_proj": ("attention.wv", 0), "self_attn.o_proj": ("attention.wo", 1),
         "mlp.gate_proj": ("feed_forward.w1", 0), "mlp.down_proj": ("feed_forward.w2", 1), "mlp.up_proj": ("feed_forward.w3", 0),
         "input_layernorm": ("attention_norm", None), "post_attention_layernorm": ("ffn_norm", None)}
top = {"model.embed_tokens.weight": ("tok_embeddings.weight", 1), "model.norm.weight": ("norm.weight", None), "lm_head.weight": ("output.weight", 0)}
for name, w in state.items():
    if name in top:
        to, axis = top[name]
    else:
        _, _, i, rest = name.split(".", 3)
        to, axis = layer[rest.removesuffix(".weight")]
        to = f"layers.{i}.{to}.weight"
    if "wq" in to:
        w = pairs(w, heads)
    if "wk" in to:
        w = pairs(w, kv)
    halves = [w, w]
    if axis is not None:
        middle = w.shape[axis] // 2
        halves = [w.narrow(axis, 0, middle).clone(), w.narrow(axis, middle, w.shape[axis] - middle).clone()]
    for part, half in zip(parts, halves):
        part[to] = half
for part in parts:
    part["rope.freqs"] = torch.zeros(4)
for i, part in enumerate(parts):
    torch.save(part, os.path.join(out, "meta", f"consolidated.0{i}.pth"))
params = {"dim": config["hidden_size"], "n_layers": config["num_hidden_layers"], "n_heads": heads, "norm_eps": config["rms_norm_eps"], "vocab_size": -1, "multiple_of": 256}
if kv != heads:
    params["n_kv_heads"] = kv
json.dump(params, open(os.path.join(out, "meta", "params.json"), "w"))
