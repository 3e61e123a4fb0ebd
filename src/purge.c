#include "purge.h"

#include "clock.h"
#include "screen.h"
#include "when.h"

#include <inttypes.h>
#include <stdio.h>

enum { BATCH_MS = 600000, PROGRESS_MS = 1000 };

const char purge_help[] =
    "Deletes events and rejected bodies that were received before AGE ago: a number\n"
    "and d, w, h, m or s.  None that a consumer has still to see, has claimed or has\n"
    "as a dead letter.  Each 5000 are a commit, so that nothing waits for it for long,\n"
    "and it may be interrupted.  Run it as the owner of the schema.";

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
	char cutoff[40], oldest[40], place[40]; /* "": none */
	int64_t n_deleted, n_rejected;
	int percent; /* of the time that it has gone through, -1: not known */
	int64_t show_at;
};

static void
copy(char to[40], struct text t)
{
	snprintf(to, 40, "%.*s", (int)t.len, t.ptr ? t.ptr : "");
}

/* From when to when it goes, and the rejected bodies before that: a batch counts only
 * events. */
static bool
find_bounds(struct purge *p, int64_t seconds)
{
	static const char sql[] = "select " PLAIN("cutoff") ", " PLAIN(
	    "oldest") ", (select count(*) from sms.rejected where received_at < cutoff) "
		      "from (select now() - "
		      "$1::interval as cutoff, (select min(received_at) from sms.event) "
		      "as oldest) x";
	char text[32];
	const char *param = text;
	struct rows rows;
	snprintf(text, sizeof text, "%" PRId64 " s", seconds);
	bool ok = admin_ask(p->admin, "purge", sql, &param, 1, &rows);
	if (ok) {
		copy(p->cutoff, rows_text(&rows, 0, 0));
		copy(p->oldest, rows_text(&rows, 0, 1));
		p->n_rejected = rows_int(&rows, 0, 2);
	}
	rows_free(&rows);
	return ok;
}

/* One batch and its commit.  A wait for another session's lock is an error soon,
 * which says so. */
static bool
step(struct purge *p)
{
	static const char sql[] =
	    "select " PLAIN("place") ", deleted, case when isfinite(place) and "
				     "$1::timestamptz > $3::timestamptz then floor(100 * "
				     "extract(epoch from place - "
				     "$3::timestamptz) / extract(epoch from "
				     "$1::timestamptz - $3::timestamptz))::int "
				     "else -1 end from set_config('lock_timeout', "
				     "'10s', true) as timeout, sms.purge_step("
				     "$1::timestamptz, $2::timestamptz, "
				     "case when timeout <> '' then 5000 end)";
	const char *params[] = {
	    p->cutoff, *p->place ? p->place : NULL, *p->oldest ? p->oldest : NULL};
	struct rows rows;
	bool ok = admin_ask(p->admin, "purge", sql, params, 3, &rows);
	if (ok) {
		copy(p->place, rows_text(&rows, 0, 0));
		p->n_deleted += rows_int(&rows, 0, 1);
		p->percent = (int)rows_int(&rows, 0, 2);
	}
	rows_free(&rows);
	return ok;
}

static void
show_progress(struct purge *p, bool is_end)
{
	if (clock_ms() < p->show_at && !is_end)
		return;
	p->show_at = clock_ms() + PROGRESS_MS;
	fprintf(stderr, "%" PRId64 " events deleted", p->n_deleted);
	if (p->percent >= 0)
		fprintf(stderr, ", %d %% of the time gone through", p->percent);
	fputc('\n', stderr);
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
	FILE *out = p->admin->faults;
	admin_ask(p->admin, "purge", sql, &param, 1, &rows);
	for (int i = 0; i < rows.n; i++) {
		if (!rows_text(&rows, i, 1).ptr)
			continue;
		fputs("warn  consumer ", out);
		screen_text(out, rows_text(&rows, i, 0));
		fprintf(out,
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
	a->answer_ms = BATCH_MS;
	bool ok =
	    parse(a->arguments, &seconds) && admin_connect(a) && find_bounds(&p, seconds);
	if (!ok)
		return;
	do {
		ok = step(&p);
		show_progress(&p, !ok);
	} while (ok && *p.place);
	if (ok) {
		admin_good("%" PRId64 " events deleted, %" PRId64 " rejected bodies",
		    p.n_deleted, p.n_rejected);
		name_holders(&p);
	}
}
