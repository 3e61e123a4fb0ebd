#!/bin/sh
# That bench/run runs, for a moment, as TAP; no figure is looked at.
set -eu
src=${SMSHOOK_SRC:-$(cd "$(dirname "$0")/.." && pwd)}
export SMSHOOK_SRC="$src" SMSHOOK_BUILD="${SMSHOOK_BUILD:-$src/build}"
python=${PYTHON:-/usr/bin/python3}

skip() {
	echo "1..0 # SKIP $*"
	exit 0
}

PATH=$PATH:/usr/sbin
for program in wrk nginx; do
	command -v $program >/dev/null || skip "$program is not installed"
done
"$python" -c 'import psycopg, pytest' 2>/dev/null || skip "$python has no pytest or no psycopg"
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
echo 1..1
if "$python" "$src/bench/run" --seconds 0.3 --rounds 1 --only smshook --out "$results" >&2 &&
	[ -s "$results/results.csv" ] && [ -s "$results/results.md" ]; then
	echo "ok 1 - bench/run measures and reports"
else
	echo "not ok 1 - bench/run measures and reports"
	exit 1
fi
