/* The workers of FastCGI: a pool of threads waits in one epoll for the listener
 * and for all connections.  A connection holds a thread only while a request
 * that waits there as a whole is read and handed in: neither one that the web server
 * keeps open nor one that is silent or slow holds any, nor one that is committed. */
#ifndef POOL_H
#define POOL_H

#include "handle.h"

struct pool;

/* Starts workers on a listening socket, which is only borrowed and never changed: others
 * may share it.  conf->threads requests are in flight at a time, and a quarter as many
 * workers may wait for slow bodies.  Errors, logged: ERR_MEMORY, ERR_SYSTEM. */
enum err pool_start(struct pool **pool_r, struct handler *h, int listen_fd) MUST_USE;

/* Connections and requests are another pool's from now on, which must outlive it. */
void pool_hand_over(struct pool *pool, struct pool *next);

/* Answers what is in flight and what waits on connections that were accepted,
 * and ends the workers, in less than 5 s.  takes_backlog: nobody else will
 * accept from the listener, so what waits there is answered too.  False when a
 * worker did not end: then nothing that it may use may be freed. */
bool pool_stop(struct pool **pool, bool takes_backlog) MUST_USE;

#endif
