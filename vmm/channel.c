/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where a machine goes to or comes from: a UNIX socket, a descriptor that was
 * inherited, a command's input or output, a file. A socket can be answered,
 * the others cannot.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/vmm.h"

#define TICK_MS 50
#define CONNECT_MS 30000
#define COMMAND_ENDS_MS 30000
#define COMMAND_LEAVES_MS 2000

extern char **environ;

static int fail(struct channel *channel, int err)
{
	errno = -err;
	snprintf(channel->why, sizeof(channel->why), "%s: %m", channel->target);
	return err;
}

static int wrong(struct channel *channel, const char *why)
{
	snprintf(channel->why, sizeof(channel->why), "%s: %s", channel->target,
		 why);
	return -EINVAL;
}

static int called_off(struct channel *channel)
{
	snprintf(channel->why, sizeof(channel->why), "%s: called off",
		 channel->target);
	return -ECANCELED;
}

static bool has_prefix(const char *text, const char *prefix,
		       const char **ret_rest)
{
	size_t length = strlen(prefix);

	*ret_rest = text + length;
	return !strncmp(text, prefix, length) && text[length];
}

/* ---- Commands ---- */

/*
 * The child gets its signals as a program expects them, and nothing of what the
 * user types: that is the guest's.
 */
static int spawn(const char *command, int fd, int as, pid_t *ret_pid)
{
	char *argv[] = { (char *)"sh", (char *)"-c", (char *)command, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, ignored;
	int err;

	sigemptyset(&none);
	sigemptyset(&ignored);
	sigaddset(&ignored, SIGPIPE);
	sigaddset(&ignored, SIGXFSZ);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null",
					 O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, fd, as);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &ignored);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK |
						POSIX_SPAWN_SETSIGDEF);
	err = posix_spawn(ret_pid, "/bin/sh", &actions, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return -err;
}

static int open_command(struct channel *channel, const char *command,
			bool outgoing)
{
	int ends[2], err;

	if (pipe2(ends, O_CLOEXEC))
		return fail(channel, -errno);
	err = spawn(command, ends[!outgoing], !outgoing, &channel->pid);
	close(ends[!outgoing]);
	channel->fd = ends[outgoing];
	channel->is_command = true;
	return err ? fail(channel, err) : 0;
}

static bool has_ended(struct channel *channel, int *ret_status)
{
	if (waitpid(channel->pid, ret_status, WNOHANG) != channel->pid)
		return false;
	channel->pid = 0;
	return true;
}

/* It has seen the end of its input. */
static int await_command(struct channel *channel)
{
	unsigned waited;
	int status;

	for (waited = 0; waited < COMMAND_ENDS_MS; waited += TICK_MS) {
		if (has_ended(channel, &status))
			return WIFEXITED(status) && !WEXITSTATUS(status) ?
				       0 :
				       wrong(channel, "the command failed");
		if (atomic_load(channel->cancelled))
			return called_off(channel);
		poll(NULL, 0, TICK_MS);
	}
	return wrong(channel, "the command does not end");
}

/*
 * It has lost its other end; a shell that goes on all the same is ended, and
 * what it started is left to find out for itself.
 */
static void dismiss_command(struct channel *channel)
{
	unsigned waited;
	int status;

	if (has_ended(channel, &status))
		return;
	kill(channel->pid, SIGTERM);
	for (waited = 0; waited < COMMAND_LEAVES_MS; waited += TICK_MS) {
		poll(NULL, 0, TICK_MS);
		if (has_ended(channel, &status))
			return;
	}
	kill(channel->pid, SIGKILL);
	waitpid(channel->pid, &status, 0);
	channel->pid = 0;
}

/* ---- Sockets and descriptors ---- */

