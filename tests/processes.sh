# shellcheck shell=bash disable=SC2154
# Sourced by ./quickstart: the processes of the trial, and its folder.
# One line each in $state/pids: name, process id, and when it started, so that
# a number used again by the system is never taken for ours.

started_at() {
	local stat
	stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
	# shellcheck disable=SC2086 # split it: state is field 1, start time 20
	set -- ${stat##*) }
	case $1 in Z | X) ;; *) say "${20}" ;; esac
}

# launch NAME COMMAND...: in a session of its own, where neither Ctrl-C nor a
# closed terminal reaches it; finish() stops it.
launch() {
	hold_signals
	setsid "${drop[@]}" env -i "PATH=$PATH" "LC_ALL=$LC_ALL" "${@:2}" \
		>"$state/$1.log" 2>&1 </dev/null 9>&- &
	say "$1 $! $(started_at $!)" >>"$state/pids"
	release_signals
}

is_alive() { # PID START
	[ -n "$2" ] && [ "$(started_at "$1")" = "$2" ]
}

is_up() { # NAME
	local line
	line=$(grep "^$1 " "$state/pids" | tail -n 1)
	# shellcheck disable=SC2086
	set -- $line
	is_alive "$2" "${3-}"
}

is_any_up() {
	local name pid start
	[ -e "$state/pids" ] || return
	while read -r name pid start; do
		! is_alive "$pid" "$start" || return 0
	done <"$state/pids"
	return 1
}

wait_for() { # NAME COMMAND...: 30 s at most, and only while NAME lives
	local n
	for n in {1..150}; do
		! "${@:2}" >/dev/null 2>&1 || return 0
		is_up "$1" || fail "$1 has stopped" "$state/$1.log"
		sleep 0.2
	done
	fail "$1 did not get ready within 30 s" "$state/$1.log"
}

stop_one() { # NAME PID START
	local n signal=TERM
	[ "$1" != postgres ] || signal=INT # TERM would wait for its clients
	for n in {1..100}; do
		is_alive "$2" "$3" || return 0
		case $n in
		1) kill -s $signal "$2" ;;
		80) kill -s QUIT "$2" ;;
		95) kill -s KILL "$2" ;;
		esac
		sleep 0.1
	done
	say "quickstart: $1 (process $2) does not stop" >&2
}

stop_all() {
	local name pid start folder
	if [ -e "$state/pids" ]; then
		while read -r name pid start; do
			stop_one "$name" "$pid" "$start"
		done < <(tac "$state/pids")
	fi
	folder=$(cat "$state/run" 2>/dev/null)
	case $folder in /tmp/smshook.*) rm -rf "$folder" ;; esac
	rm -f "$state/pids" "$state/run" "$state/env"
}
