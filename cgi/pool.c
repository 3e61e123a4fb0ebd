#include "pool.h"

#include "clock.h"
#include "fcgi.h"
#include "gather.h"
#include "log.h"
#include "records.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum {
	MAX_FDS = 4096,
	TICK_MS = 1000,
	KEPT_MS = 75000, /* longer than nginx keeps an idle connection: 60 s */
	STACK_SIZE = 512 * 1024,
	/* What is looked at: all parameters must fit.  A body need not wait as a
	 * whole when so much of the request does, or it took a tick: a socket may
	 * hold no more. */
	LOOK_SIZE = 128 * 1024,
	LONG_SIZE = 32 * 1024,
	/* After a stop: what comes is answered until nothing came for IDLE_MS and
	 * nobody is at work; no more is accepted after LATEST_MS, and all is over
	 * when a request's time has passed, and MARGIN_MS. */
	IDLE_MS = 200,
	LATEST_MS = 700,
	MARGIN_MS = 700,
	IDLE_STEP_MS = 5
};

struct worker {
	struct pool *pool;
	pthread_t thread;
	atomic_bool is_accepting; /* inside accept4() */
};

/* By fd.  Whoever exchanges until to 0 owns the connection. */
struct connection {
	/* clock_ms(): until when it may be idle; negative: until when a request of
	 * which a part is there may come; 0 while it is not ours or a worker has it */
	atomic_llong until;
	atomic_bool is_touched; /* something came, maybe while a worker had it */
};

struct pool {
	struct handler *_Atomic h;
	int listen_fd, epoll_fd, tick_fd, wake_fd;
	atomic_int n_running;     /* workers that have not ended */
	atomic_int n_busy;        /* those that are not waiting for an event */
	atomic_int n_parts;       /* connections on which a part of a request waits */
	atomic_int n_long;        /* those that wait for the rest of a body */
	atomic_bool is_wanted;    /* one more would, if not so many did */
	atomic_llong stopped_at;  /* clock_ms() of the stop, 0 before */
	atomic_llong last_event;  /* clock_ms(), kept from the stop on */
	atomic_bool is_closed;    /* no more is accepted */
	atomic_bool wants_accept; /* the listener is not armed until the next tick */
	size_t n_workers;
	struct worker *workers;
	struct connection connections[MAX_FDS];
};

static void
watch(struct pool *p, int op, int fd, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.fd = fd};
	if (epoll_ctl(p->epoll_fd, op, fd, &ev) < 0)
		log_error("epoll_ctl: %m");
}

/* Waits for the next event of the listener or the timer, once. */
static void
arm(struct pool *p, int op, int fd)
{
	watch(p, op, fd, EPOLLIN | EPOLLONESHOT);
}

/* Waits for whatever comes from now on, or is there already. */
static void
follow(struct pool *p, int op, int fd)
{
	watch(p, op, fd, EPOLLIN | EPOLLRDHUP | EPOLLET);
}

/* ------------------------------------------------------- one connection */

/* What waits on it; -1 when it has ended or failed, 0 when there is nothing. */
static ssize_t
look(int fd, enum records_state *state_r)
{
	unsigned char bytes[LOOK_SIZE];
	ssize_t len = recv(fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
	if (len == 0 || (len < 0 && errno != EAGAIN))
		return -1;
	*state_r = records_look(bytes, len > 0 ? (size_t)len : 0);
	if (*state_r == RECORDS_HEAD && len == LOOK_SIZE)
		*state_r = RECORDS_BROKEN;
	return len > 0 ? len : 0;
}

static bool
is_ready(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};
	return poll(&p, 1, 0) == 1;
}

/* Has a connection looked at once more, if nobody has it just now. */
static void
look_again(struct pool *p, int fd, long long until)
{
	struct connection *c = &p->connections[fd];
	do {
		if (!atomic_compare_exchange_strong(&c->until, &until, 0))
			return;
		atomic_store(&c->is_touched, false);
		follow(p, EPOLL_CTL_MOD, fd);
		atomic_store(&c->until, until);
	} while (atomic_load(&c->is_touched));
}

/* The same for all of which a part is there. */
static void
look_at_parts(struct pool *p)
{
	for (int fd = 0; fd < MAX_FDS; fd++) {
		long long until = atomic_load(&p->connections[fd].until);
		if (until < 0)
			look_again(p, fd, until);
	}
}

