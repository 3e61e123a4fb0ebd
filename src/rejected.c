#include "rejected.h"

#include "clock.h"
#include "decode.h"
#include "screen.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { ANSWER_MS = 60000, PROGRESS_MS = 1000 };

const char rejected_help[] =
    "  list            a line each: id, local time, source, status that was answered,\n"
    "                  length, reason\n"
    "  show ID         the same with content type and address, not what people wrote\n"
    "  show --text ID  the body, byte by byte";
const char rejected_retry_help[] =
    "Decodes bodies once more, all or those of the IDs.  What is an event now goes into\n"
    "sms.event as what it was received as, and leaves sms.rejected; the others stay.\n"
    "What came with a wrong signature goes in only when its ID is given.\n"
    "Run it as the owner of the schema.";

/* ------------------------------------------------------------- arguments */

static bool
is_id(const char *s)
{
	size_t len = strlen(s);
	return len > 0 && len <= 18 && strspn(s, "0123456789") == len;
}

bool
rejected_takes(char *const *arguments)
{
	const char *verb = arguments[0] ? arguments[0] : "";
	int n = 0;
	while (arguments[n])
		n++;
	if (strcmp(verb, "list") == 0)
		return n == 1;
	return strcmp(verb, "show") == 0 && n >= 2 && is_id(arguments[n - 1]) &&
	       (n == 2 || (n == 3 && strcmp(arguments[1], "--text") == 0));
}

bool
rejected_retry_takes(char *const *arguments)
{
	while (*++arguments)
		if (!is_id(*arguments))
			return admin_misuse("%s is no id", *arguments);
	return true;
}

/* ------------------------------------------------------------ statements */

/* One of one row, which must be there. */
static bool
ask_one(struct admin *a, const char *sql, const char *id, struct rows *rows_r)
{
	if (!admin_ask(a, id, sql, &id, 1, rows_r))
		return false;
	if (rows_r->n == 0)
		admin_bad(a, "%s is not in sms.rejected", id);
	return rows_r->n > 0;
}

#define NO_BODY "it has no body any more"

#define US "(extract(epoch from received_at) * 1000000)::bigint"

/* ---------------------------------------------------------- list and show */

static void
print_value(const char *before, struct text t)
{
	fputs(before, stdout);
	screen_text(stdout, t.ptr ? t : TEXT("-"));
}

static void
list(struct admin *a)
{
	static const char sql[] =
	    "select id, " US ", source, http_status, coalesce(octet_length(body), 0), "
	    "reason from sms.rejected where id > $1::bigint order by id limit 1000";
	char last[24] = "-1";
	const char *param = last;
	struct rows rows;
	while (admin_ask(a, "list", sql, &param, 1, &rows) && rows.n > 0) {
		for (int i = 0; i < rows.n; i++) {
			print_value("", rows_text(&rows, i, 0));
			fputs("  ", stdout);
			screen_time(stdout, rows_int(&rows, i, 1));
			print_value("  ", rows_text(&rows, i, 2));
			print_value("  ", rows_text(&rows, i, 3));
			print_value("  ", rows_text(&rows, i, 4));
			print_value(" bytes: ", rows_text(&rows, i, 5));
			putchar('\n');
		}
		snprintf(last, sizeof last, "%s", rows_text(&rows, rows.n - 1, 0).ptr);
		rows_free(&rows);
	}
	rows_free(&rows);
}

static void
show(struct admin *a, const char *id)
{
	static const char *const names[] = {"id", "received at", "source", "answered",
	    "reason", "bytes", "content type", "remote address"};
	struct rows rows;
	if (ask_one(a,
		"select id, " US ", source, http_status, reason, octet_length(body), "
		"content_type, remote_addr from sms.rejected where id = $1::bigint",
		id, &rows)) {
		for (int i = 0; i < (int)(sizeof names / sizeof *names); i++) {
			printf("%-15s", names[i]);
			if (i == 1)
				screen_time(stdout, rows_int(&rows, 0, i));
			else
				print_value("", rows_text(&rows, 0, i));
			putchar('\n');
		}
	}
	rows_free(&rows);
}

static void
show_text(struct admin *a, const char *id)
{
	struct rows rows;
	size_t len;
	if (ask_one(a,
		"select encode(body, 'hex') from sms.rejected where id = $1::bigint", id,
		&rows)) {
		char *body = rows_bytes(&rows, 0, 0, &len);
		if (body)
			fwrite(body, 1, len, stdout);
		else
			admin_bad(a, "%s: %s", id,
			    rows_text(&rows, 0, 0).ptr ? err_sentence(ERR_MEMORY)
						       : NO_BODY);
		free(body);
	}
	rows_free(&rows);
}

void
rejected(struct admin *a)
{
	a->answer_ms = ANSWER_MS;
	if (!admin_connect(a))
		return;
	if (strcmp(a->arguments[0], "list") == 0)
		list(a);
	else if (a->arguments[2])
		show_text(a, a->arguments[2]);
	else
		show(a, a->arguments[1]);
}

/* ----------------------------------------------------------------- retry */

struct retry {
	struct admin *admin;
	int64_t n_events, n_left;
	int64_t show_at;
};

