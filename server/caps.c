/* SPDX-License-Identifier: BSD-2-Clause */
/* Capabilities of configuration space, and the usual ones ready-made. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "server/server.h"

#define EXT_CAP_MAX_VERSION 15

static void put(uint8_t *at, unsigned width, uint32_t value)
{
	for (unsigned i = 0; i < width; i++)
		at[i] = (uint8_t)(value >> (8 * i));
}

static void fill_body(struct cleat_server_pci *pci, uint32_t at,
		      const void *body, const void *writable, size_t length)
{
	memcpy(pci->data + at, body, length);
	if (writable)
		memcpy(pci->writable + at, writable, length);
}

int cleat_server_pci_add_cap(struct cleat_server_pci *pci, uint8_t id,
			     const void *body, const void *writable,
			     size_t length)
{
	uint32_t at = pci->cap_end;

	if (!id || pci->srv->conn.fd >= 0)
		return -EINVAL;
	if (length > 256 || at + 2 + length > 256)
		return -ENOSPC;
	pci->data[at] = id;
	fill_body(pci, at + 2, body, writable, length);
	if (pci->last_cap)
		pci->data[pci->last_cap + 1] = (uint8_t)at;
	else
		pci->data[PCI_CAPABILITY_LIST] = (uint8_t)at;
	pci->data[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	pci->last_cap = at;
	pci->cap_end = (at + 2 + (uint32_t)length + 3) & ~3u;
	return (int)at;
}

int cleat_server_pci_add_ext_cap(struct cleat_server_pci *pci, uint16_t id,
				 uint8_t version, const void *body,
				 const void *writable, size_t length)
{
	uint32_t at = pci->ext_end;

	if (!id || !version || version > EXT_CAP_MAX_VERSION ||
	    pci->srv->conn.fd >= 0 || !pci->config.pcie)
		return -EINVAL;
	if (length > 4096 || at + 4 + length > 4096)
		return -ENOSPC;
	put(pci->data + at, 4, id | (uint32_t)version << 16);
	fill_body(pci, at + 4, body, writable, length);
	if (pci->last_ext)
		put(pci->data + pci->last_ext + 2, 2,
		    (pci->data[pci->last_ext + 2] & 0xfu) | at << 4);
	pci->last_ext = at;
	pci->ext_end = (at + 4 + (uint32_t)length + 3) & ~3u;
	return (int)at;
}

static int add_pm(struct cleat_server_pci *pci)
{
	uint8_t body[PCI_PM_SIZEOF - 2] = { 0 };
	uint8_t writable[sizeof(body)] = { 0 };

	put(body, 2, 3);
	put(body + PCI_PM_CTRL - 2, 2, PCI_PM_CTRL_NO_SOFT_RESET);
	put(writable + PCI_PM_CTRL - 2, 2, PCI_PM_CTRL_STATE_MASK);
	return cleat_server_pci_add_cap(pci, PCI_CAP_ID_PM, body, writable,
					sizeof(body));
}

static uint32_t log2_of(uint32_t value)
{
	return value > 1 ? 31u - (uint32_t)__builtin_clz(value) : 0;
}

static int add_msi(struct cleat_server_pci *pci)
{
	uint32_t vectors = pci->config.msi_vectors;
	uint32_t bits = vectors == 32 ? UINT32_MAX : (1u << vectors) - 1;
	uint8_t body[PCI_MSI_PENDING_64 + 4 - 2] = { 0 };
	uint8_t writable[sizeof(body)] = { 0 };
	int at;

	put(body, 2,
	    PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT |
		    log2_of(vectors) << 1);
	put(writable, 2, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE);
	put(writable + PCI_MSI_ADDRESS_LO - 2, 4, ~3u);
	put(writable + PCI_MSI_ADDRESS_HI - 2, 4, UINT32_MAX);
	put(writable + PCI_MSI_DATA_64 - 2, 2, 0xffff);
	put(writable + PCI_MSI_MASK_64 - 2, 4, bits);
	at = cleat_server_pci_add_cap(pci, PCI_CAP_ID_MSI, body, writable,
				      sizeof(body));
	pci->msi = at > 0 ? (uint32_t)at : 0;
	return at;
}

static int add_msix(struct cleat_server_pci *pci)
{
	const struct cleat_server_pci_config *config = &pci->config;
	uint8_t body[PCI_CAP_MSIX_SIZEOF - 2] = { 0 };
	uint8_t writable[sizeof(body)] = { 0 };
	int at;

	put(body, 2, config->msix_vectors - 1u);
	put(body + PCI_MSIX_TABLE - 2, 4, config->msix_table | config->msix_bar);
	put(body + PCI_MSIX_PBA - 2, 4, config->msix_pba | config->msix_pba_bar);
	put(writable, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	at = cleat_server_pci_add_cap(pci, PCI_CAP_ID_MSIX, body, writable,
				      sizeof(body));
	pci->msix = at > 0 ? (uint32_t)at : 0;
	return at;
}

static int add_pcie(struct cleat_server_pci *pci)
{
	uint8_t body[PCI_CAP_EXP_ENDPOINT_SIZEOF_V2 - 2] = { 0 };
	uint8_t writable[sizeof(body)] = { 0 };
	uint32_t device = PCI_EXP_DEVCAP_RBER;
	uint32_t link = PCI_EXP_LNKCAP_SLS_2_5GB | 1u << 4;
	int at;

	if (pci->srv->ops.reset)
		device |= PCI_EXP_DEVCAP_FLR;
	put(body, 2, 2);
	put(body + PCI_EXP_DEVCAP - 2, 4, device);
	put(body + PCI_EXP_LNKCAP - 2, 4, link);
	put(body + PCI_EXP_LNKSTA - 2, 2, link);
	put(writable + PCI_EXP_DEVCTL - 2, 2, UINT16_MAX);
	put(writable + PCI_EXP_LNKCTL - 2, 2, PCI_EXP_LNKCTL_ASPMC |
					      PCI_EXP_LNKCTL_CCC);
	at = cleat_server_pci_add_cap(pci, PCI_CAP_ID_EXP, body, writable,
				      sizeof(body));
	if (at < 0)
		return at;
	pci->pcie = (uint32_t)at;
	put(pci->clearable + at + PCI_EXP_DEVSTA, 2, 0xf);
	return at;
}

static int add_serial(struct cleat_server_pci *pci)
{
	uint8_t body[8];

	put(body, 4, (uint32_t)pci->config.serial);
	put(body + 4, 4, (uint32_t)(pci->config.serial >> 32));
	return cleat_server_pci_add_ext_cap(pci, PCI_EXT_CAP_ID_DSN, 1, body,
					    NULL, sizeof(body));
}

int cleat_srv_pci_standard_caps(struct cleat_server_pci *pci)
{
	const struct cleat_server_pci_config *config = &pci->config;
	int err = 0;

	if (config->pm)
		err = add_pm(pci);
	if (err >= 0 && config->msi_vectors)
		err = add_msi(pci);
	if (err >= 0 && config->pcie)
		err = add_pcie(pci);
	if (err >= 0 && config->msix_vectors)
		err = add_msix(pci);
	if (err >= 0 && config->serial)
		err = add_serial(pci);
	return err < 0 ? err : 0;
}
