/* Signatures over a webhook, for senders that have them and relays that add them:
 * Standard Webhooks 1.0 with symmetric keys (standardwebhooks.com, "Verifying"), or
 * the HMAC-SHA256 (RFC 2104) of the body in hexadecimal or base64.  By nettle; a
 * comparison takes the same time whatever differs.  Pure; any thread. */
#ifndef SIGNATURE_H
#define SIGNATURE_H

#include "text.h"

#include <stdint.h>

enum signature { SIGNATURE_NONE, SIGNATURE_STANDARD_WEBHOOKS, SIGNATURE_HMAC_SHA256 };

enum { SIGNATURE_KEY_LEN = 128 };

struct signature_key {
	unsigned char bytes[SIGNATURE_KEY_LEN];
	size_t len;
};

/* Reads a key as it is written down: base64 of 24 to 64 bytes, with or without
 * whsec_ in front, for Standard Webhooks; else the text itself, 16 bytes or more.
 * NULL, or what is wrong with it, a literal. */
const char *signature_key_read(
    struct signature_key *key_r, enum signature method, const char *text);

/* What was signed, and how; absent texts have ptr NULL. */
struct signature_message {
	struct text id, timestamp; /* of Standard Webhooks */
	struct text signature;
	struct text body;
};

/* NULL when one of n keys made the signature; else what is wrong, a literal.  now
 * and tolerance in seconds: how far the timestamp may be away, either way. */
const char *signature_fault(enum signature method, const struct signature_key *keys,
    size_t n, const struct signature_message *m, int64_t now, int64_t tolerance);

#endif
