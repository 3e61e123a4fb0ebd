/* The policy: where a batch of events goes.  PostgreSQL first; what it does not
 * take now goes to the spool; what it refuses by itself, to sms.rejected.
 * One thread at a time, but for what says otherwise. */
#ifndef STORE_H
#define STORE_H

#include "conf.h"
#include "event.h"
#include "spool.h"

struct store;

/* With less time left the database is not tried: the spool takes some, too. */
enum { STORE_SPOOL_MS = 500, STORE_MIN_MS = 700 };

/* Who finds out that a database is back. */
enum store_probe {
	STORE_DRAINER,   /* another thread, which calls store_set_back() */
	STORE_PROCESSES, /* one of many processes, by a note in the spool */
	STORE_NOBODY     /* each call tries, and no outage is logged: the drain's */
};

struct store_stats {
	bool is_up; /* the database, as far as was tried */
	struct spool_usage spool;
};

/* conf must outlive *store_r.  Does not connect.  Errors: ERR_MEMORY; ERR_SPOOL,
 * logged: the spool cannot be used now, all else works. */
enum err store_open(
    struct store **store_r, const struct conf *conf, enum store_probe probe) MUST_USE;
void store_close(struct store **store);

/* Loads what a connection needs; else the first connection does.  Errors:
 * ERR_CONFIG, logged: conninfo is none. */
enum err store_load(struct store *s) MUST_USE;

/* Keeps n events, borrowed, at most conf->threads, n 0 to try the ways, and sets
 * result, is_spooled, id and duplicate_of of each: ERR_OK when it is committed
 * or on the disk, ERR_DB_DATA when it was refused by itself and is kept in
 * sms.rejected, else it is not kept.  Comes back by the deadline (clock_ms()),
 * unless a disk or the lookup of a name hangs.  Returns ERR_OK when an event would be
 * kept now. */
enum err store_commit(
    struct store *s, struct event *const *events, size_t n, int64_t deadline) MUST_USE;

/* Whether the database is left in peace until it is back; and that it is.  Any
 * thread. */
bool store_is_away(const struct store *s);
void store_set_back(struct store *s);

void store_stats(struct store *s, struct store_stats *stats_r);

/* For the drain.  Commits n events to the database alone, n 0 to try it, and sets
 * the result of each, also ERR_SYSTEM: it cannot be stored at all.  Errors: the
 * first that is not an event's own. */
enum err store_ingest(struct store *s, struct event *const *events, size_t n) MUST_USE;

/* Whether it takes an empty batch: store_reason() stays. */
bool store_can_ingest(struct store *s);

/* How full the server's queue of notifications is, 0 to 1; negative when it is not
 * known.  A listener that sleeps in a transaction fills it. */
double store_notify_usage(struct store *s);

/* From now on nothing is begun: what is under way ends with ERR_DB_DOWN.  Any
 * thread. */
void store_hurry(struct store *s);
bool store_is_connected(const struct store *s);
void store_disconnect(struct store *s);
struct spool *store_spool(struct store *s);

/* Why the last call failed, for an administrator. */
const char *store_reason(const struct store *s);

#endif
