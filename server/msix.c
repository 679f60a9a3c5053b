/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Message accesses to the MSI-X table and the pending bits. A client emulates
 * the table itself, so what is here decides nothing: it reads back as written,
 * for clients and tests that look.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "server/server.h"

static uint32_t table_length(const struct cleat_server_pci *pci)
{
	return pci->config.msix_vectors * (uint32_t)PCI_MSIX_ENTRY_SIZE;
}

/* One bit a vector, in words of 64. */
static uint32_t pba_length(const struct cleat_server_pci *pci)
{
	return (pci->config.msix_vectors + 63u) / 64 * 8;
}

static bool fits(const struct cleat_server_pci *pci, uint8_t bar,
		 uint32_t offset, uint32_t length)
{
	const struct cleat_srv_region *region;

	if (bar > 5 || offset & 7)
		return false;
	region = pci->srv->regions[bar];
	return region && region->length >= length &&
	       region->length - length >= offset;
}

int cleat_srv_msix_check(const struct cleat_server_pci *pci,
			 struct cleat_error *reterr)
{
	const struct cleat_server_pci_config *config = &pci->config;

	if (config->msix_vectors > CLEAT_SRV_VECTORS)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "%u MSI-X vectors", config->msix_vectors);
	if (!fits(pci, config->msix_bar, config->msix_table,
		  table_length(pci)) ||
	    !fits(pci, config->msix_pba_bar, config->msix_pba,
		  pba_length(pci)))
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "MSI-X table or pending bits: outside their "
				  "BAR, or not on 8 bytes");
	return 0;
}

static bool inside(uint64_t offset, size_t count, uint32_t base,
		   uint32_t length)
{
	return offset >= base && count <= length &&
	       offset - base <= length - count;
}

static void read_pba(struct cleat_server_pci *pci, uint32_t at, uint8_t *buf,
		     size_t count)
{
	memset(buf, 0, count);
	for (uint32_t bit = 0; bit < count * 8; bit++)
		if (cleat_srv_irq_pending(pci->srv, CLEAT_IRQ_MSIX,
					  at * 8 + bit))
			buf[bit / 8] |= (uint8_t)(1u << bit % 8);
}

int cleat_srv_msix_access(struct cleat_server_pci *pci, uint32_t index,
			  uint64_t offset, void *buf, size_t count, bool write)
{
	const struct cleat_server_pci_config *config = &pci->config;
	uint8_t *entry;

	if (!config->msix_vectors)
		return 0;
	if (index == config->msix_bar &&
	    inside(offset, count, config->msix_table, table_length(pci))) {
		entry = pci->table + (offset - config->msix_table);
		memcpy(write ? entry : buf, write ? buf : entry, count);
		return 1;
	}
	if (index != config->msix_pba_bar ||
	    !inside(offset, count, config->msix_pba, pba_length(pci)))
		return 0;
	if (!write)
		read_pba(pci, (uint32_t)(offset - config->msix_pba), buf,
			 count);
	return 1;
}
