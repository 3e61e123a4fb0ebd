#include "connections.h"

#include "clock.h"
#include "fcgi.h"
#include "gather.h"
#include "log.h"
#include "records.h"

#include <errno.h>
#include <poll.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	TICK_MS = 1000,
	KEPT_MS = 75000, /* longer than nginx keeps an idle connection: 60 s */
	/* A body need not wait as a whole when so much of the request does, or it
	 * took a tick: a socket may hold no more. */
	LONG_SIZE = 32 * 1024,
	OTHER_FILES = 256, /* that have a descriptor, too */
	MARGIN_MS = 700,   /* beyond the time of a request: its end is known by then */
	NAP_MS = 5
};

/* Whoever exchanges until to 0 owns the connection. */
struct connection {
	/* clock_ms(): until when it may be idle; negative: until when a request of
	 * which a part is there may come; 0 while it is not ours or a worker has it */
	atomic_llong until;
	atomic_bool is_touched; /* something came, maybe while a worker had it */
	struct connections *_Atomic of;
};

struct connections {
	struct handler *_Atomic h;
	struct connections *_Atomic next; /* that takes over, or NULL */
	int epoll_fd;
	sem_t room;              /* for more requests in flight */
	atomic_int n_served;     /* requests in flight that are ours, and who
				  * hands over to us */
	atomic_int n;            /* that are ours */
	int max_long;            /* how many workers may wait for a peer */
	atomic_int n_long;       /* and do */
	atomic_bool is_wanted;   /* one more would, if not so many did */
	atomic_int n_parts;      /* on which a part of a request waits */
	atomic_llong stopped_at; /* clock_ms() of the stop, 0 before */
	struct connection all[CONNECTIONS_MAX]; /* by descriptor */
};

static const struct conf *
conf_of(struct connections *cs)
{
	return atomic_load(&cs->h)->conf;
}

/* Waits for whatever comes from now on, or is there already. */
static bool
follow(struct connections *cs, int op, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = fd};
	return epoll_ctl(cs->epoll_fd, op, fd, &ev) == 0;
}

/* Ends one that the caller owns; -1: it is closed already.  A worker that is just
 * being told of it, and then sleeps on in epoll_wait(), holds the file (Linux,
 * ep_item_poll() in fs/eventpoll.c): close() alone would not reach the peer before
 * that worker wakes. */
static void
end(struct connections *cs, int fd)
{
	if (fd >= 0) {
		shutdown(fd, SHUT_RDWR);
		close(fd);
	}
	atomic_fetch_sub(&cs->n, 1);
}

/* Makes a connection that is the caller's wait. */
static void
put_back(struct connections *cs, int fd, long long until)
{
	atomic_fetch_add(&cs->n_parts, until < 0);
	atomic_store(&cs->all[fd].until, until);
}

/* Takes a connection that nobody else has.  It must be closed when this fails. */
static bool
adopt(struct connections *cs, int fd, long long until)
{
	atomic_fetch_add(&cs->n, 1);
	atomic_store(&cs->all[fd].of, cs);
	atomic_store(&cs->all[fd].until, until);
	if (follow(cs, EPOLL_CTL_ADD, fd))
		return true;
	atomic_store(&cs->all[fd].until, 0);
	atomic_fetch_sub(&cs->n, 1);
	return false;
}

/* Gives an idle one, which the caller owns, to who takes over. */
static void
give(struct connections *cs, struct connections *next, int fd, long long until)
{
	epoll_ctl(cs->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	bool is_theirs = adopt(next, fd, until);
	if (is_theirs)
		atomic_fetch_sub(&cs->n, 1);
	else
		end(cs, fd);
}

static bool
is_ready(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};
	return poll(&p, 1, 0) == 1;
}

