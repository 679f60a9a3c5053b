/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dma/private.h"
#include "wire/wire.h"

static bool unaligned(uint64_t value)
{
	return value % CLEAT_DMA_PAGE;
}

static int check_numbers(const struct cleat_memory_range *from)
{
	uint64_t end;

	if (from->size < sizeof(*from) || !from->length || !from->host)
		return -EINVAL;
	if (!from->rights || (from->rights & ~(CLEAT_READ | CLEAT_WRITE)))
		return -EINVAL;
	if (unaligned(from->guest) || unaligned(from->length))
		return -EINVAL;
	if (__builtin_add_overflow(from->guest, from->length, &end))
		return -ERANGE;
	if (__builtin_add_overflow((uintptr_t)from->host, from->length, &end))
		return -ERANGE;
	return 0;
}

static int check_file(const struct cleat_memory_range *from)
{
	struct stat stat;
	uint64_t end;
	int flags;

	if (unaligned(from->offset))
		return -EINVAL;
	flags = fcntl(from->fd, F_GETFL);
	if (flags < 0 || fstat(from->fd, &stat) < 0)
		return -errno;
	/* To map a file for writing only, it must be open for reading too. */
	if ((flags & O_ACCMODE) == O_WRONLY ||
	    ((from->rights & CLEAT_WRITE) && (flags & O_ACCMODE) != O_RDWR))
		return -EACCES;
	if (__builtin_add_overflow(from->offset, from->length, &end) ||
	    end > INT64_MAX)
		return -ERANGE;
	/* Memory devices have no size to compare with. */
	if (S_ISCHR(stat.st_mode))
		return 0;
	if (!S_ISREG(stat.st_mode))
		return -EINVAL;
	return end > (uint64_t)stat.st_size ? -ERANGE : 0;
}

static int check(const struct cleat_memory_range *from)
{
	int err = check_numbers(from);

	if (!err && from->fd >= 0)
		err = check_file(from);
	return err;
}

static void own_part(struct cleat_dma_range *range)
{
	range->own.guest = range->guest;
	range->own.length = range->length;
	range->parts = &range->own;
	range->num_parts = 1;
}

int cleat_dma_range_create(const struct cleat_memory_range *from,
			   struct cleat_dma_range **ret_range)
{
	struct cleat_dma_range *range;
	int err = check(from);

	if (err)
		return err;
	range = calloc(1, sizeof(*range));
	if (!range)
		return -ENOMEM;
	range->guest = from->guest;
	range->length = from->length;
	range->offset = from->fd >= 0 ? from->offset : 0;
	range->host = from->host;
	range->rights = from->rights;
	range->refs = 1;
	own_part(range);
	if (from->fd >= 0)
		err = cleat_dma_file_get(from->fd, from->rights & CLEAT_WRITE,
					 &range->file);
	if (err) {
		free(range);
		return err;
	}
	range->fd = range->file ? range->file->fd : -1;
	*ret_range = range;
	return 0;
}

void cleat_dma_range_free(struct cleat_dma_range *range)
{
	cleat_dma_file_put(range->file);
	if (range->parts != &range->own)
		free(range->parts);
	free(range->next_parts);
	free(range);
}

int cleat_dma_range_copy(const struct cleat_dma_range *from, uint64_t guest,
			 uint64_t length, struct cleat_dma_range **ret_range)
{
	struct cleat_dma_range *range = calloc(1, sizeof(*range));

	if (!range)
		return -ENOMEM;
	range->guest = guest;
	range->length = length;
	range->offset = from->fd >= 0 ? from->offset + (guest - from->guest) :
					0;
	range->host = from->host + (guest - from->guest);
	range->rights = from->rights;
	range->refs = 1;
	range->file = cleat_dma_file_ref(from->file);
	range->fd = from->fd;
	own_part(range);
	*ret_range = range;
	return 0;
}

void cleat_dma_range_use_next(struct cleat_dma_range *range)
{
	if (range->parts != &range->own)
		free(range->parts);
	range->parts = range->next_parts;
	range->num_parts = range->num_next_parts;
	range->next_parts = NULL;
}

bool cleat_dma_range_get(struct cleat_dma_range *range)
{
	unsigned refs = __atomic_load_n(&range->refs, __ATOMIC_RELAXED);

	do {
		if (!refs)
			return false;
		/* Acquire: the copy may not begin before it is counted. */
	} while (!__atomic_compare_exchange_n(&range->refs, &refs, refs + 1,
					      true, __ATOMIC_ACQUIRE,
					      __ATOMIC_RELAXED));
	return true;
}

void cleat_dma_range_put(struct cleat_memory *memory,
			 struct cleat_dma_range *range)
{
	/* Release: whoever frees the range must see the copy done. */
	if (__atomic_sub_fetch(&range->refs, 1, __ATOMIC_ACQ_REL))
		return;
	pthread_mutex_lock(&memory->idle_lock);
	range->dead = true;
	pthread_cond_broadcast(&memory->idle);
	pthread_mutex_unlock(&memory->idle_lock);
}

void cleat_dma_range_kill(struct cleat_memory *memory,
			  struct cleat_dma_range *range)
{
	cleat_dma_range_put(memory, range);
	pthread_mutex_lock(&memory->idle_lock);
	while (!range->dead)
		pthread_cond_wait(&memory->idle, &memory->idle_lock);
	pthread_mutex_unlock(&memory->idle_lock);
}
