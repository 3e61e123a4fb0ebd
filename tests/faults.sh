#!/bin/sh
# The faults of PostgreSQL and of processes, as TAP, beside tests/system.sh and disks.sh.
# SMSHOOK_FAST=1 leaves them out.
if [ -n "${SMSHOOK_FAST:-}" ]; then
	echo '1..0 # SKIP they take long'
	exit 0
fi
exec "$(dirname "$0")/system.sh" -k 'faults_database or faults_process or ledger' "$@"
