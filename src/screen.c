#include "screen.h"

#include <time.h>

#define REPLACEMENT "\xef\xbf\xbd"

enum { BAD = 0xffffff }; /* no character */

/* The length of the character at t.ptr, and its code (RFC 3629). */
static size_t
character(struct text t, uint32_t *code_r)
{
	static const struct {
		unsigned char mask, lead;
		uint32_t least;
	} forms[] = {
	    {0x80, 0, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};
	const unsigned char *s = (const unsigned char *)t.ptr;
	*code_r = BAD;
	for (size_t n = 0; n < 4; n++) {
		if ((s[0] & forms[n].mask) != forms[n].lead)
			continue;
		uint32_t code = s[0] & (uint32_t)~forms[n].mask & 0xff;
		size_t i = 1;
		while (i <= n && i < t.len && (s[i] & 0xc0) == 0x80)
			code = code << 6 | (s[i++] & 0x3f);
		if (i <= n || code < forms[n].least || code > 0x10ffff ||
		    (code >= 0xd800 && code < 0xe000))
			return 1;
		*code_r = code;
		return n + 1;
	}
	return 1;
}

static bool
is_harmful(uint32_t code)
{
	static const struct {
		uint32_t first, last;
	} ranges[] = {{0, 0x1f}, {0x7f, 0x9f}, {0x61c, 0x61c}, {0x200e, 0x200f},
	    {0x2028, 0x202e}, {0x2066, 0x2069}, {0xfeff, 0xfeff}, {0xfff9, 0xfffb},
	    {BAD, BAD}};
	for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
		if (code >= ranges[i].first && code <= ranges[i].last)
			return true;
	return false;
}

void
screen_text(FILE *out, struct text t)
{
	uint32_t code;
	for (size_t n; t.len > 0; t.ptr += n, t.len -= n) {
		n = character(t, &code);
		bool is_newline =
		    code == '\n' || (code == '\r' && t.len > 1 && t.ptr[1] == '\n');
		if (!is_harmful(code))
			fwrite(t.ptr, 1, n, out);
		else
			fputs(is_newline     ? "\u23ce"
			      : code == '\t' ? " "
					     : REPLACEMENT,
			    out);
		n += code == '\r' && is_newline;
	}
}

void
screen_json(FILE *out, struct text t)
{
	uint32_t code;
	for (size_t n; t.len > 0; t.ptr += n, t.len -= n) {
		n = character(t, &code);
		if (code == BAD)
			fputs(REPLACEMENT, out);
		else if (is_harmful(code))
			fprintf(out, "\\u%04x", (unsigned)code);
		else
			fwrite(t.ptr, 1, n, out);
	}
}

void
screen_time(FILE *out, int64_t us)
{
	time_t s = us / 1000000 - (us % 1000000 < 0);
	struct tm tm;
	char text[64] = "?";
	tzset(); /* localtime_r() need not */
	if (localtime_r(&s, &tm))
		strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
	fputs(text, out);
}
