#!/bin/bash
# make matrix: builds and tests in root file systems of Debian 11, 12 and 13, each
# with its own compiler, libraries, PostgreSQL and web servers, then boots them
# with systemd.
#
#	tests/matrix.sh TARBALL [RELEASE...]	what `make dist` made; 11 12 13
#
# It needs root, mmdebstrap, systemd-nspawn and a mirror of Debian: MIRROR, or the
# one that apt uses here.  ONLY="unit system" leaves out the other steps.
# The root file systems are kept beside SMSHOOK_BUILD, in matrix/, and what the
# tests change is not: a second run takes them as they are.
# shellcheck disable=SC2016,SC2317	# for other shells; called by name
set -u

src=${SMSHOOK_SRC:-$(cd "$(dirname "$0")/.." && pwd -P)}
build=${SMSHOOK_BUILD:-$src/build}
state=$build/matrix
steps_all='build unit sql system boot'
# shellcheck source=tests/lib.sh
. "$src/tests/lib.sh"
# shellcheck source=tests/all.sh
. "$src/tests/all.sh"

packages=(gcc libc6-dev make autoconf automake pkg-config libfcgi-dev libjson-c-dev
	libpq-dev libinih-dev nettle-dev libcurl4-gnutls-dev libcmocka-dev curl nginx-light
	postgresql apache2-bin libapache2-mod-fcgid lighttpd pgbouncer spawn-fcgi strace valgrind wrk
	python3-pytest python3-psycopg python3-seccomp systemd systemd-sysv iproute2
	procps xz-utils)

