/* The drain: files of the spool go into the database, oldest first, several in a
 * batch, decoded anew as they were when they came, with their own ingest ids and
 * times.  A file goes only after the commit of all that is in it; whoever is
 * killed between the two, or does it twice, does no harm, by ingest_id. */
#ifndef DRAIN_H
#define DRAIN_H

#include "store.h"

struct drain;

/* conf and store must outlive *drain_r.  Errors: ERR_MEMORY. */
enum err drain_open(
    struct drain **drain_r, const struct conf *conf, struct store *store) MUST_USE;
void drain_close(struct drain **drain);

/* Drains the oldest files, of about max_events.  *n_r: events, 0 when none is
 * left, but for files that fail by themselves while the database is well: they
 * come again when all others are through.  Errors: ERR_BUSY: another process
 * drains; else what keeps the rest in the spool, with store_reason(). */
enum err drain_batch(struct drain *d, size_t max_events, size_t *n_r) MUST_USE;

#endif
