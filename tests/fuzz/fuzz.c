#include "fuzz.h"

#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

char fuzz_log[1024];
int fuzz_log_n;

void
log_write(enum log_level level, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	vsnprintf(fuzz_log, sizeof fuzz_log, format, ap);
	va_end(ap);
	fuzz_log_n += level == LOG_LEVEL_ERROR;
}

void
fuzz_fail(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: it does not hold that %s (last log line: %s)\n", file,
	    line, what, fuzz_log);
	abort();
}

char *
fuzz_copy(const void *bytes, size_t len)
{
	char *copy = malloc(len > 0 ? len : 1);
	CHECK(copy);
	if (len > 0)
		memcpy(copy, bytes, len);
	return copy;
}

const char *
fuzz_file(const void *bytes, size_t len)
{
	static char path[40];
	static int fd = -1;
	if (fd < 0)
		fd = memfd_create("fuzz", MFD_CLOEXEC);
	CHECK(fd >= 0 && fchmod(fd, 0600) == 0 && ftruncate(fd, 0) == 0);
	CHECK(pwrite(fd, bytes, len, 0) == (ssize_t)len);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return path;
}

bool
fuzz_is_inside(struct text t, struct text whole)
{
	uintptr_t at = (uintptr_t)t.ptr, start = (uintptr_t)whole.ptr;
	return !t.ptr ||
	       (at >= start && t.len <= whole.len && at - start <= whole.len - t.len);
}

/* The value of a sequence is built and looked at: another way than json_scan.c's. */
bool
fuzz_is_utf8(struct text t)
{
	static const unsigned long least[] = {1, 0x80, 0x800, 0x10000};
	for (size_t i = 0; i < t.len;) {
		unsigned char c = (unsigned char)t.ptr[i++];
		int more = c < 0x80 ? 0 : c < 0xc0 ? 9 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
		unsigned long value = more == 0 ? c : c & (0x3fUL >> more);
		if (more == 9 || c >= 0xf8 || t.len - i < (size_t)more)
			return false;
		for (int n = 0; n < more; n++, i++) {
			if (((unsigned char)t.ptr[i] & 0xc0) != 0x80)
				return false;
			value = value << 6 | ((unsigned char)t.ptr[i] & 0x3f);
		}
		if (value < least[more] || value > 0x10ffff ||
		    (value >= 0xd800 && value <= 0xdfff))
			return false;
	}
	return true;
}

bool
fuzz_is_printable(struct text t)
{
	for (size_t i = 0; i < t.len; i++)
		if (t.ptr[i] < 0x20 || t.ptr[i] > 0x7e)
			return false;
	return true;
}
