/* The policy: where a batch of events goes, and what becomes of one that
 * PostgreSQL refuses.  One thread at a time. */
#ifndef STORE_H
#define STORE_H

#include "conf.h"
#include "event.h"

struct store;

/* conf must outlive *store_r.  Does not connect.  Errors: ERR_MEMORY;
 * ERR_CONFIG, logged. */
enum err store_open(struct store **store_r, const struct conf *conf) MUST_USE;
void store_close(struct store **store);

/* Commits n events, borrowed, n 0 to try the way, and sets result, id and
 * duplicate_of of each: ERR_OK when it is committed, ERR_DB_DATA when it was
 * refused by itself and is kept in sms.rejected, else it is not kept.
 * Comes back by the deadline (clock_ms()).  Returns ERR_OK when the database
 * took what it was given. */
enum err store_commit(
    struct store *s, struct event *const *events, size_t n, int64_t deadline) MUST_USE;

#endif
