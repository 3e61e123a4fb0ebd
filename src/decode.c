#include "decode.h"

#include "datetime.h"
#include "json_scan.h"
#include "json_text.h"
#include "status.h"

#include <ctype.h>
#include <stdlib.h>

/* Every member that a dialect has a use for. */
#define MEMBER_MAP(X)                                                                    \
	X(EVENT, "event")                                                                \
	X(MESSAGE_ID, "message_id")                                                      \
	X(PHONE, "phone")                                                                \
	X(STATUS, "status")                                                              \
	X(MESSAGE, "message")                                                            \
	X(TIMESTAMP, "timestamp")                                                        \
	X(DEVICE_ID, "device_id")                                                        \
	X(DEVICE_NAME, "device_name")                                                    \
	X(SMS_ID, "sms_id")                                                              \
	X(STATUS_ID, "status_id")                                                        \
	X(STATUS_MESSAGE, "status_message")                                              \
	X(SENDTO, "sendto")                                                              \
	X(SENTTIME, "senttime")                                                          \
	X(CHANNEL_ID, "channel_id")                                                      \
	X(SIM, "sim")                                                                    \
	X(ADDRESS, "address")                                                            \
	X(DATE, "date")                                                                  \
	X(DATE_SENT, "date_sent")                                                        \
	X(BODY, "body")                                                                  \
	X(IMG_URL, "img_url")

#define MEMBER_ENUM(id, name) M_##id,
#define MEMBER_NAME(id, name) name,
enum member { MEMBER_MAP(MEMBER_ENUM) N_MEMBERS };
static const char *const member_names[] = {MEMBER_MAP(MEMBER_NAME)};

/* A decoding under way.  Texts of the event that do not stand in its JSON are
 * written to free: no string grows by being read, and none is read twice. */
struct decoder {
	struct event *ev;
	struct text zone;
	struct text values[N_MEMBERS]; /* JSON text, absent where null or missing */
	char *free;
	struct json_text strings;
};

enum { NAME_LEN = 96 }; /* no name of ours is longer, be all of it escaped */

/* Puts a value into its column; false when it tells nothing. */
typedef bool put_fn(struct decoder *d, struct text *column, struct text value);

/* Where a member goes.  The first row of a column that is told something wins. */
struct field {
	enum member member;
	size_t column; /* offset of a struct text in struct event */
	put_fn *put;
};

static put_fn put_text, put_body, put_phone, put_status_word, put_status_id, put_time;

#define COLUMN(name) offsetof(struct event, name)

static const struct field article[] = {
    {M_MESSAGE_ID, COLUMN(message_id), put_text},
    {M_PHONE, COLUMN(phone), put_phone},
    {M_STATUS, COLUMN(status), put_status_word},
    {M_MESSAGE, COLUMN(body), put_body},
    {M_TIMESTAMP, COLUMN(zone), put_time},
    {M_DEVICE_ID, COLUMN(device_id), put_text},
};

static const struct field reference_delivery[] = {
    {M_SMS_ID, COLUMN(message_id), put_text},
    {M_SENDTO, COLUMN(phone), put_phone},
    {M_STATUS_ID, COLUMN(status), put_status_id},
    {M_STATUS_MESSAGE, COLUMN(status_text), put_text},
    {M_SENTTIME, COLUMN(zone), put_time},
    {M_DEVICE_ID, COLUMN(device_id), put_text},
    {M_CHANNEL_ID, COLUMN(channel), put_text},
    {M_SIM, COLUMN(channel), put_text},
};

static const struct field reference_incoming[] = {
    {M_SMS_ID, COLUMN(message_id), put_text},
    {M_ADDRESS, COLUMN(phone), put_phone},
    {M_BODY, COLUMN(body), put_body},
    {M_IMG_URL, COLUMN(media_url), put_text},
    {M_DATE_SENT, COLUMN(zone), put_time},
    {M_DATE, COLUMN(zone), put_time},
    {M_DEVICE_ID, COLUMN(device_id), put_text},
    {M_DEVICE_NAME, COLUMN(device_name), put_text},
    {M_CHANNEL_ID, COLUMN(channel), put_text},
    {M_SIM, COLUMN(channel), put_text},
};

struct dialect {
	const struct field *fields;
	size_t n_fields;
	const char *kind; /* NULL: the value of `event` */
};

#define DIALECT(fields, kind)                                                            \
	{                                                                                \
		fields, sizeof(fields) / sizeof *(fields), kind                          \
	}
enum { ARTICLE, DELIVERY, INCOMING };
static const struct dialect dialects[] = {
    [ARTICLE] = DIALECT(article, NULL),
    [DELIVERY] = DIALECT(reference_delivery, "delivery_status"),
    [INCOMING] = DIALECT(reference_incoming, "incoming_sms"),
};

/* ------------------------------------------------------------- values */

/* The text of a JSON value: of a string what it says, else its source, so that
 * no number is too large. */
static struct text
text_value(struct decoder *d, struct text value)
{
	struct text t =
	    *value.ptr == '"' ? json_text(&d->strings, value, d->free) : value;
	if (t.ptr == d->free)
		d->free += t.len;
	return t;
}

