/* Standard input, output and error that are there: a file or a socket that is opened
 * later must not become one of them, and have printed what is meant for people. */
#ifndef STDFILES_H
#define STDFILES_H

#include <fcntl.h>
#include <unistd.h>

/* First of all in main(). */
static inline void
stdfiles_open(void)
{
	int fd;
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

#endif
