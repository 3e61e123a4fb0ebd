# A private PostgreSQL for tests: POSIX sh functions, to be read with `.`.
#
#	pg_start DIR	start the server of DIR, made first if it is not there
#	pg_stop DIR	stop it; no error if it does not run
#	pg_bindir	print the folder of PostgreSQL's server programs
#
# The server listens on a Unix socket in DIR and nowhere else, so any number of
# them run side by side: connect with host=DIR user=postgres, no password.
# DIR is open to nobody but the user that the server runs as (and root), who
# must be able to reach it.  Remove DIR after pg_stop.
# shellcheck shell=sh

# PostgreSQL 13 or later; of several the newest.  PG_BINDIR overrides.
pg_bindir() {
	if [ -n "${PG_BINDIR:-}" ]; then
		printf '%s\n' "$PG_BINDIR"
		return
	fi
	for pg_initdb in "$(pg_config --bindir 2>/dev/null)/initdb" \
		"$(command -v initdb)" /usr/lib/postgresql*/bin/initdb \
		/usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb \
		/usr/local/pgsql*/bin/initdb
	do
		[ -x "$pg_initdb" ] || continue
		pg_version=$("$pg_initdb" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
		[ "$pg_version" -lt 13 ] ||
			echo "$pg_version $(dirname "$(readlink -f "$pg_initdb")")"
	done | sort -rnu | sed -n '1s/^[0-9]* //p' | grep .
}

# The server refuses to be root.  The folder that one is in may be closed to
# the other user, hence the cd.
pg_as_user() (
	cd "$1" || exit
	shift
	if [ "$(id -u)" -ne 0 ]; then
		exec "$@"
	fi
	user=$(pg_user)
	exec setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups -- \
		"$@"
)

pg_user() {
	if id postgres >/dev/null 2>&1; then echo postgres; else echo nobody; fi
}

# Data that a power cut may take: fsync costs seconds and shows nothing here.
pg_create() {
	pg_as_user "$1" "$pg_bin/initdb" -D "$1/data" -U postgres -A trust \
		-E UTF8 --locale=C.UTF-8 --no-sync >"$1/initdb.log" 2>&1 || {
		cat "$1/initdb.log" >&2
		return 1
	}
	cat >>"$1/data/postgresql.conf" <<-END
		listen_addresses = ''
		unix_socket_directories = '$1'
		port = 5432
		fsync = off
	END
}

# Also sets what psql, createdb and libpq need to find it without arguments.
pg_start() {
	mkdir -p "$1" && chmod 700 "$1" || return
	[ "$(id -u)" -ne 0 ] || chown "$(pg_user)" "$1" || return
	pg_bin=$(pg_bindir) || {
		echo 'PostgreSQL 13 or later (initdb, pg_ctl) is not installed' >&2
		return 1
	}
	[ -f "$1/data/PG_VERSION" ] || pg_create "$1" || return
	pg_as_user "$1" "$pg_bin/pg_ctl" -D "$1/data" -l "$1/server.log" -s -w \
		start >&2 || {
		cat "$1/server.log" >&2
		return 1
	}
	unset PGHOSTADDR PGPASSWORD PGSERVICE PGOPTIONS PGCLIENTENCODING PGSSLMODE \
		PGTARGETSESSIONATTRS
	PGHOST=$1 PGPORT=5432 PGUSER=postgres PGDATABASE=postgres PATH=$pg_bin:$PATH
	export PGHOST PGPORT PGUSER PGDATABASE PATH
}

# Immediate: a test may have left a backend that would not end by itself.
pg_stop() {
	[ -f "$1/data/postmaster.pid" ] || return 0
	pg_bin=$(pg_bindir) || return
	pg_as_user "$1" "$pg_bin/pg_ctl" -D "$1/data" -m immediate -s -w stop >&2
}
