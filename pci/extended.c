/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>

#include "pci/function.h"

#define VERSION_AND_NEXT 0xffff0000u

/*
 * Capabilities that would make the server's device move, grow or translate
 * without our knowing: a guest that used them would reach nothing.
 */
static bool is_hidden(unsigned id)
{
	switch (id) {
	case PCI_EXT_CAP_ID_ATS:
	case PCI_EXT_CAP_ID_SRIOV:
	case PCI_EXT_CAP_ID_MRIOV:
	case PCI_EXT_CAP_ID_PRI:
	case PCI_EXT_CAP_ID_PASID:
	case PCI_EXT_CAP_ID_REBAR:
	case 0x24: /* resizable BARs of virtual functions */
		return true;
	default:
		return false;
	}
}

/* From there to the next capability in address order. */
static unsigned end_of(const struct cleat_pci *pci, unsigned at,
		       const bool *seen)
{
	unsigned end = at + 4;

	while (end < pci->length && !seen[end / 4])
		end += 4;
	return end;
}

static void hide(struct cleat_pci *pci, const bool *seen)
{
	for (unsigned at = PCI_CFG_SPACE_SIZE; at < pci->length; at += 4) {
		uint32_t head = cleat_pci_get32(pci->cfg + at);
		unsigned end;

		if (!seen[at / 4] || !is_hidden(PCI_EXT_CAP_ID(head)))
			continue;
		/* A null capability keeps its place in the list. */
		end = end_of(pci, at, seen);
		cleat_pci_put32(pci->cfg + at, head & VERSION_AND_NEXT);
		memset(pci->cfg + at + 4, 0, end - at - 4);
		cleat_pci_claim(pci, at, end - at);
	}
}

static int walk(struct cleat_pci *pci, bool *seen, struct cleat_error *reterr)
{
	unsigned at = PCI_CFG_SPACE_SIZE;

	while (at) {
		uint32_t head;
		int err;

		if (at < PCI_CFG_SPACE_SIZE || at + 4 > pci->length ||
		    seen[at / 4])
			return cleat_fail(
				reterr, CLEAT_ORIGIN_DEVICE, -EPROTO,
				"extended capability at 0x%x: %s", at,
				at < PCI_CFG_SPACE_SIZE || at + 4 > pci->length
					? "is outside"
					: "the list runs in a circle");
		seen[at / 4] = true;
		err = cleat_pci_probe_word(pci, at, reterr);
		if (err)
			return err;
		cleat_pci_claim(pci, at, 4);
		head = cleat_pci_get32(pci->cfg + at);
		/* The first may be all ones: a server without any. */
		if (at == PCI_CFG_SPACE_SIZE && (!head || head == ~0u))
			break;
		at = PCI_EXT_CAP_NEXT(head);
	}
	return 0;
}

int cleat_pci_probe_extended(struct cleat_pci *pci, struct cleat_error *reterr)
{
	bool seen[PCI_CONFIG_SIZE / 4] = { false };
	int err;

	if (pci->length <= PCI_CFG_SPACE_SIZE)
		return 0;
	err = walk(pci, seen, reterr);
	if (!err)
		hide(pci, seen);
	return err;
}
