#include "corpus.h"
#include "unit.h"

#include "decode.h"
#include "json_scan.h"

static struct event ev;

static enum err
decode_bytes(struct text body, struct text zone, struct text device)
{
	event_free(&ev);
	assert_int_equal(event_init(&ev, body, TEXT("shop")), ERR_OK);
	return decode(&ev, zone, device);
}

static enum err
decode_as(const char *json, struct text zone, struct text device)
{
	return decode_bytes(text_of(json), zone, device);
}

static enum err
decode_plain(const char *json)
{
	return decode_as(json, (struct text){0}, (struct text){0});
}

static int
forget(void **state)
{
	(void)state;
	event_free(&ev);
	return 0;
}

static void
article(void **state)
{
	(void)state;
	assert_int_equal(
	    decode_plain("{\"event\":\"delivery_status\",\"message_id\":\"abc123\","
			 "\"phone\":\"+1234567890\",\"status\":\"delivered\","
			 "\"timestamp\":\"2026-01-15T10:30:00Z\","
			 "\"device_id\":\"device_xyz\"}"),
	    ERR_OK);
	assert_text(ev.kind, "delivery_status");
	assert_text(ev.message_id, "abc123");
	assert_text(ev.phone, "+1234567890");
	assert_text(ev.status, "delivered");
	assert_text(ev.status_text, "delivered");
	assert_text(ev.device_id, "device_xyz");
	assert_text(ev.zone, NULL);
	assert_text(ev.note, NULL);
	assert_text(ev.raw, NULL);
	assert_int_equal(ev.occurred_at, 1768473000000000);
	assert_int_equal(ev.status_code, EVENT_NO_INT);
	assert_int_equal(ev.http_status, EVENT_NO_INT);
}

static void
reference_delivery(void **state)
{
	(void)state;
	assert_int_equal(
	    decode_plain(
		"{\"sms_id\":77,\"status_id\":\"8\",\"status_message\":\"No credit\","
		"\"sendto\":\"0049 (170) 123-45.67\",\"senttime\":\"2026-01-15 "
		"10:30:00\",\"sim\":1,\"device_id\":5}"),
	    ERR_OK);
	assert_text(ev.kind, "delivery_status");
	assert_text(ev.message_id, "77");
	assert_text(ev.phone, "+491701234567");
	assert_text(ev.status, "failed");
	assert_int_equal(ev.status_code, 8);
	assert_text(ev.status_text, "No credit");
	assert_text(ev.channel, "1");
	assert_text(ev.device_id, "5");
}

static void
reference_incoming(void **state)
{
	(void)state;
	assert_int_equal(
	    decode_plain(
		"{\"address\":49170,\"date\":\"2026-01-15 10:30:00\",\"date_sent\":null,"
		"\"body\":\"\",\"internal_id\":null,\"channel_id\":9,\"sim\":1,"
		"\"sms_id\":4,\"device_name\":\"Till\",\"type\":\"img\","
		"\"img_url\":\"https:\\/\\/x\\/y.jpg\"}"),
	    ERR_OK);
	assert_text(ev.kind, "incoming_sms");
	assert_text(ev.phone, "49170");
	assert_text(ev.body, "");
	assert_text(ev.message_id, "4");
	assert_text(ev.channel, "9");
	assert_text(ev.device_name, "Till");
	assert_text(ev.media_url, "https://x/y.jpg");
	assert_text(ev.status, NULL);
	assert_int_equal(ev.occurred_at, 1768473000000000);
}

