/* A batch of events as the arguments of sms.ingest: an array a column, in the
 * binary form that PostgreSQL's array_recv() reads (arrayfuncs.c), so that there
 * is nothing to quote.  One thread at a time. */
#ifndef COLUMNS_H
#define COLUMNS_H

#include "event.h"

#include <stdbool.h>

enum { N_COLUMNS = 24 };

struct column_buffer {
	char *bytes;
	size_t len, size;
};

/* Buffers are kept from batch to batch, unless one was very large. */
struct columns {
	struct column_buffer buffers[N_COLUMNS];
};

/* Type of a column's array, by its object id in pg_type. */
uint32_t columns_type(int column);

/* Encodes n events, which are only read.  False when memory is short. */
bool columns_fill(struct columns *c, struct event *const *events, size_t n);

/* Frees what is large, or everything. */
void columns_trim(struct columns *c);
void columns_free(struct columns *c);

#endif
