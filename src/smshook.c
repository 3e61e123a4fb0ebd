/* smshook: the administrator's command. */
#include "clock.h"
#include "conf.h"
#include "db.h"
#include "log.h"
#include "migrations.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

enum { CONNECT_MS = 10000, MIGRATE_MS = 3600 * 1000 };

/* What a command works on. */
struct session {
	struct conf conf;
	struct db *db;
	int n_failed;
};

/* ------------------------------------------------------------- reporting */

static void say(const char *tag, const char *format, va_list ap)
    __attribute__((format(printf, 2, 0)));

static void
say(const char *tag, const char *format, va_list ap)
{
	printf("%-5s ", tag);
	vprintf(format, ap);
	putchar('\n');
	fflush(stdout);
}

static void good(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void bad(struct session *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void
good(const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	say("ok", format, ap);
	va_end(ap);
}

static void
warn(const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	say("warn", format, ap);
	va_end(ap);
}

static void
bad(struct session *s, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	say("FAIL", format, ap);
	va_end(ap);
	s->n_failed++;
}

/* ------------------------------------------------------------ statements */

/* First value of a statement, "" for none; NULL and a FAIL line on an error. */
static char *
value_of(struct session *s, const char *what, const char *sql, const char *param)
{
	char *value;
	enum err e = db_query(s->db, sql, param, clock_ms() + CONNECT_MS, &value);
	if (e) {
		bad(s, "%s: %s", what, db_reason(s->db));
		return NULL;
	}
	return value ? value : strdup("");
}

static bool
connect_db(struct session *s)
{
	if (db_connect(s->db, clock_ms() + CONNECT_MS)) {
		bad(s, "database: %s; mend [database] conninfo, or start the server",
		    db_reason(s->db));
		return false;
	}
	return true;
}

/* The server's version and encoding: what no migration can mend. */
static bool
check_server(struct session *s)
{
	char *version =
	    value_of(s, "version", "select current_setting('server_version_num')", NULL);
	char *encoding =
	    value_of(s, "encoding", "select current_setting('server_encoding')", NULL);
	bool ok = version && encoding;
	if (ok && atoi(version) < 130000) {
		bad(s, "PostgreSQL is older than 13: upgrade the server");
		ok = false;
	}
	if (ok && strcmp(encoding, "UTF8") != 0) {
		bad(s,
		    "the database's encoding is %s, and SMS need UTF8: make one with "
		    "createdb -E UTF8 -T template0 NAME",
		    encoding);
		ok = false;
	}
	if (ok)
		good("PostgreSQL %d.%d, encoding %s", atoi(version) / 10000,
		    atoi(version) % 10000, encoding);
	free(version);
	free(encoding);
	return ok;
}

/* --------------------------------------------------------------- migrate */

/* The highest migration in the database, 0 for none, -1 on an error. */
static int
schema_version(struct session *s)
{
	char *value = value_of(
	    s, "schema", "select to_regclass('sms.schema_version') is not null", NULL);
	if (!value || strcmp(value, "t") != 0) {
		int none = value ? 0 : -1;
		free(value);
		return none;
	}
	free(value);
	value =
	    value_of(s, "schema", "select max(version) from sms.schema_version", NULL);
	int version = value ? atoi(value) : -1;
	free(value);
	return version;
}

static bool
run_script(struct session *s, const char *what, const char *sql)
{
	char *value;
	enum err e = db_query(s->db, sql, NULL, clock_ms() + MIGRATE_MS, &value);
	free(value);
	if (e)
		bad(s, "%s: %s", what, db_reason(s->db));
	return !e;
}

/* One transaction: the file's statements, all or none. */
static bool
apply(struct session *s, const struct migration *m)
{
	printf("applying %s ...\n", m->name);
	fflush(stdout);
	bool ok = run_script(s, m->name, "begin") && run_script(s, m->name, m->sql) &&
		  run_script(s, m->name, "commit");
	if (ok)
		good("applied %s", m->name);
	return ok;
}

/* Two at once: the lock makes the second see what the first has done. */
static void
migrate(struct session *s)
{
	if (!connect_db(s) || !check_server(s) ||
	    !run_script(s, "lock", "select pg_advisory_lock(32489964762525548)"))
		return;
	int version = schema_version(s);
	int newest = 0;
	for (const struct migration *m = migrations; m->name && version >= 0; m++) {
		newest = m->version;
		if (m->version > version && !apply(s, m))
			return;
	}
	if (version > newest)
		bad(s,
		    "the schema has version %d, made by a newer smshook; this one knows "
		    "%d",
		    version, newest);
	else if (version >= 0)
		good("the schema has version %d", newest);
}

/* ----------------------------------------------------------------- check */

static int
newest_version(void)
{
	int newest = 0;
	for (const struct migration *m = migrations; m->name; m++)
		newest = m->version;
	return newest;
}

/* The writer's role may read no table, so the function's comment tells too. */
static void
check_schema(struct session *s)
{
	char *value = value_of(s, "schema",
	    "select substring(obj_description(p.oid) from 'schema version (\\d+)') "
	    "from pg_proc p join pg_namespace n on n.oid = p.pronamespace "
	    "where n.nspname = 'sms' and p.proname = 'ingest'",
	    NULL);
	if (!value)
		return;
	if (!*value)
		bad(s, "schema sms is not there: run smshook migrate");
	else if (atoi(value) != newest_version())
		bad(s,
		    "schema version %s, and this smshook needs %d: run smshook migrate",
		    value, newest_version());
	else
		good("schema version %s", value);
	free(value);
}

/* Hands in an event and takes it back. */
static void
check_write(struct session *s)
{
	static const char body[] =
	    "{\"event\":\"smshook_check\",\"message\":\"rolled back\"}";
	struct event ev, *events[] = {&ev};
	if (event_init(&ev, TEXT(body), TEXT("smshook check"))) {
		bad(s, "no random bytes or no SHA-256");
		return;
	}
	ev.kind = TEXT("smshook_check");
	ev.payload = ev.wire;
	if (!run_script(s, "begin", "begin"))
		return;
	if (db_ingest(s->db, events, 1, false, clock_ms() + CONNECT_MS))
		bad(s, "an event cannot be written: %s", db_reason(s->db));
	else
		good("an event can be written (it was rolled back)");
	if (db_is_connected(s->db))
		run_script(s, "rollback", "rollback");
}

/* A NOTIFY that comes back; a pooler in transaction mode swallows it. */
static void
check_notify(struct session *s)
{
	char channel[64], sql[200];
	char *value;
	snprintf(channel, sizeof channel, "smshook_check_%ld", (long)getpid());
	snprintf(sql, sizeof sql, "listen %s", channel);
	if (!run_script(s, "listen", sql))
		return;
	value = value_of(s, "notify", "select pg_notify($1, '')", channel);
	if (!value)
		return;
	if (db_wait_notify(s->db, channel, clock_ms() + 2000))
		warn("a notification does not come back: listeners need a direct "
		     "connection, not a pooler in transaction mode");
	else
		good("a notification comes back");
	free(value);
}

/* Settings under which a commit is not what it says. */
static void
check_settings(struct session *s)
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
		char *value = value_of(s, "settings", settings[i].sql, NULL);
		if (value && strcmp(value, settings[i].want) != 0)
			warn("%s", settings[i].mend);
		free(value);
	}
}

