#include "tail.h"

#include "clock.h"
#include "screen.h"
#include "when.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

enum {
	ANSWER_MS = 60000,
	POLL_MS = 1000,    /* where notifications do not arrive */
	LISTEN_MS = 30000, /* where they do: they are a hint only */
	PAUSE_MS = 500,    /* before the first new connection */
	MAX_PAUSE_MS = 10000,
	WRITE_US = 100000 /* so long a terminal may hold a write that it had room for */
};

const char tail_help[] =
    "Shows the last 10 events, then each new one as it comes, until Ctrl-C: local\n"
    "time, kind, phone, status or text, message id, source.\n"
    "\n"
    "  --since WHEN  from there on: 10m, 2h, 3d or 1w ago, \"2026-01-15 10:00\" (local\n"
    "                time), 2026-01-15T10:00:00Z, or id:N, the event of that id\n"
    "  --kind KIND   only such events: delivery_status, incoming_sms, ...; several\n"
    "                with commas, or with an option each\n"
    "  --json        a JSON object a line, times in UTC\n"
    "  --full        phone numbers in full; with --json also payload and raw";

struct options {
	bool has_since, is_json, is_full;
	struct when since;
	char kinds[1024]; /* with commas between them; empty: all */
};

struct tail {
	struct admin *admin;
	struct options options;
	FILE *out; /* to stdout, by put() */
	bool is_listening;
	bool is_out; /* the connection was lost, and it was said */
	int pause_ms;
	int64_t last; /* id of the last event seen, -1 before the first look */
};

/* ------------------------------------------------------------- arguments */

static bool
add_kinds(struct options *o, const char *kinds)
{
	size_t len = strlen(o->kinds);
	if (!*kinds || *kinds == ',' || kinds[strlen(kinds) - 1] == ',' ||
	    strstr(kinds, ",,"))
		return admin_misuse("--kind: a name is missing");
	if (len + strlen(kinds) + 2 > sizeof o->kinds)
		return admin_misuse("--kind: these are too many");
	snprintf(o->kinds + len, sizeof o->kinds - len, "%s%s", len ? "," : "", kinds);
	return true;
}

static bool
parse(char *const *arguments, struct options *o)
{
	static const struct option names[] = {{"since", required_argument, NULL, 's'},
	    {"kind", required_argument, NULL, 'k'}, {"json", no_argument, NULL, 'j'},
	    {"full", no_argument, NULL, 'f'}, {NULL, 0, NULL, 0}};
	int argc = 0, option;
	const char *wrong;
	*o = (struct options){0};
	while (arguments[argc])
		argc++;
	optind = 0; /* from the start: main() has used it */
	opterr = 0;
	while ((option = getopt_long(argc + 1, arguments - 1, "+", names, NULL)) != -1) {
		switch (option) {
		case 's':
			wrong = when_parse(optarg, &o->since);
			if (wrong)
				return admin_misuse("--since %s: %s", optarg, wrong);
			o->has_since = true;
			break;
		case 'k':
			if (!add_kinds(o, optarg))
				return false;
			break;
		case 'j':
			o->is_json = true;
			break;
		case 'f':
			o->is_full = true;
			break;
		default:
			return admin_misuse("unknown option, or one without its value");
		}
	}
	return optind == argc + 1;
}

bool
tail_takes(char *const *arguments)
{
	struct options o;
	return parse(arguments, &o);
}

/* ------------------------------------------------------------ statements */

/* Of a number the country and the last two digits are left; a sender's name, with
 * a letter and no digit, is no number.  Digits are there in all scripts. */
#define LETTERS "[ -/:-~\u00c0-\u024f]*"
#define MASKED                                                                           \
	"case when $4::boolean or phone is null or phone ~ '^" LETTERS                   \
	"[A-Za-z]" LETTERS "$' "                                                         \
	"then phone when char_length(phone) <= 4 then repeat('*', char_length(phone)) "  \
	"when char_length(phone) <= 8 "                                                  \
	"then repeat('*', char_length(phone) - 2) || right(phone, 2) "                   \
	"else left(phone, 3 + (phone like '+%')::int) || repeat('*', least(20, "         \
	"char_length(phone) - 5 - (phone like '+%')::int)) || right(phone, 2) end"

