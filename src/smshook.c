/* smshook: the administrator's command. */
#include "admin.h"
#include "clock.h"
#include "log.h"
#include "migrations.h"
#include "spool.h"
#include "spoolctl.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

enum { CONNECT_MS = 10000, MIGRATE_MS = 3600 * 1000 };

/* ------------------------------------------------------------ statements */

/* First value of a statement, "" for none; NULL and a FAIL line on an error. */
static char *
value_of(struct admin *s, const char *what, const char *sql, const char *param)
{
	char *value;
	enum err e = db_query(s->db, sql, param, clock_ms() + CONNECT_MS, &value);
	if (e) {
		admin_bad(s, "%s: %s", what, db_reason(s->db));
		return NULL;
	}
	return value ? value : strdup("");
}

static bool
connect_db(struct admin *s)
{
	if (db_connect(s->db, clock_ms() + CONNECT_MS)) {
		admin_bad(s,
		    "database: %s; mend [database] conninfo, or start the server",
		    db_reason(s->db));
		return false;
	}
	return true;
}

/* What no migration can mend; db_connect() has looked at the encoding. */
static bool
check_server(struct admin *s)
{
	char *version =
	    value_of(s, "version", "select current_setting('server_version_num')", NULL);
	int number = version ? atoi(version) : 0;
	free(version);
	if (number > 0 && number < 130000)
		admin_bad(s, "PostgreSQL is older than 13: upgrade the server");
	else if (number > 0)
		admin_good(
		    "PostgreSQL %d.%d, encoding UTF8", number / 10000, number % 10000);
	return number >= 130000;
}

/* --------------------------------------------------------------- migrate */

/* The highest migration in the database, 0 for none, -1 on an error. */
static int
schema_version(struct admin *s)
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
run_script(struct admin *s, const char *what, const char *sql)
{
	char *value;
	enum err e = db_query(s->db, sql, NULL, clock_ms() + MIGRATE_MS, &value);
	free(value);
	if (e)
		admin_bad(s, "%s: %s", what, db_reason(s->db));
	return !e;
}

/* One transaction: the file's statements, all or none. */
static bool
apply(struct admin *s, const struct migration *m)
{
	printf("applying %s ...\n", m->name);
	fflush(stdout);
	bool ok = run_script(s, m->name, "begin") && run_script(s, m->name, m->sql) &&
		  run_script(s, m->name, "commit");
	if (ok)
		admin_good("applied %s", m->name);
	return ok;
}

/* Two at once: the lock makes the second see what the first has done. */
static void
migrate(struct admin *s)
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
		admin_bad(s,
		    "the schema has version %d, made by a newer smshook; this one knows "
		    "%d",
		    version, newest);
	else if (version >= 0)
		admin_good("the schema has version %d", newest);
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
check_schema(struct admin *s)
{
	char *value = value_of(s, "schema",
	    "select substring(obj_description(p.oid) from 'schema version (\\d+)') "
	    "from pg_proc p join pg_namespace n on n.oid = p.pronamespace "
	    "where n.nspname = 'sms' and p.proname = 'ingest'",
	    NULL);
	if (!value)
		return;
	if (!*value)
		admin_bad(s, "schema sms is not there: run smshook migrate");
	else if (atoi(value) != newest_version())
		admin_bad(s,
		    "schema version %s, and this smshook needs %d: run smshook migrate",
		    value, newest_version());
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
	if (!run_script(s, "begin", "begin"))
		return;
	if (db_ingest(s->db, events, 1, false, clock_ms() + CONNECT_MS))
		admin_bad(s, "an event cannot be written: %s", db_reason(s->db));
	else
		admin_good("an event can be written (it was rolled back)");
	if (db_is_connected(s->db))
		run_script(s, "rollback", "rollback");
}

/* A NOTIFY that comes back; a pooler in transaction mode swallows it. */
static void
check_notify(struct admin *s)
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
		admin_warn("a notification does not come back: listeners need a direct "
			   "connection, not a pooler in transaction mode");
	else
		admin_good("a notification comes back");
	free(value);
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
		char *value = value_of(s, "settings", settings[i].sql, NULL);
		if (value && strcmp(value, settings[i].want) != 0)
			admin_warn("%s", settings[i].mend);
		free(value);
	}
}

static void
check_zones(struct admin *s)
{
	for (size_t i = 0; i < s->conf.n_sources; i++) {
		const struct conf_source *source = &s->conf.sources[i];
		char *value = value_of(s, "time zone",
		    "select count(*) from pg_timezone_names where name = $1",
		    source->timezone ? source->timezone : "UTC");
		if (value && strcmp(value, "0") == 0)
			admin_bad(s, "[source %s] timezone: PostgreSQL does not know %s",
			    source->name, source->timezone);
		else if (value)
			admin_good("source %s: %zu token(s), time zone %s", source->name,
			    source->n_tokens,
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
		admin_warn("spool: %" PRIu64 " files in bad/ could not be read; look at "
			   "them with smshook spool list",
		    usage.n_bad);
	spool_close(&sp);
}

static void
check(struct admin *s)
{
	static void (*const parts[])(struct admin *) = {
	    check_settings, check_zones, check_schema, check_write, check_notify};
	admin_good("configuration read");
	check_spool(s);
	if (!connect_db(s) || !check_server(s))
		return;
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		if (db_is_connected(s->db))
			parts[i](s);
}

/* ------------------------------------------------------------------ main */

static bool
takes_none(char *const *arguments)
{
	return !arguments[0];
}

static const struct command {
	const char *name;
	void (*run)(struct admin *);
	bool (*takes)(char *const *arguments);
	const char *help;
} commands[] = {
    {"migrate", migrate, takes_none, "create or update the schema sms in the database"},
    {"check", check, takes_none, "try every part and say what to mend"},
    {"spool", spoolctl, spoolctl_takes,
	"list | show [--text] NAME | drain | retry [NAME]: what waits"},
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
run(const char *conf_path, const struct command *command, char **arguments)
{
	struct admin s = {.arguments = arguments};
	int status = EX_CONFIG;
	enum err e = conf_load(&s.conf, conf_path);
	if (!e)
		e = db_open(&s.db, s.conf.conninfo);
	if (!e && (e = db_load(s.db)))
		log_error("%s: [database] conninfo: %s", s.conf.path, db_reason(s.db));
	if (!e) {
		command->run(&s);
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
	if (optind == argc)
		return usage("a command is expected", "");
	char **arguments = argv + optind + 1;
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
		const struct command *c = &commands[i];
		if (strcmp(argv[optind], c->name) != 0)
			continue;
		if (!c->takes(arguments))
			return usage("wrong arguments of ", c->name);
		return run(conf_path, c, arguments);
	}
	return usage("unknown command ", argv[optind]);
}