/* Has a connection looked at once more, if nobody has it just now. */
static void
look_again(struct connections *cs, int fd, long long until)
{
	struct connection *c = &cs->all[fd];
	do {
		if (!atomic_compare_exchange_strong(&c->until, &until, 0))
			return;
		atomic_store(&c->is_touched, false);
		if (!follow(cs, EPOLL_CTL_MOD, fd) && errno != ENOENT)
			log_error("epoll_ctl: %m"); /* ENOENT: amid adopt() */
		atomic_store(&c->until, until);
	} while (atomic_load(&c->is_touched));
}

/* The same for all of which a part is there. */
static void
look_at_parts(struct connections *cs)
{
	for (int fd = 0; fd < CONNECTIONS_MAX; fd++) {
		long long until = atomic_load(&cs->all[fd].until);
		if (until < 0)
			look_again(cs, fd, until);
	}
}

/* Where a connection goes whose request was answered: its new until, or 0 when it
 * is closed or another's. */
static long long
after(struct connections *cs, int fd, enum fcgi_end end_of_request)
{
	struct connections *next = atomic_load(&cs->next);
	if (end_of_request == FCGI_KEPT && !atomic_load(&cs->stopped_at))
		return clock_ms() + KEPT_MS;
	if (end_of_request == FCGI_KEPT && next)
		give(cs, next, fd, clock_ms() + KEPT_MS);
	else
		end(cs, end_of_request == FCGI_CLOSED ? -1 : fd);
	return 0;
}

/* Something is in flight no more. */
static void
leave(struct connections *cs)
{
	sem_post(&cs->room);
	atomic_fetch_sub(&cs->n_served, 1); /* after it cs may be freed */
}

/* A request was answered by a thread that may not serve the next one itself. */
static void
answered(void *connection, enum fcgi_end end_of_request)
{
	struct connection *c = connection;
	struct connections *cs = atomic_load(&c->of);
	int fd = (int)(c - cs->all);
	long long until = after(cs, fd, end_of_request);
	if (until) {
		put_back(cs, fd, until);
		if (atomic_load(&c->is_touched))
			look_again(cs, fd, until);
	}
	leave(cs);
}

/* Serves a request that is there, or that was gathered. */
static enum fcgi_end
serve(struct connections *cs, int fd, int64_t deadline, struct gathered *g,
    struct watcher *w)
{
	struct handler *h = atomic_load(&cs->h);
	struct connection *c = &cs->all[fd];
	atomic_fetch_add(&cs->n_served, 1);
	if (sem_trywait(&cs->room) < 0) {
		watch_end(w);
		while (sem_wait(&cs->room) < 0)
			; /* a signal */
	}
	enum fcgi_end e = g ? gather_serve(g, h, deadline, answered, c)
			    : fcgi_serve(h, fd, fd, deadline, ERR_BODY_CUT, answered, c);
	if (e != FCGI_LATER)
		leave(cs);
	return e;
}

/* Lets a worker wait for a peer, unless max do already.  False: not now. */
static bool
begin_long(struct connections *cs, int max, struct watcher *w)
{
	while (atomic_fetch_add(&cs->n_long, 1) >= max) {
		atomic_fetch_sub(&cs->n_long, 1);
		atomic_store(&cs->is_wanted, true);
		if (atomic_load(&cs->n_long) >= max)
			return false;
	}
	watch_end(w);
	return true;
}

static void
end_long(struct connections *cs)
{
	atomic_fetch_sub(&cs->n_long, 1);
	if (atomic_exchange(&cs->is_wanted, false))
		look_at_parts(cs);
}

/* Waits with a worker for the rest of a body.  False: not now. */
static bool
wait_for_body(struct connections *cs, int fd, int max, int64_t until, struct watcher *w,
    struct gathered **g_r)
{
	if (!begin_long(cs, max, w))
		return false;
	*g_r = gather(fd, conf_of(cs)->max_body, until, ERR_BODY_CUT);
	end_long(cs);
	return true;
}

