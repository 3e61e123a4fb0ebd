#include "unit.h"

#include "signature.h"

#include <stdlib.h>

/* The vector that the specification of Standard Webhooks and its libraries have. */
#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define OTHER  "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
#define RIGHT  "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
#define WRONG  "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
enum { AT = 1614265330, TOLERANCE = 300 };

static struct signature_message
published(void)
{
	struct signature_message m;
	m.id = TEXT("msg_p5jXN8AQM9LWM0D4loKWxJek");
	m.timestamp = TEXT("1614265330");
	m.signature = TEXT(RIGHT);
	m.body = TEXT("{\"test\": 2432232314}");
	return m;
}

/* What is wrong with it by the keys, NULL at the end of them; "" when nothing is. */
static const char *
fault_of(const struct signature_message *m, int64_t now, const char *const *texts)
{
	struct signature_key keys[4];
	size_t n = 0;
	for (; texts[n]; n++)
		assert_null(
		    signature_key_read(&keys[n], SIGNATURE_STANDARD_WEBHOOKS, texts[n]));
	const char *fault =
	    signature_fault(SIGNATURE_STANDARD_WEBHOOKS, keys, n, m, now, TOLERANCE);
	return fault ? fault : "";
}

static const char *const secret[] = {SECRET, NULL}, *const other[] = {OTHER, NULL};

static void
published_vector(void **state)
{
	static const char *const bare[] = {&SECRET[6], NULL}, *const both[] = {
								  OTHER, SECRET, NULL};
	const struct signature_message m = published();
	(void)state;
	assert_string_equal(fault_of(&m, AT, secret), "");
	assert_string_equal(fault_of(&m, AT, bare), "");
	assert_string_equal(fault_of(&m, AT, both), "");
	assert_non_null(strstr(fault_of(&m, AT, other), "fits neither"));
	assert_null(signature_fault(SIGNATURE_NONE, NULL, 0, &m, AT, TOLERANCE));
}

/* What is signed is all of id, time and body, byte by byte. */
static void
altered(void **state)
{
	struct signature_message m[3];
	(void)state;
	m[0] = m[1] = m[2] = published();
	m[0].id = TEXT("msg_p5jXN8AQM9LWM0D4loKWxJeK");
	m[1].timestamp = TEXT("1614265331");
	m[2].body = TEXT("{\"test\": 2432232315}");
	for (int i = 0; i < 3; i++)
		assert_non_null(strstr(fault_of(&m[i], AT, secret), "fits neither"));
	m[2].body = TEXT("");
	assert_non_null(strstr(fault_of(&m[2], AT, secret), "fits neither"));
}

static void
lists_of_signatures(void **state)
{
	static const struct {
		const char *list;
		bool is_right;
	} cases[] = {
	    {WRONG " " RIGHT, true},
	    {RIGHT " " WRONG, true},
	    {"v2,x " WRONG " v1a," WRONG " " RIGHT " ", true},
	    {"  " RIGHT, true},
	    {WRONG ", " RIGHT, true}, /* two headers, as web servers join them */
	    {RIGHT ", " WRONG, true},
	    {RIGHT ",,", false},
	    {WRONG, false},
	    {WRONG " " WRONG, false},
	    {"v1a,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", false},
	    {"v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", false},
	    {"V1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", false},
	    {"g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", false},
	    {"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE", false},
	    {"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1A==", false},
	    {"v1,", false},
	    {"v1, ", false},
	    {"v1,====", false},
	    {"v1,!!!!", false},
	    {"v1", false},
	    {",", false},
	    {" ", false},
	    {"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=,v2,x", false},
	};
	struct signature_message m = published();
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		m.signature = text_of(cases[i].list);
		if ((*fault_of(&m, AT, secret) == '\0') != cases[i].is_right)
			fail_msg("%s", cases[i].list);
	}
}

static void
long_headers(void **state)
{
	enum { SIZE = 1 << 20 };
	char *list = malloc(SIZE);
	struct signature_message m = published();
	(void)state;
	assert_non_null(list);
	memset(list, 'A', SIZE);
	memcpy(list, "v1,", 3);
	m.signature = (struct text){list, SIZE};
	assert_non_null(strstr(fault_of(&m, AT, secret), "fits neither"));
	for (size_t i = 0; i + sizeof WRONG <= SIZE; i += sizeof WRONG)
		memcpy(list + i, WRONG " ", sizeof WRONG);
	m.signature.len = SIZE - SIZE % sizeof WRONG;
	assert_non_null(strstr(fault_of(&m, AT, secret), "fits neither"));
	memcpy(list + m.signature.len - sizeof RIGHT, RIGHT, sizeof RIGHT - 1);
	assert_string_equal(fault_of(&m, AT, secret), "");
	m = published();
	m.id = (struct text){list, SIZE};
	assert_non_null(strstr(fault_of(&m, AT, secret), "fits neither"));
	m = published();
	m.timestamp = (struct text){list, SIZE};
	assert_non_null(strstr(fault_of(&m, AT, secret), "no Unix time"));
	free(list);
}

static void
empty_parts(void **state)
{
	static const struct text empties[] = {{0}, {"", 0}};
	(void)state;
	for (int i = 0; i < 6; i++) {
		struct signature_message m = published();
		struct text *parts[] = {&m.id, &m.timestamp, &m.signature};
		*parts[i % 3] = empties[i / 3];
		assert_non_null(strstr(fault_of(&m, AT, secret), "is missing"));
	}
}

