#include "db.h"

#include "clock.h"
#include "columns.h"
#include "hosts.h"
#include "pq.h"
#include "sqlstate.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

enum { BOOL_OID = 16, INT4_OID = 23, N_PARAMS = N_COLUMNS + 2, ANSWER_MS = 100 };

static const char ingest_sql[] =
    "select id, duplicate_of from sms.ingest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, "
    "$11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, "
    "$26) "
    "order by n";
static const char ingest_name[] = "smshook " PACKAGE_VERSION;

struct db {
	const char *conninfo;
	const char *rights; /* the hint when permission is denied */
	PGconn *conn;
	bool is_loaded;
	bool has_ingested, is_prepared; /* on this connection */
	bool is_pooled;                 /* a pooler loses what is prepared */
	struct hosts hosts;
	struct columns columns;
	char state[6]; /* of the last error, as in struct rows */
	char reason[400];
};

/* ------------------------------------------------------------ connection */

static void
ignore_notice(void *arg, const PGresult *result)
{
	(void)arg;
	(void)result; /* notices may quote data */
}

static void
drop(struct db *db)
{
	if (db->conn)
		pq.PQfinish(db->conn);
	db->conn = NULL;
	db->has_ingested = db->is_prepared = false;
}

/* The first line of a message of libpq. */
static void
set_reason(struct db *db, const char *message)
{
	snprintf(
	    db->reason, sizeof db->reason, "%.*s", (int)strcspn(message, "\n"), message);
}

enum err
db_open(struct db **db_r, const char *conninfo)
{
	struct db *db = calloc(1, sizeof *db);
	*db_r = db;
	if (!db)
		return ERR_MEMORY;
	db->conninfo = conninfo;
	db->rights = "(apply sql/roles.sql and grant smshook_writer)";
	return ERR_OK;
}

void
db_set_rights(struct db *db, const char *rights)
{
	db->rights = rights;
}

enum err
db_load(struct db *db)
{
	char *message = NULL;
	const char *failed = pq_load();
	if (failed) {
		set_reason(db, failed);
		return ERR_CONFIG;
	}
	/* libpq's message may quote the password, but for an unknown name. */
	PQconninfoOption *options = pq.PQconninfoParse(db->conninfo, &message);
	if (!options) {
		bool is_safe =
		    message && strncmp(message, "invalid connection option", 25) == 0;
		set_reason(db,
		    is_safe ? message
			    : "neither name=value pairs, such as dbname=sms, nor a URI");
		pq.PQfreemem(message);
		return ERR_CONFIG;
	}
	failed = hosts_fault(options);
	bool ok = !failed && hosts_read(&db->hosts, options);
	pq.PQconninfoFree(options);
	db->is_loaded = ok;
	if (failed)
		set_reason(db, failed);
	return failed ? ERR_CONFIG : ok ? ERR_OK : ERR_MEMORY;
}

void
db_close(struct db **db)
{
	if (!*db)
		return;
	drop(*db);
	columns_free(&(*db)->columns);
	hosts_free(&(*db)->hosts);
	free(*db);
	*db = NULL;
}

void
db_disconnect(struct db *db)
{
	drop(db);
}

bool
db_is_connected(const struct db *db)
{
	return db->conn != NULL;
}

const char *
db_reason(const struct db *db)
{
	return db->reason;
}

static bool
wait_for(struct db *db, short events, int64_t deadline)
{
	struct pollfd p = {.fd = pq.PQsocket(db->conn), .events = events};
	int n;
	do
		n = poll(&p, 1, clock_left(deadline));
	while (n < 0 && clock_left(deadline) > 0);
	return n > 0;
}

static enum err
fail_connect(struct db *db, const char *message)
{
	set_reason(db, message);
	drop(db);
	return ERR_DB_DOWN;
}

