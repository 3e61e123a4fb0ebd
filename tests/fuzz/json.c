/* A body: the scanner, the decoder and a trip through the spool.  With
 * SMSHOOK_FUZZ_DSN, a database with the schema sms, PostgreSQL is the judge. */
#include "fuzz.h"

#include "clock.h"
#include "columns.h"
#include "datetime.h"
#include "db.h"
#include "decode.h"
#include "json_scan.h"
#include "spoolfile.h"

#include <json-c/json.h>
#include <stdlib.h>

static const struct text zone = {"Europe/Berlin", 13}, device = {"d1", 2};

/* ------------------------------------------------------------- PostgreSQL */

static struct db *
database(void)
{
	static struct db *db;
	const char *dsn = getenv("SMSHOOK_FUZZ_DSN");
	if (!dsn || !*dsn)
		return NULL;
	if (!db)
		CHECK(!db_open(&db, dsn));
	if (!db_is_connected(db) && db_connect(db, clock_ms() + 10000))
		fuzz_fail(__FILE__, __LINE__, db_reason(db));
	return db;
}

/* What sql says of params: 't', 'f', or 0 for an error. */
static char
ask(const char *sql, const char *const *params, int n)
{
	struct rows rows;
	char answer = 0;
	struct db *db = database();
	if (!db_select(db, sql, params, n, clock_ms() + 10000, &rows))
		answer = *rows_text(&rows, 0, 0).ptr;
	else
		CHECK(db_is_connected(db));
	rows_free(&rows);
	return answer;
}

static char *
terminated(struct text t)
{
	char *s = malloc(t.len + 1);
	CHECK(s);
	memcpy(s, t.ptr, t.len);
	s[t.len] = '\0';
	return s;
}

/* Whether jsonb, or json, takes t; never with a NUL, which text cannot hold. */
static bool
is_taken_as(const char *type, struct text t)
{
	char *s = terminated(t);
	const char *params[] = {s};
	bool is_jsonb = strcmp(type, "jsonb") == 0;
	bool ok = strlen(s) == t.len && ask(is_jsonb ? "select $1::jsonb is not null"
						     : "select $1::json is not null",
					    params, 1) == 't';
	free(s);
	return ok;
}

/* ---------------------------------------------------------------- scanner */

/* Lenient json-c takes a superset of JSON in every version. */
static void
check_by_json_c(struct text json)
{
	char *s = terminated(json); /* it wants the NUL behind a number */
	struct json_tokener *tokener = json_tokener_new_ex(2 * JSON_DEPTH);
	CHECK(tokener);
	struct json_object *value = json_tokener_parse_ex(tokener, s, (int)json.len + 1);
	CHECK(json_tokener_get_error(tokener) == json_tokener_success);
	json_object_put(value);
	json_tokener_free(tokener);
	free(s);
}

/* So many that what was mended may be one digit too much for all (JSON_DIGITS). */
static bool
has_many_exponents(struct text t)
{
	size_t n = 0;
	for (size_t i = 0; i < t.len; i++)
		n += t.ptr[i] == 'e' || t.ptr[i] == 'E';
	return n > 7;
}

static void
check_scan(struct text body)
{
	struct json_report r, again;
	char *json = fuzz_copy(body.ptr, body.len), *mended;
	bool is_json = json_scan(json, body.len, &r);
	CHECK(json_judge(body.ptr, body.len, &again) == is_json);
	CHECK(again.fault == r.fault && again.at == r.at && again.n_mended == r.n_mended);
	bool is_same = body.len == 0 || memcmp(json, body.ptr, body.len) == 0;
	if (is_json) {
		mended = fuzz_copy(json, body.len);
		CHECK(!r.fault);
		CHECK(is_same == (r.n_mended == 0));
		CHECK(json_scan(mended, body.len, &again) && again.n_mended == 0);
		CHECK(memcmp(mended, json, body.len) == 0);
		CHECK(fuzz_is_utf8((struct text){json, body.len}));
		check_by_json_c((struct text){json, body.len});
		free(mended);
	} else {
		CHECK(r.fault && !strpbrk(r.fault, "\"\\") && r.at <= body.len);
	}
	if (database() && is_json) {
		CHECK(is_taken_as("jsonb", (struct text){json, body.len}));
		CHECK(r.n_mended == 0 || has_many_exponents(body) ||
		      !is_taken_as("jsonb", body));
	} else if (database() && !strstr(r.fault, "levels deep")) {
		CHECK(!is_taken_as("json", body));
	}
	free(json);
}

