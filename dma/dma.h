/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dma: guest memory shown to devices. struct cleat_memory is a list of ranges
 * and a list of devices that see them; see <cleat/memory.h>.
 *
 *	a control call ----> memory->lock: ranges, attachments
 *	a server's DMA_READ, DMA_WRITE --> the table only, no lock: the thread
 *		that serves one may be the very one that the holder of the lock
 *		waits for
 *
 * A range is published in the table before the first server hears of it, and
 * taken out after the last one has let go; then whoever still copies to or from
 * it is waited for, and only then is it freed.
 */
#ifndef CLEAT_DMA_H
#define CLEAT_DMA_H

#include <stddef.h>
#include <stdint.h>

#include <cleat/memory.h>

/**
 * cleat_dma_copy() - read or write guest memory as a device may
 * @memory:  the memory
 * @address: guest address
 * @buf:     to or from here
 * @count:   bytes; 0 is fine
 * @right:   CLEAT_READ: the device reads, into @buf; CLEAT_WRITE: from @buf
 *
 * What is not wholly inside ranges with that right is not begun. Up to 64
 * bytes are stored in ascending order of aligned words, so that a guest that
 * polls the last word of a completion entry sees the first ones.
 *
 * Any thread; takes no lock, may fault guest pages in.
 *
 * Return: 0, -EFAULT (no such memory), -EACCES (not that right).
 */
int cleat_dma_copy(struct cleat_memory *memory, uint64_t address, void *buf,
		   size_t count, uint32_t right);

#endif
