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
 *          library has a descriptor of its own, one for all ranges of the same
 *          file and right.
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
 * Return: 0, -ENOENT if there is no such range, -EOPNOTSUPP if a device that
 * was given its file has a server without DMA_UNMAP (docs/protocol.md,
 * "Quirks": then nothing has changed, and that device has to be closed first;
 * in secure mode there is no such file), or -ETIMEDOUT, -ECANCELED or
 * -ENOTCONN if a device was lost on the way: the range is gone from the memory,
 * but that server may still reach it.
 */
CLEAT_API int cleat_memory_remove(struct cleat_memory *memory, uint64_t guest,
				  uint64_t length);

/* What a struct cleat_memory_change does. */
enum cleat_memory_change_kind {
	CLEAT_MEMORY_CHANGE_ADD = 0,
	CLEAT_MEMORY_CHANGE_REMOVE = 1,
};

/**
 * struct cleat_memory_change - one of many
 * @kind:  CLEAT_MEMORY_CHANGE_*
 * @range: what is added; of what is removed @guest and @length, as added
 */
struct cleat_memory_change {
	uint32_t kind;
	struct cleat_memory_range range;
};

/* Flags of cleat_memory_update(). */

/*
 * Put neighbours of this call together that lie side by side in the same
 * memory. For servers they are one range then: taking one of them away later
 * takes all of it away and maps the rest again, and a device that uses the rest
 * at that moment fails. For RAM, not for what a vIOMMU maps.
 */
#define CLEAT_MEMORY_UPDATE_MERGE (1u << 0)

/**
 * cleat_memory_update() - many changes, and as few messages
 * @memory:  the memory
 * @changes: what to add and remove, in this order
 * @num:     how many
 * @flags:   CLEAT_MEMORY_UPDATE_*
 *
 * As so many calls of cleat_memory_add() and cleat_memory_remove(), but each
 * device hears of the difference between before and after only, and of that
 * pipelined: first of all that is gone, then of all that is new. What is removed
 * and added again as it was stays all the time, for servers and for what
 * devices read and write by message.
 *
 * Context: control. Sleeps.
 * Return: 0; as cleat_memory_add() and cleat_memory_remove() for the first
 * change that is not possible, and nothing has changed; or, from the servers:
 * what a device answered to a range that is new, and then what was to be
 * removed is, and nothing is new (nor is what was one range with something
 * removed); or -ETIMEDOUT, -ECANCELED or -ENOTCONN if a device was lost on the
 * way, all of it done for the others.
 */
CLEAT_API int cleat_memory_update(struct cleat_memory *memory,
				  const struct cleat_memory_change *changes,
				  size_t num, uint32_t flags);

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
 * Return: 0, -ENOENT, -EOPNOTSUPP (then nothing has changed), or as
 * cleat_memory_remove().
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

/* --- Dirty pages --------------------------------------------------------- */

/* The pages of a log, whatever its sources use. */
#define CLEAT_MEMORY_LOG_PAGE 4096u

/* Flags of cleat_memory_log_start(). */
#define CLEAT_MEMORY_LOG_ALL (1u << 0) /* begin with everything dirty */

/**
 * cleat_memory_log_start() - log which pages are written
 * @memory: the memory, not logging yet
 * @flags:  CLEAT_MEMORY_LOG_*
 * @reterr: why it failed; may be NULL
 *
 * One bit for each page of 4 KiB. Set by DMA by message (the library sees it),
 * by what servers report of their own writes, by cleat_memory_mark_dirty() and
 * by cleat_memory_log_merge(); cleared by cleat_memory_log_take() alone.
 * Servers are asked to log by either generation's commands. One that cannot is
 * no failure: what it may write is dirty in the last round. So is, at once,
 * what was mapped when a device was lost, attached or detached, a range that is
 * added, and one that is removed where its servers do not tell with DMA_UNMAP
 * what they wrote. Call it while devices are in RUNNING.
 *
 * Context: control. Sleeps.
 * Return: 0, -EALREADY, -EINVAL, -ENOMEM.
 */