static void
check_zones(struct session *s)
{
	for (size_t i = 0; i < s->conf.n_sources; i++) {
		const struct conf_source *source = &s->conf.sources[i];
		char *value = value_of(s, "time zone",
		    "select count(*) from pg_timezone_names where name = $1",
		    source->timezone ? source->timezone : "UTC");
		if (value && strcmp(value, "0") == 0)
			bad(s, "[source %s] timezone: PostgreSQL does not know %s",
			    source->name, source->timezone);
		else if (value)
			good("source %s: %zu token(s), time zone %s", source->name,
			    source->n_tokens,
			    source->timezone ? source->timezone : "UTC");
		free(value);
	}
}

static void
check(struct session *s)
{
	static void (*const parts[])(struct session *) = {
	    check_settings, check_zones, check_schema, check_write, check_notify};
	good("configuration read");
	if (!connect_db(s) || !check_server(s))
		return;
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		if (db_is_connected(s->db))
			parts[i](s);
}

/* ------------------------------------------------------------------ main */

static const struct {
	const char *name;
	void (*run)(struct session *);
	const char *help;
} commands[] = {
    {"migrate", migrate, "create or update the schema sms in the database"},
    {"check", check, "try every part and say what to mend"},
};

static void
print_help(void)
{
	puts("Usage: smshook [-c FILE] COMMAND\n"
	     "Looks after the database and the configuration of smshook.fcgi.\n");
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		printf("  %-10s %s\n", commands[i].name, commands[i].help);
	puts("\n"
	     "  -c FILE    configuration; default $SMSHOOK_CONFIG, then\n"
	     "             ~/.config/smshook/smshook.conf, then\n"
	     "             " SYSCONFDIR "/smshook/smshook.conf\n"
	     "  --help     print this\n"
	     "  --version  print the version\n"
	     "\n"
	     "Exits 0 when all is good, 1 when something failed, 64 on bad usage, 78 on "
	     "a\n"
	     "bad configuration.  Keys of the configuration:");
	conf_help(stdout);
}

static int
usage(const char *what, const char *name)
{
	fprintf(stderr, "smshook: %s%s; see smshook --help\n", what, name);
	return EX_USAGE;
}

static int
run(const char *conf_path, void (*command)(struct session *))
{
	struct session s = {0};
	int status = EX_CONFIG;
	enum err e = conf_load(&s.conf, conf_path);
	if (!e && db_open(&s.db, s.conf.conninfo)) {
		log_error("%s: [database] conninfo: %s", s.conf.path, db_reason(s.db));
	} else if (!e) {
		command(&s);
		status = s.n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	db_close(&s.db);
	conf_free(&s.conf);
	return status;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {{"help", no_argument, NULL, 'h'},
	    {"version", no_argument, NULL, 'V'}, {NULL, 0, NULL, 0}};
	const char *conf_path = NULL;
	int option;

	log_open("smshook", LOG_LEVEL_INFO, LOG_TARGET_STDERR);
	while ((option = getopt_long(argc, argv, "+c:", options, NULL)) != -1) {
		switch (option) {
		case 'c':
			conf_path = optarg;
			break;
		case 'h':
			print_help();
			return EXIT_SUCCESS;
		case 'V':
			puts("smshook " PACKAGE_VERSION);
			return EXIT_SUCCESS;
		default:
			return usage("bad option", "");
		}
	}
	if (optind + 1 != argc)
		return usage("one command is expected", "");
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		if (strcmp(argv[optind], commands[i].name) == 0)
			return run(conf_path, commands[i].run);
	return usage("unknown command ", argv[optind]);
}
