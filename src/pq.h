/* libpq, loaded when it is first needed: with it come some 25 libraries, and a
 * CGI request that goes to the spool has no use for them.  Not thread-safe: call
 * pq_load() before threads. */
#ifndef PQ_H
#define PQ_H

#include <libpq-fe.h>

/* clang-format off */
#define PQ_FUNCTIONS(X) \
	X(PQclear) X(PQconnectPoll) X(PQconnectStartParams) \
	X(PQconninfoFree) X(PQconninfoParse) X(PQconsumeInput) \
	X(PQerrorMessage) X(PQfinish) X(PQflush) \
	X(PQfreemem) X(PQgetResult) X(PQgetisnull) X(PQgetlength) \
	X(PQgetvalue) X(PQisBusy) X(PQnotifies) \
	X(PQntuples) X(PQparameterStatus) X(PQresultErrorField) X(PQresultStatus) \
	X(PQsendPrepare) X(PQsendQuery) X(PQsendQueryParams) X(PQsendQueryPrepared) \
	X(PQsetNoticeReceiver) X(PQsetnonblocking) X(PQsocket) X(PQstatus)
/* clang-format on */

#define PQ_MEMBER(name) __typeof__(name) *name;
struct pq {
	PQ_FUNCTIONS(PQ_MEMBER)
};
#undef PQ_MEMBER
extern struct pq pq;

/* NULL, or why there is no libpq: in memory of dlerror(3). */
const char *pq_load(void);

#endif
