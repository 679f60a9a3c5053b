/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The dirty log: one bit for each page of 4 KiB, in windows that cover every
 * range there is or has been since logging began. Whoever sets a bit has made
 * his write before; whoever clears one copies the page afterwards. Both are
 * full barriers: a bit may not be looked at first and left alone because it is
 * set, when the write it stands for is still in a store buffer.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dma/private.h"
#include "wire/wire.h"

#define PAGE ((uint64_t)CLEAT_MEMORY_LOG_PAGE)
#define BITS 64u
#define ONES (~UINT64_C(0))

/**
 * struct window - a run of guest memory that is logged
 * @pages: bits in @bits
 */
struct window {
	struct window *next;
	uint64_t guest;
	uint64_t pages;
	uint64_t bits[];
};

/**
 * struct cleat_dma_log - everything that is logged
 * @table: address to window; disjoint
 */
struct cleat_dma_log {
	struct cleat_table *table;
	struct window *windows;
};

static void set_bits(struct window *window, uint64_t word, uint64_t mask)
{
	__atomic_fetch_or(&window->bits[word], mask, __ATOMIC_SEQ_CST);
}

/* Bits [first, first + count) of one word; count is not 0. */
static uint64_t mask_of(unsigned first, unsigned count)
{
	return ONES >> (BITS - count) << first;
}

static void set_run(struct window *window, uint64_t first, uint64_t count)
{
	while (count) {
		unsigned at = (unsigned)(first % BITS);
		unsigned part = count < BITS - at ? (unsigned)count : BITS - at;

		set_bits(window, first / BITS, mask_of(at, part));
		first += part;
		count -= part;
	}
}

/* The lowest run of ones. */
static uint64_t lowest_run(uint64_t bits, unsigned *ret_first,
			   unsigned *ret_count)
{
	unsigned first = (unsigned)__builtin_ctzll(bits);
	uint64_t rest = ~(bits >> first);
	unsigned count = rest ? (unsigned)__builtin_ctzll(rest) : BITS;

	*ret_first = first;
	*ret_count = count;
	return mask_of(first, count);
}

/* --- Windows ------------------------------------------------------------- */

static int add_window(struct cleat_dma_log *log, uint64_t guest,
		      uint64_t length, bool dirty)
{
	uint64_t pages = length / PAGE;
	struct window *window =
		calloc(1, sizeof(*window) + (pages + BITS - 1) / BITS * 8);
	struct cleat_table_range entry = { guest, length, window };
	int err;

	if (!window)
		return -ENOMEM;
	window->guest = guest;
	window->pages = pages;
	if (dirty)
		set_run(window, 0, pages);
	err = cleat_table_add(log->table, &entry);
	if (err) {
		free(window);
		return err;
	}
	window->next = log->windows;
	log->windows = window;
	return 0;
}

/* The first part of [@start, @end) that no window covers yet. */
struct gap {
	uint64_t start;
	uint64_t end;
};

static int find_gap(void *opaque, const struct cleat_table_range *found)
{
	struct gap *gap = opaque;

	if (found->start > gap->start) {
		gap->end = found->start;
		return 1;
	}
	gap->start = found->start + found->length;
	return 0;
}

static int cover(struct cleat_dma_log *log, uint64_t guest, uint64_t length,
		 bool dirty)
{
	uint64_t end = guest + length;
	int err = 0;

	while (!err && guest < end) {
		struct gap gap = { guest, end };

		cleat_table_visit(log->table, guest, end - guest, find_gap,
				  &gap);
		if (gap.start >= end)
			break;
		err = add_window(log, gap.start, gap.end - gap.start, dirty);
		guest = gap.end;
	}
	return err;
}

int cleat_dma_log_cover(struct cleat_memory *memory,
			const struct cleat_dma_range *range)
{
	int err;

	if (!memory->log)
		return 0;
	err = cover(memory->log, range->guest, range->length, false);
	/* Nobody has copied any of it, whatever was there before it. */
	if (!err)
		cleat_dma_log_mark(memory, range);
	return err;
}

static void free_log(struct cleat_dma_log *log)
{
	cleat_table_destroy(log->table);
	while (log->windows) {
		struct window *window = log->windows;

		log->windows = window->next;
		free(window);
	}
	free(log);
}

