#include "unit.h"

#include "json_scan.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

static bool
scan(const char *json, size_t len, char *copy, struct json_report *r)
{
	memcpy(copy, json, len);
	return json_scan(copy, len, r);
}

static void
accepts(void **state)
{
	static const char *const good[] = {"{}", "[]", "0", "-0", "1.5e-3", "\"\"",
	    "true", "false", "null", " \t\r\n[ 1 , 2 ] ", "{\"a\":{\"b\":[1,2,{}]}}",
	    "\"\\u00e9\\n\\\"\\\\\\/\"", "\"\xf0\x9f\x98\x80\"", "1E400",
	    "123456789012345678901234567890"};
	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		char copy[100];
		struct json_report r;
		if (!scan(good[i], strlen(good[i]), copy, &r))
			fail_msg("%s: %s at %zu", good[i], r.fault, r.at);
		assert_int_equal(r.n_mended, 0);
		assert_memory_equal(copy, good[i], strlen(good[i]));
	}
}

static void
refuses(void **state)
{
	static const struct {
		const char *json;
		size_t at; /* where the fault is */
	} bad[] = {{"", 0}, {"{", 1}, {"[1,]", 3}, {"{\"a\":1,}", 7}, {"{a:1}", 1},
	    {"01", 2}, {"+1", 0}, {"1.", 2}, {"1e", 2}, {"-", 1}, {".5", 0}, {"NaN", 0},
	    {"'a'", 0}, {"\"a", 2}, {"\"\\x\"", 1}, {"\"\\u12g4\"", 1}, {"\"\n\"", 1},
	    {"[1 2]", 3}, {"{} x", 3}, {"nul", 0}, {"\"\xc0\xaf\"", 1},
	    {"\"\xed\xa0\x80\"", 2}, {"\"\xf4\x90\x80\x80\"", 2}, {"\"\xff\"", 1},
	    {"\"\xe2\x82\"", 3}, {"[1}", 2}, {"{\"a\" 1}", 5}};
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		char copy[100];
		struct json_report r;
		if (scan(bad[i].json, strlen(bad[i].json), copy, &r))
			fail_msg("taken: %s", bad[i].json);
		/* it is put into a JSON string as it is */
		assert_null(strpbrk(r.fault, "\"\\"));
		if (r.at != bad[i].at)
			fail_msg(
			    "%s: fault at %zu, not %zu", bad[i].json, bad[i].at, r.at);
	}
}

static void
depth(void **state)
{
	struct json_report r;
	char json[2 * JSON_DEPTH + 2];
	(void)state;
	memset(json, '[', JSON_DEPTH);
	memset(json + JSON_DEPTH, ']', JSON_DEPTH);
	assert_true(json_scan(json, 2 * JSON_DEPTH, &r));
	memset(json, '[', JSON_DEPTH + 1);
	memset(json + JSON_DEPTH + 1, ']', JSON_DEPTH + 1);
	assert_false(json_scan(json, sizeof json, &r));
	assert_int_equal(r.at, JSON_DEPTH);
}

