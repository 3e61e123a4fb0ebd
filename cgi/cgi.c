#include "cgi.h"

#include "clock.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum { UNREAD_MAX = 256 * 1024 };

extern char **environ;

bool
cgi_is_called(void)
{
	/* Section 4.1.4 says the first MUST be there; not all hosts read it. */
	return getenv("GATEWAY_INTERFACE") || getenv("REQUEST_METHOD");
}

/* Reads up to size bytes from fd 0, to the end or the deadline: how many. */
static size_t
read_all(char *bytes, size_t size, int64_t deadline)
{
	size_t len = 0;
	while (len < size) {
		struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
		if (poll(&p, 1, clock_left(deadline)) == 0)
			break;
		ssize_t n = read(STDIN_FILENO, bytes + len, size - len);
		if (n == 0 || (n < 0 && errno != EINTR))
			break;
		len += n > 0 ? (size_t)n : 0;
	}
	return len;
}

/* Without a length (a chunked body under mod_cgid) the body goes to the end.
 * One that we have no use for is read too, within reason: a web server that
 * cannot get rid of it may drop our answer. */
static enum err
read_body(struct request *req, long max_body)
{
	size_t size = req->content_length >= 0 && req->content_length <= max_body
			  ? (size_t)req->content_length
			  : (size_t)max_body + 1;
	char rest[4096];
	if (req->content_length < 0 &&
	    (text_is(req->method, "GET") || text_is(req->method, "HEAD")))
		return ERR_OK; /* by hand in a terminal there would be no end */
	req->memory = malloc(size + 1);
	if (!req->memory)
		return ERR_MEMORY;
	struct text body = {req->memory, read_all(req->memory, size, req->deadline)};
	if (!req->body_err)
		request_set_body(req, body, max_body);
	if (req->content_length < 0 && clock_left(req->deadline) == 0)
		req->body_err = ERR_BODY_CUT;
	for (size_t n = body.len; n > (size_t)max_body && n < UNREAD_MAX;) {
		size_t more = read_all(rest, sizeof rest, req->deadline);
		n = more > 0 ? n + more : UNREAD_MAX;
	}
	return ERR_OK;
}

static void
write_all(const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = write(STDOUT_FILENO, bytes, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			log_warn("the web server does not take the answer: %m");
			return;
		}
		bytes += n;
		len -= (size_t)n;
	}
}

static void
respond(const struct request *req, const struct response *res)
{
	char out[RESPONSE_MAX + 512];
	struct text body = response_body(res, req);
	size_t len = response_header(res, out, sizeof out);
	memcpy(out + len, body.ptr, body.len);
	write_all(out, len + body.len);
}

/* Web servers send an answer on when all that they gave us is closed: mod_cgid
 * waits for fd 0 and 1, mod_cgi for fd 1 and 2. */
static bool
end_response(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	bool ok = null >= 0;
	for (int fd = STDIN_FILENO; ok && fd <= STDERR_FILENO; fd++)
		ok = dup2(null, fd) == fd;
	if (null >= 0)
		close(null);
	return ok;
}

/* Without a thread of the writer nothing is left to wait for after handle(). */
static void
done(struct serving *s)
{
	respond(&s->req, &s->res);
}

bool
cgi_serve(struct handler *h)
{
	struct serving s = {.h = h, .done = done};
	const struct conf *conf = h->conf;
	request_init(
	    &s.req, environ, clock_ms() + conf->request_timeout_ms, conf->max_body);
	enum err e = read_body(&s.req, conf->max_body);
	/* Web servers send it when the client has gone, and a whole body is kept all
	 * the same.  Without a length it may be the word that the body was cut. */
	if (s.req.content_length >= 0 && !s.req.body_err)
		signal(SIGTERM, SIG_IGN);
	if (e) {
		response_problem(&s.res, e, (struct text){0});
		done(&s);
	} else {
		handle(&s);
	}
	free(s.req.memory);
	return end_response();
}

void
cgi_refuse(enum err e)
{
	struct request req = {0};
	struct response res = {0};
	response_problem(&res, e, (struct text){0});
	respond(&req, &res);
}
