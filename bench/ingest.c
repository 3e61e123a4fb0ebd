/* PostgreSQL alone: batches of events, decoded before, by one connection, as the
 * receiver sends them.  Usage: ingest CONNINFO BATCH SECONDS; says events/s. */
#include "clock.h"
#include "db.h"
#include "decode.h"

#include <stdio.h>
#include <stdlib.h>

enum { N_EVENTS = 100000, BODY_SIZE = 256, PATIENCE_MS = 10000 };

/* The four bodies of bench/load.lua. */
static const char *const formats[] = {
    "{\"event\":\"delivery_status\",\"message_id\":\"msg-%1$lld\",\"phone\":\"+49151%2$"
    "07lld\","
    "\"status\":\"sent\",\"timestamp\":\"2026-01-15T10:30:00Z\",\"device_id\":\"device_"
    "xyz\"}",
    "{\"address\":\"+49151%2$07lld\",\"date_sent\":\"2026-01-15 10:31:00\",\"body\":"
    "\"Hello, I need help with my order %1$lld\",\"channel_id\":1,\"sms_id\":%1$lld,"
    "\"device_id\":7,\"device_name\":\"till\",\"type\":\"text\"}",
    "{\"sms_id\":%1$lld,\"status_id\":7,\"status_message\":\"Delivered\",\"sendto\":"
    "\"+49151%2$07lld\",\"senttime\":\"2026-01-15 "
    "10:30:00\",\"channel_id\":1,\"device_id\":7}",
    "{\"event\":\"incoming_sms\",\"phone\":\"+49151%2$07lld\",\"message\":\"Hello, I "
    "need help "
    "with my order "
    "%1$lld\",\"timestamp\":\"2026-01-15T10:31:00Z\",\"device_id\":\"device_xyz\"}",
};

static void
fail(const char *what, const char *why)
{
	fprintf(stderr, "ingest: %s: %s\n", what, why);
	exit(1);
}

/* Different in each run: the time, and a number. */
static struct event *
make_event(long long n)
{
	struct event *ev = malloc(sizeof *ev);
	char *body = malloc(BODY_SIZE);
	if (!ev || !body)
		fail("memory", "none left");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(body, BODY_SIZE, formats[n % 4], n, n * 7919 % 10000000);
#pragma GCC diagnostic pop
	if (event_init(ev, text_of(body), TEXT("bench")) ||
	    decode(ev, TEXT("UTC"), (struct text){0}))
		fail("a body", body);
	return ev;
}

static int64_t
now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000) + t.tv_nsec / 1000;
}

int
main(int argc, char **argv)
{
	static struct event *events[N_EVENTS];
	struct db *db;
	if (argc != 4)
		fail("usage", "ingest CONNINFO BATCH SECONDS");
	size_t size = (size_t)atoi(argv[2]), n = 0;
	int64_t length = (int64_t)(atof(argv[3]) * 1e6);
	if (db_open(&db, argv[1]) || db_connect(db, clock_ms() + PATIENCE_MS))
		fail("connect", db_reason(db));
	/* The first calls make plans. */
	long long first = (long long)time(NULL) * N_EVENTS;
	for (size_t i = 0; i < N_EVENTS; i++)
		events[i] = make_event(first + (long long)i);
	for (; n < 16 * size && n < N_EVENTS / 4; n += size)
		if (db_ingest(db, events + n, size, true, clock_ms() + PATIENCE_MS))
			fail("ingest", db_reason(db));
	size_t warm = n;
	int64_t began = now_us(), took = 0;
	for (; n + size <= N_EVENTS && took < length; n += size, took = now_us() - began)
		if (db_ingest(db, events + n, size, true, clock_ms() + PATIENCE_MS))
			fail("ingest", db_reason(db));
	printf("%.0f\n", (double)(n - warm) * 1e6 / (double)took);
	db_close(&db);
	return 0;
}
