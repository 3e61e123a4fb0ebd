/* What a process has counted in the spool, for those that come after it: a CGI program
 * begins anew with each request, and to count many files takes longer than all else.
 * It stands in the file "count" of the spool's directory, and is no more than a hint:
 * not fsynced, and nobody waits for another. */
#ifndef TALLY_H
#define TALLY_H

#include <stdbool.h>
#include <stdint.h>

struct tally {
	uint64_t n_files, bytes, n_bad;
	int64_t valid_ms; /* from when it was written on; when it is read, what is left */
};

/* False when there is none that is valid. */
bool tally_read(int directory_fd, struct tally *t_r);
void tally_write(int directory_fd, const struct tally *t);

#endif
