#include "gather.h"

#include "clock.h"
#include "log.h"
#include "records.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* What is taken beside max_body bytes of a body: parameters and headers of records. */
enum { BESIDE = 128 * 1024 };

struct gathered {
	int file;      /* in memory */
	bool is_whole; /* else it is cut */
	enum err cut;  /* and answered so */
	int fd;        /* the connection */
	fcgi_told *told;
	void *owner;
};

/* So much more may come behind a request that was answered before its end. */
enum { MAX_REST = 4 << 20 };

/* More bytes of a connection: how many, 0 at its end or at the time until. */
static size_t
read_more(int fd, unsigned char *bytes, size_t size, int64_t until)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	if (poll(&p, 1, clock_left(until)) <= 0)
		return 0;
	ssize_t n = recv(fd, bytes, size, MSG_DONTWAIT);
	return n > 0 ? (size_t)n : 0;
}

/* Reads until the request is whole, or bytes are full. */
static size_t
read_request(
    int fd, unsigned char *bytes, size_t size, int64_t until, enum records_state *state_r)
{
	size_t len = 0, n;
	*state_r = RECORDS_BODY;
	while (*state_r == RECORDS_BODY && len < size &&
	       (n = read_more(fd, bytes + len, size - len, until)) > 0) {
		len += n;
		*state_r = records_look(bytes, len);
		if (*state_r ==
		    RECORDS_HEAD) /* it waits there: a first read may be short */
			*state_r = RECORDS_BODY;
	}
	return len;
}

/* A file in memory to be read from its start; -1. */
static int
file_of(const unsigned char *bytes, size_t len)
{
	int file = memfd_create("request", MFD_CLOEXEC);
	if (file >= 0 && write(file, bytes, len) == (ssize_t)len &&
	    lseek(file, 0, SEEK_SET) == 0)
		return file;
	log_error("cannot keep a request in memory: %m");
	if (file >= 0)
		close(file);
	return -1;
}

bool
gather_is_whole(const struct gathered *g)
{
	return g->is_whole;
}

void
gather_let_finish(int fd, int64_t until)
{
	unsigned char rest[4096];
	size_t n, len = 0;
	shutdown(fd, SHUT_WR);
	while (len < MAX_REST && (n = read_more(fd, rest, sizeof rest, until)) > 0)
		len += n;
}

struct gathered *
gather(int fd, long max_body, int64_t until, enum err cut)
{
	size_t size = (size_t)max_body + BESIDE;
	unsigned char *bytes = malloc(size);
	struct gathered *g = malloc(sizeof *g);
	enum records_state state = RECORDS_BROKEN;
	size_t len = 0;
	if (g)
		*g = (struct gathered){.file = -1, .cut = cut, .fd = fd};
	if (bytes && g) {
		len = read_request(fd, bytes, size, until, &state);
		g->is_whole = state == RECORDS_WHOLE;
	}
	if (g && state != RECORDS_BROKEN)
		g->file = file_of(bytes, len);
	free(bytes);
	if (g && g->file >= 0)
		return g;
	free(g);
	return NULL;
}

/* It is answered. */
static enum fcgi_end
finish(struct gathered *g, enum fcgi_end end)
{
	if (end != FCGI_CLOSED)
		close(g->file);
	free(g);
	return end == FCGI_KEPT ? FCGI_KEPT : FCGI_SPENT;
}

static void
tell(void *gathered, enum fcgi_end end)
{
	struct gathered *g = gathered;
	fcgi_told *told = g->told;
	void *owner = g->owner;
	told(owner, finish(g, end));
}

enum fcgi_end
gather_serve(
    struct gathered *g, struct handler *h, int64_t deadline, fcgi_told *told, void *owner)
{
	g->told = told;
	g->owner = owner;
	enum fcgi_end end = fcgi_serve(h, g->file, g->fd, deadline, g->cut, tell, g);
	return end == FCGI_LATER ? FCGI_LATER : finish(g, end);
}
