#!/bin/sh
# The house's rules of who may know whom, as TAP.  Files of a group include only
# groups above it; some libraries have one door each.
set -u
cd "${SMSHOOK_SRC:-$(dirname "$0")/..}" || exit 99

# A line a group; a file includes only what stands in lines above its own.
groups='err log text clock stdfiles
sha256 screen records watch
conf_value signature
conf_source
conf durable json_scan json_text datetime status migrations pq
event sqlstate spooldir tally hosts rows story when
columns spoolfile
decode auth db spool
store
drain writer
drainer
request
credentials
handle
listener cgi confine fcgi admin
gather
connections
pool
main migrate spoolctl sample token
check purge rejected tail
smshook'

n=0
status=0
report() { # report RESULT TEXT: RESULT is empty when all is well
	n=$((n + 1))
	if [ -z "$1" ]; then
		echo "ok $n - $2"
	else
		echo "not ok $n - $2"
		status=1
		echo "$1" | sed 's/^/# /'
	fi
}

line_of() { # line_of NAME: the number of its group, or nothing
	echo "$groups" | grep -nw -- "$1" | head -n 1 | cut -d: -f1
}

wrong=
for file in src/*.[ch] cgi/*.[ch]; do
	name=$(basename "$file" | sed 's/\.[ch]$//')
	own=$(line_of "$name")
	[ -n "$own" ] || wrong="$wrong
$file is in no group of tests/layers.sh"
	wrong="$wrong$(sed -n 's/^#include "\(.*\)\.h"$/\1/p' "$file" | while read -r header; do
		other=$(line_of "$header")
		[ "$header" = "$name" ] || [ "${other:-99}" -lt "${own:-0}" ] ||
			echo "$file includes $header.h, which is not above it"
	done)"
done
report "$wrong" "files include only groups above their own"

door() { # door PATTERN FILE...: only these files may match
	pattern=$1
	shift
	only=$(printf '%s\n' "$@")
	report "$(grep -lE "$pattern" src/*.[ch] cgi/*.[ch] | grep -vxF "$only")" \
		"only $* may have $pattern"
}
door 'libpq-fe\.h' src/pq.h
door 'fcgiapp\.h' cgi/fcgi.c
door 'json-c/' src/json_text.c
door 'curl/curl\.h' src/sample.c
door 'nettle/' src/sha256.c src/signature.c cgi/credentials.c
door '<ini\.h>' src/conf.c
door 'pthread_mutex_t' src/writer.c
door '[^a-z_](fsync|fdatasync|rename(at2?)?)\(' src/durable.c src/durable.h
door '[^a-z_](strcmp|memcmp|strncmp)\([^)]*(digest|secret)' src/none.c

long=$(awk '
	FNR == 1 { start = 0 }
	/^\{/ { start = FNR }
	/^\}/ && start { if (FNR - start > 80) print FILENAME ":" start; start = 0 }
	' src/*.c cgi/*.c)
report "$long" "no function is longer than 80 lines"
report "$(wc -l src/*.[ch] cgi/*.[ch] | awk '$2 != "total" && $1 > 480 { print $2 ": " $1 }')" \
	"no file is longer than 480 lines"
undocumented=$(sed -n 's/^    {\(SOURCE\|"[a-z]*"\), "\([a-z_]*\)".*/\2/p' src/conf.c |
	while read -r key; do grep -q "^\.It Cm $key" man/smshook.conf.5 || echo "$key"; done)
report "$undocumented" "every key of the configuration is in smshook.conf(5)"

echo "1..$n"
exit $status
