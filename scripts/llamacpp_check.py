"""Holds GGUF files that danlu writes against llama.cpp: llamacpp_check.py DANLU GOLDENS LLAMA_SERVER LLAMA_GREEDY.

DANLU is the program, GOLDENS the reference data, LLAMA_SERVER llama.cpp's server, LLAMA_GREEDY a build of llama_greedy.cpp.
Vocabularies: every text of GOLDENS/tokenizers must have the same ids in both programs. Baichuan: llama.cpp runs its 7B
and 13B models only with 32 and 40 layers, so the layers of the reference models are repeated to that number, and both
programs must continue a text alike. Needs torch and safetensors."""
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unicodedata
import urllib.request

import torch
from safetensors.torch import load_file, save_file

danlu, goldens, server, greedy = sys.argv[1:]
PORT = 8197
failed = 0


def run(*args, **kw):
    r = subprocess.run(args, capture_output=True, text=True, **kw)
    if r.returncode:
        raise SystemExit(f"{args}: {r.stderr}")
    return r.stdout


def report(what, ok):
    global failed
    failed += not ok
    print(what, "ok" if ok else "DIFFERS")


def tiny(folder, vocab):
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=vocab,
                  max_position_embeddings=4096, rms_norm_eps=1e-5, hidden_act="silu", tie_word_embeddings=True)
    json.dump(config, open(f"{folder}/config.json", "w"))
    p = "model.layers.0."
    shapes = {"model.embed_tokens": (vocab, 32), "model.norm": (32,), p + "input_layernorm": (32,), p + "post_attention_layernorm": (32,)}
    shapes.update({f"{p}self_attn.{n}_proj": (32, 32) for n in "qkvo"})
    shapes.update({f"{p}mlp.{n}_proj": (32, 32) for n in ("gate", "up", "down")})
    save_file({n + ".weight": torch.randn(*s).half() for n, s in shapes.items()}, f"{folder}/model.safetensors")


def vocabulary(folder, file):
    name = os.path.basename(folder)
    with tempfile.TemporaryDirectory() as tmp:
        tiny(tmp, 152064)
        shutil.copy(file, os.path.join(tmp, "tokenizer.model" if file.endswith(".model") else os.path.basename(file)))
        gguf = tmp + "/x.gguf"
        run(danlu, "convert", "-q", tmp, gguf)
        process = subprocess.Popen([server, "-m", gguf, "--port", str(PORT), "-c", "512", "--no-warmup"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for _ in range(120):
                time.sleep(0.5)
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=2)
                    break
                except OSError:
                    pass
            # llama.cpp does not normalise text to NFC, which Qwen's tokenizer does, and its server ends texts at a zero.
            texts = [t for t in (json.loads(line)["text"] for line in open(f"{folder}/cases.jsonl")) if "\0" not in t and unicodedata.is_normalized("NFC", t)]
            out = run(danlu, "tokenizer", "encode", gguf, "--special=text", "--json", input="".join(json.dumps(t) + "\n" for t in texts))
            same = True
            for text, ours in zip(texts, map(json.loads, out.splitlines()), strict=True):
                body = json.dumps({"content": text, "add_special": False, "parse_special": False}).encode()
                theirs = json.load(urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{PORT}/tokenize", body, {"Content-Type": "application/json"}), timeout=20))["tokens"]
                same = same and ours == theirs
            report(f"vocabulary {name}: {len(texts)} texts", same)
        finally:
            process.kill()
            process.wait()


def baichuan(folder):
    config, golden = json.load(open(folder + "/config.json")), json.load(open(folder + "/golden.json"))
    layers, config["num_hidden_layers"] = config["num_hidden_layers"], 40 if "13b" in folder else 32
    config.update(golden.get("overrides", {}))
    tensors = {}
    for name, w in load_file(folder + "/model.safetensors").items():
        if name.startswith("model.layers."):
            i, rest = name.removeprefix("model.layers.").split(".", 1)
            if "inv_freq" not in rest:
                tensors.update({f"model.layers.{j}.{rest}": w.clone() for j in range(int(i), config["num_hidden_layers"], layers)})
        else:
            tensors[name] = w
    with tempfile.TemporaryDirectory() as tmp:
        json.dump(config, open(tmp + "/config.json", "w"))
        save_file(tensors, tmp + "/model.safetensors")
        run(danlu, "convert", "-q", tmp, tmp + "/x.gguf")
        ids = [str(i) for i in golden["greedy"]["prompt_ids"]]
        ours = json.loads(run(danlu, "generate", tmp, "--prompt-ids", ",".join(ids), "--max-new", "24", "--temperature", "0", "--dtype", "f32", "--quant", "none", "--json", "-q"))["ids"]
        theirs = [int(i) for i in run(greedy, tmp + "/x.gguf", "24", *ids).split()]
        report(os.path.basename(folder) + ": 24 tokens", ours == theirs)


for folder in sorted(glob.glob(goldens + "/tokenizers/*/")):
    folder = folder.rstrip("/")
    if os.path.basename(folder) == "glm-10b-chinese":
        continue  # a unigram vocabulary, for which GGUF has no form
    for pattern in "tokenizer.json", "*.model", "*.tiktoken":
        for file in glob.glob(f"{folder}/{pattern}"):
            vocabulary(folder, file)
for folder in sorted(glob.glob(goldens + "/models/baichuan*/")):
    baichuan(folder.rstrip("/"))
sys.exit(failed > 0)
