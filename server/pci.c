/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Configuration space as the device's side keeps it: bytes, which of their
 * bits can be written, which are cleared by writing ones, and what follows
 * from a change.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#include "server/server.h"

#define COMMAND_BITS                                                           \
	(PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |            \
	 PCI_COMMAND_PARITY | PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE)
#define STATUS_CLEARABLE 0xf900u

static void put(uint8_t *at, unsigned width, uint32_t value)
{
	for (unsigned i = 0; i < width; i++)
		at[i] = (uint8_t)(value >> (8 * i));
}

uint32_t cleat_server_pci_get(const struct cleat_server_pci *pci,
			      uint32_t offset, unsigned width)
{
	uint32_t value = 0;

	if (width > 4 || offset > pci->length || pci->length - offset < width)
		return UINT32_MAX;
	for (unsigned i = 0; i < width; i++)
		value |= (uint32_t)pci->data[offset + i] << (8 * i);
	return value;
}

void cleat_server_pci_set(struct cleat_server_pci *pci, uint32_t offset,
			  unsigned width, uint32_t value)
{
	if (width > 4 || offset > pci->length || pci->length - offset < width)
		return;
	put(pci->data + offset, width, value);
}

/* What the guest can switch, before and after a write. */
struct controls {
	uint16_t command;
	bool msi, msix, msix_mask;
};

static struct controls controls(const struct cleat_server_pci *pci)
{
	struct controls now = {
		.command = (uint16_t)cleat_server_pci_get(pci, PCI_COMMAND, 2),
	};
	uint32_t flags;

	if (pci->msi) {
		flags = cleat_server_pci_get(pci, pci->msi + PCI_MSI_FLAGS, 2);
		now.msi = flags & PCI_MSI_FLAGS_ENABLE;
	}
	if (pci->msix) {
		flags = cleat_server_pci_get(pci, pci->msix + PCI_MSIX_FLAGS,
					     2);
		now.msix = flags & PCI_MSIX_FLAGS_ENABLE;
		now.msix_mask = flags & PCI_MSIX_FLAGS_MASKALL;
	}
	return now;
}

static void tell(struct cleat_server_pci *pci, const struct controls *old)
{
	struct controls now = controls(pci);

	if ((old->command ^ now.command) & PCI_COMMAND_INTX_DISABLE)
		cleat_srv_intx_inhibit(pci->srv, now.command &
						 PCI_COMMAND_INTX_DISABLE);
	if (old->command != now.command && pci->ops.command_changed)
		pci->ops.command_changed(pci->opaque, old->command,
					 now.command);
	if (old->msi != now.msi && pci->ops.msi_changed)
		pci->ops.msi_changed(pci->opaque, now.msi);
	if ((old->msix != now.msix || old->msix_mask != now.msix_mask) &&
	    pci->ops.msix_changed)
		pci->ops.msix_changed(pci->opaque, now.msix, now.msix_mask);
}

static void clear_msi(struct cleat_server_pci *pci, uint32_t cap, uint16_t bit)
{
	if (cap)
		cleat_server_pci_set(pci, cap + 2, 2,
				     cleat_server_pci_get(pci, cap + 2, 2) &
					     ~(uint32_t)bit);
}