/* ---------------------------------------------------------------- decoder */

static void
check_event(const struct event *ev, struct text body)
{
	const struct text texts[] = {ev->kind, ev->message_id, ev->phone, ev->device_id,
	    ev->device_name, ev->channel, ev->status, ev->status_text, ev->body,
	    ev->media_url, ev->note, ev->zone, ev->payload, ev->reason};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		CHECK(fuzz_is_utf8(texts[i]));
	CHECK(!ev->zone.ptr || datetime_is_zone(ev->zone));
	CHECK(ev->raw.ptr == NULL || ev->raw.ptr == body.ptr);
	if (ev->http_status != EVENT_NO_INT) {
		CHECK(ev->http_status == 400 || ev->http_status == 422);
		CHECK(ev->reason.len > 0 && !ev->kind.ptr && !ev->payload.ptr);
		return;
	}
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		CHECK(texts[i].len > 0 || !texts[i].ptr || texts[i].ptr == ev->body.ptr);
	CHECK(ev->kind.len > 0);
	if (text_is(ev->kind, "delivery_status"))
		CHECK(ev->message_id.len > 0 && ev->status.len > 0);
	if (text_is(ev->kind, "incoming_sms"))
		CHECK(ev->phone.len > 0);
	CHECK(ev->raw.ptr || (ev->payload.len == body.len &&
				 memcmp(ev->payload.ptr, body.ptr, body.len) == 0));
}

/* All that would go to sms.ingest is the same. */
static void
check_same(struct event *a, struct event *b)
{
	struct columns left = {0}, right = {0};
	CHECK(columns_fill(&left, &a, 1) && columns_fill(&right, &b, 1));
	for (int i = 0; i < N_COLUMNS; i++) {
		const struct column_buffer *x = &left.buffers[i], *y = &right.buffers[i];
		CHECK(x->len == y->len && memcmp(x->bytes, y->bytes, x->len) == 0);
	}
	columns_free(&left);
	columns_free(&right);
}

/* Into a file of the spool and back: what drain.c does. */
static void
check_trip(struct event *ev, enum err verdict)
{
	struct text bytes;
	struct spoolfile f;
	CHECK(!spoolfile_encode(&ev, 1, &bytes));
	char *copy = fuzz_copy(bytes.ptr, bytes.len);
	CHECK(!spoolfile_decode(&f, copy, bytes.len) && f.n == 1);
	struct event *back = f.events;
	if (back->http_status == EVENT_NO_INT)
		CHECK(decode(back, zone, device) == verdict);
	check_same(ev, back);
	spoolfile_free(&f);
	free((char *)bytes.ptr);
}

/* The text that PostgreSQL reads in the body is the one that was decoded, and the
 * whole event can be stored. */
static void
check_by_database(struct event *ev)
{
	static const char sql[] =
	    "select coalesce($2 is not distinct from case jsonb_typeof(v) "
	    "when 'string' then v #>> '{}' else $2 end, true) from (select j -> case "
	    "when coalesce(j ->> 'event', '') = '' then 'body' else 'message' end "
	    "from (select $1::jsonb) as t(j)) as t(v)";
	char *payload = terminated(ev->payload);
	char *text = ev->body.ptr ? terminated(ev->body) : NULL;
	const char *params[] = {payload, text};
	CHECK(ask(sql, params, 2) == 't' || !ev->body.ptr);
	if (db_ingest(database(), &ev, 1, true, clock_ms() + 10000))
		fuzz_fail(__FILE__, __LINE__, db_reason(database()));
	free(payload);
	free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct event ev;
	char *copy = fuzz_copy(data, size);
	struct text body = {copy, size};
	check_scan(body);
	CHECK(!event_init(&ev, body, TEXT("shop")));
	ev.content_type = TEXT("application/json");
	enum err e = decode(&ev, zone, device);
	CHECK(!e || e == ERR_NOT_JSON || e == ERR_NOT_EVENT);
	CHECK(!e == (ev.http_status == EVENT_NO_INT));
	check_event(&ev, body);
	check_trip(&ev, e);
	if (database() && !e)
		check_by_database(&ev);
	event_free(&ev);
	free(copy);
	return 0;
}