/* What stays, and why: a failure when it was named. */
static void
say_left(struct retry *r, const char *id, const char *reason)
{
	r->n_left++;
	if (r->admin->arguments[1])
		admin_bad(r->admin, "%s stays: %s", id, reason);
	else
		admin_warn(r->admin, "%s stays: %s", id, reason);
}

/* The event that was received: false without one, and it was said why. */
static bool
restore(struct retry *r, const struct rows *rows, int row, char *body, size_t len,
    struct event *ev)
{
	unsigned char ingest_id[16] = {0};
	const char *id = rows_text(rows, row, 0).ptr;
	size_t n;
	char *uuid = rows_bytes(rows, row, 3, &n);
	if (uuid)
		memcpy(ingest_id, uuid, sizeof ingest_id);
	event_restore(ev, (struct text){body, len}, rows_text(rows, row, 2),
	    rows_int(rows, row, 1), ingest_id);
	const struct conf_source *source = conf_source_named(&r->admin->conf, ev->source);
	const char *fault = !rows_text(rows, row, 4).ptr ? NO_BODY
			    : !body || !uuid             ? err_sentence(ERR_MEMORY)
			    : !source ? "its source is not in the configuration, which "
					"tells the zone of its times"
				      : NULL;
	free(uuid);
	if (fault) {
		say_left(r, id, fault);
		return false;
	}
	enum err e = decode(ev, text_of(source->timezone), text_of(source->device_id));
	if (e)
		say_left(r, id, e == ERR_NOT_EVENT ? ev->reason_bytes : err_sentence(e));
	return !e;
}

/* Into sms.event and out of sms.rejected, both or neither, with locks in the order of
 * the receiver.  A second retry at the same time waits, and finds the row gone. */
static bool
move(struct retry *r, const char *id, struct event *ev)
{
	struct admin *a = r->admin;
	struct rows rows;
	if (!admin_run(a, id, ADMIN_BEGIN))
		return false;
	enum err e = db_ingest(a->db, &ev, 1, a->conf.notify, clock_ms() + ANSWER_MS);
	if (e == ERR_DB_DATA) {
		say_left(r, id, db_reason(a->db));
		return admin_run(a, id, "rollback");
	}
	if (e) {
		admin_bad(a, "%s: %s", id, db_reason(a->db));
		return false;
	}
	bool ok = admin_ask(a, id,
	    "delete from sms.rejected where id = $1::bigint returning id", &id, 1, &rows);
	bool is_there = rows.n > 0;
	rows_free(&rows);
	ok = ok && admin_run(a, id, is_there ? "commit" : "rollback");
	r->n_events += ok && is_there;
	return ok;
}

/* False when there is no use in going on. */
static bool
retry_row(struct retry *r, const struct rows *rows, int row)
{
	struct event ev;
	size_t len;
	char *body = rows_bytes(rows, row, 4, &len);
	bool ok = !restore(r, rows, row, body, len, &ev) ||
		  move(r, rows_text(rows, row, 0).ptr, &ev);
	event_free(&ev);
	free(body);
	if (clock_ms() >= r->show_at) {
		fprintf(stderr, "%" PRId64 " are events now, %" PRId64 " stay\n",
		    r->n_events, r->n_left);
		r->show_at = clock_ms() + PROGRESS_MS;
	}
	return ok;
}

#define COLUMNS                                                                          \
	"select id, " US ", source, replace(ingest_id::text, '-', ''), "                 \
	"encode(body, 'hex'), http_status from sms.rejected "

/* Anybody who knows the URL may have sent it. */
#define UNSIGNED "its signature was wrong; name its id when you know that it is genuine"

static bool
retry_all(struct retry *r)
{
	char last[24] = "-1";
	const char *param = last;
	struct rows rows;
	bool ok, is_end = false;
	do {
		ok = admin_ask(r->admin, "retry",
		    COLUMNS "where id > $1::bigint order by id limit 20", &param, 1,
		    &rows);
		is_end = rows.n == 0;
		for (int i = 0; ok && i < rows.n; i++)
			if (rows_int(&rows, i, 5) == err_status(ERR_SIGNATURE))
				say_left(r, rows_text(&rows, i, 0).ptr, UNSIGNED);
			else
				ok = retry_row(r, &rows, i);
		if (ok && !is_end)
			snprintf(
			    last, sizeof last, "%s", rows_text(&rows, rows.n - 1, 0).ptr);
		rows_free(&rows);
	} while (ok && !is_end);
	return ok;
}

static bool
retry_named(struct retry *r, const char *id)
{
	struct rows rows;
	bool ok = true;
	if (ask_one(r->admin, COLUMNS "where id = $1::bigint", id, &rows))
		ok = retry_row(r, &rows, 0);
	rows_free(&rows);
	return ok && db_is_connected(r->admin->db);
}

void
rejected_retry(struct admin *a)
{
	struct retry r = {.admin = a, .show_at = clock_ms() + PROGRESS_MS};
	a->answer_ms = ANSWER_MS;
	bool ok = admin_connect(a);
	if (ok && !a->arguments[1])
		ok = retry_all(&r);
	for (int i = 1; ok && a->arguments[i]; i++)
		ok = retry_named(&r, a->arguments[i]);
	if (ok || r.n_events > 0)
		admin_good(
		    "%" PRId64 " are events now, %" PRId64 " stay", r.n_events, r.n_left);
}
