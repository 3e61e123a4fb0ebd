#include "durable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static bool
write_all(int fd, struct text bytes)
{
	while (bytes.len > 0) {
		ssize_t n = write(fd, bytes.ptr, bytes.len);
		if (n < 0 && errno != EINTR)
			return false;
		if (n > 0) {
			bytes.ptr += n;
			bytes.len -= (size_t)n;
		}
	}
	return true;
}

/* rename(2) would replace a file.  Where the file system cannot do otherwise,
 * link(2) does not replace either; a crash between leaves two names. */
static int
rename_new(int from_fd, const char *name, int to_fd, const char *new_name)
{
	int failed = renameat2(from_fd, name, to_fd, new_name, RENAME_NOREPLACE);
	if (failed && (errno == EINVAL || errno == ENOSYS)) {
		failed = linkat(from_fd, name, to_fd, new_name, 0);
		if (!failed)
			failed = unlinkat(from_fd, name, 0);
	}
	return failed;
}

static const char *
write_file(int fd, struct text bytes)
{
	const char *failed = NULL;
	if (!write_all(fd, bytes))
		failed = "write to a file";
	else if (fsync(fd) < 0)
		failed = "fsync a file";
	int error = errno;
	/* Linux has closed it whatever close() says; some errors come only now. */
	if (close(fd) < 0 && !failed)
		return "close a file";
	errno = error;
	return failed;
}

static void
give_up(int fd, const char *name)
{
	int error = errno;
	unlinkat(fd, name, 0);
	errno = error;
}

const char *
durable_create(int from_fd, int to_fd, const char *name, struct text bytes)
{
	int fd = openat(
	    from_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return "make a file";
	const char *failed = write_file(fd, bytes);
	if (!failed && rename_new(from_fd, name, to_fd, name) < 0)
		failed = "rename a file";
	if (failed) {
		give_up(from_fd, name);
		return failed;
	}
	failed = durable_directory(to_fd);
	if (failed)
		give_up(to_fd, name);
	return failed;
}

const char *
durable_move(int from_fd, const char *name, int to_fd, const char *new_name)
{
	if (rename_new(from_fd, name, to_fd, new_name) < 0)
		return "move a file";
	return durable_directory(to_fd);
}

const char *
durable_directory(int fd)
{
	return fsync(fd) < 0 ? "fsync a directory" : NULL;
}
