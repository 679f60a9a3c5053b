/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One write of the guest's to config space. An aligned access touches one
 * 32-bit word, and no word has registers of two owners, so each write has one
 * handler.
 */
#include <errno.h>

#include "pci/function.h"

/**
 * struct word_write - a write, as a word and the bits of it that are written
 * @at:     offset of the word
 * @value:  shifted into place
 * @mask:   bits written
 * @offset, @length, @raw: as the guest did it
 */
struct word_write {
	unsigned at;
	uint32_t value;
	uint32_t mask;
	unsigned offset;
	unsigned length;
	uint32_t raw;
};

static uint32_t merge(uint32_t old, const struct word_write *w)
{
	return (old & ~w->mask) | (w->value & w->mask);
}

/* The server gets its own bits, and ours as they are. */
static int pass(struct cleat_pci *pci, const struct word_write *w)
{
	uint32_t own = cleat_pci_get32(pci->own + w->at);
	uint32_t value;

	if (!(w->mask & ~own))
		return 0;
	pthread_mutex_lock(&pci->lock);
	value = (w->value & ~own) | (cleat_pci_get32(pci->cfg + w->at) & own);
	pthread_mutex_unlock(&pci->lock);
	return cleat_pci_forward(pci, w->offset,
				 value >> 8 * (w->offset - w->at), w->length);
}

static void set_regs(struct cleat_pci *pci, const struct pci_regs *regs)
{
	pthread_mutex_lock(&pci->lock);
	pci->regs = *regs;
	cleat_pci_show_regs(pci);
	pthread_mutex_unlock(&pci->lock);
}

static int apply(struct cleat_pci *pci)
{
	cleat_pci_bars_apply(pci);
	return cleat_pci_irq_apply(pci, 0, pci->num_vectors);
}

/* What is on in both: the effects that end with a change have ended there. */
static struct pci_regs meet(struct cleat_pci *pci, const struct pci_regs *a,
			    const struct pci_regs *b)
{
	uint16_t command = a->command & b->command;
	uint16_t mask = PCI_MSIX_FLAGS_MASKALL;
	struct pci_regs both = *a;

	/* These two bits switch off by being set. */
	command |= (a->command | b->command) & PCI_COMMAND_INTX_DISABLE;
	both.command = command;
	both.msix = (uint16_t)((a->msix & b->msix & ~mask) |
			       ((a->msix | b->msix) & mask));
	if (b->power)
		both.power = b->power;
	/* The old type is off at the server before the new one goes on. */
	both.hold = cleat_pci_type_of(pci, a) != cleat_pci_type_of(pci, b);
	return both;
}

/*
 * Off here first, then at the server; on there first, then here. When the vCPU
 * is called back in between, its next try finds the registers half-way and
 * comes to the same end.
 *
 * Only the gate for DMA opens first: a server that learns that it is master may
 * begin at once.
 */
static int change(struct cleat_pci *pci, const struct pci_regs *next,
		  const struct word_write *w)
{
	struct pci_regs both;
	int err;

	pthread_mutex_lock(&pci->lock);
	both = meet(pci, &pci->regs, next);
	pthread_mutex_unlock(&pci->lock);
	set_regs(pci, &both);
	cleat_device_set_master(pci->dev, next->command & PCI_COMMAND_MASTER);
	err = apply(pci);
	if (!err)
		err = cleat_pci_forward(pci, w->offset, w->raw, w->length);
	if (err)
		return err;
	set_regs(pci, next);
	return apply(pci);
}

static int write_command(struct cleat_pci *pci, const struct word_write *w)
{
	struct pci_regs next = pci->regs;

	next.command = merge(next.command, w) & PCI_COMMAND_OURS;
	next.hold = false;
	return change(pci, &next, w);
}

static int write_bar(struct cleat_pci *pci, const struct word_write *w,
		     unsigned index)
{
	int err = 0;

	if (!pci->bar[index].size && !pci->bar[index].upper)
		return 0;
	cleat_pci_bar_write(pci, index, w->value, w->mask);
	/* For information; a question for the size is none. */
	if (!(pci->sizing & 1u << index))
		err = cleat_pci_forward(
			pci, w->at,
			cleat_pci_get32(pci->cfg + cleat_pci_bar_offset(index)),
			4);
	if (!err)
		cleat_pci_bars_apply(pci);
	return err;
}

static int write_line(struct cleat_pci *pci, const struct word_write *w)
{
	pthread_mutex_lock(&pci->lock);
	if (w->mask & 0xff)
		pci->cfg[PCI_INTERRUPT_LINE] = (uint8_t)w->value;
	pthread_mutex_unlock(&pci->lock);
	return pass(pci, w);
}

static int write_msi_control(struct cleat_pci *pci, const struct word_write *w)
{
	struct pci_regs next = pci->regs;
	struct word_write forwarded = *w;
	unsigned most = __builtin_ctz(pci->msi_most);
	uint16_t flags = (uint16_t)(merge((uint32_t)next.msi << 16, w) >> 16);
	unsigned size = (flags & PCI_MSI_FLAGS_QSIZE) >> 4;

	if (size > most)
		size = most;
	next.msi = (uint16_t)((flags & PCI_MSI_FLAGS_ENABLE) | size << 4);
	next.hold = false;
	forwarded.offset = w->at + PCI_MSI_FLAGS;
	forwarded.length = 2;
	forwarded.raw = (cleat_pci_get16(pci->cfg + forwarded.offset) &
			 ~(PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE)) |
			next.msi;
	return change(pci, &next, &forwarded);
}

