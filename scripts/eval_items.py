#!/usr/bin/env python3
"""Writes tasks of 200 made-up items in lm-evaluation-harness's own formats, one for each kind of output.

    python scripts/eval_items.py OUT
"""
import json
import random
import sys
from pathlib import Path

ITEMS, EXAMPLES = 200, 20
PEOPLE = "Anna Ben Clara David Emma Felix Grace Hugo Iris Jonas Karla Leo Mina Noah Olga Paul".split()
PLACES = ["the kitchen", "a small boat", "the old library", "the garden", "a crowded train", "the top of the hill", "the school yard"]
THINGS = ["lamp", "bicycle", "letter", "loaf of bread", "violin", "map", "red umbrella", "clock", "camera", "basket of apples"]
DEEDS = ["found", "repaired", "painted", "lost", "carried", "sold", "borrowed", "hid"]
ENDS = ["and gave it to {q}, who had been looking for it all morning.", "but the rain came, so {p} put it under a roof and waited with {q}.",
        "and nobody in {place} ever spoke of it again, not even {q}.", "then washed it with warm water, because {q} had dropped it in the mud.",
        "and flew to the moon on the back of a purple {thing}.", "which is why seven is larger than the colour green.",
        "so the two friends laughed, and {q} made tea for everyone.", "until a {thing} of a {thing} of the {thing}."]


def story(r):
    p, q = r.sample(PEOPLE, 2)
    s = {"p": p, "q": q, "place": r.choice(PLACES), "thing": r.choice(THINGS), "deed": r.choice(DEEDS)}
    s["start"] = f"On {r.choice(['Monday', 'a cold morning', 'the first day of spring'])} {p} went to {s['place']}. There {p} {s['deed']} a {s['thing']},"
    return s


def cloze(r):
    """Like HellaSwag: endings of several tokens."""
    s = story(r)
    ends = [e.format(**s) for e in r.sample(ENDS, 4)]
    return {"ctx": s["start"], "endings": ends, "label": r.randrange(4)}


def endings(r):
    """Like HellaSwag again, with a paragraph before the endings."""
    before = " ".join(f"{(s := story(r))['start']} {r.choice(ENDS[:4]).format(**s)}" for _ in range(3))
    item = cloze(r)
    return {**item, "ctx": before + " " + item["ctx"]}


def school(r):
    """Like MMLU: letters."""
    a, b = r.randrange(2, 60), r.randrange(2, 60)
    right = r.randrange(4)
    near = r.sample([x for x in range(a + b - 9, a + b + 10) if x != a + b], 4)
    near[right] = a + b
    return {"question": f"  {r.choice(PEOPLE)} has {a} coins and gets {b} more. How many coins are there now?", "choices": [str(x) for x in near], "answer": right}


def chinese(r):
    """Like C-Eval: Chinese, letters, the answer a letter."""
    a, b = r.randrange(2, 60), r.randrange(2, 60)
    right = r.randrange(4)
    near = r.sample([x for x in range(a * b - 30, a * b + 30) if x != a * b], 4)
    near[right] = a * b
    return {"question": f"计算：{a} 乘以 {b} 等于多少？", "A": near[0], "B": near[1], "C": near[2], "D": near[3], "answer": "ABCD"[right]}


def last_word(r):
    """Like LAMBADA: the last word of a text."""
    s = story(r)
    return {"text": f"{s['start']} and took the {s['thing']} home. At home {s['p']} showed {s['q']} the {s['thing'].split()[-1]}"}


def pages(r):
    """Like WikiText: whole texts."""
    return {"page": " ".join(f"{(s := story(r))['start']} {r.choice(ENDS).format(**s)}" + r.choice(["\n", "", "\n\n"]) for _ in range(r.randrange(2, 9)))}


def blank(r):
    """Like Winogrande: choices stand in the prompt."""
    s = story(r)
    return {"before": s["start"] + " and later", "options": [s["p"], s["q"]], "after": f"was glad about the {s['thing']}.", "answer": str(r.randrange(2))}


def sums(r):
    """Like GSM8K: worked answers."""
    a, b, c = (r.randrange(2, 900) for _ in range(3))
    p = r.choice(PEOPLE)
    return {"question": f"{p} had ${a}, earned ${b} and then ${c}. How many dollars does {p} have?", "answer": f"{p} has {a} + {b} = {a + b} and then {a + b} + {c} = {a + b + c}.\n#### {a + b + c:,}"}


