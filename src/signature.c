#include "signature.h"

#include "sha256.h"

#include <ctype.h>
#include <nettle/base64.h>
#include <nettle/hmac.h>

enum { MIN_KEY_LEN = 16, MIN_STANDARD_LEN = 24, MAX_STANDARD_LEN = 64 };

/* Decodes base64 of at most size bytes: how many, or -1. */
static int
from_base64(struct text t, unsigned char *out, size_t size)
{
	unsigned char bytes[BASE64_DECODE_LENGTH(2 * SIGNATURE_KEY_LEN)];
	struct base64_decode_ctx ctx;
	size_t len;
	base64_decode_init(&ctx);
	if (BASE64_DECODE_LENGTH(t.len) > sizeof bytes ||
	    !base64_decode_update(&ctx, &len, bytes, t.len, t.ptr) ||
	    !base64_decode_final(&ctx) || len > size)
		return -1;
	memcpy(out, bytes, len);
	explicit_bzero(bytes, sizeof bytes);
	return (int)len;
}

const char *
signature_key_read(struct signature_key *key_r, enum signature method, const char *text)
{
	struct text t = text_of(text);
	if (method != SIGNATURE_STANDARD_WEBHOOKS) {
		if (t.len < MIN_KEY_LEN || t.len > SIGNATURE_KEY_LEN ||
		    strcspn(text, " \t\"'#;") < t.len)
			return "a key has 16 to 128 characters, and no blank, quote, # "
			       "or ;";
		memcpy(key_r->bytes, t.ptr, t.len);
		key_r->len = t.len;
		return NULL;
	}
	if (strncmp(text, "whsec_", 6) == 0)
		t = text_of(text + 6);
	int len = from_base64(t, key_r->bytes, sizeof key_r->bytes);
	if (len < MIN_STANDARD_LEN || len > MAX_STANDARD_LEN)
		return "a key is the base64 of 24 to 64 bytes, with whsec_ in front";
	key_r->len = (size_t)len;
	return NULL;
}

/* The MAC by key of some texts, one after the other. */
static void
mac(const struct signature_key *key, const struct text *texts, size_t n,
    unsigned char digest[SHA256_LEN])
{
	struct hmac_sha256_ctx ctx;
	hmac_sha256_set_key(&ctx, key->len, key->bytes);
	for (size_t i = 0; i < n; i++)
		hmac_sha256_update(&ctx, texts[i].len, (const uint8_t *)texts[i].ptr);
	hmac_sha256_digest(&ctx, SHA256_LEN, digest);
}

/* Whether a webhook-signature has digest: signatures with spaces between them, each
 * with its version in front; v1 is the symmetric one. */
static bool
has_base64(struct text list, const unsigned char digest[SHA256_LEN])
{
	unsigned char signature[SHA256_LEN];
	bool is_there = false;
	for (const char *p = list.ptr, *end = p + list.len; p < end;) {
		const char *space = memchr(p, ' ', (size_t)(end - p));
		struct text one = {p, (size_t)((space ? space : end) - p)};
		p += one.len + 1;
		if (one.len > 0 && one.ptr[one.len - 1] == ',')
			one.len--; /* a web server has joined two headers */
		if (one.len < 3 || memcmp(one.ptr, "v1,", 3) != 0)
			continue;
		one = (struct text){one.ptr + 3, one.len - 3};
		if (from_base64(one, signature, sizeof signature) == SHA256_LEN)
			is_there = sha256_is(digest, signature) || is_there;
	}
	return is_there;
}

/* Whether text has it, in hexadecimal, with the prefix that some senders give it, or
 * in base64. */
static bool
has_digest(struct text t, const unsigned char digest[SHA256_LEN])
{
	unsigned char signature[SHA256_LEN];
	if (t.len > 7 && memcmp(t.ptr, "sha256=", 7) == 0)
		t = (struct text){t.ptr + 7, t.len - 7};
	return (text_unhex(t, signature, sizeof signature) ||
		   from_base64(t, signature, sizeof signature) == SHA256_LEN) &&
	       sha256_is(digest, signature);
}

/* Whether one of the keys made one of the signatures.  Each key is used once, however
 * many signatures a stranger lists. */
static bool
is_signed(bool (*has)(struct text, const unsigned char *), struct text signatures,
    const struct signature_key *keys, size_t n_keys, const struct text *texts, size_t n)
{
	unsigned char digest[SHA256_LEN];
	bool is_right = false;
	for (size_t i = 0; i < n_keys; i++) {
		mac(&keys[i], texts, n, digest);
		is_right = has(signatures, digest) || is_right;
	}
	return is_right;
}

/* A Unix time in seconds, -1 when it is none. */
static int64_t
time_of(struct text t)
{
	int64_t time = 0;
	if (t.len == 0 || t.len > 15)
		return -1;
	for (size_t i = 0; i < t.len; i++) {
		if (!isdigit((unsigned char)t.ptr[i]))
			return -1;
		time = time * 10 + (t.ptr[i] - '0');
	}
	return time;
}

static const char *
standard_fault(const struct signature_key *keys, size_t n,
    const struct signature_message *m, int64_t now, int64_t tolerance)
{
	const struct text texts[] = {m->id, TEXT("."), m->timestamp, TEXT("."), m->body};
	if (m->id.len == 0 || m->timestamp.len == 0 || m->signature.len == 0)
		return "webhook-id, webhook-timestamp or webhook-signature is missing";
	int64_t time = time_of(m->timestamp);
	if (time < 0)
		return "webhook-timestamp is no Unix time in seconds";
	if (time < now - tolerance || time > now + tolerance)
		return "webhook-timestamp is too far from the time here";
	return is_signed(
		   has_base64, m->signature, keys, n, texts, sizeof texts / sizeof *texts)
		   ? NULL
		   : "webhook-signature fits neither the body nor a key";
}

static const char *
plain_fault(const struct signature_key *keys, size_t n, const struct signature_message *m)
{
	if (m->signature.len == 0)
		return "the header with the signature is missing";
	return is_signed(has_digest, m->signature, keys, n, &m->body, 1)
		   ? NULL
		   : "the signature fits neither the body nor a key";
}

const char *
signature_fault(enum signature method, const struct signature_key *keys, size_t n,
    const struct signature_message *m, int64_t now, int64_t tolerance)
{
	return method == SIGNATURE_NONE ? NULL
	       : method == SIGNATURE_STANDARD_WEBHOOKS
		   ? standard_fault(keys, n, m, now, tolerance)
		   : plain_fault(keys, n, m);
}
