"""LoRA fine-tuning of a real small model by danlu and by PEFT from the same adapter on the same rows in the same order:
held-out loss of both, and whether each loads what the other made. Needs: torch transformers peft safetensors.

usage: lora_peer.py DANLU MODEL WORKDIR     (MODEL: a folder, such as SmolLM2-135M converted by danlu convert)
WORKDIR keeps danlu's run and the adapter that both begin with; they are taken again where they are there.
"""
import json, os, random, subprocess, sys, time

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

BATCH, EPOCHS, RATE, RANK, ALPHA = 8, 1, 2e-4, 8, 16


def rows(n, seed):
    """Small tasks in English and Chinese whose answers follow from the question."""
    rng = random.Random(seed)
    fruits, colours = "apple pear plum fig kiwi grape melon lemon".split(), dict(red="红色", green="绿色", blue="蓝色", yellow="黄色", black="黑色")
    made = []
    for i in range(n):
        a, b, k, f, c = rng.randint(2, 99), rng.randint(2, 99), rng.randint(2, 9), rng.choice(fruits), rng.choice(list(colours))
        made.append([
            dict(instruction=f"What is {a} plus {b}?", output=f"The sum of {a} and {b} is {a + b}."),
            dict(instruction="Describe the basket.", input=f"{k} {c} {f}s", output=f"The basket holds {k} {f}s, all of them {c}."),
            dict(instruction=f"Repeat the word {f} {k} times.", output=" ".join([f] * k) + "."),
            dict(instruction=f"请翻译颜色：{c}", output=f"{colours[c]}。"),
        ][i % 4] | ({} if i % 4 == 1 else dict(input="")))
    return made


def encode(tok, row):
    """chatml as danlu trains it: the answer, its end and the line break are scored."""
    question = row["instruction"] + ("\n" + row["input"] if row.get("input") else "")
    prompt = tok(f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False).input_ids
    answer = tok(f"{row['output']}<|im_end|>\n", add_special_tokens=False).input_ids
    return prompt + answer, [-100] * len(prompt) + answer


def batch(tok, group):
    pairs = [encode(tok, r) for r in group]
    width = max(len(p[0]) for p in pairs)
    pad = lambda x, v: x + [v] * (width - len(x))
    return (torch.tensor([pad(i, 0) for i, _ in pairs]), torch.tensor([pad(l, -100) for _, l in pairs]),
            torch.tensor([pad([1] * len(i), 0) for i, _ in pairs]))


def loss_sum(model, x):
    ids, labels, mask = x
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
    targets = labels[:, 1:]
    return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), reduction="sum"), (targets != -100).sum().item()


def held_out(model, tok, held):
    model.eval()
    total = count = 0
    with torch.no_grad():
        for i in range(0, len(held), BATCH):
            s, n = loss_sum(model, batch(tok, held[i:i + BATCH]))
            total, count = total + s.item(), count + n
    return total / count


def train_peft(base, tok, start, train, held):
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), start, is_trainable=True)
    before = held_out(model, tok, held)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
    steps = (len(train) + BATCH - 1) // BATCH * EPOCHS
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: max(0.0, (steps - s) / steps))
    for _ in range(EPOCHS):
        for i in range(0, len(train), BATCH):
            s, n = loss_sum(model, batch(tok, train[i:i + BATCH]))
            (s / n).backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step(), schedule.step(), optimizer.zero_grad(set_to_none=True)
    return model, before, held_out(model, tok, held)


def train_danlu(danlu, base, start, out, work):
    subprocess.run([danlu, "train", "stage=sft", "finetuning_type=lora", f"model_name_or_path={base}", f"adapter_name_or_path={start}", "template=chatml",
                    f"dataset={work}/train.json", f"eval_dataset={work}/held.json", "cutoff_len=256", "disable_shuffling=true", f"per_device_train_batch_size={BATCH}",
                    f"per_device_eval_batch_size={BATCH}", f"num_train_epochs={EPOCHS}", f"learning_rate={RATE}", "lr_scheduler_type=linear", "eval_strategy=epoch",
                    "logging_steps=10", "report_to=none", f"output_dir={out}"], check=True, stderr=open(f"{work}/danlu.log", "w"))
    return held_out_of(out)


def held_out_of(out):
    lines = [json.loads(x) for x in open(f"{out}/metrics.jsonl")]
    return [x["eval_loss"] for x in lines if "eval_loss" in x][-1]


def main():
    danlu, base, work = sys.argv[1:]
    os.makedirs(work, exist_ok=True)
    torch.manual_seed(0)
    torch.set_num_threads(2)
    tok = AutoTokenizer.from_pretrained(base)
    train, held = rows(500, 1), rows(100, 2)
    for name, data in (("train", train), ("held", held)):
        json.dump(data, open(f"{work}/{name}.json", "w"), ensure_ascii=False)
    start, merged = f"{work}/start", f"{work}/merged"
    linear = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    done = os.path.exists(f"{work}/run/all_results.json")
    if not done:
        get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=linear, task_type="CAUSAL_LM")).save_pretrained(start)
    out = f"{work}/run"
    seconds = time.time()
    ours = held_out_of(out) if done else train_danlu(danlu, base, start, out, work)
    seconds = None if done else time.time() - seconds
    peer_seconds = time.time()
    _, before, theirs = train_peft(base, tok, start, train, held)
    peer_seconds = time.time() - peer_seconds
    # What danlu saved, in PEFT; what danlu merged, in transformers.
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), out)
    loaded = held_out(model, tok, held)
    subprocess.run([danlu, "export", "--model", base, "--adapter", out, "--output", merged, "--type", "f32"], check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    probe = batch(tok, held[:4])
    with torch.no_grad():
        a = model(input_ids=probe[0], attention_mask=probe[2]).logits
        b = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)(input_ids=probe[0], attention_mask=probe[2]).logits
    apart = ((a - b).abs() * probe[2][..., None]).max().item()
    print(json.dumps(dict(before=before, danlu=ours, peft=theirs, ratio=ours / theirs, danlu_adapter_in_peft=loaded, merged_logits_apart=apart,
                          danlu_seconds=seconds, peft_seconds=peer_seconds)))
    ok = abs(ours / theirs - 1) < 0.01 and abs(loaded / ours - 1) < 1e-3 and apart < 1e-3 and ours < 0.8 * before
    sys.exit(0 if ok else 1)


main()
