#include "spooldir.h"

#include "durable.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LEFTOVER_S = 7 * 86400 }; /* what is as old in tmp/ belongs to nobody */

const char *const spooldir_names[SPOOLDIR_N] = {"tmp", "new", "bad"};

void
spooldir_init(struct spooldir *d, const char *path)
{
	*d = (struct spooldir){.path = path, .fd = -1};
	for (int i = 0; i < SPOOLDIR_N; i++)
		d->folders[i] = -1;
}

enum err
spooldir_fail(struct spooldir *d, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	int n = snprintf(d->reason, sizeof d->reason, "%s: ", d->path);
	if (n > 0 && (size_t)n < sizeof d->reason)
		vsnprintf(d->reason + n, sizeof d->reason - (size_t)n, format, ap);
	va_end(ap);
	return ERR_SPOOL;
}

void
spooldir_close(struct spooldir *d)
{
	for (int i = 0; i < SPOOLDIR_N; i++) {
		if (d->folders[i] >= 0)
			close(d->folders[i]);
		d->folders[i] = -1;
	}
	if (d->fd >= 0)
		close(d->fd);
	d->fd = -1;
}

/* Others could read, remove or forge what waits in it. */
static enum err
check_owner(struct spooldir *d, int fd, const char *name)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return spooldir_fail(d, "fstat: %s", strerror(errno));
	if (geteuid() != 0 && st.st_uid != geteuid())
		return spooldir_fail(d,
		    "%s belongs to user %ld, and this is user %ld; chown it", name,
		    (long)st.st_uid, (long)geteuid());
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return spooldir_fail(d, "others may write to %s; chmod go-w it", name);
	return ERR_OK;
}

/* root makes it for the directory's owner, who is to use it. */
static const char *
make_folder(struct spooldir *d, const char *name)
{
	struct stat st;
	if (mkdirat(d->fd, name, 0700) < 0)
		return errno == EEXIST ? NULL : "make a folder";
	if (geteuid() == 0 && fstat(d->fd, &st) == 0 &&
	    fchownat(d->fd, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return "chown a folder";
	const char *failed = durable_directory(d->fd);
	if (failed) {
		int error = errno;
		unlinkat(d->fd, name, AT_REMOVEDIR); /* made and fsynced, or not there */
		errno = error;
	}
	return failed;
}

static enum err
open_folder(struct spooldir *d, enum spooldir_folder i)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	const char *name = spooldir_names[i], *failed = NULL;
	d->folders[i] = openat(d->fd, name, flags);
	if (d->folders[i] < 0 && errno == ENOENT) {
		failed = make_folder(d, name);
		if (!failed)
			d->folders[i] = openat(d->fd, name, flags);
	}
	if (d->folders[i] < 0)
		return spooldir_fail(d, "cannot %s: %s: %s",
		    failed ? failed : "open a folder", name, strerror(errno));
	return check_owner(d, d->folders[i], name);
}

/* What processes that were killed have left in tmp/ was never acknowledged. */
static void
sweep(struct spooldir *d)
{
	struct stat st;
	int fd =
	    openat(d->folders[SPOOLDIR_TMP], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	for (struct dirent *entry; (entry = readdir(dir));)
		if (*entry->d_name != '.' &&
		    fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    st.st_mtime < time(NULL) - LEFTOVER_S)
			unlinkat(fd, entry->d_name, 0);
	closedir(dir);
}

static enum err
open_folders(struct spooldir *d)
{
	d->fd = open(d->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (d->fd < 0 && errno == ENOENT)
		return spooldir_fail(
		    d, "there is no such directory; make it: install -d -m 0700 -o USER");
	if (d->fd < 0 && (errno == ELOOP || errno == ENOTDIR))
		return spooldir_fail(d,
		    "it is a symbolic link or a file; name the directory "
		    "itself");
	if (d->fd < 0)
		return spooldir_fail(d, "%s", strerror(errno));
	enum err e = check_owner(d, d->fd, "it");
	for (int i = 0; !e && i < SPOOLDIR_N; i++)
		e = open_folder(d, (enum spooldir_folder)i);
	if (!e)
		sweep(d);
	return e;
}

/* Whether the directory still is where it was: it may be another one now. */
static bool
is_in_place(struct spooldir *d)
{
	struct stat ours, named;
	for (int i = 0; i < SPOOLDIR_N; i++)
		if (d->folders[i] < 0 || fstat(d->folders[i], &ours) < 0 ||
		    fstatat(d->fd, spooldir_names[i], &named, AT_SYMLINK_NOFOLLOW) < 0 ||
		    ours.st_ino != named.st_ino)
			return false;
	return fstat(d->fd, &ours) == 0 && lstat(d->path, &named) == 0 &&
	       ours.st_ino == named.st_ino && ours.st_dev == named.st_dev;
}

enum err
spooldir_ready(struct spooldir *d)
{
	if (d->fd >= 0 && is_in_place(d))
		return ERR_OK;
	spooldir_close(d);
	enum err e = open_folders(d);
	if (e)
		spooldir_close(d);
	return e;
}

enum err
spooldir_each(
    struct spooldir *d, enum spooldir_folder folder, spooldir_each_fn *each, void *arg)
{
	enum err e = spooldir_ready(d);
	if (e)
		return e;
	int fd = openat(d->folders[folder], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		e = spooldir_fail(d, "%s: %s", spooldir_names[folder], strerror(errno));
		if (fd >= 0)
			close(fd);
		return e;
	}
	for (struct dirent *entry; !e && (entry = readdir(dir));)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
		    !each(entry->d_name, arg))
			e = ERR_MEMORY;
	closedir(dir);
	return e;
}
