#include "store.h"

#include "clock.h"
#include "db.h"
#include "log.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	AWAY_MS = 1000, /* beyond the database's timeout: for STORE_PROCESSES */
	MAX_CONFLICTS = 5,
	SILENCE_MS = 10000 /* between two tries to notify, when the queue is full */
};

struct store {
	const struct conf *conf;
	enum store_probe probe;
	struct db *db;
	struct spool *spool;
	atomic_bool is_away, is_hurried;
	enum { UNTRIED, UP, DOWN } state;
	char logged[400];      /* why it is down */
	bool is_spool_failing; /* and it was logged */
	bool is_silent;        /* the queue of NOTIFY is full, and it was logged */
	int64_t silent_until;  /* clock_ms() of the next try to notify */
	char reason[400];      /* of the last call that failed */
	struct event **unkept; /* conf->threads of them */
};

enum err
store_open(struct store **store_r, const struct conf *conf, enum store_probe probe)
{
	struct store *s = calloc(1, sizeof *s);
	*store_r = s;
	if (!s)
		return ERR_MEMORY;
	s->conf = conf;
	s->probe = probe;
	s->unkept = calloc((size_t)conf->threads, sizeof(struct event *));
	if (!s->unkept)
		return ERR_MEMORY;
	enum err e = db_open(&s->db, conf->conninfo);
	if (e)
		return e;
	e = spool_open(&s->spool, conf->spool_directory, conf->spool_max_size);
	if (s->spool && probe == STORE_PROCESSES)
		spool_set_brief(s->spool);
	if (e == ERR_SPOOL) {
		if (probe != STORE_NOBODY)
			log_error("spool: %s", spool_reason(s->spool));
		s->is_spool_failing = true;
	}
	return e;
}

void
store_close(struct store **store)
{
	struct store *s = *store;
	if (!s)
		return;
	spool_close(&s->spool);
	db_close(&s->db);
	free(s->unkept);
	free(s);
	*store = NULL;
}

enum err
store_load(struct store *s)
{
	enum err e = db_load(s->db);
	if (e)
		log_error("%s: [database] conninfo: %s", s->conf->path, db_reason(s->db));
	return e;
}

static void
set_reason(struct store *s, const char *reason)
{
	snprintf(s->reason, sizeof s->reason, "%s", reason);
}

const char *
store_reason(const struct store *s)
{
	return s->reason;
}

/* ------------------------------------------------------------------ away */

bool
store_is_away(const struct store *s)
{
	return atomic_load(&s->is_away);
}

void
store_set_back(struct store *s)
{
	atomic_store(&s->is_away, false);
}

void
store_hurry(struct store *s)
{
	atomic_store(&s->is_hurried, true);
}

static bool
may_try(struct store *s)
{
	if (s->probe == STORE_PROCESSES && !db_is_connected(s->db))
		return !spool_is_away(s->spool, s->conf->timeout_ms + AWAY_MS);
	return s->probe == STORE_NOBODY || !store_is_away(s);
}

/* Notes whether the database is there, and logs what is new.  One that has
 * failed us is met again by a new connection: another may need our place. */
static void
note_database(struct store *s, bool is_down)
{
	bool is_quiet = s->probe == STORE_NOBODY; /* the caller has store_reason() */
	if (is_down) {
		db_disconnect(s->db);
		if (!is_quiet && (s->state != DOWN || strcmp(s->logged, s->reason) != 0))
			log_error("database: %s", s->reason);
		snprintf(s->logged, sizeof s->logged, "%s", s->reason);
	} else if (s->state == DOWN && !is_quiet) {
		log_info("database: back");
	}
	if (is_down ? s->probe == STORE_PROCESSES : s->state != UP)
		spool_note_away(s->spool, is_down);
	s->state = is_down ? DOWN : UP;
	atomic_store(&s->is_away, is_down);
}

