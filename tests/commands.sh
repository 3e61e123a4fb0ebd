#!/bin/sh
# System tests of the command smshook, which has no threads, as TAP.
exec "$(dirname "$0")/system.sh" -m commands "$@"
