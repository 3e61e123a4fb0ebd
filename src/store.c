#include "store.h"

#include "clock.h"
#include "db.h"
#include "log.h"

#include <stdio.h>
#include <stdlib.h>

/* A database that is away is tried again after this pause, not by each batch. */
enum { RETRY_PAUSE_MS = 500 };

struct store {
	const struct conf *conf;
	struct db *db;
	bool is_down; /* and it was logged */
	int64_t retry_at;
};

enum err
store_open(struct store **store_r, const struct conf *conf)
{
	struct store *s = calloc(1, sizeof *s);
	*store_r = s;
	if (!s)
		return ERR_MEMORY;
	s->conf = conf;
	enum err e = db_open(&s->db, conf->conninfo);
	if (e == ERR_CONFIG)
		log_error("%s: [database] conninfo: %s", conf->path, db_reason(s->db));
	return e;
}

void
store_close(struct store **store)
{
	if (!*store)
		return;
	db_close(&(*store)->db);
	free(*store);
	*store = NULL;
}

/* Logs a change between up and down, once. */
static void
note_state(struct store *s, bool is_down)
{
	if (is_down && !s->is_down)
		log_error("database: %s", db_reason(s->db));
	else if (!is_down && s->is_down)
		log_info("database: back");
	s->is_down = is_down;
}

/* One call of sms.ingest.  A connection that broke while it was idle shows
 * only now, and a conflict passes: a replay is harmless, by ingest_id. */
static enum err
ingest(
    struct store *s, struct event *const *events, size_t n, bool notify, int64_t deadline)
{
	enum err e = ERR_DB_DOWN;
	bool is_fresh = false; /* the connection was made here */
	if (clock_ms() < s->retry_at)
		return ERR_DB_DOWN;
	do {
		if (!db_is_connected(s->db)) {
			e = db_connect(s->db, deadline);
			is_fresh = true;
		}
		if (db_is_connected(s->db))
			e = db_ingest(s->db, events, n, notify, deadline);
	} while (clock_left(deadline) > 0 &&
		 (e == ERR_DB_CONFLICT || (!db_is_connected(s->db) && !is_fresh)));
	bool is_down = e == ERR_DB_DOWN || e == ERR_DB_UNKNOWN;
	if (is_down)
		s->retry_at = clock_ms() + RETRY_PAUSE_MS;
	if (is_down || e == ERR_OK || e == ERR_DB_DATA)
		note_state(s, is_down);
	return e;
}

/* The event has an error of its own, or its notification has: the queue of
 * NOTIFY is full, say.  A notification is only a hint.  What PostgreSQL cannot
 * hold is kept as a rejected body. */
static enum err
commit_refused(struct store *s, struct event *ev, int64_t deadline)
{
	char reason[120];
	enum err e = ERR_DB_DATA;
	snprintf(reason, sizeof reason, "PostgreSQL: %s", db_reason(s->db));
	if (s->conf->notify)
		e = ingest(s, &ev, 1, false, deadline);
	if (!e)
		log_warn("an event was stored without its notification: %s", reason);
	if (e != ERR_DB_DATA)
		return e;
	event_reject(ev, err_status(ERR_DB_DATA), "%s", reason);
	e = ingest(s, &ev, 1, false, deadline);
	if (!e)
		log_error("an event was refused and is kept in sms.rejected: %s", reason);
	else if (e == ERR_DB_DATA)
		log_error("an event was refused, and its bytes too: %s", reason);
	return !e ? ERR_DB_DATA : e == ERR_DB_DATA ? ERR_SYSTEM : e;
}

enum err
store_commit(struct store *s, struct event *const *events, size_t n, int64_t deadline)
{
	int64_t own = clock_ms() + s->conf->timeout_ms;
	if (own < deadline)
		deadline = own;
	enum err e = ingest(s, events, n, s->conf->notify, deadline);
	for (size_t i = 0; i < n; i++)
		events[i]->result = e;
	if (e != ERR_DB_DATA || n == 0)
		return e;
	if (n == 1) {
		events[0]->result = commit_refused(s, events[0], deadline);
		return events[0]->result == ERR_DB_DATA ? ERR_OK : events[0]->result;
	}
	/* One of them is bad: each by itself, that it alone suffers. */
	e = ERR_OK;
	for (size_t i = 0; i < n; i++) {
		enum err one = store_commit(s, &events[i], 1, deadline);
		e = one ? one : e;
	}
	return e;
}
