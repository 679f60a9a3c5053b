/* SPDX-License-Identifier: BSD-2-Clause */
/* Between guest.c, which builds the machine, and guest-run.c, which runs it. */
#ifndef BENCH_GUEST_PRIVATE_H
#define BENCH_GUEST_PRIVATE_H

#include <linux/kvm.h>
#include <pthread.h>

#include "bench/guest-code.h"
#include "bench/guest.h"

/* An operation as the guest reads it. */
struct guest_code_op {
	uint16_t code;
	uint16_t stamp;
	uint32_t batch;
	uint64_t address;
	uint64_t value;
	uint64_t step;
	uint64_t count;
	uint64_t wait_at;
	uint64_t record;
	uint64_t result;
};

_Static_assert(sizeof(struct guest_code_op) == GUEST_OP_SIZE,
	       "the guest's code has these offsets");

/* What guest_start() hands to its thread. */
struct guest_job {
	pthread_t thread;
	struct guest *guest;
	unsigned cpu;
	struct guest_op *ops;
	unsigned nr;
	const struct guest_hooks *hooks;
	unsigned ms;
	int result;
};

struct guest_cpu {
	int fd;
	int stats_fd;
	struct kvm_run *run;
	struct guest_returns returns;
	struct guest_job job;
};

struct guest {
	int vm;
	int ram_fd;
	size_t run_size;
	size_t ram_size;
	uint8_t *ram;
	uint64_t next_table;
	uint64_t next_free;
	unsigned nr_cpus;
	struct guest_cpu cpus[GUEST_CPUS_MAX];
};

#endif
