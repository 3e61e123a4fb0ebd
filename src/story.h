/* What happens at a gateway, one webhook after the other: messages that are
 * queued, sent, and delivered or not, and what the same people write.  A few
 * webhooks come late, a few twice.  The same seed tells the same story. */
#ifndef STORY_H
#define STORY_H

#include "payload.h"

enum { STORY_PEOPLE = 12, STORY_UNDER_WAY = 3, STORY_KEPT = 4 };

/* A message under way: the statuses that it goes through. */
struct story_message {
	enum payload_dialect dialect;
	int64_t id;
	int64_t at[2]; /* times of the last two of its webhooks */
	unsigned person, device, channel;
	int steps[6];
	unsigned n_steps, next;
	bool is_late; /* the last two change places */
};

/* To be seen by nobody else. */
struct story {
	unsigned short random[3]; /* state of nrand48(3), whose sequence POSIX fixes */
	int64_t at, id;
	unsigned people[STORY_PEOPLE]; /* what stands for the x of their numbers */
	unsigned reached;              /* who last got a message */
	unsigned n_messages, n_incoming, n_since_incoming;
	struct story_message under_way[STORY_UNDER_WAY];
	unsigned n_under_way;
	struct payload kept[STORY_KEPT]; /* the latest, to be repeated */
	unsigned n_kept;
	char text[512], phone[40];
};

/* It begins on 2026-01-15 at 10:00:00 UTC. */
void story_open(struct story *s, uint32_t seed);

/* The next webhook's body; it is the story's, until the next call.  now: the time
 * in microseconds since 1970, or 0: some seconds after the one before. */
struct text story_next(struct story *s, int64_t now);

#endif
