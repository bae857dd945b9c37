#!/usr/bin/env bash
# Breaks a cluster of real processes in every way it knows while clients use it, and checks what they
# saw; docs/testing.md says how. Needs bash and Go; a full disk is tried only where root can mount one.
#
#   -duration 45s  how long faults are made; the first round of them is finished in any case
#   -seed N        the faults and their order; without it one is drawn and printed
#   -nodes 3       size of the cluster, 3 to 5
#
# Exit code 0: valid. 1: the cluster did what it must not do. 2: inconclusive, the run proves nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d)
pid=
trap 'rm -rf "$work"' EXIT
trap '[[ -z $pid ]] || kill -TERM "$pid" 2>/dev/null' INT TERM

go build -o "$work/" ./internal/cmd/torture ./example/kv ./cmd/connect || exit 2
"$work/torture" -program "$work/kv" -command "$work/connect" "$@" &
pid=$!
while :; do
	code=0
	wait "$pid" || code=$?
	kill -0 "$pid" 2>/dev/null || exit "$code" # else a signal ended the wait, not the program
done
