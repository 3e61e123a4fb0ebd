/* The configuration: one INI file, described by one table in conf.c.  An
 * unknown key, a bad value, a missing token or a file that others may read
 * stops the start, with file, line and reason in the log. */
#ifndef CONF_H
#define CONF_H

#include "conf_source.h"
#include "err.h"
#include "log.h"
#include "text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct conf {
	char *path; /* of the file */
	long threads;
	long socket_mode;
	long max_body;           /* bytes */
	long request_timeout_ms; /* from the first byte to the answer */
	char *conninfo;
	long timeout_ms; /* of the database */
	long notify;     /* 0 or 1 */
	char *spool_directory;
	long spool_max_size; /* bytes */
	long log_level;      /* enum log_level */
	long log_target;     /* enum log_target */
	struct conf_source *sources;
	size_t n_sources;
};

/* Reads path, or where it is NULL the first that there is of: $SMSHOOK_CONFIG,
 * ~/.config/smshook/smshook.conf by the password database, and
 * sysconfdir/smshook/smshook.conf.  Errors, logged: ERR_CONFIG, ERR_MEMORY.
 * The caller calls conf_free() in any case. */
enum err conf_load(struct conf *c, const char *path) MUST_USE;

void conf_free(struct conf *c);

/* The [source NAME], NULL when there is none. */
const struct conf_source *conf_source_named(const struct conf *c, struct text name);

/* Prints every key with its default and meaning. */
void conf_help(FILE *to);

#endif
