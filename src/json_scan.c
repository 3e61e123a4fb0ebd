#include "json_scan.h"

#include <limits.h>
#include <stdint.h>

/* Limits of PostgreSQL's numeric: digits before and after the point. */
enum { NUMERIC_WHOLE = 131072, NUMERIC_FRACTION = 16383 };

struct scan {
	const char *start, *at, *end;
	char *mended;  /* start once more, to write to, or NULL */
	long n_digits; /* of numbers with an exponent, in full */
	struct json_report *report;
};

static bool value(struct scan *s, int depth);

static bool
fault(struct scan *s, const char *what)
{
	s->report->fault = what;
	s->report->at = (size_t)(s->at - s->start);
	return false;
}

/* Puts text, padded with spaces, in the place of len bytes. */
static void
mend(struct scan *s, const char *place, size_t len, const char *text)
{
	char *p = s->mended ? s->mended + (place - s->start) : NULL;
	s->report->n_mended++;
	if (p)
		memcpy(memset(p, ' ', len), text, strlen(text));
}

/* The byte at the place, or 0 at the end: no token holds a NUL. */
static unsigned char
peek(const struct scan *s)
{
	return s->at < s->end ? (unsigned char)*s->at : 0;
}

static void
space(struct scan *s)
{
	while (s->at < s->end &&
	       (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r'))
		s->at++;
}

static bool
literal(struct scan *s, const char *word)
{
	size_t len = strlen(word);
	if ((size_t)(s->end - s->at) < len || memcmp(s->at, word, len) != 0)
		return fault(s, "a value is expected");
	s->at += len;
	return true;
}

/* One well-formed sequence of more than one byte: RFC 3629, section 4. */
static bool
utf8(struct scan *s)
{
	unsigned char c = peek(s), low = 0x80, high = 0xbf;
	int more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
	if (c < 0xc2 || c > 0xf4)
		return fault(s, "invalid UTF-8");
	if (c == 0xe0)
		low = 0xa0; /* overlong */
	else if (c == 0xed)
		high = 0x9f; /* surrogates */
	else if (c == 0xf0)
		low = 0x90; /* overlong */
	else if (c == 0xf4)
		high = 0x8f; /* beyond U+10FFFF */
	for (s->at++; more > 0; more--, s->at++) {
		c = peek(s);
		if (s->at >= s->end || c < low || c > high)
			return fault(s, "invalid UTF-8");
		low = 0x80;
		high = 0xbf;
	}
	return true;
}

/* The code unit of an escape \uXXXX at p, or -1. */
static long
code_unit(const char *p, const char *end)
{
	if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
		return -1;
	long unit = 0;
	for (int i = 2; i < 6; i++) {
		if (text_hex(p[i]) < 0)
			return -1;
		unit = unit * 16 + text_hex(p[i]);
	}
	return unit;
}

static bool
unicode_escape(struct scan *s)
{
	long unit = code_unit(s->at, s->end);
	if (unit < 0)
		return fault(s, "four hexadecimal digits are expected");
	bool is_pair = false;
	if (unit >= 0xd800 && unit <= 0xdbff) {
		long low = code_unit(s->at + 6, s->end);
		is_pair = low >= 0xdc00 && low <= 0xdfff;
	}
	if (!is_pair && (unit == 0 || (unit >= 0xd800 && unit <= 0xdfff))) {
		mend(s, s->at, 6, "\\ufffd");
	}
	s->at += is_pair ? 12 : 6;
	return true;
}

static bool
string(struct scan *s)
{
	s->at++;
	for (;;) {
		unsigned char c = peek(s);
		if (s->at >= s->end)
			return fault(s, "a string is not closed");
		if (c == '"') {
			s->at++;
			return true;
		}
		if (c < 0x20)
			return fault(s, "a control character in a string");
		if (c >= 0x80) {
			if (!utf8(s))
				return false;
		} else if (c != '\\') {
			s->at++;
		} else if (s->at + 1 < s->end && s->at[1] == 'u') {
			if (!unicode_escape(s))
				return false;
		} else {
			char e = s->at + 1 < s->end ? s->at[1] : '\0';
			if (e == '\0' || !strchr("\"\\/bfnrt", e))
				return fault(s, "an unknown escape in a string");
			s->at += 2;
		}
	}
}

/* Digits at the place: how many, 0 is a fault. */
static size_t
digits(struct scan *s)
{
	const char *start = s->at;
	while (peek(s) >= '0' && peek(s) <= '9')
		s->at++;
	return (size_t)(s->at - start);
}

/* How many digits PostgreSQL writes the number p..end with that exponent in, or
 * -1 when numeric does not hold it: by the place of its first digit that is not
 * 0, and its digits after the point. */
static long
full_digits(const char *p, const char *end, long exponent)
{
	long whole = 0, fraction = 0, lead = LONG_MIN;
	bool has_point = false;
	for (; p < end && *p != 'e' && *p != 'E'; p++) {
		if (*p == '.') {
			has_point = true;
		} else if (*p != '-') {
			has_point ? fraction++ : whole++;
			if (*p != '0' && lead == LONG_MIN)
				lead = has_point ? fraction : -whole;
		}
	}
	if (exponent >= INT_MAX / 2 || exponent <= -INT_MAX / 2)
		return -1;
	fraction = fraction > exponent ? fraction - exponent : 0;
	/* digits before the point once the exponent is applied; 0 has none */
	if (lead != LONG_MIN)
		whole = exponent + (lead < 0 ? whole + lead + 1 : 1 - lead);
	else
		whole = 0;
	if (fraction > NUMERIC_FRACTION || whole > NUMERIC_WHOLE)
		return -1;
	return fraction + (whole > 0 ? whole : 0);
}

/* An exponent, with its sign; what no long holds is as good as the largest. */
static bool
exponent_of(struct scan *s, long *exponent_r)
{
	bool is_negative = peek(s) == '-';
	if (peek(s) == '-' || peek(s) == '+')
		s->at++;
	const char *start = s->at;
	if (digits(s) == 0)
		return fault(s, "a digit is expected");
	long n = 0;
	for (const char *p = start; p < s->at; p++)
		n = n > INT_MAX ? n : n * 10 + (*p - '0');
	*exponent_r = is_negative ? -n : n;
	return true;
}

static bool
number(struct scan *s)
{
	static const char replacement[] = "\"\xef\xbf\xbd\"";
	const char *start = s->at;
	long exponent = 0;
	if (peek(s) == '-')
		s->at++;
	bool is_zero_led = peek(s) == '0';
	size_t n = digits(s);
	if (n == 0)
		return fault(s, "a digit is expected");
	if (is_zero_led && n > 1)
		return fault(s, "a number must not begin with 0");
	if (peek(s) == '.') {
		s->at++;
		if (digits(s) == 0)
			return fault(s, "a digit is expected");
	}
	if (peek(s) == 'e' || peek(s) == 'E') {
		s->at++;
		if (!exponent_of(s, &exponent))
			return false;
	}
	long n_digits = full_digits(start, s->at, exponent);
	size_t len = (size_t)(s->at - start);
	if ((exponent == 0 && n_digits >= 0) || len < strlen(replacement))
		n_digits = 0; /* it takes no more than here, or at most 100 */
	if (n_digits < 0 || n_digits > JSON_DIGITS - s->n_digits)
		mend(s, start, len, replacement);
	else
		s->n_digits += n_digits;
	return true;
}

static bool
member(struct scan *s, int depth)
{
	if (peek(s) != '"')
		return fault(s, "a member's name is expected");
	if (!string(s))
		return false;
	space(s);
	if (peek(s) != ':')
		return fault(s, "':' is expected");
	s->at++;
	return value(s, depth);
}

/* An array or an object, from its bracket. */
static bool
container(struct scan *s, int depth)
{
	bool is_object = *s->at == '{';
	unsigned char close = is_object ? '}' : ']';
	if (depth >= JSON_DEPTH)
		return fault(s, "nested more than 32 levels deep");
	s->at++;
	space(s);
	if (peek(s) == close) {
		s->at++;
		return true;
	}
	for (;;) {
		space(s);
		if (!(is_object ? member(s, depth + 1) : value(s, depth + 1)))
			return false;
		if (peek(s) == close) {
			s->at++;
			return true;
		}
		if (peek(s) != ',')
			return fault(s, is_object ? "',' or '}' is expected"
						  : "',' or ']' is expected");
		s->at++;
	}
}

/* A value with the space around it; depth is how many containers are open. */
static bool
value(struct scan *s, int depth)
{
	bool ok;
	space(s);
	switch (peek(s)) {
	case '{':
	case '[':
		ok = container(s, depth);
		break;
	case '"':
		ok = string(s);
		break;
	case 't':
		ok = literal(s, "true");
		break;
	case 'f':
		ok = literal(s, "false");
		break;
	case 'n':
		ok = literal(s, "null");
		break;
	default:
		if (peek(s) != '-' && (peek(s) < '0' || peek(s) > '9'))
			return fault(s, "a value is expected");
		ok = number(s);
	}
	if (ok)
		space(s);
	return ok;
}

static bool
scan(struct scan *s)
{
	*s->report = (struct json_report){0};
	if (!value(s, 0))
		return false;
	return s->at == s->end || fault(s, "more text after the value");
}

bool
json_scan(char *json, size_t len, struct json_report *report_r)
{
	struct scan s = {json, json, json + len, json, 0, report_r};
	return scan(&s);
}

bool
json_judge(const char *json, size_t len, struct json_report *report_r)
{
	struct scan s = {json, json, json + len, NULL, 0, report_r};
	return scan(&s);
}

static void
walk_space(struct json_walk *w)
{
	while (w->at < w->end && strchr(" \t\n\r,:", *w->at))
		w->at++;
}

/* From here on the text is known to be JSON: only strings and brackets tell
 * where a value ends. */
static struct text
walk_value(struct json_walk *w)
{
	walk_space(w);
	const char *start = w->at;
	int depth = 0;
	do {
		char c = *w->at++;
		if (c == '"') {
			for (; *w->at != '"'; w->at++)
				w->at += *w->at == '\\';
			w->at++;
		} else if (c == '{' || c == '[') {
			depth++;
		} else if (c == '}' || c == ']') {
			depth--;
		} else if (depth == 0) {
			while (w->at < w->end && !strchr(" \t\n\r,}]", *w->at))
				w->at++;
		}
	} while (depth > 0);
	return (struct text){start, (size_t)(w->at - start)};
}

bool
json_walk(struct json_walk *w, struct text object)
{
	*w = (struct json_walk){object.ptr, object.ptr + object.len};
	walk_space(w);
	return w->at < w->end && *w->at++ == '{';
}

bool
json_walk_next(struct json_walk *w, struct text *name_r, struct text *value_r)
{
	walk_space(w);
	if (w->at >= w->end || *w->at == '}')
		return false;
	*name_r = walk_value(w);
	*value_r = walk_value(w);
	return true;
}
