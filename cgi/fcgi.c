#include "fcgi.h"

#include "clock.h"
#include "log.h"

#include <errno.h>
#include <fcgiapp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum {
	MAX_FDS = 4096,
	KEPT_MS = 75000, /* longer than nginx keeps an idle connection: 60 s */
	STACK_SIZE = 512 * 1024,
	/* After a stop: what comes is answered until nothing came for IDLE_MS, or
	 * until LATEST_MS; with a request's own time that is less than 5 s. */
	IDLE_MS = 200,
	LATEST_MS = 700,
	IDLE_STEP_MS = 5
};

struct worker {
	struct fcgi *fcgi;
	pthread_t thread;
	atomic_bool is_accepting; /* inside accept4() */
};

struct fcgi {
	struct handler *h;
	int listen_fd, epoll_fd, tick_fd, wake_fd;
	atomic_int n_running;     /* workers that have not ended */
	atomic_llong stopped_at;  /* clock_ms() of the stop, 0 before */
	atomic_llong last_event;  /* clock_ms(), kept from the stop on */
	atomic_bool is_closed;    /* no more is accepted */
	atomic_bool wants_accept; /* the listener is not armed until the next tick */
	size_t n_workers;
	struct worker *workers;
	/* By fd: until when a connection may be idle (clock_ms()), 0 while it is
	 * not ours or a worker has it.  Whoever exchanges it to 0 owns the fd. */
	atomic_llong idle_until[MAX_FDS];
};

/* Waits for the next event of fd, once. */
static void
arm(struct fcgi *f, int op, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = fd};
	if (epoll_ctl(f->epoll_fd, op, fd, &ev) < 0)
		log_error("epoll_ctl: %m");
}

static void
set_timeout(int fd, int option, int64_t ms)
{
	struct timeval t = {ms / 1000, ms % 1000 * 1000 + 1}; /* 0 would be for ever */
	setsockopt(fd, SOL_SOCKET, option, &t, sizeof t);
}

/* ----------------------------------------------------------- one request */

/* Reads up to size bytes of the body; each wait ends by the deadline.  libfcgi
 * fills its buffer only when it is empty, by one read. */
static size_t
read_body(FCGX_Request *r, char *bytes, size_t size, int64_t deadline)
{
	size_t len = 0;
	while (len < size) {
		size_t ready = (size_t)(r->in->stop - r->in->rdNext);
		if (ready == 0) {
			int left = clock_left(deadline);
			if (left == 0)
				break;
			set_timeout(r->ipcFd, SO_RCVTIMEO, left);
			ready = 1;
		}
		int want = (int)(ready < size - len ? ready : size - len);
		int n = FCGX_GetStr(bytes + len, want, r->in);
		len += (size_t)n;
		if (n < want)
			break;
	}
	return len;
}

/* The body, and what is beyond what we take of it: unread bytes would spoil the
 * next request, or break the connection before the answer is read. */
static enum err
take_body(FCGX_Request *r, struct request *req, long max_body, char **memory_r)
{
	size_t size = (size_t)max_body + 1;
	if (req->content_length >= 0 && req->content_length < max_body)
		size = (size_t)req->content_length + 1;
	*memory_r = malloc(size);
	if (!*memory_r)
		return ERR_MEMORY;
	struct text body = {*memory_r, read_body(r, *memory_r, size, req->deadline)};
	if (!req->body_err)
		request_set_body(req, body, max_body);
	char rest[4096];
	while (body.len == size &&
	       read_body(r, rest, sizeof rest, req->deadline) == sizeof rest)
		;
	if (FCGX_GetError(r->in) != 0 || clock_left(req->deadline) == 0)
		req->body_err = ERR_BODY_CUT;
	return ERR_OK;
}

/* Reads, handles and answers one request.  True when its connection is good
 * for another; else *fd_r is -1 where libfcgi has closed it. */
static bool
serve(struct fcgi *f, int *fd_r)
{
	const struct conf *conf = f->h->conf;
	int64_t deadline = clock_ms() + conf->request_timeout_ms;
	FCGX_Request r;
	struct request req;
	struct response res;
	char *memory, header[512];

	set_timeout(*fd_r, SO_RCVTIMEO, conf->request_timeout_ms);
	FCGX_InitRequest(&r, -1, 0);
	r.ipcFd = *fd_r;
	r.keepConnection = 1;
	if (FCGX_Accept_r(&r) < 0) {
		*fd_r = -1;
		return false;
	}
	bool is_kept = r.keepConnection != 0; /* what the web server asked for */
	request_init(&req, r.envp, deadline, conf->max_body);
	enum err e = take_body(&r, &req, conf->max_body, &memory);
	if (e)
		response_problem(&res, e, (struct text){0});
	else
		handle(f->h, &req, &res);

	struct text body = response_body(&res, &req);
	FCGX_PutStr(header, (int)response_header(&res, header, sizeof header), r.out);
	FCGX_PutStr(body.ptr, (int)body.len, r.out);
	is_kept = is_kept && FCGX_HasSeenEOF(r.in) == EOF && FCGX_GetError(r.in) == 0;
	r.keepConnection = 1; /* closing is ours: libfcgi would wait for the peer */
	FCGX_Finish_r(&r);
	*fd_r = r.ipcFd; /* -1 where libfcgi closed it: the peer has gone */
	free(memory);
	return is_kept && *fd_r >= 0;
}

