#include "decode.h"

#include "datetime.h"
#include "json_scan.h"
#include "status.h"

#include <ctype.h>
#include <json-c/json.h>
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

/* A decoding under way.  Texts of the event are written to free: no string
 * grows by being read, a name is read once and a value at most twice. */
struct decoder {
	struct event *ev;
	struct text zone;
	struct text values[N_MEMBERS]; /* JSON text, absent where null or missing */
	char *free, *end;
	struct json_tokener *tokener; /* made when the first escape is met */
};

enum { MEMORY_FACTOR = 3 }; /* the body once, its texts twice */

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

static bool
is_escaped(struct text t)
{
	return memchr(t.ptr, '\\', t.len) != NULL;
}

static struct text
keep(struct decoder *d, const char *bytes, size_t len)
{
	struct text t = {d->free, len};
	if (len > (size_t)(d->end - d->free))
		return (struct text){0}; /* cannot be: see struct decoder */
	memcpy(d->free, bytes, len);
	d->free += len;
	return t;
}

/* The text of a JSON value: of a string what it says, else its source, so that
 * no number is too large. */
static struct text
text_value(struct decoder *d, struct text value)
{
	if (*value.ptr != '"')
		return value;
	if (!is_escaped(value))
		return (struct text){value.ptr + 1, value.len - 2};
	if (!d->tokener)
		d->tokener = json_tokener_new();
	if (!d->tokener)
		return value; /* out of memory: the source says it too */
	json_tokener_reset(d->tokener);
	struct json_object *string =
	    json_tokener_parse_ex(d->tokener, value.ptr, (int)value.len);
	if (!string)
		return value;
	struct text t = keep(d, json_object_get_string(string),
	    (size_t)json_object_get_string_len(string));
	json_object_put(string);
	return t;
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
	struct text t = text_value(d, value);
	struct text copy = keep(d, t.ptr, t.len);
	char *start = (char *)copy.ptr, *p = start;
	for (size_t i = 0; i < copy.len; i++) {
		unsigned char c = (unsigned char)t.ptr[i];
		if (isalpha(c) || c >= 0x80) {
			*column = t;
			return true;
		}
		if (!strchr(" .-()", c))
			*p++ = (char)c;
	}
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
	json_walk(&w, object);
	while (json_walk_next(&w, &name, &value)) {
		name = text_value(d, name);
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
	if (!json_walk(&w, object))
		return false;
	while (json_walk_next(&w, &name, &value)) {
		name = text_value(d, name);
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

/* status_id 5 is the gateway's word for a message that came in. */
static bool
is_incoming_status(struct decoder *d)
{
	int32_t id;
	return has(d, M_STATUS_ID) &&
	       int32_value(text_value(d, d->values[M_STATUS_ID]), &id) &&
	       id == STATUS_ID_INCOMING;
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
	if (!collect(d, ev->payload))
		return not_event(ev, "the body is not an object");
	const struct dialect *dialect = dialect_of(d);
	if (!dialect)
		return not_event(
		    ev, "none of the members event, status_id and address is there");
	fill(d, dialect);
	if (dialect == &dialects[DELIVERY] && is_incoming_status(d)) {
		ev->kind = TEXT("incoming_sms");
		ev->status = (struct text){0};
	}
	return check(ev);
}

/* Copies the body to memory of the event, without a byte order mark, and has
 * it judged and mended there.  The rest of memory is for texts. */
static enum err
scan(struct event *ev)
{
	struct json_report report;
	size_t bom =
	    ev->wire.len >= 3 && memcmp(ev->wire.ptr, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
	size_t len = ev->wire.len - bom;
	ev->memory = malloc(MEMORY_FACTOR * len + 1);
	if (!ev->memory)
		return ERR_MEMORY;
	memcpy(ev->memory, ev->wire.ptr + bom, len);
	if (!json_scan(ev->memory, len, &report)) {
		event_reject(ev, err_status(ERR_NOT_JSON), "%s at byte %zu", report.fault,
		    report.at + bom);
		return ERR_NOT_JSON;
	}
	ev->payload = (struct text){ev->memory, len};
	if (report.n_mended > 0 || bom > 0)
		ev->raw = ev->wire;
	return ERR_OK;
}

enum err
decode(struct event *ev, struct text zone, struct text device_id)
{
	enum err e = scan(ev);
	if (e)
		return e;
	struct decoder d = {.ev = ev, .zone = zone};
	d.free = ev->memory + ev->payload.len;
	d.end = ev->memory + MEMORY_FACTOR * ev->payload.len;
	e = decode_object(&d);
	if (d.tokener)
		json_tokener_free(d.tokener);
	if (!e && !ev->device_id.ptr)
		ev->device_id = device_id;
	return e;
}
