/* What decode() takes beside a body, whatever the body: twice its size and some
 * kB, so little more than 2 MiB for the largest that max_body allows; and no more
 * than those kB where no place is mended and no text has escapes. */
#include "corpus.h"
#include "unit.h"

#include "decode.h"

#include <malloc.h>

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__ ||                       \
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||               \
    !defined __GLIBC__
#define HAS_OWN_MALLOC 0
#else
#define HAS_OWN_MALLOC 1
#endif

enum { MAX_BODY = 512 << 10, SOME_KB = 16 << 10 };

static size_t taken, peak;

#if HAS_OWN_MALLOC
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);
void __libc_free(void *p);

/* Of this program and its libraries. */
static void *
note(void *p)
{
	taken += p ? malloc_usable_size(p) : 0;
	peak = taken > peak ? taken : peak;
	return p;
}

void *
malloc(size_t size)
{
	return note(__libc_malloc(size));
}

void *
calloc(size_t n, size_t size)
{
	return note(__libc_calloc(n, size));
}

/* As if the old one were copied, which it may be. */
void *
realloc(void *old, size_t size)
{
	size_t old_size = old ? malloc_usable_size(old) : 0;
	void *p = note(__libc_realloc(old, size));
	if (p || size == 0)
		taken -= old_size;
	return p;
}

void
free(void *p)
{
	taken -= p ? malloc_usable_size(p) : 0;
	__libc_free(p);
}
#endif

/* The peak of one decode() beside the body. */
static size_t
cost(struct text body)
{
	struct event ev;
	size_t before = taken;
	peak = taken;
	assert_int_equal(event_init(&ev, body, TEXT("shop")), ERR_OK);
	enum err e = decode(&ev, TEXT("Europe/Berlin"), (struct text){0});
	assert_true(e == ERR_OK || e == ERR_NOT_JSON || e == ERR_NOT_EVENT);
	event_free(&ev);
	assert_int_equal(taken, before);
	return peak - before;
}

/* A check that this test sees what is taken. */
static void
counts(void **state)
{
	char json[100] = "{\"event\":\"x\",\"message\":\"\\u0000\"}";
	(void)state;
	if (!HAS_OWN_MALLOC) {
		print_message("# malloc is not ours here: nothing is counted\n");
		return;
	}
	assert_in_range(cost(text_of(json)), 2 * strlen(json), SOME_KB);
	assert_in_range(cost(TEXT("{\"event\":\"x\",\"phone\":\"+1\"}")), 4, 64);
	assert_int_equal(cost(TEXT("[]")), 0);
}

static void
corpus(void **state)
{
	static const char *const befores[] = {"", "{\"event\":\"x\",\"message\":",
	    "{\"sms_id\":1,\"status_id\":", "{\"address\":", "{\"event\":\"x\",\"x\":",
	    "{\"event\":\"x\",\"timestamp\":"};
	struct corpus c;
	(void)state;
	if (!corpus_open(&c))
		return;
	while (corpus_next(&c)) {
		for (size_t i = 0; i < sizeof befores / sizeof *befores; i++) {
			size_t before = strlen(befores[i]),
			       len = before + c.len + (i > 0);
			char *body = malloc(len + 1);
			assert_non_null(body);
			memcpy(body, befores[i], before);
			memcpy(body + before, c.bytes, c.len);
			body[before + c.len] = '}';
			if (cost((struct text){body, len}) > 2 * len + SOME_KB)
				fail_msg("%s after %s", c.name, befores[i]);
			free(body);
		}
	}
}

/* The largest bodies: before, as many units as fit, after. */
static void
largest(void **state)
{
	static const struct {
		const char *before, *unit, *after;
		unsigned n_bodies; /* how many times its size it may take */
	} cases[] = {
	    {"", "[", "", 0},
	    {"[", "[],", "0]", 0},
	    {"[", "{},", "0]", 0},
	    {"{\"event\":\"x\"", ",\"x\":0", "}", 0},
	    {"{\"event\":\"x\"", ",\"\\u0078\":0", "}", 0},
	    {"{\"event\":\"x\"", ",\"\\u0000\":0", "}", 2},
	    {"{\"event\":\"x\"", ",\"message\":\"\\n\"", "}", 0},
	    {"{\"event\":\"x\",\"", "k", "\":0}", 0},
	    {"{\"event\":\"x\",\"", "\\u006b", "\":0}", 0},
	    {"{\"event\":\"x\",\"message\":\"", "m", "\"}", 0},
	    {"{\"event\":\"x\",\"x\":\"", "\\n", "\"}", 0},
	    {"{\"event\":\"x\",\"message\":\"", "\\n", "\"}", 1},
	    {"{\"event\":\"x\",\"message\":\"\\n", "m", "\"}", 1},
	    {"{\"event\":\"x\",\"message\":\"", "\\u20ac", "\"}", 1},
	    {"{\"event\":\"x\",\"message\":\"", "\\ud83d\\ude00", "\"}", 1},
	    {"{\"event\":\"x\",\"message\":\"", "\\u0000", "\"}", 2},
	    {"{\"event\":\"x\",\"message\":\"\\u0000", "m", "\"}", 2},
	    {"{\"event\":\"x\",\"message\":\"", "\\ud800", "\"}", 2},
	    {"{\"event\":\"x\",\"phone\":\"", "-1", "\"}", 1},
	    {"{\"event\":\"x\",\"phone\":\"", "1\\/", "\"}", 1},
	    {"{\"event\":\"x\",\"phone\":\"", "\\u0031", "\"}", 1},
	    {"{\"event\":\"x\",\"phone\":[", "1,", "1]}", 1},
	    {"{\"event\":\"x\",\"message\":[", "1e131071,", "1]}", 2},
	    {"{\"event\":\"x\",\"x\":[", "1e400,", "1]}", 2},
	    {"{\"event\":\"x\",\"x\":[", "9223372036854775808,", "1]}", 0},
	    {"{\"event\":\"x\",\"message\":", "1", "}", 2},
	    {"{\"sms_id\":1,\"status_id\":\"", "\\u0037", "\"}", 1},
	    {"{\"address\":\"1\",\"status_id\":\"\\n", "7", "\"}", 1},
	    {"{\"event\":\"x\",\"timestamp\":{\"date\":\"\"", ",\"date\":\"\\t\"", "}}",
		1},
	    {"{\"event\":\"x\",\"timestamp\":{\"date\":\"\"", ",\"zone\\n\":\"\\t\"",
		"}}", 1},
	};
	static char body[MAX_BODY];
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		size_t unit = strlen(cases[i].unit), after = strlen(cases[i].after);
		char *p = stpcpy(body, cases[i].before);
		for (; p + unit + after < body + MAX_BODY; p += unit)
			memcpy(p, cases[i].unit, unit);
		memcpy(p, cases[i].after, after);
		p += after;
		size_t len = (size_t)(p - body);
		size_t got = cost((struct text){body, len});
		if (got > cases[i].n_bodies * len + SOME_KB)
			fail_msg("%s%s%s: %zu", cases[i].before, cases[i].unit,
			    cases[i].after, got);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(counts),
	    cmocka_unit_test(corpus), cmocka_unit_test(largest)};
	return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
