#include "spoolctl.h"

#include "clock.h"
#include "drain.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 512, PROGRESS_MS = 1000, WAIT_MS = 200, BUSY_MS = 60000 };

static const char *const folders[] = {"new", "bad"};

/* -------------------------------------------------------------- reading */

/* All of a plain file; NULL with the reason. */
static char *
read_file(const char *path, size_t *len_r, const char **fault_r)
{
	struct stat st;
	char *bytes = NULL;
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	*len_r = 0;
	*fault_r = f ? "it is no plain file, or too large" : strerror(errno);
	if (f && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		bytes = malloc((size_t)st.st_size + 1);
	if (bytes)
		*len_r = fread(bytes, 1, (size_t)st.st_size, f);
	if (f)
		fclose(f);
	else if (fd >= 0)
		close(fd);
	return bytes;
}

static const char *
read_spoolfile(const char *path, struct spoolfile *f)
{
	const char *fault;
	size_t len;
	*f = (struct spoolfile){0};
	char *bytes = read_file(path, &len, &fault);
	return bytes ? spoolfile_decode(f, bytes, len) : fault;
}

static void
print_time(int64_t us)
{
	time_t s = us / 1000000;
	struct tm tm;
	char text[32];
	gmtime_r(&s, &tm);
	strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
	printf("%s.%06dZ", text, (int)(us % 1000000));
}

/* Files may come from anyone who can write there. */
static void
print_text(const char *before, struct text t)
{
	fputs(before, stdout);
	for (size_t i = 0; i < t.len; i++)
		putchar(t.ptr[i] >= 0x20 && t.ptr[i] < 0x7f ? t.ptr[i] : '?');
}

/* ----------------------------------------------------------------- list */

/* Why a file is in bad/: the first line of its NAME.reason. */
static const char *
bad_reason(const char *path, char *line, size_t size)
{
	char reason[PATH_MAX + 8];
	snprintf(reason, sizeof reason, "%s.reason", path);
	FILE *f = fopen(reason, "re");
	bool ok = f && fgets(line, (int)size, f);
	if (f)
		fclose(f);
	return ok ? line : NULL;
}

static void
list_file(const struct admin *a, bool is_bad, const char *name)
{
	char path[PATH_MAX], line[300];
	struct spoolfile f;
	snprintf(path, sizeof path, "%s/%s/%s", a->conf.spool_directory, folders[is_bad],
	    name);
	const char *fault = read_spoolfile(path, &f);
	const char *reason = is_bad ? bad_reason(path, line, sizeof line) : NULL;
	printf("%s", folders[is_bad]);
	print_text("  ", text_of(name));
	if (f.n > 0) {
		printf("  ");
		print_time(f.events[0].received_at);
	}
	printf("  %zu event%s", f.n, f.n == 1 ? "" : "s");
	if (reason)
		fault = reason;
	if (fault)
		print_text(": ", (struct text){fault, strcspn(fault, "\n")});
	putchar('\n');
	spoolfile_free(&f);
}

static void
list(struct admin *a, struct spool *sp)
{
	for (int is_bad = 0; is_bad < 2; is_bad++) {
		struct spool_names names;
		if (spool_list(sp, is_bad, &names))
			admin_bad(a, "%s", spool_reason(sp));
		for (size_t i = 0; i < names.n; i++)
			list_file(a, is_bad, names.names[i]);
		spool_names_free(&names);
	}
}

/* ----------------------------------------------------------------- show */

static void
show_event(const struct event *ev)
{
	print_time(ev->received_at);
	print_text("  source ", ev->source);
	if (ev->remote_addr.ptr)
		print_text("  from ", ev->remote_addr);
	if (ev->http_status != EVENT_NO_INT) {
		printf("  answered %" PRId32, ev->http_status);
		print_text(": ", ev->reason);
	}
	printf("  %zu bytes\n", ev->wire.len);
}

/* Without --text no word of what people wrote. */
static void
show(struct admin *a, const char *name, bool has_text)
{
	char path[PATH_MAX];
	struct spoolfile f;
	size_t len;
	const char *fault = "";
	snprintf(path, sizeof path, "%s/new/%s", a->conf.spool_directory, name);
	if (access(path, F_OK) < 0)
		snprintf(path, sizeof path, "%s/bad/%s", a->conf.spool_directory, name);
	if (access(path, F_OK) < 0) {
		admin_bad(a, "%s is neither in new/ nor in bad/ of %s", name,
		    a->conf.spool_directory);
		return;
	}
	if (has_text) {
		char *bytes = read_file(path, &len, &fault);
		if (bytes)
			fwrite(bytes, 1, len, stdout);
		else
			admin_bad(a, "%s: %s", path, fault);
		free(bytes);
		return;
	}
	fault = read_spoolfile(path, &f);
	for (size_t i = 0; i < f.n; i++)
		show_event(&f.events[i]);
	if (fault)
		admin_bad(a, "%s: %s", path, fault);
	spoolfile_free(&f);
}

/* ---------------------------------------------------------------- drain */

static uint64_t
files_left(struct spool *sp)
{
	struct spool_usage usage;
	return spool_usage(sp, &usage) ? 0 : usage.n_files;
}

/* Until the spool is empty or something is in the way; another process that
 * drains is waited for. */
static enum err
drain_all(struct drain *d, struct spool *sp, uint64_t *total_r)
{
	size_t n;
	enum err e;
	bool was_busy = false;
	int64_t shown_at = clock_ms(), give_up_at = shown_at + BUSY_MS;
	do {
		e = drain_batch(d, BATCH, &n);
		*total_r += n;
		if (e == ERR_BUSY && !was_busy)
			fputs("another process drains; waiting for it\n", stderr);
		was_busy = e == ERR_BUSY;
		if (was_busy)
			usleep(WAIT_MS * 1000);
		if (clock_ms() >= shown_at + PROGRESS_MS) {
			fprintf(stderr,
			    "%" PRIu64 " events drained, %" PRIu64 " files left\n",
			    *total_r, files_left(sp));
			shown_at = clock_ms();
		}
		if (!was_busy)
			give_up_at = clock_ms() + BUSY_MS;
	} while ((was_busy && clock_left(give_up_at) > 0) || (!e && n > 0));
	return e;
}

/* Says nothing when there was nothing to do: cron calls this. */
static void
drain(struct admin *a, struct store *store)
{
	struct drain *d;
	struct spool_names left;
	uint64_t total = 0;
	enum err e = drain_open(&d, &a->conf, store);
	if (!e)
		e = drain_all(d, store_spool(store), &total);
	if (e)
		admin_bad(a, "the spool cannot be drained: %s",
		    e == ERR_BUSY     ? "another process drains for a minute already"
		    : e == ERR_MEMORY ? err_sentence(e)
		    : e == ERR_SPOOL  ? spool_reason(store_spool(store))
				      : store_reason(store));
	if (total > 0 || isatty(STDOUT_FILENO))
		admin_good("%" PRIu64 " events drained", total);
	if (!spool_list(store_spool(store), false, &left) && left.n > 0 && !e)
		admin_bad(a, "%zu files are left", left.n);
	spool_names_free(&left);
	drain_close(&d);
}

/* ---------------------------------------------------------------- retry */

static void
retry(struct admin *a, struct spool *sp, const char *name)
{
	struct spool_names names = {0};
	size_t n = 0;
	if (!name && spool_list(sp, true, &names))
		admin_bad(a, "%s", spool_reason(sp));
	for (size_t i = 0; i < (name ? 1 : names.n); i++) {
		if (spool_retry(sp, name ? name : names.names[i]))
			admin_bad(a, "%s", spool_reason(sp));
		else
			n++;
	}
	if (n == 0)
		admin_good("no file was moved");
	else
		admin_good("%zu files moved back to new/; the receiver, or smshook spool "
			   "drain, tries them again",
		    n);
	spool_names_free(&names);
}

/* ----------------------------------------------------------------- main */

static void
run(struct admin *a, struct store *store, char *const *arguments)
{
	struct spool *sp = store_spool(store);
	const char *command = arguments[0];
	if (strcmp(command, "list") == 0)
		list(a, sp);
	else if (strcmp(command, "show") == 0 && arguments[2])
		show(a, arguments[2], true);
	else if (strcmp(command, "show") == 0)
		show(a, arguments[1], false);
	else if (strcmp(command, "drain") == 0)
		drain(a, store);
	else
		retry(a, sp, arguments[1]);
}

bool
spoolctl_takes(char *const *arguments)
{
	const char *command = arguments[0] ? arguments[0] : "";
	int n = 0;
	while (arguments[n])
		n++;
	bool is_text = n == 3 && strcmp(arguments[1], "--text") == 0;
	return (n == 1 &&
		   (strcmp(command, "list") == 0 || strcmp(command, "drain") == 0)) ||
	       (strcmp(command, "show") == 0 && (n == 2 || is_text)) ||
	       (strcmp(command, "retry") == 0 && n <= 2);
}

void
spoolctl(struct admin *a)
{
	struct store *store;
	enum err e = store_open(&store, &a->conf, STORE_NOBODY);
	if (e)
		admin_bad(a, "%s",
		    e == ERR_SPOOL ? spool_reason(store_spool(store)) : err_sentence(e));
	else
		run(a, store, a->arguments);
	store_close(&store);
}