/* Waits with a worker for the rest of a body, if not too many do.  False: not
 * now. */
static bool
wait_for_body(struct pool *p, int fd, int64_t until, struct gathered *g_r)
{
	bool may_wait = atomic_fetch_add(&p->n_long, 1) < (int)(p->n_workers + 3) / 4;
	if (may_wait)
		gather(g_r, fd, p->h->conf->max_body, until);
	else
		atomic_store(&p->is_wanted, true);
	atomic_fetch_sub(&p->n_long, 1);
	if (may_wait && atomic_exchange(&p->is_wanted, false))
		look_at_parts(p);
	return may_wait;
}

/* Does what can be done for a request of which a part is there.  False, and
 * nothing was done: it may wait. */
static bool
serve_part(struct pool *p, int fd, enum records_state state, size_t len, int64_t deadline,
    bool *is_good_r)
{
	struct gathered g;
	int64_t now = clock_ms();
	bool is_old = deadline < now + p->h->conf->request_timeout_ms - TICK_MS;
	bool is_late = deadline < now + TICK_MS;
	bool has_ended = is_ready(fd, POLLRDHUP);
	if (state != RECORDS_BODY)
		return is_late || has_ended;
	if (has_ended || (is_late && len < LONG_SIZE))
		gather(&g, fd, p->h->conf->max_body, now); /* 400: it is cut */
	else if (is_late)
		return true; /* more than the socket holds, and no worker for it */
	else if (!(is_old || len >= LONG_SIZE) ||
		 !wait_for_body(p, fd, deadline - TICK_MS, &g))
		return false;
	*is_good_r = gather_serve(&g, p->h, fd, deadline);
	return true;
}

/* By when the answer must be out: counted from the first look at the request, and
 * in a stop from the stop. */
static int64_t
deadline_of(struct pool *p, long long until)
{
	long long stopped_at = atomic_load(&p->stopped_at);
	int64_t timeout = p->h->conf->request_timeout_ms;
	int64_t deadline = until < 0 ? -until : clock_ms() + timeout;
	return stopped_at && deadline > stopped_at + timeout ? stopped_at + timeout
							     : deadline;
}

/* One look at a connection that is ours: serves the request that is there.
 * Returns its new until, or 0 when it is closed. */
static long long
advance(struct pool *p, int fd, long long until)
{
	enum records_state state;
	bool is_good = false;
	ssize_t len = look(fd, &state);
	if (len == 0)
		return until;
	int64_t deadline = deadline_of(p, until);
	if (len > 0 && state == RECORDS_WHOLE)
		is_good = fcgi_serve(p->h, &fd, deadline);
	else if (len > 0 && state != RECORDS_BROKEN &&
		 !serve_part(p, fd, state, (size_t)len, deadline, &is_good))
		return -deadline;
	if (is_good && !atomic_load(&p->stopped_at))
		return clock_ms() + KEPT_MS;
	if (fd >= 0)
		close(fd);
	return 0;
}

/* Takes a connection, unless another worker has it or it is not ours, and does
 * all that can be done; what comes meanwhile is seen by is_touched. */
static void
handle_connection(struct pool *p, int fd)
{
	struct connection *c = &p->connections[fd];
	long long until;
	do {
		until = atomic_exchange(&c->until, 0);
		if (until == 0)
			return;
		atomic_fetch_sub(&p->n_parts, until < 0);
		atomic_store(&c->is_touched, false);
		until = advance(p, fd, until);
		if (until == 0)
			return;
		atomic_fetch_add(&p->n_parts, until < 0);
		atomic_store(&c->until, until);
	} while (atomic_load(&c->is_touched));
}

/* -------------------------------------------------------------- the pool */

