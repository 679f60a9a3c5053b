/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "client/engine.h"

/**
 * struct cleat_watch
 * @removed: no more callbacks; freed by the thread if it is in one
 */
struct cleat_watch {
	int fd;
	cleat_watch_handler *handler;
	void *opaque;
	bool removed;
};

#define EVENTS_AT_ONCE 16

/*
 * The one thread. It ends when the last watch goes, and takes its descriptors
 * with it: a process that has closed its devices is as it was before.
 *
 * @removals: of watches, so far
 * @batch: what the thread took from epoll and has not yet run: a watch removed
 *         meanwhile is struck out
 */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t done;
	unsigned watches;
	unsigned removals;
	bool running;
	unsigned fork_count;
	int epoll_fd;
	int wake_fd;
	pthread_t thread;
	struct cleat_watch *current;
	struct epoll_event batch[EVENTS_AT_ONCE];
} loop = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.done = PTHREAD_COND_INITIALIZER,
	.epoll_fd = -1,
	.wake_fd = -1,
};

/* Lock held, but not while the handler runs. */
static void run_watch(struct cleat_watch *watch, uint32_t events)
{
	loop.current = watch;
	pthread_mutex_unlock(&loop.lock);
	watch->handler(watch->opaque, events);
	pthread_mutex_lock(&loop.lock);
	loop.current = NULL;
	if (watch->removed)
		free(watch);
	pthread_cond_broadcast(&loop.done);
}

/* Lock held: who wakes the loop after this has its effect on the next round. */
static void drain_wake(void)
{
	uint64_t count;

	if (read(loop.wake_fd, &count, sizeof(count)) < 0)
		return; /* nobody did */
}

/*
 * Lock held, but not while waiting. A watch removed meanwhile may be in
 * @events, and freed: then the kernel is asked again under the lock, where none
 * can be removed.
 */
static int fill_batch(void)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	unsigned removals = loop.removals;
	int num;

	pthread_mutex_unlock(&loop.lock);
	num = epoll_wait(loop.epoll_fd, events, EVENTS_AT_ONCE, -1);
	pthread_mutex_lock(&loop.lock);
	if (num <= 0)
		return num;
	if (loop.removals != removals)
		return epoll_wait(loop.epoll_fd, loop.batch, EVENTS_AT_ONCE, 0);
	memcpy(loop.batch, events, (unsigned)num * sizeof(events[0]));
	return num;
}

static void run_batch(int num)
{
	for (int i = 0; i < num; i++) {
		struct cleat_watch *watch = loop.batch[i].data.ptr;

		if (watch) {
			loop.batch[i].data.ptr = NULL;
			run_watch(watch, loop.batch[i].events);
		}
	}
}

static bool is_woken(int num)
{
	for (int i = 0; i < num; i++)
		if (!loop.batch[i].data.ptr)
			return true;
	return false;
}

static void *run_loop(void *unused)
{
	pthread_mutex_lock(&loop.lock);
	while (loop.watches) {
		int num = fill_batch();

		if (is_woken(num))
			drain_wake();
		run_batch(num);
	}
	cleat_close(&loop.epoll_fd);
	cleat_close(&loop.wake_fd);
	loop.running = false;
	pthread_mutex_unlock(&loop.lock);
	return NULL;
}

static int start_thread(void)
{
	sigset_t all, old;
	pthread_attr_t attr;
	int err;

	/* The VMM's signals are not for a thread it does not know. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	err = pthread_create(&loop.thread, &attr, run_loop, NULL);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -err;
}

/* Lock held. */
static int start_loop(void)
{
	struct epoll_event event = { .events = EPOLLIN };
	int err;

	if (loop.running)
		return 0;
	loop.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop.epoll_fd < 0 || loop.wake_fd < 0 ||
	    epoll_ctl(loop.epoll_fd, EPOLL_CTL_ADD, loop.wake_fd, &event))
		err = -errno;
	else
		err = start_thread();
	if (err) {
		cleat_close(&loop.epoll_fd);
		cleat_close(&loop.wake_fd);
		return err;
	}
	loop.running = true;
	return 0;
}

/* In a child of fork there is no thread, and the parent's epoll is not ours. */
static void notice_fork(void)
{
	unsigned forks = cleat_fork_count();

	if (loop.running && loop.fork_count != forks) {
		loop.running = false;
		loop.watches = 0;
		loop.current = NULL;
		cleat_close(&loop.epoll_fd);
		cleat_close(&loop.wake_fd);
	}
	loop.fork_count = forks;
}

static int add_watch(struct cleat_watch *watch, uint32_t epoll_events)
{
	struct epoll_event event = { .events = epoll_events,
				     .data.ptr = watch };
	int err;

	loop.watches++; /* (a thread that is on its way out stays) */
	err = start_loop();
	if (!err && epoll_ctl(loop.epoll_fd, EPOLL_CTL_ADD, watch->fd, &event))
		err = -errno;
	if (err)
		loop.watches--;
	return err;
}

static void wake_loop(void)
{
	uint64_t one = 1;

	if (loop.wake_fd >= 0 && write(loop.wake_fd, &one, sizeof(one)) < 0)
		return; /* full: it is awake */
}

int cleat_watch_add(int fd, uint32_t epoll_events, cleat_watch_handler *handler,
		    void *opaque, struct cleat_watch **ret_watch)
{
	struct cleat_watch *watch = calloc(1, sizeof(*watch));
	int err;

	if (!watch)
		return -ENOMEM;
	watch->fd = fd;
	watch->handler = handler;
	watch->opaque = opaque;
	pthread_mutex_lock(&loop.lock);
	notice_fork();
	err = add_watch(watch, epoll_events);
	if (err && !loop.watches)
		wake_loop();
	pthread_mutex_unlock(&loop.lock);
	if (err)
		free(watch);
	else
		*ret_watch = watch;
	return err;
}

/* Lock held: what was taken from epoll for this watch is not run. */
static void strike_out(struct cleat_watch *watch)
{
	for (int i = 0; i < EVENTS_AT_ONCE; i++)
		if (loop.batch[i].data.ptr == watch)
			loop.batch[i].data.ptr = NULL;
}

void cleat_watch_remove(struct cleat_watch *watch)
{
	bool inside;

	if (!watch)
		return;
	pthread_mutex_lock(&loop.lock);
	notice_fork();
	if (loop.running) {
		epoll_ctl(loop.epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
		strike_out(watch);
		loop.removals++;
		loop.watches--;
		if (!loop.watches)
			wake_loop();
	}
	inside = loop.current == watch;
	if (inside && pthread_equal(loop.thread, pthread_self())) {
		watch->removed = true;
	} else {
		while (loop.current == watch)
			pthread_cond_wait(&loop.done, &loop.lock);
		free(watch);
	}
	pthread_mutex_unlock(&loop.lock);
}
