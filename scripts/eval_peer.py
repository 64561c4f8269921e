#!/usr/bin/env python3
"""Asks a model tasks by lm-evaluation-harness with transformers, and prints how long the answers took, a line of JSON a run.

    python scripts/eval_peer.py MODEL --tasks a,b --include-path DIR [--limit N] [--dtype float32] [--batch-size 16] [--samples OUT]
"""
import argparse
import json
import time

import torch
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

p = argparse.ArgumentParser()
p.add_argument("model")
p.add_argument("--tasks", required=True)
p.add_argument("--include-path", required=True)
p.add_argument("--limit", type=int)
p.add_argument("--dtype", default="float32")
p.add_argument("--batch-size", type=int, default=16)
p.add_argument("--threads", type=int, default=2)
p.add_argument("--samples")
a = p.parse_args()

torch.set_num_threads(a.threads)
lm = HFLM(pretrained=a.model, dtype=a.dtype, batch_size=a.batch_size, device="cpu")
took = {"seconds": 0.0, "cpu_seconds": 0.0, "requests": 0}
for name in ("loglikelihood", "loglikelihood_rolling", "generate_until"):
    def timed(requests, *args, ask=getattr(lm, name), **kwargs):
        start, cpu = time.perf_counter(), time.process_time()
        out = ask(requests, *args, **kwargs)
        took["cpu_seconds"] += time.process_time() - cpu
        took["seconds"] += time.perf_counter() - start
        took["requests"] += len(requests)
        return out
    setattr(lm, name, timed)
manager = TaskManager(include_path=a.include_path)
for task in a.tasks.split(","):
    took.update(seconds=0.0, cpu_seconds=0.0, requests=0)
    res = simple_evaluate(model=lm, tasks=[task], limit=a.limit, bootstrap_iters=0, task_manager=manager, log_samples=bool(a.samples))
    if a.samples:
        with open(f"{a.samples}/{task}.json", "w") as f:
            json.dump(res["samples"], f, default=str)
    print(json.dumps({"task": task, "dtype": a.dtype, **took, "results": {k: v for k, v in res["results"][task].items() if isinstance(v, float)}}), flush=True)
