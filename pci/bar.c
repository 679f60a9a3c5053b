/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>

#include "pci/function.h"

#define ROM VFIO_PCI_ROM_REGION_INDEX
#define MEMORY_MIN 16u
#define PORTS_MIN 4u
#define ROM_MIN 2048u
#define PORTS_MAX 0x10000u

unsigned cleat_pci_bar_offset(unsigned index)
{
	return index == ROM ? PCI_ROM_ADDRESS : PCI_BASE_ADDRESS_0 + 4 * index;
}

static bool is_ports(const struct pci_bar *bar)
{
	return bar->flags & PCI_BASE_ADDRESS_SPACE_IO;
}

static int bad_bar(struct cleat_error *reterr, unsigned index, const char *what)
{
	if (index == ROM)
		return cleat_fail(reterr, CLEAT_ORIGIN_DEVICE, -EPROTO,
				  "expansion ROM: %s", what);
	return cleat_fail(reterr, CLEAT_ORIGIN_DEVICE, -EPROTO, "BAR %u: %s",
			  index, what);
}

/* 0 if there is no such power of two. */
static uint64_t round_up(uint64_t length, uint64_t least)
{
	uint64_t size = least;

	while (size && size < length)
		size <<= 1;
	return size;
}

/*
 * Of the low bits a server may set what it likes: type 1 (below 1 MiB) and the
 * reserved type 3 are shown as 32 bits, and nothing that is not defined.
 */
static uint8_t clean_flags(uint32_t reg)
{
	uint8_t flags = reg & PCI_BASE_ADDRESS_MEM_PREFETCH;

	if (reg & PCI_BASE_ADDRESS_SPACE_IO)
		return PCI_BASE_ADDRESS_SPACE_IO;
	if ((reg & PCI_BASE_ADDRESS_MEM_TYPE_MASK) ==
	    PCI_BASE_ADDRESS_MEM_TYPE_64)
		flags |= PCI_BASE_ADDRESS_MEM_TYPE_64;
	return flags;
}

static uint64_t length_of(struct cleat_pci *pci, unsigned index)
{
	const struct cleat_region *region =
		cleat_device_region(pci->dev, index);

	return region ? region->length : 0;
}

static int size_bar(struct cleat_pci *pci, unsigned index,
		    struct cleat_error *reterr)
{
	struct pci_bar *bar = &pci->bar[index];

	bar->flags = clean_flags(
		cleat_pci_get32(pci->cfg + cleat_pci_bar_offset(index)));
	bar->wide = bar->flags & PCI_BASE_ADDRESS_MEM_TYPE_64;
	bar->size =
		round_up(bar->length, is_ports(bar) ? PORTS_MIN : MEMORY_MIN);
	if (!bar->size)
		return bad_bar(reterr, index, "larger than 2^63 bytes");
	if (is_ports(bar) && bar->size > PORTS_MAX)
		return bad_bar(reterr, index, "more ports than there are");
	if (!bar->wide && bar->size > 1u << 31)
		return bad_bar(reterr, index, "too large for 32 bits");
	if (bar->wide && index == 5)
		return bad_bar(reterr, index, "64 bits, but it is the last");
	if (bar->wide && length_of(pci, index + 1))
		return bad_bar(reterr, index + 1,
			       "is the upper half of the one before");
	if (bar->wide)
		pci->bar[index + 1].upper = true;
	return 0;
}

static int size_rom(struct cleat_pci *pci, struct cleat_error *reterr)
{
	struct pci_bar *bar = &pci->bar[ROM];

	bar->size = round_up(bar->length, ROM_MIN);
	if (!bar->size || bar->size > 1u << 31)
		return bad_bar(reterr, ROM, "too large for 32 bits");
	return 0;
}

/* The guest finds every register as after a reset. */
static void clear_register(struct cleat_pci *pci, unsigned index)
{
	const struct pci_bar *bar = &pci->bar[index];

	cleat_pci_put32(pci->cfg + cleat_pci_bar_offset(index),
			bar->size ? bar->flags : 0);
}

int cleat_pci_probe_bars(struct cleat_pci *pci, struct cleat_error *reterr)
{
	int err = 0;

	for (unsigned i = 0; i < PCI_NUM_BARS && !err; i++) {
		pci->bar[i].length = length_of(pci, i);
		if (pci->bar[i].length)
			err = i == ROM ? size_rom(pci, reterr)
				       : size_bar(pci, i, reterr);
	}
	if (err)
		return err;
	for (unsigned i = 0; i < PCI_NUM_BARS; i++)
		clear_register(pci, i);
	return 0;
}

void cleat_pci_bars_reset(struct cleat_pci *pci)
{
	pthread_mutex_lock(&pci->lock);
	for (unsigned i = 0; i < PCI_NUM_BARS; i++)
		clear_register(pci, i);
	pci->sizing = 0;
	pthread_mutex_unlock(&pci->lock);
}

static unsigned find_windows(struct cleat_pci *pci, unsigned index,
			     struct cleat_emulated windows[2])
{
	struct cleat_emulated all[2] = {
		{ .offset = pci->table_at,
		  .length = cleat_pci_table_length(pci),
		  .access = cleat_pci_table_access,
		  .opaque = pci },
		{ .offset = pci->pba_at,
		  .length = cleat_pci_pba_length(pci),
		  .access = cleat_pci_pba_access,
		  .opaque = pci },
	};
	unsigned first = pci->pba_at < pci->table_at, num = 0;
	uint8_t bars[2] = { pci->table_bar, pci->pba_bar };

	/* In the order of their addresses. */
	if (pci->cap.msix && bars[first] == index)
		windows[num++] = all[first];
	if (pci->cap.msix && bars[!first] == index)
		windows[num++] = all[!first];
	return num;
}

