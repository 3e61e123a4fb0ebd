/* One value of the configuration: words and numbers with units, texts, zones;
 * and the reading of a file that is under way.  Used by conf.c alone. */
#ifndef CONF_VALUE_H
#define CONF_VALUE_H

#include "err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct conf;

struct conf_reader {
	struct conf *conf;
	const char *path;
	FILE *file;
	int line;
	bool is_continued; /* the line goes on with the value of the one before */
	bool has_secret;
	bool has_failed;
	enum err err;
};

/* Units of a number, or words that stand for one; the last has no name. */
struct conf_word {
	const char *name;
	long value;
};
extern const struct conf_word conf_plain[], conf_octal[], conf_sizes[], conf_times[],
    conf_switches[], conf_levels[], conf_targets[];

struct conf_key;

/* Reads value into what to points to: false, and it was said why. */
typedef bool conf_read_fn(
    struct conf_reader *r, const struct conf_key *k, void *to, const char *value);

struct conf_key {
	const char *section, *name;
	conf_read_fn *read;
	const struct conf_word *words;
	size_t offset; /* of a long or a string, in struct conf or conf_source */
	const char *initial;
	long min, max; /* of a number */
	const char *help;
};

conf_read_fn conf_read_number, conf_read_word, conf_read_string, conf_read_zone;

/* Says where and why, once; later faults of the file wait for the next start. */
bool conf_fail(struct conf_reader *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
bool conf_no_memory(struct conf_reader *r);

bool conf_is_printable(const char *s);

/* Whether s is of letters, digits and the others only, and not empty. */
bool conf_is_made_of(const char *s, const char *others);

#endif
