/* `smshook migrate`: the schema sms, by the files of sql/ that are compiled in. */
#ifndef MIGRATE_H
#define MIGRATE_H

#include "admin.h"

/* The version that this smshook makes and needs. */
int migrate_newest(void);

void migrate(struct admin *a);

#endif
