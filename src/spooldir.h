/* The directory of the spool and its folders tmp/, new/ and bad/, open and fit:
 * ours alone, and where they were. */
#ifndef SPOOLDIR_H
#define SPOOLDIR_H

#include "err.h"

#include <stdbool.h>

enum spooldir_folder { SPOOLDIR_TMP, SPOOLDIR_NEW, SPOOLDIR_BAD, SPOOLDIR_N };
extern const char *const spooldir_names[SPOOLDIR_N];

struct spooldir {
	const char *path;
	int fd, folders[SPOOLDIR_N]; /* -1: not open */
	char reason[400];            /* why the last call failed */
};

void spooldir_init(struct spooldir *d, const char *path);

/* Before each use.  A directory that is not open, or no longer stands at its
 * path, is opened again; folders that are missing are made.  Errors: ERR_SPOOL
 * with the reason: what is wrong with it and what to mend. */
enum err spooldir_ready(struct spooldir *d) MUST_USE;
void spooldir_close(struct spooldir *d);

/* Calls each() with every name in a folder until it says false: ERR_MEMORY.
 * Errors: those of spooldir_ready(). */
typedef bool spooldir_each_fn(const char *name, void *arg);
enum err spooldir_each(struct spooldir *d, enum spooldir_folder folder,
    spooldir_each_fn *each, void *arg) MUST_USE;

/* Notes a reason: ERR_SPOOL. */
enum err spooldir_fail(struct spooldir *d, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
