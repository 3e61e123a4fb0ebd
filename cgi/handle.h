/* struct request -> struct response: route, method, token, limits, decode,
 * submit.  Knows nothing of how either travels, and waits for nothing.  Any thread. */
#ifndef HANDLE_H
#define HANDLE_H

#include "conf.h"
#include "drainer.h"
#include "request.h"
#include "writer.h"

#include <stdatomic.h>

enum { HANDLER_STATUSES = 10 };

struct handler {
	const struct conf *conf;
	struct writer *writer;
	struct drainer *drainer;                  /* NULL in CGI: no metrics */
	atomic_ullong requests[HANDLER_STATUSES]; /* answers, by status */
	atomic_ullong n_strangers;   /* without a right token, not told of yet */
	atomic_llong strangers_said; /* clock_ms() when they were, 0 never */
};

/* A request that is being served. */
struct serving {
	struct handler *h;
	struct request req;
	struct response res;
	/* told once, when res is there: by the caller's thread, or another one; may not
	 * wait */
	void (*done)(struct serving *s);
};

/* Serves it: all but res is set.  May take over the memory of the request's body.
 * Another thread may answer and end it before this returns. */
void handle(struct serving *s);

/* Whether it is time to log of strangers, one more of which has come now
 * (clock_ms()): how many have since the last time, or 0. */
unsigned long long handle_stranger(struct handler *h, int64_t now);

#endif
