/* Bodies of webhooks as SmsGateWay24 sends them: both kinds, in each dialect,
 * every form of a datetime, JSON as plain UTF-8 or with PHP's escapes.  Pure. */
#ifndef PAYLOAD_H
#define PAYLOAD_H

#include "text.h"

#include <stdint.h>

/* CHANNEL and SIM are the reference dialect of delivery, TEXT to OLD_NUMBER that
 * of incoming SMS: with type, without it, and with the address as a number. */
enum payload_dialect {
	PAYLOAD_ARTICLE_DELIVERY,
	PAYLOAD_CHANNEL,
	PAYLOAD_SIM,
	PAYLOAD_ARTICLE_INCOMING,
	PAYLOAD_TEXT,
	PAYLOAD_IMAGE,
	PAYLOAD_OLD,
	PAYLOAD_OLD_NUMBER,
};

/* How a datetime of the reference dialect is written.  The first two tell no
 * zone: they are UTC. */
enum payload_time {
	PAYLOAD_SECONDS,
	PAYLOAD_FRACTION,
	PAYLOAD_RFC3339,
	PAYLOAD_OFFSET,
	PAYLOAD_UNIX,
	PAYLOAD_UNIX_MS,
	PAYLOAD_PHP_OFFSET,
	PAYLOAD_PHP_ZONE,
	PAYLOAD_N_TIMES
};

struct payload_event {
	enum payload_dialect dialect;
	enum payload_time time;
	int64_t id;        /* of the message */
	int64_t at;        /* when it happened: microseconds since 1970, UTC */
	int status;        /* status_id of a delivery */
	const char *phone; /* as it is to be written */
	const char *text;  /* of an incoming SMS */
	unsigned device, channel;
	unsigned delay; /* an incoming SMS reached the gateway so many seconds later */
	bool is_php;    /* JSON escapes for all but ASCII, and for / */
	bool is_sparse; /* what may be absent or null is, and a number is a string */
};

struct payload {
	char bytes[4096];
	size_t len;
	bool is_php;
};

/* A status_id that no list has: unknown. */
enum { PAYLOAD_UNKNOWN_STATUS = 4 };

/* One line without its newline; what has no room is cut. */
void payload_write(struct payload *out, const struct payload_event *ev);

#endif
