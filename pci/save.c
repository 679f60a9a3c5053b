/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The function as the guest sees it, in one piece: a head, config space as we
 * have it and as the server has it, the MSI-X table, a bit for each vector that
 * was pending. What must agree at the target is compared before anything is
 * touched there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pci/function.h"

#define MAGIC 0x49434c43u /* "CLCI" */
#define VERSION 1u
#define CHUNK 256u

struct saved {
	uint32_t magic;
	uint32_t version;
	uint32_t size;
	uint32_t crc; /* of it all, this being 0 */
	uint32_t length;
	uint32_t msi_most, msix_most;
	uint32_t table_at, pba_at;
	uint16_t command, msi, msix;
	uint8_t power, sizing;
	struct pci_caps cap;
	uint8_t table_bar, pba_bar, pin;
	uint8_t intx_pending;
	uint8_t bar_flags[PCI_NUM_BARS];
	uint8_t rest[4];
	uint64_t bar_size[PCI_NUM_BARS];
	uint8_t own[PCI_CONFIG_SIZE];
	uint8_t server[PCI_CONFIG_SIZE];
	/* the table, then the pending bits of vectors */
};

static unsigned pending_bytes(const struct cleat_pci *pci)
{
	return (pci->num_vectors + 7) / 8;
}

size_t cleat_pci_save_size(const struct cleat_pci *pci)
{
	return sizeof(struct saved) + cleat_pci_table_length(pci) +
	       pending_bytes(pci);
}

static uint32_t crc_of(const struct saved *saved, size_t size)
{
	struct saved head = *saved;
	uint32_t crc;

	head.crc = 0;
	crc = cleat_crc32c(0, &head, sizeof(head));
	return cleat_crc32c(crc, saved + 1, size - sizeof(head));
}

/* What both ends must have alike. */
static void describe(const struct cleat_pci *pci, struct saved *saved)
{
	memset(saved, 0, sizeof(*saved));
	saved->magic = MAGIC;
	saved->version = VERSION;
	saved->size = (uint32_t)cleat_pci_save_size(pci);
	saved->length = pci->length;
	saved->msi_most = pci->msi_most;
	saved->msix_most = pci->msix_most;
	saved->table_at = (uint32_t)pci->table_at;
	saved->pba_at = (uint32_t)pci->pba_at;
	saved->cap = pci->cap;
	saved->table_bar = pci->table_bar;
	saved->pba_bar = pci->pba_bar;
	saved->pin = pci->pin;
	for (unsigned i = 0; i < PCI_NUM_BARS; i++) {
		saved->bar_flags[i] = pci->bar[i].flags;
		saved->bar_size[i] = pci->bar[i].size;
	}
}

static bool is_same(const struct saved *a, const struct saved *b)
{
	return a->length == b->length && a->msi_most == b->msi_most &&
	       a->msix_most == b->msix_most && a->table_at == b->table_at &&
	       a->pba_at == b->pba_at &&
	       !memcmp(&a->cap, &b->cap, sizeof(a->cap)) &&
	       a->table_bar == b->table_bar && a->pba_bar == b->pba_bar &&
	       a->pin == b->pin &&
	       !memcmp(a->bar_flags, b->bar_flags, sizeof(a->bar_flags)) &&
	       !memcmp(a->bar_size, b->bar_size, sizeof(a->bar_size));
}

/* Some take registers only. One that the server refuses reads as ones to the
 * guest too. */
static int read_words(struct cleat_pci *pci, unsigned at, uint8_t *to,
		      unsigned n)
{
	for (unsigned end = at + n; at < end; at += 4) {
		int err = cleat_region_read(pci->dev,
					    VFIO_PCI_CONFIG_REGION_INDEX, at,
					    to + at, 4);

		if (!cleat_is_answer(err))
			return err;
		if (err)
			memset(to + at, 0xff, 4);
	}
	return cleat_device_failure(pci->dev, NULL);
}

