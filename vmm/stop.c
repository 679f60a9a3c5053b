/* SPDX-License-Identifier: BSD-2-Clause */
/* How a run ends: somebody says so, everybody looks. */
#include <unistd.h>

#include "vmm/vmm.h"

bool cleat_vmm_stopping(struct vm *vm)
{
	return atomic_load(&vm->outcome) != OUTCOME_RUNNING;
}

void cleat_vmm_wake(struct vm *vm)
{
	uint64_t one = 1;

	/* Cannot fail but when it is full, and then it has been said. */
	if (write(vm->wake, &one, sizeof(one)) < 0)
		return;
}

void cleat_vmm_stop(struct vm *vm, enum outcome outcome)
{
	int running = OUTCOME_RUNNING;

	atomic_compare_exchange_strong(&vm->outcome, &running, (int)outcome);
	cleat_vmm_wake(vm);
}
