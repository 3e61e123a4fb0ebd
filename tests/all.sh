# shellcheck shell=bash disable=SC2154,SC2034
# Sourced by ./quickstart: the whole test suite.  Each build has a folder of its
# own, the sources stay as they are, and the last line adds everything up.

check_gcc() { build_in "$build/gcc" CC=gcc --enable-werror && make -j3 check; }

check_sanitized() {
	build_in "$build/asan" CC=clang --enable-werror --enable-sanitize=address,undefined && make -j3 check-programs
}

check_threads() {
	build_in "$build/tsan" CC=clang --enable-werror --enable-sanitize=thread && make -j3 check-threads
}

check_dist() { cd "$build/gcc" && SMSHOOK_FAST=1 make -j3 distcheck; }

check_lint() { cd "$build/gcc" && make lint; }

# Adds up what automake says of each of its runs in the log: passed failed skipped.
count() {
	awk '/^# (PASS|XFAIL):/ { p += $3 } /^# (FAIL|XPASS|ERROR):/ { f += $3 }
		/^# SKIP:/ { s += $3 } END { print p + 0, f + 0, s + 0 }' "$1"
}

# What the failed tests said, without the good news in between; or else why it
# did not come to tests.
show_failures() { # LOG FOLDER
	local suite suites=()
	mapfile -t suites < <(find "$2" -name test-suite.log -newer "$state/test.start" \
		-exec grep -l '^# \(FAIL\|XPASS\|ERROR\): *[1-9]' {} +)
	for suite in "${suites[@]}"; do
		grep -v '^\(ok\|PASS:\|SKIP:\|[.sxFE]*\.\.\|$\)' "$suite" | head -n 250
		say "all of it: $suite"
	done | sed 's/^/    /'
	if [ ${#suites[@]} = 0 ]; then tail -n 40 "$1" | sed 's/^/    /'; fi
	say "    all of it: $1"
}

one_run() { # NAME FOLDER TITLE
	local log=$state/test-$1.log status=0 now
	: >"$log"
	: >"$state/test.start"
	begin "$3"
	run_job "$log" "check_$1" || status=$?
	read -r -a now < <(count "$log")
	if [ $((now[0] + now[1])) = 0 ] || [ $status != 0 ] && [ "${now[1]}" = 0 ]; then
		now[status != 0]=$((now[status != 0] + 1)) # the run itself is the test
	fi
	end "${now[0]} passed, ${now[1]} failed, ${now[2]} skipped"
	[ "${now[1]}" = 0 ] || show_failures "$log" "$2"
	passed=$((passed + now[0])) failed=$((failed + now[1])) skipped=$((skipped + now[2]))
}

run_tests() {
	local passed=0 failed=0 skipped=0 keep=1
	lock test.lock 'a test run is on'
	log=$state/test-packages.log
	: >"$log"
	steps=6
	watch_for_the_end
	begin 'looking for missing packages'
	install_test_packages
	end
	one_run gcc "$build/gcc" 'gcc: build, make check (some minutes)'
	one_run sanitized "$build/asan" 'clang with address and undefined sanitizers: make check-programs (some minutes)'
	one_run threads "$build/tsan" 'clang with thread sanitizer: make check-threads (some minutes)'
	one_run dist "$build/gcc" 'make distcheck, with its fast tests (a minute)'
	one_run lint "$build/gcc" 'make lint'
	say "$passed passed, $failed failed, $skipped skipped"
	[ "$failed" = 0 ]
}
