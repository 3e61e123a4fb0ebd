#!/bin/bash
# Negative controls, as TAP: in a copy of the tree one promise after the other is
# broken, and the test of it must then fail.
#
#	tests/controls.sh [WORD...]	those whose line has one of the words
#
# Where a test is skipped, its control is, too.
set -eu

src=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/smshook-controls.XXXXXX")
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
n=0 failed=0

# ---------------------------------------------------------------- the table
# control PROMISE FILE SED-SCRIPT TESTS: without PROMISE, which the script takes
# out of FILE, pytest -k TESTS fails.

controls() {
	# spool
	control 'the fsync of a file' src/durable.c \
		's/else if (fsync(fd) < 0)/else if (0)/' \
		'fault_07_power_cut'
	control 'the fsync of the directory' src/durable.c \
		's/return fsync(fd) < 0 ? /return fd < 0 ? /' \
		'fault_07_power_cut'
	control 'an error for a failed fsync' src/durable.c \
		's/else if (fsync(fd) < 0)/else if (fsync(fd) < 0 \&\& fsync(fd) < 0)/' \
		'fault_09_fsync_fails'
	control 'a look at what close() says' src/durable.c \
		's/if (close(fd) < 0 && !failed)/if (close(fd) < 0 \&\& !fd)/' \
		'fault_10_a_call_fails and close'
	control 'a look at what write() says' src/durable.c \
		's/if (!write_all(fd, bytes))/if (!write_all(fd, bytes) \&\& fd < 0)/' \
		'fault_10_disk_full'
	control 'a new descriptor after a failed fsync' src/spool.c \
		'/spooldir_close(&sp->dir); .* fsync failed/d' \
		'fault_09_fsync_fails'
	control 'the write before the answer' src/store.c \
		's/enum err e = spool_put(.*);/enum err e = ERR_OK;/' \
		'fault_02_kill_a_cgi'
	control 'the check of the sum' src/spoolfile.c \
		's/if (!text_is(line, hex))/if (!hex[0])/' \
		'fault_12_corruption'
	control 'the check of the mode of the directory' src/spooldir.c \
		's/if (st.st_mode & (S_IWGRP | S_IWOTH))/if (st.st_mode == 0)/' \
		'fault_11 and start'
	control 'the look whether the directory is in its place' src/spooldir.c \
		's/if (d->fd >= 0 && is_in_place(d))/if (d->fd >= 0 \&\& (is_in_place(d) || d))/' \
		'fault_11 and running'
	control 'the look whether there was memory' src/spoolfile.c \
		's/b->has_failed = b->has_failed || !grown;//' \
		'fault_20 and one and away'
	control 'one of the lines of a file' src/spoolfile.c \
		'/{"remote-addr", offsetof/d' \
		'fault_18'
	control 'chance in the names' src/event.c \
		's/getrandom(id + 8, 8, 0) != 8/!memset(id + 8, 0, 8)/' \
		'fault_14_clock_jumps_between'
	control 'the doubt about a note from the future' src/spool.c \
		's/if (age >= -pause_ms && age < pause_ms)/if (age < pause_ms)/' \
		'fault_14_note'

	# drain
	control 'the commit before the file goes' src/drain.c \
		's/enum err e = store_ingest(d->store, once, n_once);/for (size_t i = 0; i < d->n_batch; i++) spool_remove(d->spool, d->names.names[d->batch[i].name]);\n&/' \
		'fault_02_kill_the_drainer and sendto'
	control 'oldest first' src/spool.c \
		's/^compare_names(const void \*a, const void \*b)/compare_names(const void *b, const void *a)/' \
		'fault_12_many_files'
	control 'the time when it was received' src/spoolfile.c \
		's/h.source, at.us, id/h.source, at.us + 60000000, id/' \
		'fault_02_kill_the_drainer and flock'

	# database
	control 'the look for the ingest_id' sql/001_events.sql \
		's/where e.ingest_id = ingest.ingest_id\[i\]) is null/where false) is null/
		s/ingest_id    uuid not null unique/ingest_id    uuid not null/' \
		'fault_06'
	control 'each by itself when one is bad' src/store.c \
		's/if (e == ERR_DB_DATA && n > 1)/if (e == ERR_DB_DATA \&\& n > 1000000)/' \
		'fault_15'
	control 'the pin of synchronous_commit' sql/001_events.sql \
		"/set_config('synchronous_commit', 'on', true)/d" \
		'fault_08_power_cut_of_postgresql'

	# process
	control 'SIGXFSZ being ignored' cgi/main.c \
		's/SIGXFSZ, SIG_IGN/SIGXFSZ, SIG_DFL/' \
		'fault_10_file_too_large'
	control 'deadlines on a clock that nobody sets' src/clock.h \
		's/CLOCK_MONOTONIC, &t/CLOCK_REALTIME, \&t/' \
		'fault_14_clock_jumps'
	control 'the pause when descriptors run out' cgi/pool.c \
		's/atomic_store(&p->wants_accept, true);/arm(p, EPOLL_CTL_MOD, p->listen_fd);/' \
		'fault_24'

	# abuse
	control 'the look at padding that libfcgi misreads' cgi/records.c \
		's/bool is_misread = .*;/bool is_misread = false;/' \
		'fault_21_records and padding'
	control 'the look at lengths of parameters' cgi/records.c \
		's/return feed(p, content, len) ? RECORDS_HEAD : RECORDS_BROKEN;/return RECORDS_HEAD;/' \
		'fault_21_records and lengths'
	control 'patience without a worker' cgi/connections.c \
		's/if (len > 0 && state == RECORDS_WHOLE)/if (len > 0 \&\& state != RECORDS_BROKEN)/' \
		'fault_22_held'
	control 'letting another worker go on' cgi/connections.c \
		'/^\twatch_end(w);$/d' \
		'test_who_waits_for_bodies'
	control 'events by edges' cgi/connections.c \
		's/EPOLLIN | EPOLLRDHUP | EPOLLET/EPOLLIN | EPOLLRDHUP/' \
		'fault_22_held_for_nothing'
	control 'deafness to arguments' cgi/main.c \
		's/if (!is_listening && cgi_is_called())/if (!is_listening \&\& cgi_is_called() \&\& argc < 2)/' \
		'fault_25'
	control 'the look whether a body is whole' cgi/request.c \
		's/else if ((int64_t)body.len < req->content_length)/else if (body.len > (size_t)max_body)/' \
		'fault_26_lengths'

	# tokens and signatures
	control 'the wiping of a file with tokens' src/conf_source.c \
		'/explicit_bzero(buffer, sizeof buffer);/d' \
		'test_memory_has_digests_alone'
	control 'the compare of a token' src/auth.c \
		's/bool is_right = sha256_is(digest, s->digests\[i\]);/bool is_right = digest[0] == s->digests[i][0] || digest[1] > 99;/' \
		'test_digest_is_as_good or test_token_new_lets_in'
	control 'the next receiver at a reload' cgi/main.c \
		's/e = receiver_start(next, listen_fd);/e = ERR_SYSTEM;/' \
		'test_rotation_under_load'
	control 'the hand-over of connections at a reload' cgi/main.c \
		'/pool_hand_over(/d' \
		'test_reloaded_is_in_force'
	control 'the look whether a configuration is good' cgi/main.c \
		's/log_error("another \[spool\] directory needs a restart");/if (0)/' \
		'test_another_spool'
	control 'the check of a signature' cgi/handle.c \
		's/^\tif (wrong) {/\tif (wrong \&\& !source) {/' \
		'test_signed_wrong and fcgi'
	control 'all of what is signed' src/signature.c \
		's/{m->id, TEXT("."), /{/' \
		'test_signed and fcgi'
	control 'the tolerance of a time' src/signature.c \
		's/if (time < now - tolerance || time > now + tolerance)/if (time > now + tolerance)/' \
		'test_signed_wrong and fcgi and relay'
	control 'the whole of a digest' src/sha256.c \
		's/memeql_sec(a, b, SHA256_LEN)/memeql_sec(a, b, 0)/' \
		'test_signed_wrong and fcgi'
	control 'the exception from a retry of all' src/rejected.c \
		's/if (rows_int(&rows, i, 5) == err_status(ERR_SIGNATURE))/if (i < 0)/' \
		'test_retry_needs_a_name'

	# readers
	control 'the lock of a consumer' sql/002_consumers.sql \
		's/if not sms.lock_consumer(consumer, true) then/if false then/' \
		'test_each_effect_is_there_once'
	control 'a lease' sql/002_consumers.sql \
		's/l.due_at <= claimed_at$/true/' \
		'test_claimed_work'
	control 'the attempts in a lease' sql/002_consumers.sql \
		's/and (attempt is null or l.attempts = attempt)//' \
		'test_a_late_worker'
	control 'a look at who is still to see an event' sql/004_retention.sql \
		's/select duplicate_of is null and exists/select false and exists/' \
		'test_purge_command'
	control 'the key of replies' sql/003_replies.sql \
		's/event_id bigint primary key,/event_id bigint,/' \
		'test_a_reply_is_taken_once'
	control 'events without notifications' src/store.c \
		's/if (is_full) {/if (false) {/' \
		'test_notification_that_cannot_be_sent or full_queue'

	# logs
	control 'silence about phone numbers' cgi/handle.c \
		's|^\tanswer(&s->res, ev, e);|\tlog_info("%.*s", (int)ev->phone.len, ev->phone.ptr);\n&|' \
		'test_one_notification_an_event'
	control 'the look for parts of a password' src/hosts.c \
		's/if (is_bad)/if (is_bad \&\& options == NULL)/' \
		'test_no_password_of_conninfo'
	control 'a screen before what PostgreSQL says' src/admin.c \
		's/screen_text(out, text_of(text));/fputs(text, out);/' \
		'moves_the_terminal'
}

