#include "sqlstate.h"

#include <string.h>

/* The first row that fits counts; the last fits all.  Messages of data errors and of
 * functions in a trigger may quote the data. */
static const struct sqlstate states[] = {
    {"40", ERR_DB_CONFLICT, 0, ""},
    {"26000", ERR_DB_CONFLICT, 0, ""}, /* a pooler has lost what was prepared */
    /* an ingest_id or digest not seen yet */
    {"23505", ERR_DB_CONFLICT, SQLSTATE_QUOTES, ""},
    {"22", ERR_DB_DATA, SQLSTATE_QUOTES, ""},
    {"23", ERR_DB_DATA, SQLSTATE_QUOTES, ""},
    {"54", ERR_DB_DATA, SQLSTATE_QUOTES, ""},
    {"25006", ERR_DB_DOWN, SQLSTATE_LOST,
	" (a standby? name all hosts in conninfo, with "
	"target_session_attrs=read-write)"},
    {"3F000", ERR_DB_DOWN, 0, " (run: smshook migrate)"},
    {"42883", ERR_DB_DOWN, 0, " (run: smshook migrate)"},
    {"42P01", ERR_DB_DOWN, 0, " (run: smshook migrate)"},
    {"42703", ERR_DB_DOWN, 0, " (run: smshook migrate)"},
    {"42501", ERR_DB_DOWN, SQLSTATE_DENIED, " "},
    {"55P03", ERR_DB_DOWN, 0,
	" (another session has a lock: see pg_locks and pg_stat_activity)"},
    {"P0", ERR_DB_DOWN, SQLSTATE_QUOTES,
	" (raised by a trigger; the server's log says more)"},
    {"38", ERR_DB_DOWN, SQLSTATE_QUOTES, ""},
    {"39", ERR_DB_DOWN, SQLSTATE_QUOTES, ""},
    {"HV", ERR_DB_DOWN, SQLSTATE_QUOTES, ""},
    {"", ERR_DB_DOWN, 0, ""},
};

const struct sqlstate *
sqlstate_find(const char *state)
{
	const struct sqlstate *s = states;
	while (strncmp(state, s->prefix, strlen(s->prefix)) != 0)
		s++;
	return s;
}
