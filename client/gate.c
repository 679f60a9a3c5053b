/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "client/engine.h"

enum {
	FREE = 0,
	HELD = 1,
	WAITED_FOR = 2,
};

bool cleat_gate_try(struct cleat_gate *gate)
{
	uint32_t expected = FREE;

	/*
	 * Failing orders too: who leaves what is to be sent with the holder has
	 * published it before, and the holder looks after cleat_gate_leave().
	 */
	return atomic_compare_exchange_strong(&gate->word, &expected, HELD);
}

bool cleat_gate_wait(struct cleat_gate *gate)
{
	struct timespec tick = { .tv_nsec = CLEAT_TICK_MS * 1000000l };

	/*
	 * Who gets it here leaves the mark that it is waited for, though
	 * perhaps nobody does: one wake too many, never one too few.
	 */
	while (atomic_exchange_explicit(&gate->word, WAITED_FOR,
					memory_order_acquire) != FREE)
		if (syscall(SYS_futex, &gate->word, FUTEX_WAIT_PRIVATE,
			    WAITED_FOR, &tick, NULL, 0) &&
		    errno != EAGAIN)
			return false;
	return true;
}

void cleat_gate_leave(struct cleat_gate *gate)
{
	if (atomic_exchange_explicit(&gate->word, FREE, memory_order_seq_cst) ==
	    WAITED_FOR)
		cleat_futex_wake(&gate->word);
}
