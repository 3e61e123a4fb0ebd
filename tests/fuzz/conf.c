/* A configuration file and, behind a byte 1, a file of tokens.  Linked with
 * --wrap=fopen, for a token_file may name any file: there is /tokens, and
 * /open, the same for all to read. */
#include "fuzz.h"

#include "conf.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *conf_path; /* while it is read */
static struct text tokens;

FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode);

FILE *
__wrap_fopen(const char *path, const char *mode)
{
	if (!conf_path || path == conf_path)
		return __real_fopen(path, mode);
	if (strcmp(path, "/tokens") == 0 || strcmp(path, "/open") == 0) {
		int fd = memfd_create("tokens", MFD_CLOEXEC);
		CHECK(fd >= 0 && fchmod(fd, path[1] == 't' ? 0600 : 0644) == 0);
		CHECK(write(fd, tokens.ptr, tokens.len) == (ssize_t)tokens.len);
		CHECK(lseek(fd, 0, SEEK_SET) == 0);
		return fdopen(fd, "r");
	}
	errno = ENOENT;
	return NULL;
}

static bool
is_in(long n, long min, long max)
{
	return n >= min && n <= max;
}

static void
check_signature(const struct conf_source *s)
{
	bool is_standard = s->signature == SIGNATURE_STANDARD_WEBHOOKS;
	const char *header = s->signature_header;
	CHECK(is_in(s->signature, SIGNATURE_NONE, SIGNATURE_HMAC_SHA256));
	CHECK((s->signature != SIGNATURE_NONE) == (s->n_keys > 0) && !s->raw_keys);
	for (size_t i = 0; i < s->n_keys; i++)
		CHECK(is_in(
		    (long)s->keys[i].len, is_standard ? 24 : 16, is_standard ? 64 : 128));
	CHECK(strncmp(header, "HTTP_", 5) == 0 && strlen(header) <= 69);
	CHECK(strspn(header, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == strlen(header));
	CHECK(is_in(s->signature_tolerance_ms, 1000, 86400000));
}

static void
check_source(const struct conf *c, const struct conf_source *s)
{
	unsigned char empty[SHA256_LEN];
	CHECK(*s->name && strlen(s->name) <= 64 && fuzz_is_printable(text_of(s->name)));
	CHECK(conf_source_named(c, text_of(s->name)) == s);
	CHECK(s->n_digests > 0);
	sha256(TEXT(""), empty);
	for (size_t i = 0; i < s->n_digests; i++)
		CHECK(memcmp(s->digests[i], empty, sizeof empty) != 0);
	check_signature(s);
	CHECK(fuzz_is_printable(text_of(s->timezone)));
	CHECK(!s->timezone || !strstr(s->timezone, ".."));
	CHECK(fuzz_is_printable(text_of(s->device_id)));
}

static void
check_conf(const struct conf *c)
{
	const char *spool = c->spool_directory;
	CHECK(is_in(c->threads, 1, 1024) && is_in(c->socket_mode, 0, 0777));
	CHECK(is_in(c->max_body, 1024, 512 << 10));
	CHECK(is_in(c->request_timeout_ms, 2000, 60000));
	CHECK(is_in(c->timeout_ms, 100, c->request_timeout_ms - 1));
	CHECK(is_in(c->notify, 0, 1) && is_in(c->spool_max_size, 64 << 10, LONG_MAX));
	CHECK(is_in(c->log_level, LOG_LEVEL_DEBUG, LOG_LEVEL_ERROR));
	CHECK(is_in(c->log_target, LOG_TARGET_STDERR, LOG_TARGET_SYSLOG));
	CHECK(fuzz_is_printable(text_of(c->conninfo)));
	CHECK(*spool == '/' && fuzz_is_printable(text_of(spool)));
	CHECK(!spool[1] || spool[strlen(spool) - 1] != '/');
	CHECK(c->n_sources > 0);
	for (size_t i = 0; i < c->n_sources; i++)
		check_source(c, &c->sources[i]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct conf empty;
	struct conf c;
	const char *text = (const char *)data, *behind = memchr(text, 1, size);
	tokens = TEXT("# ours\nfile-token-aaaaaaaa\n\n  \n");
	if (behind)
		tokens = (struct text){behind + 1, size - (size_t)(behind + 1 - text)};
	size_t conf_len = behind ? (size_t)(behind - text) : size;
	conf_path = fuzz_file(data, conf_len);
	*fuzz_log = '\0';
	fuzz_log_n = 0;
	enum err e = conf_load(&c, conf_path);
	conf_path = NULL;
	CHECK(e == ERR_OK || e == ERR_CONFIG);
	CHECK(fuzz_log_n == (e ? 1 : 0)); /* one reason, not none */
	CHECK(!strstr(fuzz_log, "(null)") || memmem(data, size, "(null)", 6));
	CHECK(!strstr(fuzz_log, "CANARY") || memmem(data, conf_len, "CANARY", 6));
	if (!e)
		check_conf(&c);
	conf_free(&c);
	CHECK(memcmp(&c, &empty, sizeof c) == 0);
	conf_free(&c);
	return 0;
}
