/* One file of the spool: a batch of events as text that cat shows, with the
 * bodies as they came, and a last line by which a torn or altered file is known.
 * Read back it is events that decode() can work on.  Any thread.
 *
 *	smshook spool 1
 *	ingest-id: 0190a3b4-c5d6-7e8f-9a0b-1c2d3e4f5061
 *	received-at: 2026-11-23T12:42:52.123456Z
 *	source: shop
 *	remote-addr: 192.0.2.1			where it is known
 *	content-type: application/json		where it is known
 *	rejected: 422 what was wrong		a body that is no event
 *	length: 143
 *
 *	143 bytes of body
 *	... the next event ...
 *	end 2 SHA-256 of all before this line, in hexadecimal
 */
#ifndef SPOOLFILE_H
#define SPOOLFILE_H

#include "event.h"

/* 32 digits of an ingest id, a dot, the length, the final NUL. */
enum { SPOOLFILE_NAME_SIZE = 32 + 1 + 19 + 1 };

struct spoolfile {
	char *bytes; /* what the events point into */
	struct event *events;
	size_t n;
};

/* Encodes n events, which are only read, into memory that the caller frees.
 * Errors: ERR_MEMORY. */
enum err spoolfile_encode(
    struct event *const *events, size_t n, struct text *bytes_r) MUST_USE;

/* The name of a file of len bytes: sorted by name they are by time. */
void spoolfile_name(
    char name[SPOOLFILE_NAME_SIZE], const struct event *first, size_t len);

/* Whether it is such a name; then *len_r is the length in it. */
bool spoolfile_is_name(const char *name, uint64_t *len_r);

/* Reads a file back.  bytes, from malloc(), are the spoolfile's from now on.
 * Returns NULL, or what is wrong with the file, a literal, or spoolfile_no_memory.
 * The caller calls spoolfile_free() in any case. */
const char *spoolfile_decode(struct spoolfile *f, char *bytes, size_t len);

/* Reads the file name in a folder, which must be a plain one as long as its name
 * tells.  Returns as spoolfile_decode(); also spoolfile_gone, and
 * spoolfile_no_memory for a want of descriptors. */
const char *spoolfile_load(struct spoolfile *f, int folder_fd, const char *name);

extern const char spoolfile_no_memory[], spoolfile_gone[];

void spoolfile_free(struct spoolfile *f);

#endif
