#include "writer.h"

#include "clock.h"
#include "log.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

/* A commit ends by the deadline of its events, unless something hangs.  While any wait,
 * the time is looked at so often. */
enum { GRACE_MS = 150, WATCH_MS = 100 };

/* What an event takes of a full commit, beside the flush; and the longest wait for
 * a fuller batch. */
enum { EVENT_US = 60, LINGER_MAX_US = 5000 };

/* One call of writer_submit(), until its owner is told. */
struct waiting {
	struct event *ev; /* NULL: a trial */
	int64_t deadline;
	writer_told *told;
	void *owner;
	enum err result;           /* the thread's alone */
	bool is_left;              /* its owner was told already; by mutex */
	TAILQ_ENTRY(waiting) link; /* by mutex */
};

TAILQ_HEAD(queue, waiting);

struct writer {
	struct store *store; /* the thread's alone, once it runs */
	size_t max_batch;
	struct event **events;   /* the thread's alone */
	struct store_stats seen; /* the thread's alone */
	size_t n_expected;       /* for the next batch; the thread's alone */
	int64_t linger_until;    /* clock_us(); the thread's alone */
	pthread_t thread, teller;
	bool is_running; /* set before other threads begin */

	pthread_mutex_t mutex;
	pthread_cond_t work;       /* for the thread: as many wait as it wants */
	size_t n_wanted;           /* by mutex */
	struct queue waiting;      /* by mutex */
	size_t n_waiting;          /* by mutex */
	struct queue batch;        /* changed by the thread, holding mutex */
	pthread_cond_t answers;    /* for the teller */
	struct queue done;         /* committed, for the teller; by mutex */
	bool is_over;              /* no more will be; by mutex */
	bool is_resting;           /* the teller has no time to keep; by mutex */
	bool is_stopping;          /* by mutex */
	bool is_hanging;           /* one of the batch was left; by mutex */
	struct writer_stats stats; /* by mutex */
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
	w->events = calloc(max_batch, sizeof *w->events);
	TAILQ_INIT(&w->waiting);
	TAILQ_INIT(&w->batch);
	TAILQ_INIT(&w->done);
	pthread_mutex_init(&w->mutex, NULL);
	pthread_cond_init(&w->work, NULL);
	pthread_cond_init(&w->answers, NULL);
	return w->events ? ERR_OK : ERR_MEMORY;
}

static bool
is_late(const struct waiting *x, int64_t now)
{
	return x->deadline < now + STORE_MIN_MS;
}

/* Moves what waits, oldest first, from the queue to the batch.  Those whose time
 * is all but over go by themselves, straight to the spool: the whole batch would
 * have to end with them. */
static void
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
		TAILQ_INSERT_TAIL(&w->batch, x, link);
		n++;
	}
	w->n_waiting -= n;
}

/* Commits the batch, before the first of it is out of patience.  With a trial in it
 * the state of things is looked at, too. */
