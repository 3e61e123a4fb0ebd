#include "confine.h"

#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#if __has_include(<linux/landlock.h>)
#include <linux/landlock.h>
#endif

#ifdef LANDLOCK_ACCESS_FS_REFER

#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif

/* By version of the kernel's interface: before the second no file can be moved to
 * another directory, which the spool needs. */
enum { WITH_REFER = 2, WITH_TRUNCATE = 3 };

/* clang-format off */
static const unsigned long long changes =
	LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
	LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
	LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
	LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
	LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM |
	LANDLOCK_ACCESS_FS_REFER;
/* clang-format on */

static int
allow(int rules, const char *directory, unsigned long long access)
{
	struct landlock_path_beneath_attr beneath = {
	    .allowed_access = access, .parent_fd = open(directory, O_PATH | O_CLOEXEC)};
	if (beneath.parent_fd < 0)
		return -1;
	long result = syscall(
	    SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0);
	close(beneath.parent_fd);
	return (int)result;
}

/* Beneath the directory that path is in. */
static int
allow_beside(int rules, const char *path, unsigned long long access)
{
	char directory[PATH_MAX];
	const char *slash = path ? strrchr(path, '/') : NULL;
	if (!slash)
		return 0;
	snprintf(directory, sizeof directory, "%.*s/", (int)(slash - path), path);
	return allow(rules, directory, access);
}

void
confine(const char *spool_directory, const char *socket)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, (size_t)0,
	    LANDLOCK_CREATE_RULESET_VERSION);
	if (version < WITH_REFER)
		return;
	struct landlock_ruleset_attr attr = {0}; /* newer ones have more members */
	attr.handled_access_fs =
	    changes | (version >= WITH_TRUNCATE ? LANDLOCK_ACCESS_FS_TRUNCATE : 0);
	int rules = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
	/* the spool may be made or mounted anew while this runs */
	if (rules < 0 ||
	    allow_beside(rules, spool_directory, attr.handled_access_fs) < 0 ||
	    allow_beside(rules, socket, LANDLOCK_ACCESS_FS_REMOVE_FILE) < 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    syscall(SYS_landlock_restrict_self, rules, 0) < 0)
		log_warn("Landlock does not confine it to its spool: %m");
	if (rules >= 0)
		close(rules);
}

#else

void
confine(const char *spool_directory, const char *socket)
{
	(void)spool_directory, (void)socket;
}

#endif

void
confine_core(void)
{
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
}
