#include "unit.h"

#include "capture.h"
#include "log.h"

#include <stdarg.h>

static struct capture c;

/* In place of libc's: what syslogd would get.  With _FORTIFY_SOURCE it is called
 * by the other name. */
static char to_syslog[2048];
static int priority;

void syslog(int p, const char *format, ...) __attribute__((format(printf, 2, 3)));
void __syslog_chk(int p, int flag, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

void
syslog(int p, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	vsnprintf(to_syslog, sizeof to_syslog, format, ap);
	va_end(ap);
	priority = p;
}

void
__syslog_chk(int p, int flag, const char *format, ...)
{
	va_list ap;
	(void)flag;
	va_start(ap, format);
	vsnprintf(to_syslog, sizeof to_syslog, format, ap);
	va_end(ap);
	priority = p;
}

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

static void
syslog_gets_the_same(void **state)
{
	char text[5000] = "a\nb\x1b%n\xc3";
	(void)state;
	log_open("t", LOG_LEVEL_INFO, LOG_TARGET_SYSLOG);
	log_info("%s", text);
	assert_string_equal(to_syslog, "a\\x0ab\\x1b%n\\xc3");
	assert_int_equal(priority, 6);
	memset(text, '\xff', sizeof text - 1);
	log_error("%s", text);
	assert_in_range(strlen(to_syslog), 1000, 1024);
	assert_int_equal(priority, 3);
	log_open("t", LOG_LEVEL_INFO, LOG_TARGET_STDERR);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(escapes),
	    cmocka_unit_test(is_bounded), cmocka_unit_test(levels),
	    cmocka_unit_test(syslog_gets_the_same)};
	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
