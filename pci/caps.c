/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>

#include "pci/function.h"

#define CAPS_START 0x40
#define CAPS_END 0x100

/**
 * struct chain - the list of capabilities while it is walked
 * @link:  where the pointer to the one at hand is
 * @next:  where that one leads
 * @seen:  by word: the list has been here
 * @taken: by byte: some register of a capability that we handle
 */
struct chain {
	uint8_t link;
	uint8_t next;
	bool seen[CAPS_END / 4];
	bool taken[CAPS_END];
};

static int bad_cap(struct cleat_error *reterr, unsigned id, unsigned at,
		   const char *what)
{
	return cleat_fail(reterr, CLEAT_ORIGIN_DEVICE, -EPROTO,
			  "capability %u at 0x%x: %s", id, at, what);
}

/*
 * Registers of two capabilities in one place would leave it to chance which of
 * us handles a write.
 */
static int take_bytes(struct cleat_pci *pci, struct chain *chain, unsigned at,
		      unsigned length, struct cleat_error *reterr)
{
	unsigned id = pci->cfg[at];

	if (at + length > CAPS_END || at + length > pci->length)
		return bad_cap(reterr, id, at, "runs over the end");
	for (unsigned i = at; i < at + length; i++) {
		if (chain->taken[i])
			return bad_cap(reterr, id, at, "lies over another");
		chain->taken[i] = true;
	}
	for (unsigned i = (at + 4) & ~3u; i < at + length; i += 4) {
		int err = cleat_pci_probe_word(pci, i, reterr);

		if (err)
			return err;
	}
	return 0;
}

static int probe_pm(struct cleat_pci *pci, uint8_t at)
{
	uint16_t caps = cleat_pci_get16(pci->cfg + at + PCI_PM_PMC);

	pci->cap.pm = at;
	pci->power_states = 1 << 0 | 1 << 3;
	if (caps & PCI_PM_CAP_D1)
		pci->power_states |= 1 << 1;
	if (caps & PCI_PM_CAP_D2)
		pci->power_states |= 1 << 2;
	pci->soft_reset =
		!(pci->cfg[at + PCI_PM_CTRL] & PCI_PM_CTRL_NO_SOFT_RESET);
	cleat_pci_claim(pci, at, 4);
	pci->own[at + PCI_PM_CTRL] =
		PCI_PM_CTRL_STATE_MASK | PCI_PM_CTRL_NO_SOFT_RESET;
	return 0;
}

/* Registers up to device status: the others pass through. */
#define EXPRESS_LENGTH (PCI_EXP_DEVSTA + 2)

static int probe_express(struct cleat_pci *pci, uint8_t at)
{
	uint32_t caps = cleat_pci_get32(pci->cfg + at + PCI_EXP_DEVCAP);

	pci->cap.express = at;
	pci->flr = caps & PCI_EXP_DEVCAP_FLR;
	cleat_pci_claim(pci, at, PCI_EXP_DEVCTL);
	/* It always reads 0. */
	pci->own[at + PCI_EXP_DEVCTL + 1] = PCI_EXP_DEVCTL_BCR_FLR >> 8;
	pci->cfg[at + PCI_EXP_DEVCTL + 1] &= 0x7f;
	return 0;
}

#define AF_LENGTH 6

static int probe_af(struct cleat_pci *pci, uint8_t at)
{
	pci->cap.af = at;
	pci->af_flr = pci->cfg[at + PCI_AF_CAP] & PCI_AF_CAP_FLR;
	cleat_pci_claim(pci, at, PCI_AF_STATUS);
	pci->cfg[at + PCI_AF_CTRL] = 0;
	return 0;
}

