#include "records.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* FastCGI 1.0, section 8: types and the fields of a header. */
enum { AT_VERSION, AT_TYPE, AT_ID, AT_LENGTH = 4, AT_PADDING = 6, HEADER_LEN = 8 };
enum { BEGIN_REQUEST = 1, ABORT_REQUEST, END_REQUEST, PARAMS, STDIN, STDOUT };
enum { VERSION_1 = 1, RESPONDER = 1, BEGIN_LEN = 8, END_LEN = 8 };

/* No web server lets a header field through that is longer, nor sends as many. */
enum { MAX_LENGTH = 1 << 17, MAX_PAIRS = 1000 };

/* What is looked at; most requests are shorter than a glance, and stacks stay small. */
enum { LOOK_SIZE = 128 * 1024, GLANCE_SIZE = 8 * 1024 };

/* The stream of parameters, across its records: lengths of a name and a value
 * (section 3.4), then so many bytes. */
struct pairs {
	unsigned char lengths[8];
	unsigned n_lengths; /* bytes of them that have come */
	size_t n_skip;      /* bytes of name and value that are to come */
	unsigned n;         /* how many pairs have begun */
};

static unsigned
number(const unsigned char *b)
{
	return (unsigned)b[0] << 8 | b[1];
}

/* One length at *at, advanced; false when it has not come yet. */
static bool
length(const struct pairs *p, unsigned *at, uint32_t *length_r)
{
	const unsigned char *b = p->lengths + *at;
	unsigned n = *at < p->n_lengths && b[0] >> 7 ? 4 : 1;
	if (*at + n > p->n_lengths)
		return false;
	*length_r = n == 1 ? b[0]
			   : (uint32_t)(b[0] & 0x7f) << 24 | (uint32_t)b[1] << 16 |
				 (uint32_t)b[2] << 8 | b[3];
	*at += n;
	return true;
}

/* False when a pair is longer, or there are more, than can be. */
static bool
feed(struct pairs *p, const unsigned char *bytes, size_t len)
{
	while (len > 0) {
		uint32_t name, value;
		unsigned at = 0;
		size_t n = p->n_skip < len ? p->n_skip : len;
		if (n == 0) {
			p->lengths[p->n_lengths++] = bytes[0];
			n = 1;
			if (length(p, &at, &name) && length(p, &at, &value)) {
				if (name > MAX_LENGTH || value > MAX_LENGTH ||
				    ++p->n > MAX_PAIRS)
					return false;
				p->n_skip = (size_t)name + value;
				p->n_lengths = 0;
			}
		} else {
			p->n_skip -= n;
		}
		bytes += n;
		len -= n;
	}
	return true;
}

/* The state after one more whole record. */
static enum records_state
next(enum records_state state, struct pairs *p, int type, const unsigned char *content,
    size_t len)
{
	if (type == ABORT_REQUEST) /* without its parameters there is no answer */
		return state == RECORDS_BODY ? RECORDS_WHOLE : RECORDS_BROKEN;
	if (state == RECORDS_HEAD && type == PARAMS && len > 0)
		return feed(p, content, len) ? RECORDS_HEAD : RECORDS_BROKEN;
	if (state == RECORDS_HEAD && type == PARAMS)
		return p->n_skip == 0 && p->n_lengths == 0 ? RECORDS_BODY
							   : RECORDS_BROKEN;
	if (state == RECORDS_BODY && type == STDIN)
		return len > 0 ? RECORDS_BODY : RECORDS_WHOLE;
	return RECORDS_BROKEN;
}

/* Whether a first record begins a request that we serve. */
static bool
is_begin(const unsigned char *record, size_t content_len)
{
	const unsigned char *role = record + HEADER_LEN;
	return record[AT_TYPE] == BEGIN_REQUEST && content_len == BEGIN_LEN &&
	       number(role) == RESPONDER;
}

enum records_state
records_look(const unsigned char *bytes, size_t len)
{
	enum records_state state = RECORDS_HEAD;
	struct pairs pairs = {{0}, 0, 0, 0};
	size_t at = 0;
	while (at < len && state != RECORDS_WHOLE && state != RECORDS_BROKEN) {
		const unsigned char *r = bytes + at;
		if (r[AT_VERSION] != VERSION_1)
			return RECORDS_BROKEN;
		if (len - at < HEADER_LEN)
			break;
		size_t content = number(r + AT_LENGTH);
		bool is_ours =
		    number(r + AT_ID) && number(r + AT_ID) == number(bytes + AT_ID);
		/* libfcgi 2.4.2 reads this padding as records */
		bool is_misread = r[AT_PADDING] && (content == 0 || at == 0);
		if (!is_ours || is_misread || (at == 0 && r[AT_TYPE] != BEGIN_REQUEST))
			return RECORDS_BROKEN;
		if (len - at < HEADER_LEN + content + r[AT_PADDING])
			break;
		if (at > 0)
			state = next(state, &pairs, r[AT_TYPE], r + HEADER_LEN, content);
		else if (!is_begin(r, content))
			return RECORDS_BROKEN;
		at += HEADER_LEN + content + r[AT_PADDING];
	}
	return state;
}

static ssize_t
peek(int fd, unsigned char *bytes, size_t size, enum records_state *state_r)
{
	ssize_t len = recv(fd, bytes, size, MSG_PEEK | MSG_DONTWAIT);
	if (len == 0 || (len < 0 && errno != EAGAIN))
		return -1;
	*state_r = records_look(bytes, len > 0 ? (size_t)len : 0);
	if (*state_r == RECORDS_HEAD && len == LOOK_SIZE)
		*state_r = RECORDS_BROKEN;
	return len > 0 ? len : 0;
}

ssize_t
records_peek(int fd, enum records_state *state_r)
{
	unsigned char bytes[GLANCE_SIZE];
	ssize_t len = peek(fd, bytes, sizeof bytes, state_r);
	if (len < GLANCE_SIZE || *state_r == RECORDS_WHOLE)
		return len;
	unsigned char *all = malloc(LOOK_SIZE);
	if (all)
		len = peek(fd, all, LOOK_SIZE, state_r);
	free(all);
	return len;
}

static unsigned char *
put_header(unsigned char *out, int type, int id, size_t len)
{
	const unsigned char header[HEADER_LEN] = {VERSION_1, (unsigned char)type,
	    (unsigned char)(id >> 8), (unsigned char)id, (unsigned char)(len >> 8),
	    (unsigned char)len};
	memcpy(out, header, sizeof header);
	return out + sizeof header;
}

size_t
records_answer(unsigned char *out, int id, struct text header, struct text body)
{
	static const unsigned char complete[END_LEN];
	unsigned char *at = put_header(out, STDOUT, id, header.len + body.len);
	memcpy(at, header.ptr, header.len);
	at += header.len;
	if (body.len > 0)
		memcpy(at, body.ptr, body.len);
	at = put_header(at + body.len, STDOUT, id, 0);
	at = put_header(at, END_REQUEST, id, END_LEN);
	memcpy(at, complete, END_LEN);
	return (size_t)(at + END_LEN - out);
}
