#include "unit.h"

#include "datetime.h"

static const int64_t S = 1000000;

static void
reads(void **state)
{
	static const struct {
		const char *text;
		int64_t seconds;
		int us;
		bool is_utc;
	} cases[] = {
	    {"2026-01-15T10:30:00Z", 1768473000, 0, true},
	    {"2026-01-15t10:30:00z", 1768473000, 0, true},
	    {"2026-01-15T10:30:00.123456789Z", 1768473000, 123456, true},
	    {"2026-01-15T12:30:00+02:00", 1768473000, 0, true},
	    {"2026-01-15T12:30:00+0200", 1768473000, 0, true},
	    {"2026-01-15T05:00:00-05:30", 1768473000, 0, true},
	    {"2026-01-15 10:30:00 +00:00", 1768473000, 0, true},
	    {"2026-01-15 10:30:00", 1768473000, 0, false},
	    {"2026-01-15 10:30:00.5", 1768473000, 500000, false},
	    {"2026-01-15T10:30", 1768473000, 0, false},
	    {"2026-01-15", 1768435200, 0, false},
	    {"1768473000", 1768473000, 0, true},
	    {"1768473000123", 1768473000, 123000, true},
	    {"1768473000.25", 1768473000, 250000, true},
	    {"0", 0, 0, true},
	    {"-1", -1, 0, true},
	    {"1970-01-01T00:00:00Z", 0, 0, true},
	    {"2024-02-29T00:00:00Z", 1709164800, 0, true},
	    {"2000-02-29T00:00:00Z", 951782400, 0, true},
	    {"0001-01-01T00:00:00Z", -62135596800, 0, true},
	    {"9999-12-31T23:59:59Z", 253402300799, 0, true},
	    {"2016-12-31T23:59:60Z", 1483228800, 0, true},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct datetime d;
		if (!datetime_parse(text_of(cases[i].text), &d))
			fail_msg("not read: %s", cases[i].text);
		if (d.us != cases[i].seconds * S + cases[i].us ||
		    d.is_utc != cases[i].is_utc)
			fail_msg("%s: %lld us, utc %d", cases[i].text, (long long)d.us,
			    d.is_utc);
	}
}

static void
refuses(void **state)
{
	static const char *const bad[] = {"", " ", "now", "infinity", "yesterday",
	    "2026-13-01", "2026-00-01", "2026-02-30", "2025-02-29", "1900-02-29",
	    "2026-1-5", "2026-01-15T24:00:00Z", "2026-01-15T10:60:00Z",
	    "2026-01-15T10:30:61Z", "2026-01-15T10:30:00+24:00",
	    "2026-01-15T10:30:00+02:60", "2026-01-15T10:30:00X", "2026-01-15T10:30:00.Z",
	    "2026-01-15T", "0000-01-01", "1e400", "12345678901234567890",
	    "99999999999999999", "1.", "--1", "15.01.2026", "2026-01-15T10:30:00Z ",
	    "0001-01-01T00:00:00+01:00"};
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct datetime d;
		if (datetime_parse(text_of(bad[i]), &d))
			fail_msg("read: %s", bad[i]);
	}
}

static void
offsets(void **state)
{
	int s;
	(void)state;
	assert_true(datetime_offset(TEXT("+02:00"), &s) && s == 7200);
	assert_true(datetime_offset(TEXT("-0530"), &s) && s == -19800);
	assert_true(datetime_offset(TEXT("+14"), &s) && s == 50400);
	assert_true(datetime_offset(TEXT("Z"), &s) && s == 0);
	assert_false(datetime_offset(TEXT("Europe/Berlin"), &s));
	assert_false(datetime_offset(TEXT(""), &s));
	assert_false(datetime_offset(TEXT("+2"), &s));
	assert_false(datetime_offset(TEXT("+02:00x"), &s));
}

static void
zones(void **state)
{
	static const char *const good[] = {"Europe/Berlin", "UTC",
	    "America/Port-au-Prince", "Etc/GMT+3", "EST5EDT", "GMT0", "CEST"};
	static const char *const bad[] = {
	    "", "UTC+3", "foo1", "+02:00", "no; zone", "EST5"};
	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		if (!datetime_is_zone(text_of(good[i])))
			fail_msg("refused: %s", good[i]);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (datetime_is_zone(text_of(bad[i])))
			fail_msg("taken: %s", bad[i]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(reads),
	    cmocka_unit_test(refuses), cmocka_unit_test(offsets),
	    cmocka_unit_test(zones)};
	return cmocka_run_group_tests_name("datetime", tests, NULL, NULL);
}