static void
accept_one(struct pool *p, struct worker *w)
{
	sigset_t interrupt;
	sigemptyset(&interrupt);
	sigaddset(&interrupt, SIGUSR2);
	atomic_store(&w->is_accepting, true);
	pthread_sigmask(SIG_UNBLOCK, &interrupt, NULL);
	int fd = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	int error = errno;
	pthread_sigmask(SIG_BLOCK, &interrupt, NULL);
	atomic_store(&w->is_accepting, false);
	if (fd < 0 && error != EINTR && error != ECONNABORTED && error != EAGAIN) {
		/* Out of files or memory: not before the next tick. */
		errno = error;
		log_warn("accept: %m; trying again in a second");
		atomic_store(&p->wants_accept, true);
		return;
	}
	if (fd >= MAX_FDS) {
		log_warn("more than %d connections: one is closed", MAX_FDS);
		close(fd);
	} else if (fd >= 0) {
		struct connection *c = &p->connections[fd];
		fcgi_open(fd);
		atomic_store(&c->until, clock_ms() + p->h->conf->request_timeout_ms);
		follow(p, EPOLL_CTL_ADD, fd);
	}
	if (!atomic_load(&p->is_closed))
		arm(p, EPOLL_CTL_MOD, p->listen_fd);
}

/* Each second: closes what was idle for too long, or everything idle when files
 * have run out, has what is there in part looked at again, and lets accept go on. */
static void
tick(struct pool *p)
{
	uint64_t n_ticks;
	if (read(p->tick_fd, &n_ticks, sizeof n_ticks) < 0)
		return;
	bool is_starved = atomic_exchange(&p->wants_accept, false);
	int64_t now = clock_ms();
	for (int fd = 0; fd < MAX_FDS; fd++) {
		long long until = atomic_load(&p->connections[fd].until);
		if (until > 0 && until < now && is_ready(fd, POLLIN))
			look_again(p, fd, until); /* or there was more than a request */
		else if (until > 0 && (until < now || is_starved) &&
			 !is_ready(fd, POLLIN) && /* no worker has come to it yet */
			 atomic_compare_exchange_strong(
			     &p->connections[fd].until, &until, 0))
			close(fd);
	}
	look_at_parts(p);
	arm(p, EPOLL_CTL_MOD, p->tick_fd);
	if (is_starved && !atomic_load(&p->is_closed))
		arm(p, EPOLL_CTL_MOD, p->listen_fd);
}

/* One event of the epoll. */
static void
dispatch(struct pool *p, struct worker *w, int fd)
{
	if (fd == p->listen_fd) {
		accept_one(p, w);
	} else if (fd == p->tick_fd) {
		tick(p);
	} else {
		atomic_store(&p->connections[fd].is_touched, true);
		handle_connection(p, fd);
	}
}

/* No more is accepted from now on; once. */
static void
close_listener(struct pool *p)
{
	if (!atomic_exchange(&p->is_closed, true))
		epoll_ctl(p->epoll_fd, EPOLL_CTL_DEL, p->listen_fd, NULL);
}

/* Whether the workers are done: after the stop nothing has come for some time and
 * all is answered, or the time of what was there is over. */
static bool
is_over(struct pool *p, int64_t stopped_at)
{
	int64_t now = clock_ms(), quiet = atomic_load(&p->last_event);
	if (!stopped_at)
		return false;
	if (now >= stopped_at + LATEST_MS)
		close_listener(p);
	if (quiet < stopped_at)
		quiet = stopped_at;
	return (now >= quiet + IDLE_MS && atomic_load(&p->n_busy) == 0 &&
		   atomic_load(&p->n_parts) == 0) ||
	       now >= stopped_at + p->h->conf->request_timeout_ms;
}

/* Events until the stop, one at a time, for the next one is better off with
 * another worker; and what still comes after the stop.  From then on the wake-up
 * is always ready: it needs a place beside an event, and waiting is a nap. */
static void *
work(void *arg)
{
	struct worker *w = arg;
	struct pool *p = w->pool;
	struct epoll_event events[2];
	int64_t stopped_at = 0;
	while (!is_over(p, stopped_at)) {
		int n = epoll_wait(p->epoll_fd, events, stopped_at ? 2 : 1, -1);
		bool is_idle = true;
		atomic_fetch_add(&p->n_busy, 1);
		for (int i = 0; i < n; i++)
			if (events[i].data.fd != p->wake_fd) {
				is_idle = events[i].data.fd == p->tick_fd;
				dispatch(p, w, events[i].data.fd);
			}
		stopped_at = atomic_load(&p->stopped_at);
		if (!is_idle && stopped_at)
			atomic_store(&p->last_event, clock_ms());
		atomic_fetch_sub(&p->n_busy, 1);
		if (is_idle && stopped_at)
			usleep(IDLE_STEP_MS * 1000);
	}
	atomic_fetch_sub(&p->n_running, 1);
	return NULL;
}

