/* Group commit.  Events wait in one queue; the writer's thread takes all that
 * waits, has it committed at once, and wakes those who handed it in: what
 * arrives during one commit is the next batch.  Any thread may call, but for open,
 * start and close. */
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

/* max_batch: events a commit.  Without writer_start() each writer_submit()
 * commits by itself, in the caller's thread.  Errors: ERR_MEMORY, ERR_SYSTEM. */
enum err writer_open(
    struct writer **writer_r, struct store *store, size_t max_batch) MUST_USE;
enum err writer_start(struct writer *w) MUST_USE;

/* Answers all that waits, then ends. */
void writer_close(struct writer **writer);

/* Hands in an event, made by malloc(), and waits until its outcome is known, or
 * deadline (clock_ms()).  The event is borrowed; but when a disk or a name server
 * hangs, and the deadline has passed, the writer keeps it, *ev becomes NULL, and
 * nobody knows its outcome.  *ev NULL tries whether an event would be kept now.
 * Errors: those of store_commit(); ERR_BUSY when its turn did not come, or has
 * not come to an end; ERR_MEMORY. */
enum err writer_submit(struct writer *w, struct event **ev, int64_t deadline) MUST_USE;

void writer_stats(struct writer *w, struct writer_stats *stats_r);

#endif
