"""The pairs of bench_eval.sh."""
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

danlu, model, pairs, limit = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
here, threads, cpu = Path(__file__).parent, os.environ["THREADS"], os.environ.get("CPU") == "1"
TASKS = ("x_endings", "x_school")
OURS = {"float32, every prompt anew": ["--dtype", "f32", "--no-shared-prefix"], "float32": ["--dtype", "f32"], "bfloat16": ["--dtype", "bf16"]}
THEIRS = ("float32", "bfloat16")
COMPARED = (("float32, every prompt anew", "float32"), ("float32", "float32"), ("bfloat16", "float32"), ("bfloat16", "bfloat16"))


def children():
    u = resource.getrusage(resource.RUSAGE_CHILDREN)
    return u.ru_utime + u.ru_stime


def ours(task, flags):
    before = children()
    out = subprocess.run([danlu, "eval", model, "--tasks", task, "--include-path", folder, "--limit", limit, "--bootstrap-iters", "0", "--threads", threads,
                          "--json", "-q", *flags], check=True, capture_output=True, text=True).stdout
    e = json.loads(out)["efficiency"][task]
    return e["requests"] / (children() - before if cpu else e["seconds"])


def theirs(task, dtype):
    out = subprocess.run([sys.executable, here / "eval_peer.py", model, "--tasks", task, "--include-path", folder, "--limit", limit, "--dtype", dtype,
                          "--threads", threads], check=True, capture_output=True, text=True).stdout
    r = json.loads([line for line in out.splitlines() if line.startswith("{")][-1])
    return r["requests"] / r["cpu_seconds" if cpu else "seconds"]


with tempfile.TemporaryDirectory() as work:
    folder = f"{work}/tasks"
    os.environ["HF_HOME"] = f"{work}/hf"
    subprocess.run([sys.executable, here / "eval_items.py", folder], check=True)
    print("| task | danlu | lm-eval | requests/s, danlu | lm-eval | ratio |\n|---|---|---|---:|---:|---:|", flush=True)
    for task in TASKS:
        rates = {}
        for _ in range(pairs):
            for name, flags in OURS.items():
                rates.setdefault(("ours", name), []).append(ours(task, flags))
            for dtype in THEIRS:
                rates.setdefault(("theirs", dtype), []).append(theirs(task, dtype))
        for name, dtype in COMPARED:
            a, b = rates["ours", name], rates["theirs", dtype]
            ratio = statistics.median(x / y for x, y in zip(a, b))
            print(f"| {task} | {name} | {dtype} | {statistics.median(a):.1f} | {statistics.median(b):.1f} | {ratio:.2f} |", flush=True)