/* What jsonb cannot hold, found by trying PostgreSQL, and what it just can. */
static void
mends(void **state)
{
	static const struct {
		const char *json, *mended;
	} cases[] = {
	    {"\"a\\u0000b\"", "\"a\\ufffdb\""},
	    {"\"\\ud800\"", "\"\\ufffd\""},
	    {"\"\\udc00x\"", "\"\\ufffdx\""},
	    {"\"\\ud800\\ud800\\udc00\"", "\"\\ufffd\\ud800\\udc00\""},
	    {"\"\\ud83d\\ude00\"", NULL},
	    {"\"\\\\u0000\"", NULL},
	    {"1e131071", NULL},
	    {"1e131072", "\"\xef\xbf\xbd\"   "},
	    {"9.99e131071", NULL},
	    {"123456e131066", NULL},
	    {"123456e131067", "\"\xef\xbf\xbd\"        "},
	    {"0.0001e131075", NULL},
	    {"0.0001e131076", "\"\xef\xbf\xbd\"        "},
	    {"1e-16383", NULL},
	    {"1e-16384", "\"\xef\xbf\xbd\"   "},
	    {"1.5e-16382", NULL},
	    {"1.5e-16383", "\"\xef\xbf\xbd\"     "},
	    {"0e131072", NULL},
	    {"0e1073741822", NULL},
	    {"0e1073741823", "\"\xef\xbf\xbd\"       "},
	    {"0e99999999999999999999", "\"\xef\xbf\xbd\"                 "},
	    {"-1e131072", "\"\xef\xbf\xbd\"    "},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char copy[100];
		struct json_report r;
		const char *want = cases[i].mended ? cases[i].mended : cases[i].json;
		size_t len = strlen(cases[i].json);
		assert_true(scan(cases[i].json, len, copy, &r));
		assert_int_equal(r.n_mended, cases[i].mended != NULL);
		if (memcmp(copy, want, len) != 0)
			fail_msg("%s became %.*s", cases[i].json, (int)len, copy);
		assert_true(json_scan(copy, len, &r)); /* mended is JSON still */
		assert_int_equal(r.n_mended, 0);
	}
}

static void
walks(void **state)
{
	static const char json[] =
	    " { \"a\" : \"x\\\"}\" ,\"b\":[1,{\"c\":\"]\"}],\"d\":-1.5,\"e\":"
	    "{\"f\":{}} , \"g\":null}";
	static const char *const want[][2] = {{"\"a\"", "\"x\\\"}\""},
	    {"\"b\"", "[1,{\"c\":\"]\"}]"}, {"\"d\"", "-1.5"}, {"\"e\"", "{\"f\":{}}"},
	    {"\"g\"", "null"}};
	struct json_walk w;
	struct text name, value;
	size_t n = 0;
	(void)state;
	assert_true(json_walk(&w, TEXT(json)));
	for (; json_walk_next(&w, &name, &value); n++) {
		assert_text(name, want[n][0]);
		assert_text(value, want[n][1]);
	}
	assert_int_equal(n, 5);
	assert_false(json_walk(&w, TEXT("[1]")));
	assert_true(json_walk(&w, TEXT("{}")));
	assert_false(json_walk_next(&w, &name, &value));
}

/* Every file of JSONTestSuite by its first letter, where the suite is there. */
static void
json_test_suite(void **state)
{
	char path[1024];
	const char *src = getenv("SMSHOOK_SRC");
	size_t n = 0;
	(void)state;
	snprintf(path, sizeof path, "%s/../shared/corpora/json-test-suite/test_parsing",
	    src ? src : ".");
	DIR *dir = opendir(path);
	if (!dir) {
		/* cmocka's TAP of a skipped test reads as a failure */
		print_message("# no JSONTestSuite here: nothing is tested\n");
		return;
	}
	for (struct dirent *d; (d = readdir(dir));) {
		char file[2048];
		struct json_report r;
		if (d->d_name[0] == '.')
			continue;
		snprintf(file, sizeof file, "%s/%s", path, d->d_name);
		FILE *f = fopen(file, "r");
		assert_non_null(f);
		fseek(f, 0, SEEK_END);
		size_t len = (size_t)ftell(f);
		rewind(f);
		char *json = malloc(len + 1);
		assert_int_equal(fread(json, 1, len, f), len);
		fclose(f);
		bool is_json = json_scan(json, len, &r);
		free(json);
		if (d->d_name[0] != 'i' && is_json != (d->d_name[0] == 'y'))
			fail_msg("%s: %s", d->d_name, is_json ? "taken" : r.fault);
		n++;
	}
	closedir(dir);
	assert_int_equal(n, 318);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(accepts),
	    cmocka_unit_test(refuses), cmocka_unit_test(depth), cmocka_unit_test(mends),
	    cmocka_unit_test(walks), cmocka_unit_test(json_test_suite)};
	return cmocka_run_group_tests_name("json_scan", tests, NULL, NULL);
}
