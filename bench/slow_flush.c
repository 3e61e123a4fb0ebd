/* For LD_PRELOAD: each fsync and fdatasync takes 5 ms more, as on a slow disk. */
#include <sys/syscall.h>
#include <unistd.h>

enum { MORE_US = 5000 };

int
fsync(int fd)
{
	usleep(MORE_US);
	return (int)syscall(SYS_fsync, fd);
}

int
fdatasync(int fd)
{
	usleep(MORE_US);
	return (int)syscall(SYS_fdatasync, fd);
}
