#include "conf_source.h"

#include "log.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_TOKEN = 128 }; /* what requests may carry, by credentials.h */
enum { MAX_RAW_KEY = 2 * SIGNATURE_KEY_LEN, TOLERANCE_MS = 5 * 60 * 1000 };

const struct conf_word conf_signatures[] = {
    {"standard-webhooks", SIGNATURE_STANDARD_WEBHOOKS},
    {"hmac-sha256", SIGNATURE_HMAC_SHA256}, {NULL, 0}};

bool
conf_source_begin(struct conf_reader *r, struct conf_source *s, char *name)
{
	*s = (struct conf_source){.name = name};
	return name || conf_no_memory(r);
}

/* -------------------------------------------------------------- secrets */

static bool
add_digest(
    struct conf_reader *r, struct conf_source *s, const unsigned char digest[SHA256_LEN])
{
	void *grown = realloc(s->digests, (s->n_digests + 1) * sizeof *s->digests);
	if (!grown)
		return conf_no_memory(r);
	s->digests = grown;
	memcpy(s->digests[s->n_digests++], digest, SHA256_LEN);
	return true;
}

static bool
add_token(struct conf_reader *r, struct conf_source *s, const char *token)
{
	unsigned char digest[SHA256_LEN];
	if (!conf_is_made_of(token, "-._~"))
		return conf_fail(r,
		    "[source %s] token: only letters, digits and - . _ ~ can "
		    "stand in a URL as they are",
		    s->name);
	if (strcmp(token, "healthz") == 0 || strcmp(token, "metrics") == 0)
		return conf_fail(
		    r, "[source %s] token: %s is an address of its own", s->name, token);
	if (strlen(token) > MAX_TOKEN)
		return conf_fail(r, "[source %s] token: longer than %d characters",
		    s->name, MAX_TOKEN);
	if (strlen(token) < 16)
		log_warn(
		    "%s:%d: [source %s] token: shorter than 16 characters, someone may "
		    "guess it; make one with: smshook token new",
		    r->path, r->line, s->name);
	sha256(text_of(token), digest);
	return add_digest(r, s, digest);
}

static bool
add_key(struct conf_reader *r, struct conf_source *s, const char *key)
{
	struct conf_raw_key *grown =
	    realloc(s->raw_keys, (s->n_keys + 1) * sizeof *grown);
	if (!grown)
		return conf_no_memory(r);
	s->raw_keys = grown;
	if (strlen(key) > MAX_RAW_KEY)
		return conf_fail(r,
		    "[source %s] signature_key: longer than %d characters", s->name,
		    MAX_RAW_KEY);
	grown[s->n_keys] = (struct conf_raw_key){strdup(key), r->line};
	return grown[s->n_keys].text ? ++s->n_keys : conf_no_memory(r);
}

/* A line each, but for empty ones and comments.  The name of the file is quoted only
 * if it looks like one: it may be the secret itself. */
static bool
read_secrets(struct conf_reader *r, const struct conf_key *k, struct conf_source *s,
    const char *path,
    bool (*add)(struct conf_reader *, struct conf_source *, const char *))
{
	char line[512], buffer[4096];
	struct stat st;
	bool ok = true;
	int n = 0;
	if (*path != '/')
		return conf_fail(
		    r, "%s: the path of a file is expected, from its first /", k->name);
	FILE *f = fopen(path, "re");
	if (!f)
		return conf_fail(r, "%s = %s: %s", k->name, path, strerror(errno));
	setvbuf(f, buffer, _IOFBF, sizeof buffer);
	if (fstat(fileno(f), &st) == 0 && (st.st_mode & S_IROTH))
		ok = conf_fail(
		    r, "%s = %s: everybody may read it; chmod o= it", k->name, path);
	while (ok && fgets(line, sizeof line, f)) {
		if (!strchr(line, '\n') && !feof(f))
			ok = conf_fail(r, "%s = %s: a line is too long", k->name, path);
		size_t len = strlen(line);
		while (len > 0 && isspace((unsigned char)line[len - 1]))
			line[--len] = '\0';
		if (ok && *line && *line != '#') {
			ok = add(r, s, line);
			n++;
		}
	}
	fclose(f);
	explicit_bzero(line, sizeof line);
	explicit_bzero(buffer, sizeof buffer);
	if (ok && n == 0)
		return conf_fail(r, "%s = %s: there is nothing in it", k->name, path);
	return ok;
}

bool
conf_read_token(
    struct conf_reader *r, const struct conf_key *k, void *to, const char *value)
{
	(void)k;
	r->has_secret = true;
	return add_token(r, to, value);
}

bool
conf_read_token_file(
    struct conf_reader *r, const struct conf_key *k, void *to, const char *value)
{
	return read_secrets(r, k, to, value, add_token);
}

