/* A request and its response, the same for CGI and FastCGI.  Texts of a
 * request point into the environment and the body that it was made from. */
#ifndef REQUEST_H
#define REQUEST_H

#include "err.h"
#include "text.h"

#include <stdint.h>

struct request {
	struct text method, path, query;
	struct text content_type, content_encoding;
	struct text authorization, webhook_token;
	struct text remote_addr;
	int64_t content_length; /* -1: not told */
	struct text body;
	char *memory; /* what body points into, malloc()ed: handle() may take it over */
	char *const *env;
	enum err body_err; /* ERR_OK: the body is whole */
	int64_t deadline;  /* clock_ms() by which the answer must be out */
};

enum { RESPONSE_MAX = 4096 };

struct response {
	int status;
	const char *type;  /* Content-Type */
	const char *allow; /* Allow, or NULL */
	char body[RESPONSE_MAX];
	size_t len;
};

/* Fills all but the body from environment strings NAME=value, which end with
 * NULL (RFC 3875, section 4.1).  deadline: clock_ms() by which the sender must
 * have the answer.
 * body_err is ERR_BODY_LENGTH for a Content-Length that is no plain number, and
 * ERR_TOO_LARGE when it says more than max_body: then no body is to be read. */
void request_init(struct request *req, char *const *env, int64_t deadline, long max_body);

/* A header field by the name of its variable, HTTP_NAME; absent when there is none. */
struct text request_field(const struct request *req, const char *variable);

/* Notes the body that was read: at most max_body + 1 bytes of it. */
void request_set_body(struct request *req, struct text body, long max_body);

/* Writes the header of a response (RFC 3875, section 6.3) with its empty line:
 * how many bytes, less than size. */
size_t response_header(const struct response *res, char *out, size_t size);

/* The body to be sent with it: none for HEAD. */
struct text response_body(const struct response *res, const struct request *req);

/* Fills the response with JSON by a format of printf(3). */
void response_json(struct response *res, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Fills it with the problem details (RFC 9457) of e and, unless it is empty,
 * what was found, which may hold no text of the request. */
void response_problem(struct response *res, enum err e, struct text found);

#endif
