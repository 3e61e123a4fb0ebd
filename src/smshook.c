/* smshook: the administrator's command. */
#include "check.h"
#include "log.h"
#include "migrate.h"
#include "purge.h"
#include "rejected.h"
#include "sample.h"
#include "spoolctl.h"
#include "stdfiles.h"
#include "tail.h"
#include "token.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

/* What is there before a command runs.  Those of the database alone need no
 * configuration when -d names it. */
enum need { NEEDS_NOTHING, NEEDS_DATABASE, NEEDS_CONF };

enum { ANSWER_MS = 10000 };

#define READER                                                                           \
	"(it needs a role in smshook_reader, which its owner gives by grant "            \
	"smshook_reader to ROLE; name that role by -d \"dbname=... user=ROLE\")"
#define OWNER "(it needs the owner of schema sms; name that role by -d)"

static bool
takes_none(char *const *arguments)
{
	return !arguments[0];
}

/* The first row that fits counts. */
static const struct command {
	const char *name;
	const char *verb; /* the argument that the row is for, NULL for any */
	enum need need;
	void (*run)(struct admin *);
	bool (*takes)(char *const *arguments);
	const char *arguments, *help;
	const char *more;   /* for COMMAND --help */
	const char *rights; /* as of db_set_rights(), NULL as for the receiver */
} commands[] = {
    {"migrate", NULL, NEEDS_DATABASE, migrate, takes_none, "",
	"create or update the schema sms in the database",
	"Every migration that is missing, each in one transaction.",
	"(it needs the owner of schema sms, or at first CREATE on the database; name "
	"that role by -d)"},
    {"check", NULL, NEEDS_CONF, check, takes_none, "",
	"try every part and say what to mend",
	"Run it as the user that the receiver runs as.", NULL},
    {"spool", NULL, NEEDS_CONF, spoolctl, spoolctl_takes,
	"list | show [--text] NAME | drain | retry [NAME]",
	"what waits while the database is away",
	"  list              the files that wait, and those that could not be read\n"
	"  show NAME         its events, without what people wrote\n"
	"  show --text NAME  the file as it is\n"
	"  drain             all into the database, now\n"
	"  retry [NAME]      a file of bad/ once more, or all",
	NULL},
    {"tail", NULL, NEEDS_DATABASE, tail, tail_takes,
	"[--since WHEN] [--kind KIND] [--json] [--full]", "show events as they come",
	tail_help, READER},
    {"rejected", "retry", NEEDS_CONF, rejected_retry, rejected_retry_takes,
	"retry [ID ...]", "what was no event, once more", rejected_retry_help, OWNER},
    {"rejected", NULL, NEEDS_DATABASE, rejected, rejected_takes,
	"list | show [--text] ID", "bodies that were no event", rejected_help, READER},
    {"purge", NULL, NEEDS_DATABASE, purge, purge_takes, "--older-than AGE",
	"delete old events", purge_help, OWNER},
    {"token", NULL, NEEDS_NOTHING, token_new, token_takes, "new [URL]",
	"make the secret in the URL", token_help, NULL},
    {"sample", NULL, NEEDS_NOTHING, sample, sample_takes,
	"[--count N] [--rate PER_SECOND] [--seed N] [--post URL]",
	"play the gateway: print or post sample webhooks",
	"  --count N          so many, 10 by default; 0: until it is stopped\n"
	"  --rate PER_SECOND  no more than so many a second, such as 5 or 0.5\n"
	"  --seed N           the same webhooks each time\n"
	"  --post URL         post them, by libcurl, and print the answers",
	NULL},
};

static void
print_command(const char *name)
{
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
		const struct command *c = &commands[i];
		if (strcmp(c->name, name) != 0)
			continue;
		printf("Usage: smshook%s %s%s%s\n%s\n",
		    c->need == NEEDS_DATABASE ? " [-c FILE | -d CONNINFO]"
		    : c->need == NEEDS_CONF   ? " [-c FILE] [-d CONNINFO]"
					      : "",
		    c->name, *c->arguments ? " " : "", c->arguments, c->more);
	}
}

