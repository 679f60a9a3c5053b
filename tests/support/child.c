/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/support/support.h"

static void redirect(const char *name, const char *suffix, int target)
{
	char path[NAME_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s.%s", name, suffix);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 || dup2(fd, target) < 0)
		_exit(126);
	close(fd);
}

static void run_child(pid_t parent, const char *name,
		      const char *const argv[])
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* The parent may have died before the line above. */
	if (getppid() != parent)
		_exit(126);
	redirect(name, "out", STDOUT_FILENO);
	redirect(name, "err", STDERR_FILENO);
	execv(argv[0], (char **)argv);
	_exit(127);
}

void child_start(struct child *child, const char *name,
		 const char *const argv[])
{
	pid_t parent = getpid();

	child->pid = fork();
	ATF_REQUIRE(child->pid >= 0);
	if (!child->pid)
		run_child(parent, name, argv);
	/* Not there under valgrind, which does not know the call. */
	child->pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0);
}

static bool wait_end(const struct child *child, unsigned ms)
{
	struct deadline deadline = deadline_in(ms);
	siginfo_t info = { 0 };

	if (child->pidfd >= 0)
		return wait_fd(child->pidfd, POLLIN, ms);
	for (;;) {
		if (!waitid(P_PID, (id_t)child->pid, &info,
			    WEXITED | WNOHANG | WNOWAIT) && info.si_pid)
			return true;
		if (!deadline_left(&deadline))
			return false;
		usleep(1000);
	}
}

static int reap(struct child *child)
{
	int status = 0;

	ATF_REQUIRE_EQ(child->pid, waitpid(child->pid, &status, 0));
	if (child->pidfd >= 0)
		close(child->pidfd);
	child->pid = 0;
	return status;
}

int child_wait(struct child *child, unsigned ms)
{
	if (!wait_end(child, ms))
		return -ETIMEDOUT;
	return reap(child);
}

void child_end(struct child *child)
{
	if (child->pid <= 0)
		return;
	kill(child->pid, SIGKILL);
	reap(child);
}

bool child_ended(const struct child *child)
{
	return child->pid <= 0 || wait_end(child, 0);
}

/*
 * <build>/tests/<room>/<program>: three names up is the build. Looked for once:
 * from a mount namespace made later /proc may tell another path.
 */
static const char *find_build(void)
{
	static char path[PATH_MAX / 2];
	ssize_t length;

	if (path[0])
		return path;
	length = readlink("/proc/self/exe", path, sizeof(path) - 1);
	ATF_REQUIRE(length > 0);
	path[length] = '\0';
	for (int up = 0; up < 3; up++) {
		char *slash = strrchr(path, '/');

		ATF_REQUIRE(slash);
		*slash = '\0';
	}
	return path;
}

const char *program(const char *name)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", find_build(), name);
	if (access(path, X_OK))
		atf_tc_skip("%s was not built", name);
	return path;
}

const char *source_file(const char *name)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", SOURCE_ROOT, name);
	ATF_REQUIRE_MSG(!access(path, R_OK), "%s: no such file", path);
	return path;
}