static enum err
connect_host(struct db *db, int64_t deadline)
{
	/* The later wins: conninfo may say otherwise but for the encoding and the
	 * host.  A peer that is gone shows after half a minute of silence, not
	 * after hours. */
	const char *const names[] = {"fallback_application_name", "keepalives_idle",
	    "keepalives_interval", "keepalives_count", "tcp_user_timeout", "dbname",
	    "client_encoding", hosts_places[0], hosts_places[1], hosts_places[2], NULL};
	char at[HOSTS_PLACES][HOSTS_LEN];
	const char *values[] = {"smshook", "15", "5", "3", "15000", db->conninfo, "UTF8",
	    hosts_place(&db->hosts, 0, at[0]), hosts_place(&db->hosts, 1, at[1]),
	    hosts_place(&db->hosts, 2, at[2]), NULL};
	PostgresPollingStatusType step = PGRES_POLLING_WRITING;

	drop(db);
	db->conn = pq.PQconnectStartParams(names, values, 1);
	if (!db->conn)
		return fail_connect(db, "out of memory");
	pq.PQsetNoticeReceiver(db->conn, ignore_notice, NULL);
	if (pq.PQstatus(db->conn) == CONNECTION_BAD)
		return fail_connect(db, pq.PQerrorMessage(db->conn));
	while (step != PGRES_POLLING_OK) {
		short events = step == PGRES_POLLING_READING ? POLLIN : POLLOUT;
		if (!wait_for(db, events, deadline))
			return fail_connect(db, "no answer to the connection in time");
		step = pq.PQconnectPoll(db->conn);
		if (step == PGRES_POLLING_FAILED)
			return fail_connect(db, pq.PQerrorMessage(db->conn));
	}
	/* What a smaller one has not would be refused event by event. */
	const char *encoding = pq.PQparameterStatus(db->conn, "server_encoding");
	if (encoding && strcmp(encoding, "UTF8") != 0) {
		snprintf(db->reason, sizeof db->reason,
		    "the database's encoding is %s, and SMS need UTF8: make one with "
		    "createdb -E UTF8 -T template0 NAME",
		    encoding);
		drop(db);
		return ERR_DB_DOWN;
	}
	pq.PQsetnonblocking(db->conn, 1);
	return ERR_OK;
}

/* libpq would wait for a silent host for as long as we let it: each has its
 * share of the time. */
enum err
db_connect(struct db *db, int64_t deadline)
{
	enum err e = ERR_DB_DOWN;
	if (!db->is_loaded && db_load(db))
		return e;
	for (size_t left = db->hosts.n; e && left > 0; left--) {
		int64_t share = clock_left(deadline) / (int64_t)left;
		e = connect_host(db, clock_ms() + share);
		if (e)
			hosts_next(&db->hosts);
	}
	return e;
}

/* ------------------------------------------------------------ statements */

/* The connection is of no more use, and what it was doing is not known. */
static enum err
lose(struct db *db, const char *reason)
{
	set_reason(db, reason);
	drop(db);
	return ERR_DB_UNKNOWN;
}

/* Sends what libpq has buffered; reads too, or both sides could wait. */
static enum err
flush(struct db *db, int64_t deadline)
{
	int pending;
	while ((pending = pq.PQflush(db->conn)) > 0) {
		if (!wait_for(db, POLLIN | POLLOUT, deadline))
			return lose(db, "the database takes no data");
		if (!pq.PQconsumeInput(db->conn))
			return lose(db, pq.PQerrorMessage(db->conn));
	}
	return pending < 0 ? lose(db, pq.PQerrorMessage(db->conn)) : ERR_OK;
}

/* The next result, NULL after the last one. */
static enum err
next_result(struct db *db, int64_t deadline, PGresult **result_r)
{
	while (pq.PQisBusy(db->conn)) {
		if (!wait_for(db, POLLIN, deadline))
			return lose(db, "no answer from the database in time");
		if (!pq.PQconsumeInput(db->conn))
			return lose(db, pq.PQerrorMessage(db->conn));
	}
	*result_r = pq.PQgetResult(db->conn);
	return ERR_OK;
}

