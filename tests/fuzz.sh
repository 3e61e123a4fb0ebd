#!/bin/bash
# Fuzzing by libFuzzer with address and undefined sanitizers, two targets at a time.
#
#	tests/fuzz.sh SECONDS [TARGET...]	all targets, or these, SECONDS each
#
# Builds in $SMSHOOK_BUILD/fuzz.  What is new goes to corpus/TARGET there and is where
# the next run begins.  Target json has JSONTestSuite as further seeds, and half of
# its time a private PostgreSQL as its judge, where these are there.  Ends with 1 when
# a promise was broken: the last lines tell the file and the command that repeats it.
set -eu

src=${SMSHOOK_SRC:-$(cd "$(dirname "$0")/.." && pwd)}
work=${SMSHOOK_BUILD:-$src/build}/fuzz
seconds=${1:?seconds for each target}
shift
pg=
jobs=()
# shellcheck source=/dev/null
. "$src/tests/pg.sh"

say() { printf '%s\n' "$*"; }

# shellcheck disable=SC2317 # called by trap
finish() {
	local job
	for job in "${jobs[@]}"; do kill -- "$job" 2>/dev/null || true; done
	wait
	[ -z "$pg" ] || { pg_stop "$pg" && rm -rf "$pg"; }
}

names() { # of all targets
	local file
	for file in "$src"/tests/fuzz/seeds/*/; do basename "$file"; done
}

build() {
	local clang engine=-fsanitize=fuzzer sanitizers=address,undefined
	clang=${CLANG:-clang}
	printf '%s\n' 'int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n);' \
		'int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) { return d && n == 3 && *d; }' |
		"$clang" -fsanitize=fuzzer,$sanitizers -x c - -o "$work/probe" 2>"$work/build.log" || {
		cat "$work/build.log"
		say "clang with libFuzzer is needed: packages clang and libclang-rt-dev"
		exit 2
	} >&2
	mkdir -p "$work/build" && cd "$work/build"
	{
		[ -e Makefile ] || "$src/configure" CC="$clang" FUZZ_ENGINE=$engine \
			--enable-sanitize=fuzzer-no-link,$sanitizers
		make -j2 "${targets[@]/#/tests/fuzz/}"
	} >"$work/build.log" 2>&1 </dev/null || {
		tail -n 30 "$work/build.log" >&2
		exit 2
	}
}

# The judge.  Without it json runs all the same.
database() {
	local file
	pg_bindir >/dev/null || { say '# no PostgreSQL: json has no judge' && return; }
	pg=$(mktemp -d "${TMPDIR:-/tmp}/smshook-fuzz.XXXXXX")
	pg_start "$pg"
	for file in "$src"/sql/[0-9]*.sql; do
		psql -XqAt -v ON_ERROR_STOP=1 -1 -f "$file" >/dev/null
	done
	export SMSHOOK_FUZZ_DSN="host=$pg user=postgres dbname=postgres"
}

# run TARGET SECONDS: writes to log/TARGET.
run() {
	local target=$1 corpus=$work/corpus/$1 suite dict
	local folders=("$corpus" "$src/tests/fuzz/seeds/$1")
	local options=(-max_total_time="$2" -timeout=20 -rss_limit_mb=2048
		-artifact_prefix="$work/found/$1-" -print_final_stats=1 -verbosity=1)
	dict=$src/tests/fuzz/$target.dict
	suite=$src/../shared/corpora/json-test-suite/test_parsing
	[ ! -d "$src/tests/fuzz/found/$1" ] || folders+=("$src/tests/fuzz/found/$1")
	[ ! -e "$dict" ] || options+=(-dict="$dict")
	if [ "$target" = json ] && [ -d "$suite" ]; then folders+=("$suite"); fi
	if [ "$target" = records ]; then options+=(-max_len=2048); fi
	nice "$work/build/tests/fuzz/$target" "${options[@]}" "${folders[@]}" \
		>>"$work/log/$target" 2>&1
}

# Keeps of a corpus what is needed to reach as much.
merge() {
	local corpus=$work/corpus/$1
	rm -rf "$corpus.new" && mkdir "$corpus.new"
	if nice "$work/build/tests/fuzz/$1" -merge=1 "$corpus.new" "$corpus" >"$work/log/$1.merge" 2>&1; then
		rm -rf "$corpus" && mv "$corpus.new" "$corpus"
	fi
	rm -rf "$corpus.new"
}

# The last word of libFuzzer in a log: executions, coverage, features.
state() {
	awk '/^#[0-9]+/ { n = $1; for (i = 2; i < NF; i++) if ($i ~ /^(cov|ft|exec\/s):$/) v[$i] = $(i + 1) }
		/stat::number_of_executed_units/ { all += $2; n = 0 }
		END { sub(/#/, "", n); print all + n " runs, coverage " v["cov:"] + 0 ", features " v["ft:"] + 0 ", " v["exec/s:"] + 0 "/s" }' \
		"$work/log/$1"
}

target_run() { # in the background: run, merge, the verdict in log/TARGET.status
	local status=0 half=$((seconds / 2)) judge=${SMSHOOK_FUZZ_DSN:-}
	: >"$work/log/$1"
	unset SMSHOOK_FUZZ_DSN
	if [ "$1" = json ] && [ -n "$judge" ]; then
		run json $half && SMSHOOK_FUZZ_DSN=$judge run json $half || status=$?
	else
		run "$1" "$seconds" || status=$?
	fi
	merge "$1"
	echo $status >"$work/log/$1.status"
}

progress() {
	local target
	for target in "${running[@]}"; do say "# $target: $(state "$target")"; done
}

fuzz_all() {
	local waiting=("${targets[@]}") running still target tick=0
	running=()
	while [ $((${#waiting[@]} + ${#running[@]})) != 0 ]; do
		while [ ${#running[@]} -lt 2 ] && [ ${#waiting[@]} != 0 ]; do
			target=${waiting[0]}
			waiting=("${waiting[@]:1}")
			running+=("$target")
			mkdir -p "$work/corpus/$target"
			rm -f "$work/log/$target.status"
			set -m
			target_run "$target" &
			jobs+=("-$!")
			set +m
		done
		sleep 1
		tick=$((tick + 1))
		[ $((tick % 15)) != 0 ] || progress
		still=()
		for target in "${running[@]}"; do
			if [ -e "$work/log/$target.status" ]; then verdict "$target"; else still+=("$target"); fi
		done
		running=("${still[@]}")
	done
}

verdict() {
	local file
	n=$((n + 1))
	if [ "$(cat "$work/log/$1.status")" = 0 ]; then
		say "ok $n - $1: $(state "$1")"
		return
	fi
	failed=$((failed + 1))
	say "not ok $n - $1: $(state "$1"); log: $work/log/$1"
	grep -a -m 5 'it does not hold\|ERROR\|runtime error\|SUMMARY' "$work/log/$1" | sed 's/^/# /' || true
	file=$(sed -n 's/.*Test unit written to //p' "$work/log/$1" | tail -n 1)
	[ -z "$file" ] || found+=("$work/build/tests/fuzz/$1 $file")
}

# In one piece: the file may be edited while it runs.
main() {
	targets=("$@")
	[ $# != 0 ] || mapfile -t targets < <(names)
	mkdir -p "$work/corpus" "$work/log" "$work/found"
	n=0 failed=0 found=()
	build
	case " ${targets[*]} " in *' json '*) database ;; esac
	fuzz_all
	say "1..$n"
	for line in "${found[@]}"; do say "# repeat: $line"; done
	[ $failed = 0 ]
}
trap finish EXIT
trap 'exit 1' HUP INT TERM
main "$@"; exit
