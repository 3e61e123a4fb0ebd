#include "spool.h"

#include "clock.h"
#include "durable.h"
#include "log.h"
#include "spooldir.h"
#include "tally.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	BLOCK = 4096,     /* what a small file takes on the disk */
	FULL_MS = 100,    /* before a full spool is counted again */
	COUNT_MS = 1000,  /* counting again, at the soonest */
	COUNT_SHARE = 20, /* and at most this part of our time */
	MANY = 256,       /* files: fewer are counted as fast as a tally is read */
	LOG_PAUSE_MS = 60000,
	BAD_SUFFIXES = 100
};

/* So near to max_size a tally is not believed: others have put in more since it was
 * written.  A storm of 6 MiB a second may pass max_size by what exceeds this. */
static const int64_t tally_slack = 64 << 20;

struct spool {
	struct spooldir dir;
	bool is_brief;   /* the process soon ends */
	bool is_tallied; /* usage was counted by another */
	int64_t max_size;
	struct spool_usage usage;
	int64_t counted_at, count_at; /* clock_ms(): the last count, the next */
	int64_t log_at; /* from when on one more is logged that cannot be moved */
};

enum err
spool_open(struct spool **spool_r, const char *directory, int64_t max_size)
{
	struct spool *sp = calloc(1, sizeof *sp);
	*spool_r = sp;
	if (!sp)
		return ERR_MEMORY;
	sp->max_size = max_size;
	spooldir_init(&sp->dir, directory);
	return spooldir_ready(&sp->dir);
}

void
spool_set_brief(struct spool *sp)
{
	sp->is_brief = true;
}

void
spool_close(struct spool **spool)
{
	if (!*spool)
		return;
	spooldir_close(&(*spool)->dir);
	free(*spool);
	*spool = NULL;
}

const char *
spool_reason(const struct spool *sp)
{
	return sp->dir.reason;
}

/* --------------------------------------------------------------- listing */

static int64_t
on_disk(uint64_t len)
{
	return (int64_t)((len + BLOCK - 1) / BLOCK * BLOCK);
}

static bool
count_file(const char *name, void *arg)
{
	struct spool *sp = arg;
	uint64_t len;
	if (spoolfile_is_name(name, &len)) {
		sp->usage.n_files++;
		sp->usage.bytes += (uint64_t)on_disk(len);
	}
	return true;
}

static bool
is_reason(const char *name)
{
	size_t len = strlen(name);
	return len > 7 && strcmp(name + len - 7, ".reason") == 0;
}

static bool
count_bad(const char *name, void *arg)
{
	struct spool *sp = arg;
	sp->usage.n_bad += !is_reason(name);
	return true;
}

/* What a process before us has counted. */
static bool
recall(struct spool *sp, int64_t now)
{
	struct tally t;
	if (!sp->is_brief || sp->counted_at > 0 || !tally_read(sp->dir.fd, &t))
		return false;
	sp->usage = (struct spool_usage){t.n_files, t.bytes, t.n_bad};
	sp->counted_at = now;
	sp->count_at = now + t.valid_ms;
	sp->is_tallied = true;
	return true;
}

static enum err
count(struct spool *sp, int64_t start)
{
	sp->usage = (struct spool_usage){0};
	enum err e = spooldir_each(&sp->dir, SPOOLDIR_NEW, count_file, sp);
	if (!e)
		e = spooldir_each(&sp->dir, SPOOLDIR_BAD, count_bad, sp);
	int64_t now = clock_ms();
	struct tally t = {sp->usage.n_files, sp->usage.bytes, sp->usage.n_bad,
	    COUNT_MS + COUNT_SHARE * (now - start)};
	sp->counted_at = now;
	sp->count_at = now + t.valid_ms;
	sp->is_tallied = false;
	if (!e && sp->is_brief && t.n_files >= MANY)
		tally_write(sp->dir.fd, &t);
	return e;
}

enum err
spool_usage(struct spool *sp, struct spool_usage *usage_r)
{
	int64_t now = clock_ms();
	enum err e = spooldir_ready(&sp->dir);
	if (!e && now >= sp->count_at && !recall(sp, now))
		e = count(sp, now);
	*usage_r = sp->usage;
	return e;
}

static bool
list_name(const char *name, void *arg)
{
	struct spool_names *l = arg;
	if (l->n == l->size) {
		size_t size = l->size * 2 + 64;
		char **grown = realloc(l->names, size * sizeof *grown);
		if (!grown)
			return false;
		l->names = grown;
		l->size = size;
	}
	l->names[l->n] = strdup(name);
	return l->names[l->n] && ++l->n;
}

static bool
list_new(const char *name, void *arg)
{
	uint64_t len;
	return !spoolfile_is_name(name, &len) || list_name(name, arg);
}

