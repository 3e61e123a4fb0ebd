#include "auth.h"

#include "sha256.h"

#include <stdlib.h>

struct entry {
	unsigned char digest[SHA256_LEN];
	const struct conf_source *source;
};

struct auth {
	size_t n;
	struct entry entries[];
};

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
			sha256(text_of(s->tokens[t]), a->entries[a->n].digest);
		}
	}
	return ERR_OK;
}

const struct conf_source *
auth_check(const struct auth *auth, const struct text *candidates, size_t n)
{
	const struct conf_source *found = NULL;
	unsigned char digest[SHA256_LEN];
	for (size_t c = 0; c < n; c++) {
		sha256(candidates[c], digest);
		for (size_t i = 0; i < auth->n; i++) {
			bool is_right = sha256_is(digest, auth->entries[i].digest);
			/* no token is empty, so an absent candidate is never right */
			if (is_right && !found)
				found = auth->entries[i].source;
		}
	}
	return found;
}

void
auth_close(struct auth **auth)
{
	free(*auth);
	*auth = NULL;
}
