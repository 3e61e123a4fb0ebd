#!/bin/sh
# clang-format, shellcheck, man pages and the layers; what is not installed fails.
set -u
cd "$(dirname "$0")/.." || exit 1
status=0
for step in \
	"clang-format --dry-run -Werror src/*.[ch] cgi/*.[ch] tests/unit/*.[ch] tests/fuzz/*.[ch] bench/*.c bench/peers/*.c" \
	"shellcheck -x quickstart .ci/run examples/start sql/embed.sh tests/*.sh" \
	"mandoc -Tlint -Wwarning man/*" \
	"tests/layers.sh"; do
	if sh -c "$step" >&2; then
		echo "ok - $step"
	else
		echo "not ok - $step"
		status=1
	fi
done
exit $status
