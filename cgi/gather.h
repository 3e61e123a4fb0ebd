/* A request that does not wait on its connection as a whole: a body that is
 * larger than a socket's buffer, one that comes slowly, or one that was cut.  It is
 * gathered and judged before libfcgi reads it, from a file in memory. */
#ifndef GATHER_H
#define GATHER_H

#include "handle.h"

/* Gathers, handles and answers the request on fd, all of whose parameters wait
 * there.  True when the connection is good for another; else the caller closes
 * it.  until: clock_ms() to which the rest of the body is waited for; deadline: by
 * which the answer must be out.  Any thread. */
bool gather_serve(struct handler *h, int fd, int64_t until, int64_t deadline) MUST_USE;

#endif
