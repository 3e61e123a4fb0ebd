#include "unit.h"

#include "auth.h"
#include "handle.h"

static char shop[] = "shop", desk[] = "desk";
static unsigned char shop_digests[2][SHA256_LEN], desk_digests[1][SHA256_LEN];
static struct conf_source sources[] = {
    {.name = shop, .digests = shop_digests, .n_digests = 2},
    {.name = desk, .digests = desk_digests, .n_digests = 1},
};
static const struct conf conf = {.sources = sources, .n_sources = 2};

static int
make_digests(void **state)
{
	(void)state;
	sha256(TEXT("0123456789abcdef"), shop_digests[0]);
	sha256(TEXT("fedcba9876543210"), shop_digests[1]);
	sha256(TEXT("desk-token-of-length"), desk_digests[0]);
	return 0;
}

static const char *
name_of(const struct text *candidates, size_t n)
{
	const struct conf_source *s = auth_check(&conf, candidates, n);
	return s ? s->name : "nobody";
}

static const char *
name_of_one(const char *token)
{
	struct text t = text_of(token);
	return name_of(&t, 1);
}

static void
every_token(void **state)
{
	(void)state;
	assert_string_equal(name_of_one("0123456789abcdef"), "shop");
	assert_string_equal(name_of_one("fedcba9876543210"), "shop");
	assert_string_equal(name_of_one("desk-token-of-length"), "desk");
}

static void
nothing_else(void **state)
{
	(void)state;
	assert_string_equal(name_of_one("0123456789abcde"), "nobody");
	assert_string_equal(name_of_one("0123456789abcdef0"), "nobody");
	assert_string_equal(name_of_one("0123456789ABCDEF"), "nobody");
	assert_string_equal(name_of_one(""), "nobody");
	assert_string_equal(name_of_one(NULL), "nobody");
}

static void
several_candidates(void **state)
{
	const struct text wrong_then_right[] = {
	    {0}, TEXT("wrong"), TEXT("desk-token-of-length")};
	const struct text two_right[] = {
	    TEXT("desk-token-of-length"), TEXT("0123456789abcdef")};
	(void)state;
	assert_string_equal(name_of(wrong_then_right, 3), "desk");
	assert_string_equal(name_of(two_right, 2), "desk");
}

/* The first is logged at once, then a sum each ten seconds. */
static void
strangers(void **state)
{
	static struct handler h;
	const int64_t start = 86400000;
	(void)state;
	assert_int_equal(handle_stranger(&h, start), 1);
	for (int i = 1; i < 10000; i++)
		assert_int_equal(handle_stranger(&h, start + i), 0);
	assert_int_equal(handle_stranger(&h, start + 10000), 10000);
	assert_int_equal(handle_stranger(&h, start + 10000), 0);
	assert_int_equal(handle_stranger(&h, start + 19999), 0);
	assert_int_equal(handle_stranger(&h, start + 1000000), 3);
	assert_int_equal(handle_stranger(&h, start + 2000000), 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(every_token),
	    cmocka_unit_test(nothing_else), cmocka_unit_test(several_candidates),
	    cmocka_unit_test(strangers)};
	return cmocka_run_group_tests_name("auth", tests, make_digests, NULL);
}