static void
statuses(void **state)
{
	static const struct {
		int id;
		const char *status;
	} cases[] = {{1, "queued"}, {2, "queued"}, {3, "queued"}, {6, "sent"},
	    {7, "delivered"}, {8, "failed"}, {9, "failed"}, {10, "failed"},
	    {11, "failed"}, {12, "failed"}, {100, "failed"}, {101, "failed"},
	    {4, "unknown"}, {0, "unknown"}, {-1, "unknown"}, {99, "unknown"},
	    {2147483647, "unknown"}};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char json[100];
		snprintf(
		    json, sizeof json, "{\"sms_id\":1,\"status_id\":%d}", cases[i].id);
		assert_int_equal(decode_plain(json), ERR_OK);
		assert_text(ev.status, cases[i].status);
		assert_int_equal(ev.status_code, cases[i].id);
	}
	assert_int_equal(decode_plain("{\"sms_id\":1,\"status_id\":2147483648}"), ERR_OK);
	assert_text(ev.status, "unknown");
	assert_int_equal(ev.status_code, EVENT_NO_INT);
	assert_non_null(ev.note.ptr);
	static const char *const sevens[] = {
	    "7", "\"7\"", "7.0", "\" 7 \"", "\"07\"", "7.000"};
	for (size_t i = 0; i < sizeof sevens / sizeof *sevens; i++) {
		char json[100];
		snprintf(json, sizeof json, "{\"sms_id\":1,\"status_id\":%s}", sevens[i]);
		assert_int_equal(decode_plain(json), ERR_OK);
		assert_text(ev.status, "delivered");
		assert_int_equal(ev.status_code, 7);
	}
	static const char *const none[] = {
	    "7.5", "\"seven\"", "\"\\n\"", "7e0", "[7]", "\".0\""};
	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		char json[100];
		snprintf(json, sizeof json, "{\"sms_id\":1,\"status_id\":%s}", none[i]);
		assert_int_equal(decode_plain(json), ERR_OK);
		assert_text(ev.status, "unknown");
		assert_int_equal(ev.status_code, EVENT_NO_INT);
	}
	assert_int_equal(decode_plain("{\"event\":\"delivery_status\",\"message_id\":1,"
				      "\"status\":\"Delivered\"}"),
	    ERR_OK);
	assert_text(ev.status, "delivered");
	assert_text(ev.status_text, "Delivered");
	assert_int_equal(decode_plain("{\"event\":\"delivery_status\",\"message_id\":1,"
				      "\"status\":\"bounced\"}"),
	    ERR_OK);
	assert_text(ev.status, "unknown");
	assert_text(ev.status_text, "bounced");
}

/* status_id 5 says that the message came in, in either shape. */
static void
incoming_status(void **state)
{
	(void)state;
	assert_int_equal(
	    decode_plain("{\"sms_id\":1,\"status_id\":5,\"sendto\":\"+1\"}"), ERR_OK);
	assert_text(ev.kind, "incoming_sms");
	assert_text(ev.phone, "+1");
	assert_text(ev.status, NULL);
	assert_int_equal(
	    decode_plain("{\"status_id\":\"5\",\"address\":\"+2\",\"body\":\"x\"}"),
	    ERR_OK);
	assert_text(ev.kind, "incoming_sms");
	assert_text(ev.phone, "+2");
	assert_text(ev.body, "x");
	assert_int_equal(decode_plain("{\"sms_id\":1,\"status_id\":5}"), ERR_NOT_EVENT);
}

static void
needs(void **state)
{
	static const char *const bad[] = {"[]", "1", "\"x\"", "null", "{}",
	    "{\"event\":null}", "{\"event\":\"\"}",
	    "{\"event\":\"delivery_status\",\"status\":\"sent\"}",
	    "{\"event\":\"delivery_status\",\"message_id\":\"1\"}",
	    "{\"event\":\"delivery_status\",\"message_id\":\"\",\"status\":\"sent\"}",
	    "{\"event\":\"incoming_sms\",\"message\":\"x\"}",
	    "{\"event\":\"incoming_sms\",\"phone\":\" - \"}", "{\"status_id\":7}",
	    "{\"address\":null}", "{\"address\":\"\"}"};
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		if (decode_plain(bad[i]) != ERR_NOT_EVENT)
			fail_msg("%s", bad[i]);
		assert_int_equal(ev.http_status, 422);
		assert_text(ev.raw, bad[i]);
		assert_non_null(ev.reason.ptr);
	}
	assert_int_equal(decode_plain("{\"event\":"), ERR_NOT_JSON);
	assert_int_equal(ev.http_status, 400);
	assert_int_equal(decode_plain("{\"event\":\"party\",\"message\":\"x\"}"), ERR_OK);
	assert_text(ev.kind, "party");
}

