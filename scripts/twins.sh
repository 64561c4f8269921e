#!/usr/bin/env bash
# Fails when a page for users lacks its Chinese or English twin: NAME.md and NAME.zh.md.
set -euo pipefail
cd "$(dirname "$0")/.."
status=0
# Notes for developers and generated records have one language.
single='docs/(architecture|adding-a-model|formats|results|log|dependencies)\.md'
for page in README.md $(git ls-files 'docs/*.md' | grep -vE "$single" | grep -v '\.zh\.md$' || true); do
  [ -f "${page%.md}.zh.md" ] || { echo "$page has no Chinese twin ${page%.md}.zh.md"; status=1; }
done
for page in $(git ls-files 'README.zh.md' 'docs/*.zh.md'); do
  [ -f "${page%.zh.md}.md" ] || { echo "$page has no English twin ${page%.zh.md}.md"; status=1; }
done
exit $status