/* Classifies a failed result. */
static enum err
classify(struct db *db, const PGresult *result)
{
	const char *state = pq.PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *primary = pq.PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	if (!state)
		return ERR_DB_UNKNOWN; /* libpq's own: the connection broke */
	const struct sqlstate *s = sqlstate_find(state);
	bool has_message = primary && !(s->flags & SQLSTATE_QUOTES);
	snprintf(db->state, sizeof db->state, "%s", state);
	snprintf(db->reason, sizeof db->reason, "SQLSTATE %s%s%s%s%s", state,
	    has_message ? ": " : "", has_message ? primary : "", s->hint,
	    s->flags & SQLSTATE_DENIED ? db->rights : "");
	if (s->flags & SQLSTATE_LOST) {
		drop(db);
		hosts_next(&db->hosts);
	}
	return s->err;
}

/* Runs out the results of a statement.  *last_r is the last good one, which the
 * caller clears, NULL on an error. */
static enum err
finish(struct db *db, int64_t deadline, PGresult **last_r)
{
	PGresult *result = NULL;
	enum err e = flush(db, deadline), failed = ERR_OK;
	*last_r = NULL;
	while (!e && !(e = next_result(db, deadline, &result)) && result) {
		ExecStatusType status = pq.PQresultStatus(result);
		bool is_good = status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
		if (!is_good && !failed) {
			failed = classify(db, result);
			if (!db->conn)
				e = failed;
		}
		pq.PQclear(*last_r);
		*last_r = result;
	}
	bool is_broken = db->conn && pq.PQstatus(db->conn) == CONNECTION_BAD;
	if (failed && failed != ERR_DB_UNKNOWN) {
		e = failed; /* the server said no, whatever became of the line */
		if (is_broken)
			drop(db);
	} else if (is_broken) {
		e = lose(db, pq.PQerrorMessage(db->conn));
	} else if (failed && !e) {
		e = lose(db, "libpq failed");
	}
	if (e) {
		pq.PQclear(*last_r);
		*last_r = NULL;
	}
	return e;
}

static enum err
read_ids(struct db *db, const PGresult *result, struct event *const *events, size_t n)
{
	if ((size_t)pq.PQntuples(result) != n)
		return lose(db, "sms.ingest did not answer for each event");
	for (size_t i = 0; i < n; i++) {
		bool is_event = events[i]->http_status == EVENT_NO_INT;
		if (is_event && pq.PQgetisnull(result, (int)i, 0)) {
			set_reason(db, "sms.ingest has not stored an event: is there a "
				       "trigger or a rule on sms.event?");
			return ERR_DB_DOWN;
		}
		events[i]->id = strtoll(pq.PQgetvalue(result, (int)i, 0), NULL, 10);
		events[i]->duplicate_of =
		    strtoll(pq.PQgetvalue(result, (int)i, 1), NULL, 10);
	}
	return ERR_OK;
}

/* The parameters of a call of sms.ingest. */
struct call {
	Oid types[N_PARAMS];
	const char *values[N_PARAMS];
	int lengths[N_PARAMS], formats[N_PARAMS];
	char notify;
	uint32_t patience;
};

static void
set_param(struct call *c, int i, Oid type, const void *value, size_t len)
{
	c->types[i] = type;
	c->values[i] = value;
	c->lengths[i] = (int)len;
	c->formats[i] = 1;
}

static void
fill_call(struct call *c, const struct columns *columns, bool notify, int64_t deadline)
{
	for (int i = 0; i < N_COLUMNS; i++)
		set_param(c, i, columns_type(i), columns->buffers[i].bytes,
		    columns->buffers[i].len);
	/* the server gives up first, so that its no arrives */
	c->patience = htonl((uint32_t)clock_left(deadline - ANSWER_MS));
	c->notify = notify;
	set_param(c, N_COLUMNS, BOOL_OID, &c->notify, 1);
	set_param(c, N_COLUMNS + 1, INT4_OID, &c->patience, sizeof c->patience);
}

/* From the second call on a connection on the statement is prepared.  Not where a pooler
 * gives each transaction another connection to the server, which does not know it
 * (SQLSTATE 26000), or knows it already (42P05). */
