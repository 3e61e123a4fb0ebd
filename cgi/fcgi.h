/* FastCGI 1.0 by libfcgi, with an accept of our own: a pool of threads waits
 * in one epoll for the listener and for idle connections, so that a connection
 * that the web server keeps open holds no thread, nor does one that is silent. */
#ifndef FCGI_H
#define FCGI_H

#include "handle.h"

struct fcgi;

/* Before any thread, with signals blocked: libfcgi's own start.  Errors, logged:
 * ERR_SYSTEM. */
enum err fcgi_init(void) MUST_USE;

/* Starts conf->threads workers on a listening socket, which is only borrowed
 * and never changed: others may share it.
 * Errors, logged: ERR_MEMORY, ERR_SYSTEM. */
enum err fcgi_start(struct fcgi **fcgi_r, struct handler *h, int listen_fd) MUST_USE;

/* Answers what is in flight and what waits on connections that were accepted,
 * and ends the workers, in less than 5 s.  takes_backlog: nobody else will
 * accept from the listener, so what waits there is answered too.  False when a
 * worker did not end: then nothing that it may use may be freed. */
bool fcgi_stop(struct fcgi **fcgi, bool takes_backlog) MUST_USE;

#endif
