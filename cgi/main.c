/* smshook.fcgi: arguments -> configuration -> log -> signals -> listen ->
 * store -> writer -> workers -> wait for a signal -> stop. */
#include "cgi.h"
#include "clock.h"
#include "confine.h"
#include "drain.h"
#include "fcgi.h"
#include "listener.h"
#include "log.h"
#include "pool.h"
#include "stdfiles.h"

#include <getopt.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

static const char program[] = "smshook.fcgi";

/* All that a request needs, in the order in which it is made. */
struct receiver {
	struct conf conf;
	struct store *store;
	struct writer *writer;
	struct drainer *drainer;
	struct handler handler;
	struct pool *pool; /* NULL in CGI */
};

/* What a CGI request does for the spool when its answer is out. */
enum { CGI_DRAIN_MS = 500, CGI_DRAIN_EVENTS = 32 };

/* A stop comes to its end, whatever hangs: so long after a request's own time. */
enum { STOP_MS = 5000 };

static void
receiver_close(struct receiver *r)
{
	drainer_stop(&r->drainer);
	writer_close(&r->writer);
	store_close(&r->store);
	conf_free(&r->conf);
}

static void
receiver_log(const struct receiver *r)
{
	log_open(program, (enum log_level)r->conf.log_level,
	    (enum log_target)r->conf.log_target);
}

/* is_next: it logs where the one before it does, until it has taken over. */
static enum err
receiver_open(
    struct receiver *r, const char *conf_path, enum store_probe probe, bool is_next)
{
	*r = (struct receiver){0};
	enum err e = conf_load(&r->conf, conf_path);
	if (e)
		return e;
	if (!is_next)
		receiver_log(r);
	e = store_open(&r->store, &r->conf, probe);
	if (!e || e == ERR_SPOOL) {
		enum err failed =
		    writer_open(&r->writer, r->store, (size_t)r->conf.threads);
		e = failed ? failed : e;
	}
	r->handler.conf = &r->conf;
	r->handler.writer = r->writer;
	return e;
}

/* A few files, where the database is known to be there. */
static void
drain_some(struct receiver *r)
{
	struct drain *d;
	size_t n = 0;
	int64_t until = clock_ms() + CGI_DRAIN_MS;
	enum err e = drain_open(&d, &r->conf, r->store);
	while (!e && store_is_connected(r->store) && clock_left(until) > 0) {
		e = drain_batch(d, CGI_DRAIN_EVENTS, &n);
		if (n == 0)
			break;
	}
	drain_close(&d);
}

/* By CGI one request, whatever the arguments are: a web server may put a query
 * string there (RFC 3875, section 4.4). */
static int
run_cgi(void)
{
	struct receiver r;
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* write() says it, too */
	enum err e = receiver_open(&r, NULL, STORE_PROCESSES, false);
	bool is_open = !e || e == ERR_SPOOL; /* the database may be there */
	if (is_open) {
		bool is_out = cgi_serve(&r.handler);
		log_open(program, (enum log_level)r.conf.log_level, LOG_TARGET_SYSLOG);
		if (is_out)
			drain_some(&r);
	} else {
		cgi_refuse(e);
	}
	receiver_close(&r);
	return is_open ? EXIT_SUCCESS : EX_CONFIG;
}

/* Blocked in every thread; main() takes them by sigwait().  libfcgi would
 * install handlers after which the process no longer ends. */
static void
block_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
	sigaddset(set, SIGUSR1);
	sigaddset(set, SIGPIPE);
	sigaddset(set, SIGXFSZ);
	pthread_sigmask(SIG_BLOCK, set, NULL);
}

static int
wait_for_signal(const sigset_t *set)
{
	int number;
	do
		sigwait(set, &number);
	while (number == SIGPIPE || number == SIGXFSZ);
	return number;
}

/* Reads the configuration and opens all that a receiver of FastCGI needs. */
static enum err
receiver_load(struct receiver *r, const char *conf_path, bool is_next)
{
	enum err e = receiver_open(r, conf_path, STORE_DRAINER, is_next);
	if (e == ERR_SPOOL)
		e = ERR_CONFIG;
	return e ? e : store_load(r->store);
}

