/* SPDX-License-Identifier: BSD-2-Clause */
/* Bitmaps as a server reports them, at any place and page size. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cleat/memory.h>

#include "fuzz/fuzz.h"

#define PAGE 4096u
#define PAGES 1000u
#define BASE 0x7000u

struct __attribute__((packed)) report {
	uint16_t first; /* pages */
	uint16_t pages;
	uint8_t shift;
};

static bool dirty[PAGES];

/* What a report means, bit by bit. */
static void expect(const struct report *report, unsigned shift,
		   const uint64_t *bitmap)
{
	for (unsigned i = 0; i < report->pages; i++) {
		unsigned bit = i >> shift, at = report->first + i;

		if (bitmap[bit / 64] >> bit % 64 & 1 && at >= BASE / PAGE &&
		    at < BASE / PAGE + PAGES)
			dirty[at - BASE / PAGE] = true;
	}
}

static void merge(struct cleat_memory *memory, const uint8_t **data,
		  size_t *size)
{
	struct report report;
	unsigned shift;
	uint64_t *bitmap;
	size_t bytes;

	memcpy(&report, *data, sizeof(report));
	*data += sizeof(report);
	*size -= sizeof(report);
	report.pages %= 2 * PAGES;
	shift = report.shift % 6;
	bytes = ((report.pages >> shift) / 64 + 1) * 8;
	bitmap = calloc(1, bytes);
	memcpy(bitmap, *data, bytes < *size ? bytes : *size);
	*data += bytes < *size ? bytes : *size;
	*size -= bytes < *size ? bytes : *size;
	if (!cleat_memory_log_merge(memory, (uint64_t)report.first * PAGE,
				    (uint64_t)report.pages * PAGE,
				    (uint64_t)PAGE << shift, bitmap))
		expect(&report, shift, bitmap);
	free(bitmap);
}

static void take_all(struct cleat_memory *memory)
{
	uint64_t guest = 0, length = 0;

	while (cleat_memory_log_take(memory, guest + length, 37 * PAGE, &guest,
				     &length) == 1)
		for (uint64_t at = guest; at < guest + length; at += PAGE) {
			if (at < BASE || !dirty[(at - BASE) / PAGE])
				abort();
			dirty[(at - BASE) / PAGE] = false;
		}
	for (unsigned i = 0; i < PAGES; i++)
		if (dirty[i])
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char host[1];
	const struct cleat_memory_range range = {
		.size = sizeof(range),
		.rights = CLEAT_WRITE,
		.guest = BASE,
		.length = PAGES * PAGE,
		.host = host, /* never touched */
		.fd = -1,
	};
	struct cleat_memory *memory;

	if (cleat_memory_create(&memory))
		return 0;
	if (cleat_memory_add(memory, &range) ||
	    cleat_memory_log_start(memory, 0, NULL))
		abort();
	memset(dirty, 0, sizeof(dirty));
	while (size > sizeof(struct report))
		merge(memory, &data, &size);
	take_all(memory);
	cleat_memory_unref(memory);
	return 0;
}
