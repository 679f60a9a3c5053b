/* SPDX-License-Identifier: BSD-2-Clause */
/* Counters, and the JSON they are written as. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <yajl/yajl_gen.h>

#include "backends/nvme/nvme.h"
#include "backends/nvme/spec.h"

/*
 * Buckets: sixteen for each power of two, so that a value is known to within
 * a sixteenth; those below 16 have one each.
 */
static unsigned bucket(uint64_t ns)
{
	unsigned power, index;

	if (ns < 16)
		return (unsigned)ns;
	power = 63 - (unsigned)__builtin_clzll(ns);
	index = (power - 3) * 16 + (unsigned)(ns >> (power - 4) & 15);
	return index < NVME_LATENCY_BUCKETS ? index : NVME_LATENCY_BUCKETS - 1;
}

/* The largest value that falls into it. */
static uint64_t bucket_end(unsigned index)
{
	unsigned power = index / 16 + 3;

	if (index < 16)
		return index;
	return ((16 + index % 16 + 1ull) << (power - 4)) - 1;
}

void cleat_nvme_stats_latency(struct cleat_nvme_stats *stats, uint64_t ns)
{
	stats->latency[bucket(ns)]++;
	stats->latency_count++;
	if (ns > stats->latency_worst_ns)
		stats->latency_worst_ns = ns;
}

uint64_t cleat_nvme_stats_quantile(const struct cleat_nvme_stats *stats,
				   unsigned permille)
{
	uint64_t want = (stats->latency_count * permille + 999) / 1000;
	uint64_t seen = 0, end;

	if (!want)
		return 0;
	for (unsigned i = 0; i < NVME_LATENCY_BUCKETS; i++) {
		seen += stats->latency[i];
		end = bucket_end(i);
		if (seen >= want)
			return end < stats->latency_worst_ns ?
				       end :
				       stats->latency_worst_ns;
	}
	return stats->latency_worst_ns;
}

static void key(yajl_gen gen, const char *name)
{
	yajl_gen_string(gen, (const unsigned char *)name, strlen(name));
}

static void number(yajl_gen gen, const char *name, uint64_t value)
{
	key(gen, name);
	yajl_gen_integer(gen, (long long)value);
}

static const char *const admin_names[256] = {
	[NVME_ADMIN_DELETE_SQ] = "delete_sq",
	[NVME_ADMIN_CREATE_SQ] = "create_sq",
	[NVME_ADMIN_GET_LOG] = "get_log_page",
	[NVME_ADMIN_DELETE_CQ] = "delete_cq",
	[NVME_ADMIN_CREATE_CQ] = "create_cq",
	[NVME_ADMIN_IDENTIFY] = "identify",
	[NVME_ADMIN_ABORT] = "abort",
	[NVME_ADMIN_SET_FEATURES] = "set_features",
	[NVME_ADMIN_GET_FEATURES] = "get_features",
	[NVME_ADMIN_ASYNC_EVENT] = "async_event_request",
	[NVME_ADMIN_DBBUF] = "doorbell_buffer_config",
};

static const char *const io_names[256] = {
	[NVME_IO_FLUSH] = "flush",
	[NVME_IO_WRITE] = "write",
	[NVME_IO_READ] = "read",
	[NVME_IO_COMPARE] = "compare",
	[NVME_IO_WRITE_ZEROES] = "write_zeroes",
	[NVME_IO_DSM] = "dataset_management",
};

static void opcodes(yajl_gen gen, const char *title, const uint64_t *counts,
		    const char *const *names)
{
	uint64_t others = 0;

	key(gen, title);
	yajl_gen_map_open(gen);
	for (unsigned i = 0; i < 256; i++)
		if (names[i])
			number(gen, names[i], counts[i]);
		else
			others += counts[i];
	number(gen, "unknown", others);
	yajl_gen_map_close(gen);
}

static void doorbells(yajl_gen gen, const struct cleat_nvme_stats *stats)
{
	key(gen, "doorbells");
	yajl_gen_map_open(gen);
	number(gen, "mapped", stats->doorbells[NVME_BY_MAPPED]);
	number(gen, "eventfd", stats->doorbells[NVME_BY_EVENTFD]);
	number(gen, "message", stats->doorbells[NVME_BY_MESSAGE]);
	number(gen, "bad", stats->doorbells_bad);
	yajl_gen_map_close(gen);
}

static void interrupts(yajl_gen gen, const struct cleat_nvme_stats *stats,
		       unsigned vectors)
{
	key(gen, "interrupts");
	yajl_gen_array_open(gen);
	for (unsigned i = 0; i < vectors; i++)
		yajl_gen_integer(gen, (long long)stats->interrupts[i]);
	yajl_gen_array_close(gen);
}

static void latency(yajl_gen gen, const struct cleat_nvme_stats *stats)
{
	key(gen, "latency_ns");
	yajl_gen_map_open(gen);
	number(gen, "count", stats->latency_count);
	number(gen, "median", cleat_nvme_stats_quantile(stats, 500));
	number(gen, "p99", cleat_nvme_stats_quantile(stats, 990));
	number(gen, "worst", stats->latency_worst_ns);
	yajl_gen_map_close(gen);
}

static void generate(yajl_gen gen, const struct cleat_nvme_stats *stats,
		     enum cleat_nvme_doorbells way, unsigned vectors)
{
	static const char *const ways[] = {
		[NVME_TRAPPED] = "trapped",
		[NVME_MAPPED] = "mapped",
		[NVME_SHADOW] = "shadow",
		[NVME_IOEVENTFD] = "ioeventfd",
	};

	yajl_gen_map_open(gen);
	key(gen, "doorbell_mode");
	key(gen, ways[way]);
	opcodes(gen, "admin", stats->admin, admin_names);
	opcodes(gen, "io", stats->io, io_names);
	number(gen, "failed", stats->failed);
	number(gen, "bytes_read", stats->bytes_read);
	number(gen, "bytes_written", stats->bytes_written);
	doorbells(gen, stats);
	interrupts(gen, stats, vectors);
	latency(gen, stats);
	number(gen, "cq_full", stats->cq_full);
	number(gen, "resets", stats->resets);
	yajl_gen_map_close(gen);
}

static int put(int fd, const unsigned char *text, size_t length)
{
	off_t at = 0;

	if (ftruncate(fd, 0))
		return -errno;
	while (length) {
		ssize_t done = pwrite(fd, text, length, at);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done ? -errno : -EIO;
		text += done;
		at += done;
		length -= (size_t)done;
	}
	return 0;
}

int cleat_nvme_stats_write(const struct cleat_nvme_stats *stats,
			   enum cleat_nvme_doorbells way, unsigned vectors,
			   int fd)
{
	yajl_gen gen = yajl_gen_alloc(NULL);
	const unsigned char *text;
	size_t length;
	int err;

	if (!gen)
		return -ENOMEM;
	yajl_gen_config(gen, yajl_gen_beautify, 1);
	generate(gen, stats, way, vectors);
	if (yajl_gen_get_buf(gen, &text, &length) == yajl_gen_status_ok)
		err = put(fd, text, length);
	else
		err = -ENOMEM;
	yajl_gen_free(gen);
	return err;
}
