#include "payload.h"

#include "status.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

/* ------------------------------------------------------------------ JSON */

static void put(struct payload *out, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void
put(struct payload *out, const char *format, ...)
{
	size_t room = sizeof out->bytes - out->len;
	va_list ap;
	va_start(ap, format);
	int len = vsnprintf(out->bytes + out->len, room, format, ap);
	va_end(ap);
	if (len > 0)
		out->len += (size_t)len < room ? (size_t)len : room - 1;
}

/* The code point at *s, which is good UTF-8, and moves *s behind it. */
static uint32_t
code_point(const char **s)
{
	unsigned char first = (unsigned char)*(*s)++;
	int more = first < 0x80 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
	uint32_t c = more == 0 ? first : first & (0x3fU >> more);
	for (; more > 0; more--)
		c = c << 6 | ((unsigned char)*(*s)++ & 0x3f);
	return c;
}

/* Text between quotes, by RFC 8259, section 7. */
static void
put_string(struct payload *out, const char *s)
{
	put(out, "\"");
	while (*s) {
		const char *start = s;
		uint32_t c = code_point(&s);
		if (c == '"' || c == '\\' || (c == '/' && out->is_php))
			put(out, "\\%c", (int)c);
		else if (c == '\n' || c == '\t')
			put(out, "\\%c", c == '\n' ? 'n' : 't');
		else if (c >= 0x10000 && out->is_php)
			put(out, "\\u%04" PRIx32 "\\u%04" PRIx32,
			    0xd800 + ((c - 0x10000) >> 10),
			    0xdc00 + ((c - 0x10000) & 0x3ff));
		else if (c < 0x20 || (c >= 0x80 && out->is_php))
			put(out, "\\u%04" PRIx32, c);
		else
			put(out, "%.*s", (int)(s - start), start);
	}
	put(out, "\"");
}

static void
name(struct payload *out, const char *member)
{
	put(out, out->len > 1 ? ",\"%s\":" : "\"%s\":", member);
}

static void
string(struct payload *out, const char *member, const char *value)
{
	name(out, member);
	put_string(out, value);
}

static void
number(struct payload *out, const char *member, int64_t value)
{
	name(out, member);
	put(out, "%" PRId64, value);
}

static void
null(struct payload *out, const char *member)
{
	name(out, member);
	put(out, "null");
}

/* ------------------------------------------------------------- datetimes */

static const int64_t SECOND = 1000000;

/* Date and time of day of UTC, with separator between them and with or without
 * a fraction. */
static void
wall_clock(char *buf, size_t size, int64_t at, char separator, bool has_fraction)
{
	time_t seconds = (time_t)(at / SECOND);
	struct tm tm;
	char date[32] = "", hours[16] = "", fraction[16] = "";
	gmtime_r(&seconds, &tm);
	strftime(date, sizeof date, "%Y-%m-%d", &tm);
	strftime(hours, sizeof hours, "%H:%M:%S", &tm);
	if (has_fraction)
		snprintf(fraction, sizeof fraction, ".%06d", (int)(at % SECOND));
	snprintf(buf, size, "%s%c%s%s", date, separator, hours, fraction);
}

/* offset: "Z" or like "+02:00", of the seconds given. */
static void
put_rfc3339(struct payload *out, int64_t at, const char *offset, int seconds)
{
	char buf[80], whole[96];
	wall_clock(buf, sizeof buf, at + seconds * SECOND, 'T', at % SECOND != 0);
	snprintf(whole, sizeof whole, "%s%s", buf, offset);
	put_string(out, whole);
}

/* As PHP's json_encode() prints a DateTime. */
static void
put_php(struct payload *out, int64_t at, int type, const char *zone, int seconds)
{
	char buf[80];
	wall_clock(buf, sizeof buf, at + seconds * SECOND, ' ', true);
	put(out, "{\"date\":\"%s\",\"timezone_type\":%d,\"timezone\":", buf, type);
	put_string(out, zone);
	put(out, "}");
}

/* Zones without daylight saving time, so that their offset is always the same. */
static void
datetime(struct payload *out, const char *member, enum payload_time form, int64_t at)
{
	char buf[80];
	name(out, member);
	switch (form) {
	case PAYLOAD_SECONDS:
	case PAYLOAD_FRACTION:
		wall_clock(buf, sizeof buf, at, ' ', form == PAYLOAD_FRACTION);
		put_string(out, buf);
		break;
	case PAYLOAD_UNIX:
		put(out, "%" PRId64, at / SECOND);
		break;
	case PAYLOAD_UNIX_MS:
		put(out, "%" PRId64, at / 1000);
		break;
	case PAYLOAD_OFFSET:
		put_rfc3339(out, at, "+02:00", 7200);
		break;
	case PAYLOAD_PHP_OFFSET:
		put_php(out, at, 1, "+02:00", 7200);
		break;
	case PAYLOAD_PHP_ZONE:
		put_php(out, at, 3, "Asia/Kolkata", 19800);
		break;
	case PAYLOAD_RFC3339:
	case PAYLOAD_N_TIMES:
		put_rfc3339(out, at, "Z", 0);
		break;
	}
}

/* -------------------------------------------------------------- dialects */

static const struct {
	const char *article;
	int id;
	const char *name;
} devices[] = {
    {"device_k3f9", 10452, "Front desk"},
    {"device_xyz", 10877, "Büro \"Nord\""},
    {"device_7b2a", 11903, "Склад № 2"},
};

enum { N_DEVICES = sizeof devices / sizeof *devices };

static const struct {
	int id;
	const char *message;
} status_messages[] = {
    {1, "New"},
    {3, "In the queue"},
    {2, "Taken by the device"},
    {6, "Sent"},
    {7, "Delivered"},
    {8, "Not sent"},
    {9, "Not delivered"},
    {10, "Refused by the operator"},
    {11, "The number does not exist"},
    {12, "Expired"},
    {100, "The device is offline"},
    {101, "No credit on the SIM"},
};

static const char *
status_message(int id)
{
	for (size_t i = 0; i < sizeof status_messages / sizeof *status_messages; i++)
		if (status_messages[i].id == id)
			return status_messages[i].message;
	return "Unknown";
}

/* Its ids are strings without an order: the bits of the number, well stirred. */
static void
article_delivery(struct payload *out, const struct payload_event *ev)
{
	char id[32];
	const char *word =
	    ev->status == PAYLOAD_UNKNOWN_STATUS ? "accepted" : status_of_id(ev->status);
	snprintf(id, sizeof id, "%011" PRIx64,
	    ((uint64_t)ev->id * UINT64_C(0x9e3779b97f4a7c15)) >> 20);
	string(out, "event", "delivery_status");
	string(out, "message_id", id);
	string(out, "phone", ev->phone);
	string(out, "status", word);
	datetime(out, "timestamp", PAYLOAD_RFC3339, ev->at);
	string(out, "device_id", devices[ev->device % N_DEVICES].article);
}

static void
article_incoming(struct payload *out, const struct payload_event *ev)
{
	string(out, "event", "incoming_sms");
	string(out, "phone", ev->phone);
	string(out, "message", ev->text);
	datetime(out, "timestamp", PAYLOAD_RFC3339, ev->at);
	string(out, "device_id", devices[ev->device % N_DEVICES].article);
}

static void
sms_id(struct payload *out, const struct payload_event *ev)
{
	name(out, "sms_id");
	put(out, ev->is_sparse ? "\"%" PRId64 "\"" : "%" PRId64, ev->id);
}

static void
reference_delivery(struct payload *out, const struct payload_event *ev)
{
	sms_id(out, ev);
	number(out, "status_id", ev->status);
	if (ev->is_sparse)
		null(out, "status_message");
	else
		string(out, "status_message", status_message(ev->status));
	string(out, "sendto", ev->phone);
	datetime(out, "senttime", ev->time, ev->at);
	number(out, ev->dialect == PAYLOAD_SIM ? "sim" : "channel_id", ev->channel);
	number(out, "device_id", devices[ev->device % N_DEVICES].id);
}

static void
address(struct payload *out, const struct payload_event *ev)
{
	if (ev->dialect != PAYLOAD_OLD_NUMBER) {
		string(out, "address", ev->phone);
		return;
	}
	name(out, "address");
	for (const char *p = ev->phone + strspn(ev->phone, "+0"); *p; p++)
		if (*p >= '0' && *p <= '9')
			put(out, "%c", *p);
}

static void
reference_incoming(struct payload *out, const struct payload_event *ev)
{
	bool is_image = ev->dialect == PAYLOAD_IMAGE;
	bool is_old = ev->dialect == PAYLOAD_OLD || ev->dialect == PAYLOAD_OLD_NUMBER;
	bool has_device = !(is_image && ev->is_sparse);
	char url[96];

	address(out, ev);
	datetime(out, "date", ev->time, ev->at + ev->delay * SECOND);
	if (is_old && ev->is_sparse)
		null(out, "date_sent");
	else
		datetime(out, "date_sent", ev->time, ev->at);
	string(out, "body", is_image ? "" : ev->text);
	if (ev->is_sparse)
		null(out, "internal_id");
	else
		number(out, "internal_id", ev->id % 9973);
	if (has_device)
		number(out, is_old ? "sim" : "channel_id", ev->channel);
	sms_id(out, ev);
	if (has_device) {
		number(out, "device_id", devices[ev->device % N_DEVICES].id);
		string(out, "device_name", devices[ev->device % N_DEVICES].name);
	}
	if (!is_old)
		string(out, "type", is_image ? "img" : "text");
	snprintf(
	    url, sizeof url, "https://smsgateway24.example/img/%" PRId64 ".jpg", ev->id);
	if (is_image)
		string(out, "img_url", url);
}

void
payload_write(struct payload *out, const struct payload_event *ev)
{
	static void (*const dialects[])(
	    struct payload *, const struct payload_event *) = {
	    [PAYLOAD_ARTICLE_DELIVERY] = article_delivery,
	    [PAYLOAD_CHANNEL] = reference_delivery,
	    [PAYLOAD_SIM] = reference_delivery,
	    [PAYLOAD_ARTICLE_INCOMING] = article_incoming,
	    [PAYLOAD_TEXT] = reference_incoming,
	    [PAYLOAD_IMAGE] = reference_incoming,
	    [PAYLOAD_OLD] = reference_incoming,
	    [PAYLOAD_OLD_NUMBER] = reference_incoming,
	};
	out->len = 0;
	out->is_php = ev->is_php;
	put(out, "{");
	dialects[ev->dialect](out, ev);
	put(out, "}");
}
