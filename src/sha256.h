/* SHA-256 (FIPS 180-4) by nettle, which needs no memory and no start: libcrypto's
 * took half of all that a CGI request does.  Any thread. */
#ifndef SHA256_H
#define SHA256_H

#include "text.h"

enum { SHA256_LEN = 32 };

void sha256(struct text t, unsigned char digest[SHA256_LEN]);

/* Of n parts, one after the other. */
void sha256_of(const struct text *parts, size_t n, unsigned char digest[SHA256_LEN]);

/* In a time that does not depend on the digests. */
bool sha256_is(const unsigned char a[SHA256_LEN], const unsigned char b[SHA256_LEN]);

#endif