/* The last of duplicate names wins, escaped names are the names they say, and
 * a NUL in a name does not make it another. */
static void
names(void **state)
{
	(void)state;
	assert_int_equal(decode_plain("{\"event\":\"a\",\"\\u0065vent\":\"b\","
				      "\"phone\\u0000\":\"+9\"}"),
	    ERR_OK);
	assert_text(ev.kind, "b");
	assert_text(ev.phone, NULL);
	assert_non_null(ev.raw.ptr);
}

static void
values(void **state)
{
	(void)state;
	assert_int_equal(
	    decode_plain(
		"{\"event\":\"x\",\"message_id\":123456789012345678901234567890,"
		"\"message\":[1,{\"a\":null}],\"device_id\":true,\"phone\":1e400}"),
	    ERR_OK);
	assert_text(ev.message_id, "123456789012345678901234567890");
	assert_text(ev.body, "[1,{\"a\":null}]");
	assert_text(ev.device_id, "true");
	assert_text(ev.phone, "1e400");
	assert_int_equal(
	    decode_plain(
		"{\"event\":\"x\",\"message\":\"\\ud83d\\ude00\\u0000\\ud800\\n\"}"),
	    ERR_OK);
	assert_text(ev.body, "\xf0\x9f\x98\x80\xef\xbf\xbd\xef\xbf\xbd\n");
}

static void
phones(void **state)
{
	static const char *const cases[][2] = {{"+49 170/1", "+49170/1"},
	    {"0049170", "+49170"}, {"00", "00"}, {"Vodafone", "Vodafone"},
	    {"Dr. Smith-Co", "Dr. Smith-Co"},
	    {"(0170) 12-34.5", "01701234"
			       "5"},
	    {"*100#", "*100#"},
	    {"\\u00dcber", "\xc3\x9c"
			   "ber"},
	    {"\\u002b1", "+1"}};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char json[200];
		snprintf(json, sizeof json,
		    "{\"event\":\"incoming_sms\",\"phone\":\"%s\"}", cases[i][0]);
		assert_int_equal(decode_plain(json), ERR_OK);
		assert_text(ev.phone, cases[i][1]);
	}
}

static void
times(void **state)
{
	static const struct {
		const char *value, *zone;
		int64_t seconds; /* 0: unreadable */
	} cases[] = {
	    {"\"2026-01-15T10:30:00Z\"", NULL, 1768473000},
	    {"\"2026-01-15 10:30:00\"", "America/New_York", 1768473000},
	    {"1768473000", NULL, 1768473000},
	    {"\"1768473000123\"", NULL, 1768473000},
	    {"{\"date\":\"2026-01-15 12:30:00.000000\",\"timezone_type\":1,"
	     "\"timezone\":\"+02:00\"}",
		NULL, 1768473000},
	    {"{\"date\":\"2026-01-15 10:30:00.000000\",\"timezone_type\":3,"
	     "\"timezone\":\"Europe/Berlin\"}",
		"Europe/Berlin", 1768473000},
	    {"{\"date\":\"2026-01-15 10:30:00\",\"timezone\":\"UTC\"}", NULL, 1768473000},
	    {"{\"date\":\"2026-01-15 10:30:00\"}", "America/New_York", 1768473000},
	    {"{\"date\":\"2026-01-15 10:30:00\",\"timezone\":\"no; zone\"}", NULL, 0},
	    {"{\"date\":\"2026-01-15 10:30:00\",\"timezone\":null}", "America/New_York",
		1768473000},
	    {"{\"date\":\"2026-01-15 10:30:00\",\"timezone\":\"\"}", "America/New_York",
		1768473000},
	    {"{\"date\":\"2026-01-15 10:30:00\",\"timezone\":\"Etc/GMT-2\"}", "Etc/GMT-2",
		1768473000},
	    {"{\"date\":\"2026-01-15 10:30:00\",\"timezone\":\"UTC+3\"}", NULL, 0},
	    {"{\"date\":null}", NULL, 0},
	    {"{}", NULL, 0},
	    {"\"soon\"", NULL, 0},
	    {"[1]", NULL, 0},
	    {"1e400", NULL, 0},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char json[300];
		snprintf(json, sizeof json, "{\"event\":\"x\",\"timestamp\":%s}",
		    cases[i].value);
		assert_int_equal(
		    decode_as(json, TEXT("America/New_York"), (struct text){0}), ERR_OK);
		if (cases[i].seconds == 0) {
			assert_int_equal(ev.occurred_at, EVENT_NO_TIME);
			assert_non_null(ev.note.ptr);
			continue;
		}
		assert_int_equal(ev.occurred_at / 1000000, cases[i].seconds);
		assert_text(ev.zone, cases[i].zone);
	}
}

