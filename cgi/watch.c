#include "watch.h"

#include <unistd.h>

/* One may be in accept4() when another process was quicker. */
enum { WATCHERS_MIN = 2 };

void
watch_open(struct watch *w)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);
	sem_init(&w->room, 0, (unsigned)(n < WATCHERS_MIN ? WATCHERS_MIN : n));
}

void
watch_close(struct watch *w)
{
	sem_destroy(&w->room);
}

void
watch_begin(struct watcher *w)
{
	while (!w->is_on)
		w->is_on = sem_wait(&w->watch->room) == 0; /* or a signal came */
}

void
watch_end(struct watcher *w)
{
	if (w->is_on)
		sem_post(&w->watch->room);
	w->is_on = false;
}
