# shellcheck shell=bash disable=SC2154
# Sourced by ./quickstart: Debian packages, without their services.

is_installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# install_missing PACKAGE...: those that are not there.  A command of the same
# name counts too, wherever it came from; a ? before a name: if apt knows it.
install_missing() {
	local name missing=() command
	for name; do
		command -v "${name#\?}" >/dev/null || is_installed "${name#\?}" ||
			missing+=("$name")
	done
	[ ${#missing[@]} != 0 ] || return 0
	command=(bash "$src/quickstart" install-packages "${missing[@]}")
	if ! command -v apt-get >/dev/null; then
		die "these are missing, and there is no apt-get to install them: ${missing[*]}"
	elif [ "$(id -u)" != 0 ]; then
		if ! command -v sudo >/dev/null || ! { sudo -n true 2>/dev/null || sudo -v; }; then
			die "install these as root, then try again: apt-get install ${missing[*]#\?}"
		fi
		command=(sudo "${command[@]}")
	fi
	printf '\n    missing: %s\n    installing them (a minute or two) ...' "${missing[*]#\?}"
	# In the foreground: sudo may ask for a password, and an interrupted dpkg
	# would be left half way, so a signal has to wait for it.
	"${command[@]}" 2>&1 </dev/null 9>&- | log_packages "$log"
	[ "${PIPESTATUS[0]}" = 0 ] || fail "the installation of packages failed" "$log"
}

# A dot for every ten steps; the rest goes to the log.
log_packages() {
	local line n=0
	while IFS= read -r line; do
		printf '%s\n' "$line" >>"$1"
		case $line in
		Unpacking* | 'Setting up'*)
			n=$((n + 1))
			[ $((n % 10)) != 0 ] || printf .
			;;
		'services left'*) printf '\n    %s' "$line" ;;
		esac
	done
}

policy=/usr/sbin/policy-rc.d
cluster_conf=/etc/postgresql-common/createcluster.d/smshook-quickstart.conf

# Services of the packages that we may bring, as service:package; and all php*-fpm.
services='nginx:nginx-common postgresql:postgresql-common apache2:apache2
	apache-htcacheclean:apache2 lighttpd:lighttpd pgbouncer:pgbouncer'

# As root, by `quickstart install-packages`.  No service that comes with a
# package is started, no database cluster made, and none is left enabled.
install_packages() {
	local pair name wanted=()
	exec 8</var/lib/dpkg && flock 8 # two quickstarts: one after the other
	new=
	trap 'exit 1' INT TERM HUP
	trap release_services EXIT
	hold_services
	export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l
	apt-get update || say 'apt-get update failed: going on with the lists that are here'
	for pair in $services $(apt-cache pkgnames php | sed -n 's/^php[0-9][0-9.]*-fpm$/&:&/p'); do
		is_installed "${pair#*:}" || new="$new $pair"
	done
	for name; do
		case $name in
		\?*) ! apt-cache show "${name#\?}" >/dev/null 2>&1 || wanted+=("${name#\?}") ;;
		*) wanted+=("$name") ;;
		esac
	done
	apt-get install -y --no-install-recommends \
		-o DPkg::Lock::Timeout=300 "${wanted[@]}" || exit 1
}

# The policy file frees itself should we be killed before we can delete it.
hold_services() {
	if [ ! -e "$policy" ] || grep -qs smshook "$policy"; then
		printf '#!/bin/sh\n%s\n%s\n' \
			"# smshook's quickstart (process $$) is installing packages; a leftover may be deleted" \
			"[ ! -d /proc/$$ ] || exit 101" >"$policy"
		chmod 755 "$policy"
	fi
	if ! is_installed postgresql-common; then
		mkdir -p "${cluster_conf%/*}"
		say 'create_main_cluster = false' >"$cluster_conf"
	fi
}

