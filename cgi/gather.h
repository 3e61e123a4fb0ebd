/* A request that does not wait on its connection as a whole: a body that is
 * larger than a socket's buffer, one that comes slowly, or one that was cut.  It is
 * gathered and judged before libfcgi reads it, from a file in memory. */
#ifndef GATHER_H
#define GATHER_H

#include "fcgi.h"

struct gathered;

/* Gathers the request on fd, all of whose parameters wait there; max_body: bytes;
 * until: clock_ms() to which the rest of the body is waited for; cut: why it may not
 * have come.  NULL, logged: it cannot be kept, or is broken. */
struct gathered *gather(int fd, long max_body, int64_t until, enum err cut) MUST_USE;

/* Else it is cut, and so is answered at once. */
bool gather_is_whole(const struct gathered *g);

/* Handles and answers it, and frees it; told and owner as of fcgi_serve().  deadline:
 * clock_ms() by which the answer must be out.  Any thread. */
enum fcgi_end gather_serve(struct gathered *g, struct handler *h, int64_t deadline,
    fcgi_told *told, void *owner) MUST_USE;

/* What a peer is still sending is read away until (clock_ms()) it has ended: it would
 * not read its answer from a closed socket. */
void gather_let_finish(int fd, int64_t until);

#endif
