#include "unit.h"

#include "capture.h"
#include "conf.h"

#include <sys/stat.h>

static char dir[] = "/tmp/smshook-conf-XXXXXX", path[100], token_path[100];
static struct conf conf;
static struct capture c;

static void
write_file(const char *to, const char *text, mode_t mode)
{
	FILE *f = fopen(to, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	chmod(to, mode);
}

/* Reads a configuration of that text; what was logged is in c.text. */
static enum err
load(const char *text)
{
	conf_free(&conf);
	write_file(path, text, 0600);
	capture_begin(&c);
	enum err e = conf_load(&conf, path);
	capture_end(&c);
	return e;
}

/* The digests of nothing, and of the token of SHOP. */
#define OF_NOTHING "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define OF_SHOP    "9F9F5111F7B27A781F1F1DDDE5EBC2DD2B796BFC7365C9C28B548E564176929F"
#define OF_OTHER                                                                                     \
	"0C72036D7FC2CBD234D7168007CCE4AFF1BC843D02D699F022C220AB28286C56" /* digest-token-of-length \
									    */
#define WHSEC "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define SHOP  "[source shop]\ntoken = 0123456789abcdef\n"

static void
defaults(void **state)
{
	(void)state;
	assert_int_equal(load(SHOP), ERR_OK);
	assert_string_equal(c.text, "");
	assert_int_equal(conf.threads, 64);
	assert_int_equal(conf.socket_mode, 0660);
	assert_int_equal(conf.max_body, 65536);
	assert_int_equal(conf.request_timeout_ms, 4000);
	assert_int_equal(conf.timeout_ms, 2000);
	assert_string_equal(conf.conninfo, "");
	assert_true(conf.notify);
	assert_int_equal(conf.log_level, LOG_LEVEL_INFO);
	assert_int_equal(conf.n_sources, 1);
	assert_string_equal(conf.sources[0].name, "shop");
	assert_null(conf.sources[0].timezone);
	assert_int_equal(conf.sources[0].signature, SIGNATURE_NONE);
	assert_string_equal(conf.sources[0].signature_header, "HTTP_X_SIGNATURE");
	assert_int_equal(conf.sources[0].signature_tolerance_ms, 300000);
}

static void
assert_token(int source, int n, const char *token)
{
	unsigned char digest[SHA256_LEN];
	sha256(text_of(token), digest);
	assert_memory_equal(conf.sources[source].digests[n], digest, SHA256_LEN);
}

static void
assert_key(int source, int n, struct text bytes)
{
	const struct signature_key *key = &conf.sources[source].keys[n];
	assert_int_equal(key->len, bytes.len);
	assert_memory_equal(key->bytes, bytes.ptr, bytes.len);
}

static void
every_key(void **state)
{
	(void)state;
	write_file(
	    token_path, "# ours\nfile-token-aaaaaaaa\n\nfile-token-bbbbbbbb\n", 0600);
	char text[1000];
	snprintf(text, sizeof text,
	    "[server]\nthreads = 8\nsocket_mode = 0600\nmax_body = 128KiB\n"
	    "request_timeout = 3500ms\n"
	    "[database]\nconninfo = host=a,b\n   dbname=sms\ntimeout = 1s\nnotify = off\n"
	    "[log]\nlevel = debug\ntarget = syslog\n"
	    "[source a]\ntoken = 0123456789abcdef\ntoken = fedcba9876543210 ; old\n"
	    "timezone = Europe/Berlin\ndevice_id = d1\n"
	    "[source b c]\ntoken_file = %s\ntoken_sha256 = " OF_OTHER "\n"
	    "signature = hmac-sha256\nsignature_key = 0123456789ABCDEF\n"
	    "signature_key_file = %s\nsignature_header = x-Hub-Signature-256\n"
	    "[source d]\ntoken = third-token-of-length\nsignature = Standard-Webhooks\n"
	    "signature_key = " WHSEC "\nsignature_tolerance = 60s\n",
	    token_path, token_path);
	assert_int_equal(load(text), ERR_OK);
	assert_int_equal(conf.threads, 8);
	assert_int_equal(conf.socket_mode, 0600);
	assert_int_equal(conf.max_body, 131072);
	assert_int_equal(conf.request_timeout_ms, 3500);
	assert_string_equal(conf.conninfo, "host=a,b dbname=sms");
	assert_int_equal(conf.timeout_ms, 1000);
	assert_false(conf.notify);
	assert_int_equal(conf.log_level, LOG_LEVEL_DEBUG);
	assert_int_equal(conf.log_target, LOG_TARGET_SYSLOG);
	assert_int_equal(conf.n_sources, 3);
	assert_int_equal(conf.sources[0].n_digests, 2);
	assert_token(0, 1, "fedcba9876543210");
	assert_string_equal(conf.sources[0].timezone, "Europe/Berlin");
	assert_string_equal(conf.sources[0].device_id, "d1");
	assert_string_equal(conf.sources[1].name, "b c");
	assert_int_equal(conf.sources[1].n_digests, 3);
	assert_token(1, 1, "file-token-bbbbbbbb");
	assert_token(1, 2, "digest-token-of-length");
	assert_int_equal(conf.sources[0].signature, SIGNATURE_NONE);
	assert_int_equal(conf.sources[1].signature, SIGNATURE_HMAC_SHA256);
	assert_int_equal(conf.sources[1].n_keys, 3);
	assert_key(1, 0, TEXT("0123456789ABCDEF"));
	assert_key(1, 2, TEXT("file-token-bbbbbbbb"));
	assert_string_equal(conf.sources[1].signature_header, "HTTP_X_HUB_SIGNATURE_256");
	assert_int_equal(conf.sources[2].signature, SIGNATURE_STANDARD_WEBHOOKS);
	assert_key(2, 0,
	    TEXT("\x31\xf2\x90\xf6\xbf\x06\x29\x8a\xab\x4f\x08\xd4"
		 "\x3c\x3f\x08\x2c\xf6\x48\xa3\x62\xda\x2d\xa4\xb0"));
	assert_int_equal(conf.sources[2].signature_tolerance_ms, 60000);
	for (size_t i = 0; i < conf.n_sources; i++)
		assert_null(conf.sources[i].raw_keys);
}

/* Each stops the start and says the line and what is wrong. */
static void
refuses(void **state)
{
	static const struct {
		const char *text;
		int line; /* 0: of the whole file */
		const char *says;
	} cases[] = {
	    {"[server]\nthread = 1\n" SHOP, 2, "unknown key thread in [server]"},
	    {"[sever]\nthreads = 1\n" SHOP, 2, "unknown section [sever]"},
	    {"[server]\nthreads = 0\n" SHOP, 2, "out of range"},
	    {"[server]\nthreads = many\n" SHOP, 2, "a number is expected"},
	    {"[server]\nthreads = -1\n" SHOP, 2, "a number is expected"},
	    {"[server]\nmax_body = 64kb\n" SHOP, 2, "a number is expected"},
	    {"[server]\nmax_body = 2MiB\n" SHOP, 2, "out of range"},
	    {"[server]\nsocket_mode = 0990\n" SHOP, 2, "a number is expected"},
	    {"[server]\nmax_body = 9999999999999MiB\n" SHOP, 2, "a number is expected"},
	    {"[database]\nnotify = maybe\n" SHOP, 2, "it must be"},
	    {"[database]\ntimeout = 9s\n" SHOP, 0, "must be less than"},
	    {"[log]\nlevel = loud\n" SHOP, 2, "it must be debug, info"},
	    {"[source a]\ntimezone = Mars/Base\n", 2, "no such time zone"},
	    {"[source a]\ntimezone = ../etc\n", 2, "IANA name"},
	    {"[source a]\ntoken = has space\n", 2, "only letters"},
	    {"[source a]\ntoken =\n", 2, "only letters"},
	    {"[source a]\ntoken = 0123456789abcdef0123456789abcdef0123456789abcdef"
	     "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	     "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n",
		2, "longer than"},
	    {"[source a]\ndevice_id = K\xfc"
	     "che\n",
		2, "plain ASCII"},
	    {"[source a]\ntoken = healthz\n", 2, "address of its own"},
	    {"[source a]\ntoken_file = /nonexistent\n", 2, "No such file"},
	    {"[source a]\ntoken_sha256 = " OF_NOTHING "\n", 2, "no token at all"},
	    {"[source a]\ntoken_sha256 =\n", 2, "64 hexadecimal digits"},
	    {"[source a]\ntoken_sha256 = " OF_SHOP "0\n", 2, "64 hexadecimal digits"},
	    {"[source a]\ntoken_sha256 = sha256:" OF_SHOP "\n", 2, "64 hexadecimal"},
	    {SHOP "signature = hmac-sha512\n", 3, "standard-webhooks or hmac-sha256"},
	    {SHOP "signature = ed25519\nsignature_key = " WHSEC "\n", 3, "it must be"},
	    {SHOP "signature =\n", 3, "it must be"},
	    {SHOP "signature = standard-webhooks\n", 0, "without a signature_key"},
	    {SHOP "signature_key = " WHSEC "\n", 0, "signature_key without signature"},
	    {SHOP "signature = hmac-sha256\nsignature_key = short\n", 4, "16 to 128"},
	    {SHOP "signature = hmac-sha256\nsignature_key =\n", 4, "16 to 128"},
	    {SHOP "signature = standard-webhooks\nsignature_key = " WHSEC
		  "\nsignature_key = whsec_AAAA\n",
		5, "24 to 64 bytes"},
	    {SHOP "signature_key_file = /nonexistent\n", 3, "No such file"},
	    {SHOP "signature_header = X Signature\n", 3, "the name of a header"},
	    {SHOP "signature_header = X_Signature\n", 3, "the name of a header"},
	    {SHOP "signature_header =\n", 3, "the name of a header"},
	    {SHOP "signature_header = X-Signature\n", 0, "hmac-sha256 alone"},
	    {SHOP "signature = standard-webhooks\nsignature_key = " WHSEC
		  "\nsignature_header = X-Signature\n",
		0, "hmac-sha256 alone"},
	    {SHOP "signature = hmac-sha256\nsignature_key = 0123456789ABCDEF\n"
		  "signature_tolerance = 5m\n",
		0, "standard-webhooks alone"},
	    {SHOP "signature = hmac-sha256\nsignature_key = \"0123456789ABCDEF\"\n", 4,
		"no blank"},
	    {SHOP "signature = hmac-sha256\nsignature_key = 0123456789 ABCDEF\n", 4,
		"no blank"},
	    {SHOP "signature_tolerance = x\n", 3, "a number is expected, such as 5m"},
	    {SHOP "signature_tolerance = 300\n", 3, "a number is expected"},
	    {SHOP "signature_tolerance = 0s\n", 3, "out of range"},
	    {SHOP "signature_tolerance = 90000s\n", 3, "out of range"},
	    {"[source]\ntoken = 0123456789abcdef\n", 2, "needs a name"},
	    {"[source a]\ndevice_id = 1\n", 0, "has no token"},
	    {"", 0, "no [source NAME]"},
	    {SHOP "[source b]\ntoken = 0123456789abcdef\n", 0,
		"[source b] has a token that [source shop] has, too"},
	    {SHOP "device_id = d1\n  token = 1234567890abcdef\n", 4, "not indented"},
	    {"nonsense\n" SHOP, 1, "neither [section] nor key"},
	    {"[source a]\ntoken = 0123456789abcdef\n  more\n", 3, "one line"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char place[150];
		if (load(cases[i].text) != ERR_CONFIG)
			fail_msg("taken: %s", cases[i].text);
		snprintf(place, sizeof place, cases[i].line ? "%s:%d: " : "%s: ", path,
		    cases[i].line);
		if (!strstr(c.text, place) || !strstr(c.text, cases[i].says))
			fail_msg("%s said: %s", cases[i].text, c.text);
	}
}

static void
long_line(void **state)
{
	char text[1000];
	(void)state;
	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	memcpy(text, "[database]\nconninfo = ", 22);
	assert_int_equal(load(text), ERR_CONFIG);
	assert_non_null(strstr(c.text, ":2: longer than"));
}

static void
secrets_are_private(void **state)
{
	(void)state;
	write_file(path, SHOP, 0644);
	conf_free(&conf);
	capture_begin(&c);
	assert_int_equal(conf_load(&conf, path), ERR_CONFIG);
	capture_end(&c);
	assert_non_null(strstr(c.text, "chmod o="));
	assert_null(strstr(c.text, "0123456789abcdef"));

	write_file(path, "[database]\nconninfo = postgresql://u:s3cret@h/d\n", 0644);
	conf_free(&conf);
	capture_begin(&c);
	assert_int_equal(conf_load(&conf, path), ERR_CONFIG);
	capture_end(&c);
	assert_non_null(strstr(c.text, "chmod o="));
	assert_null(strstr(c.text, "s3cret"));

	char text[300];
	write_file(token_path, "file-token-aaaaaaaa\n", 0644);
	snprintf(text, sizeof text, "[source a]\ntoken_file = %s\n", token_path);
	assert_int_equal(load(text), ERR_CONFIG);
	assert_non_null(strstr(c.text, "chmod o="));
	chmod(token_path, 0640);
	assert_int_equal(load(text), ERR_OK);
}

/* A digest is none, and where nothing else is, everybody may read it. */
static void
digests_are_no_secrets(void **state)
{
	static const struct {
		const char *more;
		enum err err;
	} cases[] = {{"", ERR_OK}, {"token = abcdefghijklmnop\n", ERR_CONFIG},
	    {"signature = standard-webhooks\nsignature_key = " WHSEC "\n", ERR_CONFIG}};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char text[300];
		snprintf(text, sizeof text, "[source a]\ntoken_sha256 = " OF_SHOP "\n%s",
		    cases[i].more);
		write_file(path, text, 0644);
		conf_free(&conf);
		capture_begin(&c);
		assert_int_equal(conf_load(&conf, path), cases[i].err);
		capture_end(&c);
		assert_int_equal(!strstr(c.text, "chmod o="), !cases[i].err);
	}
}

/* Wherever a secret stands that should stand elsewhere. */
static void
no_message_tells_a_secret(void **state)
{
#define SECRET "Kx7secret/abcd+efgh0123"
	static const char *const cases[] = {SECRET "\n", SECRET "==\n",
	    "[source a]\n" SECRET "==\n", "[source a]\ntoken_file = " SECRET "\n",
	    "[source a]\ntoken = " SECRET "\n", "[source a]\ntoken_sha256 = " SECRET "\n",
	    "[" SECRET "]\n", "[source]\n" SECRET " = 1\n", "[server]\n" SECRET ": x\n",
	    SHOP "signature = " SECRET "\n", SHOP "signature_key_file = " SECRET "\n",
	    SHOP "signature = standard-webhooks\nsignature_key = whsec_" SECRET "\n",
	    SHOP "signature_header = " SECRET "\n",
	    SHOP "signature = hmac-sha256\nsignature_key = " SECRET "\n  " SECRET "\n"};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_int_equal(load(cases[i]), ERR_CONFIG);
		if (strstr(c.text, "secret") && strstr(c.text, "Kx7"))
			fail_msg("%s", c.text);
	}
}

