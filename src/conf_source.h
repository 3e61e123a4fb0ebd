/* A [source NAME] of the configuration: who sends, by the token that is used, and
 * by the signature where one is asked for.  Of a token only the digest is kept,
 * and where a secret was read, its plain text is wiped. */
#ifndef CONF_SOURCE_H
#define CONF_SOURCE_H

#include "conf_value.h"
#include "sha256.h"
#include "signature.h"

/* A key as it stands in the file. */
struct conf_raw_key {
	char *text;
	int line;
};

struct conf_source {
	char *name;
	unsigned char (*digests)[SHA256_LEN]; /* of its tokens, all are valid */
	size_t n_digests;
	char *timezone;  /* IANA name, or NULL for UTC */
	char *device_id; /* or NULL */
	long signature;  /* enum signature */
	struct signature_key *keys;
	size_t n_keys;
	char *signature_header; /* as a CGI variable: HTTP_X_SIGNATURE */
	long signature_tolerance_ms;
	struct conf_raw_key *raw_keys; /* until conf_source_end() */
};

/* A new one with all defaults; name is taken over, NULL is no memory. */
bool conf_source_begin(struct conf_reader *r, struct conf_source *s, char *name);

/* Values of its keys; to is the struct conf_source. */
conf_read_fn conf_read_token, conf_read_token_file, conf_read_token_sha256,
    conf_read_signature_key, conf_read_signature_key_file, conf_read_signature_header;
extern const struct conf_word conf_signatures[];

/* When all has been read: false, and it was said what does not go together. */
bool conf_source_end(struct conf_reader *r, struct conf_source *s);

/* Whether they have a token in common. */
bool conf_source_shares(const struct conf_source *a, const struct conf_source *b);

void conf_source_free(struct conf_source *s);

#endif
