/* A run of bytes that somebody else owns; ptr NULL means absent (SQL null).
 * Bytes are not terminated, and may be anything. */
#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct text {
	const char *ptr;
	size_t len;
};

#define TEXT(literal) ((struct text){(literal), sizeof(literal) - 1})

static inline struct text
text_of(const char *s)
{
	return (struct text){s, s ? strlen(s) : 0};
}

static inline bool
text_is(struct text t, const char *s)
{
	return t.ptr && t.len == strlen(s) && memcmp(t.ptr, s, t.len) == 0;
}

/* Value of a hexadecimal digit, -1 for another character. */
static inline int
text_hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

#endif