/* No secret: nobody finds a token of chance by its digest. */
bool
conf_read_token_sha256(
    struct conf_reader *r, const struct conf_key *k, void *to, const char *value)
{
	struct conf_source *s = to;
	unsigned char digest[SHA256_LEN], empty[SHA256_LEN];
	if (!text_unhex(text_of(value), digest, sizeof digest))
		return conf_fail(r,
		    "[source %s] %s: 64 hexadecimal digits are expected, as smshook "
		    "token "
		    "new prints them",
		    s->name, k->name);
	sha256(TEXT(""), empty);
	if (sha256_is(digest, empty))
		return conf_fail(r,
		    "[source %s] %s: that is the digest of no token at all", s->name,
		    k->name);
	return add_digest(r, s, digest);
}

bool
conf_read_signature_key(
    struct conf_reader *r, const struct conf_key *k, void *to, const char *value)
{
	(void)k;
	r->has_secret = true;
	return add_key(r, to, value);
}

bool
conf_read_signature_key_file(
    struct conf_reader *r, const struct conf_key *k, void *to, const char *value)
{
	return read_secrets(r, k, to, value, add_key);
}

/* RFC 3875, section 4.1.18: a header field becomes a variable. */
bool
conf_read_signature_header(
    struct conf_reader *r, const struct conf_key *k, void *to, const char *value)
{
	struct conf_source *s = to;
	char *variable;
	if (!conf_is_made_of(value, "-") || strlen(value) > 64)
		return conf_fail(r,
		    "[source %s] %s: the name of a header is expected, such as "
		    "X-Signature",
		    s->name, k->name);
	if (asprintf(&variable, "HTTP_%s", value) < 0)
		return conf_no_memory(r);
	for (char *p = variable; *p; p++)
		*p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
	free(s->signature_header);
	s->signature_header = variable;
	return true;
}

/* --------------------------------------------------------------- the end */

static void
forget_raw_keys(struct conf_source *s)
{
	for (size_t i = 0; s->raw_keys && i < s->n_keys; i++) {
		explicit_bzero(s->raw_keys[i].text, strlen(s->raw_keys[i].text));
		free(s->raw_keys[i].text);
	}
	free(s->raw_keys);
	s->raw_keys = NULL;
}

bool
conf_source_end(struct conf_reader *r, struct conf_source *s)
{
	const char *fault = NULL;
	if (s->n_digests == 0)
		return conf_fail(r, "[source %s] has no token", s->name);
	if (s->signature && s->n_keys == 0)
		return conf_fail(
		    r, "[source %s] signature without a signature_key", s->name);
	if (!s->signature && s->n_keys > 0)
		return conf_fail(r,
		    "[source %s] signature_key without signature = standard-webhooks or "
		    "hmac-sha256",
		    s->name);
	if (s->signature_header && s->signature != SIGNATURE_HMAC_SHA256)
		return conf_fail(r,
		    "[source %s] signature_header is of signature = hmac-sha256 alone",
		    s->name);
	if (s->signature_tolerance_ms && s->signature != SIGNATURE_STANDARD_WEBHOOKS)
		return conf_fail(r,
		    "[source %s] signature_tolerance is of signature = "
		    "standard-webhooks alone",
		    s->name);
	if (!s->signature_tolerance_ms)
		s->signature_tolerance_ms = TOLERANCE_MS;
	if (!s->signature_header && !(s->signature_header = strdup("HTTP_X_SIGNATURE")))
		return conf_no_memory(r);
	s->keys = calloc(s->n_keys + 1, sizeof *s->keys);
	if (!s->keys)
		return conf_no_memory(r);
	for (size_t i = 0; !fault && i < s->n_keys; i++) {
		r->line = s->raw_keys[i].line;
		fault = signature_key_read(
		    &s->keys[i], (enum signature)s->signature, s->raw_keys[i].text);
	}
	forget_raw_keys(s);
	return !fault || conf_fail(r, "[source %s] signature_key: %s", s->name, fault);
}

bool
conf_source_shares(const struct conf_source *a, const struct conf_source *b)
{
	for (size_t i = 0; i < a->n_digests; i++)
		for (size_t k = 0; k < b->n_digests; k++)
			if (sha256_is(a->digests[i], b->digests[k]))
				return true;
	return false;
}

void
conf_source_free(struct conf_source *s)
{
	forget_raw_keys(s);
	if (s->keys)
		explicit_bzero(s->keys, s->n_keys * sizeof *s->keys);
	free(s->keys);
	free(s->digests);
	free(s->signature_header);
	free(s->name);
	free(s->timezone);
	free(s->device_id);
}
