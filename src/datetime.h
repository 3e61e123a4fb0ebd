/* The gateway's forms of a time: RFC 3339 (5.6), `YYYY-MM-DD HH:MM:SS[.f]`,
 * `YYYY-MM-DD`, and Unix time in seconds or milliseconds.  Pure; any thread. */
#ifndef DATETIME_H
#define DATETIME_H

#include "text.h"

#include <stdbool.h>
#include <stdint.h>

/* Microseconds since 1970-01-01 00:00:00: in UTC when is_utc, else of a wall
 * clock in a zone that the text does not tell. */
struct datetime {
	int64_t us;
	bool is_utc;
};

/* False when the text is none of the forms, or no day of the calendar. */
bool datetime_parse(struct text t, struct datetime *out_r);

/* Z, +hh, +hhmm or +hh:mm, and its like with -: seconds east of UTC. */
bool datetime_offset(struct text t, int *seconds_r);

/* Whether t can be a zone's name; PostgreSQL knows which there are.  A name with
 * a number, such as UTC+3, it would read the wrong way round, as POSIX has it. */
bool datetime_is_zone(struct text t);

#endif