/* Serves what comes to the listener. */
static enum err
receiver_start(struct receiver *r, int listen_fd)
{
	enum err e = writer_start(r->writer);
	if (!e)
		e = drainer_start(&r->drainer, &r->conf, r->store);
	r->handler.drainer = r->drainer;
	return e ? e : pool_start(&r->pool, &r->handler, listen_fd);
}

static void
tell_trial(void *owner, struct event *none, enum err e)
{
	(void)owner;
	(void)none;
	if (e)
		log_warn("webhooks are answered 503 until that is mended");
}

/* Connects before the first webhook, and soon says what is wrong. */
static void
receiver_try(struct receiver *r)
{
	int64_t deadline = clock_ms() + r->conf.request_timeout_ms;
	writer_submit(r->writer, NULL, deadline, tell_trial, NULL);
}

/* Answers what is in flight.  False when a request did not end: all it may use
 * stays. */
static bool
receiver_stop(struct receiver *r, bool takes_backlog)
{
	drainer_hurry(r->drainer);
	bool is_over = pool_stop(&r->pool, takes_backlog);
	if (!is_over)
		log_warn("stopped, and left a request that did not end");
	return is_over;
}

/* The stop of a receiver that another one has taken over from. */
struct ending {
	pthread_t thread;
	bool is_under_way, is_stuck;
	int64_t until; /* clock_ms() by which it is over, unless something hangs */
};

/* Returns the receiver when a request of it did not end. */
static void *
end_old(void *receiver)
{
	if (!receiver_stop(receiver, false))
		return receiver;
	receiver_close(receiver);
	free(receiver);
	return NULL;
}

/* How long a receiver's stop may take. */
static int64_t
stop_ms(const struct receiver *r)
{
	return r->conf.request_timeout_ms + STOP_MS;
}

/* False when something hangs in it. */
static bool
ending_wait(struct ending *e)
{
	void *left = NULL;
	struct timespec until;
	int left_ms = clock_left(e->until);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += (left_ms + 999) / 1000;
	if (e->is_under_way && pthread_timedjoin_np(e->thread, &left, &until) != 0)
		return false;
	e->is_under_way = false;
	e->is_stuck = e->is_stuck || left;
	return !e->is_stuck;
}

/* A receiver by the configuration as it is now, beside the old one; or NULL. */
static struct receiver *
open_next(const struct receiver *old, const char *conf_path, int listen_fd)
{
	struct receiver *next = calloc(1, sizeof *next);
	enum err e = next ? receiver_load(next, conf_path, true) : ERR_MEMORY;
	if (!e && strcmp(old->conf.spool_directory, next->conf.spool_directory) != 0) {
		log_error("another [spool] directory needs a restart");
		e = ERR_CONFIG;
	}
	if (!e)
		e = receiver_start(next, listen_fd);
	if (e && next)
		end_old(next);
	return e ? NULL : next;
}

/* SIGHUP: one with the configuration as it is now serves beside *r, and what comes
 * to the old one, which then ends: no request is lost.  Where it cannot, *r goes on. */
static void
reload(struct receiver **r, const char *conf_path, int listen_fd, struct ending *ending)
{
	bool is_free = ending_wait(ending);
	struct receiver *next = is_free ? open_next(*r, conf_path, listen_fd) : NULL;
	if (!next) {
		log_error("not reloaded: %s",
		    is_free ? "the configuration as it was stays in force"
			    : "what hangs since the last reload needs a restart");
		return;
	}
	pool_hand_over((*r)->pool, next->pool);
	ending->until = clock_ms() + stop_ms(*r);
	ending->is_under_way = pthread_create(&ending->thread, NULL, end_old, *r) == 0;
	if (!ending->is_under_way)
		ending->is_stuck = end_old(*r) != NULL;
	*r = next;
	receiver_log(next);
	log_info("reloaded");
	receiver_try(next);
}

