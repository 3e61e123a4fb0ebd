/* The files of sql/, compiled in: the program finds them wherever it is put.
 * migrations.c is made from them by sql/embed.sh. */
#ifndef MIGRATIONS_H
#define MIGRATIONS_H

struct migration {
	const char *name; /* of the file */
	int version;      /* its number */
	const char *sql;
};

/* In the order of their numbers; ends with a NULL name. */
extern const struct migration migrations[];

#endif
