#include "handle.h"

#include "auth.h"
#include "clock.h"
#include "credentials.h"
#include "decode.h"
#include "log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

/* Header fields are kept as printable ASCII and no longer than this. */
enum { FIELD_LEN = 120 };

/* Strangers are logged of so often, whatever they do. */
enum { STRANGERS_MS = 10000 };

static const int counted_statuses[HANDLER_STATUSES] = {
    200, 400, 401, 404, 405, 413, 415, 422, 500, 503};

/* Its response is there. */
static void
finish(struct serving *s)
{
	for (int i = 0; i < HANDLER_STATUSES; i++)
		if (counted_statuses[i] == s->res.status)
			atomic_fetch_add(&s->h->requests[i], 1);
	s->done(s);
}

static void
tell_health(void *serving, struct event *none, enum err e)
{
	struct serving *s = serving;
	struct writer_stats stats;
	(void)none;
	writer_stats(s->h->writer, &stats);
	response_json(&s->res, e ? 503 : 200,
	    "{\"status\":\"%s\",\"database\":\"%s\",\"spool_files\":%" PRIu64
	    ",\"spool_bytes\":%" PRIu64 ",\"spool_bad\":%" PRIu64 "}",
	    e ? "failing" : "ok",
	    e == ERR_BUSY       ? "busy"
	    : stats.store.is_up ? "up"
				: "down",
	    stats.store.spool.n_files, stats.store.spool.bytes, stats.store.spool.n_bad);
	finish(s);
}

static void
health(struct serving *s)
{
	if (s->req.body_err) {
		response_problem(&s->res, s->req.body_err, (struct text){0});
		finish(s);
		return;
	}
	writer_submit(s->h->writer, NULL, s->req.deadline, tell_health, s);
}