int cleat_pci_bind_bars(struct cleat_pci *pci, struct cleat_error *reterr)
{
	int err = 0;

	for (unsigned i = 0; i < PCI_NUM_BARS && !err; i++) {
		struct cleat_emulated windows[2];
		struct cleat_binding_config config = {
			.size = sizeof(config),
			.device = pci->dev,
			.region = i,
			.space = is_ports(&pci->bar[i]) ? CLEAT_PORTS
							: CLEAT_MEMORY,
			.order = pci->function << 3 | i,
			.ops = pci->bind_ops,
			.emulated = windows,
			.num_emulated = find_windows(pci, i, windows),
		};

		if (pci->bar[i].size)
			err = cleat_mmio_bind(pci->mmio, &config,
					      &pci->bar[i].binding, reterr);
	}
	return err;
}

void cleat_pci_unbind_bars(struct cleat_pci *pci)
{
	for (unsigned i = 0; i < PCI_NUM_BARS; i++)
		pci->bar[i].binding = cleat_mmio_unbind(pci->bar[i].binding);
}

static int refresh(struct cleat_pci *pci, struct cleat_error *reterr)
{
	int err = 0;

	for (unsigned i = 0; i < PCI_NUM_BARS && !err; i++)
		if (pci->bar[i].binding)
			err = cleat_binding_refresh(&pci->bar[i].binding,
						    reterr);
	return err;
}

int cleat_pci_refresh(struct cleat_pci *pci, struct cleat_error *reterr)
{
	int err = cleat_pci_turn_take(&pci->turn, NULL);

	if (err)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ECANCELED,
				  "called back");
	err = refresh(pci, reterr);
	cleat_pci_turn_give(&pci->turn);
	return err;
}

/* Bits that the guest can set. */
static uint32_t writable_bits(struct cleat_pci *pci, unsigned index)
{
	const struct pci_bar *bar = &pci->bar[index];

	if (bar->upper)
		return (uint32_t)(~(bar[-1].size - 1) >> 32);
	if (!bar->size)
		return 0;
	if (index == ROM)
		return (uint32_t) ~(bar->size - 1) | PCI_ROM_ADDRESS_ENABLE;
	return (uint32_t) ~(bar->size - 1);
}

void cleat_pci_bar_write(struct cleat_pci *pci, unsigned index, uint32_t value,
			 uint32_t mask)
{
	uint8_t *reg = pci->cfg + cleat_pci_bar_offset(index);
	uint32_t bits = writable_bits(pci, index) & mask;
	uint32_t ones = index == ROM ? (uint32_t)PCI_ROM_ADDRESS_MASK : ~0u;

	pthread_mutex_lock(&pci->lock);
	cleat_pci_put32(reg, (cleat_pci_get32(reg) & ~bits) | (value & bits));
	/*
	 * All ones asks for the size. Until the register is written again the
	 * window is nowhere, decoding or not: half of a 64-bit address is no
	 * address, and the top of the space is where the VMM keeps its own.
	 */
	if ((value & mask & ones) == ones)
		pci->sizing |= (uint8_t)(1u << index);
	else
		pci->sizing &= (uint8_t) ~(1u << index);
	pthread_mutex_unlock(&pci->lock);
}

static bool is_decoding(const struct cleat_pci *pci, unsigned index)
{
	const struct pci_bar *bar = &pci->bar[index];
	uint16_t need = is_ports(bar) ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
	uint8_t sizing = (uint8_t)((bar->wide ? 3u : 1u) << index);

	if (!(pci->regs.command & need) || pci->regs.power ||
	    (pci->sizing & sizing))
		return false;
	return index != ROM ||
	       (pci->cfg[PCI_ROM_ADDRESS] & PCI_ROM_ADDRESS_ENABLE);
}

/* Where the guest wants it, if anywhere. lock held. */
static bool find_address(const struct cleat_pci *pci, unsigned index,
			 uint64_t *ret_address)
{
	const struct pci_bar *bar = &pci->bar[index];
	const uint8_t *reg = pci->cfg + cleat_pci_bar_offset(index);
	uint64_t address = cleat_pci_get32(reg);

	if (!is_decoding(pci, index))
		return false;
	if (bar->wide)
		address |= (uint64_t)cleat_pci_get32(reg + 4) << 32;
	address &= ~(bar->size - 1);
	/* Never programmed; and no window may wrap or leave the ports. */
	if (!address || address + (bar->size - 1) < address ||
	    (is_ports(bar) && address >= PORTS_MAX))
		return false;
	*ret_address = address;
	return true;
}

static void place(struct cleat_pci *pci, unsigned index, uint64_t address)
{
	struct pci_bar *bar = &pci->bar[index];
	int err;

	if (bar->placed && bar->address == address)
		return;
	err = cleat_binding_place(bar->binding, address);
	bar->placed = !err;
	bar->address = address;
	if (!err) {
		atomic_fetch_add(&pci->placed, 1);
		return;
	}
	cleat_binding_unplace(bar->binding);
	cleat_pci_log(pci, "BAR %u cannot be placed at 0x%llx: %s", index,
		      (unsigned long long)address, strerror(-err));
}

void cleat_pci_bars_apply(struct cleat_pci *pci)
{
	for (unsigned i = 0; i < PCI_NUM_BARS; i++) {
		uint64_t address;
		bool wanted;

		if (!pci->bar[i].binding)
			continue;
		pthread_mutex_lock(&pci->lock);
		wanted = find_address(pci, i, &address);
		pthread_mutex_unlock(&pci->lock);
		if (wanted) {
			place(pci, i, address);
		} else if (pci->bar[i].placed) {
			cleat_binding_unplace(pci->bar[i].binding);
			pci->bar[i].placed = false;
		}
	}
}
