#include "request.h"

#include <ctype.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

/* The answer's way out takes a moment too. */
enum { ANSWER_MARGIN_MS = 300, RETRY_AFTER_S = 5 };

static const struct {
	const char *name;
	size_t member;
} variables[] = {
    {"REQUEST_METHOD", offsetof(struct request, method)},
    {"PATH_INFO", offsetof(struct request, path)},
    {"QUERY_STRING", offsetof(struct request, query)},
    {"CONTENT_TYPE", offsetof(struct request, content_type)},
    {"HTTP_CONTENT_ENCODING", offsetof(struct request, content_encoding)},
    {"HTTP_AUTHORIZATION", offsetof(struct request, authorization)},
    {"HTTP_X_WEBHOOK_TOKEN", offsetof(struct request, webhook_token)},
    {"REMOTE_ADDR", offsetof(struct request, remote_addr)},
};

/* Sets *t from "NAME=value" when it has that name and was not set before. */
static void
take(struct text *t, const char *pair, const char *name)
{
	size_t len = strlen(name);
	if (!t->ptr && strncmp(pair, name, len) == 0 && pair[len] == '=')
		*t = text_of(pair + len + 1);
}

/* A plain decimal number; -1 when nothing is told, -2 when it is none. */
static int64_t
length_of(struct text t)
{
	int64_t n = 0;
	if (t.len == 0)
		return -1;
	if (t.len > 18)
		return -2;
	for (size_t i = 0; i < t.len; i++) {
		if (!isdigit((unsigned char)t.ptr[i]))
			return -2;
		n = n * 10 + (t.ptr[i] - '0');
	}
	return n;
}

/* The last segment of a URI's path, with its slash. */
static struct text
last_segment(struct text uri)
{
	const char *end = uri.ptr + strcspn(uri.ptr, "?#");
	while (end > uri.ptr && end[-1] == '/')
		end--;
	const char *start = end;
	while (start > uri.ptr && start[-1] != '/')
		start--;
	return (struct text){start, (size_t)(end - start)};
}

void
request_init(struct request *req, char *const *env, int64_t deadline, long max_body)
{
	struct text length = {0}, uri = {0};
	*req = (struct request){.env = env};
	req->deadline = deadline - ANSWER_MARGIN_MS;
	for (; *env; env++) {
		for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
			take((struct text *)((char *)req + variables[i].member), *env,
			    variables[i].name);
		take(&length, *env, "CONTENT_LENGTH");
		take(&uri, *env, "REQUEST_URI");
	}
	if (req->path.len == 0 && uri.ptr)
		req->path = last_segment(uri);
	req->content_length = length_of(length);
	if (req->content_length == -2)
		req->body_err = ERR_BODY_LENGTH;
	else if (req->content_length > max_body)
		req->body_err = ERR_TOO_LARGE;
}

struct text
request_field(const struct request *req, const char *variable)
{
	struct text field = {0};
	for (char *const *env = req->env; *env; env++)
		take(&field, *env, variable);
	return field;
}

void
request_set_body(struct request *req, struct text body, long max_body)
{
	/* RFC 3875, section 4.2: what is beyond CONTENT_LENGTH is not the body */
	if (req->content_length >= 0 && (int64_t)body.len > req->content_length)
		body.len = (size_t)req->content_length;
	req->body = body;
	if (body.len > (size_t)max_body)
		req->body_err = ERR_TOO_LARGE;
	else if ((int64_t)body.len < req->content_length)
		req->body_err = ERR_BODY_CUT;
}

static const char *
phrase(int status)
{
	static const struct {
		int status;
		const char *phrase;
	} phrases[] = {{200, "OK"}, {400, "Bad Request"}, {401, "Unauthorized"},
	    {404, "Not Found"}, {405, "Method Not Allowed"}, {413, "Content Too Large"},
	    {415, "Unsupported Media Type"}, {422, "Unprocessable Content"},
	    {500, "Internal Server Error"}, {503, "Service Unavailable"}};
	for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++)
		if (phrases[i].status == status)
			return phrases[i].phrase;
	return "Error";
}

size_t
response_header(const struct response *res, char *out, size_t size)
{
	char retry[40] = "";
	if (res->status == 503)
		snprintf(retry, sizeof retry, "Retry-After: %d\r\n", RETRY_AFTER_S);
	int n = snprintf(out, size,
	    "Status: %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
	    "Cache-Control: no-store\r\n%s%s%s%s%s\r\n",
	    res->status, phrase(res->status), res->type, res->len, retry,
	    res->status == 401 ? "WWW-Authenticate: Bearer realm=\"smshook\"\r\n" : "",
	    res->allow ? "Allow: " : "", res->allow ? res->allow : "",
	    res->allow ? "\r\n" : "");
	return (size_t)n;
}

struct text
response_body(const struct response *res, const struct request *req)
{
	return (struct text){res->body, text_is(req->method, "HEAD") ? 0 : res->len};
}

void
response_json(struct response *res, int status, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	int n = vsnprintf(res->body, sizeof res->body, format, ap);
	va_end(ap);
	res->status = status;
	res->type = "application/json";
	res->allow = NULL;
	res->len = (size_t)n < sizeof res->body ? (size_t)n : sizeof res->body - 1;
}

void
response_problem(struct response *res, enum err e, struct text found)
{
	int status = err_status(e);
	response_json(res, status,
	    "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,\"detail\":\"%s%s%."
	    "*s%s\"}",
	    phrase(status), status, err_sentence(e), found.len ? " (" : "",
	    (int)found.len, found.ptr ? found.ptr : "", found.len ? ")" : "");
	res->type = "application/problem+json";
}
