#!/bin/sh
# The faults of tests/system/test_faults_*.py, as TAP, beside tests/system.sh.
# SMSHOOK_FAST=1 leaves them out.
if [ -n "${SMSHOOK_FAST:-}" ]; then
	echo '1..0 # SKIP they take long'
	exit 0
fi
exec "$(dirname "$0")/system.sh" -k 'faults or ledger' "$@"