/* The first of several members that tells something is taken. */
static void
first_that_tells(void **state)
{
	(void)state;
	assert_int_equal(
	    decode_plain("{\"address\":\"+1\",\"date_sent\":{\"date\":null},"
			 "\"date\":\"2026-01-15T10:30:00Z\",\"channel_id\":\"\","
			 "\"sim\":1}"),
	    ERR_OK);
	assert_int_equal(ev.occurred_at, 1768473000000000);
	assert_text(ev.channel, "1");
}

static void
defaults(void **state)
{
	(void)state;
	assert_int_equal(
	    decode_as("{\"event\":\"x\"}", (struct text){0}, TEXT("d9")), ERR_OK);
	assert_text(ev.device_id, "d9");
	assert_int_equal(
	    decode_as("{\"event\":\"x\",\"device_id\":3}", (struct text){0}, TEXT("d9")),
	    ERR_OK);
	assert_text(ev.device_id, "3");
}

static void
byte_order_mark(void **state)
{
	(void)state;
	assert_int_equal(decode_plain("\xef\xbb\xbf{\"event\":\"x\"}"), ERR_OK);
	assert_text(ev.payload, "{\"event\":\"x\"}");
	assert_text(ev.raw, "\xef\xbb\xbf{\"event\":\"x\"}");
	assert_int_equal(decode_plain("\xef\xbb\xbf"), ERR_NOT_JSON);
}

/* The memory of texts: everything escaped, and everything read twice. */
static void
much_escaped(void **state)
{
	enum { N = 3000 };
	static char json[40 * N];
	char *p = json;
	(void)state;
	p += sprintf(p, "{\"\\u0065vent\":\"x\",\"phone\":\"");
	for (int i = 0; i < N; i++)
		p += sprintf(p, "1\\/");
	p += sprintf(p, "\",\"message\":\"");
	for (int i = 0; i < N; i++)
		p += sprintf(p, "y\\n");
	p += sprintf(p, "\",\"message_id\":\"");
	for (int i = 0; i < N; i++)
		p += sprintf(p, "z\\t");
	sprintf(p, "\"}");
	assert_int_equal(decode_plain(json), ERR_OK);
	assert_int_equal(ev.phone.len, 2 * N);
	assert_int_equal(ev.body.len, 2 * N);
	assert_int_equal(ev.message_id.len, 2 * N);
}

/* ------------------------------------------------------ values in an event */

static const struct place {
	const char *before; /* of an event, which a value and '}' end */
	size_t column;      /* that the value goes to, 0 for none */
	bool is_needed;
} places[] = {
    {"{\"event\":\"incoming_sms\",\"phone\":\"+1\",\"message\":",
	offsetof(struct event, body), false},
    {"{\"address\":\"+1\",\"body\":", offsetof(struct event, body), false},
    {"{\"event\":\"x\",\"device_id\":", offsetof(struct event, device_id), false},
    {"{\"status_id\":7,\"sms_id\":", offsetof(struct event, message_id), true},
    {"{\"event\":\"x\",\"unknown\":", 0, false},
};
enum { N_PLACES = sizeof places / sizeof *places };

static char wire[1 << 21];

/* Decodes an event with a value at a place. */
static enum err
decode_at(const struct place *place, struct text value)
{
	size_t len = strlen(place->before);
	assert_true(len + value.len + 1 <= sizeof wire);
	memcpy(wire, place->before, len);
	memcpy(wire + len, value.ptr, value.len);
	wire[len + value.len] = '}';
	return decode_bytes(
	    (struct text){wire, len + value.len + 1}, (struct text){0}, (struct text){0});
}