static bool
list_bad(const char *name, void *arg)
{
	return is_reason(name) || list_name(name, arg);
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

enum err
spool_list(struct spool *sp, bool is_bad, struct spool_names *names_r)
{
	*names_r = (struct spool_names){0};
	enum err e = spooldir_each(&sp->dir, is_bad ? SPOOLDIR_BAD : SPOOLDIR_NEW,
	    is_bad ? list_bad : list_new, names_r);
	if (!e && names_r->n > 0)
		qsort(names_r->names, names_r->n, sizeof *names_r->names, compare_names);
	return e;
}

static bool
condemn_foreign(const char *name, void *arg)
{
	struct spool *sp = arg;
	uint64_t len;
	enum err e = ERR_OK;
	if (!spoolfile_is_name(name, &len))
		e = spool_condemn(sp, name, "it is no file of the spool");
	(void)e; /* it was logged, and delays nobody */
	return true;
}

enum err
spool_tidy(struct spool *sp)
{
	return spooldir_each(&sp->dir, SPOOLDIR_NEW, condemn_foreign, sp);
}

void
spool_names_free(struct spool_names *names)
{
	for (size_t i = 0; i < names->n; i++)
		free(names->names[i]);
	free(names->names);
	*names = (struct spool_names){0};
}

/* --------------------------------------------------------------- writing */

/* Whether len bytes more would be too many.  Others may have drained what we
 * counted, so a spool that seems full is counted again. */
static enum err
check_room(struct spool *sp, size_t len)
{
	struct spool_usage usage;
	enum err e = spool_usage(sp, &usage);
	bool is_old = sp->is_tallied || clock_ms() > sp->counted_at + FULL_MS;
	int64_t slack = sp->is_tallied ? tally_slack : 0;
	if (!e && is_old && (int64_t)usage.bytes + on_disk(len) + slack > sp->max_size) {
		sp->count_at = 0;
		e = spool_usage(sp, &usage);
	}
	if (!e && (int64_t)usage.bytes + on_disk(len) > sp->max_size)
		e = spooldir_fail(&sp->dir,
		    "%" PRIu64 " files of %" PRIu64
		    " KiB are waiting, and [spool] max_size "
		    "is %" PRId64 " KiB; mend the database",
		    usage.n_files, usage.bytes >> 10, sp->max_size >> 10);
	return e;
}

/* Makes a file in the folder that *to_fd is of, once that is open. */
static enum err
write_file(struct spool *sp, const char *name, const int *to_fd, struct text bytes)
{
	enum err e = check_room(sp, bytes.len);
	if (e)
		return e;
	const char *failed =
	    durable_create(sp->dir.folders[SPOOLDIR_TMP], *to_fd, name, bytes);
	if (!failed)
		return ERR_OK;
	e = spooldir_fail(&sp->dir, "cannot %s: %s", failed, strerror(errno));
	spooldir_close(&sp->dir); /* a directory whose fsync failed is opened anew */
	return e;
}

enum err
spool_put(struct spool *sp, struct event *const *events, size_t n)
{
	char name[SPOOLFILE_NAME_SIZE];
	struct text bytes;
	enum err e = spoolfile_encode(events, n, &bytes);
	if (e)
		return e;
	spoolfile_name(name, events[0], bytes.len);
	e = write_file(sp, name, &sp->dir.folders[SPOOLDIR_NEW], bytes);
	if (!e) {
		sp->usage.n_files++;
		sp->usage.bytes += (uint64_t)on_disk(bytes.len);
	}
	free((char *)bytes.ptr);
	return e;
}

enum err
spool_try(struct spool *sp)
{
	char name[40];
	snprintf(name, sizeof name, "trial.%ld.%" PRIxPTR, (long)getpid(), (uintptr_t)sp);
	enum err e = spooldir_ready(&sp->dir);
	if (!e) /* left by one that was killed */
		unlinkat(sp->dir.fd, name, 0);
	e = write_file(sp, name, &sp->dir.fd, TEXT("trial\n"));
	if (!e)
		unlinkat(sp->dir.fd, name, 0);
	return e;
}

/* --------------------------------------------------------------- reading */

enum err
spool_lock(struct spool *sp)
{
	enum err e = spooldir_ready(&sp->dir);
	/* NFS may know no locks: then two may drain, which does no harm */
	if (!e && flock(sp->dir.folders[SPOOLDIR_NEW], LOCK_EX | LOCK_NB) < 0 &&
	    errno == EWOULDBLOCK)
		e = ERR_BUSY;
	return e;
}

void
spool_unlock(struct spool *sp)
{
	if (sp->dir.folders[SPOOLDIR_NEW] >= 0)
		flock(sp->dir.folders[SPOOLDIR_NEW], LOCK_UN);
}

enum err
spool_read(struct spool *sp, const char *name, struct spoolfile *file_r)
{
	*file_r = (struct spoolfile){0};
	enum err e = spooldir_ready(&sp->dir);
	if (e)
		return e;
	const char *fault = spoolfile_load(file_r, sp->dir.folders[SPOOLDIR_NEW], name);
	if (!fault)
		return ERR_OK;
	spoolfile_free(file_r);
	if (fault == spoolfile_no_memory)
		return ERR_MEMORY;
	if (fault != spoolfile_gone && spool_condemn(sp, name, fault))
		return ERR_SPOOL;
	return spooldir_fail(&sp->dir, "%s: %s", name, fault);
}

enum err
spool_remove(struct spool *sp, const char *name)
{
	uint64_t len;
	if (unlinkat(sp->dir.folders[SPOOLDIR_NEW], name, 0) < 0)
		return errno == ENOENT
			   ? ERR_OK /* another process was faster */
			   : spooldir_fail(&sp->dir,
				 "new/%s is committed, and cannot be removed: %s", name,
				 strerror(errno));
	if (spoolfile_is_name(name, &len) && sp->usage.n_files > 0 &&
	    sp->usage.bytes >= (uint64_t)on_disk(len)) {
		sp->usage.n_files--;
		sp->usage.bytes -= (uint64_t)on_disk(len);
	}
	return ERR_OK;
}

static void
write_reason(struct spool *sp, const char *name, const char *why)
{
	char path[320], line[300];
	int n = snprintf(line, sizeof line, "%s\n", why);
	snprintf(path, sizeof path, "%s.reason", name);
	unlinkat(sp->dir.folders[SPOOLDIR_BAD], path, 0);
	if (durable_create(sp->dir.folders[SPOOLDIR_TMP], sp->dir.folders[SPOOLDIR_BAD],
		path, (struct text){line, (size_t)n}))
		log_warn("%s/bad/%s: %m", sp->dir.path, path);
}

enum err
spool_condemn(struct spool *sp, const char *name, const char *why)
{
	char bad[300];
	const char *failed = "move a file";
	snprintf(bad, sizeof bad, "%s", name);
	for (int i = 1; failed && i < BAD_SUFFIXES; i++) {
		failed = durable_move(sp->dir.folders[SPOOLDIR_NEW], name,
		    sp->dir.folders[SPOOLDIR_BAD], bad);
		if (!failed || errno != EEXIST)
			break;
		snprintf(bad, sizeof bad, "%s~%d", name, i);
	}
	if (failed && errno == ENOENT)
		return ERR_OK; /* another process was faster */
	if (failed) {
		enum err e = spooldir_fail(&sp->dir, "new/%s: %s; and cannot %s: %s",
		    name, why, failed, strerror(errno));
		if (clock_ms() >= sp->log_at) {
			log_error("%s", sp->dir.reason);
			sp->log_at = clock_ms() + LOG_PAUSE_MS;
		}
		return e;
	}
	log_error("%s/bad/%s: moved here: %s", sp->dir.path, bad, why);
	write_reason(sp, bad, why);
	sp->count_at = 0;
	return ERR_OK;
}

enum err
spool_retry(struct spool *sp, const char *name)
{
	char path[320];
	enum err e = spooldir_ready(&sp->dir);
	if (e)
		return e;
	/* what spool_condemn() put behind a name that was taken */
	snprintf(path, sizeof path, "%.*s", (int)strcspn(name, "~"), name);
	const char *failed = durable_move(
	    sp->dir.folders[SPOOLDIR_BAD], name, sp->dir.folders[SPOOLDIR_NEW], path);
	if (failed)
		return spooldir_fail(
		    &sp->dir, "cannot %s: bad/%s: %s", failed, name, strerror(errno));
	snprintf(path, sizeof path, "%s.reason", name);
	unlinkat(sp->dir.folders[SPOOLDIR_BAD], path, 0);
	sp->count_at = 0;
	return ERR_OK;
}

/* ------------------------------------------------------------------ away */

static const char away[] = "away";

bool
spool_is_away(struct spool *sp, long pause_ms)
{
	struct stat st;
	struct timespec now;
	if (spooldir_ready(&sp->dir) ||
	    fstatat(sp->dir.fd, away, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	clock_gettime(CLOCK_REALTIME, &now);
	int64_t age = (now.tv_sec - st.st_mtim.tv_sec) * INT64_C(1000) +
		      (now.tv_nsec - st.st_mtim.tv_nsec) / 1000000;
	if (age >= -pause_ms && age < pause_ms) /* clocks are set back, too */
		return true;
	spool_note_away(sp, true);
	return false;
}

void
spool_note_away(struct spool *sp, bool is_away)
{
	if (spooldir_ready(&sp->dir))
		return;
	if (!is_away) {
		unlinkat(sp->dir.fd, away, 0);
		return;
	}
	int fd = openat(sp->dir.fd, away,
	    O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
	if (fd < 0)
		return;
	futimens(fd, NULL);
	close(fd);
}
