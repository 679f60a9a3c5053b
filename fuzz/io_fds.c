/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdlib.h>

#include "fuzz/fuzz.h"
#include "wire/wire.h"

#define LENGTH 0x10000

/* The first byte says how many descriptors came along. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cleat_wire_io_fd *entries;
	struct cleat_error why;
	int num;

	if (size < 1)
		return 0;
	num = cleat_wire_parse_io_fds(data + 1, size - 1, 0, LENGTH, data[0],
				      &entries, &why);
	if (num < 0)
		return 0;
	for (int i = 0; i < num; i++)
		if (entries[i].offset >= LENGTH ||
		    entries[i].size > LENGTH - entries[i].offset ||
		    (entries[i].fd_index != CLEAT_WIRE_NO_FD &&
		     entries[i].fd_index >= data[0]))
			abort();
	free(entries);
	return 0;
}
