/* Posts bodies to a webhook's address by curl(1), and prints each answer on
 * stdout.  The address has a token in it: curl gets it on its stdin, since all
 * users see arguments, and no message tells more of it than the host.
 *
 * SIGINT, SIGTERM and SIGHUP are held back from poster_open() to poster_close(), so
 * that the counts can still be told; look for them with poster_is_stopped(). */
#ifndef POSTER_H
#define POSTER_H

#include "err.h"
#include "text.h"

struct poster;

/* What is wrong with an address, a literal; NULL when nothing is. */
const char *poster_fault(const char *url);

/* url is one without a fault; it must live as long as *out_r. */
enum err poster_open(struct poster **out_r, const char *url) MUST_USE;
void poster_close(struct poster **p);

/* To be posted by the next poster_send(). */
void poster_add(struct poster *p, struct text body);

/* Posts all that was added, one after the other on one connection.  False, after
 * a line in the log, when there was no answer, and when it was stopped: the rest
 * was not posted. */
bool poster_send(struct poster *p) MUST_USE;

bool poster_is_stopped(void);

/* Prints how many were answered what, when there were any. */
void poster_report(const struct poster *p);

/* Whether each was answered 200. */
bool poster_is_all_good(const struct poster *p);

#endif