/* What a guest's function-level reset does to the function itself. */
static void reset_function(struct cleat_server_pci *pci)
{
	struct controls old = controls(pci);

	cleat_server_pci_set(pci, PCI_COMMAND, 2, 0);
	for (unsigned i = 0; i < 6; i++) {
		uint32_t bar = PCI_BASE_ADDRESS_0 + 4 * i;
		uint32_t fixed = cleat_server_pci_get(pci, bar, 4) & 0xfu;

		cleat_server_pci_set(pci, bar, 4,
				     fixed & (fixed & 1 ? 0x3u : 0xfu));
	}
	cleat_server_pci_set(pci, PCI_ROM_ADDRESS, 4, 0);
	clear_msi(pci, pci->msi, PCI_MSI_FLAGS_ENABLE);
	clear_msi(pci, pci->msix,
		  PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	tell(pci, &old);
	cleat_srv_irqs_reset(pci->srv);
	/*
	 * The device waits inside a DMA of its own: when that has ended. Either
	 * way a migration goes on, of which the guest knows nothing; it is the
	 * client's DEVICE_RESET that ends one.
	 */
	if (pci->srv->nested)
		pci->srv->reset_wanted = true;
	else
		pci->srv->ops.reset(pci->srv->opaque);
}

/* The bit that asks for a reset reads as zero for ever. */
static bool take_flr(struct cleat_server_pci *pci)
{
	uint32_t control = pci->pcie + PCI_EXP_DEVCTL;
	uint32_t value;

	if (!pci->pcie)
		return false;
	value = cleat_server_pci_get(pci, control, 2);
	if (!(value & PCI_EXP_DEVCTL_BCR_FLR))
		return false;
	cleat_server_pci_set(pci, control, 2, value & ~PCI_EXP_DEVCTL_BCR_FLR);
	return pci->srv->ops.reset;
}

static void config_read(struct cleat_server_pci *pci, uint32_t offset,
			uint8_t *buf, size_t count)
{
	memcpy(buf, pci->data + offset, count);
	if (offset <= PCI_STATUS && offset + count > PCI_STATUS &&
	    cleat_srv_irq_pending(pci->srv, CLEAT_IRQ_INTX, 0))
		buf[PCI_STATUS - offset] |= PCI_STATUS_INTERRUPT;
}

static void config_write(struct cleat_server_pci *pci, uint32_t offset,
			 const uint8_t *buf, size_t count)
{
	struct controls old = controls(pci);

	for (size_t i = 0; i < count; i++) {
		uint8_t mask = pci->writable[offset + i];
		uint8_t *byte = &pci->data[offset + i];

		*byte = (uint8_t)((*byte & ~mask) | (buf[i] & mask));
		*byte &= (uint8_t)~(buf[i] & pci->clearable[offset + i]);
	}
	if (take_flr(pci)) {
		reset_function(pci);
		return;
	}
	tell(pci, &old);
	if (pci->ops.config_written)
		pci->ops.config_written(pci->opaque, offset, count);
}

int cleat_srv_pci_access(struct cleat_server_pci *pci, uint64_t offset,
			 void *buf, size_t count, bool write)
{
	if (write)
		config_write(pci, (uint32_t)offset, buf, count);
	else
		config_read(pci, (uint32_t)offset, buf, count);
	return 0;
}

/* Only what a guest could have written itself. */
void cleat_srv_pci_restore(struct cleat_server_pci *pci, const uint8_t *data,
			   const uint8_t *table)
{
	struct controls old = controls(pci);

	for (uint32_t i = 0; i < pci->length; i++)
		pci->data[i] = (uint8_t)((pci->data[i] & ~pci->writable[i]) |
					 (data[i] & pci->writable[i]));
	if (pci->table)
		memcpy(pci->table, table,
		       pci->config.msix_vectors * PCI_MSIX_ENTRY_SIZE);
	tell(pci, &old);
}

static void fill_header(struct cleat_server_pci *pci)
{
	const struct cleat_server_pci_config *config = &pci->config;
	uint8_t *data = pci->data;

	put(data + PCI_VENDOR_ID, 2, config->vendor);
	put(data + PCI_DEVICE_ID, 2, config->device);
	put(data + PCI_CLASS_REVISION, 4,
	    config->class_code << 8 | config->revision);
	put(data + PCI_SUBSYSTEM_VENDOR_ID, 2, config->subvendor);
	put(data + PCI_SUBSYSTEM_ID, 2, config->subdevice);
	put(data + PCI_INTERRUPT_PIN, 1, config->interrupt_pin);
	put(pci->writable + PCI_COMMAND, 2, COMMAND_BITS);
	put(pci->clearable + PCI_STATUS, 2, STATUS_CLEARABLE);
	pci->writable[PCI_CACHE_LINE_SIZE] = 0xff;
	pci->writable[PCI_INTERRUPT_LINE] = 0xff;
}

static bool is_power(uint64_t value)
{
	return value && !(value & (value - 1));
}

static int bad_bar(struct cleat_error *reterr, unsigned bar, const char *why)
{
	return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL, "BAR %u: %s",
			  bar, why);
}

