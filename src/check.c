#include "check.h"

#include "clock.h"
#include "migrate.h"
#include "spool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { TRY_MS = 10000 };

/* In the comment of the schema: the writer's role may read no table. */
static void
check_schema(struct admin *s)
{
	char *value = admin_value(s, "schema",
	    "select coalesce(substring(obj_description(oid, 'pg_namespace') "
	    "from 'Schema version (\\d+)'), '0') from pg_namespace where nspname = 'sms'",
	    NULL);
	if (!value)
		return;
	if (!*value)
		admin_bad(s, "schema sms is not there: run smshook migrate");
	else if (strcmp(value, "0") == 0)
		admin_warn(s,
		    "the comment on schema sms tells no version; smshook migrate tells "
		    "it, and comment on schema sms is 'Schema version ...' brings it "
		    "back");
	else if (atoi(value) > migrate_newest())
		admin_bad(s,
		    "schema version %s, made by a newer smshook; this one knows %d: "
		    "install that",
		    value, migrate_newest());
	else if (atoi(value) != migrate_newest())
		admin_bad(s,
		    "schema version %s, and this smshook needs %d: run smshook migrate",
		    value, migrate_newest());
	else
		admin_good("schema version %s", value);
	free(value);
}

/* Hands in an event and takes it back. */
static void
check_write(struct admin *s)
{
	static const char body[] =
	    "{\"event\":\"smshook_check\",\"message\":\"rolled back\"}";
	struct event ev, *events[] = {&ev};
	if (event_init(&ev, TEXT(body), TEXT("smshook check"))) {
		admin_bad(s, "no random bytes or no SHA-256");
		return;
	}
	ev.kind = TEXT("smshook_check");
	ev.payload = ev.wire;
	if (!admin_run(s, "begin", ADMIN_BEGIN))
		return;
	if (db_ingest(s->db, events, 1, false, clock_ms() + TRY_MS))
		admin_bad(s, "an event cannot be written: %s", db_reason(s->db));
	else
		admin_good("an event can be written (it was rolled back)");
	if (db_is_connected(s->db))
		admin_run(s, "rollback", "rollback");
}

static void
check_notify(struct admin *s)
{
	if (admin_hears(s))
		admin_good("a notification comes back");
	else
		admin_warn(s,
		    "a notification does not come back: listeners need a direct "
		    "connection, not a pooler in transaction mode");
}

/* Settings under which a commit is not what it says. */
static void
check_settings(struct admin *s)
{
	static const struct {
		const char *sql, *want, *mend;
	} settings[] = {
	    {"select current_setting('fsync')", "on",
		"fsync is off: a power cut destroys the database; set fsync = on"},
	    {"select current_setting('full_page_writes')", "on",
		"full_page_writes is off: a power cut may destroy the database"},
	    {"select current_setting('default_transaction_isolation')", "read committed",
		"default_transaction_isolation is not read committed: concurrent "
		"receivers "
		"will fail and retry; alter role ... reset it"},
	    {"select pg_is_in_recovery()", "f",
		"this is a standby: name all hosts in conninfo, with "
		"target_session_attrs=read-write"},
	};
	for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
		char *value = admin_value(s, "settings", settings[i].sql, NULL);
		if (value && strcmp(value, settings[i].want) != 0)
			admin_warn(s, "%s", settings[i].mend);
		free(value);
	}
}

static void
check_zones(struct admin *s)
{
	for (size_t i = 0; i < s->conf.n_sources; i++) {
		const struct conf_source *source = &s->conf.sources[i];
		char *value = admin_value(s, "time zone",
		    "select count(*) from pg_timezone_names where name = $1",
		    source->timezone ? source->timezone : "UTC");
		if (value && strcmp(value, "0") == 0)
			admin_bad(s, "[source %s] timezone: PostgreSQL does not know %s",
			    source->name, source->timezone);
		else if (value)
			admin_good("source %s: %zu token(s), %zu signature key(s), time "
				   "zone %s",
			    source->name, source->n_digests, source->n_keys,
			    source->timezone ? source->timezone : "UTC");
		free(value);
	}
}

/* As the receiver does it: a file is written, fsynced and removed. */
static void
check_spool(struct admin *s)
{
	struct spool *sp;
	struct spool_usage usage = {0};
	enum err e = spool_open(&sp, s->conf.spool_directory, s->conf.spool_max_size);
	if (!e)
		e = spool_try(sp);
	if (!e)
		e = spool_usage(sp, &usage);
	if (e)
		admin_bad(s, "spool: %s", sp ? spool_reason(sp) : err_sentence(e));
	else
		admin_good(
		    "spool: can be written; %" PRIu64 " files wait in it", usage.n_files);
	if (usage.n_bad > 0)
		admin_warn(s,
		    "spool: %" PRIu64 " files in bad/ could not be read; look at "
		    "them with smshook spool list",
		    usage.n_bad);
	spool_close(&sp);
}

void
check(struct admin *s)
{
	static void (*const parts[])(struct admin *) = {
	    check_settings, check_zones, check_schema, check_write, check_notify};
	s->faults = stdout; /* all of it is the report */
	admin_good("configuration read");
	check_spool(s);
	if (!admin_connect(s) || !admin_check_server(s))
		return;
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		if (db_is_connected(s->db))
			parts[i](s);
}
