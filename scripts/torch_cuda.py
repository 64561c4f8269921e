"""PyTorch's training step on a GPU, the peer in scripts/cuda.sh, and the table of both.

usage: torch_cuda.py MODEL BATCH SEQ eager|compile      one JSON line
       torch_cuda.py summary OUT                        tokens/s and MFU of what is in OUT
"""
import glob
import json
import os
import sys
import time

SHAPES = {
    "smollm2-135m": ("Llama", dict(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
                                   num_key_value_heads=3, max_position_embeddings=8192)),
    "qwen3-0.6b": ("Qwen3", dict(vocab_size=151936, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16,
                                 num_key_value_heads=8, head_dim=128, max_position_embeddings=40960)),
}
# Peak dense bfloat16 of a card in FLOP/s, by a word of its name; cards that are not here get no MFU.
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "4090": 165e12}


def flops_per_token(model, seq):
    """Six per weight of the products, and attention's 6·T·heads·head_dim per layer (causal: half of 12)."""
    c = SHAPES[model][1]
    hd = c.get("head_dim", c["hidden_size"] // c["num_attention_heads"])
    q, kv = c["num_attention_heads"] * hd, c["num_key_value_heads"] * hd
    layer = c["hidden_size"] * (2 * q + 2 * kv + 3 * c["intermediate_size"])
    return 6 * (c["num_hidden_layers"] * layer + c["vocab_size"] * c["hidden_size"]) + 6 * c["num_hidden_layers"] * seq * q


def train(model, batch, seq, mode):
    import torch
    import transformers

    kind, shape = SHAPES[model]
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    net = getattr(transformers, kind + "ForCausalLM")(getattr(transformers, kind + "Config")(tie_word_embeddings=True, **shape)).cuda()
    params = list(net.parameters())
    optimizer = torch.optim.AdamW(params, lr=1e-4, fused=True)
    if mode == "compile":
        net = torch.compile(net)
    ids = torch.randint(0, 4000, (batch, seq), device="cuda")

    def step():
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = net(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    for _ in range(3):
        step()
    times = []
    for _ in range(10):
        torch.cuda.synchronize()
        start = time.perf_counter()
        loss = step()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    print(json.dumps(dict(model=model, batch=batch, seq=seq, mode=mode, tokens_per_s=batch * seq / min(times), step_s=times, loss=loss,
                          peak_bytes=torch.cuda.max_memory_allocated())))


def summary(out):
    device = ""
    try:
        device = json.load(open(os.path.join(out, "doctor")))[0]["devices"][0]["kind"]
    except (OSError, ValueError, LookupError, TypeError):
        pass
    peak = next((p for word, p in PEAKS.items() if word in device), None)
    for path in sorted(glob.glob(os.path.join(out, "train-*")) + glob.glob(os.path.join(out, "torch-*"))):
        if path.endswith(".err") or not os.path.getsize(path):
            continue
        r = json.loads(open(path).read().strip().splitlines()[-1])
        mfu = "MFU not known" if peak is None else "MFU %.1f%%" % (100 * r["tokens_per_s"] * flops_per_token(r["model"], r["seq"]) / peak)
        print("%-40s %9.0f tokens/s  %s  %s" % (os.path.basename(path), r["tokens_per_s"], mfu, device))


if sys.argv[1] == "summary":
    summary(sys.argv[2])
else:
    train(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
