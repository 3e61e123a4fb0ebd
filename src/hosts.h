/* The hosts of a conninfo, that each may have its share of the time: libpq would
 * wait for a silent one for as long as it is let.  Where an element of a list is
 * empty, which means something to libpq alone, all of them count as one. */
#ifndef HOSTS_H
#define HOSTS_H

#include "pq.h"

#include <stdbool.h>
#include <stddef.h>

/* Where a host is: lists in conninfo, an element a host. */
enum { HOSTS_PLACES = 3, HOSTS_LEN = 256 };
extern const char *const hosts_places[HOSTS_PLACES];

struct hosts {
	size_t n, at; /* at: the one of the last connection, or the next to try */
	char *lists[HOSTS_PLACES]; /* or NULL */
};

/* A sentence when a part of a URI's password may stand where a host should, which
 * libpq would quote; else NULL. */
const char *hosts_fault(const PQconninfoOption *options);

/* False when memory is short. */
bool hosts_read(struct hosts *h, const PQconninfoOption *options);
void hosts_free(struct hosts *h);

/* What conninfo says of the host at: NULL where it says nothing. */
const char *hosts_place(const struct hosts *h, int place, char out[HOSTS_LEN]);

void hosts_next(struct hosts *h);

#endif
