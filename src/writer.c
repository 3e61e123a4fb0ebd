#include "writer.h"

#include "clock.h"
#include "log.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/queue.h>

/* A commit ends by the deadline of its events, unless something hangs. */
enum { GRACE_MS = 150 };

/* One call of writer_submit(), or what it has left behind. */
struct waiting {
	struct event *ev; /* NULL: a trial */
	int64_t deadline;
	enum err result;
	bool is_taken, is_done; /* by w->mutex */
	bool is_left;           /* nobody waits for it any more; by w->mutex */
	pthread_cond_t done;    /* by w->mutex */
	TAILQ_ENTRY(waiting) link;
};

struct writer {
	struct store *store; /* the thread's alone, once it runs */
	size_t max_batch;
	struct waiting **batch;  /* the thread's alone */
	struct event **events;   /* the thread's alone */
	struct store_stats seen; /* the thread's alone */
	pthread_t thread;
	bool is_running; /* set before other threads begin */
	pthread_condattr_t monotonic;

	pthread_mutex_t mutex;
	pthread_cond_t work;           /* by mutex */
	TAILQ_HEAD(, waiting) waiting; /* by mutex */
	bool is_stopping;              /* by mutex */
	bool is_hanging;               /* a batch was left to itself; by mutex */
	struct writer_stats stats;     /* by mutex */
};

enum err
writer_open(struct writer **writer_r, struct store *store, size_t max_batch)
{
	struct writer *w = calloc(1, sizeof *w);
	*writer_r = w;
	if (!w)
		return ERR_MEMORY;
	w->store = store;
	w->max_batch = max_batch;
	w->batch = calloc(max_batch, sizeof *w->batch);
	w->events = calloc(max_batch, sizeof *w->events);
	TAILQ_INIT(&w->waiting);
	pthread_condattr_init(&w->monotonic);
	pthread_condattr_setclock(&w->monotonic, CLOCK_MONOTONIC);
	pthread_mutex_init(&w->mutex, NULL);
	pthread_cond_init(&w->work, NULL);
	return w->batch && w->events ? ERR_OK : ERR_MEMORY;
}

static void
give_up(struct writer *w, struct waiting *x)
{
	TAILQ_REMOVE(&w->waiting, x, link);
	x->result = ERR_BUSY;
	x->is_done = true;
	w->stats.failed += x->ev != NULL;
}

static bool
is_late(const struct waiting *x, int64_t now)
{
	return x->deadline < now + STORE_MIN_MS;
}

/* Moves what waits, oldest first, from the queue to the batch.  Those whose time
 * is all but over go by themselves, straight to the spool: the whole batch would
 * have to end with them. */
static size_t
take(struct writer *w)
{
	struct waiting *x, *next;
	size_t n = 0;
	int64_t now = clock_ms();
	bool has_late = false;
	TAILQ_FOREACH(x, &w->waiting, link)
	has_late = has_late || is_late(x, now);
	for (x = TAILQ_FIRST(&w->waiting); x && n < w->max_batch; x = next) {
		next = TAILQ_NEXT(x, link);
		if (has_late && !is_late(x, now))
			continue;
		TAILQ_REMOVE(&w->waiting, x, link);
		x->is_taken = true;
		w->batch[n++] = x;
	}
	return n;
}

/* Commits the batch of n, before the first of them is out of patience.  With a
 * trial in it the state of things is looked at, too. */
static void
commit(struct writer *w, size_t n)
{
	size_t n_events = 0;
	int64_t deadline = INT64_MAX;
	for (size_t i = 0; i < n; i++) {
		if (w->batch[i]->ev)
			w->events[n_events++] = w->batch[i]->ev;
		if (w->batch[i]->deadline < deadline)
			deadline = w->batch[i]->deadline;
	}
	enum err e = store_commit(w->store, w->events, n_events, deadline);
	if (n_events < n)
		store_stats(w->store, &w->seen);
	for (size_t i = 0; i < n; i++)
		w->batch[i]->result = w->batch[i]->ev ? w->batch[i]->ev->result : e;
}

static void
count(struct writer_stats *stats, const struct event *ev)
{
	if (ev->result != ERR_OK && ev->result != ERR_DB_DATA)
		stats->failed++;
	else if (ev->is_spooled)
		stats->spooled++;
	else if (ev->http_status != EVENT_NO_INT)
		stats->rejected++;
	else if (ev->duplicate_of)
		stats->duplicate++;
	else
		stats->stored++;
}

static void
discard(struct waiting *x)
{
	if (x->ev)
		event_free(x->ev);
	free(x->ev);
	pthread_cond_destroy(&x->done);
	free(x);
}

