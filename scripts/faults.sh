#!/usr/bin/env bash
# Prints the fault table of the README as Markdown: 100 acknowledged entries, one fault in the real
# files, and a normal open. Exits with 1 if a row is not what it should be.
set -euo pipefail
cd "$(dirname "$0")/.."

out=$(mktemp)
trap 'rm -f "$out"' EXIT
status=0
go test ./wal -run '^TestFaultTable$' -count=1 -v >"$out" 2>&1 || status=1
grep '^|' "$out" || { cat "$out" >&2; exit 1; }
if [ "$status" -ne 0 ]; then
  grep -v '^|' "$out" >&2
fi
exit "$status"