/* Where the queue of who wants to be accepted is full there is no event. */
static int connect_to(struct channel *channel, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	unsigned waited;

	if (strlen(path) >= sizeof(address.sun_path))
		return wrong(channel, "the path is too long");
	strcpy(address.sun_path, path);
	channel->fd = socket(AF_UNIX,
			     SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (channel->fd < 0)
		return fail(channel, -errno);
	for (waited = 0; waited < CONNECT_MS; waited += TICK_MS) {
		if (!connect(channel->fd, (struct sockaddr *)&address,
			     sizeof(address)))
			return 0;
		if (errno != EAGAIN)
			return fail(channel, -errno);
		if (atomic_load(channel->cancelled))
			return called_off(channel);
		poll(NULL, 0, TICK_MS);
	}
	return wrong(channel, "it listens, and takes nobody in");
}

static int accept_from(struct channel *channel, const char *path)
{
	int listener = cleat_vmm_listen("--incoming", path);
	struct pollfd poll_fd = { .fd = listener, .events = POLLIN };

	if (listener < 0)
		return wrong(channel, "cannot listen");
	while (channel->fd < 0 && !atomic_load(channel->cancelled))
		if (poll(&poll_fd, 1, TICK_MS) > 0)
			channel->fd = accept4(listener, NULL, NULL,
					      SOCK_CLOEXEC);
	close(listener);
	unlink(path);
	return channel->fd < 0 ? called_off(channel) : 0;
}

/* Return: -1 if it is none. */
static long descriptor(const char *number)
{
	char *end;
	long fd = strtol(number, &end, 10);

	return *end || fd < 0 || fd > 1 << 20 ? -1 : fd;
}

static int inherit(struct channel *channel, const char *number, bool outgoing)
{
	int type;
	socklen_t size = sizeof(type);
	long fd = descriptor(number);

	if (fd < 0)
		return wrong(channel, "not the number of a descriptor");
	if (fd <= STDERR_FILENO && (outgoing || fd != STDIN_FILENO))
		return wrong(channel, "the guest's console, or what is said of it, is there");
	channel->fd = fcntl((int)fd, F_DUPFD_CLOEXEC, 3);
	if (channel->fd < 0)
		return fail(channel, -errno);
	channel->answers = !getsockopt(channel->fd, SOL_SOCKET, SO_TYPE, &type,
				       &size);
	return 0;
}

/* ---- Files ---- */

/* Under another name until it is whole: an older one is not lost by trying. */
static int create_file(struct channel *channel, const char *path)
{
	int n = snprintf(channel->partial, sizeof(channel->partial),
			 "%s.partial", path);

	if (n < 0 || (size_t)n >= sizeof(channel->partial))
		return wrong(channel, "the path is too long");
	channel->path = path;
	channel->fd = open(channel->partial,
			   O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK |
				   O_CLOEXEC, 0600);
	return channel->fd < 0 ? fail(channel, -errno) : 0;
}

static int end_file(struct channel *channel)
{
	/* Pipes have nothing that could be made safe. */
	if (fsync(channel->fd) && errno != EINVAL)
		return fail(channel, -errno);
	if (channel->partial[0] && rename(channel->partial, channel->path))
		return fail(channel, -errno);
	channel->partial[0] = 0;
	return 0;
}

/* ---- All of them ---- */

bool cleat_vmm_channel_known(const char *target)
{
	const char *rest;

	return has_prefix(target, "unix:", &rest) ||
	       has_prefix(target, "fd:", &rest) ||
	       has_prefix(target, "exec:", &rest) ||
	       has_prefix(target, "file:", &rest);
}

/* Opening a FIFO would wait for its other end, and nothing would end that. */
static int open_file(struct channel *channel, const char *path, bool outgoing)
{
	if (outgoing)
		return create_file(channel, path);
	channel->fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	return channel->fd < 0 ? fail(channel, -errno) : 0;
}

bool cleat_vmm_channel_is_input(const char *target)
{
	const char *rest;

	return target && has_prefix(target, "fd:", &rest) &&
	       descriptor(rest) == STDIN_FILENO;
}

static int open_one(struct channel *channel, const char *target, bool outgoing)
{
	const char *rest;

	if (has_prefix(target, "unix:", &rest)) {
		channel->answers = true;
		return outgoing ? connect_to(channel, rest) :
				  accept_from(channel, rest);
	}
	if (has_prefix(target, "fd:", &rest))
		return inherit(channel, rest, outgoing);
	if (has_prefix(target, "exec:", &rest))
		return open_command(channel, rest, outgoing);
	if (has_prefix(target, "file:", &rest))
		return open_file(channel, rest, outgoing);
	return wrong(channel, "not unix:, fd:, exec: or file:");
}

/* Whoever starts us may take as long as he likes to send. */
static int await_first(const struct channel *channel)
{
	struct pollfd poll_fd = { .fd = channel->fd, .events = POLLIN };

	while (!atomic_load(channel->cancelled))
		if (poll(&poll_fd, 1, TICK_MS) > 0)
			return 0;
	return -ECANCELED;
}

int cleat_vmm_channel_open(struct channel *channel, const char *target,
			   bool outgoing, const atomic_bool *cancelled)
{
	int err;

	*channel = (struct channel){
		.fd = -1,
		.target = target,
		.cancelled = cancelled,
	};
	err = open_one(channel, target, outgoing);
	if (!err && !outgoing && await_first(channel))
		err = called_off(channel);
	return err;
}

int cleat_vmm_channel_finish(struct channel *channel)
{
	int err = end_file(channel);

	close(channel->fd);
	channel->fd = -1;
	if (!err && channel->is_command)
		err = await_command(channel);
	return err;
}

void cleat_vmm_channel_close(struct channel *channel)
{
	if (channel->fd >= 0)
		close(channel->fd);
	channel->fd = -1;
	if (channel->partial[0])
		unlink(channel->partial);
	channel->partial[0] = 0;
	if (channel->pid)
		dismiss_command(channel);
}
