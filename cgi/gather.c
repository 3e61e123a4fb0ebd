#include "gather.h"

#include "clock.h"
#include "fcgi.h"
#include "log.h"
#include "records.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* What is taken beside max_body bytes of a body: parameters and headers of records. */
enum { BESIDE = 128 * 1024 };

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

/* A file in memory to be read from its start and appended to; -1. */
static int
file_of(const unsigned char *bytes, size_t len)
{
	int file = memfd_create("request", MFD_CLOEXEC);
	if (file >= 0 && write(file, bytes, len) == (ssize_t)len &&
	    lseek(file, 0, SEEK_SET) == 0 && fcntl(file, F_SETFL, O_APPEND) == 0)
		return file;
	log_error("cannot keep a request in memory: %m");
	if (file >= 0)
		close(file);
	return -1;
}

/* Sends what libfcgi wrote behind the len bytes of the request. */
static bool
send_answer(int file, size_t len, int fd)
{
	char answer[2 * RESPONSE_MAX];
	ssize_t n = pread(file, answer, sizeof answer, (off_t)len);
	return n > 0 && send(fd, answer, (size_t)n, MSG_NOSIGNAL) == n;
}

/* A peer that is still sending would not read its answer from a closed socket. */
static void
let_finish(int fd, int64_t until)
{
	unsigned char rest[4096];
	size_t n, len = 0;
	shutdown(fd, SHUT_WR);
	while (len < MAX_REST && (n = read_more(fd, rest, sizeof rest, until)) > 0)
		len += n;
}

void
gather(struct gathered *g_r, int fd, long max_body, int64_t until, enum err cut)
{
	size_t size = (size_t)max_body + BESIDE;
	unsigned char *bytes = malloc(size);
	enum records_state state = RECORDS_BROKEN;
	*g_r = (struct gathered){.file = -1, .cut = cut};
	if (bytes)
		g_r->len = read_request(fd, bytes, size, until, &state);
	g_r->is_whole = state == RECORDS_WHOLE;
	if (state != RECORDS_BROKEN)
		g_r->file = file_of(bytes, g_r->len);
	free(bytes);
}

bool
gather_serve(struct gathered *g, struct handler *h, int fd, int64_t deadline)
{
	/* libfcgi closes it at the end of a request that is cut */
	int served = g->file < 0 ? -1 : dup(g->file);
	bool is_good = false;
	if (served >= 0) {
		is_good = fcgi_serve(h, &served, deadline, g->cut);
		is_good = send_answer(g->file, g->len, fd) && is_good;
	}
	if (g->file >= 0 && !g->is_whole)
		let_finish(fd, deadline);
	if (served >= 0)
		close(served);
	if (g->file >= 0)
		close(g->file);
	return is_good;
}