#define IS_SHOWN                                                                         \
	"(duplicate_of is null and ($2::text is null or "                                \
	"kind = any (string_to_array($2, ','))))"

/* Those after $1, of $3 at most: what is shown, and the last of all, from where it
 * goes on, so that what is not shown is not read again. */
#define EVENTS                                                                           \
	" from (select *, " IS_SHOWN " as is_shown, max(id) over () as newest "          \
	"from (select * from sms.event where id > $1::bigint order by id "               \
	"limit $3::int) w) e where is_shown or id = newest order by id"

#define UTC(column)                                                                      \
	"to_char(" column " at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') "   \
	"as " column

#define MEMBERS                                                                          \
	"id, " UTC("received_at") ", " UTC(                                              \
	    "occurred_at") ", source, kind, message_id, " MASKED                         \
			   " as phone, device_id, device_name, channel, status, "        \
			   "status_code, "                                               \
			   "status_text, body, keyword, media_url, note"

/* id, is_shown, and the parts of a line */
static const char lines_sql[] =
    "select id, is_shown, (extract(epoch from received_at) * 1000000)::bigint, kind, "
    "coalesce(nullif(" MASKED ", ''), '-'), coalesce(status, ''), "
    "coalesce(case when kind = 'delivery_status' then case when status in "
    "('failed', 'unknown') and lower(status_text) <> status then status || ': ' || "
    "status_text else status end else coalesce(nullif(body, ''), media_url) end, '-'), "
    "coalesce(nullif(message_id, ''), '-'), source" EVENTS;

/* id, is_shown, and the whole line */
static const char json_sql[] =
    "select id, is_shown, (select row_to_json(j) from (select " MEMBERS ") j)" EVENTS;
static const char full_json_sql[] =
    "select id, is_shown, (select row_to_json(j) from (select " MEMBERS
    ", payload, raw, ingest_id, duplicate_of) j)" EVENTS;

/* The place before the last 10, of which the last 10000 may tell. */
static const char last_sql[] =
    "select coalesce((select min(id) from (select id from (select id, kind, duplicate_of "
    "from sms.event order by id desc limit 10000) w where $1::text is null and " IS_SHOWN
    " order by id desc limit 10) t), (select max(id) from sms.event) + 1, 1) - 1";

/* offset 0: by the index of received_at, not by ids from the oldest */
static const char since_sql[] =
    "select coalesce((select min(id) from (select id from sms.event where received_at >= "
    "timestamptz 'epoch' + $1::bigint * interval '1 microsecond' offset 0) t), "
    "(select max(id) from sms.event) + 1, 1) - 1";

/* ERR_DB_UNKNOWN: a new connection may do; ERR_CONFIG, with a FAIL: none will. */
static enum err
ask(struct tail *t, const char *sql, const char *const *params, int n,
    struct rows *rows_r)
{
	static const char *const final[] = {"0A", "22", "3F", "42", NULL};
	struct db *db = t->admin->db;
	enum err e = db_select(db, sql, params, n, clock_ms() + ANSWER_MS, rows_r);
	if (!e)
		return ERR_OK;
	for (int i = 0; final[i]; i++) {
		if (strncmp(rows_r->state, final[i], 2) != 0)
			continue;
		admin_bad(t->admin, "%s", db_reason(db));
		return ERR_CONFIG;
	}
	db_disconnect(db);
	return ERR_DB_UNKNOWN;
}

/* -------------------------------------------------------------- printing */

static volatile sig_atomic_t is_coloured; /* for quit() */

/* Its only use is that write() ends. */
static void
on_alarm(int number)
{
	(void)number;
}

/* A terminal blocks though poll() said that it has room, and takes a part; to set
 * O_NONBLOCK on stdout would set it for the shell, too. */
static ssize_t
write_some(const char *bytes, size_t len)
{
	static const struct itimerval ticks = {{0, WRITE_US}, {0, WRITE_US}}, none;
	struct sigaction action = {.sa_handler = on_alarm}; /* no SA_RESTART */
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &ticks, NULL);
	ssize_t n = write(STDOUT_FILENO, bytes, len < PIPE_BUF ? len : PIPE_BUF);
	int error = errno;
	setitimer(ITIMER_REAL, &none, NULL);
	return n < 0 && error == EINTR ? 0 : n;
}

