#!/bin/sh
# System tests (pytest) with real web servers and a private PostgreSQL, as TAP.
#
#	tests/system.sh			all but what tests/cases.sh, faults.sh, disks.sh, readers.sh,
#					commands.sh and examples.sh run
#	tests/system.sh ARGUMENT...	arguments go to pytest: -k nginx, -x, ...
#
# SMSHOOK_BUILD is the folder of the programs.  SMSHOOK_FAST=1 leaves out what
# takes long; SMSHOOK_POLL_SECONDS, SMSHOOK_STRICT, SMSHOOK_TEST_PATIENCE and
# SMSHOOK_TEST_KEEP are explained in tests/system/README.
set -eu

src=${SMSHOOK_SRC:-$(cd "$(dirname "$0")/.." && pwd)}
export SMSHOOK_SRC="$src"
export SMSHOOK_BUILD="${SMSHOOK_BUILD:-$src/build}"
# A plain python3 may be another one, without the packages of the system.
python=${PYTHON:-/usr/bin/python3}

skip() {
	echo "1..0 # SKIP $*"
	exit 0
}

"$python" -c 'import psycopg, pytest' 2>/dev/null ||
	skip "$python has no pytest or no psycopg"
[ $# != 0 ] || set -- -k 'not faults and not soak and not booted' -m 'not cases and not readers and not commands and not examples'
# pytest's own report goes to stderr, TAP to what stdout was.
export SMSHOOK_TAP_FD=3 PYTHONDONTWRITEBYTECODE=1
exec "$python" -m pytest -q --tb=short -p no:cacheprovider \
	--rootdir="$src/tests/system" "$@" "$src/tests/system" 3>&1 1>&2
