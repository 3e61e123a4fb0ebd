/* struct request -> struct response: route, method, token, limits, decode,
 * submit.  Knows nothing of how either travels.  Any thread. */
#ifndef HANDLE_H
#define HANDLE_H

#include "auth.h"
#include "drainer.h"
#include "request.h"
#include "writer.h"

#include <stdatomic.h>

enum { HANDLER_STATUSES = 10 };

struct handler {
	const struct conf *conf;
	const struct auth *auth;
	struct writer *writer;
	struct drainer *drainer;                  /* NULL in CGI: no metrics */
	atomic_ullong requests[HANDLER_STATUSES]; /* answers, by status */
};

void handle(struct handler *h, const struct request *req, struct response *res);

#endif
