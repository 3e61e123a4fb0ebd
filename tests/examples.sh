#!/bin/sh
# The applications of examples/ in a real browser, as TAP; what they look like is
# in the build folder's screenshots.
exec "$(dirname "$0")/system.sh" -m examples "$@"
