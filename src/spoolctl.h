/* smshook spool: list, show, drain and retry.  The receiver may run or not. */
#ifndef SPOOLCTL_H
#define SPOOLCTL_H

#include "admin.h"

/* Whether arguments are a subcommand and what belongs to it. */
bool spoolctl_takes(char *const *arguments);

/* Runs the subcommand in a->arguments. */
void spoolctl(struct admin *a);

#endif
