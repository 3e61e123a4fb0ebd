#include "admin.h"

#include <stdarg.h>

static void say(const char *tag, const char *format, va_list ap)
    __attribute__((format(printf, 2, 0)));

static void
say(const char *tag, const char *format, va_list ap)
{
	printf("%-5s ", tag);
	vprintf(format, ap);
	putchar('\n');
	fflush(stdout);
}

void
admin_good(const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	say("ok", format, ap);
	va_end(ap);
}

void
admin_warn(const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	say("warn", format, ap);
	va_end(ap);
}

void
admin_bad(struct admin *a, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	say("FAIL", format, ap);
	va_end(ap);
	a->n_failed++;
}
