#include "purge.h"

#include "clock.h"
#include "screen.h"
#include "when.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { BATCH_MS = 600000, PROGRESS_MS = 1000 };

const char purge_help[] =
    "Deletes events and rejected bodies that were received before AGE ago: a number\n"
    "and d, w, h, m or s.  None that a consumer has still to see, has claimed or has\n"
    "as a dead letter.  Each 5000 are a commit, so that nothing waits for it for long;\n"
    "Ctrl-C stops it between two.  Run it as the owner of the schema.";

static bool
parse(char *const *arguments, int64_t *seconds_r)
{
	static const char name[] = "--older-than";
	const char *age = NULL;
	if (arguments[0] && strncmp(arguments[0], name, sizeof name - 1) == 0) {
		const char *rest = arguments[0] + sizeof name - 1;
		bool is_one = *rest == '=' && !arguments[1];
		bool is_two = !*rest && arguments[1] && !arguments[2];
		age = is_one ? rest + 1 : is_two ? arguments[1] : NULL;
	}
	if (!age)
		return admin_misuse("purge: --older-than AGE is expected, such as 90d");
	return when_duration(age, seconds_r) ||
	       admin_misuse("--older-than %s: expected is a number and d, w, h, m or s, "
			    "such as 90d",
		   age);
}

bool
purge_takes(char *const *arguments)
{
	int64_t seconds;
	return parse(arguments, &seconds);
}

/* Times go to the server and come back as text that is read in the same way
 * whatever DateStyle and TimeZone the session has. */
#define PLAIN(time)                                                                      \
	"case when isfinite(" time ") then to_char(" time                                \
	" at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' else " time           \
	"::text end"

struct purge {
	struct admin *admin;
	char cutoff[40], place[40]; /* "": from the oldest */
	int64_t n_deleted;
	int percent; /* of the time that it has gone through, -1: not known */
	int64_t show_at;
};

static void
copy(char to[40], struct text t)
{
	snprintf(to, 40, "%.*s", (int)t.len, t.ptr ? t.ptr : "");
}

static bool
find_cutoff(struct purge *p, int64_t seconds)
{
	char text[32];
	const char *param = text;
	struct rows rows;
	snprintf(text, sizeof text, "%" PRId64 " s", seconds);
	enum err e = db_select(p->admin->db,
	    "select " PLAIN("t") " from (select now() - $1::interval as t) x", &param, 1,
	    clock_ms() + BATCH_MS, &rows);
	if (e)
		admin_bad(p->admin, "%s", db_reason(p->admin->db));
	else
		copy(p->cutoff, rows_text(&rows, 0, 0));
	rows_free(&rows);
	return !e;
}

/* One batch and its commit. */
static bool
step(struct purge *p, const char *oldest)
{
	static const char sql[] =
	    "select " PLAIN("place") ", deleted, case when isfinite(place) and "
				     "$1::timestamptz > $3::timestamptz then floor(100 * "
				     "extract(epoch from place - "
				     "$3::timestamptz) / extract(epoch from "
				     "$1::timestamptz - $3::timestamptz))::int "
				     "else -1 end from sms.purge_step($1::timestamptz, "
				     "$2::timestamptz, 5000)";
	const char *params[] = {
	    p->cutoff, *p->place ? p->place : NULL, *oldest ? oldest : NULL};
	struct rows rows;
	enum err e =
	    db_select(p->admin->db, sql, params, 3, clock_ms() + BATCH_MS, &rows);
	if (e && strcmp(rows.state, "42501") == 0)
		admin_bad(p->admin,
		    "%.120s: only the owner of schema sms may purge; name that role by "
		    "-d",
		    db_reason(p->admin->db));
	else if (e)
		admin_bad(p->admin, "%s; %" PRId64 " events are deleted already",
		    db_reason(p->admin->db), p->n_deleted);
	if (!e) {
		copy(p->place, rows_text(&rows, 0, 0));
		p->n_deleted += rows_int(&rows, 0, 1);
		p->percent = (int)rows_int(&rows, 0, 2);
	}
	rows_free(&rows);
	return !e;
}

static void
show_progress(struct purge *p)
{
	if (clock_ms() < p->show_at)
		return;
	p->show_at = clock_ms() + PROGRESS_MS;
	fprintf(stderr, "%" PRId64 " events deleted", p->n_deleted);
	if (p->percent >= 0)
		fprintf(stderr, ", %d %% of the time gone through", p->percent);
	fputc('\n', stderr);
}

/* SIGINT and SIGTERM are held back for this: not amid a batch. */
static bool
is_to_stop(const sigset_t *signals)
{
	static const struct timespec at_once = {0};
	return sigtimedwait(signals, NULL, &at_once) > 0;
}

/* Consumers that hold back events of that age. */
static void
name_holders(struct purge *p)
{
	static const char sql[] =
	    "select l.consumer, case when l.oldest_at < $1::timestamptz then "
	    "'has still to see' when exists (select from sms.lease x join sms.event e on "
	    "e.id = x.event_id where x.consumer = l.consumer and e.received_at < "
	    "$1::timestamptz) then 'has claimed and not done' when exists (select from "
	    "sms.dead_letter x join sms.event e on e.id = x.event_id where x.consumer = "
	    "l.consumer and e.received_at < $1::timestamptz) then 'has as dead letters' "
	    "end "
	    "from sms.consumer_lag l order by 1";
	const char *param = p->cutoff;
	struct rows rows;
	if (db_select(p->admin->db, sql, &param, 1, clock_ms() + BATCH_MS, &rows))
		admin_bad(p->admin, "consumers: %s", db_reason(p->admin->db));
	for (int i = 0; i < rows.n; i++) {
		if (!rows_text(&rows, i, 1).ptr)
			continue;
		printf("%-5s consumer ", "warn");
		screen_text(rows_text(&rows, i, 0));
		printf(
		    " %s events of that age; they stay: see sms.consumer_lag, and, if it "
		    "is gone for good, select sms.drop_consumer(...)\n",
		    rows_text(&rows, i, 1).ptr);
	}
	rows_free(&rows);
}

void
purge(struct admin *a)
{
	struct purge p = {.admin = a, .show_at = clock_ms() + PROGRESS_MS};
	int64_t seconds;
	char *oldest = NULL;
	bool is_good, is_stopped = false;
	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &signals, NULL);

	is_good = parse(a->arguments, &seconds) && admin_connect(a) &&
		  find_cutoff(&p, seconds) &&
		  (oldest = admin_value(a, "events",
		       "select " PLAIN(
			   "t") " from (select min(received_at) as t from sms.event) x",
		       NULL));
	while (is_good && !is_stopped) {
		is_good = step(&p, oldest);
		if (!is_good || !*p.place)
			break;
		show_progress(&p);
		is_stopped = is_to_stop(&signals);
	}
	if (is_stopped)
		admin_bad(a, "stopped; %" PRId64 " events are deleted", p.n_deleted);
	else if (is_good)
		admin_good("%" PRId64 " events deleted", p.n_deleted);
	if (is_good && !is_stopped)
		name_holders(&p);
	free(oldest);
}
