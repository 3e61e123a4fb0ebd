# shellcheck shell=bash disable=SC2154
# Sourced by ./quickstart and tests/matrix.sh: messages, steps with progress,
# building.  The caller sets src and build, and has a function finish().

me=${0##*/} job='' held='' caught='' is_mid_line='' step=0 steps=7

say() { printf '%s\n' "$*"; }

die() {
	[ -z "$is_mid_line" ] || printf '\n'
	printf '%s: %s\n' "$me" "$*" >&2
	exit 1
}

# fail WHAT LOG: the end of the log, then the way to the rest of it.
fail() {
	[ -z "$is_mid_line" ] || printf '\n'
	is_mid_line=
	tail -n "${3:-20}" "$2" | sed 's/^/    /' >&2
	die "$1; the end of its log is above, all of it is in $2"
}

begin() {
	step=$((step + 1))
	SECONDS=0
	is_mid_line=1
	printf '[%d/%d] %s ...' "$step" "$steps" "$1"
}

end() {
	is_mid_line=
	say " ${1:-done} ($SECONDS s)"
}

# run_job LOG COMMAND...: in a process group of its own with a dot each five
# seconds; never in the foreground, where bash would not hear a signal.
run_job() {
	local tick=0 limit=${job_limit:-900} status
	hold_signals
	set -m
	"${@:2}" >>"$1" 2>&1 </dev/null 9>&- &
	job=$!
	set +m
	release_signals
	while kill -0 "$job" 2>/dev/null; do
		sleep 0.2
		tick=$((tick + 1))
		[ $((tick % 25)) != 0 ] || printf .
		if [ $tick = $((limit * 5)) ]; then
			say "$me: stopped after $limit seconds" >>"$1"
			kill -TERM -- "-$job"
		fi
	done
	wait "$job"
	status=$?
	job=
	return $status
}

# The whole group: a compiler may outlive its make by a moment.
end_job() {
	local n
	[ -n "$job" ] || return 0
	for n in {1..200}; do
		kill -0 -- "-$job" 2>/dev/null || break
		case $n in
		1) kill -TERM -- "-$job" ;;
		150) kill -KILL -- "-$job" ;;
		esac
		sleep 0.1
	done
	job=
}

# A signal ends this script, and finish() stops what it started.
watch_for_the_end() {
	trap finish EXIT
	trap 'on_signal 129' HUP
	trap 'on_signal 130' INT
	trap 'on_signal 131' QUIT
	trap 'on_signal 141' PIPE
	trap 'on_signal 143' TERM
}

on_signal() {
	caught=$1
	[ -n "$held" ] || exit "$1"
}

# Between a fork and the note of its process id a signal has to wait.
hold_signals() { held=1; }

release_signals() {
	held=
	[ -z "$caught" ] || exit "$caught"
}

# ---------------------------------------------------------------- building

# build_in FOLDER CONFIGURE-ARGUMENT...
build_in() {
	(
		flock 7 # two builds: one autoreconf
		cd "$src" || exit
		[ configure -nt configure.ac ] && [ -e Makefile.in ] || autoreconf -fi
	) 7>>"$build/.autoreconf" || return
	mkdir -p "$1" && cd "$1" || return
	[ -e Makefile ] || "$src/configure" "${@:2}" || return
	make -j"$(nproc)"
}
