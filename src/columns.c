#include "columns.h"

#include <arpa/inet.h>
#include <stdlib.h>

/* Types by their object ids in pg_type.dat, which never change. */
struct type {
	uint32_t oid, array_oid;
};
static const struct type UUID = {2950, 2951}, DIGEST = {2950, 2951},
			 TIMESTAMPTZ = {1184, 1185}, STRING = {25, 1009},
			 INT4 = {23, 1007}, JSONB = {3802, 3807}, BYTEA = {17, 1001};

/* The arguments of sms.ingest in their order, each an array. */
static const struct column {
	const struct type *type;
	size_t offset; /* in struct event */
} columns[] = {
    {&UUID, offsetof(struct event, ingest_id)},
    {&TIMESTAMPTZ, offsetof(struct event, received_at)},
    {&STRING, offsetof(struct event, source)},
    {&STRING, offsetof(struct event, kind)},
    {&STRING, offsetof(struct event, message_id)},
    {&STRING, offsetof(struct event, phone)},
    {&STRING, offsetof(struct event, device_id)},
    {&STRING, offsetof(struct event, device_name)},
    {&STRING, offsetof(struct event, channel)},
    {&STRING, offsetof(struct event, status)},
    {&INT4, offsetof(struct event, status_code)},
    {&STRING, offsetof(struct event, status_text)},
    {&STRING, offsetof(struct event, body)},
    {&STRING, offsetof(struct event, media_url)},
    {&TIMESTAMPTZ, offsetof(struct event, occurred_at)},
    {&STRING, offsetof(struct event, zone)},
    {&STRING, offsetof(struct event, note)},
    {&JSONB, offsetof(struct event, payload)},
    {&BYTEA, offsetof(struct event, raw)},
    {&DIGEST, offsetof(struct event, digest)},
    {&INT4, offsetof(struct event, http_status)},
    {&STRING, offsetof(struct event, reason)},
    {&STRING, offsetof(struct event, content_type)},
    {&STRING, offsetof(struct event, remote_addr)},
};
_Static_assert(sizeof columns / sizeof *columns == N_COLUMNS, "columns of sms.ingest");

/* Seconds from 1970 to 2000, where PostgreSQL counts from. */
static const int64_t POSTGRES_EPOCH = 946684800;

enum { BUFFER_KEPT = 256 * 1024 };

static bool
append(struct column_buffer *b, const void *bytes, size_t len)
{
	if (len > b->size - b->len) {
		size_t size = (b->len + len) * 2;
		char *grown = realloc(b->bytes, size);
		if (!grown)
			return false;
		b->bytes = grown;
		b->size = size;
	}
	if (len > 0)
		memcpy(b->bytes + b->len, bytes, len);
	b->len += len;
	return true;
}

static bool
append_int32(struct column_buffer *b, int64_t n)
{
	uint32_t wire = htonl((uint32_t)n);
	return append(b, &wire, sizeof wire);
}

static bool
append_time(struct column_buffer *b, int64_t us)
{
	uint64_t n = (uint64_t)(us - POSTGRES_EPOCH * 1000000);
	return append_int32(b, 8) && append_int32(b, (int64_t)(n >> 32)) &&
	       append_int32(b, (int64_t)(n & 0xffffffff));
}

/* jsonb's wire format is its version, 1, and the text. */
static bool
append_text(struct column_buffer *b, const struct type *type, const struct text *t)
{
	if (!t->ptr)
		return append_int32(b, -1);
	if (type == &JSONB)
		return append_int32(b, (int64_t)t->len + 1) && append(b, "\1", 1) &&
		       append(b, t->ptr, t->len);
	return append_int32(b, (int64_t)t->len) && append(b, t->ptr, t->len);
}

/* An element: its length in bytes, -1 for null, and its binary form. */
static bool
append_element(struct column_buffer *b, const struct type *type, const void *member)
{
	if (type == &UUID)
		return append_int32(b, 16) && append(b, member, 16);
	if (type == &INT4) {
		int32_t n = *(const int32_t *)member;
		return n == EVENT_NO_INT ? append_int32(b, -1)
					 : append_int32(b, 4) && append_int32(b, n);
	}
	if (type == &TIMESTAMPTZ) {
		int64_t us = *(const int64_t *)member;
		return us == EVENT_NO_TIME ? append_int32(b, -1) : append_time(b, us);
	}
	return append_text(b, type, member);
}

/* A column of a batch in the binary form of arrays (array_recv in PostgreSQL's
 * arrayfuncs.c): dimensions, has-nulls, element type, length, first index. */
static bool
fill(struct column_buffer *b, const struct column *c, struct event *const *events,
    size_t n)
{
	b->len = 0;
	if (!append_int32(b, n > 0 ? 1 : 0) || !append_int32(b, 1) ||
	    !append_int32(b, c->type->oid))
		return false;
	if (n > 0 && (!append_int32(b, (int64_t)n) || !append_int32(b, 1)))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!append_element(b, c->type, (const char *)events[i] + c->offset))
			return false;
	return true;
}

uint32_t
columns_type(int column)
{
	return columns[column].type->array_oid;
}

bool
columns_fill(struct columns *c, struct event *const *events, size_t n)
{
	for (int i = 0; i < N_COLUMNS; i++)
		if (!fill(&c->buffers[i], &columns[i], events, n))
			return false;
	return true;
}

static void
release(struct column_buffer *b)
{
	free(b->bytes);
	*b = (struct column_buffer){0};
}

void
columns_trim(struct columns *c)
{
	for (int i = 0; i < N_COLUMNS; i++)
		if (c->buffers[i].size > BUFFER_KEPT)
			release(&c->buffers[i]);
}

void
columns_free(struct columns *c)
{
	for (int i = 0; i < N_COLUMNS; i++)
		release(&c->buffers[i]);
}
