/* What this process may do from now on.  It dumps no core, where secrets would
 * be; and by Landlock (kernel 5.19 and newer, landlock(7)) it may read what its
 * user may, but change files only in the directory that the spool is in.  Where the
 * kernel has none, that is left to the system's other means. */
#ifndef CONFINE_H
#define CONFINE_H

/* Holds for threads that are started later, and for good.  socket: the path of a
 * Unix socket that is to be removed at the end, or NULL. */
void confine(const char *spool_directory, const char *socket);

#endif
