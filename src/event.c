#include "event.h"

#include "log.h"
#include "sha256.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

/* 48 bits of milliseconds, 12 of the fraction below (RFC 9562, section 6.2,
 * method 3), 62 of chance. */
static enum err
uuid7(unsigned char id[16], const struct timespec *now)
{
	uint64_t ms = (uint64_t)now->tv_sec * 1000 + (uint64_t)now->tv_nsec / 1000000;
	uint64_t fraction = (uint64_t)(now->tv_nsec % 1000000) * 4096 / 1000000;
	if (getrandom(id + 8, 8, 0) != 8) {
		log_error("getrandom: %m");
		return ERR_SYSTEM;
	}
	for (int i = 0; i < 6; i++)
		id[i] = (unsigned char)(ms >> (40 - 8 * i));
	id[6] = (unsigned char)(0x70 | fraction >> 8);
	id[7] = (unsigned char)fraction;
	id[8] = (unsigned char)(0x80 | (id[8] & 0x3f));
	return ERR_OK;
}

void
event_restore(struct event *ev, struct text wire, struct text source, int64_t received_at,
    const unsigned char ingest_id[16])
{
	unsigned char full[SHA256_LEN];

	*ev = (struct event){.wire = wire, .source = source, .received_at = received_at};
	memcpy(ev->ingest_id, ingest_id, sizeof ev->ingest_id);
	ev->status_code = ev->http_status = EVENT_NO_INT;
	ev->occurred_at = EVENT_NO_TIME;
	const struct text parts[] = {source, {"", 1}, wire};
	sha256_of(parts, 3, full);
	memcpy(ev->digest_bytes, full, EVENT_DIGEST_LEN);
	ev->digest = (struct text){(const char *)ev->digest_bytes, EVENT_DIGEST_LEN};
}

enum err
event_init(struct event *ev, struct text wire, struct text source)
{
	unsigned char id[16];
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	enum err e = uuid7(id, &now);
	if (e)
		*ev = (struct event){0};
	else
		event_restore(ev, wire, source,
		    now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000, id);
	return e;
}

void
event_reject(struct event *ev, int http_status, const char *reason, ...)
{
	va_list ap;
	va_start(ap, reason);
	vsnprintf(ev->reason_bytes, sizeof ev->reason_bytes, reason, ap);
	va_end(ap);
	ev->reason = text_of(ev->reason_bytes);
	ev->http_status = http_status;
	ev->raw = ev->wire;
	/* What was decoded may be the very thing that PostgreSQL refused. */
	ev->digest = ev->kind = ev->message_id = ev->phone = ev->device_id =
	    ev->device_name = ev->channel = ev->status = ev->status_text = ev->body =
		ev->media_url = ev->note = ev->zone = ev->payload = (struct text){0};
	ev->status_code = EVENT_NO_INT;
	ev->occurred_at = EVENT_NO_TIME;
}

bool
event_is_kept(const struct event *ev)
{
	return ev->result == ERR_OK || ev->result == ERR_DB_DATA;
}

int
event_compare(const void *a, const void *b)
{
	const struct event *const *x = a, *const *y = b;
	return memcmp((*x)->ingest_id, (*y)->ingest_id, sizeof(*x)->ingest_id);
}

void
event_free(struct event *ev)
{
	free(ev->memory);
	free(ev->wire_memory);
	ev->memory = ev->wire_memory = NULL;
}
