/* Files that survive a power cut.  The order is that of PostgreSQL's
 * durable_rename() and Postfix's mail_stream: write, fsync, close, rename,
 * fsync of the directory; every step is checked.  Nowhere else are files
 * renamed or fsynced.  Any thread. */
#ifndef DURABLE_H
#define DURABLE_H

#include "text.h"

/* Makes the file name in the directory to_fd, mode 0600, by way of the same
 * name in the directory from_fd of the same file system.  Never replaces a
 * file.  Returns NULL when the file and its name are on the disk; else what
 * could not be done, a literal, with errno saying why, and no file is left.
 * After a failed fsync() the kernel may take dirty pages for clean (fsync(2),
 * EIO): the file is given up, never fsynced again. */
const char *durable_create(int from_fd, int to_fd, const char *name, struct text bytes);

/* Moves a file to another directory of the same file system under a new name,
 * never replacing one.  Returns as durable_create(), but the file stays. */
const char *durable_move(int from_fd, const char *name, int to_fd, const char *new_name);

/* Puts a directory's entries on the disk.  Returns as durable_create(). */
const char *durable_directory(int fd);

#endif