static int
run_fcgi(const char *conf_path, const char *where)
{
	struct receiver *r = calloc(1, sizeof *r);
	struct ending ending = {0};
	sigset_t signals;
	int listen_fd = STDIN_FILENO, number;

	/* A request's memory is freed by another thread: each of them would keep some. */
	mallopt(M_ARENA_MAX, 2);
	block_signals(&signals);
	enum err e = r ? receiver_load(r, conf_path, false) : ERR_MEMORY;
	if (!e)
		e = fcgi_init();
	if (!e && where)
		e = listener_open(where, r->conf.socket_mode, &listen_fd);
	bool is_ours = !e && where;
	if (!e)
		confine(r->conf.spool_directory, where);
	if (!e)
		e = receiver_start(r, listen_fd);
	if (!e) {
		log_info("listening on %s, %ld requests at a time",
		    where ? where : "fd 0", r->conf.threads);
		receiver_try(r);
		while ((number = wait_for_signal(&signals)) == SIGHUP)
			reload(&r, conf_path, listen_fd, &ending);
		log_info("stopping on signal %d", number);
	}
	if (is_ours)
		listener_hide(where);
	if (r) {
		alarm((unsigned)(stop_ms(r) + clock_left(ending.until) + 999) / 1000);
		/* workers of the one before may still use this one */
		bool is_over = receiver_stop(r, is_ours);
		if (!ending_wait(&ending) || !is_over)
			_exit(e ? EX_OSERR : EXIT_SUCCESS);
		receiver_close(r);
	}
	free(r);
	if (is_ours)
		close(listen_fd);
	if (!e)
		log_info("stopped");
	return e == ERR_CONFIG ? EX_CONFIG : e ? EX_OSERR : EXIT_SUCCESS;
}

static const char help[] =
    "Usage: smshook.fcgi [-c FILE] [-s SOCKET]\n"
    "Receives the webhooks of SmsGateWay24 and commits them to PostgreSQL.\n"
    "\n"
    "  -c FILE    configuration; default $SMSHOOK_CONFIG, then\n"
    "             ~/.config/smshook/smshook.conf, then\n"
    "             " SYSCONFDIR "/smshook/smshook.conf\n"
    "  -s SOCKET  listen for FastCGI on a Unix socket's path, or on\n"
    "             127.0.0.1:PORT or [::1]:PORT\n"
    "  --help     print this\n"
    "  --version  print the version\n"
    "\n"
    "Without -s it takes a listening socket on fd 0 (mod_fcgid, spawn-fcgi,\n"
    "systemd); called by a web server as CGI it answers one request.\n"
    "Keys of the configuration:\n";

static int
usage(const char *what)
{
	fprintf(stderr, "%s: %s; see %s --help\n", program, what, program);
	return EX_USAGE;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {{"help", no_argument, NULL, 'h'},
	    {"version", no_argument, NULL, 'V'}, {NULL, 0, NULL, 0}};
	const char *conf_path = NULL, *where = NULL;
	int option;
	stdfiles_open();
	log_open(program, LOG_LEVEL_INFO, LOG_TARGET_STDERR);
	confine_core();
	bool is_listening = listener_is(STDIN_FILENO);

	if (!is_listening && cgi_is_called())
		return run_cgi();
	while ((option = getopt_long(argc, argv, "c:s:", options, NULL)) != -1) {
		switch (option) {
		case 'c':
			conf_path = optarg;
			break;
		case 's':
			where = optarg;
			break;
		case 'h':
			fputs(help, stdout);
			conf_help(stdout);
			return EXIT_SUCCESS;
		case 'V':
			puts("smshook.fcgi " PACKAGE_VERSION);
			return EXIT_SUCCESS;
		default:
			return usage("bad option");
		}
	}
	if (optind < argc)
		return usage("there are no arguments but options");
	if (!where && !is_listening)
		return usage(
		    "no -s, fd 0 is no listening socket, and no web server called");
	return run_fcgi(conf_path, where);
}