static enum err
prepare(struct db *db, const struct call *c, int64_t deadline)
{
	PGresult *result = NULL;
	if (!db->has_ingested || db->is_prepared || db->is_pooled)
		return ERR_OK;
	enum err e =
	    pq.PQsendPrepare(db->conn, ingest_name, ingest_sql, N_PARAMS, c->types)
		? finish(db, deadline, &result)
		: lose(db, pq.PQerrorMessage(db->conn));
	pq.PQclear(result);
	db->is_prepared = !e;
	db->is_pooled = e && strcmp(db->state, "42P05") == 0;
	return db->conn ? ERR_OK : e;
}

static bool
send_call(struct db *db, const struct call *c)
{
	return db->is_prepared ? pq.PQsendQueryPrepared(db->conn, ingest_name, N_PARAMS,
				     c->values, c->lengths, c->formats, 0)
			       : pq.PQsendQueryParams(db->conn, ingest_sql, N_PARAMS,
				     c->types, c->values, c->lengths, c->formats, 0);
}

enum err
db_ingest(
    struct db *db, struct event *const *events, size_t n, bool notify, int64_t deadline)
{
	struct call call;
	PGresult *result = NULL;

	if (!columns_fill(&db->columns, events, n))
		return ERR_MEMORY;
	fill_call(&call, &db->columns, notify, deadline);
	enum err e = prepare(db, &call, deadline);
	if (!e)
		e = send_call(db, &call) ? finish(db, deadline, &result)
					 : lose(db, pq.PQerrorMessage(db->conn));
	if (!e)
		e = read_ids(db, result, events, n);
	pq.PQclear(result);
	columns_trim(&db->columns);
	if (e == ERR_DB_CONFLICT && strcmp(db->state, "26000") == 0) {
		db->is_pooled = true;
		db->is_prepared = false;
	}
	db->has_ingested = db->has_ingested || !e;
	return e;
}

enum err
db_select(struct db *db, const char *sql, const char *const *params, int n_params,
    int64_t deadline, struct rows *rows_r)
{
	PGresult *result = NULL;
	db->state[0] = '\0';
	int sent = n_params > 0 ? pq.PQsendQueryParams(db->conn, sql, n_params, NULL,
				      params, NULL, NULL, 0)
				: pq.PQsendQuery(db->conn, sql);
	enum err e =
	    sent ? finish(db, deadline, &result) : lose(db, pq.PQerrorMessage(db->conn));
	*rows_r = (struct rows){.result = result, .n = pq.PQntuples(result)};
	memcpy(rows_r->state, db->state, sizeof db->state);
	return e;
}

/* Whether one for the channel was there; takes all that are. */
static bool
take_notifications(struct db *db, const char *channel)
{
	PGnotify *notify;
	bool is_there = false;
	while ((notify = pq.PQnotifies(db->conn))) {
		is_there = is_there || !channel || strcmp(notify->relname, channel) == 0;
		pq.PQfreemem(notify);
	}
	return is_there;
}

enum err
db_wait_notify(struct db *db, const char *channel, int reader, int64_t deadline)
{
	while (!take_notifications(db, channel)) {
		struct pollfd p[] = {
		    {.fd = pq.PQsocket(db->conn), .events = POLLIN}, {.fd = reader}};
		int n = poll(p, 2, clock_left(deadline));
		if (n > 0 && p[1].revents & (POLLERR | POLLHUP))
			return ERR_SYSTEM;
		if (n > 0 && p[0].revents && !pq.PQconsumeInput(db->conn))
			return lose(db, pq.PQerrorMessage(db->conn));
		if (n == 0)
			return ERR_DB_UNKNOWN;
	}
	return ERR_OK;
}

void
db_wait_writable(struct db *db, int fd)
{
	struct pollfd p[] = {{.fd = fd, .events = POLLOUT}, {.events = POLLIN}};
	do {
		p[1].fd = db->conn ? pq.PQsocket(db->conn) : -1;
		int n = poll(p, 2, -1);
		if (n > 0 && p[1].revents && !pq.PQconsumeInput(db->conn))
			lose(db, pq.PQerrorMessage(db->conn));
		if (db->conn)
			take_notifications(db, NULL);
	} while (!p[0].revents);
}
