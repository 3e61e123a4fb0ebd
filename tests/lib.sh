# shellcheck shell=bash
# Sourced by ./quickstart: messages, steps with progress, building.
# The caller sets src, build, job, step and steps.

say() { printf '%s\n' "$*"; }

die() {
	printf 'quickstart: %s\n' "$*" >&2
	exit 1
}

# fail WHAT LOG: the end of the log, then the way to the rest of it.
fail() {
	printf '\n' >&2
	tail -n "${3:-20}" "$2" | sed 's/^/    /' >&2
	die "$1; the end of its log is above, all of it is in $2"
}

begin() {
	step=$((step + 1))
	SECONDS=0
	printf '[%d/%d] %s ' "$step" "$steps" "$1 ..."
}

end() { say " ${1:-done} ($SECONDS s)"; }

# run_job LOG COMMAND...: in a process group of its own with a dot each five
# seconds; never in the foreground, where bash would not hear a signal.
run_job() {
	local tick=0 limit=1200 status
	set -m
	"${@:2}" >>"$1" 2>&1 </dev/null 9>&- &
	job=$!
	set +m
	while kill -0 "$job" 2>/dev/null; do
		sleep 0.2
		tick=$((tick + 1))
		[ $((tick % 25)) != 0 ] || printf .
		if [ $tick = $((limit * 5)) ]; then
			say "quickstart: stopped after $limit seconds" >>"$1"
			kill -TERM -- "-$job"
		fi
	done
	wait "$job"
	status=$?
	job=
	return $status
}

end_job() {
	[ -n "$job" ] || return 0
	kill -TERM -- "-$job" 2>/dev/null
	wait "$job" 2>/dev/null
	job=
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
