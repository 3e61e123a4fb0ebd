#include "fcgi.h"

#include "clock.h"
#include "log.h"
#include "records.h"

#include <fcgiapp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>

/* A request that waits as a whole needs no more than this for a read. */
enum { SOCKET_MS = 100, HEADER_MAX = 512 };

/* One request, until it is answered. */
struct turn {
	struct serving s; /* first: done() gets it */
	FCGX_Request r;
	int out; /* where the answer goes */
	fcgi_told *told;
	void *owner;
	atomic_bool is_half; /* of fcgi_serve() and done(), one has come to its end */
};

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
	struct timeval t = {0, SOCKET_MS * 1000};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
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

/* Answers, and frees it.  Nobody is waited for: an answer fits a socket's buffer, unless
 * the peer reads none. */
static enum fcgi_end
answer(struct turn *t)
{
	char header[HEADER_MAX];
	unsigned char out[HEADER_MAX + RESPONSE_MAX + RECORDS_MORE];
	FCGX_Request *r = &t->r;
	struct text head = {header, response_header(&t->s.res, header, sizeof header)};
	size_t len =
	    records_answer(out, r->requestId, head, response_body(&t->s.res, &t->s.req));
	bool is_kept = r->keepConnection && FCGX_HasSeenEOF(r->in) == EOF &&
		       FCGX_GetError(r->in) == 0;
	bool is_out = send(t->out, out, len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len;
	FCGX_Free(r, 0);
	free(t->s.req.memory);
	free(t);
	return is_out && is_kept ? FCGI_KEPT : FCGI_SPENT;
}

/* Who comes second answers: this or fcgi_serve(). */
static void
done(struct serving *s)
{
	struct turn *t = (struct turn *)s;
	fcgi_told *told = t->told;
	void *owner = t->owner;
	if (atomic_exchange(&t->is_half, true))
		told(owner, answer(t));
}

enum fcgi_end
fcgi_serve(struct handler *h, int fd, int out, int64_t deadline, enum err cut,
    fcgi_told *told, void *owner)
{
	struct turn *t = calloc(1, sizeof *t);
	if (!t)
		return FCGI_SPENT;
	t->s.h = h;
	t->s.done = done;
	t->out = out;
	t->told = told;
	t->owner = owner;
	FCGX_InitRequest(&t->r, -1, 0);
	t->r.ipcFd = fd;
	t->r.keepConnection = 1;
	if (FCGX_Accept_r(&t->r) < 0) {
		free(t);
		return FCGI_CLOSED;
	}
	request_init(&t->s.req, t->r.envp, deadline, h->conf->max_body);
	enum err e = take_body(&t->r, &t->s.req, h->conf->max_body, cut);
	if (e) {
		response_problem(&t->s.res, e, (struct text){0});
		return answer(t);
	}
	handle(&t->s);
	return atomic_exchange(&t->is_half, true) ? answer(t) : FCGI_LATER;
}
