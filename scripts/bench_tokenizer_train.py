"""Compare training time and memory with sentencepiece and Hugging Face tokenizers on the same text in the same run.

Usage: bench_tokenizer_train.py DANLU GOLDENS [ROUNDS] [MB] [KIND]

The text is made from GOLDENS/tokenizer_training/corpus as bench_tokenizer.py's texts are; KIND is mixed or varied.
Vocabularies have 32,000 pieces; every trainer may use 2 threads. Times are of the whole process.
"""
import os, random, resource, statistics, subprocess, sys, tempfile, time

here = os.path.dirname(os.path.abspath(__file__))
danlu, goldens = sys.argv[1], sys.argv[2]
rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
size = int(sys.argv[4]) if len(sys.argv) > 4 else 64
kind = sys.argv[5] if len(sys.argv) > 5 else "mixed"
text_maker = open(f"{here}/bench_tokenizer.py", encoding="utf-8").read().replace("\nmain()\n", "\n").replace("SIZE = 20_000_000", f"SIZE = {size}_000_000")
make = {}
exec(text_maker, make)

SPM = """
import sentencepiece, sys
sentencepiece.SentencePieceTrainer.train(input=sys.argv[1], model_prefix=sys.argv[2] + "/s", model_type="bpe", vocab_size=32000, byte_fallback=True,
    split_digits=True, normalization_rule_name="identity", remove_extra_whitespaces=False, num_threads=2, minloglevel=2)
"""
HF = """
import sys
from tokenizers import Tokenizer, Regex, models, pre_tokenizers, trainers
t = Tokenizer(models.BPE())
pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
t.train([sys.argv[1]], trainers.BpeTrainer(vocab_size=32000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
t.save(sys.argv[2] + "/h.json")
"""


def run(args):
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    p = subprocess.Popen(args, stdout=subprocess.DEVNULL, env=dict(os.environ, RAYON_NUM_THREADS="2"))
    _, status, use = os.wait4(p.pid, 0)
    if status:
        sys.exit(f"{args[:3]} failed")
    return time.perf_counter() - start, use.ru_utime + use.ru_stime, use.ru_maxrss / 1024


with tempfile.TemporaryDirectory() as tmp:
    path = f"{tmp}/text.txt"
    if (child := os.fork()) == 0:  # a process of its own: a forked trainer would start with this one's peak memory
        with open(path, "w", encoding="utf-8") as f:
            f.write("\n".join(make[kind](random.Random(2))) + "\n")
        os._exit(0)
    os.waitpid(child, 0)
    common = ["--input", path, "--vocab_size", "32000", "--threads", "2", "--json"]
    jobs = {
        "sentencepiece BPE": [sys.executable, "-c", SPM, path, tmp],
        "danlu bpe": [danlu, "tokenizer", "train", *common, "--output_dir", f"{tmp}/a", "--byte_fallback", "--split_digits", "--normalization_rule_name", "identity",
                      "--remove_extra_whitespaces=false"],
        "HF byte-level BPE": [sys.executable, "-c", HF, path, tmp],
        "danlu byte_bpe": [danlu, "tokenizer", "train", *common, "--output_dir", f"{tmp}/b", "--model_type", "byte_bpe", "--pattern", "qwen2"],
    }
    results = {}
    for _ in range(rounds):
        for name, args in jobs.items():
            results.setdefault(name, []).append(run(args))
    print(f"{kind}: {os.path.getsize(path) / 1e6:.1f} MB, median of {rounds} interleaved rounds")
    for name, list_ in results.items():
        wall, cpu, rss = (statistics.median(x[i] for x in list_) for i in range(3))
        print(f"{name:20s} {wall:7.2f} s wall  {cpu:7.2f} s CPU  {rss:7.0f} MiB")
