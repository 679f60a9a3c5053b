/* SPDX-License-Identifier: BSD-2-Clause */
/* Counters, and the JSON they are written as. */
#include <errno.h>

#include "backends/json.h"
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

	cleat_json_open(gen, title);
	for (unsigned i = 0; i < 256; i++)
		if (names[i])
			cleat_json_number(gen, names[i], counts[i]);
		else
			others += counts[i];
	cleat_json_number(gen, "unknown", others);
	yajl_gen_map_close(gen);
}

static void doorbells(yajl_gen gen, const struct cleat_nvme_stats *stats)
{
	cleat_json_open(gen, "doorbells");
	cleat_json_number(gen, "mapped", stats->doorbells[NVME_BY_MAPPED]);
	cleat_json_number(gen, "eventfd", stats->doorbells[NVME_BY_EVENTFD]);
	cleat_json_number(gen, "message", stats->doorbells[NVME_BY_MESSAGE]);
	cleat_json_number(gen, "bad", stats->doorbells_bad);
	yajl_gen_map_close(gen);
}

static void interrupts(yajl_gen gen, const struct cleat_nvme_stats *stats,
		       unsigned vectors)
{
	cleat_json_key(gen, "interrupts");
	yajl_gen_array_open(gen);
	for (unsigned i = 0; i < vectors; i++)
		yajl_gen_integer(gen, (long long)stats->interrupts[i]);
	yajl_gen_array_close(gen);
}

static void latency(yajl_gen gen, const struct cleat_nvme_stats *stats)
{
	cleat_json_open(gen, "latency_ns");
	cleat_json_number(gen, "count", stats->latency_count);
	cleat_json_number(gen, "median", cleat_nvme_stats_quantile(stats, 500));
	cleat_json_number(gen, "p99", cleat_nvme_stats_quantile(stats, 990));
	cleat_json_number(gen, "worst", stats->latency_worst_ns);
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

	cleat_json_key(gen, "doorbell_mode");
	cleat_json_key(gen, ways[way]);
	opcodes(gen, "admin", stats->admin, admin_names);
	opcodes(gen, "io", stats->io, io_names);
	cleat_json_number(gen, "failed", stats->failed);
	cleat_json_number(gen, "bytes_read", stats->bytes_read);
	cleat_json_number(gen, "bytes_written", stats->bytes_written);
	doorbells(gen, stats);
	interrupts(gen, stats, vectors);
	latency(gen, stats);
	cleat_json_number(gen, "cq_full", stats->cq_full);
	cleat_json_number(gen, "resets", stats->resets);
}

int cleat_nvme_stats_write(const struct cleat_nvme_stats *stats,
			   enum cleat_nvme_doorbells way, unsigned vectors,
			   int fd)
{
	yajl_gen gen = cleat_json_begin();

	if (!gen)
		return -ENOMEM;
	generate(gen, stats, way, vectors);
	return cleat_json_end(gen, fd);
}