/* In few messages: the guest stands still meanwhile. */
static int read_server(struct cleat_pci *pci, uint8_t *to)
{
	int err = 0;

	for (unsigned at = 0; at < pci->length && !err; at += CHUNK) {
		unsigned n = pci->length - at < CHUNK ? pci->length - at :
							CHUNK;

		err = cleat_region_read(pci->dev, VFIO_PCI_CONFIG_REGION_INDEX,
					at, to + at, n);
		if (err && cleat_is_answer(err))
			err = read_words(pci, at, to, n);
	}
	return err;
}

/* --- Save ----------------------------------------------------------------- */

/* Everything that comes from now on stays in its eventfd. */
static int freeze(struct cleat_pci *pci)
{
	int err = cleat_pci_turn_take(&pci->irq_turn, NULL);

	if (err)
		return -ECANCELED;
	atomic_store(&pci->frozen, true);
	cleat_pci_vectors_unbind(pci);
	cleat_pci_intx_unbind(pci);
	cleat_pci_turn_give(&pci->irq_turn);
	return 0;
}

static void save_ours(struct cleat_pci *pci, struct saved *saved)
{
	pthread_mutex_lock(&pci->lock);
	saved->command = pci->regs.command;
	saved->msi = pci->regs.msi;
	saved->msix = pci->regs.msix;
	saved->power = pci->regs.power;
	saved->sizing = pci->sizing;
	saved->intx_pending = pci->intx.kept;
	memcpy(saved->own, pci->cfg, sizeof(saved->own));
	if (pci->table)
		memcpy(saved + 1, pci->table, cleat_pci_table_length(pci));
	pthread_mutex_unlock(&pci->lock);
}

static void save_pending(struct cleat_pci *pci, struct saved *saved)
{
	uint8_t *bits = (uint8_t *)(saved + 1) + cleat_pci_table_length(pci);
	int type = pci->type;

	memset(bits, 0, pending_bytes(pci));
	if (type == VFIO_PCI_INTX_IRQ_INDEX)
		saved->intx_pending |= pci->intx.armed &&
				       cleat_irqs_pending(pci->irqs,
							  (unsigned)type, 0);
	else if (type != PCI_NO_IRQ)
		for (unsigned i = 0; i < pci->num_vectors; i++)
			if (cleat_pci_vector_pending(pci, type, i))
				bits[i / 8] |= (uint8_t)(1u << i % 8);
}

ssize_t cleat_pci_save(struct cleat_pci *pci, void *buf, size_t room,
		       struct cleat_error *reterr)
{
	size_t size = cleat_pci_save_size(pci);
	struct saved *saved = buf;
	int err;

	if (room < size || (uintptr_t)buf % _Alignof(struct saved))
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ENOBUFS,
				  "a function takes %zu bytes, aligned", size);
	err = cleat_pci_turn_take(&pci->turn, NULL);
	if (err)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ECANCELED,
				  "a function: called back");
	err = freeze(pci);
	describe(pci, saved);
	if (!err)
		err = read_server(pci, saved->server);
	save_ours(pci, saved);
	save_pending(pci, saved);
	cleat_pci_turn_give(&pci->turn);
	if (err)
		return cleat_fail(reterr, CLEAT_ORIGIN_DEVICE, err,
				  "a function's registers: %s", strerror(-err));
	saved->crc = crc_of(saved, size);
	return (ssize_t)size;
}

/* --- Load ----------------------------------------------------------------- */

static int check(struct cleat_pci *pci, const struct saved *saved, size_t size,
		 struct cleat_error *reterr)
{
	struct saved ours;

	if (size < sizeof(*saved) || saved->magic != MAGIC)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EBADMSG,
				  "this is no function's state");
	if (saved->version > VERSION)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EPROTONOSUPPORT,
				  "a function's state in format %u, newer than "
				  "%u", saved->version, VERSION);
	if (saved->size != size || saved->crc != crc_of(saved, size))
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EBADMSG,
				  "a function's state is damaged");
	describe(pci, &ours);
	if (size != ours.size || !is_same(saved, &ours) ||
	    memcmp(saved->server, pci->cfg, 4))
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EXDEV,
				  "a function's state is that of another "
				  "function");
	return 0;
}

static bool is_at(unsigned cap, unsigned reg, unsigned at)
{
	return cap && at == cap + reg;
}

