/* struct event: one webhook that was received with a valid token, be it an
 * event or a body that was rejected.  What crosses into the database is here. */
#ifndef EVENT_H
#define EVENT_H

#include "err.h"
#include "text.h"

#include <stdbool.h>
#include <stdint.h>

#define EVENT_NO_INT  INT32_MIN
#define EVENT_NO_TIME INT64_MIN

enum { EVENT_DIGEST_LEN = 16 };

/* Texts point into what the event was made from, into memory, or at literals;
 * absent ones have ptr NULL.  Times are microseconds since 1970. */
struct event {
	/* set by event_init() or event_restore() */
	struct text wire;  /* the body's bytes, borrowed */
	char *wire_memory; /* or in this, which event_free() frees */
	struct text source, remote_addr, content_type;
	int64_t received_at; /* UTC */
	unsigned char ingest_id[16];
	unsigned char digest_bytes[EVENT_DIGEST_LEN];
	struct text digest; /* of source and wire; absent in a rejected body */

	/* set by decode() */
	struct text kind, message_id, phone, device_id, device_name, channel;
	struct text status, status_text, body, media_url, note;
	int32_t status_code; /* or EVENT_NO_INT */
	int64_t occurred_at; /* wall clock in zone, or EVENT_NO_TIME */
	struct text zone;    /* absent: UTC */
	struct text payload; /* JSON that jsonb can hold */
	struct text raw;     /* wire, where payload is not faithful to it */
	char *memory;        /* what texts point into; event_free() */

	/* set by event_reject() */
	int32_t http_status; /* or EVENT_NO_INT: not rejected */
	struct text reason;
	char reason_bytes[160];

	/* the outcome, set by store_commit() */
	enum err result;
	bool is_spooled;      /* kept, but not in the database yet */
	int64_t id;           /* 0 for a rejected body */
	int64_t duplicate_of; /* or 0 */
};

/* A fresh event about a body: gives it the time now, an ingest id (UUID
 * version 7, RFC 9562 section 5.7, unique and time-ordered) and the digest. */
enum err event_init(struct event *ev, struct text wire, struct text source) MUST_USE;

/* An event again that was received before, by its own id and time. */
void event_restore(struct event *ev, struct text wire, struct text source,
    int64_t received_at, const unsigned char ingest_id[16]);

/* Turns the event into a rejected body.  reason may hold no text of the body. */
void event_reject(struct event *ev, int http_status, const char *reason, ...)
    __attribute__((format(printf, 3, 4)));

/* Whether it is committed, as an event or in sms.rejected. */
bool event_is_kept(const struct event *ev);

/* For qsort(3) of pointers to events: by the time of reception. */
int event_compare(const void *a, const void *b);

void event_free(struct event *ev);

#endif
