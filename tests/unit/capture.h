/* What a function writes to stderr, as a string. */
#ifndef CAPTURE_H
#define CAPTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct capture {
	FILE *file;
	int saved_fd;
	char text[8192];
};

static inline void
capture_begin(struct capture *c)
{
	c->file = tmpfile();
	c->saved_fd = dup(STDERR_FILENO);
	if (!c->file || dup2(fileno(c->file), STDERR_FILENO) < 0)
		abort();
}

static inline const char *
capture_end(struct capture *c)
{
	dup2(c->saved_fd, STDERR_FILENO);
	close(c->saved_fd);
	rewind(c->file);
	c->text[fread(c->text, 1, sizeof c->text - 1, c->file)] = '\0';
	fclose(c->file);
	return c->text;
}

#endif
