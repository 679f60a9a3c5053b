/* SPDX-License-Identifier: BSD-2-Clause */
/* UNIX sockets by path: one of ours, or somebody else's. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/vmm.h"

static int make(const char *what, const char *path, struct sockaddr_un *ret)
{
	int fd;

	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (!path[0] || strlen(path) >= sizeof(ret->sun_path))
		return cleat_vmm_fail(-ENAMETOOLONG,
				      "%s %s: not a path of 1 to %zu bytes",
				      what, path, sizeof(ret->sun_path) - 1);
	strcpy(ret->sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return cleat_vmm_fail(-errno, "%s %s: %m", what, path);
	return fd;
}

/* Left behind by somebody who is gone; who listens still would answer. */
static void remove_stale(const struct sockaddr_un *address)
{
	struct stat st;
	int fd;

	if (lstat(address->sun_path, &st) || !S_ISSOCK(st.st_mode))
		return;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) &&
	    errno == ECONNREFUSED)
		unlink(address->sun_path);
	close(fd);
}

/* Return: whether there is room for the name. */
static bool hide(const struct sockaddr_un *address, struct sockaddr_un *ret)
{
	struct stat st;
	int n;

	*ret = *address;
	n = snprintf(ret->sun_path, sizeof(ret->sun_path), "%s~%d",
		     address->sun_path, (int)getpid());
	if (n < 0 || (size_t)n >= sizeof(ret->sun_path))
		return false;
	/* One of our number ended between two calls below. */
	if (!lstat(ret->sun_path, &st) && S_ISSOCK(st.st_mode))
		unlink(ret->sun_path);
	return true;
}

/*
 * Who waits for the path to appear may connect at once: so it gets its name
 * when it listens already. link() leaves alone what is there, and so does the
 * name before, which no other process chooses.
 */
static int bind_and_listen(int fd, const struct sockaddr_un *address)
{
	struct sockaddr_un hidden;
	int err = 0;

	if (!hide(address, &hidden))
		return bind(fd, (const struct sockaddr *)address,
			    sizeof(*address)) || listen(fd, 4) ? -errno : 0;
	if (bind(fd, (struct sockaddr *)&hidden, sizeof(hidden)))
		return -errno;
	if (listen(fd, 4) || link(hidden.sun_path, address->sun_path))
		err = errno == EEXIST ? -EADDRINUSE : -errno;
	unlink(hidden.sun_path);
	return err;
}

int cleat_vmm_listen(const char *what, const char *path)
{
	struct sockaddr_un address;
	int fd = make(what, path, &address), err;

	if (fd < 0)
		return fd;
	remove_stale(&address);
	/* Whoever can connect commands the machine: its owner alone. */
	err = fchmod(fd, 0600) ? -errno : bind_and_listen(fd, &address);
	if (!err)
		return fd;
	errno = -err;
	cleat_vmm_fail(err, "%s %s: %m", what, path);
	close(fd);
	return err;
}
