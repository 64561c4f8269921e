"""Compare danlu's encoding speed with tiktoken, sentencepiece and tokenizers on one thread, interleaved.

Usage: bench_tokenizer.py DANLU GOLDENS [ROUNDS]

Two texts of 20 MB are made from GOLDENS/tokenizer_training/corpus, one paragraph a line: "mixed" repeats its English and
Chinese paragraphs in random order; "varied" does too, and makes half of the words and a third of the Chinese characters
new ones, so that no cache of words helps.
"""
import json, os, random, re, statistics, subprocess, sys, tempfile, time

danlu, goldens = sys.argv[1], sys.argv[2]
rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 5
SIZE = 20_000_000


def paragraphs(name):
    with open(f"{goldens}/tokenizer_training/corpus/{name}", encoding="utf-8") as f:
        return [line for line in f.read().split("\n") if line]


def mixed(rng):
    sets, out, size = [paragraphs("en.txt"), paragraphs("zh.txt")], [], [0, 0]
    while sum(size) < SIZE:
        k = 0 if size[0] <= size[1] else 1
        p = rng.choice(sets[k])
        out.append(p)
        size[k] += len(p.encode())
    return out


def varied(rng):
    words = sorted({w for p in paragraphs("en.txt") for w in re.findall(r"[A-Za-z]+", p)})
    chars = [c for p in paragraphs("zh.txt") for c in p if "\u4e00" <= c <= "\u9fff"]

    def word(m):
        if rng.random() < 0.5:
            return m.group()
        a, b = rng.choice(words), rng.choice(words)
        return a[: (len(a) + 1) // 2] + b[len(b) // 2 :]

    def char(m):
        return rng.choice(chars) if rng.random() < 1 / 3 else m.group()

    return [re.sub("[\u4e00-\u9fff]", char, re.sub("[A-Za-z]+", word, p)) for p in mixed(rng)]


LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def peers():
    import sentencepiece, tiktoken, tokenizers
    from tiktoken.load import load_tiktoken_bpe

    t = f"{goldens}/tokenizers"
    llama3 = tiktoken.Encoding("llama3", pat_str=LLAMA3, mergeable_ranks=load_tiktoken_bpe(f"{t}/llama-bpe/tokenizer.model"), special_tokens={})
    spm = sentencepiece.SentencePieceProcessor(model_file=f"{t}/llama-spm/tokenizer.model")
    v3 = tokenizers.Tokenizer.from_file(f"{t}/deepseek-v3/tokenizer.json")
    return {
        "tiktoken, Llama 3": lambda lines: [llama3.encode_ordinary(x) for x in lines],
        "sentencepiece, Llama 2": lambda lines: [spm.encode(x) for x in lines],
        "tokenizers, DeepSeek V3": lambda lines: [v3.encode(x, add_special_tokens=False).ids for x in lines[: len(lines) // 10]],
    }


VOCABULARIES = {
    "Llama 2 (SentencePiece)": "llama-spm/tokenizer.model",
    "Llama 3 (tiktoken)": "llama-bpe/tokenizer.model",
    "Qwen2": "qwen2/ggml-vocab-qwen2.gguf",
    "Baichuan": "baichuan/ggml-vocab-baichuan.gguf",
    "DeepSeek LLM": "deepseek-llm/ggml-vocab-deepseek-llm.gguf",
    "DeepSeek V3": "deepseek-v3/tokenizer.json",
    "GLM (charsmap)": "glm-10b-chinese/tokenizer.model",
}


def main():
    os.environ["RAYON_NUM_THREADS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    other = peers()
    with tempfile.TemporaryDirectory() as tmp:
        for kind, make in ("mixed", mixed), ("varied", varied):
            lines = make(random.Random(1))
            path = f"{tmp}/{kind}.txt"
            with open(path, "w", encoding="utf-8") as f:
                f.write("\n".join(lines) + "\n")
            size = sum(len(x.encode()) for x in lines)
            rates = {}
            for _ in range(rounds):
                for name, encode in other.items():
                    part = lines[: len(lines) // 10] if name.startswith("tokenizers") else lines
                    start = time.perf_counter()
                    encode(lines)
                    rates.setdefault(name, []).append(sum(len(x.encode()) for x in part) / (time.perf_counter() - start) / 1e6)
                for name, file in VOCABULARIES.items():
                    out = subprocess.run([danlu, "bench", "tokenizer", f"{goldens}/tokenizers/{file}", "--file", path, "--reps", "1", "--threads", "2", "--json"],
                                         capture_output=True, check=True, text=True).stdout
                    r = json.loads(out)
                    rates.setdefault(name, []).append(r["encode_mb_per_s"])
                    rates.setdefault(name + ", 2 threads", []).append(r["scaling"][-1]["encode_mb_per_s"])
                    rates.setdefault(name + ", decode", []).append(r["decode_mb_per_s"])
            print(f"\n{kind}: {size / 1e6:.1f} MB, {len(lines)} paragraphs, median of {rounds} interleaved rounds, MB/s; ratio to tiktoken and sentencepiece of the same round")
            for name, list_ in rates.items():
                ratio = lambda peer: statistics.median(a / b for a, b in zip(list_, rates[peer]))
                print(f"{name:36s} {statistics.median(list_):7.1f}  {ratio('tiktoken, Llama 3'):6.2f}x {ratio('sentencepiece, Llama 2'):6.2f}x")


main()