static void
note_spool(struct store *s, enum err e)
{
	if (e == ERR_SPOOL)
		set_reason(s, spool_reason(s->spool));
	if (e == ERR_SPOOL && !s->is_spool_failing)
		log_error("spool: %s", s->reason);
	else if (!e && s->is_spool_failing)
		log_info("spool: can be written again");
	s->is_spool_failing = e == ERR_SPOOL;
}

/* -------------------------------------------------------------- database */

/* One call of sms.ingest.  A connection that broke while it was idle shows
 * only now, and a conflict passes: a replay is harmless, by ingest_id. */
static enum err
ingest(
    struct store *s, struct event *const *events, size_t n, bool notify, int64_t deadline)
{
	enum err e = ERR_DB_DOWN;
	bool is_fresh = false; /* the connection was made here */
	int n_conflicts = 0;
	do {
		if (!db_is_connected(s->db)) {
			e = db_connect(s->db, deadline);
			is_fresh = true;
		}
		if (db_is_connected(s->db))
			e = db_ingest(s->db, events, n, notify, deadline);
	} while (clock_left(deadline) > 0 &&
		 ((e == ERR_DB_CONFLICT && ++n_conflicts < MAX_CONFLICTS) ||
		     (!db_is_connected(s->db) && !is_fresh)));
	if (e)
		set_reason(s, db_reason(s->db));
	if (e == ERR_DB_DOWN || e == ERR_DB_UNKNOWN)
		note_database(s, true);
	else if (e == ERR_OK || e == ERR_DB_DATA)
		note_database(s, false);
	return e;
}

/* Whether a batch tells that notifications work: one that has notified somebody. */
static bool
has_notified(struct event *const *events, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (events[i]->id > 0 && !events[i]->duplicate_of)
			return true;
	return false;
}

/* With notifications, but while their queue is full: they are only a hint. */
static enum err
ingest_or_silence(
    struct store *s, struct event *const *events, size_t n, int64_t deadline)
{
	bool notify = s->conf->notify && !(s->is_silent && clock_ms() < s->silent_until);
	enum err e = ingest(s, events, n, notify, deadline);
	bool is_full =
	    e == ERR_DB_DATA && notify && strncmp(s->reason, "SQLSTATE 54000", 14) == 0;
	if (is_full) {
		e = ingest(s, events, n, false, deadline);
		s->silent_until = clock_ms() + SILENCE_MS;
	}
	if (is_full && !e && !s->is_silent) {
		log_warn(
		    "events are stored, but nobody is notified: the queue of NOTIFY "
		    "is full; end the listener that sleeps in a transaction: select * "
		    "from pg_stat_activity where xact_start < now() - interval '1 "
		    "minute'");
		s->is_silent = true;
	} else if (s->is_silent && notify && !e && !is_full && has_notified(events, n)) {
		log_info("notifications: back");
		s->is_silent = false;
	}
	return e;
}

/* The event has an error of its own.  What PostgreSQL cannot hold is kept as a
 * rejected body. */
static enum err
commit_refused(struct store *s, struct event *ev, int64_t deadline)
{
	char reason[120];
	snprintf(reason, sizeof reason, "PostgreSQL: %s", db_reason(s->db));
	bool is_event = ev->http_status == EVENT_NO_INT;
	event_reject(
	    ev, is_event ? err_status(ERR_DB_DATA) : ev->http_status, "%s", reason);
	enum err e = ingest(s, &ev, 1, false, deadline);
	if (!e)
		log_error("an event was refused and is kept in sms.rejected: %s", reason);
	else if (e == ERR_DB_DATA)
		log_error("an event was refused, and its bytes too: %s", reason);
	return !e ? ERR_DB_DATA : e == ERR_DB_DATA ? ERR_SYSTEM : e;
}

/* Commits n events and sets the result of each.  When one of them is bad the
 * halves go by themselves, that it alone suffers.  Returns the first error that
 * is not an event's own. */