# Also when apt failed or was interrupted half way.
release_services() {
	local pair off=
	trap '' HUP INT PIPE TERM
	for pair in $new; do
		[ -n "$(dpkg-query -W -f '${Version}' "${pair#*:}" 2>/dev/null)" ] || continue
		switch_off "${pair%:*}"
		off="$off ${pair%:*}"
	done
	[ -z "$off" ] || say "services left switched off:$off"
	rm -f "$cluster_conf"
	is_installed postgresql-common ||
		rmdir -p "${cluster_conf%/*}" 2>/dev/null # ours, if nothing is in them
	if grep -qs smshook "$policy"; then rm -f "$policy"; fi
}

switch_off() {
	if command -v systemctl >/dev/null; then
		if [ -d /run/systemd/system ]; then systemctl stop "$1"; fi
		systemctl disable "$1"
	fi
	if [ -e "/etc/init.d/$1" ]; then update-rc.d "$1" disable; fi
}

# ---------------------------------------------------------------- lists

install_build_packages() {
	set -- gcc libc6-dev make autoconf automake pkg-config libfcgi-dev \
		libjson-c-dev libpq-dev libinih-dev nettle-dev curl nginx
	has_libcurl || set -- "$@" libcurl4-gnutls-dev
	pg_bin=$(pg_bindir) || set -- "$@" postgresql
	install_missing "$@"
	pg_bin=$(pg_bindir) || die 'PostgreSQL 13 or later was not found: install the package postgresql'
	pg_bin=$(dirname "$(readlink -f "$pg_bin/initdb")") # where psql is, too
}

# Any of them will do, and they conflict: none must drive out another.
has_libcurl() {
	pkg-config --exists libcurl 2>/dev/null || is_installed libcurl4-openssl-dev ||
		is_installed libcurl4-nss-dev
}

install_test_packages() {
	install_build_packages
	install_missing libcmocka-dev python3-pytest python3-psycopg apache2-bin wrk \
		libapache2-mod-fcgid lighttpd pgbouncer spawn-fcgi clang clang-format \
		'?libclang-rt-dev' shellcheck valgrind mandoc strace faketime xfsprogs \
		btrfs-progs e2fsprogs mount xz-utils systemd python3-seccomp '?php-cli' '?php-pgsql' '?php-fpm' \
		"postgresql-$("$pg_bin/postgres" -V | sed 's/[^0-9]*\([0-9]*\).*/\1/')-pgtap"
	install_node pg@8 playwright-core@1
	install_browser
}

# Packages of Node's, for the programs of docs/ and examples/ and for the browser's tests.
# They are kept apart: where they cannot be had, only the tests of these are skipped.
install_node() { # PACKAGE@VERSION...
	local package missing=() folder=$build/node
	export NODE_PATH=$folder/node_modules # for the tests
	command -v npm >/dev/null || (install_missing '?nodejs' '?npm')
	for package; do
		has_node "$package" && continue
		missing+=("$package")
		rm -rf "${NODE_PATH:?}/${package%@*}" # half installed
	done
	[ ${#missing[@]} != 0 ] || return 0
	if command -v npm >/dev/null; then
		timeout 120 npm install --prefix "$folder" --cache "$folder/cache" --no-audit \
			--no-fund --no-package-lock --ignore-scripts --fetch-retries 1 \
			"${missing[@]}" >>"$log" 2>&1 </dev/null 9>&-
		rm -rf "$folder/cache"
	fi
	for package in "${missing[@]}"; do
		has_node "$package" ||
			printf "\n    Node's package %s cannot be installed: its tests are skipped ..." "${package%@*}"
	done
}

has_node() {
	NODE_PATH="$NODE_PATH:/usr/share/nodejs" \
		node -e 'require(process.argv[1])' "${1%@*}" >/dev/null 2>&1 </dev/null
}

install_browser() {
	install_missing '?chromium' '?fonts-noto-color-emoji' '?fonts-noto-core'
	command -v chromium >/dev/null ||
		printf '\n    There is no package chromium: the tests with a browser are skipped ...'
}

# What the examples need.  What is there counts, wherever it came from.
install_example_packages() {
	local wanted=()
	export NODE_PATH=$build/node/node_modules
	command -v node >/dev/null || wanted+=(nodejs)
	has_node pg || command -v npm >/dev/null || wanted+=('?node-pg')
	has_php_pgsql || wanted+=(php-cli php-pgsql)
	has_psycopg || wanted+=('?python3-psycopg')
	install_missing "${wanted[@]}"
	has_node pg || install_node pg@8 >>"$log"
	has_node pg || die "Node's package pg could not be installed: install npm, or node-pg, then try again"
	has_php_pgsql || die 'PHP has no pdo_pgsql: install php-pgsql of this PHP, then try again'
	has_psycopg || die '/usr/bin/python3 has no psycopg: install version 3 of it, then try again'
}

has_php_pgsql() { php -m 2>/dev/null | grep -qx pdo_pgsql; }

has_psycopg() { /usr/bin/python3 -c 'import psycopg' 2>/dev/null; }
