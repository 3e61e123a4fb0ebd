/* What each target begins with: a function that is given bytes, by libFuzzer or
 * by replay.c, and ends the program when a promise about them is broken. */
#ifndef FUZZ_H
#define FUZZ_H

#include "text.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A promise: also in builds without assert(). */
#define CHECK(promise)                                                                   \
	do {                                                                             \
		if (!(promise))                                                          \
			fuzz_fail(__FILE__, __LINE__, #promise);                         \
	} while (0)

void fuzz_fail(const char *file, int line, const char *what) __attribute__((noreturn));

/* A copy that is not one byte longer, so that a sanitizer sees who reads on; the
 * caller frees it. */
char *fuzz_copy(const void *bytes, size_t len);

/* The file that holds the bytes, by its path; the next call reuses it. */
const char *fuzz_file(const void *bytes, size_t len);

bool fuzz_is_inside(struct text t, struct text whole);
bool fuzz_is_utf8(struct text t); /* and without a NUL */
bool fuzz_is_printable(struct text t);

/* This stands where log.c does elsewhere: the last line, and how many there were. */
extern char fuzz_log[1024];
extern int fuzz_log_n;

#endif
