/* `smshook purge`: old events go, a batch a commit. */
#ifndef PURGE_H
#define PURGE_H

#include "admin.h"

extern const char purge_help[];

bool purge_takes(char *const *arguments);
void purge(struct admin *a);

#endif
