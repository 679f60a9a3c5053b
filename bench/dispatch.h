/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a vCPU's thread does for one trapped store, under different locks: find
 * what is behind the address, take a reference, store to the device's mapped
 * page, let go.
 */
#ifndef BENCH_DISPATCH_H
#define BENCH_DISPATCH_H

#include <stdint.h>

#define CLEAT_BENCH_BASE 0x100000000ull
#define CLEAT_BENCH_STRIDE 0x2000ull
#define CLEAT_BENCH_PAGE 0x1000ull

/**
 * struct bench_dispatch - one way of doing it
 * @name:   for the table
 * @create: @regions of a page each, the first at CLEAT_BENCH_BASE, one at each
 *          CLEAT_BENCH_STRIDE; 0 or -errno
 * @destroy: what create() made; also after its failure
 * @store:  four bytes to an address
 * @update: take one more region in behind the others, or out again; one thread
 */
struct bench_dispatch {
	const char *name;
	int (*create)(unsigned regions);
	void (*destroy)(void);
	int (*store)(uint64_t address, uint32_t value);
	int (*update)(void);
};

extern const struct bench_dispatch cleat_bench_mutex;
extern const struct bench_dispatch cleat_bench_rwlock;
/* The library with RCU that its user brings, and with its own. */
extern const struct bench_dispatch cleat_bench_memb;
extern const struct bench_dispatch cleat_bench_qsbr;
extern const struct bench_dispatch cleat_bench_rcu;

#endif
