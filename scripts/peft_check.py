"""Adapters between danlu and PEFT, on small models made here: what PEFT made is merged by danlu, what danlu trained is loaded
by PEFT, also where the vocabulary has grown and the head is the embedding. Logits must be equal.

usage: peft_check.py DANLU WORKDIR       needs: torch transformers peft safetensors trl datasets
"""
import json, os, shutil, subprocess, sys

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
MADE_BY_PEFT = {
    "LoRA": dict(target_modules=LINEAR),
    "all-linear, bias of rank": dict(target_modules="all-linear", r=3, rank_pattern={"q_proj": 5}, alpha_pattern={"layers.1.mlp.up_proj": 3}),
    "rsLoRA on some layers": dict(target_modules=["q_proj", "v_proj"], use_rslora=True, layers_to_transform=[0, 2]),
    "DoRA": dict(target_modules=LINEAR, use_dora=True),
    "a regular expression": dict(target_modules=r".*layers\.[01]\.self_attn\.(q|k)_proj"),
    "LoRA of the embedding": dict(target_modules=["q_proj", "embed_tokens"]),
    "whole norms": dict(target_modules=["q_proj"], modules_to_save=["input_layernorm", "norm"]),
    "whole embedding and head": dict(target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"]),
}


def danlu(*words):
    run = subprocess.run([sys.argv[1], *words], capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"danlu {' '.join(words)}: {run.stderr[-500:]}")


def load(path):
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


def logits(model, ids):
    with torch.no_grad():
        return model(input_ids=ids).logits


def apart(name, a, b):
    off = ((a - b).abs().max() / b.abs().max()).item()
    print(f"{'ok  ' if off < 2e-5 else 'FAIL'} {name}: logits {off:.1e} apart")
    return off < 2e-5


def shape(work, tied):
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=4096, hidden_size=64, intermediate_size=160, num_hidden_layers=3, num_attention_heads=4,
                  num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=tied, torch_dtype="float32")
    path = f"{work}/shape-{tied}.json"
    json.dump(config, open(path, "w"))
    base = f"{work}/base-{tied}"
    danlu("train", "stage=pt", f"model_name_or_path={path}", "train_from_scratch=true", "tokenizer_name_or_path=llama-tiny", f"dataset={work}/text.txt", "cutoff_len=64",
          "max_steps=5", "learning_rate=0.01", "report_to=none", f"output_dir={base}")
    return base


def from_peft(work, base, ids, tied):
    ok = True
    for name, options in MADE_BY_PEFT.items():
        if tied and "embedding" in name:
            continue  # PEFT trains an embedding apart from the head that it is
        torch.manual_seed(1)
        model = get_peft_model(load(base), LoraConfig(**dict(dict(r=4, lora_alpha=8, task_type="CAUSAL_LM"), **options)))
        with torch.no_grad():
            for key, p in model.named_parameters():
                if p.requires_grad:
                    p.add_(torch.randn_like(p) * 0.05)
        for d in ("adapter", "merged"):
            shutil.rmtree(f"{work}/{d}", ignore_errors=True)
        model.save_pretrained(f"{work}/adapter")
        danlu("export", "--model", base, "--adapter", f"{work}/adapter", "--output", f"{work}/merged")
        ok &= apart(f"PEFT to danlu, {'tied' if tied else 'untied'}: {name}", logits(load(f"{work}/merged"), ids), logits(model.eval(), ids))
    return ok


def from_trl(work, base, ids, tied):
    """An adapter as TRL's trainer leaves it, and one that goes on from there here."""
    rows = [dict(prompt=f"Where is cat {i}?", completion=" On the mat.") for i in range(8)]
    config = SFTConfig(output_dir=f"{work}/trl", max_steps=3, per_device_train_batch_size=4, learning_rate=1e-2, report_to="none", use_cpu=True, bf16=False, save_strategy="no")
    trainer = SFTTrainer(model=load(base), args=config, train_dataset=Dataset.from_list(rows), processing_class=AutoTokenizer.from_pretrained(base),
                         peft_config=LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    trainer.train()
    for d in ("adapter", "merged"):
        shutil.rmtree(f"{work}/{d}", ignore_errors=True)
    trainer.save_model(f"{work}/adapter")
    danlu("export", "--model", base, "--adapter", f"{work}/adapter", "--output", f"{work}/merged")
    return apart(f"TRL to danlu, {'tied' if tied else 'untied'}", logits(load(f"{work}/merged"), ids), logits(PeftModel.from_pretrained(load(base), f"{work}/adapter").eval(), ids))


def to_peft(work, base, ids, tied):
    ok = True
    for name, words in {"LoRA": [], "rsLoRA": ["use_rslora=true"], "DoRA": ["use_dora=true"], "PiSSA": ["pissa_init=true"],
                        "whole embedding": ["additional_target=embed_tokens"], "grown vocabulary": ["add_special_tokens=<pill>"]}.items():
        for d in ("run", "merged"):
            shutil.rmtree(f"{work}/{d}", ignore_errors=True)
        danlu("train", "stage=sft", "finetuning_type=lora", "lora_rank=4", f"model_name_or_path={base}", f"dataset={work}/chats.jsonl", "template=chatml", "cutoff_len=64",
              "max_steps=5", "learning_rate=0.01", "report_to=none", f"output_dir={work}/run", *words)
        danlu("export", "--model", base, "--adapter", f"{work}/run", "--output", f"{work}/merged")
        model = load(base)
        merged = load(f"{work}/merged")
        if merged.config.vocab_size != model.config.vocab_size:
            model.resize_token_embeddings(merged.config.vocab_size)
            token = AutoTokenizer.from_pretrained(f"{work}/merged").convert_tokens_to_ids("<pill>")
            ids = torch.cat([ids, torch.full_like(ids[:, :1], token)], 1)
        ok &= apart(f"danlu to PEFT, {'tied' if tied else 'untied'}: {name}", logits(PeftModel.from_pretrained(model, f"{work}/run").eval(), ids), logits(merged, ids))
    return ok


def main():
    work = sys.argv[2]
    os.makedirs(work, exist_ok=True)
    open(f"{work}/text.txt", "w").write("The cat sat on the mat. 小猫坐在垫子上。\n" * 40)
    with open(f"{work}/chats.jsonl", "w") as f:
        for i in range(16):
            f.write(json.dumps(dict(instruction=f"Where is cat {i}?", output="On the mat.")) + "\n")
    ok = True
    for tied in (False, True):
        base = shape(work, tied)
        ids = torch.tensor([AutoTokenizer.from_pretrained(base)("The cat sat on the mat. 小猫坐在垫子上。").input_ids])
        ok &= from_peft(work, base, ids, tied)
        ok &= to_peft(work, base, ids, tied)
        ok &= from_trl(work, base, ids, tied)
    sys.exit(0 if ok else 1)


main()
