/* The thread that drains the spool while the receiver runs, and finds out when
 * a database that was away is back: no request waits for that. */
#ifndef DRAINER_H
#define DRAINER_H

#include "conf.h"
#include "store.h"

struct drainer;

/* Starts it, with a connection of its own that it has only while it works.
 * served: the store that is told that the database is back.  Both must outlive
 * *drainer_r.  Errors, logged: ERR_MEMORY, ERR_SYSTEM. */
enum err drainer_start(
    struct drainer **drainer_r, const struct conf *conf, struct store *served) MUST_USE;

/* It ends soon; then waits for it, as long as a commit may take. */
void drainer_hurry(struct drainer *d);
void drainer_stop(struct drainer **drainer);

struct drainer_stats {
	uint64_t n_drained; /* events */
	bool is_up;         /* the database, as far as was tried */
	struct spool_usage spool;
	double notify_usage; /* of ten seconds ago at most; negative: not known */
};

/* As of its last round, half a second ago at most but for notify_usage.  Any thread. */
void drainer_stats(const struct drainer *d, struct drainer_stats *stats_r);

#endif
