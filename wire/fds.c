/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "wire/calls.h"
#include "wire/wire.h"

void cleat_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

int cleat_fds_take(struct cleat_fds *fds, unsigned i)
{
	int fd;

	if (i >= fds->num)
		return -1;
	fd = fds->fd[i];
	fds->fd[i] = -1;
	return fd;
}

int cleat_dup(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	return copy < 0 ? -errno : copy;
}

/*
 * Nothing but the name under /proc tells an eventfd from other anonymous
 * files; reading or writing it to find out would take a kick away or make one.
 */
bool cleat_is_eventfd(int fd)
{
	char path[32], name[32];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, name, sizeof(name) - 1);
	if (n < 0)
		return false;
	name[n] = '\0';
	return strcmp(name, "anon_inode:[eventfd]") == 0;
}

void cleat_kick_fd(int fd)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLOUT };
	uint64_t one = 1;

	/*
	 * A write to a full counter blocks. O_NONBLOCK is no help: it is the
	 * peer's to clear, at any time, and one that has filled the counter
	 * once could set and clear it until a kick is caught in between. To
	 * catch one behind poll() it has to empty and fill it each time.
	 */
	if (cleat_wire_poll(&pollfd, 0) > 0 && pollfd.revents & POLLOUT &&
	    WRITE(fd, &one, sizeof(one)) < 0)
		return;
}
