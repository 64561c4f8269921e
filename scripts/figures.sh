#!/usr/bin/env bash
# Writes the table of figures in README.md and README.zh.md from docs/figures.tsv. With --check it changes nothing and
# fails when a table is stale. Columns: what | in Chinese | command | here | peer | ratio.
set -euo pipefail
cd "$(dirname "$0")/.."

table() { # language column, head
  printf '%s\n|---|---|---|---|\n' "$2"
  awk -F'\t' -v name="$1" '!/^#/ && NF >= 6 { printf "| %s | %s | %s | %s |\n", $name, $4, $5, $6 }' docs/figures.tsv
}

status=0
for page in README.md README.zh.md; do
  case $page in
    README.md) new=$(table 1 '| what | danlu | peer | ratio |') ;;
    *) new=$(table 2 '| 项目 | danlu | 对照 | 比值 |') ;;
  esac
  out=$(mktemp)
  NEW=$new awk '/^<!-- figures -->$/ { print; print ENVIRON["NEW"]; skip = 1 } /^<!-- \/figures -->$/ { skip = 0 } !skip && !/^<!-- figures -->$/' "$page" > "$out"
  if [ "${1:-}" = --check ]; then
    cmp -s "$page" "$out" || { echo "$page: the table of figures is stale: run scripts/figures.sh"; status=1; }
  else
    cat "$out" > "$page"
  fi
  rm -f "$out"
done
exit $status
