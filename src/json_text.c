#include "json_text.h"

#include <json-c/json.h>

enum {
	PIECE_LEN = 1024, /* what json-c reads at a time */
	PAIR_LEN = 12,    /* the longest escape: a pair of surrogates */
};

bool
json_text_is_escaped(struct text value)
{
	return memchr(value.ptr, '\\', value.len) != NULL;
}

/* How long the character or escape at p is. */
static size_t
unit_len(const char *p)
{
	if (*p != '\\')
		return 1;
	if (p[1] != 'u')
		return 2;
	bool is_pair =
	    (p[2] == 'd' || p[2] == 'D') && text_hex(p[3]) >= 8 && text_hex(p[3]) < 12;
	return is_pair ? PAIR_LEN : 6;
}

struct text
json_text(struct json_text *j, struct text string, char *out)
{
	char piece[PIECE_LEN + PAIR_LEN + 1] = {'"'};
	const char *p = string.ptr + 1, *end = string.ptr + string.len - 1;
	struct text t = {out, 0};
	if (!json_text_is_escaped(string))
		return (struct text){p, string.len - 2};
	if (!j->tokener)
		j->tokener = json_tokener_new();
	while (p < end && j->tokener) {
		size_t n = 0, rest = (size_t)(end - p);
		while (n < PIECE_LEN && n < rest)
			n += unit_len(p + n);
		memcpy(piece + 1, p, n);
		piece[n + 1] = '"';
		json_tokener_reset(j->tokener);
		struct json_object *said =
		    json_tokener_parse_ex(j->tokener, piece, (int)n + 2);
		if (!said)
			break;
		size_t len = (size_t)json_object_get_string_len(said);
		memcpy(out + t.len, json_object_get_string(said), len);
		t.len += len;
		json_object_put(said);
		p += n;
	}
	j->is_short = j->is_short || p < end;
	return t;
}

void
json_text_end(struct json_text *j)
{
	if (j->tokener)
		json_tokener_free(j->tokener);
	j->tokener = NULL;
}
