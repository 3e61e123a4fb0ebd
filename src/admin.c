#include "admin.h"

#include "clock.h"
#include "screen.h"

#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

enum { CONNECT_MS = 10000, NOTIFY_MS = 2000 };

static void say(FILE *out, const char *tag, const char *format, va_list ap)
    __attribute__((format(printf, 3, 0)));

static void
say(FILE *out, const char *tag, const char *format, va_list ap)
{
	char text[2048]; /* PostgreSQL and file names may have their part in it */
	vsnprintf(text, sizeof text, format, ap);
	fprintf(out, "%-5s ", tag);
	screen_text(out, text_of(text));
	putc('\n', out);
	fflush(out);
}

void
admin_good(const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	say(stdout, "ok", format, ap);
	va_end(ap);
}

void
admin_warn(struct admin *a, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	say(a->faults, "warn", format, ap);
	va_end(ap);
}

void
admin_bad(struct admin *a, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	say(a->faults, "FAIL", format, ap);
	va_end(ap);
	a->n_failed++;
}

bool
admin_misuse(const char *format, ...)
{
	va_list ap;
	fputs("smshook: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	return false;
}

/* ------------------------------------------------------------ statements */

bool
admin_ask(struct admin *a, const char *what, const char *sql, const char *const *params,
    int n_params, struct rows *rows_r)
{
	if (!db_select(a->db, sql, params, n_params, clock_ms() + a->answer_ms, rows_r))
		return true;
	admin_bad(a, "%s: %s", what, db_reason(a->db));
	return false;
}

char *
admin_value(struct admin *a, const char *what, const char *sql, const char *param)
{
	struct rows rows;
	char *value = NULL;
	if (admin_ask(a, what, sql, &param, param ? 1 : 0, &rows)) {
		const char *first = rows.n > 0 ? rows_text(&rows, 0, 0).ptr : NULL;
		value = strdup(first ? first : "");
		if (!value)
			admin_bad(a, "%s: %s", what, err_sentence(ERR_MEMORY));
	}
	rows_free(&rows);
	return value;
}

bool
admin_run(struct admin *a, const char *what, const char *sql)
{
	char *value = admin_value(a, what, sql, NULL);
	free(value);
	return value != NULL;
}

bool
admin_connect(struct admin *a)
{
	if (db_connect(a->db, clock_ms() + CONNECT_MS)) {
		admin_bad(a, "database: %s; mend %s, or start the server",
		    db_reason(a->db), a->conninfo_at);
		return false;
	}
	return true;
}

bool
admin_check_server(struct admin *a)
{
	char *version = admin_value(
	    a, "version", "select current_setting('server_version_num')", NULL);
	int number = version ? atoi(version) : 0;
	free(version);
	if (number > 0 && number < 130000)
		admin_bad(a, "PostgreSQL is older than 13: upgrade the server");
	else if (number > 0)
		admin_good(
		    "PostgreSQL %d.%d, encoding UTF8", number / 10000, number % 10000);
	return number >= 130000;
}

/* By a session of its own. */
static enum err
send_notification(const struct admin *a, const char *channel)
{
	struct db *other;
	struct rows rows = {0};
	int64_t deadline = clock_ms() + CONNECT_MS;
	enum err e = db_open(&other, a->conf.conninfo);
	if (!e)
		e = db_connect(other, deadline);
	if (!e)
		e = db_select(
		    other, "select pg_notify($1, '')", &channel, 1, deadline, &rows);
	rows_free(&rows);
	db_close(&other);
	return e;
}

bool
admin_hears(struct admin *a)
{
	char channel[64], sql[100];
	struct rows rows;
	snprintf(channel, sizeof channel, "smshook_%ld_%lld", (long)getpid(),
	    (long long)clock_ms());
	snprintf(sql, sizeof sql, "listen %s", channel);
	enum err e = db_select(a->db, sql, NULL, 0, clock_ms() + a->answer_ms, &rows);
	rows_free(&rows);
	if (e)
		return false;
	bool hears = !send_notification(a, channel) &&
		     !db_wait_notify(a->db, channel, -1, clock_ms() + NOTIFY_MS);
	snprintf(sql, sizeof sql, "unlisten %s", channel);
	if (db_is_connected(a->db) &&
	    db_select(a->db, sql, NULL, 0, clock_ms() + a->answer_ms, &rows))
		hears = false;
	rows_free(&rows);
	return hears;
}
