#include "writer.h"

#include "clock.h"
#include "log.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/queue.h>

/* A commit ends by the deadline of its events, unless something hangs. */
enum { GRACE_MS = 150 };

/* One call of writer_submit(), or what it has left behind.  By a semaphore, for who
 * waits at a condition would meet the others at its mutex when they are woken. */
struct waiting {
	struct event *ev; /* NULL: a trial */
	int64_t deadline;
	enum err result;           /* set before it is done */
	bool is_taken;             /* by w->mutex */
	TAILQ_ENTRY(waiting) link; /* by w->mutex */
	sem_t done;                /* it may be freed when this was waited for */
	atomic_bool is_over;       /* done, or nobody waits for it any more */
};

struct writer {
	struct store *store; /* the thread's alone, once it runs */
	size_t max_batch;
	struct waiting **batch;  /* the thread's alone */
	struct event **events;   /* the thread's alone */
	struct store_stats seen; /* the thread's alone */
	pthread_t thread;
	bool is_running; /* set before other threads begin */

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
	pthread_mutex_init(&w->mutex, NULL);
	pthread_cond_init(&w->work, NULL);
	return w->batch && w->events ? ERR_OK : ERR_MEMORY;
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
	for (size_t i = 0; i < n; i++) /* nobody looks at it before it is done */
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
	sem_destroy(&x->done);
	free(x);
}

static void
count_batch(struct writer *w, size_t n)
{
	bool has_events = false;
	pthread_mutex_lock(&w->mutex);
	for (size_t i = 0; i < n; i++)
		if (w->batch[i]->ev) {
			has_events = true;
			count(&w->stats, w->batch[i]->ev);
		}
	w->stats.commits += has_events;
	w->stats.store = w->seen;
	pthread_mutex_unlock(&w->mutex);
}

/* After this the event is its owner's again. */
static void
release(struct waiting *x)
{
	if (atomic_exchange(&x->is_over, true))
		discard(x);
	else
		sem_post(&x->done);
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
		count_batch(w, n);
		for (size_t i = 0; i < n; i++)
			release(w->batch[i]);
		pthread_mutex_lock(&w->mutex);
		w->is_hanging = false; /* none of the batch can be left any more */
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
	free(w->batch);
	free(w->events);
	free(w);
	*writer = NULL;
}

/* False at the time until. */
static bool
wait_until(struct waiting *x, int64_t until)
{
	struct timespec t = {until / 1000, (long)(until % 1000) * 1000000};
	int e;
	do
		e = sem_clockwait(&x->done, CLOCK_MONOTONIC, &t);
	while (e < 0 && errno == EINTR);
	return e == 0 && atomic_load(&x->is_over); /* and all before it is seen */
}

/* Takes it out of the queue, where it still is.  False: the writer has it. */
static bool
give_up(struct writer *w, struct waiting *x)
{
	pthread_mutex_lock(&w->mutex);
	bool is_ours = !x->is_taken;
	if (is_ours) {
		TAILQ_REMOVE(&w->waiting, x, link);
		w->stats.failed += x->ev != NULL;
	}
	pthread_mutex_unlock(&w->mutex);
	return is_ours;
}

/* Leaves it to the writer, which hangs.  False: it has just been done. */
static bool
leave(struct writer *w, struct waiting *x)
{
	pthread_mutex_lock(&w->mutex);
	bool is_left = !atomic_exchange(&x->is_over, true);
	w->is_hanging = w->is_hanging || is_left;
	pthread_mutex_unlock(&w->mutex);
	if (is_left)
		log_error("a commit hangs: is it a disk, or the lookup of a name?");
	else
		while (sem_wait(&x->done) < 0)
			;
	return is_left;
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

/* False when nobody is to wait for it: the writer hangs. */
static bool
enqueue(struct writer *w, struct waiting *x)
{
	pthread_mutex_lock(&w->mutex);
	bool is_hanging = w->is_hanging;
	if (is_hanging) {
		w->stats.failed += x->ev != NULL;
	} else {
		TAILQ_INSERT_TAIL(&w->waiting, x, link);
	}
	pthread_mutex_unlock(&w->mutex);
	pthread_cond_signal(&w->work); /* now, that it need not wait for the mutex */
	return !is_hanging;
}

enum err
writer_submit(struct writer *w, struct event **ev, int64_t deadline)
{
	if (!w->is_running)
		return submit_alone(w, *ev, deadline);
	struct waiting *x = calloc(1, sizeof *x);
	if (!x)
		return ERR_MEMORY;
	x->ev = *ev;
	x->deadline = deadline;
	x->result = ERR_BUSY;
	sem_init(&x->done, 0, 0);
	if (enqueue(w, x) && !wait_until(x, deadline) && !give_up(w, x) &&
	    !wait_until(x, deadline + GRACE_MS) && leave(w, x)) {
		*ev = NULL;
		return ERR_BUSY;
	}
	enum err e = x->result;
	x->ev = NULL; /* it is the caller's */
	discard(x);
	return e;
}

void
writer_stats(struct writer *w, struct writer_stats *stats_r)
{
	pthread_mutex_lock(&w->mutex);
	*stats_r = w->stats;
	pthread_mutex_unlock(&w->mutex);
}
