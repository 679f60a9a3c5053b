/* SPDX-License-Identifier: BSD-2-Clause */
#include <poll.h>
#include <time.h>

#include "tests/support/support.h"

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

struct deadline deadline_in(unsigned ms)
{
	uint64_t now = now_ns();

	return (struct deadline){ now, now + (uint64_t)ms * 1000000u };
}

int deadline_left(const struct deadline *deadline)
{
	uint64_t now = now_ns();

	if (now >= deadline->end_ns)
		return 0;
	return (int)((deadline->end_ns - now + 999999u) / 1000000u);
}

unsigned deadline_spent(const struct deadline *deadline)
{
	return (unsigned)((now_ns() - deadline->start_ns) / 1000000u);
}

bool wait_fd(int fd, short events, unsigned ms)
{
	struct deadline deadline = deadline_in(ms);
	struct pollfd poller = { .fd = fd, .events = events };
	int result;

	do {
		result = poll(&poller, 1, deadline_left(&deadline));
	} while (result < 0 && errno == EINTR);
	return result > 0;
}

uint64_t wait_eventfd(int fd, unsigned ms)
{
	uint64_t count = 0;

	if (!wait_fd(fd, POLLIN, ms))
		return 0;
	if (read(fd, &count, sizeof(count)) != sizeof(count))
		return 0;
	return count;
}
