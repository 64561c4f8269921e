#!/usr/bin/env python3
"""Holds danlu's reading of GPTQ and AWQ checkpoints against the libraries that write them.

usage: packed_check.py DANLU LIBRARIES

LIBRARIES is a folder with the unpacked auto_gptq 0.7.1 wheel and autoawq 0.2.9 source, of which only the files that pack
and unpack are loaded. A small LLaMA is packed in every combination of bits, group size, symmetry and activation order
that they write; its greedy continuation by danlu, with log-probabilities, is held against transformers on the weights
that the library itself reads back.
"""
import copy
import importlib.util
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

TOLERANCE = 2e-4  # of log-probabilities
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def gptq(library, linear, bits, group, symmetric, ordered):
    """Rounds to the nearest code and packs with auto_gptq; activation order is a random order of the columns."""
    w, n = linear.weight.data, linear.in_features
    size, most = (n if group == -1 else group), 2**bits - 1
    index = torch.arange(n) // size
    if ordered:
        index = index[torch.randperm(n)]
    scales, zeros = torch.zeros(w.shape[0], n // size), torch.zeros(w.shape[0], n // size)
    for g in range(n // size):
        part = w[:, index == g]
        low, high = part.min(1).values.clamp(max=0), part.max(1).values.clamp(min=0)
        if symmetric:
            high = torch.maximum(-low, high)
            low = -high
        scales[:, g] = ((high - low) / most).half().float()
        zeros[:, g] = (most + 1) / 2 if symmetric else torch.round(-low / scales[:, g])
    zeros = zeros.clamp(1, most)  # one less is stored
    packed = library.QuantLinear(bits, group, n, linear.out_features, linear.bias is not None, weight_dtype=torch.float32)
    rounded = copy.deepcopy(linear)
    codes = torch.round(w / scales[:, index] + zeros[:, index]).clamp(0, most)
    rounded.weight.data = (codes - zeros[:, index]) * scales[:, index]
    packed.pack(rounded, scales, zeros.clone(), index.to(torch.int32))
    with torch.no_grad():
        bare = copy.deepcopy(packed)
        bare.bias = None
        back = bare(torch.eye(n)).t().contiguous()
    tensors = {"qweight": packed.qweight, "qzeros": packed.qzeros, "scales": packed.scales.half(), "g_idx": packed.g_idx.to(torch.int32)}
    return tensors, back


def awq(library, packing, linear, group):
    """Rounds to the nearest code and packs as autoawq's WQLinear_GEMM does, from its source."""
    w, n, bits = linear.weight.data, linear.in_features, 4
    size, most = (n if group == -1 else group), 15
    index = torch.arange(n) // size
    low = torch.stack([w[:, index == g].min(1).values.clamp(max=0) for g in range(n // size)])
    high = torch.stack([w[:, index == g].max(1).values.clamp(min=0) for g in range(n // size)])
    scales = ((high - low) / most).half()
    zeros = torch.round(-low / scales.float()).clamp(0, most)
    rounded = copy.deepcopy(linear)
    codes = torch.round(w / scales.float()[index].t() + zeros[index].t()).clamp(0, most)
    rounded.weight.data = (codes - zeros[index].t()) * scales.float()[index].t()
    packed = library["from_linear"](rounded, bits, size, scales.float(), zeros)
    back = packing.dequantize_gemm(packed["qweight"], packed["qzeros"], packed["scales"].float(), bits, size).t().contiguous()
    return packed, back


def awq_packer(source):
    """autoawq's from_linear without the class around it, whose module wants a GPU."""
    text = (source / "awq/modules/linear/gemm.py").read_text()
    start = text.index("class WQLinear_GEMM")
    names = {"torch": torch, "nn": torch.nn, "get_best_device": lambda: "cpu"}
    exec(text[start:], names)  # the class alone

    def from_linear(linear, bits, group, scales, zeros):
        made = names["WQLinear_GEMM"].from_linear(linear, bits, group, scales=scales, zeros=zeros)
        return {"qweight": made.qweight, "qzeros": made.qzeros, "scales": made.scales}

    return {"from_linear": from_linear}


def check(danlu, model, pack, settings):
    peer, tensors = copy.deepcopy(model), {}
    for name, module in peer.named_modules():
        if name.split(".")[-1] in LINEAR:
            packed, back = pack(module)
            tensors |= {f"{name}.{k}": v.contiguous() for k, v in packed.items()}
            module.weight.data = back
    tensors |= {k: v.contiguous() for k, v in peer.state_dict().items() if k.split(".")[-2] not in LINEAR}
    with tempfile.TemporaryDirectory() as folder:
        save_file(tensors, f"{folder}/model.safetensors", metadata={"format": "pt"})
        Path(folder, "config.json").write_text(json.dumps(peer.config.to_dict() | {"architectures": ["LlamaForCausalLM"], "quantization_config": settings}))
        prompt = [5, 9, 14, 6, 22, 17, 8, 11]
        run = subprocess.run([danlu, "generate", folder, "--prompt-ids", ",".join(map(str, prompt)), "--max-new", "12", "--temperature", "0", "--dtype", "f32", "--json"],
                             capture_output=True, text=True)
    if run.returncode:
        return run.stderr.strip()
    said = json.loads(run.stdout)
    with torch.no_grad():
        scores = torch.log_softmax(peer(torch.tensor([prompt + said["ids"]])).logits[0], -1)
    rows = [scores[len(prompt) - 1 + i] for i in range(len(said["ids"]))]
    return max(max(abs(r[t].item() - p), r.max().item() - r[t].item()) for r, t, p in zip(rows, said["ids"], said["logprobs"]))


def main():
    danlu, libraries = sys.argv[1], Path(sys.argv[2])
    torch.manual_seed(1)
    config = LlamaConfig(vocab_size=96, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, initializer_range=0.15,
                         max_position_embeddings=128, bos_token_id=None, eos_token_id=None, tie_word_embeddings=False)
    model = LlamaForCausalLM(config).eval()
    library, packing, packer = load(libraries / "auto_gptq/nn_modules/qlinear/qlinear_cuda.py"), load(libraries / "autoawq-0.2.9/awq/utils/packing_utils.py"), awq_packer(libraries / "autoawq-0.2.9")
    cases, bad = [], 0
    for bits, group, symmetric, ordered in itertools.product((4, 8), (-1, 32, 64, 128), (True, False), (False, True)):
        if group == -1 and ordered:
            continue  # one group has no order
        settings = {"quant_method": "gptq", "bits": bits, "group_size": group, "sym": symmetric, "desc_act": ordered}
        cases.append((settings, lambda m, a=(bits, group, symmetric, ordered): gptq(library, m, *a)))
    for group in (-1, 32, 64, 128):
        settings = {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm"}
        cases.append((settings, lambda m, g=group: awq(packer, packing, m, g)))
    for settings, pack in cases:
        apart = check(danlu, model, pack, settings)
        ok = isinstance(apart, float) and apart <= TOLERANCE
        bad += not ok
        print(" ".join(f"{k}={v}" for k, v in settings.items()), f"{apart:.1e}" if isinstance(apart, float) else apart, "" if ok else "FAIL")
    print(f"{len(cases) - bad} of {len(cases)}")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
