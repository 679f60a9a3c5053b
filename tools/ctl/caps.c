/* SPDX-License-Identifier: BSD-2-Clause */
/* PCI capabilities. */
#include <stdio.h>

#include <linux/pci_regs.h>

#include "tools/ctl/caps.h"

struct cap_name {
	uint16_t id;
	const char *name;
};

static const struct cap_name names[] = {
	{ PCI_CAP_ID_PM, "power management" },
	{ PCI_CAP_ID_AGP, "AGP" },
	{ PCI_CAP_ID_VPD, "vital product data" },
	{ PCI_CAP_ID_SLOTID, "slot" },
	{ PCI_CAP_ID_MSI, "MSI" },
	{ PCI_CAP_ID_PCIX, "PCI-X" },
	{ PCI_CAP_ID_VNDR, "vendor" },
	{ PCI_CAP_ID_SSVID, "bridge subsystem" },
	{ PCI_CAP_ID_EXP, "PCI Express" },
	{ PCI_CAP_ID_MSIX, "MSI-X" },
	{ PCI_CAP_ID_SATA, "SATA" },
	{ PCI_CAP_ID_AF, "advanced features" },
	{ PCI_CAP_ID_EA, "enhanced allocation" },
};

static const struct cap_name extended_names[] = {
	{ PCI_EXT_CAP_ID_ERR, "advanced error reporting" },
	{ PCI_EXT_CAP_ID_VC, "virtual channel" },
	{ PCI_EXT_CAP_ID_DSN, "serial number" },
	{ PCI_EXT_CAP_ID_PWR, "power budget" },
	{ PCI_EXT_CAP_ID_VNDR, "vendor" },
	{ PCI_EXT_CAP_ID_ACS, "access control" },
	{ PCI_EXT_CAP_ID_ARI, "alternative routing" },
	{ PCI_EXT_CAP_ID_ATS, "address translation" },
	{ PCI_EXT_CAP_ID_SRIOV, "SR-IOV" },
	{ PCI_EXT_CAP_ID_PRI, "page requests" },
	{ PCI_EXT_CAP_ID_REBAR, "resizable BAR" },
	{ PCI_EXT_CAP_ID_LTR, "latency tolerance" },
	{ PCI_EXT_CAP_ID_SECPCI, "secondary PCI Express" },
	{ PCI_EXT_CAP_ID_PASID, "PASID" },
	{ PCI_EXT_CAP_ID_L1SS, "L1 substates" },
	{ PCI_EXT_CAP_ID_DVSEC, "designated vendor" },
};

static const char *find(const struct cap_name *table, size_t num, unsigned id)
{
	for (size_t i = 0; i < num; i++)
		if (table[i].id == id)
			return table[i].name;
	return "unknown";
}

static uint32_t get(const struct ctl_config *config, unsigned at,
		    unsigned offset, unsigned width)
{
	return cleat_ctl_config_get(config, at + offset, width);
}

static void put_pm(struct ctl_out *out, const struct ctl_config *config,
		   unsigned at)
{
	uint32_t caps = get(config, at, PCI_PM_PMC, 2);
	uint32_t control = get(config, at, PCI_PM_CTRL, 2);

	cleat_out_number(out, "version", caps & PCI_PM_CAP_VER_MASK);
	cleat_out_number(out, "state", control & PCI_PM_CTRL_STATE_MASK);
	cleat_out_bool(out, "no_soft_reset",
		       control & PCI_PM_CTRL_NO_SOFT_RESET);
}

static void put_msi(struct ctl_out *out, const struct ctl_config *config,
		    unsigned at)
{
	uint32_t flags = get(config, at, PCI_MSI_FLAGS, 2);
	bool wide = flags & PCI_MSI_FLAGS_64BIT;
	uint64_t address = get(config, at, PCI_MSI_ADDRESS_LO, 4);

	if (wide)
		address |= (uint64_t)get(config, at, PCI_MSI_ADDRESS_HI, 4)
			   << 32;
	cleat_out_bool(out, "enabled", flags & PCI_MSI_FLAGS_ENABLE);
	cleat_out_number(out, "vectors",
			 1u << ((flags & PCI_MSI_FLAGS_QMASK) >> 1));
	cleat_out_number(out, "in_use",
			 1u << ((flags & PCI_MSI_FLAGS_QSIZE) >> 4));
	cleat_out_number(out, "bits", wide ? 64 : 32);
	cleat_out_bool(out, "maskable", flags & PCI_MSI_FLAGS_MASKBIT);
	cleat_out_hex(out, "address", address);
	cleat_out_hex(out, "data", get(config, at,
				       wide ? PCI_MSI_DATA_64 :
					      PCI_MSI_DATA_32, 2));
}

static void read_msix(const struct ctl_config *config, unsigned at,
		      struct ctl_msix *msix)
{
	uint32_t table = get(config, at, PCI_MSIX_TABLE, 4);
	uint32_t pba = get(config, at, PCI_MSIX_PBA, 4);

