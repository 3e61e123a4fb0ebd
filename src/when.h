/* Durations and points in time as an administrator writes them.  Strict: a thing
 * that is not wholly understood is refused. */
#ifndef WHEN_H
#define WHEN_H

#include <stdbool.h>
#include <stdint.h>

/* A whole number and s, m, h, d or w, such as 90d: up to 100 years, not none. */
bool when_duration(const char *s, int64_t *seconds_r);

/* A duration before now; a date or a date and time, which are local when they
 * tell no zone; or id:N. */
struct when {
	bool is_id;
	int64_t value; /* an id, or microseconds since 1970 */
};

/* NULL, or what is wrong: a literal. */
const char *when_parse(const char *s, struct when *when_r);

#endif
