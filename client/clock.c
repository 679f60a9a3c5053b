/* SPDX-License-Identifier: BSD-2-Clause */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "client/engine.h"

/* The coarse clock's step: 4 ms, or 10 with the slowest tick there is. */
#define COARSE_STEP_NS 10000000ull

static uint64_t read_clock(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t cleat_now_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

uint64_t cleat_coarse_now_ns(void)
{
	return read_clock(CLOCK_MONOTONIC_COARSE);
}

uint64_t cleat_deadline_ns(uint64_t limit_ns)
{
	return cleat_coarse_now_ns() + COARSE_STEP_NS + limit_ns;
}

int cleat_tick_until(uint64_t deadline_ns)
{
	uint64_t now = cleat_coarse_now_ns();

	if (deadline_ns <= now)
		return 0;
	if (deadline_ns - now > CLEAT_TICK_MS * 1000000ull)
		return CLEAT_TICK_MS;
	return (int)((deadline_ns - now + 999999) / 1000000);
}

static atomic_uint forks;
static pthread_once_t forks_once = PTHREAD_ONCE_INIT;

static void count_fork(void)
{
	atomic_fetch_add_explicit(&forks, 1, memory_order_relaxed);
}

static void watch_forks(void)
{
	pthread_atfork(NULL, NULL, count_fork);
}

unsigned cleat_fork_count(void)
{
	/* getpid() is a system call; this is a load once it is set up. */
	pthread_once(&forks_once, watch_forks);
	return atomic_load_explicit(&forks, memory_order_relaxed);
}
