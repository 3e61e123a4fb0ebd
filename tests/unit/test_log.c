#include "unit.h"

#include "capture.h"
#include "log.h"

static struct capture c;

static void
escapes(void **state)
{
	(void)state;
	log_open("t", LOG_LEVEL_INFO, LOG_TARGET_STDERR);
	capture_begin(&c);
	log_warn("%s", "a\nb\x1b[31m\xc3\xa9\x7f");
	assert_string_equal(
	    capture_end(&c), "t: warn: a\\x0ab\\x1b[31m\\xc3\\xa9\\x7f\n");
}

static void
is_bounded(void **state)
{
	char text[5000];
	(void)state;
	memset(text, '\n', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	capture_begin(&c);
	log_error("%s", text);
	size_t len = strlen(capture_end(&c));
	assert_in_range(len, 1000, 1100);
	assert_int_equal(c.text[len - 1], '\n');
}

static void
levels(void **state)
{
	(void)state;
	log_open("t", LOG_LEVEL_WARN, LOG_TARGET_STDERR);
	capture_begin(&c);
	log_debug("1");
	log_info("2");
	log_warn("3");
	log_error("4");
	assert_string_equal(capture_end(&c), "t: warn: 3\nt: error: 4\n");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(escapes),
	    cmocka_unit_test(is_bounded), cmocka_unit_test(levels)};
	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
