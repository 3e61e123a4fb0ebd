/* For LD_PRELOAD: malloc, calloc and realloc fail.
 *	FAIL_AT=N	at the Nth call of the process (counted from 1)
 *	FAIL_TIMES=N	at so many calls from there on (1)
 *	FAIL_MARK=FILE	is made when the first of them fails
 * strdup, getline, open_memstream and all libraries call these, too.  libcrypto
 * is begun before: version 3.0 crashes when it has no memory to begin with. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);
const void *EVP_sha256(void) __attribute__((weak));
int EVP_Digest(const void *data, size_t len, unsigned char *digest, unsigned *digest_len,
    const void *type, void *engine) __attribute__((weak));

static atomic_bool is_ready;
static atomic_long n_calls;
static long first, last;
static const char *mark;

static long
number(const char *name)
{
	const char *value = getenv(name);
	return value ? atol(value) : 1;
}

__attribute__((constructor)) static void
begin(void)
{
	unsigned char digest[64];
	if (EVP_Digest && EVP_sha256)
		EVP_Digest("", 0, digest, NULL, EVP_sha256(), NULL);
	first = number("FAIL_AT");
	last = first + number("FAIL_TIMES") - 1;
	mark = getenv("FAIL_MARK");
	is_ready = 1;
}

static int
fails(void)
{
	long n = is_ready ? ++n_calls : 0;
	if (n == 0 || n < first || n > last)
		return 0;
	if (n == first && mark)
		close(open(mark, O_CREAT | O_WRONLY | O_CLOEXEC, 0666));
	errno = ENOMEM;
	return 1;
}

void *
malloc(size_t size)
{
	return fails() ? NULL : __libc_malloc(size);
}

void *
calloc(size_t n, size_t size)
{
	return fails() ? NULL : __libc_calloc(n, size);
}

void *
realloc(void *old, size_t size)
{
	return fails() ? NULL : __libc_realloc(old, size);
}
