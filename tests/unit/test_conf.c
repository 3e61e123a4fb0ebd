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

#define SHOP "[source shop]\ntoken = 0123456789abcdef\n"

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
}

static void
assert_token(int source, int n, const char *token)
{
	unsigned char digest[SHA256_LEN];
	sha256(text_of(token), digest);
	assert_memory_equal(conf.sources[source].digests[n], digest, SHA256_LEN);
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
	    "[source b c]\ntoken_file = %s\n",
	    token_path);
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
	assert_int_equal(conf.n_sources, 2);
	assert_int_equal(conf.sources[0].n_digests, 2);
	assert_token(0, 1, "fedcba9876543210");
	assert_string_equal(conf.sources[0].timezone, "Europe/Berlin");
	assert_string_equal(conf.sources[0].device_id, "d1");
	assert_string_equal(conf.sources[1].name, "b c");
	assert_token(1, 1, "file-token-bbbbbbbb");
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
	    {"[source]\ntoken = 0123456789abcdef\n", 2, "needs a name"},
	    {"[source a]\ndevice_id = 1\n", 0, "has no token"},
	    {"", 0, "no [source NAME]"},
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
	    cmocka_unit_test(from_environment)};
	return cmocka_run_group_tests_name("conf", tests, set_up, tear_down);
}
