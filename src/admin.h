/* What a command of smshook works on, and how it reports: a line each part that
 * begins with ok, warn or FAIL. */
#ifndef ADMIN_H
#define ADMIN_H

#include "conf.h"
#include "db.h"

struct admin {
	struct conf conf;
	struct db *db;
	char **arguments; /* after the command's name, up to NULL */
	int n_failed;
};

void admin_good(const char *format, ...) __attribute__((format(printf, 1, 2)));
void admin_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Counts: smshook exits 1. */
void admin_bad(struct admin *a, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
