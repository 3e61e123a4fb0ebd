#include "migrate.h"

#include "migrations.h"

#include <stdio.h>

enum { MIGRATE_MS = 3600 * 1000 };

int
migrate_newest(void)
{
	int newest = 0;
	for (const struct migration *m = migrations; m->name; m++)
		newest = m->version > newest ? m->version : newest;
	return newest;
}

/* Who may be in the way of a migration that has waited for a lock in vain. */
static void
name_holder(struct admin *a)
{
	static const char sql[] =
	    "select s.pid, coalesce(s.usename, '?'), "
	    "coalesce(s.application_name, ''), coalesce(s.state, '?'), "
	    "coalesce(date_trunc('second', now() - s.xact_start)::text, '?'), c.relname "
	    "from pg_locks l join pg_class c on c.oid = l.relation "
	    "join pg_stat_activity s on s.pid = l.pid "
	    "where c.relnamespace = to_regnamespace('sms') and l.granted "
	    "and l.database = (select oid from pg_database where datname = "
	    "current_database()) and l.pid <> pg_backend_pid() "
	    "order by l.mode = 'AccessShareLock', s.xact_start limit 1";
	struct rows rows;
	if (!admin_ask(a, "locks", sql, NULL, 0, &rows) || rows.n == 0)
		admin_warn(a,
		    "who held the lock is not known, or gone: run smshook migrate "
		    "again");
	else
		admin_warn(a,
		    "in the way may be session %s of user %s (%s, %s for %s) holds a "
		    "lock on sms.%s: "
		    "wait for its end, or end it with select "
		    "pg_terminate_backend(%s), and run smshook migrate again",
		    rows_text(&rows, 0, 0).ptr, rows_text(&rows, 0, 1).ptr,
		    rows_text(&rows, 0, 2).ptr, rows_text(&rows, 0, 3).ptr,
		    rows_text(&rows, 0, 4).ptr, rows_text(&rows, 0, 5).ptr,
		    rows_text(&rows, 0, 0).ptr);
	rows_free(&rows);
}

static bool
ask(struct admin *a, const char *what, const char *sql, struct rows *rows_r)
{
	bool ok = admin_ask(a, what, sql, NULL, 0, rows_r);
	if (strcmp(rows_r->state, "55P03") == 0 && admin_run(a, "rollback", "rollback"))
		name_holder(a);
	return ok;
}

static bool
run(struct admin *a, const char *what, const char *sql)
{
	struct rows rows;
	bool ok = ask(a, what, sql, &rows);
	rows_free(&rows);
	return ok;
}

/* The highest migration in the database, 0 for none. */
static bool
find_version(struct admin *a, int *version_r)
{
	static const char *const looks[] = {
	    "select 0 where to_regclass('sms.schema_version') is null",
	    "select max(version) from sms.schema_version"};
	struct rows rows;
	bool ok = true;
	*version_r = -1;
	for (size_t i = 0; ok && *version_r < 0 && i < sizeof looks / sizeof *looks;
	     i++) {
		ok = ask(a, "schema", looks[i], &rows);
		if (rows.n > 0)
			*version_r = (int)rows_int(&rows, 0, 0);
		rows_free(&rows);
	}
	return ok;
}

/* One transaction: the file's statements, all or none.  Two at once: the lock makes
 * the second see what the first has done.  The receiver waits behind one that waits
 * for another lock: not for long. */
static bool
apply(struct admin *a, const struct migration *m, int *version_r)
{
	static const char begin[] = "begin isolation level read committed; "
				    "select pg_advisory_xact_lock(32489964762525548); "
				    "set local lock_timeout = '10s'";
	if (!run(a, "lock", begin) || !find_version(a, version_r))
		return false;
	if (m->version <= *version_r)
		return run(a, "rollback", "rollback");
	printf("applying %s ...\n", m->name);
	fflush(stdout);
	bool ok = run(a, m->name, m->sql) && run(a, m->name, "commit");
	if (ok)
		admin_good("applied %s", m->name);
	return ok;
}

void
migrate(struct admin *a)
{
	int version = 0, newest = migrate_newest();
	a->answer_ms = MIGRATE_MS;
	if (!admin_connect(a) || !admin_check_server(a))
		return;
	for (const struct migration *m = migrations; m->name; m++)
		if (!apply(a, m, &version))
			return;
	if (version > newest)
		admin_bad(a,
		    "the schema has version %d, made by a newer smshook; this one knows "
		    "%d",
		    version, newest);
	else
		admin_good("the schema has version %d", newest);
}