static void
serve_connection(struct fcgi *f, int fd)
{
	bool is_good = serve(f, &fd);
	if (is_good && !atomic_load(&f->stopped_at)) {
		atomic_store(&f->idle_until[fd], clock_ms() + KEPT_MS);
		arm(f, EPOLL_CTL_MOD, fd);
	} else if (fd >= 0) {
		close(fd);
	}
}

/* -------------------------------------------------------------- the pool */

static void
accept_one(struct fcgi *f, struct worker *w)
{
	sigset_t interrupt;
	sigemptyset(&interrupt);
	sigaddset(&interrupt, SIGUSR2);
	atomic_store(&w->is_accepting, true);
	pthread_sigmask(SIG_UNBLOCK, &interrupt, NULL);
	int fd = accept4(f->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	int error = errno;
	pthread_sigmask(SIG_BLOCK, &interrupt, NULL);
	atomic_store(&w->is_accepting, false);
	if (fd < 0 && error != EINTR && error != ECONNABORTED && error != EAGAIN) {
		/* Out of files or memory: not before the next tick. */
		errno = error;
		log_warn("accept: %m; trying again in a second");
		atomic_store(&f->wants_accept, true);
		return;
	}
	if (fd >= MAX_FDS) {
		log_warn("more than %d connections: one is closed", MAX_FDS);
		close(fd);
	} else if (fd >= 0) {
		long timeout = f->h->conf->request_timeout_ms;
		set_timeout(fd, SO_SNDTIMEO, timeout);
		atomic_store(&f->idle_until[fd], clock_ms() + timeout);
		arm(f, EPOLL_CTL_ADD, fd);
	}
	if (!atomic_load(&f->is_closed))
		arm(f, EPOLL_CTL_MOD, f->listen_fd);
}

/* A request waits on it, though no worker has come to it yet. */
static bool
is_readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	return poll(&p, 1, 0) == 1;
}

/* Each second: closes what was idle for too long, or everything idle when files
 * have run out, and lets accept go on. */
static void
tick(struct fcgi *f)
{
	uint64_t n_ticks;
	if (read(f->tick_fd, &n_ticks, sizeof n_ticks) < 0)
		return;
	bool is_starved = atomic_exchange(&f->wants_accept, false);
	int64_t now = clock_ms();
	for (int fd = 0; fd < MAX_FDS; fd++) {
		long long until = atomic_load(&f->idle_until[fd]);
		if (until && (until < now || is_starved) && !is_readable(fd) &&
		    atomic_compare_exchange_strong(&f->idle_until[fd], &until, 0))
			close(fd);
	}
	arm(f, EPOLL_CTL_MOD, f->tick_fd);
	if (is_starved && !atomic_load(&f->is_closed))
		arm(f, EPOLL_CTL_MOD, f->listen_fd);
}

/* One event of the epoll. */
static void
dispatch(struct fcgi *f, struct worker *w, int fd)
{
	if (fd == f->listen_fd)
		accept_one(f, w);
	else if (fd == f->tick_fd)
		tick(f);
	else if (atomic_exchange(&f->idle_until[fd], 0))
		serve_connection(f, fd);
}

/* Whether the workers are done: some time after the stop nothing has come to any
 * of them, or it is time to end whatever comes. */
static bool
is_over(struct fcgi *f, int64_t stopped_at)
{
	int64_t now = clock_ms(), quiet = atomic_load(&f->last_event);
	if (quiet < stopped_at)
		quiet = stopped_at;
	return stopped_at && (now >= quiet + IDLE_MS || now >= stopped_at + LATEST_MS);
}

/* Events until the stop, one at a time, for the next one is better off with
 * another worker; and what still comes shortly after the stop.  From then on the
 * wake-up is always ready: it needs a place beside an event, and waiting is a
 * nap. */
