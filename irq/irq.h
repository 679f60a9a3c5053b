/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * irq: a device's interrupts as the server sees them: SET_IRQS, and one eventfd
 * per vector. Where an eventfd leads (an irqfd, an injecting thread) is the
 * business of the rooms above.
 */
#ifndef CLEAT_IRQ_ROOM_H
#define CLEAT_IRQ_ROOM_H

#include <stdbool.h>
#include <stdint.h>

#include "client/client.h"

/*
 * All interrupts of one device. Control context throughout, one caller at a
 * time, if nothing else is said. Sending functions give what cleat_call() gives
 * besides what is said with them.
 */
struct cleat_irqs;

/* Holds a pin on the device. No message is sent, no eventfd made. */
int cleat_irqs_create(struct cleat_device *dev, struct cleat_irqs **ret_irqs);
/* Closes the eventfds; the server is not told. NULL is fine. */
void cleat_irqs_destroy(struct cleat_irqs *irqs);

/*
 * Enable an index (VFIO_PCI_INTX_IRQ_INDEX and friends) with @count vectors:
 * makes their eventfds and hands them to the server, in pieces of what it takes
 * in one message. Another of INTx, MSI and MSI-X that is enabled is disabled
 * first: servers keep one array for the three. -EINVAL if the device has not so
 * many, or for none.
 */
int cleat_irqs_enable(struct cleat_irqs *irqs, unsigned index, unsigned count);
/*
 * Disable an index and close its eventfds, which takes what is pending in them
 * away: whatever else holds them (an irqfd, a watch) has to let go before. Fine
 * if it is not enabled. Where the server refuses, the eventfds are gone all the
 * same, and the index is asked for again by the next call and before another
 * goes on.
 */
int cleat_irqs_disable(struct cleat_irqs *irqs, unsigned index);

/*
 * Hand over vectors [first, first + count) only; the rest of the index gets no
 * eventfd yet (unless it is one that takes them all at once or never). The
 * index is enabled by the first such call, and is disabled again if that fails;
 * if a later one fails, what was armed stays so. Vectors that have their
 * eventfd keep it. There is no way to take one back: servers do that wrongly.
 */
int cleat_irqs_arm(struct cleat_irqs *irqs, unsigned index, unsigned first,
		   unsigned count);

/* Which of INTx, MSI and MSI-X is enabled: its index, or -1. Any thread. */
int cleat_irqs_enabled(struct cleat_irqs *irqs);
/* How many vectors the device has of an index; 0 for none. Any thread. */
unsigned cleat_irqs_count(struct cleat_irqs *irqs, unsigned index);
/* GET_IRQ_INFO's flags of an index. Any thread. */
uint32_t cleat_irqs_flags(struct cleat_irqs *irqs, unsigned index);

/* The eventfd of an armed vector, or -1: borrowed until the index is disabled
 * or the object destroyed. Any thread. */
int cleat_irqs_fd(struct cleat_irqs *irqs, unsigned index, unsigned vector);
/* The server has fired it and nobody has taken it: POLLIN. Any thread. */
bool cleat_irqs_pending(struct cleat_irqs *irqs, unsigned index,
			unsigned vector);
/* Take what is pending: true if something was. Any thread. */
bool cleat_irqs_take(struct cleat_irqs *irqs, unsigned index, unsigned vector);

/*
 * SET_IRQS with ACTION_MASK / ACTION_UNMASK and no data, for what the client
 * cannot mask itself (INTx). Any thread; may be repeated when the outcome is
 * not known.
 */
int cleat_irqs_mask(struct cleat_irqs *irqs, unsigned index, unsigned first,
		    unsigned count);
int cleat_irqs_unmask(struct cleat_irqs *irqs, unsigned index, unsigned first,
		      unsigned count);
/*
 * The eventfd by which the client says "unmask" without a message (INTx's
 * resample). -EOPNOTSUPP if the server does not take one; then
 * cleat_irqs_unmask() is the way. The eventfd is borrowed from @irqs.
 */
int cleat_irqs_unmask_fd(struct cleat_irqs *irqs, unsigned index, int *ret_fd);
/* SET_IRQS with ACTION_TRIGGER: let the server fire a vector. Any thread. */
int cleat_irqs_trigger(struct cleat_irqs *irqs, unsigned index, unsigned first,
		       unsigned count);

#endif
