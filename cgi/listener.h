/* The listening socket: made here, or inherited on fd 0.  Whoever can connect
 * to it speaks as the web server: a Unix socket with a mode, or loopback. */
#ifndef LISTENER_H
#define LISTENER_H

#include "err.h"

#include <stdbool.h>

/* Whether fd is a listening socket. */
bool listener_is(int fd);

/* Listens at where: a path (with a '/'), 127.0.0.1:PORT or [::1]:PORT.  mode:
 * permissions of a Unix socket.  A dead socket at the path is replaced.  Call
 * before threads (umask).  Errors, logged: ERR_CONFIG, ERR_SYSTEM. */
enum err listener_open(const char *where, long mode, int *fd_r) MUST_USE;

/* Removes the path of a Unix socket: nobody new finds it. */
void listener_hide(const char *where);

#endif
