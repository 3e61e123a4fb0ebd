#include "corpus.h"
#include "unit.h"

#include "json_scan.h"

/* Both verdicts, which must agree. */
static bool
scan(const char *json, size_t len, char *copy, struct json_report *r)
{
	struct json_report judged;
	memcpy(copy, json, len);
	bool is_json = json_scan(copy, len, r);
	assert_int_equal(json_judge(json, len, &judged), is_json);
	assert_true(judged.fault == r->fault && judged.at == r->at);
	assert_int_equal(judged.n_mended, r->n_mended);
	return is_json;
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
	enum { MOST = 100000 };
	static const int depths[] = {1, 31, 32, 33, 64, MOST};
	static char json[6 * MOST], copy[6 * MOST];
	(void)state;
	for (size_t i = 0; i < 2 * sizeof depths / sizeof *depths; i++) {
		struct json_report r;
		const char *open = i % 2 ? "{\"\":" : "[";
		char *p = json;
		for (int n = 0; n < depths[i / 2]; n++)
			p = stpcpy(p, open);
		*p++ = '0';
		memset(p, i % 2 ? '}' : ']', (size_t)depths[i / 2]);
		p += depths[i / 2];
		bool is_json = scan(json, (size_t)(p - json), copy, &r);
		assert_int_equal(is_json, depths[i / 2] <= 32);
		if (!is_json)
			assert_int_equal(r.at, 32 * strlen(open));
	}
}

/* Every code point that there is, and every lead byte with what may follow it. */
static void
utf8(void **state)
{
	static const unsigned char edges[] = {0x7f, 0x80, 0xbf, 0xc0};
	char json[] = "\"....\"", copy[sizeof json];
	struct json_report r;
	size_t n_taken = 0;
	(void)state;
	for (unsigned c = 0x80; c < 0x110000; c++) {
		size_t len = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
		for (size_t i = len; i > 0; i--)
			json[i] = (char)(0x80 | (c >> 6 * (len - i) & 0x3f));
		json[1] = (char)((0xf0 << (4 - len) & 0xff) | c >> 6 * (len - 1));
		json[len + 1] = '"';
		bool is_character = c < 0xd800 || c > 0xdfff;
		if (scan(json, len + 2, copy, &r) != is_character)
			fail_msg("U+%04X", c);
	}
	for (unsigned i = 0x8000; i < 0x10000; i++) {
		for (int k = 0; k < 16; k++) {
			json[1] = (char)(i >> 8);
			json[2] = (char)i;
			json[3] = (char)edges[k / 4];
			json[4] = (char)edges[k % 4];
			json[5] = '"';
			n_taken += scan(json, 6, copy, &r);
		}
	}
	/* Four bytes, the last two of edges.  One character: f0, f1 to f3, f4 with
	 * so many seconds each, and 80 or bf twice.  One of three and 7f: e0, 14
	 * leads, ed.  One of two, 7f, 7f: 30 leads. */
	assert_int_equal(n_taken,
	    4 * (0x30 + 3 * 0x40 + 0x10) + 2 * (0x20 + 14 * 0x40 + 0x20) + 30 * 0x40);
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

/* Of numbers that jsonb would write in full no more are left than can be read. */
static void
digit_flood(void **state)
{
	enum { N = 1000 };
	static const struct {
		const char *number;
		size_t n_left;
	} cases[] = {{"1e131071,", 8}, {"1e-16383,", 64}, {"0e-16383,", 64},
	    {"1e9999,", 104}, {"1e999,", N}, {"-1.5e-99,", N}, {"0e99999,", N}};
	static char json[10 * N], copy[10 * N];
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct json_report r;
		size_t unit = strlen(cases[i].number), len = N * unit + 1;
		json[0] = '[';
		for (size_t n = 0; n < N; n++)
			memcpy(json + 1 + n * unit, cases[i].number, unit);
		json[len - 1] = ']';
		assert_true(scan(json, len, copy, &r));
		assert_int_equal(r.n_mended, N - cases[i].n_left);
		assert_memory_equal(json, copy, cases[i].n_left * unit + 1);
		assert_true(json_scan(copy, len, &r));
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

/* Every file of JSONTestSuite by its first letter; what is taken is mended once. */
static void
json_test_suite(void **state)
{
	struct corpus c;
	(void)state;
	if (!corpus_open(&c))
		return;
	while (corpus_next(&c)) {
		struct json_report r;
		char *copy = malloc(c.len + 1);
		assert_non_null(copy);
		bool is_json = scan(c.bytes, c.len, copy, &r);
		if (c.name[0] != 'i' && is_json != (c.name[0] == 'y'))
			fail_msg("%s: %s", c.name, is_json ? "taken" : r.fault);
		if (is_json && r.n_mended == 0)
			assert_memory_equal(copy, c.bytes, c.len);
		if (is_json)
			assert_true(json_scan(copy, c.len, &r) && r.n_mended == 0);
		free(copy);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(accepts),
	    cmocka_unit_test(refuses), cmocka_unit_test(depth), cmocka_unit_test(utf8),
	    cmocka_unit_test(mends), cmocka_unit_test(digit_flood),
	    cmocka_unit_test(walks), cmocka_unit_test(json_test_suite)};
	return cmocka_run_group_tests_name("json_scan", tests, NULL, NULL);
}
