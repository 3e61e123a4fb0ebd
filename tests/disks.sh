#!/bin/sh
# The faults of disks, and power cuts, as TAP.
# SMSHOOK_FAST=1 leaves them out.
if [ -n "${SMSHOOK_FAST:-}" ]; then
	echo '1..0 # SKIP they take long'
	exit 0
fi
exec "$(dirname "$0")/system.sh" -k 'faults_disk or faults_power' "$@"
