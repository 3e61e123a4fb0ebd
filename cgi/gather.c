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
	shutdown(fd, SHUT_WR);
	while (read_more(fd, rest, sizeof rest, until) > 0)
		;
}

bool
gather_serve(struct handler *h, int fd, int64_t until, int64_t deadline)
{
	size_t size = (size_t)h->conf->max_body + BESIDE;
	unsigned char *bytes = malloc(size);
	enum records_state state;
	bool is_good = false;
	if (!bytes)
		return false;
	size_t len = read_request(fd, bytes, size, until, &state);
	int file = state == RECORDS_BROKEN ? -1 : file_of(bytes, len);
	free(bytes);
	int served =
	    file < 0 ? -1 : dup(file); /* libfcgi closes it at the end of a cut one */
	if (served >= 0) {
		is_good = fcgi_serve(h, &served, deadline);
		is_good = send_answer(file, len, fd) && is_good;
		if (!is_good)
			let_finish(fd, until);
	}
	if (served >= 0)
		close(served);
	if (file >= 0)
		close(file);
	return is_good;
}
