#include "datetime.h"

#include <ctype.h>

enum { MAX_OFFSET = 24 * 3600, MAX_UNIX_DIGITS = 15 };

/* Unix times from here on (the year 5138 in seconds, 1973 in milliseconds) are
 * milliseconds. */
static const int64_t MILLISECONDS_FROM = 100000000000;

struct reader {
	const char *at, *end;
};

/* Exactly n digits as a number. */
static bool
digits(struct reader *r, int n, int *out_r)
{
	int v = 0;
	for (; n > 0; n--, r->at++) {
		if (r->at >= r->end || !isdigit((unsigned char)*r->at))
			return false;
		v = v * 10 + (*r->at - '0');
	}
	*out_r = v;
	return true;
}

static bool
one_of(struct reader *r, const char *set)
{
	if (r->at >= r->end || *r->at == '\0' || !strchr(set, *r->at))
		return false;
	r->at++;
	return true;
}

/* A fraction of a second after its point, in microseconds; further digits are
 * read and dropped. */
static bool
fraction(struct reader *r, int64_t *us_r)
{
	const char *start = r->at;
	int64_t unit = 100000;
	for (; r->at < r->end && isdigit((unsigned char)*r->at); r->at++, unit /= 10)
		*us_r += (*r->at - '0') * unit;
	return r->at > start;
}

static int
days_in_month(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
	return days[month - 1] + (month == 2 && is_leap);
}

/* Days since 1970-01-01 in the Gregorian calendar, years from 1 on: days of
 * whole years, then of whole months, counted from a year that begins in March. */
static int64_t
days_since_1970(int year, int month, int day)
{
	int64_t y = month <= 2 ? year - 1 : year, m = (month + 9) % 12;
	return 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}

static bool
date(struct reader *r, int64_t *days_r)
{
	int year, month, day;
	if (!digits(r, 4, &year) || !one_of(r, "-") || !digits(r, 2, &month) ||
	    !one_of(r, "-") || !digits(r, 2, &day))
		return false;
	if (year < 1 || month < 1 || month > 12 || day < 1 ||
	    day > days_in_month(year, month))
		return false;
	*days_r = days_since_1970(year, month, day);
	return true;
}

/* hh:mm[:ss[.f]]; a leap second is the second after it, as PostgreSQL has it. */
static bool
clock_time(struct reader *r, int64_t *us_r)
{
	int hour, minute, second = 0;
	int64_t us = 0;
	if (!digits(r, 2, &hour) || !one_of(r, ":") || !digits(r, 2, &minute))
		return false;
	if (one_of(r, ":") && !digits(r, 2, &second))
		return false;
	if (one_of(r, ".,") && !fraction(r, &us))
		return false;
	if (hour > 23 || minute > 59 || second > 60)
		return false;
	*us_r = ((hour * 60 + minute) * 60 + second) * INT64_C(1000000) + us;
	return true;
}

bool
datetime_offset(struct text t, int *seconds_r)
{
	struct reader r = {t.ptr, t.ptr + t.len};
	int hours, minutes = 0;
	if (t.len == 1 && one_of(&r, "Zz")) {
		*seconds_r = 0;
		return true;
	}
	if (t.len == 0 || !one_of(&r, "+-") || !digits(&r, 2, &hours))
		return false;
	if (r.at < r.end) {
		one_of(&r, ":");
		if (!digits(&r, 2, &minutes) || r.at != r.end)
			return false;
	}
	int seconds = (hours * 60 + minutes) * 60;
	if (minutes > 59 || seconds >= MAX_OFFSET)
		return false;
	*seconds_r = *t.ptr == '-' ? -seconds : seconds;
	return true;
}

static bool
unix_time(struct text t, int64_t *us_r)
{
	struct reader r = {t.ptr, t.ptr + t.len};
	bool is_negative = one_of(&r, "-");
	int64_t n = 0, us = 0;
	const char *start = r.at;
	for (; r.at < r.end && r.at - start < MAX_UNIX_DIGITS &&
	       isdigit((unsigned char)*r.at);
	     r.at++)
		n = n * 10 + (*r.at - '0');
	if (r.at == start)
		return false;
	if (one_of(&r, ".") && !fraction(&r, &us))
		return false;
	if (r.at != r.end)
		return false;
	*us_r = n >= MILLISECONDS_FROM ? n * 1000 + us / 1000 : n * 1000000 + us;
	if (is_negative)
		*us_r = -*us_r;
	return true;
}

/* Years 1 to 9999: PostgreSQL and every reader can show them. */
static bool
is_in_range(int64_t us)
{
	return us >= INT64_C(-62135596800000000) && us < INT64_C(253402300800000000);
}

bool
datetime_parse(struct text t, struct datetime *out_r)
{
	struct reader r = {t.ptr, t.ptr + t.len};
	int64_t days, us = 0;
	int offset = 0;
	out_r->is_utc = true;
	if (unix_time(t, &out_r->us))
		return is_in_range(out_r->us);
	if (!date(&r, &days))
		return false;
	if (one_of(&r, "Tt ") && !clock_time(&r, &us))
		return false;
	if (r.at < r.end && *r.at == ' ')
		r.at++;
	out_r->is_utc = r.at < r.end;
	if (out_r->is_utc &&
	    !datetime_offset((struct text){r.at, (size_t)(r.end - r.at)}, &offset))
		return false;
	out_r->us = days * INT64_C(86400000000) + us - offset * INT64_C(1000000);
	return is_in_range(out_r->us);
}

bool
datetime_is_zone(struct text t)
{
	static const char *const counted[] = {
	    "EST5EDT", "CST6CDT", "MST7MDT", "PST8PDT", "GMT0", "GMT+0", "GMT-0", NULL};
	bool may_count = t.len > 4 && memcmp(t.ptr, "Etc/", 4) == 0;
	for (int i = 0; counted[i]; i++)
		may_count = may_count || text_is(t, counted[i]);
	for (size_t i = 0; i < t.len; i++) {
		char c = t.ptr[i];
		if (!isalpha((unsigned char)c) && !strchr("/_-", c) &&
		    !(may_count && (isdigit((unsigned char)c) || c == '+')))
			return false;
	}
	return t.len > 0 && t.len <= 64;
}
