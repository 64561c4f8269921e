#!/usr/bin/env bash
# Writes the generated assembly again from kernel/_asm.
set -euo pipefail
cd "$(dirname "$0")/../kernel/_asm"
go run . -out ..
