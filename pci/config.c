/* SPDX-License-Identifier: BSD-2-Clause */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "pci/function.h"

#define ONES 0xffffffffu

static void show16(struct cleat_pci *pci, unsigned offset, uint16_t bits,
		   uint16_t value)
{
	uint8_t *reg = pci->cfg + offset;

	cleat_pci_put16(reg, (uint16_t)((cleat_pci_get16(reg) & ~bits) |
					(value & bits)));
}

void cleat_pci_show_regs(struct cleat_pci *pci)
{
	const struct pci_regs *regs = &pci->regs;

	show16(pci, PCI_COMMAND, PCI_COMMAND_OURS, regs->command);
	if (pci->cap.msi)
		show16(pci, pci->cap.msi + PCI_MSI_FLAGS,
		       PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE, regs->msi);
	if (pci->cap.msix)
		show16(pci, pci->cap.msix + PCI_MSIX_FLAGS,
		       PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL,
		       regs->msix);
	if (pci->cap.pm)
		show16(pci, pci->cap.pm + PCI_PM_CTRL, PCI_PM_CTRL_STATE_MASK,
		       regs->power);
}

static bool is_access(unsigned offset, unsigned length)
{
	return (length == 1 || length == 2 || length == 4) &&
	       !(offset % length) && offset <= PCI_CONFIG_SIZE - length;
}

/* Nothing answers: as on a bus without the device. */
static bool is_absent(struct cleat_pci *pci)
{
	return atomic_load(&pci->resetting) || atomic_load(&pci->gone) ||
	       cleat_device_is_lost(pci->dev);
}

static uint32_t all_ones(unsigned length)
{
	return ONES >> (32 - 8 * length);
}

static uint32_t get_bytes(const uint8_t *bytes, unsigned length)
{
	uint32_t value = 0;

	memcpy(&value, bytes, length);
	return le32toh(value);
}

/* The pending bits of MSI are nobody's memory. */
static void show_pending(struct cleat_pci *pci, unsigned offset)
{
	unsigned at = pci->cap.msi + (pci->msi_wide ? 0x14u : 0x10u);
	uint32_t bits = 0;

	if (!pci->cap.msi || !pci->msi_maskable || (offset & ~3u) != at)
		return;
	for (unsigned i = 0; i < pci->msi_most; i++)
		if (cleat_pci_vector_pending(pci, VFIO_PCI_MSI_IRQ_INDEX, i))
			bits |= 1u << i;
	pthread_mutex_lock(&pci->lock);
	cleat_pci_put32(pci->cfg + at, bits);
	pthread_mutex_unlock(&pci->lock);
}

static int read_server(struct cleat_pci *pci, unsigned offset,
		       uint32_t *ret_value, unsigned length)
{
	uint32_t value = 0;
	int err = cleat_region_read(pci->dev, VFIO_PCI_CONFIG_REGION_INDEX,
				    offset, &value, length);

	if (err == -ECANCELED && cleat_pci_called_back())
		return -EINTR;
	*ret_value = err ? all_ones(length) : le32toh(value);
	return 0;
}

static int config_read(struct cleat_pci *pci, unsigned offset,
		       uint32_t *ret_value, unsigned length)
{
	uint32_t own = get_bytes(pci->own + offset, length);
	uint32_t value = 0;
	int err;

	if (own != all_ones(length)) {
		err = read_server(pci, offset, &value, length);
		if (err)
			return err;
	}
	show_pending(pci, offset);
	pthread_mutex_lock(&pci->lock);
	value = (value & ~own) | (get_bytes(pci->cfg + offset, length) & own);
	pthread_mutex_unlock(&pci->lock);
	*ret_value = is_absent(pci) ? all_ones(length) : value;
	return 0;
}

static int config_write(struct cleat_pci *pci, unsigned offset, uint32_t value,
			unsigned length)
{
	int err = cleat_pci_turn_take(&pci->turn, &pci->resetting);

	if (err == -ENODEV)
		return 0;
	if (err)
		return err;
	if (is_absent(pci))
		err = 0;
	else
		err = cleat_pci_write(pci, offset, value, length);
	if (err == PCI_TURN_GONE)
		return 0;
	cleat_pci_turn_give(&pci->turn);
	return err;
}

int cleat_pci_config_access(struct cleat_pci *pci, unsigned offset,
			    uint32_t *value, unsigned length, bool write)
{
	if (!is_access(offset, length) || is_absent(pci)) {
		if (!write)
			*value = length && length < 4 ? all_ones(length) : ONES;
		/* A guest looks until its reset is done. */
		cleat_pci_worker_nudge(pci);
		return 0;
	}
	if (write)
		return config_write(pci, offset, *value, length);
	return config_read(pci, offset, value, length);
}

/* A thread without a handle is not called back. */
static void access_whole(struct cleat_pci *pci, unsigned offset,
			 uint32_t *value, unsigned length, bool write)
{
	struct cleat_cancel *cancel = cleat_cancel_current();

	cleat_cancel_enter(NULL);
	cleat_pci_config_access(pci, offset, value, length, write);
	cleat_cancel_enter(cancel);
}

uint32_t cleat_pci_config_read(struct cleat_pci *pci, unsigned offset,
			       unsigned length)
{
	uint32_t value = ONES;

	access_whole(pci, offset, &value, length, false);
	return value;
}

void cleat_pci_config_write(struct cleat_pci *pci, unsigned offset,
			    uint32_t value, unsigned length)
{
	access_whole(pci, offset, &value, length, true);
}

int cleat_pci_tell(struct cleat_pci *pci, unsigned offset, uint32_t value,
		   unsigned length)
{
	uint32_t bytes = htole32(value);
	int err;

	if (offset + length > pci->length)
		return 0;
	err = cleat_region_write(pci->dev, VFIO_PCI_CONFIG_REGION_INDEX, offset,
				 &bytes, length);
	if (err && err != -ENOTCONN && err != -ECANCELED)
		cleat_pci_log(pci, "config write at 0x%x: %s", offset,
			      strerror(-err));
	return err;
}

int cleat_pci_forward(struct cleat_pci *pci, unsigned offset, uint32_t value,
		      unsigned length)
{
	int err = cleat_pci_tell(pci, offset, value, length);

	/* What we do of it ourselves does not hang on the server's consent. */
	return err == -ECANCELED && cleat_pci_called_back() ? -EINTR : 0;
}

static void quiet_one(struct cleat_pci *pci, unsigned offset, uint16_t bits)
{
	uint16_t value = 0;

	if (cleat_region_read(pci->dev, VFIO_PCI_CONFIG_REGION_INDEX, offset,
			      &value, sizeof(value)))
		return;
	value = le16toh(value);
	if (value & bits)
		cleat_pci_forward(pci, offset, value & (uint16_t)~bits,
				  sizeof(value));
}

void cleat_pci_quiet(struct cleat_pci *pci)
{
	quiet_one(pci, PCI_COMMAND, 0xffff);
	if (pci->cap.msi)
		quiet_one(pci, pci->cap.msi + PCI_MSI_FLAGS,
			  PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE);
	if (pci->cap.msix)
		quiet_one(pci, pci->cap.msix + PCI_MSIX_FLAGS,
			  PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
}
