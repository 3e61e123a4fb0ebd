#include "auth.h"

#include "sha256.h"

/* found, or s where one of its digests is this one. */
static const struct conf_source *
compare(const struct conf_source *s, const unsigned char digest[SHA256_LEN],
    const struct conf_source *found)
{
	for (size_t i = 0; i < s->n_digests; i++) {
		bool is_right = sha256_is(digest, s->digests[i]);
		/* no token is empty, so an absent candidate is never right */
		if (is_right && !found)
			found = s;
	}
	return found;
}

const struct conf_source *
auth_check(const struct conf *conf, const struct text *candidates, size_t n)
{
	const struct conf_source *found = NULL;
	unsigned char digest[SHA256_LEN];
	for (size_t c = 0; c < n; c++) {
		sha256(candidates[c], digest);
		for (size_t i = 0; i < conf->n_sources; i++)
			found = compare(&conf->sources[i], digest, found);
	}
	return found;
}
