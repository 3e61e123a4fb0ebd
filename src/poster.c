#include "poster.h"

#include "clock.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/wait.h>
#include <unistd.h>

/* After each answer curl prints a line of this with the status, on stdout, where it
 * ends the answer, and on stderr, where it is counted: curl keeps its stdout back
 * until the next answer comes, and drops it when it is stopped. */
#define MARK "smshook-sample-status:"

/* One of curl's outputs, line by line. */
struct output {
	void (*take_line)(struct poster *p, const char *line);
	size_t len;
	char line[2048];
};

extern char **environ;

enum { N_STATUSES = 1000, NO_ANSWER = 0, MIN_SECRET = 8, MAX_SHOWN = 200, LOOK_MS = 200 };

struct poster {
	const char *url;
	bool is_loopback;
	sigset_t signals_before;
	char *config; /* what curl is to read, by the stream to_config */
	size_t config_len;
	FILE *to_config;
	uint64_t n_by_status[N_STATUSES], n_posted, n_printed;
	int last_code;
	char answer[2048]; /* the first line of the one being read */
	char fault[512];   /* what curl says is wrong */
	int64_t shown_at;  /* when progress was shown */
	bool is_shown;
};

/* --------------------------------------------------------------- address */

/* Host and port, without the user. */
static struct text
authority(const char *url)
{
	const char *start = strstr(url, "://");
	start = start ? start + 3 : url;
	struct text t = {start, strcspn(start, "/?#")};
	for (const char *at; (at = memchr(t.ptr, '@', t.len));) {
		t.len -= (size_t)(at + 1 - t.ptr);
		t.ptr = at + 1;
	}
	return t;
}

const char *
poster_fault(const char *url)
{
	if (strncasecmp(url, "http://", 7) != 0 && strncasecmp(url, "https://", 8) != 0)
		return "it must begin with http:// or https://";
	struct text host = authority(url);
	if (host.len == 0 || *host.ptr == ':')
		return "it has no host";
	for (const char *p = url; *p; p++)
		if ((unsigned char)*p <= ' ' || *p == 0x7f || *p == '"' || *p == '\\')
			return "it has a character that stands in no address: a space, a "
			       "quote, a backslash or a control character";
	return NULL;
}

static bool
is_loopback(struct text host)
{
	static const char *const names[] = {"localhost", "127.", "[::1]"};
	bool is = false;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		size_t len = strlen(names[i]);
		bool is_whole = host.len == len || names[i][len - 1] == '.' ||
				(host.len > len && host.ptr[len] == ':');
		is = is || (host.len >= len && is_whole &&
			       strncasecmp(host.ptr, names[i], len) == 0);
	}
	return is;
}

/* Puts dots for each part of the address that may be a token: pages of errors
 * show the address that was asked for. */
static void
hide(const struct poster *p, char *line)
{
	struct text host = authority(p->url);
	for (const char *at = p->url; *at;) {
		size_t len = strcspn(at, "/?&=#:@");
		bool is_host = at >= host.ptr && at < host.ptr + host.len;
		if (len >= MIN_SECRET && !is_host) {
			char secret[1024];
			snprintf(secret, sizeof secret, "%.*s", (int)len, at);
			for (char *hit; (hit = strstr(line, secret));) {
				char *rest = hit + strlen(secret);
				memcpy(hit, "...", 3);
				memmove(hit + 3, rest, strlen(rest) + 1);
			}
		}
		at += len + (at[len] != '\0');
	}
}

/* --------------------------------------------------------------- answers */

static void
show_progress(struct poster *p, bool is_end)
{
	int64_t now = clock_ms();
	if (is_end ? !p->is_shown : now < p->shown_at + 1000)
		return;
	if (!isatty(STDERR_FILENO) || isatty(STDOUT_FILENO))
		return;
	fprintf(stderr, "\r%" PRIu64 " posted, %" PRIu64 " answered 200%s", p->n_posted,
	    p->n_by_status[200], is_end ? "\n" : "");
	p->is_shown = true;
	p->shown_at = now;
}

static void
count_answer(struct poster *p, int code)
{
	p->last_code = code >= 0 && code < N_STATUSES ? code : NO_ANSWER;
	p->n_by_status[p->last_code]++;
	p->n_posted++;
	show_progress(p, false);
}

static void
print_answer(struct poster *p, int code)
{
	if (code != NO_ANSWER) {
		hide(p, p->answer);
		printf("%d %.*s\n", code, MAX_SHOWN, p->answer);
	}
	p->answer[0] = '\0';
	p->n_printed++;
}

