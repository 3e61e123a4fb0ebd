#include "when.h"

#include "datetime.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const int64_t US = 1000000, LONGEST = INT64_C(36525) * 24 * 3600;

/* Digits only; where they end. */
static const char *
number(const char *s, int64_t *n_r)
{
	char *end;
	errno = 0;
	*n_r = strtoll(s, &end, 10);
	return isdigit((unsigned char)*s) && errno == 0 ? end : NULL;
}

bool
when_duration(const char *s, int64_t *seconds_r)
{
	static const struct {
		const char *name;
		int64_t seconds;
	} units[] = {{"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}, {"w", 7 * 86400}};
	int64_t n;
	const char *unit = number(s, &n);
	for (size_t i = 0; unit && i < sizeof units / sizeof *units; i++) {
		if (strcmp(unit, units[i].name) != 0)
			continue;
		if (n < 1 || n > LONGEST / units[i].seconds)
			return false;
		*seconds_r = n * units[i].seconds;
		return true;
	}
	return false;
}

/* A wall clock's time in the zone of TZ or of this machine. */
static int64_t
from_local(int64_t us)
{
	time_t s = us / US;
	struct tm tm;
	if (!gmtime_r(&s, &tm))
		return us;
	tm.tm_isdst = -1;
	return mktime(&tm) * US + us % US;
}

const char *
when_parse(const char *s, struct when *when_r)
{
	struct datetime at;
	int64_t seconds, now = time(NULL) * US;
	when_r->is_id = strncmp(s, "id:", 3) == 0;
	if (when_r->is_id) {
		const char *end = number(s + 3, &when_r->value);
		return end && !*end ? NULL : "after id: a whole number is expected";
	}
	if (when_duration(s, &seconds)) {
		when_r->value = now - seconds * US;
		return NULL;
	}
	/* a number alone would be a Unix time */
	if (!strchr(s, '-') || !datetime_parse(text_of(s), &at))
		return "expected is 10m, 2h, 3d or 1w, a date, a date and time such as "
		       "\"2026-01-15 10:00\" or 2026-01-15T10:00:00Z, or id:N";
	when_r->value = at.is_utc ? at.us : from_local(at.us);
	return when_r->value > now ? "that is in the future" : NULL;
}
