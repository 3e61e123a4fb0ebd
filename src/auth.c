#include "auth.h"

#include "log.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>

enum { DIGEST_LEN = 32 };

struct entry {
	unsigned char digest[DIGEST_LEN];
	const struct conf_source *source;
};

struct auth {
	size_t n;
	struct entry entries[];
};

static bool
sha256(struct text t, unsigned char digest[DIGEST_LEN])
{
	return EVP_Digest(t.ptr ? t.ptr : "", t.len, digest, NULL, EVP_sha256(), NULL) ==
	       1;
}

enum err
auth_open(struct auth **auth_r, const struct conf *conf)
{
	size_t n = 0;
	for (size_t i = 0; i < conf->n_sources; i++)
		n += conf->sources[i].n_tokens;
	struct auth *a = malloc(sizeof *a + n * sizeof *a->entries);
	*auth_r = a;
	if (!a)
		return ERR_MEMORY;
	a->n = 0;
	for (size_t i = 0; i < conf->n_sources; i++) {
		const struct conf_source *s = &conf->sources[i];
		for (size_t t = 0; t < s->n_tokens; t++, a->n++) {
			a->entries[a->n].source = s;
			if (!sha256(text_of(s->tokens[t]), a->entries[a->n].digest)) {
				log_error("libcrypto has no SHA-256");
				return ERR_SYSTEM;
			}
		}
	}
	return ERR_OK;
}

enum err
auth_check(const struct auth *auth, const struct text *candidates, size_t n,
    const struct conf_source **source_r)
{
	unsigned char digest[DIGEST_LEN];
	*source_r = NULL;
	for (size_t c = 0; c < n; c++) {
		if (!sha256(candidates[c], digest))
			return ERR_MEMORY; /* it is our fault, not the sender's */
		for (size_t i = 0; i < auth->n; i++) {
			bool is_right = CRYPTO_memcmp(digest, auth->entries[i].digest,
					    DIGEST_LEN) == 0;
			/* no token is empty, so an absent candidate is never right */
			if (is_right && !*source_r)
				*source_r = auth->entries[i].source;
		}
	}
	return *source_r ? ERR_OK : ERR_TOKEN;
}

void
auth_close(struct auth **auth)
{
	free(*auth);
	*auth = NULL;
}
