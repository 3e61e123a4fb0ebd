/* What an error of the server (SQLSTATE; manual of PostgreSQL, appendix A) means for a
 * batch of events, and what an administrator should do.  Pure; any thread. */
#ifndef SQLSTATE_H
#define SQLSTATE_H

#include "err.h"

enum {
	SQLSTATE_LOST = 1,   /* a new connection, to another host, may do better */
	SQLSTATE_QUOTES = 2, /* the message may quote the data: not for a log */
	SQLSTATE_DENIED = 4  /* a privilege is missing */
};

struct sqlstate {
	const char *prefix; /* of the five characters */
	enum err err;
	int flags;
	const char *hint; /* a text to append, or "" */
};

/* Never NULL. */
const struct sqlstate *sqlstate_find(const char *state);

#endif
