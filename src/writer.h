/* Group commit.  Events wait in one queue; the writer's thread takes all that
 * waits, has it committed at once, and tells their owners: what arrives during one
 * commit is the next batch, while another thread, the teller, tells of the last one, and
 * those whose time is over.  Where the flush takes long the next batch waits some
 * milliseconds for those who were just answered.  Nobody else waits.
 * Any thread may call, but for open, start and close. */
#ifndef WRITER_H
#define WRITER_H

#include "store.h"

struct writer;

struct writer_stats {
	/* events by their outcome */
	uint64_t stored, duplicate, rejected, spooled, failed;
	uint64_t commits;         /* batches with an event */
	struct store_stats store; /* as of the last trial */
};

/* Told once of what was handed in.  The event is its owner's again.  It is NULL for a
 * trial, and when a disk or a name server hangs and the deadline has passed: then the
 * writer keeps it, and nobody knows its outcome.  May not wait: others are told by the
 * same thread. */
typedef void writer_told(void *owner, struct event *ev, enum err e);

/* max_batch: events a commit.  Without writer_start() each writer_submit()
 * commits by itself, in the caller's thread.  Errors: ERR_MEMORY, ERR_SYSTEM. */
enum err writer_open(
    struct writer **writer_r, struct store *store, size_t max_batch) MUST_USE;
enum err writer_start(struct writer *w) MUST_USE;

/* Has all that waits committed, then ends. */
void writer_close(struct writer **writer);

/* Hands in an event, made by malloc(), or with NULL tries whether one would be kept
 * now.  The owner is told, before this returns or later, by one of the writer's threads.
 * deadline: clock_ms() by which the outcome is to be known.
 * Errors told: those of store_commit(); ERR_BUSY when its turn did not come, or has
 * not come to an end; ERR_MEMORY. */
void writer_submit(
    struct writer *w, struct event *ev, int64_t deadline, writer_told *told, void *owner);

void writer_stats(struct writer *w, struct writer_stats *stats_r);

#endif
