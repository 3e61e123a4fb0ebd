/* A request as CGI has it, to its answer: lines NAME=value, an empty line, the
 * body.  The byte 1 in a value is a newline, which PATH_INFO can hold.  The writer
 * is ours: it looks at what it is handed in, and takes or refuses it. */
#include "fuzz.h"

#include "credentials.h"
#include "handle.h"
#include "json_scan.h"

#include <nettle/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

/* Nothing with CANARY may come out. */
#define SECRET "CANARY-0123456789"
#define SIGNED "CANARY-signed-789"
#define KEY    "CANARY-key-456789"

enum { MAX_VARIABLES = 40, MAX_BODY = 1024 };

static const struct request *served;
static int n_submitted;
static int n_done; /* how often the answer was there */

/* ------------------------------------------------------------- the writer */

/* The header has the MAC of the body, in whatever case. */
static bool
has_signature(void)
{
	unsigned char digest[SHA256_LEN];
	char hex[2 * SHA256_LEN + 1];
	struct hmac_sha256_ctx ctx;
	struct text t = request_field(served, "HTTP_X_SIGNATURE");
	hmac_sha256_set_key(&ctx, strlen(KEY), (const uint8_t *)KEY);
	hmac_sha256_update(&ctx, served->body.len, (const uint8_t *)served->body.ptr);
	hmac_sha256_digest(&ctx, sizeof digest, digest);
	for (int i = 0; i < SHA256_LEN; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	return t.len >= sizeof hex - 1 &&
	       strncasecmp(t.ptr + t.len - (sizeof hex - 1), hex, sizeof hex - 1) == 0;
}

static void
check_handed_in(const struct event *ev)
{
	CHECK(!served->body_err && text_is(served->method, "POST"));
	CHECK(ev->wire.len == served->body.len && ev->wire.len <= MAX_BODY);
	CHECK(ev->wire.len == 0 ||
	      memcmp(ev->wire.ptr, served->body.ptr, ev->wire.len) == 0);
	CHECK(text_is(ev->source, "shop") || text_is(ev->source, "signed"));
	CHECK(text_is(ev->source, "shop") || ev->http_status != EVENT_NO_INT ||
	      has_signature());
	CHECK(ev->content_type.len <= 120 && fuzz_is_printable(ev->content_type));
	CHECK(ev->remote_addr.len <= 120 && fuzz_is_printable(ev->remote_addr));
	CHECK(ev->http_status == EVENT_NO_INT || ev->http_status == 400 ||
	      ev->http_status == 415 || ev->http_status == 422 ||
	      (ev->http_status == 401 && text_is(ev->source, "signed")));
}

/* Each outcome that there is, by the length of the body. */
void
writer_submit(
    struct writer *w, struct event *ev, int64_t deadline, writer_told *told, void *owner)
{
	static const enum err refusals[] = {ERR_BUSY, ERR_SPOOL, ERR_MEMORY, ERR_DB_DATA};
	size_t n = served->body.len;
	(void)w;
	CHECK(deadline == served->deadline);
	if (!ev) {
		told(owner, NULL, n % 2 ? ERR_SPOOL : ERR_OK);
		return;
	}
	check_handed_in(ev);
	n_submitted++;
	if (n % 8 == 7) { /* the writer keeps it */
		event_free(ev);
		free(ev);
		told(owner, NULL, ERR_BUSY);
		return;
	}
	ev->is_spooled = n % 8 == 6;
	ev->id = 42;
	ev->duplicate_of = n % 8 == 5 ? 41 : 0;
	told(owner, ev, n % 8 < 4 && n > 500 ? refusals[n % 8] : ERR_OK);
}

void
writer_stats(struct writer *w, struct writer_stats *stats_r)
{
	(void)w;
	*stats_r = (struct writer_stats){.stored = UINT64_MAX, .failed = UINT64_MAX};
}

void
drainer_stats(const struct drainer *d, struct drainer_stats *stats_r)
{
	(void)d;
	*stats_r = (struct drainer_stats){.n_drained = UINT64_MAX, .notify_usage = 0.1};
}

/* -------------------------------------------------------------- the answer */

static bool
has(const char *where, size_t len, const char *what)
{
	return memmem(where, len, what, strlen(what)) != NULL;
}

/* RFC 3875, section 6.3: lines, each with a name, and an empty one. */
static void
check_header(const struct response *res)
{
	char header[512];
	size_t len = response_header(res, header, sizeof header);
	CHECK(len < sizeof header && strlen(header) == len);
	CHECK(memcmp(header, "Status: ", 8) == 0 && !has(header, len, "CANARY"));
	CHECK(len > 4 && memcmp(header + len - 4, "\r\n\r\n", 4) == 0);
	for (char *line = header; line < header + len - 2; line += 2) {
		char *end = strstr(line, "\r\n");
		CHECK(end > line && memchr(line, ':', (size_t)(end - line)));
		CHECK(fuzz_is_printable((struct text){line, (size_t)(end - line)}));
		line = end;
	}
	CHECK(has(header, len, "Retry-After: ") == (res->status == 503));
	CHECK(has(header, len, "Allow: ") == (res->status == 405));
	CHECK(has(header, len, "WWW-Authenticate: ") == (res->status == 401));
}

static void
check_response(const struct response *res, const struct request *req)
{
	static const int statuses[] = {200, 400, 401, 404, 405, 413, 415, 422, 500, 503};
	bool is_known = false;
	for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
		is_known = is_known || res->status == statuses[i];
	CHECK(is_known && res->len > 0 && res->len < RESPONSE_MAX);
	CHECK(!has(res->body, res->len, "CANARY") && !strstr(fuzz_log, "CANARY"));
	check_header(res);
	if (strstr(res->type, "json")) {
		struct json_report report;
		char *json = fuzz_copy(res->body, res->len);
		CHECK(fuzz_is_printable((struct text){json, res->len}));
		CHECK(json_scan(json, res->len, &report) && report.n_mended == 0);
		free(json);
	}
	CHECK(
	    response_body(res, req).len == (text_is(req->method, "HEAD") ? 0 : res->len));
}

/* -------------------------------------------------------------- the request */

static void
check_request(const struct request *req, struct text whole)
{
	const struct text texts[] = {req->method, req->path, req->query,
	    req->content_type, req->content_encoding, req->authorization,
	    req->webhook_token, req->remote_addr};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		CHECK(fuzz_is_inside(texts[i], whole));
	CHECK(!req->body.ptr || req->body.ptr == req->memory);
	CHECK(req->content_length >= -2 && (req->content_length > -2 || req->body_err));
	CHECK(req->body_err || req->body.len <= MAX_BODY);
	CHECK(req->body_err || req->content_length < 0 ||
	      (int64_t)req->body.len == req->content_length);
	CHECK(req->body_err != ERR_BODY_LENGTH || !req->body.ptr);
}

/* Whether one of the candidates is the token. */
static bool
check_credentials(const struct request *req, struct text whole)
{
	struct credentials *c = malloc(sizeof *c);
	bool is_right = false;
	CHECK(c);
	credentials_read(c, req);
	for (int i = 0; i < CREDENTIALS_MAX; i++) {
		struct text t = c->candidates[i];
		struct text own = {c->bytes[i], sizeof c->bytes[i]};
		CHECK(fuzz_is_inside(t, own) || fuzz_is_inside(t, whole));
		is_right = is_right || text_is(t, SECRET) || text_is(t, SIGNED);
	}
	CHECK(!text_is(req->webhook_token, SECRET) || is_right);
	free(c);
	return is_right;
}

static struct handler *
handler(void)
{
	static const char text[] = "[server]\nmax_body = 1024\n[source shop]\n"
				   "token = " SECRET "\n[source signed]\n"
				   "token = " SIGNED "\nsignature = hmac-sha256\n"
				   "signature_key = " KEY "\n";
	static struct conf conf;
	static struct handler h;
	if (!h.conf) {
		CHECK(!conf_load(&conf, fuzz_file(text, strlen(text))));
		h.conf = &conf;
	}
	return &h;
}

/* Splits what env strings stand for; the place of the body. */
static char *
split(char *at, char *end, char **env)
{
	int n = 0;
	while (at < end) {
		char *line_end = memchr(at, '\n', (size_t)(end - at));
		char *stop = line_end ? line_end : end;
		*stop = '\0'; /* there is room for it behind the end */
		if (stop == at)
			return stop + 1;
		if (n < MAX_VARIABLES)
			env[n++] = at;
		for (char *p = at; p < stop; p++)
			*p = *p == 1 ? '\n' : *p;
		at = stop + 1;
	}
	return end;
}

static void
done(struct serving *s)
{
	(void)s;
	n_done++;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *env[MAX_VARIABLES + 1] = {NULL}, *bytes = malloc(size + 1);
	struct handler *h = handler();
	struct serving s = {.h = h, .done = done};
	CHECK(bytes);
	memcpy(bytes, data, size);
	bytes[size] = '\0';
	char *end = bytes + size, *start = split(bytes, end, env);
	struct text whole = {bytes, size + 1}, body = {start, 0};
	body.len = start < end ? (size_t)(end - start) : 0;
	if (body.len > MAX_BODY + 1)
		body.len = MAX_BODY + 1; /* more is not read */

	request_init(&s.req, env, 1000, MAX_BODY);
	CHECK(!s.req.body.ptr);
	s.req.memory = fuzz_copy(body.ptr, body.len);
	if (!s.req.body_err)
		request_set_body(&s.req, (struct text){s.req.memory, body.len}, MAX_BODY);
	check_request(&s.req, whole);
	bool is_right = check_credentials(&s.req, whole);
	h->drainer = size % 2 ? NULL : (struct drainer *)h; /* not looked into */
	struct request kept = s.req; /* handle() may take its memory */
	kept.body.ptr = body.ptr;
	served = &kept;
	n_submitted = 0;
	*fuzz_log = '\0';
	n_done = 0;
	handle(&s);
	CHECK(n_done == 1);
	check_response(&s.res, &s.req);
	CHECK(n_submitted <= 1 && (n_submitted == 0 || is_right));
	CHECK(s.res.status == 401 || s.res.status == 405 || is_right ||
	      text_is(s.req.method, "GET") || text_is(s.req.method, "HEAD"));
	CHECK(
	    s.res.status != 401 || !is_right || has(s.res.body, s.res.len, "signature"));
	free(s.req.memory);
	free(bytes);
	return 0;
}
