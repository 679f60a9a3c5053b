/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Dirty bitmaps, of either generation: u8: how often they are asked for (low 3
 * bits), whether the last time (bit 3), which ranges are removed then (bits 4
 * and 5), then the server's answers. Nothing may be dirty that is no memory.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz/answers.h"
#include "fuzz/fuzz.h"

#define PAGE 4096u
#define LENGTH (64 * PAGE)
#define FIRST 0x10000u
#define SECOND 0x40000000u

static struct cleat_memory *make_memory(void)
{
	static void *host;
	static int fd = -1;
	struct cleat_memory_range range = {
		.size = sizeof(range),
		.rights = CLEAT_READ | CLEAT_WRITE,
		.length = LENGTH,
	};
	struct cleat_memory *memory;

	if (fd < 0)
		fd = cleat_memory_alloc(LENGTH, 0, &host, NULL);
	range.host = host;
	range.fd = fd;
	if (fd < 0 || cleat_memory_create(&memory))
		abort();
	range.guest = FIRST;
	if (cleat_memory_add(memory, &range))
		abort();
	range.guest = SECOND;
	if (cleat_memory_add(memory, &range))
		abort();
	return memory;
}

static void check_dirty(struct cleat_memory *memory)
{
	uint64_t from = 0, guest, length;

	while (cleat_memory_log_take(memory, from, UINT64_MAX, &guest,
				     &length) == 1) {
		uint64_t base = guest < SECOND ? FIRST : SECOND;

		if (guest < base || !length || guest - base >= LENGTH ||
		    length > LENGTH - (guest - base))
			abort();
		from = guest + length;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_answers answers;
	struct cleat_memory *memory;
	struct cleat_device *dev;

	if (!size)
		return 0;
	memory = make_memory();
	dev = cleat_fuzz_open(&answers, data + 1, size - 1);
	if (!cleat_memory_attach(memory, dev) &&
	    !cleat_memory_log_start(memory, 0, NULL)) {
		for (unsigned i = 0; i < (data[0] & 7u); i++) {
			cleat_memory_log_fetch(
				memory,
				data[0] & 8 ? CLEAT_MEMORY_LOG_FINAL : 0);
			check_dirty(memory);
		}
		if (data[0] & 16)
			cleat_memory_remove(memory, FIRST, LENGTH);
		if (data[0] & 32)
			cleat_memory_remove(memory, SECOND, LENGTH);
		check_dirty(memory);
		cleat_memory_log_stop(memory);
	}
	cleat_device_unref(dev);
	cleat_fuzz_close(&answers);
	cleat_memory_unref(memory);
	return 0;
}