static void line(struct response *res, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void
line(struct response *res, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	int n = vsnprintf(res->body + res->len, sizeof res->body - res->len, format, ap);
	va_end(ap);
	res->len += (size_t)n;
}

/* Prometheus' text format 0.0.4.  Nothing here waits for the database. */
static void
fill_metrics(struct handler *h, struct response *res)
{
	struct writer_stats s;
	struct drainer_stats d;
	if (!h->drainer) {
		response_problem(res, ERR_NO_ROUTE, TEXT("a CGI program has no metrics"));
		return;
	}
	writer_stats(h->writer, &s);
	drainer_stats(h->drainer, &d);
	const struct {
		const char *name, *type, *help;
		uint64_t value;
	} values[] = {
	    {"commits_total", "counter", "Batches handed in.", s.commits},
	    {"drained_total", "counter", "Events that went from the spool to PostgreSQL.",
		d.n_drained},
	    {"database_up", "gauge", "1 unless PostgreSQL failed the last batch.",
		d.is_up},
	    {"spool_files", "gauge", "Files that wait for PostgreSQL.", d.spool.n_files},
	    {"spool_bytes", "gauge", "What they take on the disk.", d.spool.bytes},
	    {"spool_bad_files", "gauge", "Files that could not be read: see smshook(1).",
		d.spool.n_bad},
	};
	response_json(res, 200,
	    "# HELP smshook_events_total Webhooks by what became of them.\n"
	    "# TYPE smshook_events_total counter\n"
	    "smshook_events_total{result=\"stored\"} %" PRIu64 "\n"
	    "smshook_events_total{result=\"duplicate\"} %" PRIu64 "\n"
	    "smshook_events_total{result=\"rejected\"} %" PRIu64 "\n"
	    "smshook_events_total{result=\"spooled\"} %" PRIu64 "\n"
	    "smshook_events_total{result=\"failed\"} %" PRIu64 "\n",
	    s.stored, s.duplicate, s.rejected, s.spooled, s.failed);
	res->type = "text/plain; version=0.0.4";
	for (size_t i = 0; i < sizeof values / sizeof *values; i++)
		line(res,
		    "# HELP smshook_%s %s\n# TYPE smshook_%s %s\nsmshook_%s %" PRIu64
		    "\n",
		    values[i].name, values[i].help, values[i].name, values[i].type,
		    values[i].name, values[i].value);
	if (d.notify_usage >= 0)
		line(res,
		    "# HELP smshook_notify_queue_usage How full PostgreSQL's queue of "
		    "notifications is, 0 to 1; a listener that sleeps in a transaction "
		    "fills it.\n# TYPE smshook_notify_queue_usage gauge\n"
		    "smshook_notify_queue_usage %g\n",
		    d.notify_usage);
	line(res, "# HELP smshook_requests_total Answers by HTTP status.\n"
		  "# TYPE smshook_requests_total counter\n");
	for (int i = 0; i < HANDLER_STATUSES; i++)
		line(res, "smshook_requests_total{status=\"%d\"} %llu\n",
		    counted_statuses[i], atomic_load(&h->requests[i]));
}

static void
metrics(struct serving *s)
{
	fill_metrics(s->h, &s->res);
	finish(s);
}

/* Whether the sender says that the body is something else than JSON.  Text
 * and bytes of no named type may be JSON. */
static bool
is_declared_other(const struct request *req)
{
	static const char *const json_like[] = {
	    "text/plain", "application/octet-stream", NULL};
	struct text t = req->content_type;
	if (req->content_encoding.len > 0 && !text_is(req->content_encoding, "identity"))
		return true;
	for (size_t i = 0; i < t.len; i++)
		if (strchr("; \t", t.ptr[i]))
			t.len = i;
	if (t.len == 0)
		return false;
	if (t.len >= 5 && (strncasecmp(t.ptr + t.len - 5, "/json", 5) == 0 ||
			      strncasecmp(t.ptr + t.len - 5, "+json", 5) == 0))
		return false;
	for (int i = 0; json_like[i]; i++)
		if (t.len == strlen(json_like[i]) &&
		    strncasecmp(t.ptr, json_like[i], t.len) == 0)
			return false;
	return true;
}

/* A header field as text that PostgreSQL takes: what is not printable is ?. */
static struct text
field(struct text t, char out[FIELD_LEN])
{
	if (!t.ptr)
		return t;
	size_t len = t.len < FIELD_LEN ? t.len : FIELD_LEN;
	for (size_t i = 0; i < len; i++)
		out[i] = t.ptr[i] >= 0x20 && t.ptr[i] < 0x7f ? t.ptr[i] : '?';
	return (struct text){out, len};
}

static void
answer(struct response *res, const struct event *ev, enum err e)
{
	if (e)
		response_problem(res, e, (struct text){0});
	else if (ev->is_spooled)
		response_json(res, 200, "{\"result\":\"spooled\"}");
	else if (ev->duplicate_of)
		response_json(res, 200, "{\"result\":\"duplicate\",\"id\":%" PRId64 "}",
		    ev->duplicate_of);
	else
		response_json(
		    res, 200, "{\"result\":\"stored\",\"id\":%" PRId64 "}", ev->id);
}

/* An event with all that its texts point to. */
struct received {
	struct event ev; /* first: the writer frees it */
	char content_type[FIELD_LEN], remote_addr[FIELD_LEN];
};

/* The fields of Standard Webhooks, also by the names that they had before. */
static struct signature_message
standard_message(const struct request *req)
{
	static const char *const names[][3] = {
	    {"HTTP_WEBHOOK_ID", "HTTP_WEBHOOK_TIMESTAMP", "HTTP_WEBHOOK_SIGNATURE"},
	    {"HTTP_SVIX_ID", "HTTP_SVIX_TIMESTAMP", "HTTP_SVIX_SIGNATURE"}};
	const char *const *name = names[!request_field(req, names[0][0]).ptr];
	return (struct signature_message){.id = request_field(req, name[0]),
	    .timestamp = request_field(req, name[1]),
	    .signature = request_field(req, name[2]),
	    .body = req->body};
}

/* What is wrong with the signature that the source asks for, or NULL. */
static const char *
signature_wrong(const struct request *req, const struct conf_source *s)
{
	if (!s->signature)
		return NULL;
	const struct signature_message m =
	    s->signature == SIGNATURE_STANDARD_WEBHOOKS
		? standard_message(req)
		: (struct signature_message){
		      .signature = request_field(req, s->signature_header),
		      .body = req->body};
	return signature_fault((enum signature)s->signature, s->keys, s->n_keys, &m,
	    time(NULL), s->signature_tolerance_ms / 1000);
}

/* Takes the body into an event and decodes it. */
static enum err
receive(struct request *req, const struct conf_source *source, struct event **ev_r)
{
	struct received *r = malloc(sizeof *r);
	*ev_r = r ? &r->ev : NULL;
	if (!r)
		return ERR_MEMORY;
	enum err e = event_init(&r->ev, req->body, text_of(source->name));
	r->ev.wire_memory = req->memory;
	req->memory = NULL;
	r->ev.content_type = field(req->content_type, r->content_type);
	r->ev.remote_addr = field(req->remote_addr, r->remote_addr);
	if (e)
		return e;
	const char *wrong = signature_wrong(req, source);
	if (wrong) {
		event_reject(&r->ev, err_status(ERR_SIGNATURE), "signature: %s", wrong);
		return ERR_SIGNATURE;
	}
	e = decode(&r->ev, text_of(source->timezone), text_of(source->device_id));
	if (e == ERR_NOT_JSON && is_declared_other(req)) {
		e = ERR_MEDIA_TYPE;
		r->ev.http_status = err_status(e);
	}
	return e;
}

static void
release(struct event *ev)
{
	if (ev)
		event_free(ev);
	free(ev);
}

static void
tell_rejected(void *serving, struct event *ev, enum err e)
{
	if (e)
		log_warn("that body could not be kept");
	release(ev);
	finish(serving);
}

/* Keeps a body that is no event; e is what is wrong with it. */
static void
reject(struct serving *s, struct event *ev, enum err e)
{
	response_problem(&s->res, e, ev->reason);
	log_warn("source %.*s: answered %d: %.*s", (int)ev->source.len, ev->source.ptr,
	    err_status(e), (int)ev->reason.len, ev->reason.ptr);
	writer_submit(s->h->writer, ev, s->req.deadline, tell_rejected, s);
}

static void
tell_stored(void *serving, struct event *ev, enum err e)
{
	struct serving *s = serving;
	answer(&s->res, ev, e);
	release(ev);
	finish(s);
}

static void
store(struct serving *s, const struct conf_source *source)
{
	struct event *ev;
	enum err e = receive(&s->req, source, &ev);
	if (e == ERR_NOT_JSON || e == ERR_MEDIA_TYPE || e == ERR_NOT_EVENT ||
	    e == ERR_SIGNATURE)
		reject(s, ev, e);
	else if (e)
		tell_stored(s, ev, e);
	else
		writer_submit(s->h->writer, ev, s->req.deadline, tell_stored, s);
}

unsigned long long
handle_stranger(struct handler *h, int64_t now)
{
	long long said = atomic_load(&h->strangers_said);
	atomic_fetch_add(&h->n_strangers, 1);
	if ((said && now < said + STRANGERS_MS) ||
	    !atomic_compare_exchange_strong(&h->strangers_said, &said, now))
		return 0;
	return atomic_exchange(&h->n_strangers, 0);
}

/* Refuses it.  A CGI program has no memory of the one before, and the web server
 * logs each request. */
static void
refuse(struct handler *h, const struct request *req, struct response *res)
{
	char address[FIELD_LEN];
	struct text from = field(req->remote_addr, address);
	response_problem(res, ERR_TOKEN, (struct text){0});
	unsigned long long n = h->drainer ? handle_stranger(h, clock_ms()) : 0;
	if (n > 0)
		log_warn("requests without a right token since this was said last: %llu; "
			 "now from %.*s",
		    n, (int)from.len, from.ptr);
}

static void
webhook(struct serving *s)
{
	struct credentials c;
	credentials_read(&c, &s->req);
	const struct conf_source *source =
	    auth_check(s->h->conf, c.candidates, CREDENTIALS_MAX);
	if (source && !s->req.body_err) {
		store(s, source);
		return;
	}
	if (source)
		response_problem(&s->res, s->req.body_err, (struct text){0});
	else
		refuse(s->h, &s->req, &s->res);
	finish(s);
}

/* The first route that fits counts; the last fits any address. */
static const struct route {
	const char *segment;
	const char *allow;
	void (*run)(struct serving *s);
} routes[] = {
    {"healthz", "GET, HEAD", health},
    {"metrics", "GET, HEAD", metrics},
    {NULL, "POST", webhook},
};

/* Whether method is one of the names in allow. */
static bool
is_allowed(const char *allow, struct text method)
{
	for (const char *p = allow; *p; p += strspn(p, ", ")) {
		size_t len = strcspn(p, ",");
		if (method.len == len && memcmp(method.ptr, p, len) == 0)
			return true;
		p += len;
	}
	return false;
}

void
handle(struct serving *s)
{
	const struct route *route = routes;
	struct text segment = credentials_segment(s->req.path);
	while (route->segment && !text_is(segment, route->segment))
		route++;
	if (is_allowed(route->allow, s->req.method)) {
		route->run(s);
		return;
	}
	response_problem(&s->res, ERR_METHOD, (struct text){0});
	s->res.allow = route->allow;
	finish(s);
}
