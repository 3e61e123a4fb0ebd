/* Every file of JSONTestSuite, where the suite is there. */
#ifndef CORPUS_H
#define CORPUS_H

#include "unit.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

struct corpus {
	DIR *dir;
	char path[1024];
	char name[256]; /* begins with what is to come of it: y, n or i */
	char *bytes;
	size_t len, n; /* of the file; of files so far */
};

/* False when there is no suite. */
static inline bool
corpus_open(struct corpus *c)
{
	const char *src = getenv("SMSHOOK_SRC");
	*c = (struct corpus){0};
	snprintf(c->path, sizeof c->path,
	    "%s/../shared/corpora/json-test-suite/test_parsing", src ? src : ".");
	c->dir = opendir(c->path);
	if (!c->dir) /* cmocka's TAP of a skipped test reads as a failure */
		print_message("# no JSONTestSuite here: nothing is tested\n");
	return c->dir;
}

/* The next file; after the last one all is closed. */
static inline bool
corpus_next(struct corpus *c)
{
	char file[2048];
	struct dirent *d;
	free(c->bytes);
	c->bytes = NULL;
	do {
		d = readdir(c->dir);
	} while (d && d->d_name[0] == '.');
	if (!d) {
		closedir(c->dir);
		assert_int_equal(c->n, 318);
		return false;
	}
	snprintf(c->name, sizeof c->name, "%s", d->d_name);
	snprintf(file, sizeof file, "%s/%s", c->path, d->d_name);
	FILE *f = fopen(file, "r");
	assert_non_null(f);
	fseek(f, 0, SEEK_END);
	c->len = (size_t)ftell(f);
	rewind(f);
	c->bytes = malloc(c->len + 1);
	assert_non_null(c->bytes);
	assert_int_equal(fread(c->bytes, 1, c->len, f), c->len);
	fclose(f);
	c->n++;
	return true;
}

#endif
