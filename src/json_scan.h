/* The judge of what is JSON: RFC 8259 grammar, UTF-8 by RFC 3629, at most
 * JSON_DEPTH levels.  Libraries differ from version to version; this does not.
 *
 * It also mends in place what PostgreSQL's jsonb cannot hold, each with a
 * U+FFFD: the escape \u0000, escapes of lone surrogates, and numbers beyond
 * numeric's range (PostgreSQL manual, 8.1.2 and 8.14).  jsonb writes numbers
 * without exponent; what would have more than JSON_DIGITS digits by that, all
 * in all, is mended, too, or nobody could read it.  Lengths do not change.
 * Pure; any thread. */
#ifndef JSON_SCAN_H
#define JSON_SCAN_H

#include "text.h"

#include <stddef.h>

enum { JSON_DEPTH = 32, JSON_DIGITS = 1 << 20 };

struct json_report {
	const char *fault; /* NULL when it is JSON; else a literal */
	size_t at;         /* where the fault is, in bytes from 0 */
	size_t n_mended;   /* how many places were mended, or are to be */
};

/* Judges and mends json, len bytes.  True when it is JSON. */
bool json_scan(char *json, size_t len, struct json_report *report_r);

/* The same verdict and report, and nothing is changed. */
bool json_judge(const char *json, size_t len, struct json_report *report_r);

/* Walks the members of an object in a text that was found to be JSON. */
struct json_walk {
	const char *at, *end;
};

/* object: the value's text, from its '{'.  False when it is not an object. */
bool json_walk(struct json_walk *w, struct text object);

/* The next member: name with its quotes, and value's text.  False at the end. */
bool json_walk_next(struct json_walk *w, struct text *name_r, struct text *value_r);

#endif
