/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/engine.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

extern char **environ;

/* The descriptor under which a server we start finds its socket. */
#define SPAWN_FD 3
/* How long a server that we started has to end, asked and then told. */
#define SPAWN_END_MS 2000

static void set_time_limit(int fd, int what, int ms)
{
	struct timeval limit = { .tv_sec = ms / 1000,
				 .tv_usec = ms % 1000 * 1000 };

	setsockopt(fd, SOL_SOCKET, what, &limit, sizeof(limit));
}

/*
 * connect() to a server whose backlog is full sleeps; the send time limit ends
 * it every tick, so that deadline and cancel are seen.
 */
static int connect_by(int fd, const struct sockaddr_un *addr, socklen_t size,
		      uint64_t deadline_ns)
{
	for (;;) {
		int err = cleat_must_stop(deadline_ns);

		if (err)
			return err;
		set_time_limit(fd, SO_SNDTIMEO,
			       cleat_tick_until(deadline_ns) + 1);
		if (!connect(fd, (const struct sockaddr *)addr, size))
			return 0;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
	}
}

/* A path longer than sun_path is reached through its folder's descriptor. */
static int connect_long(int fd, const char *path, uint64_t deadline_ns)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const char *name = strrchr(path, '/');
	char *folder;
	int dir, n, err;

	if (!name || strlen(name) > sizeof(addr.sun_path) - 32)
		return -ENAMETOOLONG;
	folder = strndup(path, (size_t)(name - path) + 1);
	if (!folder)
		return -ENOMEM;
	dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	err = -errno;
	free(folder);
	if (dir < 0)
		return err;
	n = snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d%s",
		     dir, name);
	err = n >= (int)sizeof(addr.sun_path)
		      ? -ENAMETOOLONG
		      : connect_by(fd, &addr, sizeof(addr), deadline_ns);
	close(dir);
	return err;
}

static int connect_path(int fd, const char *path, uint64_t deadline_ns)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t length = strlen(path);

	if (length == 0)
		return -EINVAL;
	if (path[0] == '@') {
		if (length > sizeof(addr.sun_path))
			return -ENAMETOOLONG;
		memcpy(addr.sun_path, path, length);
		addr.sun_path[0] = '\0';
		length += offsetof(struct sockaddr_un, sun_path);
		return connect_by(fd, &addr, (socklen_t)length, deadline_ns);
	}
	if (length >= sizeof(addr.sun_path))
		return connect_long(fd, path, deadline_ns);
	memcpy(addr.sun_path, path, length + 1);
	return connect_by(fd, &addr, sizeof(addr), deadline_ns);
}

static int open_path(const char *path, uint64_t deadline_ns,
		     struct cleat_error *reterr)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int err;

	if (fd < 0)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -errno,
				  "socket: %s", strerror(errno));
	err = connect_path(fd, path, deadline_ns);
	if (!err)
		return fd;
	close(fd);
	if (err == -ENOENT || err == -ECONNREFUSED)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
				  "%s: no server listens there (%s)", path,
				  strerror(-err));
	if (err == -ETIMEDOUT)
		return cleat_fail(reterr, CLEAT_ORIGIN_TRANSPORT, err,
				  "%s: the server takes no connection; it may "
				  "have another client",
				  path);
	return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err, "%s: %s", path,
			  strerror(-err));
}

static int open_fd(int fd, struct cleat_error *reterr)
{
	socklen_t size = sizeof(int);
	int type, copy, flags;

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) ||
	    type != SOCK_STREAM)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "descriptor %d is no stream socket", fd);
	copy = cleat_dup(fd);
	if (copy < 0)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, copy, "dup: %s",
				  strerror(-copy));
	/* Waiting threads sleep in recvmsg. */
	flags = fcntl(copy, F_GETFL);
	if (flags & O_NONBLOCK)
		fcntl(copy, F_SETFL, flags & ~O_NONBLOCK);
	return copy;
}

