/* Files of the spool: what was written is read back, what was altered is known. */
#include "unit.h"

#include "spoolfile.h"

#include <stdio.h>
#include <stdlib.h>

enum { N = 3 };
static const char binary[] = "\0\nend 1\n\xff";

/* An event, one with all that a header can have, and a body that was rejected. */
static struct text
sample(struct event ev[N])
{
	struct event *events[N];
	struct text bytes;
	const struct text wires[N] = {
	    TEXT("{\"event\":\"x\"}"), TEXT(""), {binary, sizeof binary - 1}};
	for (int i = 0; i < N; i++) {
		assert_int_equal(event_init(&ev[i], wires[i], TEXT("shop")), ERR_OK);
		events[i] = &ev[i];
	}
	ev[1].remote_addr = TEXT("192.0.2.1");
	ev[1].content_type = TEXT("text/plain; charset=x: y");
	event_reject(&ev[1], 400, "the value is missing at byte %d", 0);
	ev[2].received_at = 1234567890000001;
	assert_int_equal(spoolfile_encode(events, N, &bytes), ERR_OK);
	return bytes;
}

static const char *
decode_copy(struct spoolfile *f, const char *bytes, size_t len)
{
	char *copy = malloc(len + 1);
	assert_non_null(copy);
	memcpy(copy, bytes, len);
	return spoolfile_decode(f, copy, len);
}

static void
round_trip(void **state)
{
	struct event ev[N];
	struct spoolfile f;
	struct text bytes = sample(ev);
	(void)state;
	assert_null(decode_copy(&f, bytes.ptr, bytes.len));
	assert_int_equal(f.n, N);
	for (int i = 0; i < N; i++) {
		const struct event *a = &ev[i], *b = &f.events[i];
		assert_memory_equal(a->ingest_id, b->ingest_id, 16);
		assert_int_equal(a->received_at, b->received_at);
		assert_int_equal(a->wire.len, b->wire.len);
		assert_memory_equal(a->wire.ptr, b->wire.ptr, a->wire.len);
		assert_int_equal(a->http_status, b->http_status);
		assert_text(b->source, "shop");
	}
	assert_memory_equal(ev[0].digest.ptr, f.events[0].digest.ptr, EVENT_DIGEST_LEN);
	assert_text(f.events[0].remote_addr, NULL);
	assert_text(f.events[1].remote_addr, "192.0.2.1");
	assert_text(f.events[1].content_type, "text/plain; charset=x: y");
	assert_text(f.events[1].reason, "the value is missing at byte 0");
	assert_int_equal(f.events[1].raw.len, 0);
	assert_non_null(f.events[1].raw.ptr);
	spoolfile_free(&f);
	free((char *)bytes.ptr);
}

static void
every_cut(void **state)
{
	struct event ev[N];
	struct spoolfile f;
	struct text bytes = sample(ev);
	(void)state;
	for (size_t len = 0; len < bytes.len; len++) {
		assert_non_null(decode_copy(&f, bytes.ptr, len));
		spoolfile_free(&f);
	}
	free((char *)bytes.ptr);
}

static void
every_flipped_bit(void **state)
{
	struct event ev[N];
	struct spoolfile f;
	struct text bytes = sample(ev);
	char *at = (char *)bytes.ptr;
	(void)state;
	for (size_t i = 0; i < bytes.len * 8; i++) {
		at[i / 8] = (char)(at[i / 8] ^ 1 << i % 8);
		assert_non_null(decode_copy(&f, bytes.ptr, bytes.len));
		spoolfile_free(&f);
		at[i / 8] = (char)(at[i / 8] ^ 1 << i % 8);
	}
	free((char *)bytes.ptr);
}

static void
names(void **state)
{
	struct event a, b;
	char first[SPOOLFILE_NAME_SIZE], second[SPOOLFILE_NAME_SIZE];
	uint64_t len;
	(void)state;
	assert_int_equal(event_init(&a, TEXT("x"), TEXT("s")), ERR_OK);
	assert_int_equal(event_init(&b, TEXT("x"), TEXT("s")), ERR_OK);
	a.ingest_id[7] = 0;
	spoolfile_name(first, &a, 99999);
	spoolfile_name(second, &b, 1);
	assert_true(memcmp(a.ingest_id, b.ingest_id, 16) < 0);
	assert_true(strcmp(first, second) < 0);
	assert_true(spoolfile_is_name(first, &len));
	assert_int_equal(len, 99999);
	static const char *const none[] = {"", ".", "x",
	    "0190a3b4c5d67e8f9a0b1c2d3e4f5061", "0190a3b4c5d67e8f9a0b1c2d3e4f5061.",
	    "0190a3b4c5d67e8f9a0b1c2d3e4f5061.-1", "0190a3b4c5d67e8f9a0b1c2d3e4f5061.01",
	    "0190a3b4c5d67e8f9a0b1c2d3e4f5061.1~1", "0190A3B4C5D67E8F9A0B1C2D3E4F5061.1",
	    "0190a3b4c5d67e8f9a0b1c2d3e4f506100.1",
	    "0190a3b4c5d67e8f9a0b1c2d3e4f5061.9999999999999999999"};
	for (size_t i = 0; i < sizeof none / sizeof *none; i++)
		assert_false(spoolfile_is_name(none[i], &len));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip),
	    cmocka_unit_test(every_cut), cmocka_unit_test(every_flipped_bit),
	    cmocka_unit_test(names)};
	return cmocka_run_group_tests_name("spoolfile", tests, NULL, NULL);
}