static void
commit(struct writer *w)
{
	struct waiting *x;
	size_t n_events = 0;
	bool has_trial = false;
	int64_t deadline = INT64_MAX;
	TAILQ_FOREACH(x, &w->batch, link)
	{
		has_trial = has_trial || !x->ev;
		if (x->ev)
			w->events[n_events++] = x->ev;
		if (x->deadline < deadline)
			deadline = x->deadline;
	}
	enum err e = store_commit(w->store, w->events, n_events, deadline);
	if (has_trial)
		store_stats(w->store, &w->seen);
	TAILQ_FOREACH(x, &w->batch, link)
	x->result = x->ev ? x->ev->result : e;
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

/* Takes the batch that is committed, and counts it: how many. */
static size_t
finish(struct writer *w, struct queue *done_r)
{
	struct waiting *x;
	bool has_events = false;
	size_t n = 0;
	TAILQ_INIT(done_r);
	TAILQ_CONCAT(done_r, &w->batch, link);
	TAILQ_FOREACH(x, done_r, link)
	{
		n++;
		if (x->ev) {
			has_events = true;
			count(&w->stats, x->ev);
		}
	}
	w->stats.commits += has_events;
	w->stats.store = w->seen;
	w->is_hanging = false;
	return n;
}

/* Nobody else knows of them any more. */
static void
tell(struct queue *done)
{
	struct waiting *x;
	while ((x = TAILQ_FIRST(done))) {
		TAILQ_REMOVE(done, x, link);
		if (!x->is_left) {
			x->told(x->owner, x->ev, x->result);
		} else if (x->ev) {
			event_free(x->ev);
			free(x->ev);
		}
		free(x);
	}
}

/* Waits for work.  False: there will be none.  Where the flush is what a commit takes,
 * those who were just answered may come back before it is begun. */
static bool
await(struct writer *w)
{
	const struct timespec until = clock_timespec(w->linger_until);
	do {
		w->n_wanted = 1;
		while (w->n_waiting == 0 && !w->is_stopping)
			pthread_cond_wait(&w->work, &w->mutex);
		w->n_wanted = w->n_expected;
		while (w->n_waiting > 0 && w->n_waiting < w->n_expected &&
		       !w->is_stopping &&
		       pthread_cond_clockwait(
			   &w->work, &w->mutex, CLOCK_MONOTONIC, &until) == 0)
			;
	} while (w->n_waiting == 0 && !w->is_stopping); /* it was given up */
	return w->n_waiting > 0;
}

/* How long it is worth to wait for a fuller batch than the last one of n: as long as
 * its commit, which took so long, spent on other things than its events. */
static int64_t
linger_us(size_t n, int64_t took_us)
{
	int64_t linger = took_us - (int64_t)n * EVENT_US;
	return linger < LINGER_MAX_US ? linger : LINGER_MAX_US;
}

/* Tells those that are done, or has the teller do it when the next batch waits. */
static void
answer(struct writer *w, struct queue *done)
{
	if (w->n_waiting > 0) {
		TAILQ_CONCAT(&w->done, done, link);
		pthread_cond_signal(&w->answers);
		return;
	}
	pthread_mutex_unlock(&w->mutex);
	tell(done);
	pthread_mutex_lock(&w->mutex);
}

/* Holds the mutex but while it waits, commits or tells. */
static void *
run(void *arg)
{
	struct writer *w = arg;
	struct queue done;
	pthread_mutex_lock(&w->mutex);
	while (await(w)) {
		take(w);
		pthread_mutex_unlock(&w->mutex);
		int64_t began = clock_us();
		commit(w);
		int64_t took = clock_us() - began;
		pthread_mutex_lock(&w->mutex);
		size_t n = finish(w, &done);
		w->n_expected = n + w->n_waiting;
		if (w->n_expected > w->max_batch)
			w->n_expected = w->max_batch;
		answer(w, &done);
		w->linger_until = clock_us() + linger_us(n, took);
	}
	w->is_over = true;
	pthread_cond_signal(&w->answers);
	pthread_mutex_unlock(&w->mutex);
	return NULL;
}

/* Takes out one that waits and whose time is over.  Else NULL, and *next_r is made
 * to be no later than when there may be one. */
static struct waiting *
give_up(struct writer *w, int64_t now, int64_t *next_r)
{
	struct waiting *x;
	TAILQ_FOREACH(x, &w->waiting, link)
	if (x->deadline <= now)
		break;
	else if (x->deadline < *next_r)
		*next_r = x->deadline;
	if (!x)
		return NULL;
	TAILQ_REMOVE(&w->waiting, x, link);
	w->n_waiting--;
	w->stats.failed += x->ev != NULL;
	return x;
}

/* The same for one in the batch, which is left to the thread. */
static struct waiting *
leave(struct writer *w, int64_t now, int64_t *next_r)
{
	struct waiting *x;
	TAILQ_FOREACH(x, &w->batch, link)
	{
		int64_t until = x->deadline + GRACE_MS;
		if (!x->is_left && until <= now) {
			x->is_left = w->is_hanging = true;
			return x;
		}
		if (!x->is_left && until < *next_r)
			*next_r = until;
	}
	return NULL;
}

/* Tells those whose time is over: the time (clock_ms()) of the next one, as far as is
 * known, or INT64_MAX.  Holds the mutex but while it tells. */
static int64_t
expire(struct writer *w)
{
	for (;;) {
		int64_t now = clock_ms(), next = INT64_MAX;
		struct waiting *late = give_up(w, now, &next);
		struct waiting *left = late ? NULL : leave(w, now, &next);
		if (!late && !left)
			return next;
		writer_told *told = left ? left->told : late->told;
		void *owner = left ? left->owner : late->owner;
		pthread_mutex_unlock(&w->mutex);
		if (left)
			log_error("a commit hangs: is it a disk, or the lookup of a "
				  "name?");
		told(owner, left ? NULL : late->ev, ERR_BUSY);
		free(late);
		pthread_mutex_lock(&w->mutex);
	}
}

/* Until there is something to tell, or the time has come to look. */
static void
rest(struct writer *w, int64_t next)
{
	int64_t step = clock_ms() + WATCH_MS;
	const struct timespec until = clock_timespec(1000 * (next < step ? next : step));
	w->is_resting = next == INT64_MAX;
	if (w->is_resting)
		pthread_cond_wait(&w->answers, &w->mutex);
	else
		pthread_cond_clockwait(&w->answers, &w->mutex, CLOCK_MONOTONIC, &until);
	w->is_resting = false;
}

/* Tells what is done, and those whose time is over. */
static void *
run_teller(void *arg)
{
	struct writer *w = arg;
	struct queue done = TAILQ_HEAD_INITIALIZER(done);
	pthread_mutex_lock(&w->mutex);
	for (;;) {
		int64_t next = expire(w);
		if (TAILQ_EMPTY(&w->done)) {
			if (w->is_over)
				break;
			rest(w, next);
			continue;
		}
		TAILQ_CONCAT(&done, &w->done, link);
		pthread_mutex_unlock(&w->mutex);
		tell(&done);
		pthread_mutex_lock(&w->mutex);
	}
	pthread_mutex_unlock(&w->mutex);
	return NULL;
}

/* The thread ends when it has nothing to do, and the teller after it. */
static void
stop(struct writer *w)
{
	pthread_mutex_lock(&w->mutex);
	w->is_stopping = true;
	pthread_cond_signal(&w->work);
	pthread_mutex_unlock(&w->mutex);
	pthread_join(w->thread, NULL);
}

enum err
writer_start(struct writer *w)
{
	int e = pthread_create(&w->thread, NULL, run, w);
	if (!e && (e = pthread_create(&w->teller, NULL, run_teller, w)))
		stop(w);
	if (e) {
		log_error("cannot start the writer's threads: %s", strerror(e));
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
		stop(w);
		pthread_join(w->teller, NULL);
	}
	pthread_cond_destroy(&w->answers);
	pthread_cond_destroy(&w->work);
	pthread_mutex_destroy(&w->mutex);
	free(w->events);
	free(w);
	*writer = NULL;
}

/* Without a thread: commits by itself. */
static void
commit_alone(struct writer *w, struct waiting *x)
{
	struct queue done;
	TAILQ_INSERT_TAIL(&w->batch, x, link);
	commit(w);
	finish(w, &done);
	tell(&done);
}

/* False when it would not be taken: the writer hangs. */
static bool
enqueue(struct writer *w, struct waiting *x)
{
	pthread_mutex_lock(&w->mutex);
	bool is_hanging = w->is_hanging, is_enough = false, is_unwatched = false;
	if (is_hanging) {
		w->stats.failed += x->ev != NULL;
	} else {
		TAILQ_INSERT_TAIL(&w->waiting, x, link);
		is_enough = ++w->n_waiting == w->n_wanted;
		is_unwatched = w->is_resting;
		w->is_resting = false;
	}
	pthread_mutex_unlock(&w->mutex);
	if (is_enough) /* now, that it need not wait for the mutex */
		pthread_cond_signal(&w->work);
	if (is_unwatched)
		pthread_cond_signal(&w->answers);
	return !is_hanging;
}

void
writer_submit(
    struct writer *w, struct event *ev, int64_t deadline, writer_told *told, void *owner)
{
	struct waiting *x = calloc(1, sizeof *x);
	if (!x) {
		told(owner, ev, ERR_MEMORY);
		return;
	}
	*x = (struct waiting){
	    .ev = ev, .deadline = deadline, .told = told, .owner = owner};
	if (!w->is_running) {
		commit_alone(w, x);
	} else if (!enqueue(w, x)) {
		free(x);
		told(owner, ev, ERR_BUSY);
	}
}

void
writer_stats(struct writer *w, struct writer_stats *stats_r)
{
	pthread_mutex_lock(&w->mutex);
	*stats_r = w->stats;
	pthread_mutex_unlock(&w->mutex);
}
