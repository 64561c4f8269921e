#!/usr/bin/env python3
"""Holds the vision tower that danlu writes as a GGUF against llama.cpp's converter.

usage: mmproj_check.py DANLU LLAMACPP MODEL

LLAMACPP is the source tree of llama.cpp, MODEL a Qwen2.5-VL folder. In float32 and float16 every tensor has to be equal
to the bit, and every entry but those of the program that wrote it.
"""
import subprocess
import sys
import tempfile

OWN = {"general.name", "general.license", "general.size_label", "general.quantization_version"}


def read(gguf, path):
    r = gguf.GGUFReader(path)
    entries = {k: f.contents() for k, f in r.fields.items() if not k.startswith("GGUF.") and k not in OWN}
    return entries, {t.name: (t.tensor_type, list(t.shape), t.data.tobytes()) for t in r.tensors}


def main():
    danlu, llama, model = sys.argv[1:4]
    sys.path.insert(0, f"{llama}/gguf-py")
    import gguf

    bad = 0
    for kind in "f32", "f16":
        with tempfile.TemporaryDirectory() as work:
            theirs, ours = f"{work}/theirs.gguf", f"{work}/mmproj.gguf"
            subprocess.run([sys.executable, f"{llama}/convert_hf_to_gguf.py", model, "--mmproj", "--outfile", theirs, "--outtype", kind], check=True, capture_output=True)
            subprocess.run([danlu, "convert", model, ours, "--type", kind, "--quiet"], check=True, capture_output=True)
            (a, x), (b, y) = read(gguf, theirs), read(gguf, ours)
        apart = [k for k in a.keys() | b.keys() if a.get(k) != b.get(k)] + [k for k in x.keys() | y.keys() if x.get(k) != y.get(k)]
        print(f"{kind}: {len(x)} tensors, {len(a)} entries: {'equal' if not apart else apart}")
        bad += bool(apart)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