static unsigned length_of(const struct cleat_pci *pci, uint8_t at)
{
	switch (pci->cfg[at]) {
	case PCI_CAP_ID_PM:
		return PCI_PM_SIZEOF;
	case PCI_CAP_ID_MSI:
		if (!(pci->cfg[at + 2] & PCI_MSI_FLAGS_64BIT))
			return pci->cfg[at + 3] & 1 ? 0x14 : 0xa;
		return pci->cfg[at + 3] & 1 ? 0x18 : 0xe;
	case PCI_CAP_ID_MSIX:
		return PCI_CAP_MSIX_SIZEOF;
	case PCI_CAP_ID_EXP:
		return EXPRESS_LENGTH;
	case PCI_CAP_ID_AF:
		return AF_LENGTH;
	default:
		return 2;
	}
}

static uint8_t *slot_of(struct cleat_pci *pci, uint8_t id)
{
	switch (id) {
	case PCI_CAP_ID_PM:
		return &pci->cap.pm;
	case PCI_CAP_ID_MSI:
		return &pci->cap.msi;
	case PCI_CAP_ID_MSIX:
		return &pci->cap.msix;
	case PCI_CAP_ID_EXP:
		return &pci->cap.express;
	case PCI_CAP_ID_AF:
		return &pci->cap.af;
	default:
		return NULL;
	}
}

static int probe_by_id(struct cleat_pci *pci, uint8_t at, bool *ret_hide,
		       struct cleat_error *reterr)
{
	switch (pci->cfg[at]) {
	case PCI_CAP_ID_PM:
		return probe_pm(pci, at);
	case PCI_CAP_ID_MSI:
		return cleat_pci_probe_msi(pci, at, ret_hide, reterr);
	case PCI_CAP_ID_MSIX:
		return cleat_pci_probe_msix(pci, at, ret_hide, reterr);
	case PCI_CAP_ID_EXP:
		return probe_express(pci, at);
	case PCI_CAP_ID_AF:
		return probe_af(pci, at);
	case PCI_CAP_ID_EA:
		/* It says where BARs are; we do. */
		*ret_hide = true;
		return 0;
	default:
		return 0;
	}
}

/* The one before it leads on to the one after it. */
static void unlink_cap(struct cleat_pci *pci, struct chain *chain, uint8_t at,
		       unsigned length)
{
	pci->cfg[chain->link] = chain->next;
	memset(pci->cfg + at, 0, length);
	cleat_pci_claim(pci, at, length);
}

static int probe_one(struct cleat_pci *pci, struct chain *chain, uint8_t at,
		     struct cleat_error *reterr)
{
	unsigned length;
	uint8_t *slot;
	bool hide = false;
	int err = cleat_pci_probe_word(pci, at, reterr);

	if (err)
		return err;
	slot = slot_of(pci, pci->cfg[at]);
	if (slot && *slot)
		return bad_cap(reterr, pci->cfg[at], at, "is there twice");
	length = length_of(pci, at);
	err = take_bytes(pci, chain, at, length, reterr);
	if (!err)
		err = probe_by_id(pci, at, &hide, reterr);
	if (err)
		return err;
	pci->cfg[at + 1] &= 0xfc;
	chain->next = pci->cfg[at + 1];
	cleat_pci_claim(pci, at, 2);
	if (hide)
		unlink_cap(pci, chain, at, length);
	else
		chain->link = at + 1;
	return 0;
}

int cleat_pci_probe_caps(struct cleat_pci *pci, struct cleat_error *reterr)
{
	struct chain chain = { .link = PCI_CAPABILITY_LIST };
	uint8_t at;

	if (!(pci->cfg[PCI_STATUS] & PCI_STATUS_CAP_LIST)) {
		pci->cfg[PCI_CAPABILITY_LIST] = 0;
		return 0;
	}
	pci->cfg[PCI_CAPABILITY_LIST] &= 0xfc;
	for (at = pci->cfg[PCI_CAPABILITY_LIST]; at; at = chain.next) {
		int err;

		if (at < CAPS_START || at + 4u > pci->length)
			return bad_cap(reterr, 0, at, "is outside");
		if (chain.seen[at / 4])
			return bad_cap(reterr, pci->cfg[at], at,
				       "the list runs in a circle");
		chain.seen[at / 4] = true;
		err = probe_one(pci, &chain, at, reterr);
		if (err)
			return err;
	}
	return 0;
}
