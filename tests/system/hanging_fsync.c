/* For LD_PRELOAD: fsync and fdatasync hang for a minute while there is a file HANG_WHILE. */
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static void
maybe_hang(void)
{
	const char *when = getenv("HANG_WHILE");
	if (when && access(when, F_OK) == 0)
		sleep(60);
}

int
fsync(int fd)
{
	maybe_hang();
	return (int)syscall(SYS_fsync, fd);
}

int
fdatasync(int fd)
{
	maybe_hang();
	return (int)syscall(SYS_fdatasync, fd);
}
