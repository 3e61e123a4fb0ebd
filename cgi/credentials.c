#include "credentials.h"

#include <nettle/base64.h>
#include <strings.h>

/* RFC 3986, section 2.1.  Absent when it is longer than a token may be. */
static struct text
percent_decode(struct text t, char out[CREDENTIAL_LEN])
{
	size_t n = 0;
	if (!t.ptr)
		return t;
	for (size_t i = 0; i < t.len; i++) {
		bool is_escape = t.ptr[i] == '%' && i + 2 < t.len &&
				 text_hex(t.ptr[i + 1]) >= 0 &&
				 text_hex(t.ptr[i + 2]) >= 0;
		if (n == CREDENTIAL_LEN)
			return (struct text){0};
		out[n++] =
		    is_escape
			? (char)(text_hex(t.ptr[i + 1]) * 16 + text_hex(t.ptr[i + 2]))
			: t.ptr[i];
		i += is_escape ? 2 : 0;
	}
	return (struct text){out, n};
}

struct text
credentials_segment(struct text path)
{
	if (!path.ptr)
		return path;
	const char *p = path.ptr, *end = path.ptr + path.len;
	while (p < end && *p == '/')
		p++;
	const char *start = p;
	while (p < end && *p != '/')
		p++;
	struct text segment = {start, (size_t)(p - start)};
	while (p < end && *p == '/')
		p++;
	return p == end && segment.len > 0 ? segment : (struct text){0};
}

static struct text
from_query(struct text query)
{
	static const char name[] = "token=";
	if (!query.ptr)
		return query;
	const char *p = query.ptr, *end = query.ptr + query.len;
	while (p < end) {
		const char *amp = memchr(p, '&', (size_t)(end - p));
		const char *stop = amp ? amp : end;
		if ((size_t)(stop - p) > strlen(name) &&
		    memcmp(p, name, strlen(name)) == 0)
			return (struct text){
			    p + strlen(name), (size_t)(stop - p) - strlen(name)};
		p = stop + 1;
	}
	return (struct text){0};
}

/* What follows a scheme's name in Authorization (RFC 9110, section 11.4). */
static struct text
scheme(struct text header, const char *name)
{
	size_t len = strlen(name);
	if (header.len <= len || strncasecmp(header.ptr, name, len) != 0 ||
	    header.ptr[len] != ' ')
		return (struct text){0};
	while (len < header.len && header.ptr[len] == ' ')
		len++;
	return (struct text){header.ptr + len, header.len - len};
}

/* RFC 7617: base64 of user:password. */
static struct text
basic_password(struct text base64, char out[CREDENTIAL_LEN])
{
	struct base64_decode_ctx ctx;
	size_t len;
	if (!base64.ptr || BASE64_DECODE_LENGTH(base64.len) > CREDENTIAL_LEN)
		return (struct text){0};
	base64_decode_init(&ctx);
	if (!base64_decode_update(&ctx, &len, (uint8_t *)out, base64.len, base64.ptr) ||
	    !base64_decode_final(&ctx))
		return (struct text){0};
	char *colon = memchr(out, ':', len);
	if (!colon)
		return (struct text){0};
	return (struct text){colon + 1, (size_t)(out + len - colon - 1)};
}

void
credentials_read(struct credentials *c, const struct request *req)
{
	c->candidates[0] = percent_decode(credentials_segment(req->path), c->bytes[0]);
	c->candidates[1] = percent_decode(from_query(req->query), c->bytes[1]);
	c->candidates[2] = scheme(req->authorization, "Bearer");
	c->candidates[3] =
	    basic_password(scheme(req->authorization, "Basic"), c->bytes[3]);
	c->candidates[4] = req->webhook_token;
}
