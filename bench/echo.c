/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/measure.h"

/* As a device's process does it: epoll, read, stamp, write. */
static void answer(const struct echo *echo)
{
	struct echo_shared *shared = echo->shared;
	struct epoll_event event = { .events = EPOLLIN };
	int loop = epoll_create1(EPOLL_CLOEXEC);
	uint64_t count, one = 1;

	if (loop < 0 || epoll_ctl(loop, EPOLL_CTL_ADD, echo->kick, &event))
		_exit(1);
	for (;;) {
		if (epoll_wait(loop, &event, 1, -1) != 1 ||
		    read(echo->kick, &count, sizeof(count)) != sizeof(count))
			continue;
		shared->stamps[shared->nr++ % ECHO_STAMPS] =
			cleat_bench_clock();
		if (write(echo->irq, &one, sizeof(one)) != sizeof(one))
			_exit(1);
	}
}

static int start_child(struct echo *echo)
{
	pid_t parent = getpid();

	echo->pid = fork();
	if (echo->pid < 0)
		return -errno;
	if (echo->pid)
		return 0;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	answer(echo);
	_exit(0);
}

int cleat_echo_start(struct echo *echo)
{
	void *shared = mmap(NULL, sizeof(*echo->shared), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int err;

	*echo = (struct echo){ .kick = -1, .irq = -1 };
	if (shared == MAP_FAILED)
		return -errno;
	echo->shared = shared;
	echo->kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	echo->irq = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	err = echo->kick < 0 || echo->irq < 0 ? -errno : start_child(echo);
	if (err)
		cleat_echo_stop(echo);
	return err;
}

void cleat_echo_stop(struct echo *echo)
{
	if (echo->pid > 0) {
		kill(echo->pid, SIGKILL);
		waitpid(echo->pid, NULL, 0);
	}
	if (echo->kick >= 0)
		close(echo->kick);
	if (echo->irq >= 0)
		close(echo->irq);
	if (echo->shared)
		munmap(echo->shared, sizeof(*echo->shared));
	*echo = (struct echo){ .kick = -1, .irq = -1 };
}