static enum err
commit(struct store *s, struct event *const *events, size_t n, int64_t deadline)
{
	int64_t own = clock_ms() + s->conf->timeout_ms;
	if (atomic_load(&s->is_hurried))
		return ERR_DB_DOWN;
	enum err e = ingest_or_silence(s, events, n, own < deadline ? own : deadline);
	if (e == ERR_DB_DATA && n > 1) {
		enum err first = commit(s, events, n / 2, deadline);
		enum err second = commit(s, events + n / 2, n - n / 2, deadline);
		return first ? first : second;
	}
	if (e == ERR_DB_DATA && n == 1)
		e = commit_refused(s, events[0], own < deadline ? own : deadline);
	for (size_t i = 0; i < n; i++)
		events[i]->result = e;
	return e == ERR_DB_DATA || e == ERR_SYSTEM ? ERR_OK : e;
}

/* ---------------------------------------------------------------- events */

/* Writes what was not committed, all of it into one file. */
static enum err
spool_rest(struct store *s, struct event *const *events, size_t n)
{
	size_t n_left = 0;
	for (size_t i = 0; i < n; i++)
		if (!event_is_kept(events[i]))
			s->unkept[n_left++] = events[i];
	if (n_left == 0)
		return ERR_OK;
	qsort(s->unkept, n_left, sizeof *s->unkept, event_compare);
	enum err e = spool_put(s->spool, s->unkept, n_left);
	note_spool(s, e);
	for (size_t i = 0; i < n_left; i++) {
		s->unkept[i]->result = e;
		s->unkept[i]->is_spooled = !e;
	}
	return e;
}

enum err
store_commit(struct store *s, struct event *const *events, size_t n, int64_t deadline)
{
	int64_t until = deadline - STORE_SPOOL_MS;
	bool has_tried = may_try(s) && clock_left(deadline) >= STORE_MIN_MS;
	enum err e = ERR_DB_DOWN;
	for (size_t i = 0; i < n; i++)
		events[i]->result = e;
	if (has_tried)
		e = commit(s, events, n, until);
	if (n == 0 && e) {
		e = spool_try(s->spool);
		note_spool(s, e);
	} else if (n > 0) {
		e = spool_rest(s, events, n);
	}
	/* Neither way: the database may be back all the same. */
	if (e && !has_tried && clock_left(deadline) >= STORE_MIN_MS)
		e = commit(s, events, n, until);
	return e;
}

void
store_stats(struct store *s, struct store_stats *stats_r)
{
	stats_r->is_up = s->state == UP && !store_is_away(s);
	enum err e = spool_usage(s->spool, &stats_r->spool);
	if (e) /* that it can be read does not say that it can be written */
		note_spool(s, e);
}

enum err
store_ingest(struct store *s, struct event *const *events, size_t n)
{
	for (size_t i = 0; i < n; i++)
		events[i]->result = ERR_DB_DOWN;
	return commit(s, events, n, INT64_MAX);
}

bool
store_can_ingest(struct store *s)
{
	char reason[sizeof s->reason];
	memcpy(reason, s->reason, sizeof reason);
	enum err e = commit(s, NULL, 0, INT64_MAX);
	memcpy(s->reason, reason, sizeof reason);
	return !e;
}

double
store_notify_usage(struct store *s)
{
	struct rows rows = {0};
	double usage = -1;
	int64_t deadline = clock_ms() + s->conf->timeout_ms;
	enum err e = ERR_OK;
	if (!db_is_connected(s->db))
		e = db_connect(s->db, deadline);
	if (!e)
		e = db_select(s->db, "select pg_notification_queue_usage()", NULL, 0,
		    deadline, &rows);
	if (!e && rows.n > 0)
		usage = strtod(rows_text(&rows, 0, 0).ptr, NULL);
	rows_free(&rows);
	return usage;
}

bool
store_is_connected(const struct store *s)
{
	return db_is_connected(s->db);
}

struct spool *
store_spool(struct store *s)
{
	return s->spool;
}

void
store_disconnect(struct store *s)
{
	db_disconnect(s->db);
}