static void
print_help(void)
{
	puts("Usage: smshook [-c FILE] [-d CONNINFO] COMMAND\n"
	     "Looks after the database and the configuration of smshook.fcgi.\n");
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		printf("  %s%s%s\n               %s\n", commands[i].name,
		    *commands[i].arguments ? " " : "", commands[i].arguments,
		    commands[i].help);
	puts("\n"
	     "  COMMAND --help  print more about it\n"
	     "  -c FILE      configuration; default $SMSHOOK_CONFIG, then\n"
	     "               ~/.config/smshook/smshook.conf, then\n"
	     "               " SYSCONFDIR "/smshook/smshook.conf\n"
	     "  -d CONNINFO  the database, in place of the configuration's; a command\n"
	     "               that needs nothing else then reads no configuration\n"
	     "  --help       print this\n"
	     "  --version    print the version\n"
	     "\n"
	     "Exits 0 when all is good, 1 when something failed, 64 on bad usage, 78 on "
	     "a\n"
	     "bad configuration.  Keys of the configuration:");
	conf_help(stdout);
}

/* command: whose --help tells more, "" for that of all. */
static int
usage(const char *what, const char *word, const char *command)
{
	fprintf(stderr, "smshook: %s%s; see smshook %s%s--help\n", what, word, command,
	    *command ? " " : "");
	return EX_USAGE;
}

/* The configuration, with the database of -d in it. */
static enum err
read_conf(struct admin *a, const char *path, const char *conninfo, enum need need)
{
	enum err e = ERR_OK;
	a->conninfo_at = conninfo ? "-d" : "[database] conninfo";
	if (need == NEEDS_CONF || (need == NEEDS_DATABASE && !conninfo))
		e = conf_load(&a->conf, path);
	if (!e && conninfo) {
		free(a->conf.conninfo);
		a->conf.conninfo = strdup(conninfo);
		e = a->conf.conninfo ? ERR_OK : ERR_MEMORY;
	}
	return e;
}

static int
run(const char *conf_path, const char *conninfo, const struct command *command,
    char **arguments)
{
	struct admin a = {
	    .arguments = arguments, .answer_ms = ANSWER_MS, .faults = stderr};
	int status = EX_CONFIG;
	enum err e = read_conf(&a, conf_path, conninfo, command->need);
	if (!e && command->need != NEEDS_NOTHING)
		e = db_open(&a.db, a.conf.conninfo);
	if (a.db && command->rights)
		db_set_rights(a.db, command->rights);
	if (!e && a.db && (e = db_load(a.db)))
		log_error("%s%s%s: %s", conninfo ? "" : a.conf.path, conninfo ? "" : ": ",
		    a.conninfo_at, db_reason(a.db));
	if (!e) {
		command->run(&a);
		status = a.n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	db_close(&a.db);
	conf_free(&a.conf);
	return status;
}

static const struct command *
find_command(const char *name, char *const *arguments)
{
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
		const struct command *c = &commands[i];
		bool is_verb = c->verb && arguments[0] && !strcmp(c->verb, arguments[0]);
		if (strcmp(name, c->name) == 0 && (!c->verb || is_verb))
			return c;
	}
	return NULL;
}

static bool
asks_for_help(char *const *arguments)
{
	while (*arguments && strcmp(*arguments, "--help") != 0)
		arguments++;
	return *arguments;
}

static int
start(int argc, char **argv)
{
	static const struct option options[] = {{"help", no_argument, NULL, 'h'},
	    {"version", no_argument, NULL, 'V'}, {NULL, 0, NULL, 0}};
	const char *conf_path = NULL, *conninfo = NULL;
	int option;

	log_open("smshook", LOG_LEVEL_INFO, LOG_TARGET_STDERR);
	while ((option = getopt_long(argc, argv, "+c:d:", options, NULL)) != -1) {
		switch (option) {
		case 'c':
			conf_path = optarg;
			break;
		case 'd':
			conninfo = optarg;
			break;
		case 'h':
			print_help();
			return EXIT_SUCCESS;
		case 'V':
			puts("smshook " PACKAGE_VERSION);
			return EXIT_SUCCESS;
		default:
			return usage("bad option", "", "");
		}
	}
	if (optind == argc)
		return usage("a command is expected", "", "");
	char **arguments = argv + optind + 1;
	const struct command *c = find_command(argv[optind], arguments);
	if (!c)
		return usage("unknown command ", argv[optind], "");
	if (asks_for_help(arguments)) {
		print_command(c->name);
		return EXIT_SUCCESS;
	}
	if (!c->takes(arguments))
		return usage("wrong arguments (-c and -d go before the command): ",
		    c->name, c->name);
	return run(conf_path, conninfo, c, arguments);
}

int
main(int argc, char **argv)
{
	stdfiles_open();
	int status = start(argc, argv);
	if (fflush(stdout) || ferror(stdout)) {
		fputs(
		    "smshook: the output cannot be written; is the disk full?\n", stderr);
		status = EXIT_FAILURE;
	}
	return status;
}
