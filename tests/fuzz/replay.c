/* main() where there is no libFuzzer: puts files through a target, as TAP.
 *
 *	tests/fuzz/NAME			all of seeds/NAME and found/NAME, and each cut
 *					short at every byte
 *	tests/fuzz/NAME FILE...		these
 *
 * NAME json takes the JSONTestSuite too, where it is there. */
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

enum { CUT_MAX = 600 };

static void
one(const char *path, bool is_cut)
{
	FILE *f = fopen(path, "r");
	CHECK(f);
	fseek(f, 0, SEEK_END);
	size_t len = (size_t)ftell(f);
	rewind(f);
	char *bytes = malloc(len + 1);
	CHECK(bytes && fread(bytes, 1, len, f) == len);
	fclose(f);
	printf("# %s\n", path); /* a sanitizer does not tell which one it was */
	fflush(stdout);
	for (size_t cut = is_cut && len < CUT_MAX ? 0 : len; cut <= len; cut++)
		LLVMFuzzerTestOneInput((const uint8_t *)bytes, cut);
	free(bytes);
}

/* How many files there are. */
static int
folder(const char *path, bool is_cut)
{
	char file[4096];
	int n = 0;
	DIR *dir = opendir(path);
	for (struct dirent *d; dir && (d = readdir(dir));) {
		if (d->d_name[0] == '.')
			continue;
		snprintf(file, sizeof file, "%s/%s", path, d->d_name);
		one(file, is_cut);
		n++;
	}
	if (dir)
		closedir(dir);
	return n;
}

int
main(int argc, char **argv)
{
	char seeds[2048], found[2048], suite[2048];
	const char *slash = strrchr(argv[0], '/');
	const char *name = slash ? slash + 1 : argv[0], *src = getenv("SMSHOOK_SRC");
	for (int i = 1; i < argc; i++)
		one(argv[i], false);
	if (argc > 1)
		return 0;
	src = src ? src : ".";
	snprintf(seeds, sizeof seeds, "%s/tests/fuzz/seeds/%s", src, name);
	snprintf(found, sizeof found, "%s/tests/fuzz/found/%s", src, name);
	snprintf(suite, sizeof suite, "%s/../shared/corpora/json-test-suite/test_parsing",
	    src);
	int n_seeds = folder(seeds, true), n_found = folder(found, true);
	int n_suite = strcmp(name, "json") == 0 ? folder(suite, false) : 0;
	printf("1..1\n%sok 1 - %s: %d seeds, %d found cases, %d of the JSONTestSuite\n",
	    n_seeds > 0 ? "" : "not ", name, n_seeds, n_found, n_suite);
	return n_seeds > 0 ? 0 : 1;
}
