#include "fcgi.h"

#include "clock.h"
#include "log.h"

#include <fcgiapp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>

/* A request that waits as a whole needs no more than this for a read; nor does
 * an answer, which fits the socket's buffer, unless nobody reads answers. */
enum { SOCKET_MS = 100 };

static void
set_timeout(int fd, int option, int64_t ms)
{
	struct timeval t = {ms / 1000, ms % 1000 * 1000 + 1}; /* 0 would be for ever */
	setsockopt(fd, SOL_SOCKET, option, &t, sizeof t);
}

enum err
fcgi_init(void)
{
	/* It closes a connection itself when a request is malformed. */
	setenv("LIBFCGI_OS_CLOSE_POLL_TIMEOUT", "10", 1);
	if (FCGX_Init() == 0)
		return ERR_OK;
	log_error("libfcgi does not start");
	return ERR_SYSTEM;
}

void
fcgi_open(int fd)
{
	set_timeout(fd, SO_RCVTIMEO, SOCKET_MS);
	set_timeout(fd, SO_SNDTIMEO, SOCKET_MS);
}

/* The body, and what is beyond what we take of it: unread bytes would spoil the
 * next request. */
static enum err
take_body(FCGX_Request *r, struct request *req, long max_body, enum err cut)
{
	size_t size = (size_t)max_body + 1;
	if (req->content_length >= 0 && req->content_length < max_body)
		size = (size_t)req->content_length + 1;
	req->memory = malloc(size);
	if (!req->memory)
		return ERR_MEMORY;
	struct text body = {
	    req->memory, (size_t)FCGX_GetStr(req->memory, (int)size, r->in)};
	if (!req->body_err)
		request_set_body(req, body, max_body);
	char rest[4096];
	while (
	    body.len == size && FCGX_GetStr(rest, sizeof rest, r->in) == (int)sizeof rest)
		;
	if ((FCGX_GetError(r->in) != 0 && req->body_err != ERR_TOO_LARGE) ||
	    req->body_err == ERR_BODY_CUT)
		req->body_err = cut;
	return ERR_OK;
}

bool
fcgi_serve(struct handler *h, int *fd_r, int64_t deadline, enum err cut)
{
	const struct conf *conf = h->conf;
	FCGX_Request r;
	struct request req;
	struct response res;
	char header[512];

	FCGX_InitRequest(&r, -1, 0);
	r.ipcFd = *fd_r;
	r.keepConnection = 1;
	if (FCGX_Accept_r(&r) < 0) {
		*fd_r = -1;
		return false;
	}
	bool is_kept = r.keepConnection != 0; /* what the web server asked for */
	request_init(&req, r.envp, deadline, conf->max_body);
	enum err e = take_body(&r, &req, conf->max_body, cut);
	if (e)
		response_problem(&res, e, (struct text){0});
	else
		handle(h, &req, &res);

	struct text body = response_body(&res, &req);
	FCGX_PutStr(header, (int)response_header(&res, header, sizeof header), r.out);
	FCGX_PutStr(body.ptr, (int)body.len, r.out);
	is_kept = is_kept && FCGX_HasSeenEOF(r.in) == EOF && FCGX_GetError(r.in) == 0;
	r.keepConnection = 1; /* closing is ours: libfcgi would wait for the peer */
	FCGX_Finish_r(&r);
	*fd_r = r.ipcFd; /* -1 where libfcgi closed it: the peer has gone */
	free(req.memory);
	return is_kept && *fd_r >= 0;
}
