#!/bin/sh
# The list of requests and outcomes, in each way to the receiver, as TAP.
exec "$(dirname "$0")/system.sh" -m cases "$@"
