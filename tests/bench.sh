#!/bin/sh
# Measurements on this machine, as lines of text: tests/system/bench.py.
# SMSHOOK_BENCH_SECONDS is how long each load lasts (10).
set -eu
src=${SMSHOOK_SRC:-$(cd "$(dirname "$0")/.." && pwd)}
export SMSHOOK_SRC="$src" SMSHOOK_BUILD="${SMSHOOK_BUILD:-$src/build}" PYTHONDONTWRITEBYTECODE=1
exec "${PYTHON:-/usr/bin/python3}" -m pytest -q --tb=short -p no:cacheprovider \
	--rootdir="$src/tests/system" "$@" "$src/tests/system/bench.py"