static int make_log(struct cleat_memory *memory, bool dirty,
		    struct cleat_dma_log **ret)
{
	struct cleat_dma_log *log = calloc(1, sizeof(*log));
	struct cleat_dma_range *range;
	int err;

	if (!log)
		return -ENOMEM;
	err = cleat_table_create(12, &log->table);
	for (range = memory->ranges; range && !err; range = range->next)
		err = cover(log, range->guest, range->length, dirty);
	if (err) {
		free_log(log);
		return err;
	}
	*ret = log;
	return 0;
}

static int start(struct cleat_memory *memory, uint32_t flags)
{
	struct cleat_dma_log *log;
	int err;

	if (memory->log)
		return -EALREADY;
	err = make_log(memory, flags & CLEAT_MEMORY_LOG_ALL, &log);
	if (err)
		return err;
	__atomic_store_n(&memory->log, log, __ATOMIC_SEQ_CST);
	cleat_dma_log_start_all(memory);
	return 0;
}

int cleat_memory_log_start(struct cleat_memory *memory, uint32_t flags,
			   struct cleat_error *reterr)
{
	int err = -EINVAL;

	if (!(flags & ~CLEAT_MEMORY_LOG_ALL)) {
		pthread_mutex_lock(&memory->lock);
		err = start(memory, flags);
		pthread_mutex_unlock(&memory->lock);
	}
	if (err)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
				  "dirty log: %s", strerror(-err));
	return 0;
}

void cleat_dma_log_drop(struct cleat_memory *memory)
{
	struct cleat_dma_log *log = memory->log;

	if (!log)
		return;
	__atomic_store_n(&memory->log, NULL, __ATOMIC_SEQ_CST);
	/* Nobody finds it after this; then those who had found it are done. */
	cleat_synchronize();
	free_log(log);
}

void cleat_memory_log_stop(struct cleat_memory *memory)
{
	pthread_mutex_lock(&memory->lock);
	if (memory->log)
		cleat_dma_log_stop_all(memory);
	cleat_dma_log_drop(memory);
	pthread_mutex_unlock(&memory->lock);
}

/* Inside a read section. */
static struct cleat_dma_log *current_log(struct cleat_memory *memory)
{
	return __atomic_load_n(&memory->log, __ATOMIC_ACQUIRE);
}

/* --- Setting ------------------------------------------------------------- */

/* Bytes, clipped to a window. */
struct run {
	uint64_t first;
	uint64_t last;
};

static int mark_window(void *opaque, const struct cleat_table_range *found)
{
	struct window *window = found->entry;
	const struct run *run = opaque;
	uint64_t first = 0, last = window->pages - 1;

	if (run->first > window->guest)
		first = (run->first - window->guest) / PAGE;
	if (run->last - window->guest < window->pages * PAGE)
		last = (run->last - window->guest) / PAGE;
	set_run(window, first, last - first + 1);
	return 0;
}

void cleat_memory_mark_dirty(struct cleat_memory *memory, uint64_t guest,
			     uint64_t length)
{
	struct run run = { guest, guest + length - 1 };
	struct cleat_dma_log *log;

	if (!length || !__atomic_load_n(&memory->log, __ATOMIC_RELAXED))
		return;
	if (run.last < guest)
		run.last = UINT64_MAX;
	cleat_read_lock();
	log = current_log(memory);
	if (log)
		cleat_table_visit(log->table, guest, run.last - guest + 1,
				  mark_window, &run);
	cleat_read_unlock();
}

/* --- Merging ------------------------------------------------------------- */

/**
 * struct merge - somebody's bitmap, on its way into the windows
 * @shift: log2 of its page
 */
struct merge {
	uint64_t guest;
	uint64_t length;
	unsigned shift;
	const uint64_t *bitmap;
};

/*
 * What these bits stand for was written before they were told, so that one that
 * is there already may be left alone.
 */
static void or_word(uint64_t *to, uint64_t bits)
{
	if (bits & ~__atomic_load_n(to, __ATOMIC_RELAXED))
		__atomic_fetch_or(to, bits, __ATOMIC_SEQ_CST);
}

/* Up to 64 bits from any bit on; none past the last. */
static uint64_t get_bits(const uint64_t *from, uint64_t first, unsigned count)
{
	unsigned at = (unsigned)(first % BITS);
	uint64_t bits = from[first / BITS] >> at;

	if (at && count > BITS - at)
		bits |= from[first / BITS + 1] << (BITS - at);
	return bits & mask_of(0, count);
}

