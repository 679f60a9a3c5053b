/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CLEAT_IRQ_H
#define CLEAT_IRQ_H

#include <stdint.h>

#include <cleat/api.h>
#include <cleat/device.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A device's interrupts as the server has them, for those who do without
 * struct cleat_pci. Where there is one, its device's interrupts are its own:
 * it does not learn what is set here.
 */

/* Flags of struct cleat_irq_info, as in <linux/vfio.h>. */
#define CLEAT_IRQ_INFO_EVENTFD (1u << 0)
#define CLEAT_IRQ_INFO_MASKABLE (1u << 1)
#define CLEAT_IRQ_INFO_AUTOMASKED (1u << 2)
#define CLEAT_IRQ_INFO_NORESIZE (1u << 3)

/**
 * struct cleat_irq_info - one interrupt type
 * @size:  sizeof(struct cleat_irq_info), set by the caller
 * @flags: CLEAT_IRQ_INFO_*
 * @count: vectors; 0: the device has none of this type
 */
struct cleat_irq_info {
	uint32_t size;
	uint32_t flags;
	uint32_t count;
};

/**
 * cleat_irq_info() - what is known of an interrupt type
 * @dev:   an open device
 * @index: CLEAT_IRQ_INTX and friends, up to num_irqs - 1 of the device's info
 * @info:  @info->size set by the caller
 *
 * Context: any thread. Does not sleep.
 * Return: 0, -ENOENT if there is no such type, -EINVAL.
 */
CLEAT_API int cleat_irq_info(struct cleat_device *dev, unsigned index,
			     struct cleat_irq_info *info);

/* Of cleat_irq_set(), one of these, as in <linux/vfio.h>: which vectors... */
#define CLEAT_IRQ_DATA_NONE (1u << 0)	 /* all of the range */
#define CLEAT_IRQ_DATA_BOOL (1u << 1)	 /* those with a byte that is not 0 */
#define CLEAT_IRQ_DATA_EVENTFD (1u << 2) /* all, each by its eventfd */
/* ...and one of these: what is done with them. */
#define CLEAT_IRQ_MASK (1u << 3)
#define CLEAT_IRQ_UNMASK (1u << 4)
#define CLEAT_IRQ_TRIGGER (1u << 5)

/**
 * cleat_irq_set() - send SET_IRQS as it is
 * @dev:   an open device
 * @index: CLEAT_IRQ_INTX and friends
 * @flags: one CLEAT_IRQ_DATA_* and one of MASK, UNMASK and TRIGGER
 * @start: first vector
 * @count: vectors; 0 with DATA_NONE and TRIGGER disables the whole type
 * @bools: with DATA_BOOL @count bytes, otherwise NULL
 * @fds:   with DATA_EVENTFD @count eventfds, of which -1 takes away the one
 *         that is set; otherwise NULL
 *
 * With DATA_EVENTFD the server is told by which eventfd a vector fires
 * (TRIGGER), or by which it will be told to mask or unmask one; otherwise it is
 * told to do so now. What is more than the server takes of descriptors in one
 * message goes in pieces, and so does each run with and without descriptors.
 *
 * Servers keep one set of eventfds for INTx, MSI and MSI-X: disable one before
 * another is set. Taking one eventfd away is something that servers get wrong.
 *
 * Context: control. Sleeps.
 * Return: 0; -EINVAL (flags that are none, vectors that are not there); -ENOENT
 * (no such type); -EOPNOTSUPP (the connection carries no descriptors);
 * -ENOTCONN, -ETIMEDOUT, -ECANCELED, -ESHUTDOWN, -EPROTO, or the server's own
 * -errno. Pieces before the one that failed have been done.
 * Ownership: the caller keeps @fds.
 */
CLEAT_API int cleat_irq_set(struct cleat_device *dev, unsigned index,
			    uint32_t flags, unsigned start, unsigned count,
			    const uint8_t *bools, const int *fds);

#ifdef __cplusplus
}
#endif

#endif
