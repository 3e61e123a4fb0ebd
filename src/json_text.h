/* What JSON strings say, by json-c.  It reads escapes alone, of text that
 * json_scan() has mended, a piece at a time: that takes some kB, and all versions
 * of it agree.  One thread at a time. */
#ifndef JSON_TEXT_H
#define JSON_TEXT_H

#include "text.h"

struct json_tokener;

/* Begins as {0}. */
struct json_text {
	struct json_tokener *tokener; /* made when the first escape is met */
	bool is_short;                /* there was no memory: texts are cut */
};

bool json_text_is_escaped(struct text value);

/* string: with its quotes.  The text stands in string itself where it has no
 * escapes, else it is written to out, and is shorter than string. */
struct text json_text(struct json_text *j, struct text string, char *out);

void json_text_end(struct json_text *j);

#endif
