/* What waits on a FastCGI connection, judged before libfcgi reads it: libfcgi
 * would wait for the rest with a thread, and trusts lengths and management
 * records that overflow its memory (CVE-2025-23016 is one).  Taken is what web
 * servers send: one request of role responder at a time, no management records
 * (FastCGI 1.0, sections 3 to 5).  The answer is made here, too, for libfcgi would wait
 * for a peer that takes none.  Any thread. */
#ifndef RECORDS_H
#define RECORDS_H

#include "text.h"

#include <sys/types.h>

enum records_state {
	RECORDS_HEAD,   /* so far good, and not all parameters are there */
	RECORDS_BODY,   /* all parameters, but not all of the body */
	RECORDS_WHOLE,  /* the whole request, or one that was aborted */
	RECORDS_BROKEN, /* nothing that libfcgi should see */
};

/* bytes: all that waits, from the first byte of a request. */
enum records_state records_look(const unsigned char *bytes, size_t len);

/* The same of what waits on a socket, and is left there; parameters in more than 128 KiB
 * are broken.  How many bytes were looked at, 0 when nothing waits, -1 when the
 * connection has ended or failed. */
ssize_t records_peek(int fd, enum records_state *state_r);

/* So many bytes more than the answer are its records. */
enum { RECORDS_MORE = 32 };

/* Writes the records of the answer to a request by its id: standard output, which is in
 * two parts, at most 65535 bytes together, and the end of the request.  How many
 * bytes. */
size_t records_answer(unsigned char *out, int id, struct text header, struct text body);

#endif
