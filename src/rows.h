/* The rows that PostgreSQL has answered with, whole in memory. */
#ifndef ROWS_H
#define ROWS_H

#include "text.h"

#include <stdint.h>

struct rows {
	struct pg_result *result;
	int n;
	char state[6]; /* SQLSTATE of an error, "" for one that is not the server's */
};

/* A value as text, absent for SQL's null; a zero byte follows it.  Good until
 * rows_free(). */
struct text rows_text(const struct rows *rows, int row, int column);

/* A whole number, 0 for SQL's null. */
int64_t rows_int(const struct rows *rows, int row, int column);

/* A bytea that is selected as encode(..., 'hex'): its bytes, in memory that the
 * caller frees; NULL for SQL's null and without memory. */
char *rows_bytes(const struct rows *rows, int row, int column, size_t *len_r);

void rows_free(struct rows *rows);

#endif
