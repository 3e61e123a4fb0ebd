/* One request of FastCGI 1.0, by libfcgi, on a connection that was accepted,
 * when records_look() says that it is there. */
#ifndef FCGI_H
#define FCGI_H

#include "handle.h"

/* Before any thread, with signals blocked: libfcgi's own start.  Errors, logged:
 * ERR_SYSTEM. */
enum err fcgi_init(void) MUST_USE;

/* Prepares a connection that was accepted. */
void fcgi_open(int fd);

/* Reads, handles and answers one request.  True when its connection is good for
 * another; else it is the caller's to close, and *fd is -1 where libfcgi has
 * closed it.  Nothing is waited for: what has not come is cut off, and answered by
 * cut.  deadline: clock_ms() by which the answer must be out.  Any thread. */
bool fcgi_serve(struct handler *h, int *fd, int64_t deadline, enum err cut) MUST_USE;

#endif
