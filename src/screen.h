/* What strangers have written, on a terminal: nothing that could move it, hide or
 * turn round what stands there, or forge a line gets through. */
#ifndef SCREEN_H
#define SCREEN_H

#include "text.h"

#include <stdint.h>
#include <stdio.h>

/* In one line: a newline is shown as U+23CE, a tab as a space, control
 * characters (C0, C1, DEL, those of bidirectional text) and what is no UTF-8 as
 * U+FFFD. */
void screen_text(FILE *out, struct text t);

/* JSON, to the same end: such characters are escaped, so it says the same. */
void screen_json(FILE *out, struct text t);

/* A time in microseconds since 1970, in the zone of TZ or of this machine. */
void screen_time(FILE *out, int64_t us);

#endif
