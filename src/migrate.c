#include "migrate.h"

#include "clock.h"
#include "migrations.h"

#include <stdio.h>
#include <stdlib.h>

enum { MIGRATE_MS = 3600 * 1000 };

int
migrate_newest(void)
{
	int newest = 0;
	for (const struct migration *m = migrations; m->name; m++)
		newest = m->version > newest ? m->version : newest;
	return newest;
}

/* The highest migration in the database, 0 for none, -1 on an error. */
static int
schema_version(struct admin *a)
{
	char *value = admin_value(
	    a, "schema", "select to_regclass('sms.schema_version') is not null", NULL);
	if (!value || strcmp(value, "t") != 0) {
		int none = value ? 0 : -1;
		free(value);
		return none;
	}
	free(value);
	value =
	    admin_value(a, "schema", "select max(version) from sms.schema_version", NULL);
	int version = value ? atoi(value) : -1;
	free(value);
	return version;
}

/* Who may be in the way of a migration that has waited for a lock in vain. */
static void
name_holder(struct admin *a)
{
	static const char sql[] =
	    "select distinct on (s.xact_start, s.pid) s.pid, coalesce(s.usename, '?'), "
	    "coalesce(s.application_name, ''), coalesce(s.state, '?'), "
	    "coalesce(date_trunc('second', now() - s.xact_start)::text, '?'), c.relname "
	    "from pg_locks l join pg_class c on c.oid = l.relation "
	    "join pg_stat_activity s on s.pid = l.pid "
	    "where c.relnamespace = to_regnamespace('sms') and l.granted "
	    "and l.database = (select oid from pg_database where datname = "
	    "current_database()) and l.pid <> pg_backend_pid() "
	    "order by s.xact_start, s.pid limit 1";
	struct rows rows;
	if (db_select(a->db, sql, NULL, 0, clock_ms() + MIGRATE_MS, &rows) || rows.n == 0)
		admin_warn("who held the lock is not known, or gone: run smshook migrate "
			   "again");
	else
		admin_warn(
		    "session %s of user %s (%s, %s for %s) holds a lock on sms.%s: "
		    "wait for its end, or end it with select "
		    "pg_terminate_backend(%s), and run smshook migrate again",
		    rows_text(&rows, 0, 0).ptr, rows_text(&rows, 0, 1).ptr,
		    rows_text(&rows, 0, 2).ptr, rows_text(&rows, 0, 3).ptr,
		    rows_text(&rows, 0, 4).ptr, rows_text(&rows, 0, 5).ptr,
		    rows_text(&rows, 0, 0).ptr);
	rows_free(&rows);
}

static bool
run(struct admin *a, const char *what, const char *sql)
{
	struct rows rows;
	enum err e = db_select(a->db, sql, NULL, 0, clock_ms() + MIGRATE_MS, &rows);
	bool is_locked = strcmp(rows.state, "55P03") == 0;
	rows_free(&rows);
	if (e)
		admin_bad(a, "%s: %s", what, db_reason(a->db));
	if (is_locked && admin_run(a, "rollback", "rollback"))
		name_holder(a);
	return !e;
}

/* One transaction: the file's statements, all or none.  The receiver waits behind
 * one that waits for a lock: not for long. */
static bool
apply(struct admin *a, const struct migration *m)
{
	printf("applying %s ...\n", m->name);
	fflush(stdout);
	bool ok = run(a, m->name, "begin; set local lock_timeout = '10s'") &&
		  run(a, m->name, m->sql) && run(a, m->name, "commit");
	if (ok)
		admin_good("applied %s", m->name);
	return ok;
}

/* Two at once: the lock makes the second see what the first has done. */
void
migrate(struct admin *a)
{
	if (!admin_connect(a) || !admin_check_server(a) ||
	    !run(a, "lock", "select pg_advisory_lock(32489964762525548)"))
		return;
	int version = schema_version(a);
	int newest = migrate_newest();
	for (const struct migration *m = migrations; m->name && version >= 0; m++)
		if (m->version > version && !apply(a, m))
			return;
	if (version > newest)
		admin_bad(a,
		    "the schema has version %d, made by a newer smshook; this one knows "
		    "%d",
		    version, newest);
	else if (version >= 0)
		admin_good("the schema has version %d", newest);
}
