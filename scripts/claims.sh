#!/usr/bin/env bash
# Measures what the field says of these models and writes docs/claims.md and docs/claims.zh.md: the claim, the
# measurement, the command. Minutes of work on two cores.
#   GOLDENS=.../goldens DANLU=danlu scripts/claims.sh
# GOLDENS holds tokenizers/llama-spm (LLaMA's vocabulary) and tokenizer_training/corpus (a Chinese text).
set -euo pipefail
cd "$(dirname "$0")/.."
export GOLDENS=${GOLDENS:-${DANLU_GOLDENS:-testdata/goldens}} DANLU=${DANLU:-danlu}
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
export WORK=$work CGO_ENABLED=0
go test ./kernel -run "^$" -bench "Rows/(norm|layer_norm)" -count 5 | awk "/^Benchmark/ {print \$1, \$3}" > "$work/norms"
python3 - <<'PY'
import json, os, re, statistics, subprocess
from pathlib import Path

danlu, goldens, work = os.environ["DANLU"], Path(os.environ["GOLDENS"]), Path(os.environ["WORK"])
llama, corpus = goldens / "tokenizers/llama-spm", goldens / "tokenizer_training/corpus"


def run(*args, stdin=None):
    out = subprocess.run([danlu, *map(str, args)], check=True, capture_output=True, text=True, input=stdin).stdout
    return out


def value(*args):
    return json.loads(run(*args, "--json"))


rows = []  # claim, measured, command, each in English and Chinese


def row(en, zh, measured_en, measured_zh, command):
    rows.append((en, zh, measured_en, measured_zh, command))


times = {}
for line in (work / "norms").read_text().splitlines():
    name, ns = line.split()
    times.setdefault("layer" if "layer" in name else "rms", []).append(float(ns))
saved = 1 - statistics.median(times["rms"]) / statistics.median(times["layer"])
row("RMSNorm takes 7-64% less time than LayerNorm", "RMSNorm 比 LayerNorm 快 7-64%", f"a row of 1536 in float32: {saved:.0%} less", f"1536 维 float32：少 {saved:.0%}",
    "go test ./kernel -run '^$' -bench 'Rows/(norm|layer_norm)'")

pieces = run("tokenizer", "decode", llama, "--json", stdin="\n".join(f"[{i}]" for i in range(32000)) + "\n").splitlines()
han = sum(bool(re.fullmatch(r"[\u3400-\u9fff]+", json.loads(p).strip())) for p in pieces)
row("LLaMA's 32,000 pieces hold a few hundred Chinese ones", "LLaMA 的 32,000 词表只有几百个中文词片", f"{han} pieces of Chinese characters", f"{han} 个汉字词片", "danlu tokenizer decode llama --json")

