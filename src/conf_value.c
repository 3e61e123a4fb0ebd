#include "conf_value.h"

#include "log.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct conf_word conf_plain[] = {{"", 1}, {NULL, 0}},
		       conf_octal[] = {{"", 1}, {NULL, 0}},
		       conf_sizes[] = {{"", 1}, {"KiB", 1L << 10}, {"MiB", 1L << 20},
			   {"GiB", 1L << 30}, {NULL, 0}},
		       conf_times[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {NULL, 0}},
		       conf_switches[] = {{"off", 0}, {"on", 1}, {NULL, 0}},
		       conf_levels[] = {{"debug", LOG_LEVEL_DEBUG},
			   {"info", LOG_LEVEL_INFO}, {"warn", LOG_LEVEL_WARN},
			   {"error", LOG_LEVEL_ERROR}, {NULL, 0}},
		       conf_targets[] = {{"stderr", LOG_TARGET_STDERR},
			   {"syslog", LOG_TARGET_SYSLOG}, {NULL, 0}};

bool
conf_fail(struct conf_reader *r, const char *format, ...)
{
	char reason[512];
	va_list ap;
	if (r->has_failed)
		return false;
	va_start(ap, format);
	vsnprintf(reason, sizeof reason, format, ap);
	va_end(ap);
	r->has_failed = true;
	r->err = ERR_CONFIG;
	if (r->line > 0)
		log_error("%s:%d: %s", r->path, r->line, reason);
	else
		log_error("%s: %s", r->path, reason);
	return false;
}

bool
conf_no_memory(struct conf_reader *r)
{
	conf_fail(r, "out of memory");
	r->err = ERR_MEMORY;
	return false;
}

/* -------------------------------------------------------------- values */

/* A whole number and one of the key's units. */
bool
conf_read_number(
    struct conf_reader *r, const struct conf_key *k, void *to, const char *value)
{
	char *end;
	const struct conf_word *unit = k->words;
	errno = 0;
	long n = strtol(value, &end, unit == conf_octal ? 8 : 10);
	bool is_good = isdigit((unsigned char)*value) && errno == 0;
	while (unit->name && strcasecmp(end, unit->name) != 0)
		unit++;
	if (!is_good || !unit->name || n > LONG_MAX / unit->value)
		return conf_fail(r, "%s = %s: a number is expected, such as %s", k->name,
		    value, k->initial ? k->initial : "5m");
	n *= unit->value;
	if (n < k->min || n > k->max)
		return conf_fail(r, "%s = %s is out of range", k->name, value);
	*(long *)to = n;
	return true;
}

/* One of the key's words. */
bool
conf_read_word(
    struct conf_reader *r, const struct conf_key *k, void *to, const char *value)
{
	for (const struct conf_word *w = k->words; w->name; w++)
		if (strcasecmp(value, w->name) == 0) {
			*(long *)to = w->value;
			return true;
		}
	/* what stands there is not quoted: it may be a key of signatures */
	return conf_fail(r, "%s: it must be %s", k->name, k->help);
}

bool
conf_is_printable(const char *s)
{
	while (isprint((unsigned char)*s))
		s++;
	return *s == '\0';
}

bool
conf_read_string(
    struct conf_reader *r, const struct conf_key *k, void *to, const char *value)
{
	char **s = to, *joined;
	if (asprintf(&joined, "%s%s%s", r->is_continued && *s ? *s : "",
		r->is_continued ? " " : "", value) < 0)
		return conf_no_memory(r);
	free(*s);
	*s = joined;
	if (!conf_is_printable(joined))
		return conf_fail(r, "%s must be plain ASCII", k->name);
	/* a URI may hold a password without the word */
	r->has_secret = r->has_secret || strstr(joined, "password") ||
			(strstr(joined, "://") && strchr(joined, '@'));
	return true;
}

bool
conf_is_made_of(const char *s, const char *others)
{
	const char *p = s;
	while (*p && (isalnum((unsigned char)*p) || strchr(others, *p)))
		p++;
	return p > s && *p == '\0';
}

/* The name goes to PostgreSQL; here it is only seen that it can be one, and
 * that there is such a file where the machine has them. */
bool
conf_read_zone(
    struct conf_reader *r, const struct conf_key *k, void *to, const char *value)
{
	char path[PATH_MAX];
	if (!conf_is_made_of(value, "/_+-") || *value == '/')
		return conf_fail(r,
		    "timezone = %s: an IANA name is expected, such as "
		    "Europe/Berlin",
		    value);
	snprintf(path, sizeof path, "/usr/share/zoneinfo/%s", value);
	if (access("/usr/share/zoneinfo/UTC", F_OK) == 0 && access(path, F_OK) != 0)
		return conf_fail(r, "timezone = %s: there is no such time zone", value);
	return conf_read_string(r, k, to, value);
}
