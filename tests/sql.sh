#!/bin/sh
# pgTAP tests of sql/*.sql on a private PostgreSQL, as one TAP stream.
#
#	tests/sql.sh [NAME...]	all of tests/sql/, or those named (ingest, ...)
#
# Each file gets a database of its own, so a test may commit.  The schema is
# put in by a role that is no superuser, as on a shared host.
set -eu

src=${SMSHOOK_SRC:-$(cd "$(dirname "$0")/.." && pwd)}
dir=
# shellcheck source=/dev/null
. "$src/tests/pg.sh"

skip() {
	echo "1..0 # SKIP $*"
	exit 0
}

clean() {
	[ -n "$dir" ] || return 0
	pg_stop "$dir"
	rm -rf "$dir"
}

sql() {
	psql -XqAt -v ON_ERROR_STOP=1 "$@"
}

# A test that waits for ever fails.
make_template() {
	sql >/dev/null <<-END
		alter system set statement_timeout = '300s';
		select pg_reload_conf();
		create role smshook_owner login;
		create database template_smshook;
		grant create on database template_smshook to smshook_owner;
	END
	for file in "$src"/sql/[0-9]*.sql; do
		sql -1 -U smshook_owner -d template_smshook -f "$file"
	done
	for file in "$src/sql/roles.sql" "$src/tests/sql/lib/t.sql"; do
		sql -1 -d template_smshook -f "$file"
	done
}

run_file() {
	createdb -T template_smshook "$1"
	echo "@begin $1"
	status=0
	sql -d "$1" -v src="$src" -f "$src/tests/sql/$1.sql" || status=$?
	echo "@end $status"
}

# Numbers all tests in one row, adds one a file that says whether it ran to its
# end, and prints the plan last, where it is known.
one_stream() {
	awk '
	function result(good, text) {
		printf "%sok %d - %s: %s\n", good ? "" : "not ", ++n, file, text
		if (!good) bad++
	}
	/^@begin / { file = $2; planned = "none"; ran = 0; next }
	/^@end / {
		if (good_end = ($2 == 0 && planned == ran)) result(1, "ran to its end")
		else result(0, "ran to its end (plan " planned ", ran " ran \
			", psql exit " $2 ")")
		fflush()
		next
	}
	/^1\.\.[0-9]+/ && planned == "none" {
		planned = substr($1, 4)
		if (/# SKIP/) result(1, substr($0, 6))
		next
	}
	/^(not )?ok [0-9]+/ {
		good = !/^not /
		todo = / # TODO/
		ran++
		sub(/^(not )?ok [0-9]+( - )?/, "")
		result(good, $0)
		if (!good && todo) bad--
		next
	}
	/^#/ { print }
	END { print "1.." n + 0; exit bad > 0 }'
}

bin=$(pg_bindir) || skip 'PostgreSQL 13 or later (initdb, pg_ctl) is not installed'
trap clean EXIT
trap 'exit 1' HUP INT TERM
dir=$(mktemp -d "${TMPDIR:-/tmp}/smshook-sql.XXXXXX")
pg_start "$dir"
pgtap=$(sql -c "select count(*) from pg_available_extensions where name = 'pgtap'")
[ "$pgtap" = 1 ] || skip "pgtap is not installed for the PostgreSQL of $bin"
make_template

if [ $# -eq 0 ]; then
	for file in "$src"/tests/sql/*.sql; do
		set -- "$@" "$(basename "$file" .sql)"
	done
fi
# In the background, for a shell that waits in the foreground hears no signal.
for name; do
	run_file "$name"
done | one_stream &
wait $!