/* What t->out has, by pieces for which there is room when poll() says so (pipe(7));
 * meanwhile notifications are taken. */
static ssize_t
put(void *tail, const char *bytes, size_t len)
{
	const struct tail *t = tail;
	size_t done = 0;
	while (done < len) {
		db_wait_writable(t->admin->db, STDOUT_FILENO);
		ssize_t n = write_some(bytes + done, len - done);
		if (n < 0)
			return 0;
		done += (size_t)n;
	}
	return (ssize_t)len;
}

static const char *
colour(struct text kind, struct text status)
{
	static const struct {
		const char *word, *colour;
	} colours[] = {{"delivered", "\033[32m"}, {"failed", "\033[31m"},
	    {"queued", "\033[33m"}, {"sent", "\033[33m"}, {"incoming_sms", "\033[36m"}};
	for (size_t i = 0; i < sizeof colours / sizeof *colours; i++)
		if (text_is(status, colours[i].word) || text_is(kind, colours[i].word))
			return colours[i].colour;
	return NULL;
}

/* With spaces after it up to width; wide characters may be off. */
static void
print_column(FILE *out, struct text t, int width)
{
	size_t n = 0;
	for (size_t i = 0; i < t.len; i++)
		n += (t.ptr[i] & 0xc0) != 0x80;
	screen_text(out, t);
	fprintf(out, "%*s", n < (size_t)width ? width - (int)n + 2 : 2, "");
}

static void
print_line(const struct tail *t, const struct rows *rows, int row)
{
	struct text kind = rows_text(rows, row, 3);
	const char *on = is_coloured ? colour(kind, rows_text(rows, row, 5)) : NULL;
	fputs(on ? on : "", t->out);
	screen_time(t->out, rows_int(rows, row, 2));
	fputs("  ", t->out);
	print_column(t->out, kind, 15);
	print_column(t->out, rows_text(rows, row, 4), 14);
	print_column(t->out, rows_text(rows, row, 6), 9);
	print_column(t->out, rows_text(rows, row, 7), 1);
	screen_text(t->out, rows_text(rows, row, 8));
	fputs(on ? "\033[0m" : "", t->out);
}

/* Shows a batch of events.  *n_r: how many rows came; 0: all has been seen. */
static enum err
print_batch(struct tail *t, int *n_r)
{
	char last[24];
	const struct options *o = &t->options;
	const char *sql = !o->is_json ? lines_sql : o->is_full ? full_json_sql : json_sql;
	const char *params[] = {
	    last, *o->kinds ? o->kinds : NULL, "500", o->is_full ? "t" : "f"};
	struct rows rows;
	snprintf(last, sizeof last, "%lld", (long long)t->last);
	enum err e = ask(t, sql, params, 4, &rows);
	*n_r = rows.n;
	for (int i = 0; !e && i < rows.n; i++) {
		t->last = rows_int(&rows, i, 0);
		if (!text_is(rows_text(&rows, i, 1), "t"))
			continue;
		if (o->is_json)
			screen_json(t->out, rows_text(&rows, i, 2));
		else
			print_line(t, &rows, i);
		putc('\n', t->out);
		if (fflush(t->out) || ferror(t->out))
			e = ERR_SYSTEM;
	}
	rows_free(&rows);
	return e || db_is_connected(t->admin->db) ? e : ERR_DB_UNKNOWN;
}

/* ------------------------------------------------------------- following */

static enum err
find_start(struct tail *t)
{
	const struct options *o = &t->options;
	char since[24];
	const char *params[] = {o->has_since ? since : NULL, *o->kinds ? o->kinds : NULL};
	struct rows rows;
	if (o->has_since && o->since.is_id) {
		t->last = o->since.value > 0 ? o->since.value - 1 : 0;
		return ERR_OK;
	}
	snprintf(since, sizeof since, "%lld", (long long)o->since.value);
	enum err e = o->has_since ? ask(t, since_sql, params, 1, &rows)
				  : ask(t, last_sql, params, 2, &rows);
	if (!e)
		t->last = rows_int(&rows, 0, 0);
	rows_free(&rows);
	return e;
}

