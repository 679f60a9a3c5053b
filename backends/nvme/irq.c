/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupts: a message per batch of completions with MSI-X and MSI, a level
 * with the pin. INTMS masks the latter two.
 */
#include "backends/nvme/private.h"

static bool unmasked(const struct cleat_nvme *n, unsigned vector)
{
	return n->irq_mode == NVME_IRQ_MSIX || vector >= 32 ||
	       !(n->intms >> vector & 1);
}

static void raise_vector(struct cleat_nvme *n, unsigned vector)
{
	n->stats.interrupts[vector]++;
	n->ops.raise(n->opaque, vector);
}

/* Which queue uses which vector does not matter to the one pin. */
void cleat_nvme_irq_update_pin(struct cleat_nvme *n)
{
	bool level = false;

	if (n->irq_mode == NVME_IRQ_PIN && !(n->intms & 1))
		for (unsigned i = 0; i <= n->queues; i++) {
			const struct nvme_cq *cq = &n->cqs[i];

			level |= cq->live && cq->ien && cq->head != cq->tail;
		}
	if (level == n->pin)
		return;
	n->pin = level;
	n->stats.interrupts[0] += level;
	n->ops.pin(n->opaque, level);
}

void cleat_nvme_irq_flush(struct cleat_nvme *n, struct nvme_cq *cq)
{
	if (!cq->fresh)
		return;
	cq->fresh = 0;
	if (n->irq_mode == NVME_IRQ_PIN)
		cleat_nvme_irq_update_pin(n);
	else if (cq->ien && unmasked(n, cq->vector))
		raise_vector(n, cq->vector);
}

void cleat_nvme_irq_mask(struct cleat_nvme *n, uint32_t intms)
{
	uint32_t cleared = n->intms & ~intms;

	n->intms = intms;
	cleat_nvme_irq_update_pin(n);
	if (n->irq_mode != NVME_IRQ_MSI)
		return;
	for (unsigned i = 0; i <= n->queues; i++) {
		const struct nvme_cq *cq = &n->cqs[i];

		if (cq->live && cq->ien && cq->head != cq->tail &&
		    cq->vector < 32 && (cleared >> cq->vector & 1))
			raise_vector(n, cq->vector);
	}
}

void cleat_nvme_set_irq_mode(struct cleat_nvme *n,
			     enum cleat_nvme_irq_mode mode)
{
	n->irq_mode = mode;
	cleat_nvme_irq_update_pin(n);
}
