#include "unit.h"

#include "event.h"

/* RFC 9562: version 7 and variant 2 stand where they should; later is larger. */
static void
ingest_ids(void **state)
{
	struct event a, b;
	(void)state;
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(event_init(&a, TEXT("x"), TEXT("s")), ERR_OK);
		assert_int_equal(event_init(&b, TEXT("x"), TEXT("s")), ERR_OK);
		assert_int_equal(a.ingest_id[6] >> 4, 7);
		assert_int_equal(a.ingest_id[8] >> 6, 2);
		assert_true(memcmp(a.ingest_id, b.ingest_id, 8) <= 0);
		assert_memory_not_equal(a.ingest_id, b.ingest_id, 16);
	}
	uint64_t ms = 0;
	for (int i = 0; i < 6; i++)
		ms = ms << 8 | b.ingest_id[i];
	assert_int_equal(ms, b.received_at / 1000);
}

/* Of the source and the body. */
static void
digests(void **state)
{
	struct event ev;
	(void)state;
	assert_int_equal(event_init(&ev, TEXT("abc"), TEXT("s")), ERR_OK);
	assert_int_equal(ev.digest.len, 16);
	assert_memory_equal(ev.digest.ptr,
	    "\x35\xc7\x88\x48\xb9\xfa\x38\x08\xbd\x59\x74\x8d\xae\xa8\xba\x7a", 16);
}

static void
rejected(void **state)
{
	struct event ev;
	(void)state;
	assert_int_equal(event_init(&ev, TEXT("abc"), TEXT("s")), ERR_OK);
	ev.kind = ev.body = TEXT("x");
	event_reject(&ev, 422, "no %s", "event");
	assert_int_equal(ev.http_status, 422);
	assert_text(ev.reason, "no event");
	assert_text(ev.raw, "abc");
	assert_text(ev.source, "s");
	assert_text(ev.kind, NULL);
	assert_text(ev.body, NULL);
	assert_text(ev.digest, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(ingest_ids),
	    cmocka_unit_test(digests), cmocka_unit_test(rejected)};
	return cmocka_run_group_tests_name("event", tests, NULL, NULL);
}
