/* SPDX-License-Identifier: BSD-2-Clause */
/* What most rows measure: a bare ping-pong, and accesses to a region. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bench/messages.h"

#define HEADER 16u
#define ACCESS 16u
#define MOST_MESSAGE (1u << 20)

size_t cleat_bench_request_size(size_t size, bool write)
{
	return HEADER + ACCESS + (write ? size : 0);
}

size_t cleat_bench_reply_size(size_t size, bool write)
{
	return HEADER + ACCESS + (write ? 0 : size);
}

int cleat_bench_run_bare(const struct bench_messages *bench,
			 struct bench_way *way, struct bench_sample *ret)
{
	static char in[MOST_MESSAGE], out[MOST_MESSAGE];
	uint64_t *ns = calloc(bench->count, sizeof(*ns));
	unsigned spin_us = way->flags & BENCH_WAY_SPIN ? 1000 : 0;
	bool good = ns;

	for (unsigned i = 0; i < bench->count && good; i++) {
		uint64_t start = cleat_bench_now_ns();

		good = cleat_bench_give(way->fd, out, way->send) &&
		       cleat_bench_take(way->fd, in, way->receive, spin_us);
		ns[i] = cleat_bench_now_ns() - start;
	}
	if (good)
		*ret = cleat_bench_summary(ns, bench->count);
	free(ns);
	return good ? 0 : -EIO;
}

int cleat_bench_run_access(const struct bench_messages *bench,
			   struct bench_way *way, struct bench_sample *ret)
{
	static char buf[MOST_MESSAGE];
	uint64_t *ns = calloc(bench->count, sizeof(*ns));
	unsigned region = way->num;
	int err = ns ? 0 : -ENOMEM;

	for (unsigned i = 0; i < bench->count && !err; i++) {
		uint64_t start = cleat_bench_now_ns();

		err = way->flags & BENCH_WAY_WRITE ?
			      cleat_region_write(way->dev, region, 0, buf,
						 way->size) :
			      cleat_region_read(way->dev, region, 0, buf,
						way->size);
		ns[i] = cleat_bench_now_ns() - start;
	}
	if (!err)
		*ret = cleat_bench_summary(ns, bench->count);
	free(ns);
	return err;
}
