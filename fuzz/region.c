/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdlib.h>

#include "fuzz/fuzz.h"
#include "wire/wire.h"

/* The first byte says how many descriptors came along. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cleat_wire_region region;
	struct cleat_error why;
	uint64_t end = 0;

	if (size < 1 || cleat_wire_parse_region(data + 1, size - 1, 0, data[0],
						&region, &why))
		return 0;
	for (unsigned i = 0; i < region.num_areas; i++) {
		const struct cleat_wire_area *area = &region.areas[i];

		if (area->offset < end || !area->length ||
		    area->offset + area->length > region.length ||
		    area->fd_index >= data[0])
			abort();
		end = area->offset + area->length;
	}
	cleat_wire_region_free(&region);
	return 0;
}