/* The name of a member; absent when it is too long to be one of ours. */
static struct text
name_value(struct decoder *d, struct text name, char buffer[NAME_LEN])
{
	return name.len > NAME_LEN ? (struct text){0}
				   : json_text(&d->strings, name, buffer);
}

static void
note(struct decoder *d, const char *what)
{
	if (!d->ev->note.ptr)
		d->ev->note = text_of(what);
}

static bool
put_body(struct decoder *d, struct text *column, struct text value)
{
	*column = text_value(d, value);
	return true;
}

/* Empty is absent, but for the text of a message. */
static bool
put_text(struct decoder *d, struct text *column, struct text value)
{
	struct text t = text_value(d, value);
	if (t.len > 0)
		*column = t;
	return t.len > 0;
}

/* A name of letters stays as it came; a number loses its punctuation and has
 * its 00 written +. */
static bool
put_phone(struct decoder *d, struct text *column, struct text value)
{
	char *start = d->free, *p = start;
	struct text t = text_value(d, value); /* at start, if it was escaped */
	for (size_t i = 0; i < t.len; i++) {
		unsigned char c = (unsigned char)t.ptr[i];
		if (isalpha(c) || c >= 0x80) {
			*column = t;
			return true;
		}
	}
	for (size_t i = 0; i < t.len; i++)
		if (!strchr(" .-()", t.ptr[i]))
			*p++ = t.ptr[i];
	d->free = p;
	if (p - start > 2 && start[0] == '0' && start[1] == '0')
		*++start = '+';
	if (p > start)
		*column = (struct text){start, (size_t)(p - start)};
	return p > start;
}

static bool
put_status_word(struct decoder *d, struct text *column, struct text value)
{
	struct text t = text_value(d, value);
	if (t.len == 0)
		return false;
	d->ev->status_text = t;
	*column = text_of(status_of_word(t));
	return true;
}

/* A whole number of 32 bits: 7, "7", " 7", 7.0. */
static bool
int32_value(struct text t, int32_t *out_r)
{
	char digits[32], *end;
	if (t.len == 0 || t.len >= sizeof digits)
		return false;
	memcpy(digits, t.ptr, t.len);
	digits[t.len] = '\0';
	long n = strtol(digits, &end, 10);
	bool has_digits = end > digits;
	if (*end == '.')
		end += 1 + strspn(end + 1, "0");
	end += strspn(end, " ");
	*out_r = (int32_t)n;
	return has_digits && *end == '\0' && n > EVENT_NO_INT && n <= INT32_MAX;
}

static bool
put_status_id(struct decoder *d, struct text *column, struct text value)
{
	struct text t = text_value(d, value);
	if (t.len == 0)
		return false;
	if (!int32_value(t, &d->ev->status_code)) {
		d->ev->status_code = EVENT_NO_INT;
		note(d, "status_id: not a whole number of 32 bits");
	}
	*column = text_of(status_of_id(d->ev->status_code));
	return true;
}

/* ---------------------------------------------------------- datetimes */

/* {"date": ..., "timezone": ...} as PHP prints its DateTime. */
static void
php_time(struct decoder *d, struct text object, struct text *date_r, struct text *zone_r)
{
	struct json_walk w;
	struct text name, value;
	char buffer[NAME_LEN];
	json_walk(&w, object);
	while (json_walk_next(&w, &name, &value)) {
		name = name_value(d, name, buffer);
		if (text_is(value, "null"))
			continue;
		if (text_is(name, "date"))
			put_text(d, date_r, value);
		else if (text_is(name, "timezone"))
			put_text(d, zone_r, value);
	}
}

static bool
put_time(struct decoder *d, struct text *column, struct text value)
{
	struct text date = {0}, zone = d->zone;
	struct datetime at;
	int offset;

	if (*value.ptr == '{')
		php_time(d, value, &date, &zone);
	else
		put_text(d, &date, value);
	if (!date.ptr && *value.ptr == '{')
		note(d, "occurred_at: not a datetime");
	if (!date.ptr)
		return false;
	bool is_good = datetime_parse(date, &at);
	bool is_local = is_good && !at.is_utc && zone.ptr && !text_is(zone, "UTC");
	if (!is_good) {
		note(d, "occurred_at: not a datetime");
	} else if (is_local && datetime_offset(zone, &offset)) {
		d->ev->occurred_at = at.us - offset * INT64_C(1000000);
	} else if (is_local && !datetime_is_zone(zone)) {
		note(d, "occurred_at: unknown time zone");
	} else {
		d->ev->occurred_at = at.us;
		if (is_local)
			*column = zone;
	}
	return true;
}

/* ------------------------------------------------------------ dialects */

/* Notes the last value of each member that is known. */
static bool
collect(struct decoder *d, struct text object)
{
	struct json_walk w;
	struct text name, value;
	char buffer[NAME_LEN];
	if (!json_walk(&w, object))
		return false;
	while (json_walk_next(&w, &name, &value)) {
		name = name_value(d, name, buffer);
		for (int m = 0; m < N_MEMBERS; m++)
			if (text_is(name, member_names[m]))
				d->values[m] =
				    text_is(value, "null") ? (struct text){0} : value;
	}
	return true;
}

