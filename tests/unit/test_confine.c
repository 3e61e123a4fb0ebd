/* confine() in a child process, for it cannot be undone. */
#include "unit.h"

#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char top[] = "/tmp/smshook-confine-XXXXXX";

static const char *
path(const char *name)
{
	static char paths[4][128];
	static int n;
	char *p = paths[n++ % 4];
	snprintf(p, sizeof paths[0], "%s/%s", top, name);
	return p;
}

static bool
can_write(const char *name)
{
	int fd = open(path(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* 0, or the number of the line that does not hold. */
static int
in_child(int (*check)(void))
{
	int status = 0;
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(check());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

#define MUST(x)                                                                          \
	do {                                                                             \
		if (!(x))                                                                \
			return __LINE__ % 256;                                           \
	} while (0)

/* landlock_create_ruleset(2): the version of the kernel's interface. */
static bool
has_landlock(void)
{
#ifdef SYS_landlock_create_ruleset
	return syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, 1U) >= 2;
#else
	return false;
#endif
}

static int
check_outside(void)
{
	confine(path("state/spool"), path("run/socket"));
	MUST(!can_write("elsewhere") && errno == EACCES);
	MUST(!can_write("file") && errno == EACCES);
	MUST(mkdir(path("folder"), 0700) < 0);
	MUST(!can_write("run/new") && errno == EACCES);
	MUST(unlink(path("file")) < 0);
	MUST(unlink(path("run/socket")) == 0);
	return 0;
}

static int
check_inside(void)
{
	char text[5] = "";
	confine(path("state/spool"), NULL);
	MUST(mkdir(path("state/spool/tmp"), 0700) == 0);
	MUST(mkdir(path("state/spool/new"), 0700) == 0);
	MUST(can_write("state/spool/tmp/a"));
	MUST(rename(path("state/spool/tmp/a"), path("state/spool/new/a")) == 0);
	MUST(unlink(path("state/spool/new/a")) == 0);
	MUST(rename(path("state/spool"), path("state/away")) == 0);
	MUST(mkdir(path("state/spool"), 0700) == 0);
	MUST(can_write("state/spool/b"));
	int fd = open(path("file"), O_RDONLY | O_CLOEXEC);
	MUST(fd >= 0 && read(fd, text, 4) == 4 && strcmp(text, "text") == 0);
	int memory = memfd_create("request", MFD_CLOEXEC);
	MUST(memory >= 0 && write(memory, text, 4) == 4);
	return 0;
}

static int
check_core(void)
{
	struct rlimit limit;
	confine_core();
	MUST(getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max == 0);
	return 0;
}

static void
writes_nothing_outside(void **state)
{
	(void)state;
	if (!has_landlock()) /* cmocka's TAP of a skipped test reads as a failure */
		print_message("# SKIP this kernel or its headers have no Landlock\n");
	else
		assert_int_equal(in_child(check_outside), 0);
}

static void
spool_works(void **state)
{
	(void)state;
	assert_int_equal(in_child(check_inside), 0);
}

static void
dumps_no_core(void **state)
{
	(void)state;
	assert_int_equal(in_child(check_core), 0);
}

static int
set_up(void **state)
{
	(void)state;
	FILE *f;
	if (!mkdtemp(top) || mkdir(path("state"), 0700) || mkdir(path("run"), 0700) ||
	    mkdir(path("state/spool"), 0700) || !can_write("run/socket") ||
	    !(f = fopen(path("file"), "w")))
		return -1;
	fputs("text", f);
	return fclose(f);
}

static int
tear_down(void **state)
{
	char command[160];
	(void)state;
	snprintf(command, sizeof command, "rm -rf %s", top);
	return system(command);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(writes_nothing_outside),
	    cmocka_unit_test(spool_works),
	    cmocka_unit_test(dumps_no_core),
	};
	return cmocka_run_group_tests_name("confine", tests, set_up, tear_down);
}
