#include "unit.h"

#include "decode.h"

#include <stdio.h>
#include <stdlib.h>

static struct event ev;

static enum err
decode_as(const char *json, struct text zone, struct text device)
{
	event_free(&ev);
	assert_int_equal(event_init(&ev, text_of(json), TEXT("shop")), ERR_OK);
	return decode(&ev, zone, device);
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
	};
	return cmocka_run_group_tests_name("decode", tests, NULL, NULL);
}
