#include "listener.h"

#include "log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* As long as the kernel allows (net.core.somaxconn): what waits here is not
 * yet refused. */
enum { BACKLOG = 4096 };

bool
listener_is(int fd)
{
	int is_listening = 0;
	socklen_t len = sizeof is_listening;
	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &len) == 0 &&
	       is_listening;
}

static enum err
fail(const char *where, const char *what, int *fd)
{
	log_error("-s %s: %s: %s", where, what, strerror(errno));
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	return ERR_SYSTEM;
}

static enum err
start(const char *where, const struct sockaddr *address, socklen_t len, int *fd)
{
	int on = 1;
	if (address->sa_family != AF_UNIX)
		setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(*fd, address, len) < 0)
		return fail(where, "bind", fd);
	if (listen(*fd, BACKLOG) < 0)
		return fail(where, "listen", fd);
	return ERR_OK;
}

static enum err
open_unix(const char *path, long mode, int *fd)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof address.sun_path) {
		log_error("-s %s: a socket's path is at most %zu characters long", path,
		    sizeof address.sun_path - 1);
		return ERR_CONFIG;
	}
	memcpy(address.sun_path, path, strlen(path) + 1);
	*fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*fd < 0)
		return fail(path, "socket", fd);
	if (connect(*fd, (struct sockaddr *)&address, sizeof address) == 0) {
		log_error("-s %s: another program is listening there", path);
		close(*fd);
		return ERR_CONFIG;
	}
	struct stat st;
	if (errno == ECONNREFUSED && lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
		unlink(path); /* left by one that was killed */
	mode_t before = umask((mode_t)~mode & 0777);
	enum err e = start(path, (struct sockaddr *)&address, sizeof address, fd);
	umask(before);
	return e;
}

static bool
is_loopback(const struct sockaddr *a)
{
	if (a->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 ==
		       127;
	return a->sa_family == AF_INET6 &&
	       IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

static enum err
open_tcp(const char *where, int *fd)
{
	char host[64];
	const char *colon = strrchr(where, ':');
	bool is_bracketed = *where == '[' && colon && colon > where && colon[-1] == ']';
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
			    .ai_socktype = SOCK_STREAM},
			*info;
	if (!colon || atoi(colon + 1) <= 0 ||
	    snprintf(host, sizeof host, "%.*s", (int)(colon - where) - 2 * is_bracketed,
		where + is_bracketed) >= (int)sizeof host ||
	    getaddrinfo(host, colon + 1, &hints, &info) != 0) {
		log_error(
		    "-s %s: neither a path with a '/' nor 127.0.0.1:PORT or [::1]:PORT",
		    where);
		return ERR_CONFIG;
	}
	enum err e = ERR_CONFIG;
	if (!is_loopback(info->ai_addr)) {
		log_error(
		    "-s %s: not loopback; whoever can connect there could pose as the "
		    "web server",
		    where);
	} else {
		*fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		e = *fd < 0 ? fail(where, "socket", fd)
			    : start(where, info->ai_addr, info->ai_addrlen, fd);
	}
	freeaddrinfo(info);
	return e;
}

enum err
listener_open(const char *where, long mode, int *fd_r)
{
	*fd_r = -1;
	return strchr(where, '/') ? open_unix(where, mode, fd_r) : open_tcp(where, fd_r);
}

void
listener_hide(const char *where)
{
	if (strchr(where, '/'))
		unlink(where);
}
