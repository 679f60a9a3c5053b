/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CLEAT_MEMORY_H
#define CLEAT_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include <cleat/api.h>
#include <cleat/device.h>
#include <cleat/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * struct cleat_memory - the guest's RAM as devices see it
 *
 * A set of ranges that do not overlap, attached to any number of devices. What
 * is added is mapped on every attached device, what is attached gets every
 * range.
 */
struct cleat_memory;

/**
 * struct cleat_memory_range - a run of guest memory
 * @size:   sizeof(struct cleat_memory_range)
 * @rights: CLEAT_READ, CLEAT_WRITE: what the device may do
 * @guest:  guest address (IOVA), a multiple of 4096
 * @length: bytes, a multiple of 4096, not 0
 * @host:   where the caller has it mapped; what the device reads and writes by
 *          message is served from here
 * @fd:     the file behind it, handed to servers; -1: by message only. The
 *          library duplicates it.
 * @offset: where in the file, bytes, a multiple of 4096
 */
struct cleat_memory_range {
	uint32_t size;
	uint32_t rights;
	uint64_t guest;
	uint64_t length;
	void *host;
	int fd;
	uint64_t offset;
};

/**
 * cleat_memory_create() - an empty memory
 * @ret_memory: written on success
 *
 * Context: control. Does not sleep.
 * Return: 0 or -ENOMEM.
 * Ownership: the caller's one reference; cleat_memory_unref().
 */
CLEAT_API int cleat_memory_create(struct cleat_memory **ret_memory);

/**
 * cleat_memory_unref() - give the memory back
 * @memory: may be NULL
 *
 * Ranges are not unmapped at the servers of devices that are still attached:
 * their connections end with their devices.
 *
 * Context: control. Sleeps until copies in flight have ended.
 * Return: NULL.
 */
CLEAT_API struct cleat_memory *cleat_memory_unref(struct cleat_memory *memory);

/**
 * cleat_memory_add() - add a range, and map it on every attached device
 * @memory: the memory
 * @range:  checked: not empty, page-aligned, no wrap, no overlap, inside its
 *          file, file and host rights enough
 *
 * Sends DMA_MAP (specification, "VFIO_USER_DMA_MAP") to each device. When one
 * refuses, the range is taken back from all.
 *
 * Context: control. Sleeps.
 * Return: 0, -EINVAL, -EEXIST (overlap), -ERANGE (past the end of the file or
 * of the address space), -EACCES (the fd lacks the rights), -ENOSPC (more
 * ranges than a device takes), -ENOMEM, or what a device answered.
 */
CLEAT_API int cleat_memory_add(struct cleat_memory *memory,
			       const struct cleat_memory_range *range);

/**
 * cleat_memory_remove() - take a range away
 * @memory: the memory
 * @guest:  as it was added
 * @length: as it was added
 *
 * Sends DMA_UNMAP to each device and waits for the replies; served by message
 * until then. When it returns 0, no device whose server obeys the protocol
 * reaches the range any more, and no copy of the library's is under way. A
 * device whose server does not answer is lost.
 *
 * Context: control. Sleeps.
 * Return: 0, -ENOENT if there is no such range, or -ETIMEDOUT, -ECANCELED or
 * -ENOTCONN if a device was lost on the way: the range is gone from the memory,
 * but that server may still reach it.
 */
CLEAT_API int cleat_memory_remove(struct cleat_memory *memory, uint64_t guest,
				  uint64_t length);

/**
 * cleat_memory_attach() - let a device see the memory
 * @memory: the memory
 * @dev:    an open device that sees no memory yet
 *
 * Maps all ranges, pipelined, and serves DMA_READ and DMA_WRITE of the device
 * from now on. On failure nothing stays mapped.
 *
 * Context: control. Sleeps.
 * Return: 0, -EBUSY if @dev is attached already, -ENOSPC, -ENOMEM, -ENOTCONN,
 * -ETIMEDOUT, or what the server answered.
 */
CLEAT_API int cleat_memory_attach(struct cleat_memory *memory,
				  struct cleat_device *dev);

/**
 * cleat_memory_detach() - take the memory away from a device
 * @memory: the memory
 * @dev:    a device that is attached to it
 *
 * Unmaps every range. Not needed before cleat_device_unref().
 *
 * Context: control. Sleeps.
 * Return: 0, -ENOENT, or as cleat_memory_remove().
 */
CLEAT_API int cleat_memory_detach(struct cleat_memory *memory,
				  struct cleat_device *dev);

/* Flags of cleat_memory_alloc(). */
#define CLEAT_MEMORY_HUGETLB (1u << 0) /* 2 MiB pages of hugetlbfs */

/**
 * cleat_memory_alloc() - make guest RAM that can be shared safely
 * @length:   bytes, a multiple of the page size used
 * @flags:    CLEAT_MEMORY_*
 * @ret_host: where it is mapped, readable and writable, 2 MiB-aligned
 * @reterr:   why it failed; may be NULL
 *
 * A memfd sealed against shrinking, growing and further seals, so that a
 * server can neither take pages away under the guest nor seal it.
 *
 * Context: any thread. May sleep.
 * Return: the fd, or -EINVAL, -ENOMEM and what else memfd_create() and mmap()
 * give.
 * Ownership: fd and mapping are the caller's.
 */
CLEAT_API int cleat_memory_alloc(uint64_t length, uint32_t flags,
				 void **ret_host, struct cleat_error *reterr);

#ifdef __cplusplus
}
#endif

#endif