lines = (corpus / "zh.txt").read_text().splitlines()
(work / "train.txt").write_text("\n".join(lines[: len(lines) * 9 // 10]))
(work / "test.txt").write_text("\n".join(lines[len(lines) * 9 // 10 :]))
size = 20000
run("tokenizer", "train", "--input", work / "train.txt", "--output_dir", work / "zh", "--vocab_size", size, "--character_coverage", "0.9995")
run("tokenizer", "merge", llama / "tokenizer.model", work / "zh/tokenizer.model", "--output_dir", work / "merged")
stats = [s for s in value("tokenizer", "stats", llama, work / "merged", "--file", work / "test.txt") if s["language"] == "zh"]
before, after = stats[0]["tokens_per_char"], stats[1]["tokens_per_char"]
row("Chinese-LLaMA's 49,953 pieces halve the tokens of Chinese", "Chinese-LLaMA 的 49,953 词表使中文 token 减半",
    f"tokens a character {before:.2f} before, {after:.2f} with {stats[1]['vocab_size']:,} pieces, on text not trained on", f"每字 token 数由 {before:.2f} 降至 {after:.2f}（词表 {stats[1]['vocab_size']:,}，未参与训练的文本）",
    "danlu tokenizer train | merge | stats")

deepseek = value("inspect", "deepseek-v3")
heads, dim, layers = 128, 128, deepseek["layers"]
kv = deepseek["kv_bytes_per_token"]
mha = 2 * heads * dim * layers * 2
grouped = 2 * 8 * dim * layers * 2
row("MLA saves 30% of the cache", "MLA 节省 30% 缓存", f"{kv:,} bytes a token in DeepSeek-V3: {1 - kv / mha:.1%} less than {heads} full heads of {dim} would take, {1 - kv / grouped:.0%} less than 8 grouped ones",
    f"DeepSeek-V3 每 token {kv:,} 字节：比 {heads} 个完整注意力头（{dim} 维）少 {1 - kv / mha:.1%}，比 8 组 GQA 少 {1 - kv / grouped:.0%}", "danlu inspect deepseek-v3 --json")
row("DeepSeek-V3 uses 37B of its 671B parameters for a token", "DeepSeek-V3 每 token 只激活 671B 中的 37B", f"{deepseek['params_active'] / 1e9:.1f}B of {deepseek['params_total'] / 1e9:.1f}B, {deepseek['params_active'] / deepseek['params_total']:.1%}",
    f"{deepseek['params_total'] / 1e9:.1f}B 中的 {deepseek['params_active'] / 1e9:.1f}B（{deepseek['params_active'] / deepseek['params_total']:.1%}）", "danlu inspect deepseek-v3 --json")

plans = {p: value("plan", "deepseek-v3", "--task", "inference", "--precision", p, "--gpu", "h800", "--context", 4096, "--batch", 1)["memory_unsplit_bytes"]["weights"] for p in ("fp8", "fp16")}
row("FP8 halves the bytes of FP16", "FP8 的字节数是 FP16 的一半", f"weights of DeepSeek-V3 {plans['fp8'] / 1e9:.0f} GB against {plans['fp16'] / 1e9:.0f} GB: {plans['fp8'] / plans['fp16']:.1%}",
    f"DeepSeek-V3 权重 {plans['fp8'] / 1e9:.0f} GB 对 {plans['fp16'] / 1e9:.0f} GB：{plans['fp8'] / plans['fp16']:.1%}", "danlu plan deepseek-v3 --task inference --precision fp8|fp16 --gpu h800 --context 4096 --batch 1 --json")

short, long = 300, 3000
reply = value("plan", "qwen3-32b", "--task", "inference", "--precision", "fp16", "--gpu", "h800", "--context", 8192, "--batch", 1)
ms = reply["ms_per_token"]
row("Thinking makes a reply several times dearer", "思考模式使单次回答贵数倍",
    f"computed, not measured: qwen3-32b writes a token in {ms:.1f} ms at most speed, so a reply of {short} tokens takes {short * ms / 1e3:.1f} s and one that thinks for {long - short} tokens first {long * ms / 1e3:.1f} s, {long // short} times the time and cost",
    f"按规划计算，未实测：qwen3-32b 每 token 至少 {ms:.1f} ms；{short} token 的回答 {short * ms / 1e3:.1f} 秒，先思考 {long - short} token 则 {long * ms / 1e3:.1f} 秒，时间与费用为 {long // short} 倍", "danlu plan qwen3-32b --task inference --gpu h800 --context 8192 --batch 1 --json")

energy = value("plan", "llama-65b", "--task", "pretrain", "--gpu", "a100-80gb", "--gpus", 2048, "--tokens", "1.4e12")
row("Training LLaMA-65B took 449 MWh and 1,022,362 GPU-hours (arXiv:2302.13971, table 15)", "训练 LLaMA-65B 耗电 449 MWh、1,022,362 卡时（arXiv:2302.13971 表 15）",
    f"planned: {energy['energy_kwh'] / 1e3:.0f} MWh, {energy['gpu_hours']:,.0f} GPU-hours", f"规划：{energy['energy_kwh'] / 1e3:.0f} MWh，{energy['gpu_hours']:,.0f} 卡时", "danlu plan llama-65b --task pretrain --gpu a100-80gb --gpus 2048 --tokens 1.4e12 --json")

english = ["# The field's claims, measured", "", "Written by `scripts/claims.sh`.", "", "| claim | here | command |", "|---|---|---|"]
chinese = ["# 业内说法与实测", "", "由 `scripts/claims.sh` 生成。", "", "| 说法 | 实测 | 命令 |", "|---|---|---|"]
for en, zh, men, mzh, command in rows:
    command = "`" + command.replace("|", "\\|") + "`"
    english.append(f"| {en} | {men} | {command} |")
    chinese.append(f"| {zh} | {mzh} | {command} |")
Path("docs/claims.md").write_text("\n".join(english) + "\n")
Path("docs/claims.zh.md").write_text("\n".join(chinese) + "\n")
PY