static struct text
column_of(const struct place *place)
{
	return *(struct text *)((char *)&ev + place->column);
}

/* The value without the space around it. */
static struct text
trimmed(struct text t)
{
	while (t.len > 0 && strchr(" \t\r\n", *t.ptr))
		t = (struct text){t.ptr + 1, t.len - 1};
	while (t.len > 0 && strchr(" \t\r\n", t.ptr[t.len - 1]))
		t.len--;
	return t;
}

/* Each value that is JSON makes a good event at each place: what is no string
 * stands in its column as in the payload, and raw only where that was mended. */
static void
corpus_values(void **state)
{
	struct corpus c;
	(void)state;
	if (!corpus_open(&c))
		return;
	while (corpus_next(&c)) {
		struct json_report r;
		struct text value = {c.bytes, c.len};
		enum err whole = decode_bytes(value, (struct text){0}, (struct text){0});
		if (whole != ERR_NOT_EVENT &&
		    !(c.name[0] != 'y' && whole == ERR_NOT_JSON))
			fail_msg("%s: %d", c.name, (int)whole);
		assert_true(ev.raw.ptr == value.ptr && ev.raw.len == value.len);
		if (!json_judge(value.ptr, value.len, &r))
			continue;
		for (int i = 0; i < N_PLACES; i++) {
			enum err e = decode_at(&places[i], value);
			size_t at = strlen(places[i].before);
			struct text t = trimmed(value);
			bool is_null = text_is(t, "null");
			if (places[i].is_needed && (is_null || text_is(t, "\"\""))) {
				assert_int_equal(e, ERR_NOT_EVENT);
				continue;
			}
			assert_int_equal(e, ERR_OK);
			assert_int_equal(ev.payload.len, at + value.len + 1);
			assert_int_equal(ev.raw.ptr != NULL, r.n_mended > 0);
			if (r.n_mended == 0)
				assert_ptr_equal(ev.payload.ptr, wire);
			if (is_null && places[i].column)
				assert_text(column_of(&places[i]), NULL);
			if (is_null || !places[i].column || *t.ptr == '"')
				continue;
			t = trimmed((struct text){ev.payload.ptr + at, value.len});
			assert_int_equal(column_of(&places[i]).len, t.len);
			assert_memory_equal(column_of(&places[i]).ptr, t.ptr, t.len);
		}
	}
}

