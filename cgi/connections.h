/* The FastCGI connections that were accepted, by their descriptor: which of them wait,
 * for what and until when, and the one worker, or request, at a time that has one.  Any
 * thread. */
#ifndef CONNECTIONS_H
#define CONNECTIONS_H

#include "handle.h"
#include "watch.h"

enum { CONNECTIONS_MAX = 4096 };

struct connections;

/* epoll_fd: whose events connections_handle() takes; max_long: how many of those who
 * call it may wait for a peer.  As many requests as conf->threads are in flight at a
 * time.  Errors: ERR_MEMORY. */
enum err connections_open(
    struct connections **c_r, struct handler *h, int epoll_fd, int max_long) MUST_USE;

/* Idle connections, and all others when they have become idle, are another's from now
 * on, which connections_close() does not free before c, and requests are its
 * handler's. */
void connections_hand_over(struct connections *c, struct connections *next);

/* Whether no more can be added for now. */
bool connections_are_many(const struct connections *c);

/* Takes over a descriptor that was accepted.  False, with errno set: it is closed. */
bool connections_add(struct connections *c, int fd);

/* An event on one of them: serves the request that is there, unless another worker
 * has the connection.  The caller's watch ends before it waits for anything. */
void connections_handle(struct connections *c, int fd, struct watcher *w);

/* Each second: closes what was idle for too long, with is_starved everything idle, and
 * has what is there in part looked at again. */
void connections_tick(struct connections *c, bool is_starved);

/* After it, at clock_ms(), no connection is kept, and requests have their time from
 * then on. */
void connections_stop(struct connections *c, int64_t now);

/* Whether a part of a request waits on one, or one is in flight. */
bool connections_are_busy(const struct connections *c);

/* Closes all that nobody has, or hands them over, when what just came was served.  No
 * other thread may call.  False when a request did not end: then it may still use c. */
bool connections_close(struct connections **c) MUST_USE;

#endif
