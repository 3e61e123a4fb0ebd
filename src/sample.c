#include "sample.h"

#include "clock.h"
#include "log.h"
#include "screen.h"
#include "story.h"

#include <curl/curl.h>
#include <dlfcn.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

enum { CATCH_UP_MS = 10, SHOW_MS = 1000, N_STATUSES = 1000, MIN_TOKEN = 8, SHOWN = 200 };

/* --------------------------------------------------------------- options */

struct options {
	double count;    /* 0: until stopped */
	double rate;     /* a second; 0: as fast as it goes */
	double seed;     /* -1: none */
	const char *url; /* NULL: to stdout */
};

/* Digits, and with a point among them if it need not be whole. */
static bool
take_number(const char *name, const char *s, bool is_whole, double least, double most,
    double *out_r)
{
	char *end;
	const char *characters = is_whole ? "0123456789" : "0123456789.";
	*out_r = strtod(s, &end);
	return (*s && !s[strspn(s, characters)] && !*end && *out_r >= least &&
		   *out_r <= most) ||
	       admin_misuse("--%s: not a %snumber from %g to %.0f: %s", name,
		   is_whole ? "whole " : "", least, most, s);
}

/* It may have a token in it: it is not repeated. */
static bool
take_address(const char *s, const char **out_r)
{
	bool is_https = strncasecmp(s, "https://", 8) == 0;
	bool is_http = is_https || strncasecmp(s, "http://", 7) == 0;
	const char *host = is_http ? s + 7 + is_https : "";
	*out_r = s;
	return (*host && !strchr("/:?#", *host) && !strpbrk(host, " \t\r\n")) ||
	       admin_misuse("--post: expected is http://HOST/... or https://HOST/..., "
			    "without spaces");
}

static bool
parse(char *const *arguments, struct options *o)
{
	static const struct option names[] = {{"count", required_argument, NULL, 'c'},
	    {"rate", required_argument, NULL, 'r'},
	    {"seed", required_argument, NULL, 's'},
	    {"post", required_argument, NULL, 'p'}, {NULL, 0, NULL, 0}};
	int argc = 0, option;
	bool is_good = true;
	*o = (struct options){.count = 10, .seed = -1};
	while (arguments[argc])
		argc++;
	optind = 0; /* from the start: main() has used it */
	opterr = 0; /* it would repeat an address */
	while (is_good &&
	       (option = getopt_long(argc + 1, arguments - 1, "+", names, NULL)) != -1) {
		if (option == 'c')
			is_good = take_number("count", optarg, true, 0, 1e15, &o->count);
		else if (option == 'r')
			is_good =
			    take_number("rate", optarg, false, 0.001, 1e6, &o->rate);
		else if (option == 's')
			is_good =
			    take_number("seed", optarg, true, 0, UINT32_MAX, &o->seed);
		else if (option == 'p')
			is_good = take_address(optarg, &o->url);
		else
			is_good =
			    admin_misuse("unknown option, or one without its value");
	}
	if (is_good && optind <= argc)
		is_good = admin_misuse("unknown argument");
	return is_good;
}

bool
sample_takes(char *const *arguments)
{
	struct options o;
	return parse(arguments, &o);
}

/* --------------------------------------------------------------- answers */

#define CURL_FUNCTIONS(X)                                                                \
	X(easy_init)                                                                     \
	X(easy_setopt) X(easy_perform) X(easy_getinfo) X(easy_cleanup) X(easy_strerror)
#define CURL_MEMBER(name) __typeof__(curl_##name) *name;

struct poster {
	CURL_FUNCTIONS(CURL_MEMBER)
	CURL *handle;
	const char *url;
	char answer[1024]; /* its beginning */
	size_t answer_len;
	uint64_t n_posted, n_by_status[N_STATUSES]; /* status 0: not answered */
	int64_t show_at;
};

static volatile sig_atomic_t stopped_by; /* a signal */

static void
stop(int number)
{
	stopped_by = number;
}

/* libcurl calls it now and then, and gives up when it is not 0. */
static int
look(void *unused, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	(void)unused, (void)a, (void)b, (void)c, (void)d;
	return stopped_by;
}

/* libcurl calls it with what comes. */
static size_t
take_answer(char *bytes, size_t size, size_t n, void *poster)
{
	struct poster *p = poster;
	size_t room = sizeof p->answer - 1 - p->answer_len;
	size_t len = size * n < room ? size * n : room;
	memcpy(p->answer + p->answer_len, bytes, len);
	p->answer_len += len;
	return size * n;
}

/* The first line that is not empty.  Pages of errors show the address: dots for its
 * last part, the token. */
static void
print_answer(struct poster *p, long status)
{
	p->answer[p->answer_len] = '\0';
	char *line = p->answer + strspn(p->answer, "\r\n"), *hit = line;
	const char *token = strrchr(p->url, '/') + 1;
	size_t len = strcspn(token, "?#");
	line[strcspn(line, "\r\n")] = '\0';
	for (; len >= MIN_TOKEN && (hit = memmem(hit, strlen(hit), token, len));
	     hit += len)
		memset(hit, '.', len);
	printf("%ld ", status);
	screen_text(stdout, (struct text){line, strnlen(line, SHOWN)});
	putchar('\n');
}

static void
show_progress(struct poster *p, const char *end)
{
	bool is_time = clock_ms() >= p->show_at || *end;
	if (!is_time || !isatty(STDERR_FILENO) || isatty(STDOUT_FILENO))
		return;
	fprintf(stderr, "\r%" PRIu64 " posted, %" PRIu64 " answered 200%s", p->n_posted,
	    p->n_by_status[200], end);
	p->show_at = clock_ms() + SHOW_MS;
}

