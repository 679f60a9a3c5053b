/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Loads and stores on the server's pages and writes to its eventfds. Never
 * memcpy: it may split or repeat accesses, and a device register must see the
 * one that the guest made.
 */
#include <stdbool.h>
#include <string.h>

#include "mmio/private.h"

unsigned cleat_natural(uint64_t offset, unsigned length)
{
	unsigned size = 8;

	while (size > length || offset & (size - 1))
		size >>= 1;
	return size;
}

#define LOAD(type, from, to)                                                   \
	do {                                                                   \
		type value_ = __atomic_load_n((const type *)(from),            \
					      __ATOMIC_ACQUIRE);               \
									       \
		memcpy(to, &value_, sizeof(value_));                           \
	} while (0)

static void load_one(const uint8_t *from, uint8_t *to, unsigned size)
{
	switch (size) {
	case 8:
		LOAD(uint64_t, from, to);
		break;
	case 4:
		LOAD(uint32_t, from, to);
		break;
	case 2:
		LOAD(uint16_t, from, to);
		break;
	default:
		LOAD(uint8_t, from, to);
	}
}

/* Release: the guest's stores to memory before this one are seen before it. */
#define STORE(type, to, from)                                                  \
	do {                                                                   \
		type value_;                                                   \
									       \
		memcpy(&value_, from, sizeof(value_));                         \
		__atomic_store_n((type *)(to), value_, __ATOMIC_RELEASE);      \
	} while (0)

static void store_one(uint8_t *to, const uint8_t *from, unsigned size)
{
	switch (size) {
	case 8:
		STORE(uint64_t, to, from);
		break;
	case 4:
		STORE(uint32_t, to, from);
		break;
	case 2:
		STORE(uint16_t, to, from);
		break;
	default:
		STORE(uint8_t, to, from);
	}
}

static bool is_one(const uint8_t *host, unsigned length)
{
	return !(length & (length - 1)) &&
	       !((uintptr_t)host & (length - 1)) && length <= 8;
}

void cleat_host_load(const uint8_t *from, void *to, unsigned length)
{
	uint8_t *at = to;

	if (is_one(from, length)) {
		load_one(from, to, length);
		return;
	}
	while (length) {
		unsigned size = cleat_natural((uintptr_t)from, length);

		load_one(from, at, size);
		from += size;
		at += size;
		length -= size;
	}
}

void cleat_host_store(uint8_t *to, const void *from, unsigned length)
{
	const uint8_t *at = from;

	/* Mostly it is one: the loop is long by comparison. */
	if (is_one(to, length)) {
		store_one(to, from, length);
		return;
	}
	while (length) {
		unsigned size = cleat_natural((uintptr_t)to, length);

		store_one(to, at, size);
		to += size;
		at += size;
		length -= size;
	}
}

void cleat_binding_kick(struct cleat_binding *binding)
{
	const struct cleat_io_fds *io_fds = &binding->io_fds;

	for (unsigned i = 0; i < io_fds->num; i++) {
		const struct cleat_io_fd *entry = &io_fds->entries[i];
		unsigned first = 0;

		while (io_fds->entries[first].fd != entry->fd)
			first++;
		if (first == i && entry->fd >= 0 &&
		    entry->type != CLEAT_IO_FD_IOREGIONFD)
			cleat_kick_fd(entry->fd);
	}
}