/* The same page size on both sides; @to begins on a word for most windows. */
static void or_run(uint64_t *to, uint64_t to_bit, const uint64_t *from,
		   uint64_t from_bit, uint64_t count)
{
	while (count && (to_bit % BITS || from_bit % BITS || count < BITS)) {
		unsigned room = BITS - (unsigned)(to_bit % BITS);
		unsigned part = count < room ? (unsigned)count : room;

		or_word(&to[to_bit / BITS], get_bits(from, from_bit, part)
						    << to_bit % BITS);
		to_bit += part;
		from_bit += part;
		count -= part;
	}
	to += to_bit / BITS;
	from += from_bit / BITS;
	for (; count >= BITS; count -= BITS, to++, from++)
		if (*from)
			or_word(to, *from);
	if (count)
		or_word(to, *from & mask_of(0, (unsigned)count));
}

/* Bits of one word that are not there yet. */
struct pending {
	uint64_t *word;
	uint64_t bits;
};

static void or_pages(struct window *window, struct pending *pending,
		     uint64_t first, uint64_t count)
{
	while (count) {
		uint64_t *word = &window->bits[first / BITS];
		unsigned at = (unsigned)(first % BITS);
		unsigned part = count < BITS - at ? (unsigned)count : BITS - at;

		if (word != pending->word) {
			if (pending->bits)
				or_word(pending->word, pending->bits);
			*pending = (struct pending){ word, 0 };
		}
		pending->bits |= mask_of(at, part);
		first += part;
		count -= part;
	}
}

/* Larger pages: each run of bits is a longer one of ours. */
static void expand(struct window *window, const struct merge *merge,
		   uint64_t start, uint64_t end)
{
	uint64_t bit = (start - merge->guest) >> merge->shift;
	uint64_t last = (end - 1 - merge->guest) >> merge->shift;
	struct pending pending = { NULL, 0 };

	while (bit <= last) {
		uint64_t bits = merge->bitmap[bit / BITS] >> bit % BITS;
		unsigned skip = BITS - (unsigned)(bit % BITS), count = 0;
		uint64_t from, to;

		if (bits)
			lowest_run(bits, &skip, &count);
		bit += skip;
		if (!count || bit > last)
			continue;
		if (count > last - bit + 1)
			count = (unsigned)(last - bit + 1);
		from = merge->guest + (bit << merge->shift);
		bit += count;
		to = merge->guest + (bit << merge->shift);
		from = from < start ? start : from;
		/* The last page may go past the end of the world. */
		to = to > end || to <= from ? end : to;
		or_pages(window, &pending, (from - window->guest) / PAGE,
			 (to - from) / PAGE);
	}
	if (pending.bits)
		or_word(pending.word, pending.bits);
}

static int merge_window(void *opaque, const struct cleat_table_range *found)
{
	const struct merge *merge = opaque;
	struct window *window = found->entry;
	uint64_t start = found->start, end = found->start + found->length;

	if (start < merge->guest)
		start = merge->guest;
	if (end > merge->guest + merge->length)
		end = merge->guest + merge->length;
	if (merge->shift > 12)
		expand(window, merge, start, end);
	else
		or_run(window->bits, (start - window->guest) / PAGE,
		       merge->bitmap, (start - merge->guest) / PAGE,
		       (end - start) / PAGE);
	return 0;
}

int cleat_memory_log_merge(struct cleat_memory *memory, uint64_t guest,
			   uint64_t length, uint64_t page_size,
			   const uint64_t *bitmap)
{
	struct merge merge = { guest, length, 0, bitmap };
	struct cleat_dma_log *log;
	uint64_t end;

	if (page_size < PAGE || page_size & (page_size - 1) || !length ||
	    (guest | length) % PAGE ||
	    __builtin_add_overflow(guest, length, &end))
		return -EINVAL;
	merge.shift = (unsigned)__builtin_ctzll(page_size);
	cleat_read_lock();
	log = current_log(memory);
	if (log)
		cleat_table_visit(log->table, guest, length, merge_window,
				  &merge);
	cleat_read_unlock();
	return log ? 0 : -ENODATA;
}

/* --- Taking -------------------------------------------------------------- */

/**
 * struct taking - the search for dirty pages
 * @max: pages to take at most
 */