static void
print_counts(struct poster *p)
{
	show_progress(p, "\n");
	printf("%" PRIu64 " posted", p->n_posted);
	const char *sign = ":";
	for (int i = 0; i < N_STATUSES; i++) {
		if (p->n_by_status[i] == 0)
			continue;
		printf("%s %" PRIu64 " %s%.0d", sign, p->n_by_status[i],
		    i > 0 ? "answered " : "not answered", i);
		sign = ",";
	}
	putchar('\n');
}

/* --------------------------------------------------------------- posting */

/* False after a line in the log. */
static bool
load_curl(struct poster *p)
{
	/* Debian's one with GnuTLS has a name of its own. */
	void *library = dlopen("libcurl.so.4", RTLD_LAZY | RTLD_LOCAL);
	if (!library)
		library = dlopen("libcurl-gnutls.so.4", RTLD_LAZY | RTLD_LOCAL);
	bool is_good = library;
#define CURL_LOAD(name)                                                                  \
	is_good = is_good &&                                                             \
		  (p->name = (__typeof__(curl_##name) *)dlsym(library, "curl_" #name));
	CURL_FUNCTIONS(CURL_LOAD)
	const char *fault = is_good ? "out of memory" : dlerror();
	p->handle = is_good ? p->easy_init() : NULL;
	if (!p->handle)
		log_error("sample: libcurl cannot be used: %s; install the package "
			  "libcurl4, or curl, which brings it",
		    fault);
	return p->handle;
}

/* A proxy of the environment is used, but not for this machine: it could not reach
 * us, and would be shown the token.  Without CURLOPT_NOSIGNAL libcurl keeps SIGPIPE
 * away, as it may in a program of one thread. */
static bool
open_poster(struct poster *p, const char *url)
{
	static char type[] = "Content-Type: application/json";
	static struct curl_slist headers = {type, NULL};
	struct sigaction action = {.sa_handler = stop, .sa_flags = (int)SA_RESETHAND};
	if (!load_curl(p))
		return false;
	p->url = url;
	p->show_at = clock_ms() + SHOW_MS;
	p->easy_setopt(p->handle, CURLOPT_URL, url);
	p->easy_setopt(p->handle, CURLOPT_HTTPHEADER, &headers);
	p->easy_setopt(p->handle, CURLOPT_WRITEFUNCTION, take_answer);
	p->easy_setopt(p->handle, CURLOPT_WRITEDATA, p);
	p->easy_setopt(p->handle, CURLOPT_XFERINFOFUNCTION, look);
	p->easy_setopt(p->handle, CURLOPT_NOPROGRESS, 0L);
	p->easy_setopt(p->handle, CURLOPT_CONNECTTIMEOUT, 10L);
	p->easy_setopt(p->handle, CURLOPT_TIMEOUT, 30L);
	if (!getenv("no_proxy") && !getenv("NO_PROXY"))
		p->easy_setopt(p->handle, CURLOPT_NOPROXY, "localhost,127.0.0.1,::1");
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	return true;
}

/* False when there was no answer. */
static bool
post(struct poster *p, const char *body)
{
	long status = 0;
	p->answer_len = 0;
	p->easy_setopt(p->handle, CURLOPT_POSTFIELDS, body);
	CURLcode code = p->easy_perform(p->handle);
	if (code == CURLE_OK)
		p->easy_getinfo(p->handle, CURLINFO_RESPONSE_CODE, &status);
	p->n_by_status[status % N_STATUSES]++;
	p->n_posted++;
	show_progress(p, "");
	if (status > 0)
		print_answer(p, status);
	else if (!stopped_by)
		log_error("sample: no answer: %s; see whether the address is right and "
			  "the web server runs",
		    p->easy_strerror(code));
	return status > 0;
}

/* ---------------------------------------------------------------- output */

/* *at: when the next may leave, in milliseconds of clock_ms(). */
static void
wait_for_turn(double rate, double *at)
{
	double now = (double)clock_ms();
	if (*at > now)
		poll(NULL, 0, (int)(*at - now) + 1);
	*at = (*at > now - CATCH_UP_MS ? *at : now - CATCH_UP_MS) + 1000 / rate;
}

/* Microseconds since 1970. */
static int64_t
now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * INT64_C(1000000) + t.tv_nsec / 1000;
}

/* False when one was not answered, or not written.  With a seed the story has its
 * own times. */
static bool
tell(const struct options *o, struct poster *p)
{
	struct story story;
	double at = (double)clock_ms();
	bool is_good = true, is_seeded = o->seed >= 0;
	int64_t seed = is_seeded ? (int64_t)o->seed : now_us() ^ getpid() << 12;
	story_open(&story, (uint32_t)seed);
	for (double i = 0; is_good && (o->count == 0 || i < o->count); i++) {
		if (o->rate > 0)
			wait_for_turn(o->rate, &at);
		if (stopped_by)
			break;
		const char *body = story_next(&story, is_seeded ? 0 : now_us());
		is_good = p ? post(p, body) : puts(body) >= 0;
		if ((p || o->rate > 0) && fflush(stdout))
			is_good = false;
	}
	return is_good;
}

void
sample(struct admin *a)
{
	struct options o;
	struct poster p = {0};
	if (!parse(a->arguments, &o) || (o.url && !open_poster(&p, o.url))) {
		a->n_failed++;
		return;
	}
	a->n_failed += !tell(&o, o.url ? &p : NULL);
	if (o.url) {
		print_counts(&p);
		p.easy_cleanup(p.handle);
		a->n_failed += p.n_by_status[200] != p.n_posted;
	}
	if (stopped_by && !fflush(stdout))
		raise(stopped_by); /* SA_RESETHAND: now it ends us */
}
