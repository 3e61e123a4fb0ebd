/* smshook spool: list, show, drain and retry.  The receiver may run or not. */
#ifndef SPOOLCTL_H
#define SPOOLCTL_H

#include "admin.h"

/* The subcommand and its arguments are a->arguments.  False: bad usage. */
bool spoolctl(struct admin *a);

#endif
