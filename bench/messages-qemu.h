/* SPDX-License-Identifier: BSD-2-Clause */
/* Programs of others, of cleat-bench-messages. */
#ifndef BENCH_MESSAGES_QEMU_H
#define BENCH_MESSAGES_QEMU_H

#include <stdatomic.h>

#include "bench/messages.h"

/**
 * struct bench_turn - what the timed server and we both see
 * @ready: the guest asks for work
 * @go:    so many reads, or stores with FIRMWARE_STORES; taken by the server
 * @done:  the guest has done them, from @start_ns to @end_ns
 */
struct bench_turn {
	_Atomic uint32_t ready;
	_Atomic uint32_t go;
	_Atomic uint32_t done;
	uint64_t start_ns;
	uint64_t end_ns;
};

/* messages-timed.c: in a process of its own; does not return. */
void cleat_bench_serve_timed(struct bench_turn *turn, const char *path)
	__attribute__((noreturn));

/* messages-foreign.c */
/* A process on the cores of a pinning's client or server; in the child 0. */
pid_t cleat_bench_fork(enum bench_pinning pinning, bool client);
void cleat_bench_kill(pid_t pid);
/* A device on a server that is just starting. */
int cleat_bench_open_path(const char *path, uint32_t spin_us,
			  struct cleat_device **ret);
/*
 * The mean of @count reads; or of posted stores and a read with
 * BENCH_WAY_WRITE; or of stores in batches and a read with @size, of so many.
 */
int cleat_bench_run_mean(const struct bench_messages *bench,
			 struct bench_way *way, struct bench_sample *ret);

#endif
