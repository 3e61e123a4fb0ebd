/* What a command of smshook works on, and how it reports: a line each part that
 * begins with ok, warn or FAIL. */
#ifndef ADMIN_H
#define ADMIN_H

#include "conf.h"
#include "db.h"

#include <stdio.h>

struct admin {
	struct conf conf;        /* empty when the command needs none */
	const char *conninfo_at; /* where the database's conninfo is from */
	struct db *db;           /* NULL when the command needs none */
	char **arguments;        /* after the command's name, up to NULL */
	int answer_ms;           /* how long a statement may take */
	FILE *faults;            /* where warn and FAIL go */
	int n_failed;
};

void admin_good(const char *format, ...) __attribute__((format(printf, 1, 2)));
void admin_warn(struct admin *a, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Counts: smshook exits 1. */
void admin_bad(struct admin *a, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Says on stderr what is wrong with an argument; always false. */
bool admin_misuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Each is false, or NULL, after a line that begins with FAIL. */
bool admin_connect(struct admin *a);

/* As db_select() does it: the caller calls rows_free() in any case. */
bool admin_ask(struct admin *a, const char *what, const char *sql,
    const char *const *params, int n_params, struct rows *rows_r);

/* What no migration can mend; db_connect() has looked at the encoding. */
bool admin_check_server(struct admin *a);

/* Runs sql, one statement with an optional text parameter $1, or several without:
 * the first value of the last result, "" for none, which the caller frees. */
char *admin_value(struct admin *a, const char *what, const char *sql, const char *param);
bool admin_run(struct admin *a, const char *what, const char *sql);

/* Before sms.ingest, which takes the lock of all ingestion: should we stand still,
 * or vanish, the server gives it back. */
#define ADMIN_BEGIN "begin; set local idle_in_transaction_session_timeout = '5s'"

/* Whether notifications come to the session: one that another session sends, for
 * a pooler in transaction mode passes on what is its own. */
bool admin_hears(struct admin *a);

#endif
