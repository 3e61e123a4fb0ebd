/* The vocabulary of message states, and the gateway's words and numbers for them.
 * Pure; any thread. */
#ifndef STATUS_H
#define STATUS_H

#include "text.h"

#include <stdint.h>

/* The gateway's status_id of a message that came in. */
enum { STATUS_ID_INCOMING = 5 };

/* queued, sent, delivered, failed, or unknown, a literal; case does not matter. */
const char *status_of_word(struct text word);

/* The same of a status_id; unknown for what is none, incoming included. */
const char *status_of_id(int32_t id);

#endif
