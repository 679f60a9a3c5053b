/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ThreadSanitizer knows that a mutex orders what two threads do, but not that a
 * message does which one sends into one end of a socket pair and the other
 * receives from the other end: to a test whose peer is a thread, everything
 * that the two take turns with looks like a race. The linker leads these calls
 * of the library's and the tests' here (--wrap, see meson.build), and each
 * direction of each pair becomes an ordering of its own, so that two threads
 * on the same side stay as unordered as they are.
 *
 * Nor does the one of Debian 12 know pthread_mutex_clocklock(): its lock is
 * taken by the call that it does know.
 */
#include <pthread.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#ifndef __has_feature
#define __has_feature(x) 0
#endif

#if __has_feature(thread_sanitizer) || defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#else
static void __tsan_acquire(void *what) { }
static void __tsan_release(void *what) { }
#endif

int __real_socketpair(int domain, int type, int protocol, int ends[2]);
ssize_t __real_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t __real_recvmsg(int fd, struct msghdr *msg, int flags);
ssize_t __real_send(int fd, const void *data, size_t length, int flags);
ssize_t __real_recv(int fd, void *data, size_t length, int flags);
int __wrap_socketpair(int domain, int type, int protocol, int ends[2]);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t length, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t length, int flags);
int __wrap_pthread_mutex_clocklock(pthread_mutex_t *mutex, clockid_t clock,
				   const struct timespec *until);

#define MAX_PAIRS 256

/* @sent[i]: what end i has sent. */
static struct {
	ino_t ends[2];
	char sent[2];
} pairs[MAX_PAIRS];
static unsigned num_pairs;

static ino_t inode(int fd)
{
	struct stat stat;

	return fstat(fd, &stat) ? 0 : stat.st_ino;
}

int __wrap_socketpair(int domain, int type, int protocol, int ends[2])
{
	int result = __real_socketpair(domain, type, protocol, ends);
	unsigned i;

	if (result)
		return result;
	i = __atomic_fetch_add(&num_pairs, 1, __ATOMIC_RELAXED) % MAX_PAIRS;
	for (int end = 0; end < 2; end++)
		__atomic_store_n(&pairs[i].ends[end], inode(ends[end]),
				 __ATOMIC_RELAXED);
	return 0;
}

/* What orders messages that @fd sends (or, with @other, receives). */
static void *order(int fd, int other)
{
	ino_t wanted = inode(fd);

	for (unsigned i = 0; wanted && i < MAX_PAIRS; i++)
		for (int end = 0; end < 2; end++)
			if (__atomic_load_n(&pairs[i].ends[end],
					    __ATOMIC_RELAXED) == wanted)
				return &pairs[i].sent[end ^ other];
	return NULL;
}

static void before_send(int fd)
{
	void *what = order(fd, 0);

	if (what)
		__tsan_release(what);
}

static ssize_t after_receive(int fd, ssize_t result)
{
	void *what = result >= 0 ? order(fd, 1) : NULL;

	if (what)
		__tsan_acquire(what);
	return result;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	before_send(fd);
	return __real_sendmsg(fd, msg, flags);
}

ssize_t __wrap_send(int fd, const void *data, size_t length, int flags)
{
	before_send(fd);
	return __real_send(fd, data, length, flags);
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags)
{
	return after_receive(fd, __real_recvmsg(fd, msg, flags));
}

ssize_t __wrap_recv(int fd, void *data, size_t length, int flags)
{
	return after_receive(fd, __real_recv(fd, data, length, flags));
}

int __wrap_pthread_mutex_clocklock(pthread_mutex_t *mutex, clockid_t clock,
				   const struct timespec *until)
{
	const int64_t second = 1000000000;
	struct timespec theirs, ours, wall;
	int64_t end;

	clock_gettime(clock, &theirs);
	clock_gettime(CLOCK_REALTIME, &ours);
	end = (until->tv_sec - theirs.tv_sec + ours.tv_sec) * second +
	      until->tv_nsec - theirs.tv_nsec + ours.tv_nsec;
	wall.tv_sec = end / second;
	wall.tv_nsec = end % second;
	return pthread_mutex_timedlock(mutex, &wall);
}
