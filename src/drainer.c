#include "drainer.h"

#include "clock.h"
#include "drain.h"
#include "log.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { PAUSE_MS = 500, BATCH = 512, USAGE_MS = 10000 };

struct drainer {
	struct store *served;
	struct store *store; /* the thread's alone, as the drain is */
	struct drain *drain;
	pthread_t thread;
	bool is_running;
	int stop_fd; /* readable from the stop on */
	atomic_bool is_stopping;
	atomic_ullong n_drained, n_files, bytes, n_bad; /* struct drainer_stats */
	_Atomic double notify_usage;
	int64_t usage_at; /* clock_ms() of the next look at it */
	char logged[400]; /* why it could not go on; empty: it could */
};

static void
note(struct drainer *d, enum err e, uint64_t n)
{
	const char *reason = e == ERR_MEMORY  ? "out of memory"
			     : e == ERR_SPOOL ? spool_reason(store_spool(d->store))
					      : store_reason(d->store);
	if (e && e != ERR_BUSY && strcmp(d->logged, reason) != 0)
		log_warn("drain: the spool must wait: %s", reason);
	if (e && e != ERR_BUSY)
		snprintf(d->logged, sizeof d->logged, "%s", reason);
	else
		*d->logged = '\0';
	if (n > 0)
		log_info("drain: %" PRIu64 " events of the spool are in the database", n);
}

/* Until the spool is empty, or cannot be drained now.  That an event went in is
 * what tells that the database is back: an empty batch may pass where a real one
 * does not. */
static void
drain(struct drainer *d)
{
	uint64_t total = 0;
	size_t n = 0;
	enum err e;
	do {
		e = drain_batch(d->drain, BATCH, &n);
		if (n > 0 && store_is_away(d->served))
			store_set_back(d->served);
		atomic_fetch_add(&d->n_drained, n);
		total += n;
	} while (!e && n > 0 && !atomic_load(&d->is_stopping));
	if ((!e || e == ERR_BUSY || e == ERR_SPOOL) && total == 0 &&
	    store_is_away(d->served) && !store_ingest(d->store, NULL, 0))
		store_set_back(d->served);
	note(d, e, total);
	store_disconnect(d->store);
}

static void
look(struct drainer *d)
{
	struct store_stats seen;
	store_stats(d->store, &seen);
	atomic_store(&d->n_files, seen.spool.n_files);
	atomic_store(&d->bytes, seen.spool.bytes);
	atomic_store(&d->n_bad, seen.spool.n_bad);
}

/* While the database is there. */
static void
look_at_notifications(struct drainer *d)
{
	if (clock_ms() < d->usage_at || atomic_load(&d->is_stopping))
		return;
	d->usage_at = clock_ms() + USAGE_MS;
	bool is_away = store_is_away(d->served);
	atomic_store(&d->notify_usage, is_away ? -1 : store_notify_usage(d->store));
	store_disconnect(d->store);
}

static void *
run(void *arg)
{
	struct drainer *d = arg;
	struct pollfd stop = {.fd = d->stop_fd, .events = POLLIN};
	while (!atomic_load(&d->is_stopping)) {
		drain(d);
		look(d);
		look_at_notifications(d);
		poll(&stop, 1, PAUSE_MS);
	}
	return NULL;
}

static enum err
open_parts(struct drainer *d, const struct conf *conf)
{
	enum err e = store_open(&d->store, conf, STORE_NOBODY);
	if (!e || e == ERR_SPOOL)
		e = drain_open(&d->drain, conf, d->store);
	if (e)
		return e;
	d->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (d->stop_fd < 0) {
		log_error("eventfd: %m");
		return ERR_SYSTEM;
	}
	int error = pthread_create(&d->thread, NULL, run, d);
	if (error) {
		log_error("cannot start the drainer's thread: %s", strerror(error));
		return ERR_SYSTEM;
	}
	d->is_running = true;
	return ERR_OK;
}

enum err
drainer_start(struct drainer **drainer_r, const struct conf *conf, struct store *served)
{
	struct drainer *d = calloc(1, sizeof *d);
	*drainer_r = d;
	if (!d)
		return ERR_MEMORY;
	d->served = served;
	d->stop_fd = -1;
	d->notify_usage = -1;
	return open_parts(d, conf);
}

void
drainer_hurry(struct drainer *d)
{
	uint64_t one = 1;
	if (!d || !d->is_running)
		return;
	atomic_store(&d->is_stopping, true);
	store_hurry(d->store);
	if (write(d->stop_fd, &one, sizeof one) < 0)
		log_warn("eventfd: %m");
}

void
drainer_stop(struct drainer **drainer)
{
	struct drainer *d = *drainer;
	if (!d)
		return;
	if (d->is_running) {
		drainer_hurry(d);
		pthread_join(d->thread, NULL);
	}
	if (d->stop_fd >= 0)
		close(d->stop_fd);
	drain_close(&d->drain);
	store_close(&d->store);
	free(d);
	*drainer = NULL;
}

void
drainer_stats(const struct drainer *d, struct drainer_stats *stats_r)
{
	stats_r->n_drained = atomic_load(&d->n_drained);
	stats_r->is_up = !store_is_away(d->served);
	stats_r->spool.n_files = atomic_load(&d->n_files);
	stats_r->spool.bytes = atomic_load(&d->bytes);
	stats_r->spool.n_bad = atomic_load(&d->n_bad);
	stats_r->notify_usage = atomic_load(&d->notify_usage);
}