static char **with_fd_option(const char *const *argv, char *option)
{
	size_t n = 0;
	char **copy;

	while (argv[n])
		n++;
	copy = calloc(n + 2, sizeof(*copy));
	if (!copy)
		return NULL;
	for (size_t i = 0; i < n; i++)
		copy[i] = (char *)argv[i];
	copy[n] = option;
	return copy;
}

static int spawn_child(const char *const *argv, int child_fd, pid_t *ret_pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	char option[] = "--fd=3";
	sigset_t none;
	char **args;
	int err;

	args = with_fd_option(argv, option);
	if (!args)
		return -ENOMEM;
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	sigemptyset(&none);
	/* A VMM blocks signals in its threads; its children shall not. */
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	err = posix_spawn_file_actions_adddup2(&actions, child_fd, SPAWN_FD);
	if (!err)
		err = posix_spawnp(ret_pid, args[0], &actions, &attr, args,
				   environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	free(args);
	return -err;
}

static int open_spawned(const char *const *argv, struct cleat_device *dev,
			struct cleat_error *reterr)
{
	int pair[2], err;

	if (!argv[0])
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "no program to start");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -errno,
				  "socketpair: %s", strerror(errno));
	err = spawn_child(argv, pair[1], &dev->server_pid);
	close(pair[1]);
	if (err) {
		close(pair[0]);
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
				  "cannot start %s: %s", argv[0],
				  strerror(-err));
	}
	dev->server_pidfd = (int)syscall(SYS_pidfd_open, dev->server_pid, 0);
	if (dev->server_pidfd >= 0) {
		dev->spawned = true;
		return pair[0];
	}
	err = -errno;
	close(pair[0]);
	kill(dev->server_pid, SIGKILL);
	waitpid(dev->server_pid, NULL, 0);
	return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
			  "cannot watch over %s: %s", argv[0], strerror(-err));
}

/* Who is at the other end, for a fence that can be trusted. */
static void find_peer(struct cleat_device *dev, int fd)
{
	socklen_t size = sizeof(struct ucred);
	struct ucred cred;
	int pidfd;

	if (dev->spawned)
		return;
	if (!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) &&
	    cred.pid > 0)
		dev->server_pid = cred.pid;
	size = sizeof(pidfd);
	if (!getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size))
		dev->server_pidfd = pidfd;
}

int cleat_connect(const struct cleat_device_config *config,
		  uint64_t deadline_ns, struct cleat_device *dev,
		  struct cleat_error *reterr)
{
	int fd;

	if (config->path)
		fd = open_path(config->path, deadline_ns, reterr);
	else if (config->argv)
		fd = open_spawned(config->argv, dev, reterr);
	else
		fd = open_fd(config->fd, reterr);
	if (fd < 0)
		return fd;
	find_peer(dev, fd);
	set_time_limit(fd, SO_RCVTIMEO, CLEAT_TICK_MS);
	return fd;
}

/* By descriptor: a host that reaps all its children may have freed the pid. */
static bool ends_by(struct cleat_device *dev, int sig)
{
	struct pollfd pfd = { .fd = dev->server_pidfd, .events = POLLIN };
	siginfo_t info;
	int n;

	syscall(SYS_pidfd_send_signal, pfd.fd, sig, NULL, 0);
	do {
		n = poll(&pfd, 1, SPAWN_END_MS);
	} while (n < 0 && errno == EINTR);
	if (n <= 0)
		return false;
	waitid(P_PIDFD, (id_t)pfd.fd, &info, WEXITED | WNOHANG);
	return true;
}

void cleat_disconnect(struct cleat_device *dev)
{
	/* (one that even SIGKILL does not end now is not waited for) */
	if (dev->spawned && !ends_by(dev, SIGTERM))
		ends_by(dev, SIGKILL);
	dev->spawned = false;
	cleat_close(&dev->server_pidfd);
}
