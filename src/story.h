/* What happens at a gateway, one webhook after the other, as SmsGateWay24 sends
 * them: messages that are queued, sent, and delivered or not, and what the same
 * people write, in each dialect and every form of a datetime.  A few webhooks come
 * late, a few twice.  The same seed tells the same story. */
#ifndef STORY_H
#define STORY_H

#include <stdbool.h>
#include <stdint.h>

enum { STORY_UNDER_WAY = 3, STORY_KEPT = 4, STORY_BODY = 4096 };

/* A message under way: the statuses that it goes through. */
struct story_message {
	int64_t at; /* the time of the latest of its webhooks */
	unsigned id, dialect, person, device, next;
	char steps[6];
	int last;     /* the status that it ends with */
	bool is_late; /* the last two webhooks have changed places */
};

/* To be seen by nobody else. */
struct story {
	unsigned short random[3]; /* state of nrand48(3), whose sequence POSIX fixes */
	int64_t at;
	unsigned digits;  /* what the x of numbers are made of */
	unsigned reached; /* who last got a message */
	unsigned id, n_messages, n_incoming, n_since_incoming;
	struct story_message under_way[STORY_UNDER_WAY];
	unsigned n_under_way;
	char kept[STORY_KEPT][STORY_BODY]; /* the latest, to be repeated */
	unsigned n_kept;
	char phone[40];
};

/* It begins on 2026-01-15 at 10:00:00 UTC. */
void story_open(struct story *s, uint32_t seed);

/* The next webhook's body, one line; it is the story's, until the next call.  now:
 * the time in microseconds since 1970, or 0: some seconds after the one before. */
const char *story_next(struct story *s, int64_t now);

#endif