static void
times(void **state)
{
	static const char *const none[] = {"1614265330.5", "+1614265330", "-1",
	    " 1614265330", "1614265330 ", "0x60378cb2", "2021-02-25", "1614265330000000",
	    "now"};
	struct signature_message m = published();
	(void)state;
	for (int way = -1; way <= 1; way += 2) {
		const int64_t edge = AT + way * TOLERANCE;
		assert_string_equal(fault_of(&m, edge, secret), "");
		assert_non_null(strstr(fault_of(&m, edge + way, secret), "too far"));
	}
	m.timestamp = TEXT("1614265330000"); /* milliseconds */
	assert_non_null(strstr(fault_of(&m, AT, secret), "too far"));
	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		m.timestamp = text_of(none[i]);
		if (!strstr(fault_of(&m, AT, secret), "no Unix time"))
			fail_msg("%s", none[i]);
	}
}

static void
keys(void **state)
{
	static const struct {
		const char *text;
		int len; /* 0: refused */
	} cases[] = {
	    {SECRET, 24},
	    {"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", 0}, /* 23 bytes */
	    {"whsec_"                                      /* 64 bytes */
	     "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	     "AAAAAAAAAAAAAAAAAAAAAA==",
		64},
	    {"whsec_" /* 65 */
	     "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	     "AAAAAAAAAAAAAAAAAAAAAAA=",
		0},
	    {"whsec_", 0},
	    {"", 0},
	    {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", 0}, /* a character is missing */
	    {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa_w", 0},
	    {"whpk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 0},
	    {"WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 0},
	};
	struct signature_key key;
	char text[SIGNATURE_KEY_LEN + 2];
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *fault =
		    signature_key_read(&key, SIGNATURE_STANDARD_WEBHOOKS, cases[i].text);
		if (!fault != (cases[i].len > 0))
			fail_msg("%s: %s", cases[i].text, fault ? fault : "taken");
		if (!fault)
			assert_int_equal(key.len, cases[i].len);
	}
	for (size_t len = 0; len < sizeof text; len++) {
		memset(text, 'k', len);
		text[len] = '\0';
		bool is_good = !signature_key_read(&key, SIGNATURE_HMAC_SHA256, text);
		assert_int_equal(is_good, len >= 16 && len <= SIGNATURE_KEY_LEN);
	}
}

/* RFC 4231; its other keys are shorter than we take, or longer. */
static void
rfc_4231(void **state)
{
	struct signature_key key = {.len = 20};
	struct signature_message m = {0};
	static const char case_1[] =
	    "sha256=b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7";
	char text[80];
	(void)state;
	m.body = TEXT("Hi There");
	memset(key.bytes, 0x0b, 20);
#define FAULT() signature_fault(SIGNATURE_HMAC_SHA256, &key, 1, &m, 0, 0)
	m.signature = text_of(case_1);
	assert_null(FAULT());
	m.signature = text_of(case_1 + 7);
	assert_null(FAULT());
	m.signature = TEXT("sDRMYdjbOFNcqK/OrwvxK4gdwgDJgz2nJuk3bC4yz/c=");
	assert_null(FAULT());
	for (size_t i = 0; i < sizeof case_1; i++)
		text[i] = (char)(i > 6 && case_1[i] >= 'a' ? case_1[i] - 32 : case_1[i]);
	m.signature = text_of(text);
	assert_null(FAULT());
	text[sizeof case_1 - 2] ^= 1;
	assert_non_null(strstr(FAULT(), "fits neither"));

	key.len = 25;
	for (unsigned char i = 0; i < 25; i++)
		key.bytes[i] = (unsigned char)(i + 1);
	memset(text, 0xcd, 50);
	m.body = (struct text){text, 50};
	m.signature =
	    TEXT("82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
	assert_null(FAULT());
}

static void
hexadecimal(void **state)
{
	static const char *const wrong[] = {"sha256=", "sha256",
	    "sha1=da39a3ee5e6b4b0d3255",
	    "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff",
	    "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff77",
	    "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cffg",
	    " b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
	    ("sha256=sha256="
	     "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
	    "sDRMYdjbOFNcqK/OrwvxK4gdwgDJgz2nJuk3bC4yz/g="};
	struct signature_key two[2] = {{.len = 16}, {.len = 20}};
	struct signature_message m = {0};
	(void)state;
	m.body = TEXT("Hi There");
	memset(two[1].bytes, 0x0b, 20);
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		m.signature = text_of(wrong[i]);
		if (!signature_fault(SIGNATURE_HMAC_SHA256, two, 2, &m, 0, 0))
			fail_msg("%s", wrong[i]);
	}
	m.signature = (struct text){0};
	assert_non_null(strstr(
	    signature_fault(SIGNATURE_HMAC_SHA256, two, 2, &m, 0, 0), "is missing"));
	m.signature =
	    TEXT("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
	assert_null(signature_fault(SIGNATURE_HMAC_SHA256, two, 2, &m, 0, 0));
	assert_non_null(signature_fault(SIGNATURE_HMAC_SHA256, two, 1, &m, 0, 0));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(published_vector),
	    cmocka_unit_test(altered), cmocka_unit_test(lists_of_signatures),
	    cmocka_unit_test(long_headers), cmocka_unit_test(empty_parts),
	    cmocka_unit_test(times), cmocka_unit_test(keys), cmocka_unit_test(rfc_4231),
	    cmocka_unit_test(hexadecimal)};
	return cmocka_run_group_tests_name("signature", tests, NULL, NULL);
}