static void
from_environment(void **state)
{
	(void)state;
	conf_free(&conf);
	write_file(path, SHOP, 0640);
	setenv("SMSHOOK_CONFIG", path, 1);
	assert_int_equal(conf_load(&conf, NULL), ERR_OK);
	setenv("SMSHOOK_CONFIG", "/nonexistent/x.conf", 1);
	conf_free(&conf);
	capture_begin(&c);
	assert_int_equal(conf_load(&conf, NULL), ERR_CONFIG);
	capture_end(&c);
	assert_non_null(strstr(c.text, "/nonexistent/x.conf: No such file"));
	unsetenv("SMSHOOK_CONFIG");
}

static int
set_up(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof path, "%s/smshook.conf", dir);
	snprintf(token_path, sizeof token_path, "%s/token", dir);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	conf_free(&conf);
	unlink(path);
	unlink(token_path);
	return rmdir(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(defaults),
	    cmocka_unit_test(every_key), cmocka_unit_test(refuses),
	    cmocka_unit_test(long_line), cmocka_unit_test(secrets_are_private),
	    cmocka_unit_test(digests_are_no_secrets),
	    cmocka_unit_test(no_message_tells_a_secret),
	    cmocka_unit_test(from_environment)};
	return cmocka_run_group_tests_name("conf", tests, set_up, tear_down);
}
