/* SPDX-License-Identifier: BSD-2-Clause */
/* Dirty pages: none is ever missing, and not too many are there. */
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

#include "backends/probe/probe_regs.h"
#include "dma/dma.h"
#include "tests/migration/rig.h"

#define PROBE "backends/cleat-probe"
#define PAGE 4096ull
#define GIB (1ull << 30)

static uint64_t random_state = 88172645463325252ull;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	return random_state ^= random_state << 17;
}

/* --- The oracle ----------------------------------------------------------- */

/*
 * 4 GiB in ranges, the first of which begin and end on no word of a bitmap of
 * anybody's.
 */
static const struct {
	uint64_t guest, length;
} layout[] = {
	{ 0x3000, 0x9d000 },
	{ 0x100000, 0x2fff000 },
	{ 0x8007000, GIB },
	{ 4 * GIB, 3 * GIB - 0x4000000 },
};
#define RANGES (sizeof(layout) / sizeof(layout[0]))

struct oracle {
	struct cleat_memory *memory;
	uint8_t *ram[RANGES];
	uint8_t *dirty[RANGES]; /* a byte for each page */
	uint64_t set;
	uint64_t more; /* pages that a coarse bitmap had to add */
};

static void oracle_make(struct oracle *o)
{
	memset(o, 0, sizeof(*o));
	ATF_REQUIRE_EQ(0, cleat_memory_create(&o->memory));
	for (unsigned i = 0; i < RANGES; i++) {
		struct cleat_memory_range range = {
			.size = sizeof(range),
			.rights = CLEAT_READ | CLEAT_WRITE,
			.guest = layout[i].guest,
			.length = layout[i].length,
			.fd = -1,
		};

		o->ram[i] = range.host = mmap(
			NULL, range.length, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		ATF_REQUIRE(range.host != MAP_FAILED);
		o->dirty[i] = calloc(1, range.length / PAGE);
		ATF_REQUIRE_EQ(0, cleat_memory_add(o->memory, &range));
	}
}

static void oracle_free(struct oracle *o)
{
	cleat_memory_unref(o->memory);
	for (unsigned i = 0; i < RANGES; i++) {
		munmap(o->ram[i], layout[i].length);
		free(o->dirty[i]);
	}
}

static void note(struct oracle *o, unsigned i, uint64_t offset, uint64_t length)
{
	for (uint64_t page = offset / PAGE; page <= (offset + length - 1) / PAGE;
	     page++) {
		o->set += !o->dirty[i][page];
		o->dirty[i][page] = 1;
	}
}

/* One page by a bitmap of someone else's, at a page size and place of his. */
static void by_bitmap(struct oracle *o, unsigned i, uint64_t offset)
{
	uint64_t page = PAGE << next_random() % 4;
	uint64_t span = page * (1 + next_random() % 200);
	uint64_t start = offset / PAGE * PAGE, bitmap[4] = { 0 };
	uint64_t bit = next_random() % (span / page), from;

	if (start + span > layout[i].length)
		span = layout[i].length - start;
	bitmap[bit / 64] = 1ull << bit % 64;
	ATF_REQUIRE_EQ(0, cleat_memory_log_merge(o->memory,
						 layout[i].guest + start, span,
						 page, bitmap));
	from = bit * page;
	if (from >= span)
		return;
	if (page > span - from)
		page = span - from;
	o->more += page / PAGE - 1;
	note(o, i, start + from, page);
}

static void write_once(struct oracle *o)
{
	unsigned i = (unsigned)(next_random() % RANGES);
	uint64_t length = 1 + next_random() % 64;
	uint64_t offset = next_random() % (layout[i].length - length);
	uint8_t data[64] = { 1 };

	switch (next_random() % 3) {
	case 0:
		/* As a DMA_WRITE is served. */
		ATF_REQUIRE_EQ(0, cleat_dma_copy(o->memory,
						 layout[i].guest + offset, data,
						 8, CLEAT_WRITE));
		note(o, i, offset, 8);
		break;
	case 1:
		cleat_memory_mark_dirty(o->memory, layout[i].guest + offset,
					length);
		note(o, i, offset, length);
		break;
	default:
		by_bitmap(o, i, offset);
	}
}

static void found(struct oracle *o, uint64_t guest, uint64_t length)
{
	unsigned i = 0;

	while (guest - layout[i].guest >= layout[i].length)
		ATF_REQUIRE(++i < RANGES);
	ATF_REQUIRE(guest - layout[i].guest + length <= layout[i].length);
	for (uint64_t at = 0; at < length; at += PAGE) {
		uint8_t *page = &o->dirty[i][(guest - layout[i].guest + at) /
					     PAGE];

		ATF_REQUIRE_MSG(*page, "nobody wrote %#llx",
				(unsigned long long)(guest + at));
		*page = 0;
		o->set--;
	}
}

/* Takes everything, once: exactly what was written. */
static void take_all(struct oracle *o, uint64_t max)
{
	uint64_t guest = 0, length = 0;

	ATF_REQUIRE_EQ(o->set * PAGE, cleat_memory_log_dirty(o->memory));
	while (cleat_memory_log_take(o->memory, guest + length, max, &guest,
				     &length)) {
		ATF_REQUIRE(length && length <= max);
		found(o, guest, length);
	}
	ATF_REQUIRE_EQ(0, o->set);
	ATF_REQUIRE_EQ(0, cleat_memory_log_dirty(o->memory));
}

CLEAT_TC(account__a_million_writes)
{
	struct oracle o;

	oracle_make(&o);
	ATF_REQUIRE_EQ(0, cleat_memory_log_start(o.memory, 0, NULL));
	for (unsigned round = 0; round < 10; round++) {
		for (unsigned i = 0; i < 100000; i++)
			write_once(&o);
		take_all(&o, PAGE << 2 * (round % 8));
	}
	cleat_memory_log_stop(o.memory);
	oracle_free(&o);
}

CLEAT_TC(start__everything_dirty)
{
	struct oracle o;

	oracle_make(&o);
	ATF_REQUIRE_EQ(0, cleat_memory_log_start(o.memory, CLEAT_MEMORY_LOG_ALL,
						 NULL));
	ATF_CHECK_EQ(-EALREADY, cleat_memory_log_start(o.memory, 0, NULL));
	for (unsigned i = 0; i < RANGES; i++)
		note(&o, i, 0, layout[i].length);
	take_all(&o, 1ull << 30);
	cleat_memory_log_stop(o.memory);
	oracle_free(&o);
}

CLEAT_TC(merge__whole_words_and_rest)
{
	uint64_t bitmap[40];
	struct oracle o;

	oracle_make(&o);
	ATF_REQUIRE_EQ(0, cleat_memory_log_start(o.memory, 0, NULL));
	/* Every place in a word to begin at, every length up to some words;
	 * bits after the end are nobody's. */
	for (unsigned at = 0; at < 70; at++)
		for (unsigned pages = 1; pages < 300; pages += 7) {
			for (unsigned i = 0; i < 40; i++)
				bitmap[i] = next_random() | next_random();
			ATF_REQUIRE_EQ(0, cleat_memory_log_merge(
						  o.memory,
						  layout[2].guest + at * PAGE,
						  pages * PAGE, PAGE, bitmap));
			for (unsigned i = 0; i < pages; i++)
				if (bitmap[i / 64] >> i % 64 & 1)
					note(&o, 2, (at + i) * PAGE, 1);
			take_all(&o, PAGE * 1000);
		}
	cleat_memory_log_stop(o.memory);
	oracle_free(&o);
}

/* A bitmap over several ranges and what lies between. */
CLEAT_TC(merge__over_gaps)
{
	uint64_t bitmap[2048], pages = layout[1].guest + layout[1].length;
	struct oracle o;

	pages /= PAGE;
	ATF_REQUIRE(pages < 2048 * 64);
	memset(bitmap, 0xff, sizeof(bitmap));
	oracle_make(&o);
	ATF_REQUIRE_EQ(0, cleat_memory_log_start(o.memory, 0, NULL));
	ATF_REQUIRE_EQ(0, cleat_memory_log_merge(o.memory, 0, pages * PAGE,
						 PAGE, bitmap));
	note(&o, 0, 0, layout[0].length);
	note(&o, 1, 0, layout[1].length);
	take_all(&o, GIB);
	cleat_memory_log_stop(o.memory);
	oracle_free(&o);
}

CLEAT_TC(log__not_started)
{
	uint64_t guest, length, bitmap[1] = { 1 };
	struct oracle o;

	oracle_make(&o);
	ATF_CHECK_EQ(-ENODATA, cleat_memory_log_fetch(o.memory, 0));
	ATF_CHECK_EQ(-ENODATA, cleat_memory_log_take(o.memory, 0, PAGE, &guest,
						     &length));
	ATF_CHECK_EQ(-ENODATA, cleat_memory_log_merge(o.memory, 0x3000, PAGE,
						      PAGE, bitmap));
	cleat_memory_mark_dirty(o.memory, 0x3000, 1);
	cleat_memory_log_stop(o.memory);
	ATF_REQUIRE_EQ(0, cleat_memory_log_start(o.memory, 0, NULL));
	ATF_CHECK_EQ(0, cleat_memory_log_dirty(o.memory));
	ATF_CHECK_EQ(-EINVAL, cleat_memory_log_merge(o.memory, 0x3000, PAGE,
						     1000, bitmap));
	ATF_CHECK_EQ(-EINVAL, cleat_memory_log_merge(o.memory, 0x3001, PAGE,
						     PAGE, bitmap));
	ATF_CHECK_EQ(-EINVAL, cleat_memory_log_take(o.memory, 0, 100, &guest,
						    &length));
	oracle_free(&o);
}

static double cpu_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* 1 TiB at 4 KiB: a bitmap of 32 MiB, a quarter of its words not empty. */
CLEAT_TC(merge__a_tebibyte_in_time)
{
	const uint64_t length = 1ull << 40, words = length / PAGE / 64;
	struct cleat_memory_range range = { .size = sizeof(range),
					    .rights = CLEAT_WRITE,
					    .length = length,
					    .fd = -1 };
	struct cleat_memory *memory;
	uint64_t *bitmap = malloc(words * 8);
	double best = 1e9;

	skip_on_valgrind("it has no address space for it");
	range.host = mmap(NULL, length, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ATF_REQUIRE(range.host != MAP_FAILED);
	ATF_REQUIRE_EQ(0, cleat_memory_create(&memory));
	ATF_REQUIRE_EQ(0, cleat_memory_add(memory, &range));
	ATF_REQUIRE_EQ(0, cleat_memory_log_start(memory, 0, NULL));
	for (unsigned round = 0; round < 5; round++) {
		double start;

		for (uint64_t i = 0; i < words; i++)
			bitmap[i] = i % 4 == round % 4 ? next_random() : 0;
		start = cpu_ms();
		ATF_REQUIRE_EQ(0, cleat_memory_log_merge(memory, 0, length,
							 PAGE, bitmap));
		if (cpu_ms() - start < best)
			best = cpu_ms() - start;
	}
	printf("merge of 1 TiB: %.1f ms\n", best);
#ifdef __OPTIMIZE__
	ATF_CHECK_MSG(is_slowed() || best < 50, "%.1f ms", best);
#endif
	cleat_memory_unref(memory);
	munmap(range.host, length);
	free(bitmap);
}

/* --- Real servers --------------------------------------------------------- */

static void fill(struct end *end, uint64_t target, uint32_t length, bool pointer)
{
	end_set(end, PROBE_DMA_TARGET, (uint32_t)target);
	end_set(end, PROBE_DMA_LENGTH, length);
	end_set(end, PROBE_DMA_PATTERN, 0x5a5a5a5a);
	end_set(end, PROBE_DMA_GO,
		PROBE_DMA_FILL | (pointer ? PROBE_DMA_POINTER : 0));
	REQUIRE_SOON(end_get(end, PROBE_DMA_STATUS) == PROBE_DMA_DONE);
}

static void expect_run(struct end *end, uint64_t from, uint64_t guest,
		       uint64_t length)
{
	uint64_t at = 0, got = 0;

	ATF_REQUIRE_EQ(1, cleat_memory_log_take(end->memory, from, 1ull << 40,
						&at, &got));
	ATF_CHECK_EQ_MSG(guest, at, "%#llx", (unsigned long long)at);
	ATF_CHECK_EQ_MSG(length, got, "%#llx", (unsigned long long)got);
}

/* Some run that begins below @guest, or there, has it. */
static void expect_in_run(struct end *end, uint64_t guest)
{
	uint64_t at = 0, got = 0;

	ATF_REQUIRE_EQ(1, cleat_memory_log_take(end->memory, 0, 1ull << 30, &at,
						&got));
	ATF_CHECK_MSG(guest - at < got, "%#llx", (unsigned long long)at);
}

static void server_logs(const char *option)
{
	const char *const options[] = { option, NULL };
	struct end end;

	end_start(&end, PROBE, options);
	fill(&end, 0x1000, 100, true);
	ATF_REQUIRE_EQ(0, cleat_memory_log_start(end.memory, 0, NULL));
	fill(&end, 0x12ffe, 4, true);
	fill(&end, 0x200000, 0x3001, false);
	ATF_REQUIRE_EQ(0, cleat_memory_log_fetch(end.memory, 0));
	expect_run(&end, 0, 0x12000, 0x2000);
	expect_run(&end, 0, 0x200000, 0x4000);
	ATF_CHECK_EQ(0, cleat_memory_log_dirty(end.memory));
	/* Told once, and so not told again, in the last round neither. */
	ATF_REQUIRE_EQ(0, cleat_memory_log_fetch(end.memory,
						 CLEAT_MEMORY_LOG_FINAL));
	ATF_CHECK_EQ(0, cleat_memory_log_dirty(end.memory));
	cleat_memory_log_stop(end.memory);
	ATF_REQUIRE_EQ(0, cleat_memory_log_start(end.memory, 0, NULL));
	fill(&end, RAM_SIZE - 1, 1, true);
	ATF_REQUIRE_EQ(0, cleat_memory_log_fetch(end.memory, 0));
	expect_run(&end, 0, RAM_SIZE - 0x1000, 0x1000);
	end_stop(&end);
}

CLEAT_TC(server__second_generation)
{
	server_logs("--migration=v2");
}

CLEAT_TC(server__first_generation)
{
	server_logs("--migration=v1");
}

/* A range that no bitmap at pages of 4 KiB fits into one message of. */
#define HUGE_GUEST (64 * GIB)
#define HUGE_LENGTH (32 * GIB)

struct huge {
	int fd;
	void *host;
};

static void huge_add(struct huge *huge, struct end *end)
{
	struct cleat_memory_range range = {
		.size = sizeof(range),
		.rights = CLEAT_READ | CLEAT_WRITE,
		.guest = HUGE_GUEST,
		.length = HUGE_LENGTH,
	};

	range.fd = huge->fd = memfd(HUGE_LENGTH, 0);
	range.host = huge->host = mmap(NULL, HUGE_LENGTH,
				       PROT_READ | PROT_WRITE,
				       MAP_SHARED | MAP_NORESERVE, huge->fd, 0);
	ATF_REQUIRE(huge->host != MAP_FAILED);
	ATF_REQUIRE_EQ(0, cleat_memory_add(end->memory, &range));
}

static void huge_end(struct huge *huge)
{
	munmap(huge->host, HUGE_LENGTH);
	close(huge->fd);
}

/* The log's pages get larger than what another range's base is aligned to. */
static void odd_range(const char *option)
{
	const char *const options[] = { option, NULL };
	struct cleat_memory_range odd = {
		.size = sizeof(odd),
		.rights = CLEAT_READ | CLEAT_WRITE,
		.guest = 0x10001000,
		.length = 0x5000,
	};
	struct huge huge;
	struct end end;

	skip_on_valgrind("it has no address space for it");
	end_start(&end, PROBE, options);
	huge_add(&huge, &end);
	odd.host = end.ram;
	odd.fd = end.ram_fd;
	ATF_REQUIRE_EQ(0, cleat_memory_add(end.memory, &odd));
	ATF_REQUIRE_EQ(0, cleat_memory_log_start(end.memory, 0, NULL));
	fill(&end, 0x10003ff8, 8, true);
	ATF_REQUIRE_EQ(0, cleat_memory_log_fetch(end.memory,
						 CLEAT_MEMORY_LOG_FINAL));
	ATF_CHECK(cleat_memory_log_dirty(end.memory) <= 4 * PAGE);
	expect_in_run(&end, 0x10003000);
	end_stop(&end);
	huge_end(&huge);
}

CLEAT_TC(server__range_at_an_odd_page)
{
	odd_range("--migration=v2");
}

CLEAT_TC(server__range_at_an_odd_page_of_v1)
{
	odd_range("--migration=v1");
}

/* It cannot be asked about; of the others the server still tells. */
CLEAT_TC(server__huge_range_added_later)
{
	struct huge huge;
	struct end end;

	skip_on_valgrind("it has no address space for it");
	end_start(&end, PROBE, NULL);
	ATF_REQUIRE_EQ(0, cleat_memory_log_start(end.memory, 0, NULL));
	huge_add(&huge, &end);
	expect_run(&end, 0, HUGE_GUEST, HUGE_LENGTH);
	fill(&end, 0x5000, 10, true);
	ATF_REQUIRE_EQ(0, cleat_memory_log_fetch(end.memory, 0));
	expect_run(&end, 0, 0x5000, 0x1000);
	expect_run(&end, 0, HUGE_GUEST, HUGE_LENGTH);
	/* Once, so that rounds come to an end; and in the last. */
	fill(&end, 0x7000, 10, true);
	ATF_REQUIRE_EQ(0, cleat_memory_log_fetch(end.memory, 0));
	expect_run(&end, 0, 0x7000, 0x1000);
	ATF_CHECK_EQ(0, cleat_memory_log_dirty(end.memory));
	ATF_REQUIRE_EQ(0, cleat_memory_log_fetch(end.memory,
						 CLEAT_MEMORY_LOG_FINAL));
	expect_run(&end, 0, HUGE_GUEST, HUGE_LENGTH);
	ATF_CHECK_EQ(0, cleat_memory_log_dirty(end.memory));
	end_stop(&end);
	huge_end(&huge);
}

/* By message: no server is asked, and all is seen before any report. */
CLEAT_TC(server__in_secure_mode)
{
	struct end end;

	end_start_with(&end, PROBE, NULL, CLEAT_DEVICE_SECURE);
	ATF_REQUIRE_EQ(0, cleat_memory_log_start(end.memory, 0, NULL));
	fill(&end, 0x2000, 0x1000, false);
	expect_run(&end, 0, 0x2000, 0x1000);
	/* Nor is it one that cannot log. */
	ATF_REQUIRE_EQ(0, cleat_memory_log_fetch(end.memory,
						 CLEAT_MEMORY_LOG_FINAL));
	ATF_CHECK_EQ(0, cleat_memory_log_dirty(end.memory));
	end_stop(&end);
}

CLEAT_TC(server__range_without_a_file)
{
	struct cleat_memory_range range = { .size = sizeof(range),
					    .rights = CLEAT_READ | CLEAT_WRITE,
					    .guest = 0x10000000,
					    .length = 1 << 20,
					    .fd = -1 };
	struct end end;

	end_start(&end, PROBE, NULL);
	range.host = end.ram;
	ATF_REQUIRE_EQ(0, cleat_memory_add(end.memory, &range));
	ATF_REQUIRE_EQ(0, cleat_memory_log_start(end.memory, 0, NULL));
	fill(&end, 0x10002000, 0x1000, false);
	expect_run(&end, 0, 0x10002000, 0x1000);
	end_stop(&end);
}

CLEAT_TC(remove__makes_dirty)
{
	struct end end;

	end_start(&end, PROBE, NULL);
	ATF_REQUIRE_EQ(0, cleat_memory_log_start(end.memory, 0, NULL));
	fill(&end, 0x5000, 10, true);
	ATF_REQUIRE_EQ(0, cleat_memory_remove(end.memory, 0, RAM_SIZE));
	expect_run(&end, 0, 0, RAM_SIZE);
	cleat_memory_log_stop(end.memory);
	end_stop(&end);
}

/* The first generation tells what was written in it. */
CLEAT_TC(remove__tells_what_is_dirty)
{
	const char *const v1[] = { "--migration=v1", NULL };
	struct end end;

	end_start(&end, PROBE, v1);
	ATF_REQUIRE_EQ(0, cleat_memory_log_start(end.memory, 0, NULL));
	fill(&end, 0x5ffe, 10, true);
	ATF_REQUIRE_EQ(0, cleat_memory_remove(end.memory, 0, RAM_SIZE));
	ATF_CHECK_EQ(0x2000, cleat_memory_log_dirty(end.memory));
	expect_run(&end, 0, 0x5000, 0x2000);
	cleat_memory_log_stop(end.memory);
	end_stop(&end);
}

/* Other memory may stand where there was some: nobody has copied that. */
CLEAT_TC(add__again_makes_dirty)
{
	struct cleat_memory_range range = { .size = sizeof(range),
					    .rights = CLEAT_READ | CLEAT_WRITE,
					    .guest = 0x10000000,
					    .length = 1 << 20,
					    .fd = -1 };
	struct end end;

	end_start(&end, PROBE, NULL);
	range.host = end.ram;
	ATF_REQUIRE_EQ(0, cleat_memory_add(end.memory, &range));
	ATF_REQUIRE_EQ(0, cleat_memory_log_start(end.memory, 0, NULL));
	ATF_REQUIRE_EQ(0, cleat_memory_remove(end.memory, range.guest,
					      range.length));
	ATF_CHECK_EQ(0, cleat_memory_log_dirty(end.memory));
	ATF_REQUIRE_EQ(0, cleat_memory_add(end.memory, &range));
	expect_run(&end, 0, range.guest, range.length);
	cleat_memory_log_stop(end.memory);
	end_stop(&end);
}

/* What a device that is gone has written nobody can say. */
CLEAT_TC(lost__makes_dirty)
{
	struct end end;

	end_start(&end, PROBE, NULL);
	ATF_REQUIRE_EQ(0, cleat_memory_log_start(end.memory, 0, NULL));
	child_end(&end.child);
	REQUIRE_SOON(cleat_device_failure(end.dev, NULL));
	ATF_REQUIRE_EQ(0, cleat_memory_log_fetch(end.memory, 0));
	expect_run(&end, 0, 0, RAM_SIZE);
	ATF_REQUIRE_EQ(0, cleat_memory_log_fetch(end.memory,
						 CLEAT_MEMORY_LOG_FINAL));
	expect_run(&end, 0, 0, RAM_SIZE);
	cleat_memory_log_stop(end.memory);
	end_stop(&end);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, account__a_million_writes);
	ATF_TP_ADD_TC(tp, start__everything_dirty);
	ATF_TP_ADD_TC(tp, merge__whole_words_and_rest);
	ATF_TP_ADD_TC(tp, merge__over_gaps);
	ATF_TP_ADD_TC(tp, log__not_started);
	ATF_TP_ADD_TC(tp, merge__a_tebibyte_in_time);
	ATF_TP_ADD_TC(tp, server__second_generation);
	ATF_TP_ADD_TC(tp, server__first_generation);
	ATF_TP_ADD_TC(tp, server__range_at_an_odd_page);
	ATF_TP_ADD_TC(tp, server__range_at_an_odd_page_of_v1);
	ATF_TP_ADD_TC(tp, server__huge_range_added_later);
	ATF_TP_ADD_TC(tp, server__in_secure_mode);
	ATF_TP_ADD_TC(tp, server__range_without_a_file);
	ATF_TP_ADD_TC(tp, remove__makes_dirty);
	ATF_TP_ADD_TC(tp, remove__tells_what_is_dirty);
	ATF_TP_ADD_TC(tp, add__again_makes_dirty);
	ATF_TP_ADD_TC(tp, lost__makes_dirty);
	return atf_no_error();
}
