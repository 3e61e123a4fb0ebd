/* One connection to PostgreSQL.  Every call is asynchronous underneath and
 * comes back by its deadline (clock_ms()); a connection that missed one is
 * dropped, for nobody knows what it would still do.  Statements are unnamed,
 * one transaction each, so a pooler in transaction mode may stand between.
 * (Name lookup of a host is libpq's and blocks: use hostaddr or a socket where
 * the resolver cannot be trusted.)  One thread at a time. */
#ifndef DB_H
#define DB_H

#include "event.h"
#include "rows.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct db;

/* conninfo must outlive *db_r.  Does not connect.  Errors: ERR_MEMORY. */
enum err db_open(struct db **db_r, const char *conninfo) MUST_USE;
void db_close(struct db **db);

/* What to do about "permission denied", a literal in parentheses; without it what
 * the receiver's role needs. */
void db_set_rights(struct db *db, const char *rights);

/* Loads libpq and reads conninfo, before threads; else db_connect() does it.
 * Errors: ERR_CONFIG with db_reason(): no libpq, or no conninfo. */
enum err db_load(struct db *db) MUST_USE;

void db_disconnect(struct db *db);
bool db_is_connected(const struct db *db);

/* Errors: ERR_DB_DOWN, with the reason in db_reason(). */
enum err db_connect(struct db *db, int64_t deadline) MUST_USE;

/* Commits n events, n 0 to try the way, by one call of sms.ingest, and sets id
 * and duplicate_of of each.  Errors, all or none of the events being stored:
 * ERR_DB_DATA  an event cannot be stored; the connection is good
 * ERR_DB_DOWN  not stored, or not all: a replay is harmless
 * ERR_DB_CONFLICT  not stored, by another's fault: at once again may do
 * ERR_DB_UNKNOWN  no answer; a replay is harmless, by ingest_id
 * ERR_MEMORY  not stored */
enum err db_ingest(struct db *db, struct event *const *events, size_t n, bool notify,
    int64_t deadline) MUST_USE;

/* Why the last call failed: for the log and an administrator, without data. */
const char *db_reason(const struct db *db);

/* For the administrator's command.  Runs sql, one statement with text parameters
 * $1, $2, ... (NULL is SQL's null), or several without; gives the rows of the last
 * result.  The caller calls rows_free() in any case. */
enum err db_select(struct db *db, const char *sql, const char *const *params,
    int n_params, int64_t deadline, struct rows *rows_r) MUST_USE;

/* Waits for a notification on a channel, NULL for any, and takes all that are
 * there.  Errors: ERR_DB_UNKNOWN at the deadline, or when the connection is lost;
 * ERR_SYSTEM when reader, a descriptor that is written to or -1, has lost who reads
 * it. */
enum err db_wait_notify(
    struct db *db, const char *channel, int reader, int64_t deadline) MUST_USE;

/* Waits until fd can be written, for as long as it takes, and takes notifications
 * meanwhile: a server that cannot send them stands still amid a transaction.  The
 * connection may be lost over it. */
void db_wait_writable(struct db *db, int fd);

#endif
