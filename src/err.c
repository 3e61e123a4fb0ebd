#include "err.h"

#define ERR_ROW(name, status, sentence) [name] = {status, sentence},
static const struct {
	int status;
	const char *sentence;
} rows[] = {ERR_MAP(ERR_ROW)};
#undef ERR_ROW

int
err_status(enum err e)
{
	return rows[e].status;
}

const char *
err_sentence(enum err e)
{
	return rows[e].sentence;
}
