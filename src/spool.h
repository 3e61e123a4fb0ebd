/* The spool: events that wait for the database, as files that survive a power
 * cut.  In its directory a file is written in tmp/, waits in new/ under a name
 * that sorts by time, and goes when its events are committed; one that cannot be
 * read is moved to bad/, with a file NAME.reason beside it.  Any number of
 * processes may use one directory.  A struct spool is for one thread at a time.
 *
 * A directory that is not there, or not fit, is looked for again by each call:
 * what spool_open() has reported may be mended while we run. */
#ifndef SPOOL_H
#define SPOOL_H

#include "spoolfile.h"

struct spool;

/* Of new/, and how many files are in bad/. */
struct spool_usage {
	uint64_t n_files, bytes, n_bad;
};

/* Names of files, sorted: oldest first. */
struct spool_names {
	char **names;
	size_t n, size;
};

/* directory must outlive *spool_r; max_size in bytes on the disk.  Errors:
 * ERR_MEMORY; ERR_SPOOL with spool_reason(): it cannot be used as it is. */
enum err spool_open(
    struct spool **spool_r, const char *directory, int64_t max_size) MUST_USE;
void spool_close(struct spool **spool);

/* For a process that soon ends: it may tell what one before it has counted. */
void spool_set_brief(struct spool *sp);

/* What was wrong in the last call that failed: where and what to mend. */
const char *spool_reason(const struct spool *sp);

/* Writes n events, which are only read, into one file.  ERR_OK: the file is on
 * the disk, with its name.  Errors: ERR_SPOOL, ERR_MEMORY: nothing is kept. */
enum err spool_put(struct spool *sp, struct event *const *events, size_t n) MUST_USE;

/* Whether spool_put() would work now: writes a file and removes it. */
enum err spool_try(struct spool *sp) MUST_USE;

/* Counts, or tells an earlier count where counting again would cost much. */
enum err spool_usage(struct spool *sp, struct spool_usage *usage_r) MUST_USE;

/* Names in bad/, or those in new/ that are of ours.  The caller calls
 * spool_names_free() in any case. */
enum err spool_list(struct spool *sp, bool is_bad, struct spool_names *names_r) MUST_USE;
void spool_names_free(struct spool_names *names);

/* Moves what is in new/ without being a file of ours to bad/. */
enum err spool_tidy(struct spool *sp) MUST_USE;

/* Only one process drains.  Errors: ERR_BUSY: another one does; ERR_SPOOL. */
enum err spool_lock(struct spool *sp) MUST_USE;
void spool_unlock(struct spool *sp);

/* Reads a file of new/.  Errors: ERR_SPOOL: it is not there (any more), or cannot
 * be read or is broken, and was moved to bad/; ERR_MEMORY: also for a want of
 * descriptors. */
enum err spool_read(
    struct spool *sp, const char *name, struct spoolfile *file_r) MUST_USE;

/* After the commit of all that is in it.  Errors: ERR_SPOOL: it is still there. */
enum err spool_remove(struct spool *sp, const char *name) MUST_USE;

/* Moves a file of new/ to bad/.  Errors: ERR_SPOOL: it is still there. */
enum err spool_condemn(struct spool *sp, const char *name, const char *why) MUST_USE;

/* Moves a file of bad/ back to new/, to be tried again.  Errors: ERR_SPOOL. */
enum err spool_retry(struct spool *sp, const char *name) MUST_USE;

/* A note for the processes of a CGI program: the database was away not longer
 * than pause_ms ago.  When it was longer, the first who asks may try it, and the
 * others have another pause. */
bool spool_is_away(struct spool *sp, long pause_ms);
void spool_note_away(struct spool *sp, bool is_away);

#endif
