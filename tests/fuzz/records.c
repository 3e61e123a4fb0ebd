/* FastCGI records that wait on a connection.  What is said to be whole goes to
 * libfcgi too, which must read it without waiting. */
#include "fuzz.h"

#include "records.h"

#include <fcgiapp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static enum records_state
look(const uint8_t *data, size_t len)
{
	char *bytes = fuzz_copy(data, len);
	enum records_state state = records_look((unsigned char *)bytes, len);
	free(bytes);
	return state;
}

/* Byte by byte it never goes back, and an end stays one. */
static void
check_steps(const uint8_t *data, size_t size)
{
	enum records_state before = RECORDS_HEAD;
	size_t step = size / 200 + 1;
	for (size_t len = 0; len <= size; len += step) {
		enum records_state now = look(data, len);
		CHECK(now >= before);
		CHECK(now == before || before < RECORDS_WHOLE);
		before = now;
	}
}

/* The content of all records of a type, by a reading of our own. */
struct content {
	uint8_t *bytes;
	size_t len;
};

static struct content
content_of(int type, const uint8_t *data, size_t size)
{
	struct content c = {malloc(size + 1), 0};
	CHECK(c.bytes);
	for (size_t at = 0; at + 8 <= size;) {
		size_t len = (size_t)(data[at + 4] << 8 | data[at + 5]);
		if (data[at + 1] == type && (len == 0 || at + 8 + len > size))
			break;
		if (data[at + 1] == type)
			memcpy(c.bytes + c.len, data + at + 8, len);
		c.len += data[at + 1] == type ? len : 0;
		at += 8 + len + data[at + 6];
	}
	return c;
}

static bool
is_aborted(const uint8_t *data, size_t size)
{
	bool has_abort = false;
	for (size_t at = 0; at + 8 <= size && !has_abort;) {
		has_abort = data[at + 1] == 2;
		at += 8 + (size_t)(data[at + 4] << 8 | data[at + 5]) + data[at + 6];
	}
	return has_abort;
}

static size_t
pair_length(struct content *c)
{
	size_t len = *c->bytes++;
	if (len >> 7) {
		len = (len & 0x7f) << 24 | (size_t)c->bytes[0] << 16 |
		      (size_t)c->bytes[1] << 8 | c->bytes[2];
		c->bytes += 3;
	}
	return len;
}

/* What libfcgi hands on is what the parameters say, one by one. */
static void
check_parameters(char **env, struct content c)
{
	uint8_t *memory = c.bytes, *end = c.bytes + c.len;
	CHECK(*env && strcmp(*env++, "FCGI_ROLE=RESPONDER") == 0); /* libfcgi's own */
	for (; c.bytes < end; env++) {
		size_t name = pair_length(&c), value = pair_length(&c);
		CHECK(*env && c.bytes + name + value <= end);
		CHECK(memcmp(*env, c.bytes, name) == 0 && (*env)[name] == '=');
		CHECK(memcmp(*env + name + 1, c.bytes + name, value) == 0);
		c.bytes += name + value;
	}
	CHECK(!*env);
	free(memory);
}

static void
check_body(FCGX_Stream *in, struct content c)
{
	char *body = malloc(c.len + 2);
	CHECK(body);
	CHECK(FCGX_GetStr(body, (int)c.len + 1, in) == (int)c.len);
	CHECK(memcmp(body, c.bytes, c.len) == 0);
	CHECK(FCGX_GetError(in) == 0 && FCGX_HasSeenEOF(in) == EOF);
	free(body);
	free(c.bytes);
}

/* A read where nothing waits is an error to libfcgi, and so it is seen here. */
static void
check_by_libfcgi(const uint8_t *data, size_t size, enum records_state state)
{
	static bool is_init;
	FCGX_Request r;
	int fds[2];
	if (!is_init)
		CHECK(setenv("LIBFCGI_OS_CLOSE_POLL_TIMEOUT", "0", 1) == 0 &&
		      FCGX_Init() == 0);
	is_init = true;
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
	CHECK(write(fds[0], data, size) == (ssize_t)size);
	FCGX_InitRequest(&r, -1, 0);
	r.ipcFd = fds[1];
	r.keepConnection = 1;
	CHECK(FCGX_Accept_r(&r) == 0);
	check_parameters(r.envp, content_of(4, data, size));
	if (state == RECORDS_WHOLE && !is_aborted(data, size))
		check_body(r.in, content_of(5, data, size));
	r.keepConnection = 1;
	FCGX_Finish_r(&r);
	if (r.ipcFd >= 0)
		close(r.ipcFd);
	close(fds[0]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum { SOCKET_TAKES = 100000 };
	check_steps(data, size);
	enum records_state state = look(data, size);
	CHECK(state <= RECORDS_BROKEN);
	if (size <= SOCKET_TAKES && (state == RECORDS_BODY || state == RECORDS_WHOLE))
		check_by_libfcgi(data, size, state);
	return 0;
}