static enum fcgi_end
serve_gathered(struct connections *cs, int fd, int64_t deadline, struct gathered *g,
    struct watcher *w)
{
	bool is_whole = gather_is_whole(g);
	enum fcgi_end e = serve(cs, fd, deadline, g, w);
	if (is_whole || e != FCGI_SPENT)
		return e;
	bool may_wait = begin_long(cs, cs->max_long, w);
	gather_let_finish(fd, may_wait ? deadline : 0);
	if (may_wait)
		end_long(cs);
	return e;
}

/* Does what can be done for a request of which a part is there.  False, and
 * nothing was done: it may wait. */
static bool
serve_part(struct connections *cs, int fd, enum records_state state, size_t len,
    int64_t deadline, struct watcher *w, enum fcgi_end *end_r)
{
	struct gathered *g;
	int64_t now = clock_ms();
	bool is_old = deadline < now + conf_of(cs)->request_timeout_ms - TICK_MS;
	bool is_late = deadline < now + TICK_MS;
	bool is_long = len >= LONG_SIZE; /* slow ones leave room for these */
	bool has_ended = is_ready(fd, POLLRDHUP);
	int max = is_long ? cs->max_long : (cs->max_long + 1) / 2;
	if (state != RECORDS_BODY)
		return is_late || has_ended;
	if (has_ended || is_late) /* it is cut, or no worker was free to take all of it */
		g = gather(fd, conf_of(cs)->max_body, now,
		    has_ended || !is_long ? ERR_BODY_CUT : ERR_BUSY);
	else if (!(is_old || is_long) ||
		 !wait_for_body(cs, fd, max, deadline - TICK_MS, w, &g))
		return false;
	if (g)
		*end_r = serve_gathered(cs, fd, deadline, g, w);
	return true;
}

/* By when the answer must be out: counted from the first look at the request, and
 * in a stop from the stop. */
static int64_t
deadline_of(struct connections *cs, long long until)
{
	long long stopped_at = atomic_load(&cs->stopped_at);
	int64_t timeout = conf_of(cs)->request_timeout_ms;
	int64_t deadline = until < 0 ? -until : clock_ms() + timeout;
	return stopped_at && deadline > stopped_at + timeout ? stopped_at + timeout
							     : deadline;
}

/* One look at a connection that is ours: serves the request that is there.
 * Returns its new until, or 0 when it is closed, or a request has it. */
static long long
advance(struct connections *cs, int fd, long long until, struct watcher *w)
{
	enum records_state state;
	enum fcgi_end end_of_request = FCGI_SPENT;
	ssize_t len = records_peek(fd, &state);
	if (len == 0)
		return until;
	int64_t deadline = deadline_of(cs, until);
	if (len > 0 && state == RECORDS_WHOLE)
		end_of_request = serve(cs, fd, deadline, NULL, w);
	else if (len > 0 && state != RECORDS_BROKEN &&
		 !serve_part(cs, fd, state, (size_t)len, deadline, w, &end_of_request))
		return -deadline;
	return end_of_request == FCGI_LATER ? 0 : after(cs, fd, end_of_request);
}

/* Takes a connection, unless another has it or it is not ours, and does all that can
 * be done; what comes meanwhile is seen by is_touched. */
void
connections_handle(struct connections *cs, int fd, struct watcher *w)
{
	struct connection *c = &cs->all[fd];
	long long until;
	atomic_store(&c->is_touched, true);
	do {
		until = atomic_exchange(&c->until, 0);
		if (until == 0)
			return;
		atomic_fetch_sub(&cs->n_parts, until < 0);
		atomic_store(&c->is_touched, false);
		until = advance(cs, fd, until, w);
		if (until == 0)
			return;
		put_back(cs, fd, until);
	} while (atomic_load(&c->is_touched));
}

