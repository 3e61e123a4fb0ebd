#include "pool.h"

#include "clock.h"
#include "connections.h"
#include "log.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum {
	STACK_SIZE = 512 * 1024,
	WORKERS = 8, /* and those that wait for bodies; one may wait in accept4() */
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
	struct watcher watcher;
};

struct pool {
	struct connections *connections;
	struct watch watch;
	int64_t request_timeout_ms;
	int listen_fd, epoll_fd, tick_fd, wake_fd;
	atomic_int n_running;     /* workers that have not ended */
	atomic_int n_busy;        /* those that are not waiting for an event */
	atomic_llong stopped_at;  /* clock_ms() of the stop, 0 before */
	atomic_llong last_event;  /* clock_ms(), kept from the stop on */
	atomic_bool is_closed;    /* no more is accepted */
	atomic_bool wants_accept; /* the listener is not armed until the next tick */
	size_t n_workers;
	struct worker *workers;
};

/* Waits for the next event of the listener or the timer, once. */
static void
arm(struct pool *p, int op, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = fd};
	if (epoll_ctl(p->epoll_fd, op, fd, &ev) < 0 && errno != ENOENT)
		log_error("epoll_ctl: %m"); /* ENOENT: close_listener() */
}

static void
accept_one(struct pool *p, struct worker *w)
{
	sigset_t interrupt;
	if (connections_are_many(p->connections)) {
		log_warn("so many connections are open that no more are accepted for a "
			 "second; does the web server keep too many?");
		atomic_store(&p->wants_accept, true);
		return;
	}
	sigemptyset(&interrupt);
	sigaddset(&interrupt, SIGUSR2);
	atomic_store(&w->is_accepting, true);
	pthread_sigmask(SIG_UNBLOCK, &interrupt, NULL);
	int fd = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	int error = errno;
	pthread_sigmask(SIG_BLOCK, &interrupt, NULL);
	atomic_store(&w->is_accepting, false);
	bool is_bad =
	    fd < 0 && error != EINTR && error != ECONNABORTED && error != EAGAIN;
	errno = error;
	if (is_bad || (fd >= 0 && !connections_add(p->connections, fd))) {
		/* Out of files or memory: not before the next tick. */
		log_warn("accept: %m; trying again in a second");
		atomic_store(&p->wants_accept, true);
		return;
	}
	if (!atomic_load(&p->is_closed))
		arm(p, EPOLL_CTL_MOD, p->listen_fd);
}

/* Each second. */
static void
tick(struct pool *p)
{
	uint64_t n_ticks;
	if (read(p->tick_fd, &n_ticks, sizeof n_ticks) < 0)
		log_error("timerfd: %m");
	bool is_starved = atomic_exchange(&p->wants_accept, false);
	connections_tick(p->connections, is_starved);
	arm(p, EPOLL_CTL_MOD, p->tick_fd);
	if (is_starved && !atomic_load(&p->is_closed))
		arm(p, EPOLL_CTL_MOD, p->listen_fd);
}

/* One event of the epoll. */
static void
dispatch(struct pool *p, struct worker *w, int fd)
{
	if (fd == p->listen_fd)
		accept_one(p, w);
	else if (fd == p->tick_fd)
		tick(p);
	else
		connections_handle(p->connections, fd, &w->watcher);
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
		   !connections_are_busy(p->connections)) ||
	       now >= stopped_at + p->request_timeout_ms;
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
		watch_begin(&w->watcher);
		stopped_at = atomic_load(&p->stopped_at); /* it may have waited long */
		if (is_over(p, stopped_at))
			break;
		int n = epoll_wait(p->epoll_fd, events, stopped_at ? 2 : 1, -1);
		bool is_idle = true;
		atomic_fetch_add(&p->n_busy, 1);
		for (int i = 0; i < n; i++)
			if (events[i].data.fd != p->wake_fd) {
				is_idle = events[i].data.fd == p->tick_fd;
				dispatch(p, w, events[i].data.fd);
			}
		stopped_at = atomic_load(&p->stopped_at);
		if (stopped_at && (!is_idle || connections_are_busy(p->connections)))
			atomic_store(&p->last_event, clock_ms());
		atomic_fetch_sub(&p->n_busy, 1);
		if (is_idle && stopped_at)
			usleep(IDLE_STEP_MS * 1000);
	}
	watch_end(&w->watcher);
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
	p->workers = calloc(n, sizeof *p->workers);
	if (!p->workers)
		return ERR_MEMORY;
	sigaction(SIGUSR2, &interrupt, NULL);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &blocked, NULL);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	while (!error && p->n_workers < n) {
		struct worker *w = &p->workers[p->n_workers];
		w->pool = p;
		w->watcher.watch = &p->watch;
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
	struct pool *p = calloc(1, sizeof *p);
	*pool_r = p;
	if (!p)
		return ERR_MEMORY;
	p->request_timeout_ms = h->conf->request_timeout_ms;
	p->listen_fd = listen_fd;
	p->epoll_fd = p->tick_fd = p->wake_fd = -1;
	watch_open(&p->watch);
	size_t n_long = ((size_t)h->conf->threads + 3) / 4; /* may wait for bodies */
	enum err e = open_fds(p);
	if (!e)
		e = connections_open(&p->connections, h, p->epoll_fd, (int)n_long);
	return e ? e : start_workers(p, WORKERS + n_long);
}

/* Waits for the workers.  One may be stuck in accept4(), when another process
 * on the same listener was quicker. */
static bool
join(struct pool *p)
{
	int64_t deadline = clock_ms() + p->request_timeout_ms + MARGIN_MS;
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
pool_hand_over(struct pool *pool, struct pool *next)
{
	connections_hand_over(pool->connections, next->connections);
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
	if (p->connections)
		connections_stop(p->connections, clock_ms());
	atomic_store(&p->stopped_at, clock_ms());
	if (p->n_workers > 0 && (write(p->wake_fd, &one, sizeof one) < 0 || !join(p)))
		return false;
	if (!connections_close(&p->connections))
		return false;
	int fds[] = {p->epoll_fd, p->tick_fd, p->wake_fd};
	for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	watch_close(&p->watch);
	free(p->workers);
	free(p);
	*pool = NULL;
	return true;
}
