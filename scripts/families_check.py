#!/usr/bin/env python3
"""Trains reference models for two steps with danlu and holds the saved folders against transformers.

usage: families_check.py DANLU GOLDENS/models [CASE ...]

For every model that transformers has a class for: danlu loads its folder, trains all of it for two steps, saves it, and
continues a prompt greedily; transformers loads the folder that was saved and has to continue alike, with the same
log-probabilities.
"""
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

TOLERANCE = 1e-4  # of log-probabilities
SETTINGS = ["stage=pt", "finetuning_type=full", "max_steps=2", "learning_rate=0.01", "cutoff_len=32", "per_device_train_batch_size=2",
            "report_to=none", "freeze_vision_tower=false"]


def tokenizer(vocabulary):
    """A byte-level vocabulary of as many of a text's bytes as a small model has room for."""
    letters = "abcdefghijklmnopqrstuvwxyzĠ.,!?"
    return {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            "decoder": {"type": "ByteLevel"}, "post_processor": None,
            "model": {"type": "BPE", "vocab": {c: 4 + i for i, c in enumerate(letters)} | {f"<{i}>": i for i in range(4)}, "merges": [], "unk_token": None}}


def check(danlu, case, work):
    model, out = work / "model", work / "out"
    shutil.copytree(case, model, ignore=shutil.ignore_patterns("golden*"))
    subprocess.run(["chmod", "-R", "u+w", str(model)], check=True)
    config = json.loads((model / "config.json").read_text())
    (model / "tokenizer.json").write_text(json.dumps(tokenizer(config["vocab_size"])))
    (work / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 40)
    run = subprocess.run([danlu, "train", f"model_name_or_path={model}", f"dataset={work / 'text.txt'}", f"output_dir={out}", *SETTINGS], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(run.stderr.strip().splitlines()[-1])
    kind = AutoModelForImageTextToText if "vision_config" in config else AutoModelForCausalLM
    options = {"dtype": torch.float32, "attn_implementation": "eager"}
    if any("expert" in k for k in config):
        options["experts_implementation"] = "eager"
    peer, before = kind.from_pretrained(out, **options).eval(), kind.from_pretrained(model, **options)
    changed = sum(not torch.equal(a, b) for a, b in zip(peer.state_dict().values(), before.state_dict().values()))
    tokens, worst = 0, 0.0
    for prompt in [5, 9, 14, 6, 22, 17, 8, 11], [30, 4, 12, 28], [7] * 9:
        n, apart = continued(danlu, out, peer, prompt)
        tokens, worst = tokens + n, max(worst, apart)
    return tokens, worst, changed


def continued(danlu, folder, peer, prompt):
    """How many tokens danlu continues a prompt by, and how far the peer's log-probabilities of them are from its own."""
    run = subprocess.run([danlu, "generate", str(folder), "--prompt-ids", ",".join(map(str, prompt)), "--max-new", "16", "--temperature", "0", "--dtype", "f32", "--json"],
                         capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(run.stderr.strip())
    said, worst, cache, ids = json.loads(run.stdout), 0.0, None, torch.tensor([prompt])
    for token, logprob in zip(said["ids"], said["logprobs"]):
        with torch.no_grad():
            got = peer(ids, past_key_values=cache, use_cache=True)
        cache, row = got.past_key_values, torch.log_softmax(got.logits[0, -1], -1)
        worst = max(worst, abs(row[token].item() - logprob), row.max().item() - row[token].item())
        ids = torch.tensor([[token]])
    return len(said["ids"]), worst


def main():
    danlu, root, only = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    bad = 0
    for case in sorted(root.iterdir()):
        config = case / "config.json"
        if not config.exists() or only and case.name not in only:
            continue
        if not (json.loads(config.read_text()).get("architectures") or [""])[0].startswith(("Llama", "Yi", "Qwen", "Glm", "DeepseekV3")):
            continue
        with tempfile.TemporaryDirectory() as work:
            try:
                tokens, worst, changed = check(danlu, case, Path(work))
                ok = worst <= TOLERANCE and changed > 0 and tokens > 0
                print(f"{case.name}: {changed} tensors trained, {tokens} tokens, log-probabilities within {worst:.1e}{'' if ok else ' FAIL'}")
            except Exception as e:
                ok = False
                print(f"{case.name}: FAIL {str(e)[:300]}")
        bad += not ok
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