/* After this the events of the batch are their owners' again. */
static void
release(struct writer *w, size_t n)
{
	bool has_events = false;
	for (size_t i = 0; i < n; i++) {
		struct waiting *x = w->batch[i];
		if (x->ev) {
			has_events = true;
			count(&w->stats, x->ev);
		}
		x->is_done = true;
		if (x->is_left)
			discard(x);
		else
			pthread_cond_signal(&x->done);
	}
	w->stats.commits += has_events;
	w->stats.store = w->seen;
	w->is_hanging = false;
}

/* Holds the mutex but while it waits or commits. */
static void *
run(void *arg)
{
	struct writer *w = arg;
	pthread_mutex_lock(&w->mutex);
	for (;;) {
		while (TAILQ_EMPTY(&w->waiting) && !w->is_stopping)
			pthread_cond_wait(&w->work, &w->mutex);
		if (TAILQ_EMPTY(&w->waiting))
			break;
		size_t n = take(w);
		if (n == 0)
			continue;
		pthread_mutex_unlock(&w->mutex);
		commit(w, n);
		pthread_mutex_lock(&w->mutex);
		release(w, n);
	}
	pthread_mutex_unlock(&w->mutex);
	return NULL;
}

enum err
writer_start(struct writer *w)
{
	int e = pthread_create(&w->thread, NULL, run, w);
	if (e) {
		log_error("cannot start the writer's thread: %s", strerror(e));
		return ERR_SYSTEM;
	}
	w->is_running = true;
	return ERR_OK;
}

void
writer_close(struct writer **writer)
{
	struct writer *w = *writer;
	if (!w)
		return;
	if (w->is_running) {
		pthread_mutex_lock(&w->mutex);
		w->is_stopping = true;
		pthread_cond_signal(&w->work);
		pthread_mutex_unlock(&w->mutex);
		pthread_join(w->thread, NULL);
	}
	pthread_cond_destroy(&w->work);
	pthread_mutex_destroy(&w->mutex);
	pthread_condattr_destroy(&w->monotonic);
	free(w->batch);
	free(w->events);
	free(w);
	*writer = NULL;
}

static int64_t
end_of(const struct waiting *x)
{
	return x->deadline + (x->is_taken ? GRACE_MS : 0);
}

/* With the mutex held.  False: it hangs, and was left to the writer. */
static bool
wait_until_done(struct writer *w, struct waiting *x)
{
	while (!x->is_done) {
		int64_t end = end_of(x);
		struct timespec until = {end / 1000, (long)(end % 1000) * 1000000};
		pthread_cond_timedwait(&x->done, &w->mutex, &until);
		if (x->is_done || clock_left(end_of(x)) > 0)
			continue;
		if (x->is_taken) {
			log_error(
			    "a commit hangs: is it a disk, or the lookup of a name?");
			x->is_left = w->is_hanging = true;
			return false;
		}
		give_up(w, x);
	}
	return true;
}

/* Without a thread: commits by itself. */
static enum err
submit_alone(struct writer *w, struct event *ev, int64_t deadline)
{
	struct waiting x = {.ev = ev, .deadline = deadline};
	w->batch[0] = &x;
	commit(w, 1);
	if (ev)
		count(&w->stats, ev);
	w->stats.store = w->seen;
	return x.result;
}

enum err
writer_submit(struct writer *w, struct event **ev, int64_t deadline)
{
	if (!w->is_running)
		return submit_alone(w, *ev, deadline);
	struct waiting *x = calloc(1, sizeof *x);
	enum err e = ERR_BUSY;
	if (!x)
		return ERR_MEMORY;
	x->ev = *ev;
	x->deadline = deadline;
	pthread_cond_init(&x->done, &w->monotonic);
	pthread_mutex_lock(&w->mutex);
	TAILQ_INSERT_TAIL(&w->waiting, x, link);
	pthread_cond_signal(&w->work);
	bool is_ours = true;
	if (w->is_hanging) /* nobody else is to wait for that */
		give_up(w, x);
	else
		is_ours = wait_until_done(w, x);
	pthread_mutex_unlock(&w->mutex);
	if (is_ours) {
		e = x->result;
		pthread_cond_destroy(&x->done);
		free(x);
	} else {
		*ev = NULL;
	}
	return e;
}

void
writer_stats(struct writer *w, struct writer_stats *stats_r)
{
	pthread_mutex_lock(&w->mutex);
	*stats_r = w->stats;
	pthread_mutex_unlock(&w->mutex);
}
