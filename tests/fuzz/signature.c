/* Signatures: a line each for method (s or h), key, webhook-id, webhook-timestamp and
 * signature; the rest is the body.  Then the same message, signed by us. */
#include "fuzz.h"

#include "sha256.h"
#include "signature.h"

#include <nettle/base64.h>
#include <nettle/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { NOW = 1700000000, TOLERANCE = 300, HEX_LEN = 2 * SHA256_LEN };
enum { BASE64_LEN = BASE64_ENCODE_RAW_LENGTH(SHA256_LEN) };

static void
mac(const struct signature_key *key, bool is_standard, const struct signature_message *m,
    unsigned char digest[SHA256_LEN])
{
	const struct text parts[] = {m->id, {".", 1}, m->timestamp, {".", 1}, m->body};
	struct hmac_sha256_ctx ctx;
	hmac_sha256_set_key(&ctx, key->len, key->bytes);
	for (size_t i = is_standard ? 0 : 4; i < 5; i++)
		hmac_sha256_update(&ctx, parts[i].len, (const uint8_t *)parts[i].ptr);
	hmac_sha256_digest(&ctx, SHA256_LEN, digest);
}

/* As a header has it: v1,BASE64 or hexadecimal digits. */
static void
write_mac(const unsigned char digest[SHA256_LEN], bool is_standard, char out[80])
{
	if (is_standard) {
		memcpy(out, "v1,", 3);
		base64_encode_raw(out + 3, SHA256_LEN, digest);
		out[3 + BASE64_LEN] = '\0';
	} else {
		for (int i = 0; i < SHA256_LEN; i++)
			snprintf(out + 2 * i, 3, "%02x", digest[i]);
	}
}

/* Whether the MAC stands in t; base64 may have white space in it. */
static bool
has_mac(struct text t, const char *written, bool is_standard)
{
	char *s = malloc(t.len + 1);
	size_t len = 0;
	CHECK(s);
	for (size_t i = 0; i < t.len; i++)
		if (!is_standard || !memchr("\t\n\v\f\r", t.ptr[i], 5))
			s[len++] = t.ptr[i];
	bool has = is_standard ? memmem(s, len, written, strlen(written)) != NULL
			       : len >= HEX_LEN && strncasecmp(s + len - HEX_LEN, written,
						       HEX_LEN) == 0;
	free(s);
	return has;
}

static void
check_given(
    const struct signature_key *key, bool is_standard, const struct signature_message *m)
{
	enum signature method =
	    is_standard ? SIGNATURE_STANDARD_WEBHOOKS : SIGNATURE_HMAC_SHA256;
	unsigned char digest[SHA256_LEN];
	char written[80], time[32];
	const char *fault = signature_fault(method, key, 1, m, NOW, TOLERANCE);
	CHECK(!fault || (*fault && fuzz_is_printable(text_of(fault))));
	CHECK(signature_fault(method, key, 0, m, NOW, TOLERANCE));
	if (fault)
		return;
	mac(key, is_standard, m, digest);
	write_mac(digest, is_standard, written);
	CHECK(has_mac(m->signature, written, is_standard));
	snprintf(time, sizeof time, "%.*s", (int)m->timestamp.len, m->timestamp.ptr);
	CHECK(!is_standard || llabs(atoll(time) - NOW) <= TOLERANCE);
}

static void
check_own(const struct signature_key *key, bool is_standard, struct signature_message m)
{
	enum signature method =
	    is_standard ? SIGNATURE_STANDARD_WEBHOOKS : SIGNATURE_HMAC_SHA256;
	struct signature_key keys[2] = {*key, *key};
	unsigned char digest[SHA256_LEN];
	char written[80];
	m.id = m.id.len > 0 ? m.id : TEXT("id");
	m.timestamp = TEXT("1699999700");
	mac(key, is_standard, &m, digest);
	write_mac(digest, is_standard, written);
	m.signature = text_of(written);
	keys[0].bytes[0] ^= 1;
	CHECK(signature_fault(method, keys, 1, &m, NOW, TOLERANCE));
	CHECK(!signature_fault(method, keys, 2, &m, NOW, TOLERANCE));
	CHECK(!is_standard == !signature_fault(method, keys, 2, &m, NOW + 1, TOLERANCE));
	m.signature.len--;
	CHECK(signature_fault(method, keys, 2, &m, NOW, TOLERANCE));
	m.signature.len++;
	m.body = TEXT("another body, that nobody has signed");
	CHECK(signature_fault(method, keys, 2, &m, NOW, TOLERANCE));
}

/* The next line of *rest, in memory of its own; the caller frees it. */
static struct text
line(struct text *rest)
{
	const char *end = rest->len > 0 ? memchr(rest->ptr, '\n', rest->len) : NULL;
	size_t len = end ? (size_t)(end - rest->ptr) : rest->len;
	struct text copy = {fuzz_copy(rest->ptr, len), len};
	size_t used = len + (end != NULL);
	*rest = (struct text){rest->ptr + used, rest->len - used};
	return copy;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct text rest = {(const char *)data, size}, lines[5];
	struct signature_key key;
	char text[400];
	for (size_t i = 0; i < 5; i++)
		lines[i] = line(&rest);
	bool is_standard = text_is(lines[0], "s");
	const struct signature_message m = {lines[2], lines[3], lines[4], rest};
	snprintf(text, sizeof text, "%.*s", (int)lines[1].len, lines[1].ptr);
	const char *fault = signature_key_read(&key,
	    is_standard ? SIGNATURE_STANDARD_WEBHOOKS : SIGNATURE_HMAC_SHA256, text);
	if (!fault) {
		CHECK(key.len >= (is_standard ? 24 : 16));
		CHECK(key.len <= (is_standard ? 64 : 128));
		check_given(&key, is_standard, &m);
		check_own(&key, is_standard, m);
	}
	for (size_t i = 0; i < 5; i++)
		free((char *)lines[i].ptr);
	return 0;
}
