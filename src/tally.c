#include "tally.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { VALID_MAX_MS = 10000 };
static const uint64_t bytes_max = UINT64_C(1) << 60;

static const char name[] = "count";

static int64_t
age_ms(const struct stat *st)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (now.tv_sec - st->st_mtim.tv_sec) * INT64_C(1000) +
	       (now.tv_nsec - st->st_mtim.tv_nsec) / 1000000;
}

bool
tally_read(int directory_fd, struct tally *t_r)
{
	char line[128];
	struct stat st;
	int fd =
	    openat(directory_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t n = fstat(fd, &st) == 0 ? read(fd, line, sizeof line - 1) : -1;
	close(fd);
	if (n <= 0)
		return false;
	line[n] = '\0';
	int n_fields =
	    sscanf(line, "%20" SCNu64 " %20" SCNu64 " %20" SCNu64 " %20" SCNd64,
		&t_r->n_files, &t_r->bytes, &t_r->n_bad, &t_r->valid_ms);
	int64_t age = age_ms(&st);
	if (n_fields != 4 || t_r->bytes > bytes_max || t_r->valid_ms < 0 ||
	    t_r->valid_ms > VALID_MAX_MS)
		return false;
	t_r->valid_ms -= age;
	return age >= 0 && t_r->valid_ms > 0; /* clocks are set back, too */
}

/* All are of one length, and written over each other by one write(2). */
void
tally_write(int directory_fd, const struct tally *t)
{
	char line[128];
	int64_t valid_ms = t->valid_ms < VALID_MAX_MS ? t->valid_ms : VALID_MAX_MS;
	int len = snprintf(line, sizeof line,
	    "%020" PRIu64 " %020" PRIu64 " %020" PRIu64 " %020" PRId64 "\n", t->n_files,
	    t->bytes, t->n_bad, valid_ms);
	int fd = openat(directory_fd, name,
	    O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	if (write(fd, line, (size_t)len) != len)
		unlinkat(directory_fd, name, 0);
	close(fd);
}
