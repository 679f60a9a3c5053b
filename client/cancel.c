/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "client/engine.h"

/**
 * struct cleat_cancel
 * @word: what the thread sleeps on, while it sleeps; under @lock
 */
struct cleat_cancel {
	atomic_bool set;
	pthread_mutex_t lock;
	_Atomic uint32_t *word;
	struct cleat_parked *parked;
};

static __thread struct cleat_cancel *current;

int cleat_cancel_create(struct cleat_cancel **ret_cancel)
{
	struct cleat_cancel *cancel = calloc(1, sizeof(*cancel));

	if (!cancel)
		return -ENOMEM;
	pthread_mutex_init(&cancel->lock, NULL);
	*ret_cancel = cancel;
	return 0;
}

void cleat_cancel_destroy(struct cleat_cancel *cancel)
{
	if (!cancel)
		return;
	if (current == cancel)
		current = NULL;
	if (cancel->parked)
		cancel->parked->drop(cancel->parked);
	pthread_mutex_destroy(&cancel->lock);
	free(cancel);
}

void cleat_cancel_enter(struct cleat_cancel *cancel)
{
	current = cancel;
}

struct cleat_cancel *cleat_cancel_current(void)
{
	return current;
}

struct cleat_parked *cleat_cancel_parked(struct cleat_cancel *cancel)
{
	return cancel->parked;
}

void cleat_cancel_park(struct cleat_cancel *cancel, struct cleat_parked *parked)
{
	cancel->parked = parked;
}

bool cleat_cancel_is_set(struct cleat_cancel *cancel)
{
	return cancel &&
	       atomic_load_explicit(&cancel->set, memory_order_acquire);
}

void cleat_cancel_set(struct cleat_cancel *cancel)
{
	atomic_store(&cancel->set, true);
	/*
	 * A sleeper publishes its word before it looks at @set: either it sees
	 * the flag, or we see the word. The word is raised under the lock
	 * because after that the slot may be another thread's.
	 */
	pthread_mutex_lock(&cancel->lock);
	if (cancel->word) {
		atomic_store(cancel->word, 1);
		cleat_futex_wake(cancel->word);
	}
	pthread_mutex_unlock(&cancel->lock);
}

void cleat_cancel_clear(struct cleat_cancel *cancel)
{
	atomic_store(&cancel->set, false);
}

static void publish_word(struct cleat_cancel *cancel, _Atomic uint32_t *word)
{
	pthread_mutex_lock(&cancel->lock);
	cancel->word = word;
	pthread_mutex_unlock(&cancel->lock);
}

void cleat_futex_sleep(_Atomic uint32_t *word, uint32_t value,
		       uint64_t deadline_ns)
{
	struct timespec until = {
		.tv_sec = (time_t)(deadline_ns / 1000000000),
		.tv_nsec = (long)(deadline_ns % 1000000000),
	};
	struct cleat_cancel *cancel = current;

	if (cancel)
		publish_word(cancel, word);
	if (!cleat_cancel_is_set(cancel))
		syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, value,
			&until, NULL, FUTEX_BITSET_MATCH_ANY);
	if (cancel)
		publish_word(cancel, NULL);
}

void cleat_futex_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