/* A function-level reset is an order, and no value. */
static uint16_t without_orders(const struct cleat_pci *pci, unsigned at,
			       uint16_t value)
{
	if (is_at(pci->cap.express, PCI_EXP_DEVCTL, at))
		return value & (uint16_t)~PCI_EXP_DEVCTL_BCR_FLR;
	if (is_at(pci->cap.af, PCI_AF_CTRL, at))
		return value & (uint16_t)~PCI_AF_CTRL_FLR;
	return value;
}

static bool is_control(const struct cleat_pci *pci, unsigned at)
{
	return at == PCI_COMMAND ||
	       is_at(pci->cap.msi, PCI_MSI_FLAGS, at) ||
	       is_at(pci->cap.msix, PCI_MSIX_FLAGS, at);
}

/* What the server refuses it refuses the guest too. */
static int put(struct cleat_pci *pci, unsigned at, uint32_t value,
	       unsigned length)
{
	int err = cleat_pci_tell(pci, at, value, length);

	return cleat_is_answer(err) ? cleat_device_failure(pci->dev, NULL) :
				      err;
}

/* The server keeps them for information; they are written as a whole. */
static bool is_bar(unsigned at)
{
	return (at >= PCI_BASE_ADDRESS_0 && at < PCI_CARDBUS_CIS) ||
	       (at & ~3u) == PCI_ROM_ADDRESS;
}

static int tell_bars(struct cleat_pci *pci, const uint8_t *want,
		     const uint8_t *now)
{
	int err = 0;

	for (unsigned at = 0; at < PCI_CAPABILITY_LIST && !err; at += 4)
		if (is_bar(at) && memcmp(want + at, now + at, 4))
			err = put(pci, at, cleat_pci_get32(want + at), 4);
	return err;
}

/* Whatever differs: each message is time that the guest stands still. What
 * switches things on comes last, the command at the very end. */
static int tell_server(struct cleat_pci *pci)
{
	const uint8_t *want = pci->loaded;
	uint8_t now[PCI_CONFIG_SIZE];
	int err = read_server(pci, now);

	if (!err)
		err = tell_bars(pci, want, now);
	for (unsigned pass = 0; pass < 2; pass++)
		for (unsigned at = 0; at < pci->length && !err; at += 2) {
			uint16_t value = without_orders(
				pci, at, cleat_pci_get16(want + at));

			if (is_control(pci, at) != pass || at == PCI_COMMAND ||
			    is_bar(at) || value == cleat_pci_get16(now + at))
				continue;
			err = put(pci, at, value, 2);
		}
	if (!err && memcmp(want + PCI_COMMAND, now + PCI_COMMAND, 2))
		err = put(pci, PCI_COMMAND,
			  cleat_pci_get16(want + PCI_COMMAND), 2);
	return err;
}

/* Lock held. They are armed for that, masked or not, and fired at the resume.
 * INTx may be disabled: then nothing is armed before the guest enables it. */
static void take_pending(struct cleat_pci *pci, const struct saved *saved)
{
	const uint8_t *bits =
		(const uint8_t *)(saved + 1) + cleat_pci_table_length(pci);

	for (unsigned i = 0; i < pci->num_vectors; i++)
		pci->vectors[i].kept = bits[i / 8] & 1u << i % 8;
	pci->intx.kept = saved->intx_pending;
}

static void take_ours(struct cleat_pci *pci, const struct saved *saved)
{
	const uint16_t msix = PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL;

	pthread_mutex_lock(&pci->lock);
	pci->regs = (struct pci_regs){
		.command = saved->command & PCI_COMMAND_OURS,
		.msi = saved->msi &
		       (PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE),
		.msix = saved->msix & msix,
		.power = saved->power & PCI_PM_CTRL_STATE_MASK,
	};
	if (!pci->cap.msi || 1u << (pci->regs.msi >> 4 & 7) > pci->msi_most)
		pci->regs.msi = 0;
	if (!pci->cap.msix)
		pci->regs.msix = 0;
	for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++)
		pci->cfg[i] = (uint8_t)((pci->cfg[i] & ~pci->own[i]) |
					(saved->own[i] & pci->own[i]));
	pci->sizing = saved->sizing;
	cleat_pci_show_regs(pci);
	if (pci->table)
		memcpy(pci->table, saved + 1, cleat_pci_table_length(pci));
	take_pending(pci, saved);
	pthread_mutex_unlock(&pci->lock);
	memcpy(pci->loaded, saved->server, sizeof(saved->server));
}

