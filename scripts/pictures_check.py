#!/usr/bin/env python3
"""Holds danlu's continuations of prompts with pictures against transformers.

usage: pictures_check.py DANLU MODEL

MODEL is a Qwen2.5-VL folder with preprocessor_config.json. Prompts have one to three pictures of several sizes, read from
files by both; the greedy tokens have to be equal.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

SIZES = [[(90, 133)], [(300, 57), (61, 400)], [(28, 28), (500, 500), (84, 112)]]  # height, width
TOKENS = 24


def picture(rng, height, width, path):
    coarse = rng.integers(0, 256, (max(2, height // 9), max(2, width // 9), 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((width, height), Image.BILINEAR).save(path)
    return Image.open(path)


def main():
    danlu, folder = sys.argv[1], Path(sys.argv[2])
    config = json.loads((folder / "config.json").read_text())
    keys = ("min_pixels", "max_pixels", "patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    processor = Qwen2VLImageProcessorPil(**{k: v for k, v in settings.items() if k in keys})
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    pad, start, end = (config[k] for k in ("image_token_id", "vision_start_token_id", "vision_end_token_id"))
    rng, equal = np.random.default_rng(5), 0
    with tempfile.TemporaryDirectory() as work:
        for sizes in SIZES:
            files = [f"{work}/{i}.png" for i in range(len(sizes))]
            pictures = processor(images=[picture(rng, h, w, f) for (h, w), f in zip(sizes, files)], return_tensors="pt")
            short, long = [4, 9], [4, 9]
            for t, h, w in pictures["image_grid_thw"].tolist():
                short += [start, pad, end, 61]
                long += [start] + [pad] * (t * h * w // settings.get("merge_size", 2) ** 2) + [end, 61]
            short, long = short + [150, 109], torch.tensor([long + [150, 109]])
            out = model.generate(input_ids=long, attention_mask=torch.ones_like(long), mm_token_type_ids=(long == pad).long(), do_sample=False, max_new_tokens=TOKENS,
                                 pad_token_id=0, **pictures)
            want = out[0, long.shape[1]:].tolist()
            run = subprocess.run([danlu, "generate", str(folder), "--prompt-ids", ",".join(map(str, short)), *[x for f in files for x in ("--image", f)], "--max-new", str(TOKENS),
                                  "--temperature", "0", "--dtype", "f32", "--json"], capture_output=True, text=True, check=True)
            got = json.loads(run.stdout)["ids"]
            same = got == want[: len(got)] and len(want) - len(got) <= 1  # the peer writes the end token
            print(f"{len(sizes)} pictures, {long.shape[1]} tokens: {'equal' if same else f'{got} instead of {want}'}")
            equal += same
    sys.exit(equal != len(SIZES))


if __name__ == "__main__":
    main()
