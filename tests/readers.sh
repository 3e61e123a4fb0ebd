#!/bin/sh
# System tests of applications that read, as TAP: no program of ours does the
# work, so they run without sanitizers.
exec "$(dirname "$0")/system.sh" -m readers "$@"
