#include "sha256.h"

#include <nettle/memops.h>
#include <nettle/sha2.h>

_Static_assert(SHA256_LEN == SHA256_DIGEST_SIZE, "length of a digest");

void
sha256(struct text t, unsigned char digest[SHA256_LEN])
{
	sha256_of(&t, 1, digest);
}

void
sha256_of(const struct text *parts, size_t n, unsigned char digest[SHA256_LEN])
{
	struct sha256_ctx ctx;
	sha256_init(&ctx);
	for (size_t i = 0; i < n; i++)
		sha256_update(&ctx, parts[i].len, (const uint8_t *)parts[i].ptr);
	sha256_digest(&ctx, SHA256_LEN, digest);
	explicit_bzero(&ctx, sizeof ctx); /* it holds the end of the text */
}

bool
sha256_is(const unsigned char a[SHA256_LEN], const unsigned char b[SHA256_LEN])
{
	return memeql_sec(a, b, SHA256_LEN) != 0;
}