/* Listens before the first look, so that nothing comes between. */
static enum err
start_listening(struct tail *t)
{
	struct rows rows;
	bool was_listening = t->is_listening;
	enum err e = ask(t, "select pg_is_in_recovery()", NULL, 0, &rows);
	bool is_standby = rows.n > 0 && text_is(rows_text(&rows, 0, 0), "t");
	rows_free(&rows);
	if (e)
		return e;
	t->is_listening = !is_standby && admin_hears(t->admin);
	if (!db_is_connected(t->admin->db))
		return ERR_DB_UNKNOWN;
	if (!t->is_listening && (was_listening || !t->is_out))
		fprintf(stderr,
		    "smshook: notifications do not arrive (%s): polling every second\n",
		    is_standby ? "a standby has none" : "a pooler?");
	if (t->is_listening) {
		e = ask(t, "listen sms_event", NULL, 0, &rows);
		rows_free(&rows);
	}
	return e;
}

static void
note_back(struct tail *t)
{
	if (t->is_out)
		fputs("smshook: connected again\n", stderr);
	t->is_out = false;
	t->pause_ms = PAUSE_MS;
}

/* On one connection, until that is lost; ERR_OK or ERR_SYSTEM: nobody reads the
 * output, or it cannot be written. */
static enum err
follow(struct tail *t)
{
	struct db *db = t->admin->db;
	enum err e = start_listening(t);
	if (!e && t->last < 0)
		e = find_start(t);
	while (!e) {
		int n = 0;
		do
			e = print_batch(t, &n);
		while (!e && n > 0);
		if (e)
			break;
		note_back(t);
		int wait_ms = t->is_listening ? LISTEN_MS : POLL_MS;
		e = db_wait_notify(db, NULL, STDOUT_FILENO, clock_ms() + wait_ms);
		if (e == ERR_SYSTEM)
			return ERR_OK;
		e = db_is_connected(db) ? ERR_OK : ERR_DB_UNKNOWN;
	}
	return e;
}

static void
reconnect(struct tail *t)
{
	struct db *db = t->admin->db;
	if (!t->is_out)
		fprintf(stderr, "smshook: the connection is lost: %s; trying again\n",
		    db_reason(db));
	t->is_out = true;
	do {
		struct timespec pause = {
		    t->pause_ms / 1000, t->pause_ms % 1000 * 1000000L};
		nanosleep(&pause, NULL);
		t->pause_ms =
		    t->pause_ms < MAX_PAUSE_MS / 2 ? 2 * t->pause_ms : MAX_PAUSE_MS;
	} while (db_connect(db, clock_ms() + MAX_PAUSE_MS));
}

/* There is nothing to tidy up but a colour: no transaction is open while it waits. */
static void
quit(int number)
{
	struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};
	ssize_t n = is_coloured && poll(&p, 1, 0) > 0 ? write(p.fd, "\033[0m", 4) : 0;
	(void)number, (void)n;
	_exit(EXIT_SUCCESS);
}

static void
quit_by_signals(void)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGPIPE};
	struct sigaction action = {.sa_handler = quit};
	sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		sigaction(numbers[i], &action, NULL);
}

static bool
may_colour(void)
{
	const char *none = getenv("NO_COLOR"), *term = getenv("TERM");
	return isatty(STDOUT_FILENO) && !(none && *none) && term && *term &&
	       strcmp(term, "dumb") != 0;
}

void
tail(struct admin *a)
{
	struct tail t = {.admin = a, .pause_ms = PAUSE_MS, .last = -1};
	quit_by_signals();
	if (!parse(a->arguments, &t.options) || !admin_connect(a))
		return;
	t.out = fopencookie(&t, "w", (cookie_io_functions_t){.write = put});
	if (!t.out) {
		admin_bad(a, "%s", err_sentence(ERR_MEMORY));
		return;
	}
	is_coloured = may_colour();
	enum err e;
	while ((e = follow(&t)) == ERR_DB_UNKNOWN)
		reconnect(&t);
	if (e == ERR_SYSTEM)
		admin_bad(a, "the output cannot be written; is the disk full?");
	fclose(t.out);
}