enum err
connections_open(struct connections **c_r, struct handler *h, int epoll_fd, int max_long)
{
	struct connections *cs = calloc(1, sizeof *cs);
	*c_r = cs;
	if (!cs)
		return ERR_MEMORY;
	cs->h = h;
	cs->epoll_fd = epoll_fd;
	cs->max_long = max_long;
	sem_init(&cs->room, 0, (unsigned)h->conf->threads);
	return ERR_OK;
}

void
connections_hand_over(struct connections *cs, struct connections *next)
{
	atomic_store(&cs->h, atomic_load(&next->h));
	atomic_fetch_add(&next->n_served, 1); /* it must not end before this one */
	atomic_store(&cs->next, next);
	for (int fd = 0; fd < CONNECTIONS_MAX; fd++) {
		long long until = atomic_load(&cs->all[fd].until);
		if (until > 0 &&
		    atomic_compare_exchange_strong(&cs->all[fd].until, &until, 0))
			give(cs, next, fd, until);
	}
}

bool
connections_are_many(const struct connections *cs)
{
	return atomic_load(&cs->n) >= CONNECTIONS_MAX - OTHER_FILES;
}

bool
connections_add(struct connections *cs, int fd)
{
	errno = EMFILE;
	fcgi_open(fd);
	if (fd < CONNECTIONS_MAX &&
	    adopt(cs, fd, clock_ms() + conf_of(cs)->request_timeout_ms))
		return true;
	int error = errno;
	close(fd);
	errno = error;
	return false;
}

/* Whether what was sent on an idle one may still be on its way. */
static bool
is_fresh(struct connections *cs, int64_t left)
{
	int64_t timeout = conf_of(cs)->request_timeout_ms; /* of one that is new */
	return left > KEPT_MS - TICK_MS || (left <= timeout && left > timeout - TICK_MS);
}

void
connections_tick(struct connections *cs, bool is_starved)
{
	int64_t now = clock_ms();
	for (int fd = 0; fd < CONNECTIONS_MAX; fd++) {
		long long until = atomic_load(&cs->all[fd].until);
		if (until <= 0 ||
		    (until >= now && (!is_starved || is_fresh(cs, until - now))))
			continue;
		if (is_ready(
			fd, POLLIN)) /* no worker has come to it yet, or never will */
			look_again(cs, fd, until);
		else if (atomic_compare_exchange_strong(&cs->all[fd].until, &until, 0))
			end(cs, fd);
	}
	look_at_parts(cs);
}

void
connections_stop(struct connections *cs, int64_t now)
{
	atomic_store(&cs->stopped_at, now);
}

bool
connections_are_busy(const struct connections *cs)
{
	return atomic_load(&cs->n_parts) > 0 || atomic_load(&cs->n_served) > 0;
}

/* Closes all that nobody has, or hands them over, when what just came was served. */
static void
sweep(struct connections *cs)
{
	struct connections *next = atomic_load(&cs->next);
	for (int fd = 0; fd < CONNECTIONS_MAX; fd++) {
		if (!atomic_load(&cs->all[fd].until))
			continue;
		struct watcher nobody = {0};
		connections_handle(cs, fd, &nobody);
		long long left = atomic_exchange(&cs->all[fd].until, 0);
		if (left > 0 && next) /* a worker had it at the hand-over */
			give(cs, next, fd, left);
		else if (left)
			end(cs, fd);
	}
}

bool
connections_close(struct connections **c)
{
	struct connections *cs = *c, *next;
	if (!cs)
		return true;
	int64_t until = atomic_load(&cs->stopped_at) + conf_of(cs)->request_timeout_ms;
	sweep(cs);
	while (atomic_load(&cs->n_served) > 0) {
		if (clock_left(until + MARGIN_MS) == 0)
			return false;
		usleep(NAP_MS * 1000);
	}
	sweep(cs); /* what was answered meanwhile */
	next = atomic_load(&cs->next);
	sem_destroy(&cs->room);
	free(cs);
	if (next)
		atomic_fetch_sub(&next->n_served, 1);
	*c = NULL;
	return true;
}