/* Address, data and mask bits: the server need not know. */
static int write_msi(struct cleat_pci *pci, const struct word_write *w)
{
	unsigned data = pci->msi_wide ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32;
	unsigned reg = w->at - pci->cap.msi;
	uint8_t *word = pci->cfg + w->at;
	uint32_t bits = ~0u;

	if (!reg)
		return w->mask >> 16 ? write_msi_control(pci, w) : 0;
	if (reg == PCI_MSI_ADDRESS_LO)
		bits = ~3u;
	else if (reg == data)
		bits = 0xffff;
	else if (reg == data + 4)
		bits = (uint32_t)((1ull << pci->msi_most) - 1);
	else if (reg > data)
		return 0;
	pthread_mutex_lock(&pci->lock);
	cleat_pci_put32(word, (cleat_pci_get32(word) & ~bits) |
				      (merge(cleat_pci_get32(word), w) & bits));
	pthread_mutex_unlock(&pci->lock);
	return cleat_pci_irq_apply(pci, 0, pci->num_vectors);
}

static int write_msix(struct cleat_pci *pci, const struct word_write *w)
{
	struct pci_regs next = pci->regs;
	struct word_write forwarded = *w;

	next.msix = (uint16_t)(merge((uint32_t)next.msix << 16, w) >> 16) &
		    (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	next.hold = false;
	forwarded.offset = w->at + PCI_MSIX_FLAGS;
	forwarded.length = 2;
	forwarded.raw = (uint32_t)(pci->msix_most - 1) | next.msix;
	return change(pci, &next, &forwarded);
}

static int write_power(struct cleat_pci *pci, const struct word_write *w)
{
	struct pci_regs next = pci->regs;
	struct word_write forwarded = *w;
	uint8_t state = merge(next.power, w) & PCI_PM_CTRL_STATE_MASK;
	bool reset;
	int err;

	if (!(pci->power_states & 1u << state))
		state = next.power;
	reset = next.power == 3 && state == 0 && pci->soft_reset;
	next.power = state;
	next.hold = false;
	if (w->offset == w->at)
		forwarded.raw =
			(w->raw & ~(uint32_t)PCI_PM_CTRL_STATE_MASK) | state;
	if (!reset)
		return change(pci, &next, &forwarded);
	err = cleat_pci_forward(pci, forwarded.offset, forwarded.raw,
				forwarded.length);
	if (err)
		return err;
	cleat_pci_reset_begin(pci, PCI_RESET_POWER);
	return PCI_TURN_GONE;
}

static int write_express(struct cleat_pci *pci, const struct word_write *w)
{
	if (!pci->flr || !(w->value & w->mask & PCI_EXP_DEVCTL_BCR_FLR))
		return pass(pci, w);
	cleat_pci_reset_begin(pci, PCI_RESET_EXPRESS);
	return PCI_TURN_GONE;
}

static int write_af(struct cleat_pci *pci, const struct word_write *w)
{
	if (!pci->af_flr || !(w->value & w->mask & PCI_AF_CTRL_FLR))
		return pass(pci, w);
	cleat_pci_reset_begin(pci, PCI_RESET_AF);
	return PCI_TURN_GONE;
}

static bool is_at(const struct word_write *w, unsigned cap, unsigned reg)
{
	return cap && w->at == cap + reg;
}

static int write_capability(struct cleat_pci *pci, const struct word_write *w)
{
	const struct pci_caps *cap = &pci->cap;

	if (cap->msi && w->at >= cap->msi &&
	    w->at < cap->msi + cleat_pci_msi_length(pci))
		return write_msi(pci, w);
	if (is_at(w, cap->msix, 0))
		return w->mask >> 16 ? write_msix(pci, w) : 0;
	if (is_at(w, cap->pm, PCI_PM_CTRL))
		return write_power(pci, w);
	if (is_at(w, cap->express, PCI_EXP_DEVCTL))
		return write_express(pci, w);
	if (is_at(w, cap->af, PCI_AF_CTRL))
		return write_af(pci, w);
	return pass(pci, w);
}

int cleat_pci_write(struct cleat_pci *pci, unsigned offset, uint32_t value,
		    unsigned length)
{
	unsigned shift = 8 * (offset & 3);
	struct word_write w = {
		.at = offset & ~3u,
		.value = value << shift,
		.mask = (~0u >> (32 - 8 * length)) << shift,
		.offset = offset,
		.length = length,
		.raw = value,
	};

	if (w.at == PCI_COMMAND)
		return w.mask & 0xffff ? write_command(pci, &w) : pass(pci, &w);
	if (w.at >= PCI_BASE_ADDRESS_0 && w.at <= PCI_BASE_ADDRESS_5)
		return write_bar(pci, &w, (w.at - PCI_BASE_ADDRESS_0) / 4);
	if (w.at == PCI_ROM_ADDRESS)
		return write_bar(pci, &w, VFIO_PCI_ROM_REGION_INDEX);
	if (w.at == (PCI_INTERRUPT_LINE & ~3u))
		return write_line(pci, &w);
	return write_capability(pci, &w);
}