static bool
has(const struct decoder *d, enum member m)
{
	return d->values[m].ptr && !text_is(d->values[m], "\"\"");
}

/* status_id 5 is the gateway's word for a message that came in.  Looked at before
 * texts are written. */
static bool
is_incoming_status(struct decoder *d)
{
	int32_t id;
	char *start = d->free;
	bool is = has(d, M_STATUS_ID) &&
		  int32_value(text_value(d, d->values[M_STATUS_ID]), &id) &&
		  id == STATUS_ID_INCOMING;
	d->free = start;
	return is;
}

static const struct dialect *
dialect_of(struct decoder *d)
{
	if (has(d, M_EVENT))
		return &dialects[ARTICLE];
	if (has(d, M_ADDRESS) && (!has(d, M_STATUS_ID) || is_incoming_status(d)))
		return &dialects[INCOMING];
	return has(d, M_STATUS_ID) ? &dialects[DELIVERY] : NULL;
}

static void
fill(struct decoder *d, const struct dialect *dialect)
{
	bool is_filled[sizeof(struct event) / sizeof(void *)] = {false};
	for (size_t i = 0; i < dialect->n_fields; i++) {
		const struct field *f = &dialect->fields[i];
		bool *filled = &is_filled[f->column / sizeof(void *)];
		struct text *column = (struct text *)((char *)d->ev + f->column);
		if (d->values[f->member].ptr && !*filled)
			*filled = f->put(d, column, d->values[f->member]);
	}
	if (dialect->kind)
		d->ev->kind = text_of(dialect->kind);
	else
		put_text(d, &d->ev->kind, d->values[M_EVENT]);
}

static enum err
not_event(struct event *ev, const char *what)
{
	event_reject(ev, err_status(ERR_NOT_EVENT), "%s", what);
	return ERR_NOT_EVENT;
}

static enum err
check(struct event *ev)
{
	if (text_is(ev->kind, "delivery_status")) {
		if (!ev->message_id.ptr)
			return not_event(ev, "a delivery status needs a message id "
					     "(message_id or sms_id)");
		if (!ev->status.ptr)
			return not_event(ev, "a delivery status needs a status "
					     "(status or status_id)");
	}
	if (text_is(ev->kind, "incoming_sms") && !ev->phone.ptr)
		return not_event(
		    ev, "an incoming SMS needs a phone (phone, address or sendto)");
	return ERR_OK;
}

static enum err
decode_object(struct decoder *d)
{
	struct event *ev = d->ev;
	const struct dialect *dialect = dialect_of(d);
	if (!dialect)
		return not_event(
		    ev, "none of the members event, status_id and address is there");
	fill(d, dialect);
	if (dialect == &dialects[DELIVERY] && ev->status_code == STATUS_ID_INCOMING) {
		ev->kind = TEXT("incoming_sms");
		ev->status = (struct text){0};
	}
	return check(ev);
}

/* At most so many bytes are written to free. */
static size_t
texts_len(const struct decoder *d)
{
	size_t len = 0;
	for (int m = 0; m < N_MEMBERS; m++)
		if (d->values[m].ptr &&
		    (m == M_PHONE || m == M_SENDTO || m == M_ADDRESS ||
			json_text_is_escaped(d->values[m])))
			len += d->values[m].len;
	return len;
}

/* The payload is the body without a byte order mark, or a copy of that where
 * places are to be mended. */
static enum err
read_body(struct decoder *d)
{
	struct event *ev = d->ev;
	struct json_report report;
	size_t bom =
	    ev->wire.len >= 3 && memcmp(ev->wire.ptr, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
	struct text json = {ev->wire.ptr + bom, ev->wire.len - bom};
	if (!json_judge(json.ptr, json.len, &report)) {
		event_reject(ev, err_status(ERR_NOT_JSON), "%s at byte %zu", report.fault,
		    report.at + bom);
		return ERR_NOT_JSON;
	}
	if (report.n_mended > 0) {
		ev->memory = malloc(2 * json.len); /* its texts are no longer */
		if (!ev->memory)
			return ERR_MEMORY;
		d->free = ev->memory + json.len;
		json_scan(memcpy(ev->memory, json.ptr, json.len), json.len, &report);
		json.ptr = ev->memory;
	}
	if (!collect(d, json))
		return not_event(ev, "the body is not an object");
	if (!ev->memory)
		d->free = ev->memory = malloc(texts_len(d) + 1);
	ev->payload = json;
	if (report.n_mended > 0 || bom > 0)
		ev->raw = ev->wire;
	return ev->memory ? ERR_OK : ERR_MEMORY;
}

enum err
decode(struct event *ev, struct text zone, struct text device_id)
{
	struct decoder d = {.ev = ev, .zone = zone};
	enum err e = read_body(&d);
	if (!e)
		e = decode_object(&d);
	json_text_end(&d.strings);
	if (d.strings.is_short)
		return ERR_MEMORY;
	if (!e && !ev->device_id.ptr)
		ev->device_id = device_id;
	return e;
}