/* BARs have their addresses in what is ours: they may not leave their sizes. */
static void settle_bars(struct cleat_pci *pci)
{
	uint8_t sizing = pci->sizing;

	for (unsigned i = 0; i < PCI_NUM_BARS; i++) {
		uint8_t *reg = pci->cfg + cleat_pci_bar_offset(i);
		uint32_t value = cleat_pci_get32(reg);

		pthread_mutex_lock(&pci->lock);
		if (!pci->bar[i].upper)
			cleat_pci_put32(reg, pci->bar[i].size ?
						     pci->bar[i].flags :
						     0);
		pthread_mutex_unlock(&pci->lock);
		cleat_pci_bar_write(pci, i, value, ~0u);
	}
	pci->sizing = sizing;
}

static int load(struct cleat_pci *pci, const struct saved *saved)
{
	int err;

	if (!pci->loaded)
		pci->loaded = malloc(PCI_CONFIG_SIZE);
	if (!pci->loaded)
		return -ENOMEM;
	atomic_store(&pci->frozen, true);
	take_ours(pci, saved);
	settle_bars(pci);
	err = tell_server(pci);
	if (err)
		return err;
	pci->has_loaded = true;
	cleat_device_set_master(pci->dev,
				pci->regs.command & PCI_COMMAND_MASTER);
	cleat_pci_bars_apply(pci);
	err = cleat_pci_irq_apply(pci, 0, pci->num_vectors);
	return err ? -ECANCELED : 0;
}

int cleat_pci_load(struct cleat_pci *pci, const void *buf, size_t size,
		   struct cleat_error *reterr)
{
	int err;

	if ((uintptr_t)buf % _Alignof(struct saved))
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "a function's state must be aligned");
	err = check(pci, buf, size, reterr);
	if (err)
		return err;
	if (cleat_pci_turn_take(&pci->turn, NULL))
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ECANCELED,
				  "a function: called back");
	err = load(pci, buf);
	cleat_pci_turn_give(&pci->turn);
	if (err)
		return cleat_fail(reterr, CLEAT_ORIGIN_DEVICE, err,
				  "a function's registers at the server: %s",
				  strerror(-err));
	return 0;
}

/* --- Resume --------------------------------------------------------------- */

static void fire(int fd)
{
	if (fd >= 0)
		cleat_kick_fd(fd);
}

/* In the eventfd it waits until the vector can deliver it: so masked ones
 * become pending. */
static void fire_all(struct cleat_pci *pci)
{
	if (pci->type == VFIO_PCI_INTX_IRQ_INDEX)
		fire(pci->intx.fd);
	else
		for (unsigned i = 0; i < pci->num_vectors; i++)
			if (pci->vectors[i].armed)
				fire(pci->vectors[i].fd);
}

static void kick_all(struct cleat_pci *pci)
{
	for (unsigned i = 0; i < PCI_NUM_BARS; i++)
		if (pci->bar[i].binding)
			cleat_binding_kick(pci->bar[i].binding);
}

static int resume(struct cleat_pci *pci)
{
	bool loaded = pci->has_loaded;
	int err = loaded ? tell_server(pci) : 0;

	if (err)
		return err;
	atomic_store(&pci->frozen, false);
	err = cleat_pci_irq_apply(pci, 0, pci->num_vectors);
	if (err)
		return -ECANCELED;
	if (loaded)
		kick_all(pci);
	if (cleat_pci_turn_take(&pci->irq_turn, NULL))
		return -ECANCELED;
	if (loaded)
		fire_all(pci);
	else
		cleat_pci_intx_resumed(pci);
	cleat_pci_turn_give(&pci->irq_turn);
	pci->has_loaded = false;
	return cleat_device_failure(pci->dev, NULL);
}

int cleat_pci_resume(struct cleat_pci *pci)
{
	int err = cleat_pci_turn_take(&pci->turn, NULL);

	if (err)
		return -ECANCELED;
	err = resume(pci);
	cleat_pci_turn_give(&pci->turn);
	return err;
}
