/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What programs without RCU do: a sorted array, searched by halves, under a
 * lock; a reference, so that the lock is not held over the store.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/dispatch.h"

struct region {
	uint64_t start;
	uint8_t *host;
	atomic_uint refs;
};

static struct region **sorted;
static unsigned num;
static struct region *extra;
static bool extra_in;
static int file = -1;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;

static struct region *make_region(uint64_t start)
{
	struct region *region = calloc(1, sizeof(*region));

	if (!region)
		return NULL;
	region->start = start;
	region->host = mmap(NULL, CLEAT_BENCH_PAGE, PROT_READ | PROT_WRITE,
			    MAP_SHARED, file, 0);
	if (region->host != MAP_FAILED)
		return region;
	free(region);
	return NULL;
}

static void free_region(struct region *region)
{
	if (!region)
		return;
	munmap(region->host, CLEAT_BENCH_PAGE);
	free(region);
}

static int create(unsigned regions)
{
	file = memfd_create("dispatch", MFD_CLOEXEC);
	if (file < 0 || ftruncate(file, CLEAT_BENCH_PAGE))
		return -errno;
	sorted = calloc(regions + 1, sizeof(*sorted));
	if (!sorted)
		return -ENOMEM;
	for (num = 0; num < regions; num++) {
		sorted[num] = make_region(CLEAT_BENCH_BASE +
					  num * CLEAT_BENCH_STRIDE);
		if (!sorted[num])
			return -ENOMEM;
	}
	extra = make_region(CLEAT_BENCH_BASE + num * CLEAT_BENCH_STRIDE);
	return extra ? 0 : -ENOMEM;
}

static void destroy(void)
{
	if (extra_in)
		num--;
	extra_in = false;
	while (num)
		free_region(sorted[--num]);
	free_region(extra);
	extra = NULL;
	free(sorted);
	sorted = NULL;
	if (file >= 0)
		close(file);
	file = -1;
}

/* Lock held. */
static struct region *get(uint64_t address)
{
	unsigned low = 0, high = num;

	while (low < high) {
		unsigned middle = low + (high - low) / 2;

		if (sorted[middle]->start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low || address - sorted[low - 1]->start >= CLEAT_BENCH_PAGE)
		return NULL;
	atomic_fetch_add_explicit(&sorted[low - 1]->refs, 1,
				  memory_order_relaxed);
	return sorted[low - 1];
}

static int store_and_put(struct region *region, uint64_t address,
			 uint32_t value)
{
	if (!region)
		return -ENOENT;
	__atomic_store_n((uint32_t *)(region->host + (address - region->start)),
			 value, __ATOMIC_RELEASE);
	atomic_fetch_sub_explicit(&region->refs, 1, memory_order_release);
	return 0;
}

/* Lock held. */
static void toggle(void)
{
	if (extra_in)
		num--;
	else
		sorted[num++] = extra;
	extra_in = !extra_in;
}

static int mutex_store(uint64_t address, uint32_t value)
{
	struct region *region;

	pthread_mutex_lock(&mutex);
	region = get(address);
	pthread_mutex_unlock(&mutex);
	return store_and_put(region, address, value);
}

static int mutex_update(void)
{
	pthread_mutex_lock(&mutex);
	toggle();
	pthread_mutex_unlock(&mutex);
	return 0;
}

static int rwlock_store(uint64_t address, uint32_t value)
{
	struct region *region;

	pthread_rwlock_rdlock(&rwlock);
	region = get(address);
	pthread_rwlock_unlock(&rwlock);
	return store_and_put(region, address, value);
}

static int rwlock_update(void)
{
	pthread_rwlock_wrlock(&rwlock);
	toggle();
	pthread_rwlock_unlock(&rwlock);
	return 0;
}

const struct bench_dispatch cleat_bench_mutex = {
	.name = "mutex",
	.create = create,
	.destroy = destroy,
	.store = mutex_store,
	.update = mutex_update,
};

const struct bench_dispatch cleat_bench_rwlock = {
	.name = "rwlock",
	.create = create,
	.destroy = destroy,
	.store = rwlock_store,
	.update = rwlock_update,
};