/* A number is the text that it was sent as, wherever a text goes. */
static void
numbers(void **state)
{
	static const struct {
		const char *number;
		bool is_mended;
		int32_t status_code;
		int64_t seconds; /* as a time, or EVENT_NO_TIME */
	} cases[] = {
	    {"0", false, 0, 0},
	    {"-0", false, 0, 0},
	    {"-0.0", false, 0, 0},
	    {"0.5", false, EVENT_NO_INT, 0},
	    {"0e0", false, EVENT_NO_INT, EVENT_NO_TIME},
	    {"2147483647", false, INT32_MAX, 2147483647},
	    {"2147483648", false, EVENT_NO_INT, 2147483648},
	    {"-2147483647", false, -INT32_MAX, -2147483647},
	    {"-2147483648", false, EVENT_NO_INT, -2147483648},
	    {"99999999999", false, EVENT_NO_INT, 99999999999},
	    {"253402300799000", false, EVENT_NO_INT, 253402300799},
	    {"253402300800000", false, EVENT_NO_INT, EVENT_NO_TIME},
	    {"9007199254740991", false, EVENT_NO_INT, EVENT_NO_TIME},
	    {"9007199254740992", false, EVENT_NO_INT, EVENT_NO_TIME},
	    {"9007199254740993", false, EVENT_NO_INT, EVENT_NO_TIME},
	    {"9223372036854775807", false, EVENT_NO_INT, EVENT_NO_TIME},
	    {"9223372036854775808", false, EVENT_NO_INT, EVENT_NO_TIME},
	    {"-9223372036854775808", false, EVENT_NO_INT, EVENT_NO_TIME},
	    {"-9223372036854775809", false, EVENT_NO_INT, EVENT_NO_TIME},
	    {"18446744073709551615", false, EVENT_NO_INT, EVENT_NO_TIME},
	    {"18446744073709551616", false, EVENT_NO_INT, EVENT_NO_TIME},
	    {"18446744073709551623", false, EVENT_NO_INT, EVENT_NO_TIME},
	    {"4294967303", false, EVENT_NO_INT, 4294967303},
	    {"1e400", false, EVENT_NO_INT, EVENT_NO_TIME},
	    {"-1e400", false, EVENT_NO_INT, EVENT_NO_TIME},
	    {"1E+2", false, EVENT_NO_INT, EVENT_NO_TIME},
	    {"7.0000000000000000000000000000000000", false, EVENT_NO_INT, 7},
	    {"1e131071", false, EVENT_NO_INT, EVENT_NO_TIME},
	    {"1e131072", true, EVENT_NO_INT, EVENT_NO_TIME},
	    {"-1e131072", true, EVENT_NO_INT, EVENT_NO_TIME},
	    {"1e-16383", false, EVENT_NO_INT, EVENT_NO_TIME},
	    {"1e-16384", true, EVENT_NO_INT, EVENT_NO_TIME},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char json[200];
		const char *number = cases[i].number;
		const char *want = cases[i].is_mended ? "\xef\xbf\xbd" : number;
		for (int k = 0; k < N_PLACES; k++) {
			assert_int_equal(decode_at(&places[k], text_of(number)), ERR_OK);
			assert_int_equal(ev.raw.ptr != NULL, cases[i].is_mended);
			if (places[k].column)
				assert_text(column_of(&places[k]), want);
		}
		snprintf(json, sizeof json, "{\"sms_id\":1,\"status_id\":%s}", number);
		assert_int_equal(decode_plain(json), ERR_OK);
		assert_int_equal(ev.status_code, cases[i].status_code);
		assert_int_equal(ev.note.ptr != NULL, ev.status_code == EVENT_NO_INT);
		assert_text(ev.status, "unknown");
		snprintf(json, sizeof json, "{\"event\":\"x\",\"timestamp\":%s}", number);
		assert_int_equal(decode_plain(json), ERR_OK);
		bool is_time = cases[i].seconds != EVENT_NO_TIME;
		assert_int_equal(ev.note.ptr != NULL, !is_time);
		if (!is_time)
			assert_int_equal(ev.occurred_at, EVENT_NO_TIME);
		else /* 0.5 is half a second */
			assert_int_equal(ev.occurred_at / 1000000, cases[i].seconds);
	}
}

/* What strings say, at all places. */
static void
strings(void **state)
{
#define FFFD "\xef\xbf\xbd"
	static const struct {
		const char *json, *text; /* without quotes */
		bool is_mended;
	} cases[] = {
	    {"a\\u0000b", "a" FFFD "b", true},
	    {"\\u0000", FFFD, true},
	    {"\\ud800", FFFD, true},
	    {"\\udfff", FFFD, true},
	    {"\\uDC00\\uD800", FFFD FFFD, true},
	    {"\\ud83d\\ud83d\\ude00", FFFD "\xf0\x9f\x98\x80", true},
	    {"\\ud83d\\ude00\\ude00", "\xf0\x9f\x98\x80" FFFD, true},
	    {"\\ud83dx\\ude00", FFFD "x" FFFD, true},
	    {"\\ud83d\\n\\ude00", FFFD "\n" FFFD, true},
	    {"\\uDBFF\\uDFFF", "\xf4\x8f\xbf\xbf", false},
	    {"\\ufffd", FFFD, false},
	    {FFFD, FFFD, false},
	    {"\\ufffe\\uffff\\ufdd0", "\xef\xbf\xbe\xef\xbf\xbf\xef\xb7\x90", false},
	    {"\xef\xbf\xbf\xf4\x8f\xbf\xbf", "\xef\xbf\xbf\xf4\x8f\xbf\xbf", false},
	    {"\xef\xbb\xbf", "\xef\xbb\xbf", false}, /* a byte order mark inside */
	    {"\\ufeff", "\xef\xbb\xbf", false},
	    {"\\u0001\\u001f\\u007f\x7f", "\x01\x1f\x7f\x7f", false},
	    {"\\b\\f\\n\\r\\t\\\"\\\\\\/", "\b\f\n\r\t\"\\/", false},
	    {"\\\\u0000", "\\u0000", false},
	    {"\\\\\\u0000", "\\" FFFD, true},
	    {"\\\\ud800", "\\ud800", false},
	    {"\\u00e9\xc3\xa9", "\xc3\xa9\xc3\xa9", false},
	    {"\\u2028\xe2\x80\xa9", "\xe2\x80\xa8\xe2\x80\xa9", false},
	    {"null", "null", false},
	    {"'; drop table sms.event; --", "'; drop table sms.event; --", false},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char json[200];
		snprintf(json, sizeof json, "\"%s\"", cases[i].json);
		for (int k = 0; k < N_PLACES; k++) {
			assert_int_equal(decode_at(&places[k], text_of(json)), ERR_OK);
			assert_int_equal(ev.raw.ptr != NULL, cases[i].is_mended);
			if (places[k].column)
				assert_text(column_of(&places[k]), cases[i].text);
		}
	}
}