def several(r):
    """Several right choices, and right answers by their own likelihood."""
    s = story(r)
    right = sorted(r.sample(range(5), 2))
    return {"query": f"Question: what did {s['p']} see in {s['place']}?\nAnswer:", "options": r.sample(THINGS, 5), "right": right}


TASKS = {
    "x_cloze": (cloze, """output_type: multiple_choice
doc_to_text: "{{ctx}}"
doc_to_target: "{{label}}"
doc_to_choice: endings
test_split: test
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
  - {metric: acc_bytes, aggregation: mean, higher_is_better: true}
  - {metric: acc_mutual_info, aggregation: mean, higher_is_better: true}
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""),
    "x_endings": (endings, """output_type: multiple_choice
doc_to_text: "{{ctx}}"
doc_to_target: "{{label}}"
doc_to_choice: endings
test_split: test
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
"""),
    "x_school": (school, """output_type: multiple_choice
description: "The following are multiple choice questions (with answers) about sums.\\n\\n"
doc_to_text: "{{question.strip()}}\\nA. {{choices[0]}}\\nB. {{choices[1]}}\\nC. {{choices[2]}}\\nD. {{choices[3]}}\\nAnswer:"
doc_to_target: answer
doc_to_choice: ["A", "B", "C", "D"]
test_split: test
fewshot_split: train
fewshot_config:
  sampler: first_n
num_fewshot: 5
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""),
    "x_chinese": (chinese, """output_type: multiple_choice
doc_to_text: "{{question.strip()}}\\nA. {{A}}\\nB. {{B}}\\nC. {{C}}\\nD. {{D}}\\n答案："
doc_to_target: "{{['A', 'B', 'C', 'D'].index(answer)}}"
doc_to_choice: ["A", "B", "C", "D"]
test_split: test
num_fewshot: 3
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
"""),
    "x_last_word": (last_word, """output_type: loglikelihood
doc_to_text: "{{text.split(' ')[:-1]|join(' ')}}"
doc_to_target: "{{' '+text.split(' ')[-1]}}"
test_split: test
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""),
    "x_pages": (pages, """output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{page}}"
test_split: test
metric_list:
  - metric: word_perplexity
  - metric: byte_perplexity
  - metric: bits_per_byte
"""),
    "x_blank": (blank, """output_type: multiple_choice
doc_to_text: "{{answer}}"
doc_to_target: after
doc_to_choice: "{{[before+' '+options[0], before+' '+options[1]]}}"
validation_split: test
training_split: train
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""),
    "x_sums": (sums, """output_type: generate_until
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{answer}}"
training_split: train
fewshot_split: train
test_split: test
num_fewshot: 3
generation_kwargs:
  until: ["Question:", "</s>", "<|im_end|>"]
  max_gen_toks: 48
  do_sample: false
  temperature: 0.0
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
    ignore_case: true
    ignore_punctuation: false
    regexes_to_ignore: [",", "\\\\$", "(?s).*#### ", "\\\\.$"]
filter_list:
  - name: "strict-match"
    filter:
      - {function: "regex", regex_pattern: "#### (\\\\-?[0-9\\\\.\\\\,]+)"}
      - {function: "take_first"}
  - name: "flexible-extract"
    filter:
      - {function: "regex", group_select: -1, regex_pattern: "(-?[$0-9.,]{2,})|(-?[0-9]+)"}
      - {function: "take_first"}
"""),
    "x_several": (several, """output_type: multiple_choice
doc_to_text: query
doc_to_target: right
doc_to_choice: options
test_split: test
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
"""),
}


def main():
    out = Path(sys.argv[1]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    for name, (make, yaml) in TASKS.items():
        files = {}
        for split, n in (("test", ITEMS), ("train", EXAMPLES)):
            r = random.Random(f"{name}/{split}")
            files[split] = str(out / f"{name}.{split}.jsonl")
            Path(files[split]).write_text("".join(json.dumps(make(r), ensure_ascii=False) + "\n" for _ in range(n)))
        data = "".join(f"    {split}: {file}\n" for split, file in files.items())
        (out / f"{name}.yaml").write_text(f"task: {name}\ntag: made_up\ndataset_path: json\ndataset_kwargs:\n  data_files:\n{data}{yaml}metadata:\n  version: 1.0\n")


main()