/* Of an answer the first line with something in it is shown. */
static void
take_answer_line(struct poster *p, const char *line)
{
	if (strncmp(line, MARK, strlen(MARK)) == 0)
		print_answer(p, atoi(line + strlen(MARK)));
	else if (!p->answer[0])
		snprintf(p->answer, sizeof p->answer, "%s", line);
}

static void
take_error_line(struct poster *p, const char *line)
{
	if (strncmp(line, MARK, strlen(MARK)) == 0)
		count_answer(p, atoi(line + strlen(MARK)));
	else if (!p->fault[0])
		snprintf(p->fault, sizeof p->fault, "%s", line);
}

/* Bytes of one of curl's outputs, without what could move a terminal; a line that
 * is too long is cut. */
static void
take(struct poster *p, struct output *o, const char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char c = bytes[i];
		if (c == '\n') {
			o->line[o->len] = '\0';
			o->len = 0;
			o->take_line(p, o->line);
		} else if (c != '\r' && o->len < sizeof o->line - 1) {
			o->line[o->len++] = c >= ' ' && c <= '~' ? c : '?';
		}
	}
}

/* ------------------------------------------------------------------ curl */

/* What is ignored, as by nohup(1), stays so: held back it would be pending. */
static void
hold_signals(sigset_t *before_r)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction action;
	sigset_t held;
	sigemptyset(&held);
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		if (!sigaction(numbers[i], NULL, &action) && action.sa_handler != SIG_IGN)
			sigaddset(&held, numbers[i]);
	sigaddset(&held, SIGPIPE); /* curl may end before it has read all */
	sigprocmask(SIG_BLOCK, &held, before_r);
}

bool
poster_is_stopped(void)
{
	sigset_t pending;
	return ferror(stdout) ||
	       (sigpending(&pending) == 0 &&
		   (sigismember(&pending, SIGINT) || sigismember(&pending, SIGTERM) ||
		       sigismember(&pending, SIGHUP)));
}

/* A curl that runs, and our ends of its pipes. */
struct curl {
	pid_t pid;
	int in, out, err;
};

/* ~/.curlrc (-q) could turn the output into something else. */
static int
start(const struct poster *p, int in[2], int out[2], int err[2], pid_t *pid_r)
{
	char name[] = "curl", no_curlrc[] = "-q", silent[] = "-sS", config[] = "-K-";
	char *const arguments[] = {name, no_curlrc, silent, config, NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_adddup2(&files, in[0], STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&files, out[1], STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&files, err[1], STDERR_FILENO);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
	posix_spawnattr_setsigmask(&attributes, &p->signals_before);
	int error = posix_spawnp(pid_r, "curl", &files, &attributes, arguments, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&files);
	return error;
}

static void
close_both(int ends[2])
{
	for (int i = 0; i < 2; i++)
		if (ends[i] >= 0)
			close(ends[i]);
}

static bool
start_curl(const struct poster *p, struct curl *c)
{
	int in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1};
	bool has_pipes =
	    !pipe2(in, O_CLOEXEC) && !pipe2(out, O_CLOEXEC) && !pipe2(err, O_CLOEXEC);
	int error = has_pipes ? start(p, in, out, err, &c->pid) : errno;
	if (error) {
		close_both(in);
		close_both(out);
		close_both(err);
		if (error == ENOENT)
			log_error("sample: curl is not installed, or not in PATH: "
				  "install the package curl");
		else
			log_error("sample: curl: %s", strerror(error));
		return false;
	}
	close(in[0]);
	close(out[1]);
	close(err[1]);
	*c = (struct curl){c->pid, in[1], out[0], err[0]};
	return true;
}

/* Curl reads all of it before it posts anything. */
static void
write_config(const struct poster *p, int fd)
{
	size_t done = 0;
	while (done < p->config_len) {
		ssize_t n = write(fd, p->config + done, p->config_len - done);
		if (n < 0)
			break; /* it has ended, and said why */
		done += (size_t)n;
	}
	close(fd);
}

/* Until curl has closed both its ends. */
static void
read_answers(struct poster *p, const struct curl *c)
{
	struct pollfd ends[2] = {{c->out, POLLIN, 0}, {c->err, POLLIN, 0}};
	struct output outputs[2] = {
	    {.take_line = take_answer_line}, {.take_line = take_error_line}};
	bool is_told = false;
	while (ends[0].fd >= 0 || ends[1].fd >= 0) {
		int n_ready = poll(ends, 2, LOOK_MS);
		for (int i = 0; n_ready > 0 && i < 2; i++) {
			char bytes[4096];
			if (ends[i].fd < 0 || !ends[i].revents)
				continue;
			ssize_t n = read(ends[i].fd, bytes, sizeof bytes);
			take(p, &outputs[i], n > 0 ? bytes : "\n", n > 0 ? (size_t)n : 1);
			if (n <= 0)
				ends[i].fd = -1;
		}
		fflush(stdout);
		if (!is_told && poster_is_stopped())
			is_told = kill(c->pid, SIGTERM) == 0;
	}
	if (p->n_printed < p->n_posted)
		print_answer(p, p->last_code);
	p->n_printed = p->n_posted;
	close(c->out);
	close(c->err);
}