# --------------------------------------------------------------- the machine

say() { printf '%s\n' "$*"; }

report() { # OK-OR-NOT TEXT
	n=$((n + 1))
	say "$1 $n - $2"
	[ "$1" = ok ] || failed=$((failed + 1))
}

is_wanted() { # LINE WORD...
	local line=$1 word
	shift
	[ $# != 0 ] || return 0
	for word; do case $line in *"$word"*) return 0 ;; esac; done
	return 1
}

build() { make -s -C "$work/build" smshook smshook.fcgi >"$work/make.log" 2>&1; }

run_tests() { # TESTS: their TAP is in $work/tap
	SMSHOOK_BUILD="$work/build" "$src/tests/system.sh" -k "$1" \
		>"$work/tap" 2>"$work/log" || true
	grep -q '^\(not \)\{0,1\}ok' "$work/tap"
}

copy_tree() {
	mkdir "$work/tree" "$work/build"
	tar -C "$src" --exclude=./.git --exclude=./build -cf - . | tar -C "$work/tree" -xf -
	rm -f "$work/tree/config.status" "$work/tree/Makefile"
	[ -e "$work/tree/configure" ] || (cd "$work/tree" && autoreconf -fi)
	(cd "$work/build" && "$work/tree/configure") && build
}

control() {
	local what="without $1, test $4 fails" file=$work/tree/$2
	is_wanted "$what" "${words[@]}" || return 0
	if [ -n "${collecting-}" ]; then
		all="${all:+$all or }($4)"
		return
	fi
	cp "$file" "$work/saved"
	sed -e "$3" "$work/saved" >"$file"
	if cmp -s "$work/saved" "$file"; then
		report 'not ok' "$what: the edit of $2 does not apply any more"
	elif ! build; then
		report 'not ok' "$what: the edit of $2 does not compile"
		sed 's/^/# /' "$work/make.log"
	elif ! run_tests "$4"; then
		report 'not ok' "$what: there is no such test"
	elif grep -q '^not ok' "$work/tap"; then
		report ok "$what"
	elif ! grep -v '# SKIP' "$work/tap" | grep -q '^ok'; then
		report ok "$what # SKIP the test is skipped here"
	else
		report 'not ok' "$what"
	fi
	cp "$work/saved" "$file"
}

words=("$@")
if ! copy_tree >"$work/log" 2>&1; then
	cat "$work"/*log >&2
	say 'Bail out! the tree does not build'
	exit 1
fi
collecting=1 all=
controls
collecting=
if [ -n "$all" ]; then
	if run_tests "$all" && ! grep -q '^not ok' "$work/tap"; then
		report ok 'with all promises these tests pass'
	else
		report 'not ok' 'with all promises these tests pass'
		grep '^not ok' "$work/tap" | sed 's/^/# /'
	fi
	controls
fi
say "1..$n"
[ $failed = 0 ]
