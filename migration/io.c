/* SPDX-License-Identifier: BSD-2-Clause */
/* A stream over a descriptor: waits that can be called off. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "migration/migration.h"

#define TICK_MS 50
/* What a pipe that is ready takes without blocking. */
#define PIPE_PIECE 4096u

static int wait_for(struct cleat_migration *mig, int fd, short events)
{
	struct pollfd poller = { .fd = fd, .events = events };
	int n;

	for (;;) {
		if (atomic_load(&mig->cancelled) ||
		    cleat_cancel_is_set(cleat_cancel_current()))
			return -ECANCELED;
		n = poll(&poller, 1, TICK_MS);
		if (n > 0)
			return poller.revents & POLLNVAL ? -EBADF : 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

/*
 * A pipe whose reader has gone raises SIGPIPE, which is the program's to treat:
 * blocked for the write and, unless it was pending before, taken away again.
 */
static ssize_t write_quietly(int fd, const void *buf, size_t count)
{
	const struct timespec at_once = { 0, 0 };
	sigset_t pipe, before, pending;
	ssize_t n;
	int code;

	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	sigpending(&pending);
	pthread_sigmask(SIG_BLOCK, &pipe, &before);
	n = write(fd, buf, count);
	code = errno;
	if (n < 0 && code == EPIPE && !sigismember(&pending, SIGPIPE))
		sigtimedwait(&pipe, NULL, &at_once);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = code;
	return n;
}

static ssize_t write_some(int fd, const void *buf, size_t count)
{
	ssize_t n = send(fd, buf, count, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n >= 0 || errno != ENOTSOCK)
		return n;
	return write_quietly(fd, buf, count < PIPE_PIECE ? count : PIPE_PIECE);
}

static int write_fd(void *opaque, const void *buf, size_t count)
{
	struct cleat_migration *mig = opaque;
	int fd = atomic_load(&mig->fd);
	const char *at = buf;

	while (count) {
		int err = wait_for(mig, fd, POLLOUT);
		ssize_t n;

		if (err)
			return err;
		n = write_some(fd, at, count);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n > 0) {
			at += n;
			count -= (size_t)n;
		}
	}
	return 0;
}

static int read_fd(void *opaque, void *buf, size_t count)
{
	struct cleat_migration *mig = opaque;
	int fd = atomic_load(&mig->fd);
	char *at = buf;

	while (count) {
		int err = wait_for(mig, fd, POLLIN);
		ssize_t n;

		if (err)
			return err;
		n = read(fd, at, count);
		if (!n)
			return -ENODATA;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n > 0) {
			at += n;
			count -= (size_t)n;
		}
	}
	return 0;
}

void cleat_migration_io_fd(struct cleat_migration *mig, int fd,
			   struct cleat_migration_io *ret_io)
{
	atomic_store(&mig->fd, fd);
	*ret_io = (struct cleat_migration_io){
		.size = sizeof(*ret_io),
		.opaque = mig,
		.write = write_fd,
		.read = read_fd,
	};
}