static int check_bar(struct cleat_server_pci *pci, unsigned bar,
		     struct cleat_error *reterr)
{
	uint64_t length = pci->srv->regions[bar]->length;
	uint32_t flags = pci->config.bars[bar].flags;

	if (!is_power(length))
		return bad_bar(reterr, bar, "length is not a power of two");
	if (flags & CLEAT_BAR_IO)
		return length < 4 || length > 256 || flags != CLEAT_BAR_IO ?
			       bad_bar(reterr, bar, "not a possible I/O BAR") :
			       0;
	if (length < 16)
		return bad_bar(reterr, bar, "shorter than 16 bytes");
	if (!(flags & CLEAT_BAR_64))
		return length > UINT64_C(1) << 31 ?
			       bad_bar(reterr, bar, "too long for 32 bits") :
			       0;
	if (bar == 5 || pci->srv->regions[bar + 1])
		return bad_bar(reterr, bar, "no free register for its top");
	return 0;
}

static int add_bar(struct cleat_server_pci *pci, unsigned bar,
		   struct cleat_error *reterr)
{
	uint32_t at = PCI_BASE_ADDRESS_0 + 4 * bar;
	uint32_t flags = pci->config.bars[bar].flags;
	uint64_t mask;
	int err;

	if (!pci->srv->regions[bar] || !pci->srv->regions[bar]->length)
		return 0;
	err = check_bar(pci, bar, reterr);
	if (err)
		return err;
	mask = ~(pci->srv->regions[bar]->length - 1);
	put(pci->writable + at, 4, (uint32_t)mask);
	if (flags & CLEAT_BAR_IO)
		pci->data[at] |= PCI_BASE_ADDRESS_SPACE_IO;
	if (flags & CLEAT_BAR_PREFETCH)
		pci->data[at] |= PCI_BASE_ADDRESS_MEM_PREFETCH;
	if (flags & CLEAT_BAR_64) {
		pci->data[at] |= PCI_BASE_ADDRESS_MEM_TYPE_64;
		put(pci->writable + at + 4, 4, (uint32_t)(mask >> 32));
	}
	return 0;
}

static int add_rom(struct cleat_server_pci *pci, struct cleat_error *reterr)
{
	struct cleat_srv_region *rom = pci->srv->regions[6];

	if (!rom || !rom->length)
		return 0;
	if (!is_power(rom->length) || rom->length < 2048 ||
	    rom->length > 16 << 20)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "expansion ROM: not a power of two from "
				  "2 KiB to 16 MiB");
	put(pci->writable + PCI_ROM_ADDRESS, 4,
	    (uint32_t) ~(rom->length - 1) | PCI_ROM_ADDRESS_ENABLE);
	return 0;
}

static int add_bars(struct cleat_server_pci *pci, struct cleat_error *reterr)
{
	int err = 0;

	for (unsigned bar = 0; bar < 6 && !err; bar++)
		err = add_bar(pci, bar, reterr);
	return err ? err : add_rom(pci, reterr);
}

static int add_irqs(struct cleat_server_pci *pci, uint32_t index,
		    uint32_t count, struct cleat_error *reterr)
{
	if (!count || pci->srv->irqs[index].added)
		return 0;
	return cleat_server_add_irqs(pci->srv, index, count, 0, reterr);
}

static int add_interrupts(struct cleat_server_pci *pci,
			  struct cleat_error *reterr)
{
	const struct cleat_server_pci_config *config = &pci->config;
	int err;

	err = add_irqs(pci, CLEAT_IRQ_INTX, config->interrupt_pin ? 1 : 0,
		       reterr);
	if (!err)
		err = add_irqs(pci, CLEAT_IRQ_MSI, config->msi_vectors, reterr);
	if (!err)
		err = add_irqs(pci, CLEAT_IRQ_MSIX, config->msix_vectors,
			       reterr);
	return err;
}

