#include "log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <syslog.h>
#include <unistd.h>

/* Threads may log while a reload changes it. */
static struct {
	const char *_Atomic program;
	_Atomic enum log_level level;
	_Atomic enum log_target target;
} to = {"smshook", LOG_LEVEL_INFO, LOG_TARGET_STDERR};

static const struct {
	const char *name;
	int priority;
} levels[] = {
    [LOG_LEVEL_DEBUG] = {"debug", LOG_DEBUG},
    [LOG_LEVEL_INFO] = {"info", LOG_INFO},
    [LOG_LEVEL_WARN] = {"warn", LOG_WARNING},
    [LOG_LEVEL_ERROR] = {"error", LOG_ERR},
};

void
log_open(const char *program, enum log_level level, enum log_target target)
{
	to.program = program;
	to.level = level;
	to.target = target;
	if (target == LOG_TARGET_SYSLOG)
		openlog(program, LOG_PID, LOG_DAEMON);
}

/* Copies in to out, escaped; out always has room for one more escape and NUL. */
static void
escape(const char *in, char *out, size_t size)
{
	size_t n = 0;
	for (; *in && n + 5 < size; in++) {
		unsigned char c = (unsigned char)*in;
		if (c >= 0x20 && c < 0x7f)
			out[n++] = *in;
		else
			n += (size_t)snprintf(out + n, size - n, "\\x%02x", c);
	}
	out[n] = '\0';
}

void
log_write(enum log_level level, const char *format, ...)
{
	char plain[1024], safe[1024], line[1200];
	if (level < to.level)
		return;

	va_list ap;
	va_start(ap, format);
	vsnprintf(plain, sizeof plain, format, ap);
	va_end(ap);
	escape(plain, safe, sizeof safe);

	if (to.target == LOG_TARGET_SYSLOG) {
		syslog(levels[level].priority, "%s", safe);
		return;
	}
	int n = snprintf(
	    line, sizeof line, "%s: %s: %s\n", to.program, levels[level].name, safe);
	/* One write: lines of several threads and processes do not mix. */
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		return; /* there is nowhere left to say it */
}
