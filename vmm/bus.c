/* SPDX-License-Identifier: BSD-2-Clause */
/* Which of our own devices an address belongs to: a handful, so a list. */
#include <stdlib.h>

#include "vmm/vmm.h"

void cleat_vmm_bus_add(struct bus *bus, enum cleat_space space, uint64_t base,
		       uint64_t size, bus_handler *handler, void *device)
{
	if (bus->count == BUS_ENTRIES_MAX)
		abort();
	bus->entries[bus->count++] = (struct bus_entry){
		.space = space,
		.base = base,
		.size = size,
		.handler = handler,
		.device = device,
	};
}

bool cleat_vmm_bus_access(const struct bus *bus, enum cleat_space space,
			  uint64_t address, void *data, unsigned length,
			  bool is_write)
{
	const struct bus_entry *entry;

	for (entry = bus->entries; entry < bus->entries + bus->count; entry++) {
		uint64_t offset = address - entry->base;

		if (entry->space != space || offset >= entry->size ||
		    length > entry->size - offset)
			continue;
		entry->handler(entry->device, offset, data, length, is_write);
		return true;
	}
	return false;
}
