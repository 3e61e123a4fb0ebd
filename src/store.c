#include "store.h"

#include "clock.h"
#include "db.h"
#include "log.h"

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
	return db_open(&s->db, conf->conninfo);
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

static enum err
connect_again(struct store *s, int64_t deadline)
{
	if (clock_ms() < s->retry_at)
		return ERR_DB_DOWN;
	enum err e = db_connect(s->db, deadline);
	if (e)
		s->retry_at = clock_ms() + RETRY_PAUSE_MS;
	return e;
}

/* One call of sms.ingest.  A connection that broke while it was idle shows
 * only now: a replay on a new one is harmless, by ingest_id. */
static enum err
ingest(struct store *s, struct event *const *events, size_t n, int64_t deadline)
{
	enum err e = ERR_OK;
	for (int attempt = 0; attempt < 2; attempt++) {
		if (!db_is_connected(s->db) && (e = connect_again(s, deadline)))
			break;
		e = db_ingest(s->db, events, n, s->conf->notify, deadline);
		if (db_is_connected(s->db) || clock_left(deadline) == 0)
			break;
	}
	note_state(s, e == ERR_DB_DOWN || e == ERR_DB_UNKNOWN);
	return e;
}

/* An event that PostgreSQL cannot hold is kept as a rejected body. */
static enum err
quarantine(struct store *s, struct event *ev, int64_t deadline)
{
	log_error(
	    "event refused by the database, kept in sms.rejected: %s", db_reason(s->db));
	event_reject(ev, err_status(ERR_DB_DATA), "PostgreSQL: %s", db_reason(s->db));
	enum err e = ingest(s, &ev, 1, deadline);
	if (e == ERR_DB_DATA)
		return ERR_SYSTEM; /* not even as bytes: it is not kept */
	return e ? e : ERR_DB_DATA;
}

enum err
store_commit(struct store *s, struct event *const *events, size_t n, int64_t deadline)
{
	int64_t own = clock_ms() + s->conf->timeout_ms;
	if (own < deadline)
		deadline = own;
	enum err e = ingest(s, events, n, deadline);
	for (size_t i = 0; i < n; i++)
		events[i]->result = e;
	if (e != ERR_DB_DATA)
		return e;
	if (n == 1) {
		events[0]->result = quarantine(s, events[0], deadline);
		return events[0]->result == ERR_DB_DATA ? ERR_OK : events[0]->result;
	}
	/* One of them is bad: each by itself, that it alone suffers. */
	for (size_t i = 0; i < n; i++) {
		enum err one = store_commit(s, &events[i], 1, deadline);
		e = i == 0 || one ? one : e;
	}
	return e;
}