static enum err
open_fds(struct pool *p)
{
	struct itimerspec second = {{1, 0}, {1, 0}};
	struct epoll_event wake = {.events = EPOLLIN};
	p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	p->tick_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	p->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (p->epoll_fd < 0 || p->tick_fd < 0 || p->wake_fd < 0) {
		log_error("cannot make epoll, timer and event: %m");
		return ERR_SYSTEM;
	}
	timerfd_settime(p->tick_fd, 0, &second, NULL);
	wake.data.fd = p->wake_fd;
	epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, p->wake_fd, &wake);
	arm(p, EPOLL_CTL_ADD, p->tick_fd);
	arm(p, EPOLL_CTL_ADD, p->listen_fd);
	return ERR_OK;
}

/* Its only use is that accept4() ends; elsewhere it is blocked. */
static void
on_interrupt(int signal_number)
{
	(void)signal_number;
}

static enum err
start_workers(struct pool *p, size_t n)
{
	struct sigaction interrupt = {.sa_handler = on_interrupt};
	pthread_attr_t attr;
	int error = 0;
	sigset_t blocked;
	sigaction(SIGUSR2, &interrupt, NULL);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &blocked, NULL);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	while (!error && p->n_workers < n) {
		struct worker *w = &p->workers[p->n_workers];
		w->pool = p;
		atomic_fetch_add(&p->n_running, 1);
		error = pthread_create(&w->thread, &attr, work, w);
		if (error)
			atomic_fetch_sub(&p->n_running, 1);
		else
			p->n_workers++;
	}
	pthread_attr_destroy(&attr);
	if (error)
		log_error("cannot start thread %zu of %zu: %s", p->n_workers + 1, n,
		    strerror(error));
	return error ? ERR_SYSTEM : ERR_OK;
}

enum err
pool_start(struct pool **pool_r, struct handler *h, int listen_fd)
{
	size_t n = (size_t)h->conf->threads;
	struct pool *p = calloc(1, sizeof *p);
	*pool_r = p;
	if (!p)
		return ERR_MEMORY;
	p->h = h;
	p->listen_fd = listen_fd;
	p->epoll_fd = p->tick_fd = p->wake_fd = -1;
	p->workers = calloc(n, sizeof *p->workers);
	if (!p->workers)
		return ERR_MEMORY;
	enum err e = open_fds(p);
	return e ? e : start_workers(p, n);
}

/* Waits for the workers.  One may be stuck in accept4(), when another process
 * on the same listener was quicker. */
static bool
join(struct pool *p)
{
	int64_t deadline = clock_ms() + p->h->conf->request_timeout_ms + MARGIN_MS;
	while (atomic_load(&p->n_running) > 0 && clock_left(deadline) > 0) {
		for (size_t i = 0; i < p->n_workers; i++)
			if (atomic_load(&p->workers[i].is_accepting))
				pthread_kill(p->workers[i].thread, SIGUSR2);
		usleep(IDLE_STEP_MS * 1000);
	}
	if (atomic_load(&p->n_running) > 0)
		return false;
	for (size_t i = 0; i < p->n_workers; i++)
		pthread_join(p->workers[i].thread, NULL);
	return true;
}

void
pool_hand_over(struct pool *pool, struct handler *h)
{
	atomic_store(&pool->h, h);
}

bool
pool_stop(struct pool **pool, bool takes_backlog)
{
	struct pool *p = *pool;
	uint64_t one = 1;
	if (!p)
		return true;
	if (!takes_backlog)
		close_listener(p);
	atomic_store(&p->stopped_at, clock_ms());
	if (p->n_workers > 0 && (write(p->wake_fd, &one, sizeof one) < 0 || !join(p)))
		return false;
	for (int fd = 0; fd < MAX_FDS; fd++)
		if (atomic_load(&p->connections[fd].until))
			close(fd);
	int fds[] = {p->epoll_fd, p->tick_fd, p->wake_fd};
	for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(p->workers);
	free(p);
	*pool = NULL;
	return true;
}