static void *
work(void *arg)
{
	struct worker *w = arg;
	struct fcgi *f = w->fcgi;
	struct epoll_event events[2];
	int64_t stopped_at = 0;
	while (!is_over(f, stopped_at)) {
		int n = epoll_wait(f->epoll_fd, events, stopped_at ? 2 : 1, -1);
		bool is_idle = true;
		for (int i = 0; i < n; i++)
			if (events[i].data.fd != f->wake_fd) {
				is_idle = false;
				if (stopped_at)
					atomic_store(&f->last_event, clock_ms());
				dispatch(f, w, events[i].data.fd);
			}
		stopped_at = atomic_load(&f->stopped_at);
		if (is_idle && stopped_at)
			usleep(IDLE_STEP_MS * 1000);
	}
	atomic_fetch_sub(&f->n_running, 1);
	return NULL;
}

static enum err
open_fds(struct fcgi *f)
{
	struct itimerspec second = {{1, 0}, {1, 0}};
	struct epoll_event wake = {.events = EPOLLIN};
	f->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	f->tick_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	f->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (f->epoll_fd < 0 || f->tick_fd < 0 || f->wake_fd < 0) {
		log_error("cannot make epoll, timer and event: %m");
		return ERR_SYSTEM;
	}
	timerfd_settime(f->tick_fd, 0, &second, NULL);
	wake.data.fd = f->wake_fd;
	epoll_ctl(f->epoll_fd, EPOLL_CTL_ADD, f->wake_fd, &wake);
	arm(f, EPOLL_CTL_ADD, f->tick_fd);
	arm(f, EPOLL_CTL_ADD, f->listen_fd);
	return ERR_OK;
}

/* Its only use is that accept4() ends; elsewhere it is blocked. */
static void
on_interrupt(int signal_number)
{
	(void)signal_number;
}

static enum err
start_workers(struct fcgi *f, size_t n)
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
	while (!error && f->n_workers < n) {
		struct worker *w = &f->workers[f->n_workers];
		w->fcgi = f;
		atomic_fetch_add(&f->n_running, 1);
		error = pthread_create(&w->thread, &attr, work, w);
		if (error)
			atomic_fetch_sub(&f->n_running, 1);
		else
			f->n_workers++;
	}
	pthread_attr_destroy(&attr);
	if (error)
		log_error("cannot start thread %zu of %zu: %s", f->n_workers + 1, n,
		    strerror(error));
	return error ? ERR_SYSTEM : ERR_OK;
}

enum err
fcgi_init(void)
{
	/* It closes a connection itself when a request is malformed. */
	setenv("LIBFCGI_OS_CLOSE_POLL_TIMEOUT", "10", 1);
	if (FCGX_Init() == 0)
		return ERR_OK;
	log_error("libfcgi does not start");
	return ERR_SYSTEM;
}

enum err
fcgi_start(struct fcgi **fcgi_r, struct handler *h, int listen_fd)
{
	size_t n = (size_t)h->conf->threads;
	struct fcgi *f = calloc(1, sizeof *f);
	*fcgi_r = f;
	if (!f)
		return ERR_MEMORY;
	f->h = h;
	f->listen_fd = listen_fd;
	f->epoll_fd = f->tick_fd = f->wake_fd = -1;
	f->workers = calloc(n, sizeof *f->workers);
	if (!f->workers)
		return ERR_MEMORY;
	enum err e = open_fds(f);
	return e ? e : start_workers(f, n);
}

/* Waits for the workers.  One may be stuck in accept4(), when another process
 * on the same listener was quicker. */
static bool
join(struct fcgi *f)
{
	int64_t deadline = clock_ms() + LATEST_MS + f->h->conf->request_timeout_ms;
	while (atomic_load(&f->n_running) > 0 && clock_left(deadline) > 0) {
		for (size_t i = 0; i < f->n_workers; i++)
			if (atomic_load(&f->workers[i].is_accepting))
				pthread_kill(f->workers[i].thread, SIGUSR2);
		usleep(IDLE_STEP_MS * 1000);
	}
	if (atomic_load(&f->n_running) > 0)
		return false;
	for (size_t i = 0; i < f->n_workers; i++)
		pthread_join(f->workers[i].thread, NULL);
	return true;
}

bool
fcgi_stop(struct fcgi **fcgi, bool takes_backlog)
{
	struct fcgi *f = *fcgi;
	uint64_t one = 1;
	if (!f)
		return true;
	if (!takes_backlog) {
		atomic_store(&f->is_closed, true);
		epoll_ctl(f->epoll_fd, EPOLL_CTL_DEL, f->listen_fd, NULL);
	}
	atomic_store(&f->stopped_at, clock_ms());
	if (f->n_workers > 0 && (write(f->wake_fd, &one, sizeof one) < 0 || !join(f)))
		return false;
	for (int fd = 0; fd < MAX_FDS; fd++)
		if (atomic_load(&f->idle_until[fd]))
			close(fd);
	int fds[] = {f->epoll_fd, f->tick_fd, f->wake_fd};
	for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(f->workers);
	free(f);
	*fcgi = NULL;
	return true;
}