struct taking {
	uint64_t from;
	uint64_t max;
	uint64_t guest;
	uint64_t pages;
};

/*
 * Clears the lowest run of at most @max bits among @eligible of a word, and
 * says which; 0 if there is none. What another thread took meanwhile is its.
 */
static uint64_t take_word(uint64_t *word, uint64_t eligible, uint64_t max,
			  unsigned *ret_first, unsigned *ret_count)
{
	uint64_t seen = __atomic_load_n(word, __ATOMIC_RELAXED) & eligible;
	uint64_t mask, got;

	while (seen) {
		mask = lowest_run(seen, ret_first, ret_count);
		if (*ret_count > max)
			mask = mask_of(*ret_first, (unsigned)max);
		/* The pages may not be read before this. */
		got = __atomic_fetch_and(word, ~mask, __ATOMIC_SEQ_CST) & mask;
		if (got) {
			mask = lowest_run(got, ret_first, ret_count);
			if (got & ~mask)
				__atomic_fetch_or(word, got & ~mask,
						  __ATOMIC_SEQ_CST);
			return mask;
		}
		seen = __atomic_load_n(word, __ATOMIC_RELAXED) & eligible;
	}
	return 0;
}

/* Goes on into the words after the first, as long as they begin dirty. */
static void take_more(struct window *window, uint64_t next,
		      struct taking *taking)
{
	unsigned first, count;

	while (next < window->pages && taking->pages < taking->max) {
		uint64_t *word = &window->bits[next / BITS];

		if (!(__atomic_load_n(word, __ATOMIC_RELAXED) & 1) ||
		    !take_word(word, ONES, taking->max - taking->pages, &first,
			       &count))
			return;
		if (first) {
			/* Another thread has taken what the run began with. */
			set_run(window, next + first, count);
			return;
		}
		taking->pages += count;
		if (count < BITS)
			return;
		next += BITS;
	}
}

static int take_window(void *opaque, const struct cleat_table_range *found)
{
	struct window *window = found->entry;
	struct taking *taking = opaque;
	uint64_t page = 0, words = (window->pages + BITS - 1) / BITS, word;
	unsigned first, count;

	if (taking->from > window->guest)
		page = (taking->from - window->guest) / PAGE;
	for (word = page / BITS; word < words; word++) {
		uint64_t eligible = ONES;

		if (word == page / BITS)
			eligible <<= page % BITS;
		if (!take_word(&window->bits[word], eligible, taking->max,
			       &first, &count))
			continue;
		taking->guest = window->guest + (word * BITS + first) * PAGE;
		taking->pages = count;
		if (first + count == BITS)
			take_more(window, (word + 1) * BITS, taking);
		return 1;
	}
	return 0;
}

int cleat_memory_log_take(struct cleat_memory *memory, uint64_t from,
			  uint64_t max, uint64_t *ret_guest,
			  uint64_t *ret_length)
{
	struct taking taking = { .from = from, .max = max / PAGE };
	struct cleat_dma_log *log;
	int found = 0;

	if (!max || max % PAGE)
		return -EINVAL;
	cleat_read_lock();
	log = current_log(memory);
	/* No window begins at address 0 and ends at 2^64. */
	if (log)
		found = cleat_table_visit(log->table, from, -from ? -from :
						  UINT64_MAX,
					  take_window, &taking);
	cleat_read_unlock();
	if (!log)
		return -ENODATA;
	if (found) {
		*ret_guest = taking.guest;
		*ret_length = taking.pages * PAGE;
	}
	return found;
}

static int count_window(void *opaque, const struct cleat_table_range *found)
{
	const struct window *window = found->entry;
	uint64_t *pages = opaque;

	for (uint64_t i = 0; i < (window->pages + BITS - 1) / BITS; i++)
		*pages += (uint64_t)__builtin_popcountll(
			__atomic_load_n(&window->bits[i], __ATOMIC_RELAXED));
	return 0;
}

uint64_t cleat_memory_log_dirty(struct cleat_memory *memory)
{
	struct cleat_dma_log *log;
	uint64_t pages = 0;

	cleat_read_lock();
	log = current_log(memory);
	if (log)
		cleat_table_visit(log->table, 0, UINT64_MAX, count_window,
				  &pages);
	cleat_read_unlock();
	return pages * PAGE;
}
