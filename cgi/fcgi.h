/* One request of FastCGI 1.0, by libfcgi, on a connection that was accepted,
 * when records_look() says that it is there. */
#ifndef FCGI_H
#define FCGI_H

#include "handle.h"

/* What became of a request and its connection. */
enum fcgi_end {
	FCGI_LATER, /* it is answered when its event is committed */
	FCGI_KEPT,  /* answered, and the connection is good for another */
	FCGI_SPENT, /* the connection is to be closed */
	FCGI_CLOSED /* libfcgi has closed it */
};

/* Told of the end of a request that was FCGI_LATER, by another thread, and maybe
 * before fcgi_serve() has returned.  May not wait. */
typedef void fcgi_told(void *owner, enum fcgi_end end);

/* Before any thread, with signals blocked: libfcgi's own start.  Errors, logged:
 * ERR_SYSTEM. */
enum err fcgi_init(void) MUST_USE;

/* Prepares a connection that was accepted. */
void fcgi_open(int fd);

/* Reads one request from fd, handles it and answers it on the socket out.  Nothing is
 * waited for: what has not come is cut off, and answered by cut.  deadline: clock_ms() by
 * which the answer must be out. Any thread. */
enum fcgi_end fcgi_serve(struct handler *h, int fd, int out, int64_t deadline,
    enum err cut, fcgi_told *told, void *owner) MUST_USE;

#endif
