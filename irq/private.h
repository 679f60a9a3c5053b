/* SPDX-License-Identifier: BSD-2-Clause */
/* Private to irq. */
#ifndef IRQ_PRIVATE_H
#define IRQ_PRIVATE_H

#include "irq/irq.h"

/*
 * One SET_IRQS: @bools are @set->count bytes or NULL. No more descriptors than
 * the peer takes.
 */
int cleat_irqs_send(struct cleat_device *dev, struct cleat_wire_irq_set set,
		    const uint8_t *bools, const int *fds, unsigned num_fds);

#endif
