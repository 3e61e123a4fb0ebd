/* Whose turn it is to wait for events: as many workers as there are processors do, for
 * more would only wake each other.  One that is about to wait for something else lets
 * another go on. */
#ifndef WATCH_H
#define WATCH_H

#include <semaphore.h>
#include <stdbool.h>

struct watch {
	sem_t room;
};

/* A worker, at first with is_on false; its thread's alone. */
struct watcher {
	struct watch *watch;
	bool is_on;
};

void watch_open(struct watch *w);

/* When no thread uses it any more. */
void watch_close(struct watch *w);

/* Before the worker waits for events.  Waits for its turn, unless it has it. */
void watch_begin(struct watcher *w);

/* It will wait for something else, or end. */
void watch_end(struct watcher *w);

#endif
