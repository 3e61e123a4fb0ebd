/* Where a request may carry its token. */
#ifndef CREDENTIALS_H
#define CREDENTIALS_H

#include "request.h"

enum { CREDENTIALS_MAX = 5, CREDENTIAL_LEN = 256 };

/* Candidates, absent where the request has none there: the path's only segment,
 * ?token=, Authorization: Bearer, the password of Basic, X-Webhook-Token. */
struct credentials {
	struct text candidates[CREDENTIALS_MAX];
	char bytes[CREDENTIALS_MAX][CREDENTIAL_LEN];
};

void credentials_read(struct credentials *c, const struct request *req);

/* The only segment of a path, empty ones not counted; absent when there is
 * none or more than one. */
struct text credentials_segment(struct text path);

#endif