static void
complain(struct poster *p, int status)
{
	struct text host = authority(p->url);
	char *why = p->fault;
	if (strncmp(why, "curl: ", 6) == 0)
		why += 6;
	hide(p, why);
	if (!*why) {
		why = p->fault;
		snprintf(why, sizeof p->fault, "curl ended with %s %d",
		    WIFSIGNALED(status) ? "signal" : "status",
		    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	}
	log_error("sample: no answer from %.*s: %s; see whether the address is right and "
		  "the web server runs",
	    (int)host.len, host.ptr, why);
}

/* ---------------------------------------------------------------- poster */

enum err
poster_open(struct poster **out_r, const char *url)
{
	struct poster *p = *out_r = calloc(1, sizeof *p);
	if (!p)
		return ERR_MEMORY;
	p->url = url;
	p->is_loopback = is_loopback(authority(url));
	p->shown_at = clock_ms();
	hold_signals(&p->signals_before);
	p->to_config = open_memstream(&p->config, &p->config_len);
	return p->to_config ? ERR_OK : ERR_MEMORY;
}

void
poster_close(struct poster **p)
{
	struct timespec none = {0};
	sigset_t broken;
	if (!*p)
		return;
	if ((*p)->to_config)
		fclose((*p)->to_config);
	free((*p)->config);
	sigemptyset(&broken);
	sigaddset(&broken, SIGPIPE);
	while (sigtimedwait(&broken, NULL, &none) > 0)
		;
	sigprocmask(SIG_SETMASK, &(*p)->signals_before, NULL);
	free(*p);
	*p = NULL;
}

/* A section of curl's configuration; next ends one and forgets what it said.  A
 * proxy of the environment is used, but not for this machine: it could not reach
 * us, and would be shown the token.  Expect would cost a round trip. */
void
poster_add(struct poster *p, struct text body)
{
	FILE *f = p->to_config;
	fputs(ftello(f) == 0 ? "fail-early\n" : "next\n", f);
	fprintf(f,
	    "url = \"%s\"\ngloboff\nno-buffer\nconnect-timeout = 10\nmax-time = 30\n"
	    "header = \"Content-Type: application/json\"\nheader = \"Expect:\"\n%s"
	    "write-out = \"\\n" MARK "%%{http_code}\\n%%{stderr}" MARK
	    "%%{http_code}\\n\"\ndata-raw = \"",
	    p->url, p->is_loopback ? "noproxy = \"*\"\n" : "");
	for (size_t i = 0; i < body.len; i++) {
		if (body.ptr[i] == '"' || body.ptr[i] == '\\')
			fputc('\\', f);
		fputc(body.ptr[i], f);
	}
	fputs("\"\n", f);
}

bool
poster_send(struct poster *p)
{
	struct curl c;
	int status = -1;
	if (fflush(p->to_config) || ferror(p->to_config)) {
		log_error("sample: %s", err_sentence(ERR_MEMORY));
		return false;
	}
	if (!start_curl(p, &c))
		return false;
	p->fault[0] = '\0';
	write_config(p, c.in);
	read_answers(p, &c);
	while (waitpid(c.pid, &status, 0) < 0 && errno == EINTR)
		;
	rewind(p->to_config);
	if (poster_is_stopped())
		return false;
	if (status != 0)
		complain(p, status);
	return status == 0;
}

void
poster_report(const struct poster *p)
{
	if (p->n_posted == 0)
		return;
	show_progress((struct poster *)p, true);
	printf("%" PRIu64 " posted:", p->n_posted);
	const char *comma = "";
	for (int i = 0; i < N_STATUSES; i++) {
		if (p->n_by_status[i] == 0)
			continue;
		if (i == NO_ANSWER)
			printf("%s %" PRIu64 " not answered", comma, p->n_by_status[i]);
		else
			printf("%s %" PRIu64 " answered %d", comma, p->n_by_status[i], i);
		comma = ",";
	}
	putchar('\n');
}

bool
poster_is_all_good(const struct poster *p)
{
	return p->n_by_status[200] == p->n_posted;
}
