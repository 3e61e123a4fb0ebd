/* A request that does not wait on its connection as a whole: a body that is
 * larger than a socket's buffer, one that comes slowly, or one that was cut.  It is
 * gathered and judged before libfcgi reads it, from a file in memory. */
#ifndef GATHER_H
#define GATHER_H

#include "handle.h"

struct gathered {
	int file;      /* in memory: the request, and then the answer; -1: broken */
	size_t len;    /* of the request */
	bool is_whole; /* else it is cut */
	enum err cut;  /* and answered so */
};

/* Gathers the request on fd, all of whose parameters wait there; until: clock_ms()
 * to which the rest of the body is waited for; cut: why it may not have come. */
void gather(struct gathered *g_r, int fd, long max_body, int64_t until, enum err cut);

/* Handles and answers it, and frees it.  True when the connection is good for
 * another; else the caller closes it.  deadline: clock_ms() by which the answer must
 * be out.  Any thread. */
bool gather_serve(
    struct gathered *g, struct handler *h, int fd, int64_t deadline) MUST_USE;

#endif