static int check_config(const struct cleat_server_pci *pci,
			struct cleat_error *reterr)
{
	const struct cleat_server_pci_config *config = &pci->config;

	if (config->interrupt_pin > 4)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "interrupt pin %u", config->interrupt_pin);
	if (config->msi_vectors &&
	    (!is_power(config->msi_vectors) || config->msi_vectors > 32))
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "%u MSI vectors", config->msi_vectors);
	return config->msix_vectors ? cleat_srv_msix_check(pci, reterr) : 0;
}

static int fill_all(struct cleat_server_pci *pci, struct cleat_error *reterr)
{
	int err = check_config(pci, reterr);

	if (err)
		return err;
	fill_header(pci);
	err = add_bars(pci, reterr);
	if (err)
		return err;
	err = cleat_srv_pci_standard_caps(pci);
	if (err)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
				  "configuration space: capabilities");
	return add_interrupts(pci, reterr);
}

static struct cleat_server_pci *
new_pci(struct cleat_server *srv, const struct cleat_server_pci_config *config,
	const struct cleat_server_pci_ops *ops, void *opaque)
{
	struct cleat_server_pci *pci = calloc(1, sizeof(*pci));

	if (!pci)
		return NULL;
	pci->srv = srv;
	pci->config = *config;
	if (ops)
		memcpy(&pci->ops, ops,
		       ops->size < sizeof(*ops) ? ops->size : sizeof(*ops));
	pci->opaque = opaque;
	pci->length = config->pcie ? 4096 : 256;
	pci->cap_end = PCI_STD_HEADER_SIZEOF;
	pci->ext_end = 256;
	pci->table = calloc(config->msix_vectors + 1u, PCI_MSIX_ENTRY_SIZE);
	if (!pci->table) {
		free(pci);
		return NULL;
	}
	return pci;
}

void cleat_srv_pci_end(struct cleat_server_pci *pci)
{
	if (!pci)
		return;
	free(pci->table);
	free(pci);
}

int cleat_server_pci_create(struct cleat_server *srv,
			    const struct cleat_server_pci_config *config,
			    const struct cleat_server_pci_ops *ops,
			    void *opaque, struct cleat_server_pci **ret_pci,
			    struct cleat_error *reterr)
{
	struct cleat_server_region region = {
		.size = sizeof(region),
		.index = VFIO_PCI_CONFIG_REGION_INDEX,
		.flags = CLEAT_REGION_READ | CLEAT_REGION_WRITE,
	};
	struct cleat_server_pci *pci;
	int err;

	if (config->size < sizeof(*config))
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "struct cleat_server_pci_config: size %u",
				  config->size);
	pci = new_pci(srv, config, ops, opaque);
	if (!pci)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ENOMEM,
				  "configuration space: no memory");
	region.length = pci->length;
	err = fill_all(pci, reterr);
	if (!err)
		err = cleat_server_add_region(srv, &region, reterr);
	if (err) {
		cleat_srv_pci_end(pci);
		return err;
	}
	srv->pci = pci;
	*ret_pci = pci;
	return 0;
}

int cleat_server_pci_raise(struct cleat_server_pci *pci, uint32_t vector)
{
	struct controls now = controls(pci);
	uint32_t log;

	if (now.msix)
		return cleat_server_irq_raise(pci->srv, CLEAT_IRQ_MSIX, vector);
	if (now.msi) {
		log = cleat_server_pci_get(pci, pci->msi + PCI_MSI_FLAGS, 2);
		log = (log & PCI_MSI_FLAGS_QSIZE) >> 4;
		vector &= (1u << log) - 1;
		if (vector >= pci->config.msi_vectors)
			vector = 0;
		return cleat_server_irq_raise(pci->srv, CLEAT_IRQ_MSI, vector);
	}
	if (!pci->config.interrupt_pin)
		return -ENOENT;
	return cleat_server_irq_raise(pci->srv, CLEAT_IRQ_INTX, 0);
}

void cleat_server_pci_lower(struct cleat_server_pci *pci)
{
	if (pci->config.interrupt_pin)
		cleat_server_irq_lower(pci->srv, CLEAT_IRQ_INTX, 0);
}
