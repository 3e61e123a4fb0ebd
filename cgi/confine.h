/* What this process may do from now on: by Landlock (kernel 5.19 and newer, landlock(7))
 * it may read what its user may, but change files only in the directory that the spool is
 * in.  Where the kernel has none, that is left to the system's other means. */
#ifndef CONFINE_H
#define CONFINE_H

/* No core is dumped, where secrets would be: core(5). */
void confine_core(void);

/* Holds for threads that are started later, and for good.  socket: the path of a
 * Unix socket that is to be removed at the end, or NULL. */
void confine(const char *spool_directory, const char *socket);

#endif