/* Long strings are read in pieces: an escape at each place of a piece's end. */
static void
pieces(void **state)
{
	static const char *const units[][2] = {{"\\n", "\n"}, {"\\\\", "\\"},
	    {"\\u0061", "a"}, {"\\ud83d\\ude00", "\xf0\x9f\x98\x80"},
	    {"\\uD83D\\uDE00", "\xf0\x9f\x98\x80"}, {"\xe2\x82\xac", "\xe2\x82\xac"},
	    {"\\udfff", FFFD}, {"\\u0000", FFFD}};
	static char json[8000], want[8000];
	(void)state;
	for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
		for (int pad = 0; pad < 30; pad++) {
			char *p = stpcpy(json, "\""), *w = want;
			p += sprintf(p, "%.*s", pad, "pppppppppppppppppppppppppppppp");
			w += sprintf(w, "%.*s", pad, "pppppppppppppppppppppppppppppp");
			while (p < json + 4000) {
				p = stpcpy(p, units[i][0]);
				w = stpcpy(w, units[i][1]);
			}
			stpcpy(p, "\\t\"");
			stpcpy(w, "\t");
			for (int k = 0; k < N_PLACES; k++) {
				assert_int_equal(
				    decode_at(&places[k], text_of(json)), ERR_OK);
				if (places[k].column)
					assert_text(column_of(&places[k]), want);
			}
		}
	}
}

/* The last of equal names wins, however they are written. */
static void
equal_names(void **state)
{
	static const struct {
		const char *members, *body;
		bool is_mended;
	} cases[] = {
	    {"\"message\":\"1\",\"message\":\"2\"", "2", false},
	    {"\"message\":\"1\",\"\\u006dessage\":\"2\"", "2", false},
	    {"\"\\u006d\\u0065\\u0073\\u0073\\u0061\\u0067\\u0065\":\"1\",\"message\":2",
		"2", false},
	    {"\"message\":\"1\",\"message\":null", NULL, false},
	    {"\"message\":null,\"message\":\"\"", "", false},
	    {"\"message\":\"1\",\"Message\":\"2\"", "1", false},
	    {"\"message\":\"1\",\"message\\u0000\":\"2\"", "1", true},
	    {"\"message\":\"1\",\"\\u0000message\":\"2\"", "1", true},
	    {"\"message\":\"1\",\"message\\ud800\":\"2\"", "1", true},
	    {"\"message\":\"1\",\"message\\ufffd\":\"2\"", "1", false},
	    {"\"message\":\"1\",\"m\\u0435ssage\":\"2\"", "1", false}, /* Cyrillic */
	    {"\"x\":{\"message\":\"2\"},\"message\":\"1\"", "1", false},
	    {"\"x\":[\"message\",\"2\"],\"\\\"message\":\"2\",\"message\":\"1\"", "1",
		false},
	    {"\"a\\u0000\":1,\"a\\ud800\":2,\"a\\ufffd\":3,\"message\":\"1\"", "1", true},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char json[300];
		snprintf(json, sizeof json, "{\"event\":\"x\",%s}", cases[i].members);
		assert_int_equal(decode_plain(json), ERR_OK);
		assert_text(ev.body, cases[i].body);
		assert_text(ev.raw, cases[i].is_mended ? json : NULL);
	}
}