	msix->at = at;
	msix->vectors = (get(config, at, PCI_MSIX_FLAGS, 2) &
			 PCI_MSIX_FLAGS_QSIZE) + 1;
	msix->table_bar = table & PCI_MSIX_TABLE_BIR;
	msix->table_offset = table & PCI_MSIX_TABLE_OFFSET;
	msix->pba_bar = pba & PCI_MSIX_PBA_BIR;
	msix->pba_offset = pba & PCI_MSIX_PBA_OFFSET;
}

bool cleat_ctl_find_msix(const struct ctl_config *config, struct ctl_msix *ret)
{
	struct ctl_chain chain = { 0 };

	while (cleat_ctl_chain_next(config, &chain)) {
		if (get(config, chain.at, 0, 1) != PCI_CAP_ID_MSIX)
			continue;
		read_msix(config, chain.at, ret);
		return true;
	}
	return false;
}

static void put_place(struct ctl_out *out, const char *name, unsigned bar,
		      uint32_t offset)
{
	char text[32];

	snprintf(text, sizeof(text), "BAR%u+%#x", bar, offset);
	cleat_out_string(out, name, text);
}

static void put_msix(struct ctl_out *out, const struct ctl_config *config,
		     unsigned at)
{
	uint32_t flags = get(config, at, PCI_MSIX_FLAGS, 2);
	struct ctl_msix msix;

	read_msix(config, at, &msix);
	cleat_out_bool(out, "enabled", flags & PCI_MSIX_FLAGS_ENABLE);
	cleat_out_bool(out, "masked", flags & PCI_MSIX_FLAGS_MASKALL);
	cleat_out_number(out, "vectors", msix.vectors);
	put_place(out, "table", msix.table_bar, msix.table_offset);
	put_place(out, "pba", msix.pba_bar, msix.pba_offset);
}

static void put_express(struct ctl_out *out, const struct ctl_config *config,
			unsigned at)
{
	static const char *const types[16] = {
		"endpoint", "legacy endpoint", "?", "?", "root port",
		"upstream port", "downstream port", "bridge to PCI",
		"bridge from PCI", "integrated endpoint", "event collector",
		"?", "?", "?", "?", "?",
	};
	uint32_t flags = get(config, at, PCI_EXP_FLAGS, 2);
	uint32_t device = get(config, at, PCI_EXP_DEVCAP, 4);
	uint32_t link = get(config, at, PCI_EXP_LNKSTA, 2);

	cleat_out_number(out, "version", flags & PCI_EXP_FLAGS_VERS);
	cleat_out_string(out, "type",
			 types[(flags & PCI_EXP_FLAGS_TYPE) >> 4]);
	cleat_out_number(out, "max_payload",
			 128u << (device & PCI_EXP_DEVCAP_PAYLOAD));
	cleat_out_bool(out, "flr", device & PCI_EXP_DEVCAP_FLR);
	cleat_out_number(out, "link_speed", link & PCI_EXP_LNKSTA_CLS);
	cleat_out_number(out, "link_width",
			 (link & PCI_EXP_LNKSTA_NLW) >>
				 PCI_EXP_LNKSTA_NLW_SHIFT);
}

static void put_fields(struct ctl_out *out, const struct ctl_config *config,
		       unsigned at, unsigned id)
{
	switch (id) {
	case PCI_CAP_ID_PM:
		put_pm(out, config, at);
		break;
	case PCI_CAP_ID_MSI:
		put_msi(out, config, at);
		break;
	case PCI_CAP_ID_MSIX:
		put_msix(out, config, at);
		break;
	case PCI_CAP_ID_EXP:
		put_express(out, config, at);
		break;
	case PCI_CAP_ID_VNDR:
		cleat_out_number(out, "length", get(config, at, 2, 1));
		break;
	}
}

static void put_extended(struct ctl_out *out, const struct ctl_config *config,
			 unsigned at, unsigned id)
{
	char text[24];

	if (id != PCI_EXT_CAP_ID_DSN)
		return;
	snprintf(text, sizeof(text), "%08x%08x", get(config, at, 8, 4),
		 get(config, at, 4, 4));
	cleat_out_string(out, "serial", text);
}

void cleat_ctl_capability(struct ctl_out *out, const struct ctl_config *config,
			  unsigned at, bool extended)
{
	unsigned id = get(config, at, 0, extended ? 2 : 1);
	const char *name = extended ? find(extended_names,
					   CTL_NUM(extended_names), id) :
				      find(names, CTL_NUM(names), id);

	if (out->gen) {
		cleat_out_hex(out, "offset", at);
		cleat_out_number(out, "id", id);
		cleat_out_string(out, "name", name);
	} else {
		cleat_out_words(out, "  [%0*x] %s (%#x)", extended ? 3 : 2, at,
				name, id);
	}
	if (extended)
		put_extended(out, config, at, id);
	else
		put_fields(out, config, at, id);
}
