#include "rows.h"

#include "pq.h"

#include <stdlib.h>

struct text
rows_text(const struct rows *rows, int row, int column)
{
	if (pq.PQgetisnull(rows->result, row, column))
		return (struct text){0};
	return (struct text){pq.PQgetvalue(rows->result, row, column),
	    (size_t)pq.PQgetlength(rows->result, row, column)};
}

int64_t
rows_int(const struct rows *rows, int row, int column)
{
	struct text t = rows_text(rows, row, column);
	return t.ptr ? strtoll(t.ptr, NULL, 10) : 0;
}

char *
rows_bytes(const struct rows *rows, int row, int column, size_t *len_r)
{
	struct text t = rows_text(rows, row, column);
	char *bytes = t.ptr ? malloc(t.len / 2 + 1) : NULL;
	*len_r = bytes ? t.len / 2 : 0;
	for (size_t i = 0; i < *len_r; i++)
		bytes[i] =
		    (char)(text_hex(t.ptr[2 * i]) << 4 | text_hex(t.ptr[2 * i + 1]));
	return bytes;
}

void
rows_free(struct rows *rows)
{
	if (rows->result)
		pq.PQclear(rows->result);
	*rows = (struct rows){0};
}