CLEAT_API int cleat_memory_log_start(struct cleat_memory *memory,
				     uint32_t flags,
				     struct cleat_error *reterr);

/**
 * cleat_memory_log_stop() - log no more
 * @memory: the memory; fine if it is not logging
 *
 * Context: control. Sleeps.
 */
CLEAT_API void cleat_memory_log_stop(struct cleat_memory *memory);

/**
 * cleat_memory_mark_dirty() - the VMM itself wrote guest memory
 * @memory: the memory
 * @guest:  guest address; what lies outside of ranges is passed over
 * @length: bytes
 *
 * After the write. Costs a load when nobody logs. What vCPUs write is KVM's to
 * log, see cleat_memory_log_merge().
 *
 * Context: any thread. Does not sleep, takes no lock.
 */
CLEAT_API void cleat_memory_mark_dirty(struct cleat_memory *memory,
				       uint64_t guest, uint64_t length);

/**
 * cleat_memory_log_merge() - add a bitmap of somebody else's
 * @memory:    the memory, logging
 * @guest:     address of the first bit's page, a multiple of 4096
 * @length:    bytes that the bitmap covers; what lies outside of ranges is
 *             passed over
 * @page_size: of its pages, a power of two from 4096
 * @bitmap:    one bit per page from @guest on, the last word whole, as
 *             KVM_GET_DIRTY_LOG gives it
 *
 * Context: any thread. Does not sleep, takes no lock.
 * Return: 0, -EINVAL, -ENODATA when not logging.
 */
CLEAT_API int cleat_memory_log_merge(struct cleat_memory *memory,
				     uint64_t guest, uint64_t length,
				     uint64_t page_size,
				     const uint64_t *bitmap);

/* Flags of cleat_memory_log_fetch(). */
#define CLEAT_MEMORY_LOG_FINAL (1u << 0) /* devices are stopped */

/**
 * cleat_memory_log_fetch() - collect what servers have logged
 * @memory: the memory, logging
 * @flags:  CLEAT_MEMORY_LOG_FINAL in the last round: what devices that do not
 *          log can write is dirty from now on
 *
 * Once in each round, before the pages are taken. One request for each range of
 * each device.
 *
 * Context: control. Sleeps.
 * Return: 0, or -ENODATA when not logging. A server that fails to report counts
 * as one that cannot log from then on, and is no failure; one that refuses a
 * range with -EINVAL or -E2BIG does so for that range only.
 */
CLEAT_API int cleat_memory_log_fetch(struct cleat_memory *memory,
				     uint32_t flags);

/**
 * cleat_memory_log_take() - take the next dirty pages to copy
 * @memory:     the memory, logging
 * @from:       first guest address to look at
 * @max:        bytes to take at most, a multiple of 4096, not 0
 * @ret_guest:  where they are
 * @ret_length: bytes; one run
 *
 * What was a range when or since logging began is told of, also after it was
 * removed, and a run may go over the border of two ranges that adjoin: look up
 * where its pages are, piece by piece, and pass over what is no memory any
 * more.
 *
 * Clears their bits, so copy them *after*: what is written meanwhile is dirty
 * again. Go on from @ret_guest + @ret_length; begin anew for the next round.
 * A page that could not be copied is given back by cleat_memory_mark_dirty().
 *
 * Context: any thread. Does not sleep, takes no lock.
 * Return: 1; 0 when nothing is dirty from there on; -EINVAL; -ENODATA when not
 * logging.
 */
CLEAT_API int cleat_memory_log_take(struct cleat_memory *memory, uint64_t from,
				    uint64_t max, uint64_t *ret_guest,
				    uint64_t *ret_length);

/**
 * cleat_memory_log_dirty() - how much is dirty
 * @memory: the memory
 *
 * Context: any thread. Does not sleep, takes no lock.
 * Return: bytes; 0 when not logging.
 */
CLEAT_API uint64_t cleat_memory_log_dirty(struct cleat_memory *memory);

#ifdef __cplusplus
}
#endif

#endif