finish() {
	trap '' HUP INT QUIT PIPE TERM
	end_job
	rm -rf "$state"/*/root.new
}

# ------------------------------------------------------- root file systems

name_of() { case $1 in 11) echo bullseye ;; 12) echo bookworm ;; 13) echo trixie ;; esac; }

postgres_of() { case $1 in 11) echo 13 ;; 12) echo 15 ;; 13) echo 17 ;; esac; }

find_mirror() {
	[ -n "${MIRROR:-}" ] || MIRROR=$(apt-get indextargets --format '$(REPO_URI)' \
		'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 2>/dev/null | head -n 1)
	[ -n "$MIRROR" ] || die 'say where Debian is: MIRROR=http://.../debian'
}

# Debian 11 has no psycopg 3: it gets that of 12, and nothing else of 12.
sources() {
	say "deb $MIRROR $1 main"
	[ "$1" != bullseye ] || say "deb $MIRROR bookworm main"
}

pin_psycopg() {
	if [ "$1" != bullseye ]; then
		say true
	else
		say 'mkdir -p "$1/etc/apt/preferences.d" && printf "%s\n" \
		"Package: *" "Pin: release n=bookworm" "Pin-Priority: -1" "" \
		"Package: python3-psycopg python3-typing-extensions" \
		"Pin: release n=bookworm" "Pin-Priority: 990" >"$1/etc/apt/preferences.d/psycopg"'
	fi
}

wanted() { # RELEASE: what its root is made of, one line
	say "$MIRROR ${packages[*]} postgresql-$(postgres_of "$1")-pgtap"
}

make_root() { # RELEASE
	local root=$state/$1/root include
	include=$(wanted "$1")
	include=${include#* }
	rm -rf "$root" "$root.new"
	sources "$(name_of "$1")" | mmdebstrap --variant=minbase --mode=root \
		--include="${include// /,}" --setup-hook="$(pin_psycopg "$(name_of "$1")")" \
		--customize-hook='chroot "$1" useradd --create-home builder' \
		"$(name_of "$1")" "$root.new" - &&
		mv "$root.new" "$root" && wanted "$1" >"$state/$1/wanted"
}

# ------------------------------------------------------------- inside them

# in_root RELEASE COMMAND...: in namespaces of its own, which take all mounts and
# processes with them when they end; the network is a loopback alone.  What it
# writes goes to a layer over the root file system.
in_root() {
	exec unshare --mount --pid --net --ipc --uts --fork --kill-child --propagation private \
		"$src/tests/matrix.sh" --inside "$state/$1" "${@:2}"
}

inside() { # FOLDER COMMAND...
	local top=$1/top
	mkdir -p "$1/upper" "$1/work" "$top" &&
		mount -t overlay overlay \
			-o "lowerdir=$1/root,upperdir=$1/upper,workdir=$1/work" "$top" || exit
	mkdir -p "$top/source/shared"
	[ ! -d "$src/../shared" ] || mount --bind -o ro "$src/../shared" "$top/source/shared"
	if [ "$2" = boot ]; then # systemd-nspawn mounts the rest, and needs these itself
		mount -t proc proc /proc && mount -t tmpfs tmpfs /run || exit
	else
		mount --rbind /dev "$top/dev" && mount -t proc proc "$top/proc" || exit
	fi
	top=$top "${@:2}"
}

as_builder() { # COMMAND...: as a plain user, with a clean environment
	chroot "$top" sh -c 'ip link set lo up && ip address add 192.0.2.1 dev lo'
	mkdir -p "$top/run/systemd" "$top/outside" && cd "$top" || exit
	# In a chroot there could be no user namespace.
	pivot_root . outside && umount -l /outside || exit
	exec env -i PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME=/home/builder \
		LC_ALL=C.UTF-8 "${settings[@]}" setpriv --reuid=builder --regid=builder \
		--init-groups -- sh -c "cd /source/build && $1"
}

build() { # TARBALL
	mkdir -p "$top/source/build" && tar -xf "$1" -C "$top/source" &&
		mv "$top"/source/smshook-* "$top/source/smshook" &&
		chroot "$top" chown -R builder: /source/smshook /source/build || exit
	as_builder '(cd ../smshook && autoreconf -fi) && ../smshook/configure \
		--prefix=/usr --sysconfdir=/etc --localstatedir=/var --libexecdir=/usr/lib \
		--enable-werror && make -j2 && make -j2 check TESTS='
}

tests() { as_builder "make check TESTS='$1'"; }

# It runs tests/booted.sh as a service, and goes when that has ended.
boot() {
	local units=$top/etc/systemd/system status=0 name
	cp "$top/source/smshook/tests/booted.service" "$units" &&
		mkdir -p "$units/multi-user.target.wants" &&
		ln -s ../booted.service "$units/multi-user.target.wants/" || exit
	for name in apache2 lighttpd pgbouncer; do # nginx has the port
		ln -sf /dev/null "$units/$name.service"
	done
	tr -d - </proc/sys/kernel/random/uuid >"$top/etc/machine-id"
	# Whatever control groups this machine has, a newer systemd wants version 2.
	SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --directory="$top" --boot \
		--private-network --register=no --keep-unit --link-journal=no --console=pipe \
		--kill-signal=SIGRTMIN+3 || status=$?
	cat "$top/booted.log" "$top/booted.tap"
	awk '/^ok.*# SKIP/ { s++; next } /^ok / { p++ } /^not ok / { f++ }
		END { print "# PASS:", p + 0 "\n# FAIL:", f + 0 "\n# SKIP:", s + 0 }' "$top/booted.tap"
	exit "$status"
}

# -------------------------------------------------------------------- steps

versions() { # RELEASE
	chroot "$state/$1/root" dpkg-query -W -f '${Package} ${Version}\n' gcc libc6-dev \
		libjson-c-dev libfcgi-dev "postgresql-$(postgres_of "$1")" nginx-light systemd |
		sed 's/[0-9]*://; s/-[^-]*$//; s/libc6-dev/glibc/; s/-dev//; s/-light//' | paste -sd, |
		sed 's/,/, /g; s/^/    /'
}

one_step() { # RELEASE NAME TITLE COMMAND...
	local log=$state/$1/$2.log status=0 now
	case " ${ONLY:-$steps_all} build " in *" $2 "*) ;; *) return ;; esac
	: >"$log"
	: >"$state/test.start"
	begin "Debian $1: $3"
	run_job "$log" "${@:4}" || status=$?
	read -r -a now < <(count "$log")
	if [ $status != 0 ] && [ "${now[1]}" = 0 ]; then now[1]=1; fi
	case "$2 $status" in
	'build 0') end ;;
	*) end "${now[0]} passed, ${now[1]} failed, ${now[2]} skipped" ;;
	esac
	[ "${now[1]}" = 0 ] || show_failures "$log" "$state/$1/upper/source/build"
	passed=$((passed + now[0])) failed=$((failed + now[1])) skipped=$((skipped + now[2]))
	return $status
}

one_release() { # RELEASE
	local passed=0 failed=0 skipped=0
	mkdir -p "$state/$1"
	rm -rf "$state/$1/upper" "$state/$1/work"
	begin "Debian $1: its root file system"
	if [ "$(cat "$state/$1/wanted" 2>/dev/null)" = "$(wanted "$1")" ]; then
		end 'from an earlier run'
	else
		: >"$state/$1/root.log"
		run_job "$state/$1/root.log" make_root "$1" ||
			fail 'the root file system could not be made' "$state/$1/root.log"
		end
	fi
	versions "$1"
	if one_step "$1" build 'build' in_root "$1" build "$tarball"; then
		one_step "$1" unit 'unit tests' in_root "$1" tests '$(check_PROGRAMS)'
		one_step "$1" sql 'SQL tests' in_root "$1" tests tests/sql.sh
		one_step "$1" system 'system tests (some minutes)' in_root "$1" tests 'tests/cases.sh tests/system.sh'
		one_step "$1" boot 'booted, with its systemd' in_root "$1" boot
	fi
	[ "$failed" != 0 ] || rm -rf "$state/$1/upper" "$state/$1/work"
	summary="${summary}Debian $1: $passed passed, $failed failed, $skipped skipped
"
	[ "$failed" = 0 ] || status=1
}

main() {
	[ -f "${1-}" ] || die 'which tarball?  make matrix makes it'
	[ "$(id -u)" = 0 ] || die 'root is needed, for chroot and mount: sudo make matrix'
	for name in mmdebstrap systemd-nspawn unshare; do
		command -v $name >/dev/null || die "$name is missing: install mmdebstrap systemd-container util-linux"
	done
	tarball=$(realpath "$1")
	shift
	[ $# != 0 ] || set -- 11 12 13
	for name; do [ -n "$(name_of "$name")" ] || die "Debian $name is none of 11, 12 and 13"; done
	mkdir -p "$state" || exit
	exec 9>>"$state/lock"
	flock -n 9 || die 'it runs here already'
	find_mirror
	watch_for_the_end
	status=0 summary='' job_limit=1800 steps=6
	for name; do
		step=0
		one_release "$name"
	done
	printf '\n%s' "$summary"
	exit "$status"
}

case ${1-} in
--inside)
	settings=() # the tests' own, such as SMSHOOK_FAST
	for name in "${!SMSHOOK_@}"; do
		case $name in *_SRC | *_BUILD) ;; *) settings+=("$name=${!name}") ;; esac
	done
	inside "${@:2}"
	;;
*) main "$@" ;;
esac
exit
