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

/* Reads exactly len bytes in hexadecimal; false when they are not that. */
static inline bool
text_unhex(struct text t, unsigned char *out, size_t len)
{
	bool is_hex = t.len == 2 * len;
	for (size_t i = 0; is_hex && i < len; i++) {
		int high = text_hex(t.ptr[2 * i]), low = text_hex(t.ptr[2 * i + 1]);
		is_hex = high >= 0 && low >= 0;
		out[i] = (unsigned char)((high & 15) << 4 | (low & 15));
	}
	return is_hex;
}

#endif
