/* `smshook tail`: shows events as they come. */
#ifndef TAIL_H
#define TAIL_H

#include "admin.h"

extern const char tail_help[];

bool tail_takes(char *const *arguments);
void tail(struct admin *a);

#endif