/* A million names, escaped and not, and a name of 65 kB. */
static void
many_names(void **state)
{
	enum { N = 1000000, LONG = 65536 };
	char *json = malloc(30 * N), *p = json;
	(void)state;
	assert_non_null(json);
	p = stpcpy(p, "{\"event\":\"x\",\"message\":\"1\"");
	for (int i = 0; i < N; i++)
		p += sprintf(p, ",\"%s%d\":%d", i % 100 ? "k" : "\\u006b", i, i);
	for (int i = 0; i < 2; i++) {
		p = stpcpy(p, ",\"");
		for (int k = 0; k < LONG; k++)
			p = stpcpy(p, i ? "\\u006d" : "m");
		p = stpcpy(p, "\":0");
	}
	stpcpy(p, ",\"message\":\"2\"}");
	assert_int_equal(decode_plain(json), ERR_OK);
	assert_text(ev.body, "2");
	assert_ptr_equal(ev.payload.ptr, json);
	assert_text(ev.raw, NULL);
	event_free(&ev);
	free(json);
}

static void
not_json(void **state)
{
	static const char *const bad[] = {"\xff\xfe{\0", "\xfe\xff\0{", "{}\xef\xbb\xbf",
	    "\xef\xbb\xbf\xef\xbb\xbf{}", "[\xef\xbb\xbf]", "{\"event\":\"\xc0\x80\"}",
	    "{\"event\":\"\xe0\x80\x80\"}", "{\"event\":\"\xf0\x80\x80\x80\"}",
	    "{\"event\":\"\xed\xa0\xbd\xed\xb8\x80\"}", /* CESU-8 */
	    "{\"event\":\"\xed\xbf\xbf\"}", "{\"event\":\"\xf4\x90\x80\x80\"}",
	    "{\"event\":\"\xf8\x88\x80\x80\x80\"}", "{\"event\":\"\xe2\x82\"}",
	    "{\"event\":\"\xf0\x9f\x98\"}", "{\"event\":\"\xf0\x9f\x98",
	    "{\"event\xff\":1}", "{\"event\":\"x\",\"x\":Infinity}",
	    "{\"event\":\"x\",\"x\":-NaN}", "{\"event\":\"x\",\"x\":0x10}",
	    "{\"event\":\"x\",\"x\":1_000}"};
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		if (decode_plain(bad[i]) != ERR_NOT_JSON)
			fail_msg("case %zu", i);
		assert_text(ev.raw, bad[i]);
		assert_text(ev.payload, NULL);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_teardown(article, forget),
	    cmocka_unit_test_teardown(reference_delivery, forget),
	    cmocka_unit_test_teardown(reference_incoming, forget),
	    cmocka_unit_test_teardown(statuses, forget),
	    cmocka_unit_test_teardown(incoming_status, forget),
	    cmocka_unit_test_teardown(needs, forget),
	    cmocka_unit_test_teardown(names, forget),
	    cmocka_unit_test_teardown(values, forget),
	    cmocka_unit_test_teardown(phones, forget),
	    cmocka_unit_test_teardown(times, forget),
	    cmocka_unit_test_teardown(first_that_tells, forget),
	    cmocka_unit_test_teardown(defaults, forget),
	    cmocka_unit_test_teardown(byte_order_mark, forget),
	    cmocka_unit_test_teardown(much_escaped, forget),
	    cmocka_unit_test_teardown(corpus_values, forget),
	    cmocka_unit_test_teardown(numbers, forget),
	    cmocka_unit_test_teardown(strings, forget),
	    cmocka_unit_test_teardown(pieces, forget),
	    cmocka_unit_test_teardown(equal_names, forget),
	    cmocka_unit_test_teardown(many_names, forget),
	    cmocka_unit_test_teardown(not_json, forget),
	};
	return cmocka_run_group_tests_name("decode", tests, NULL, NULL);
}
