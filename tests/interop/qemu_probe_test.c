/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * QEMU's vfio-user client on cleat-probe: every kind of region, interrupt and
 * DMA that a client of somebody else's can get at. The test is the machine's
 * processor (see qemu.h).
 */
#include <linux/pci_regs.h>
#include <signal.h>
#include <stdio.h>

#include "backends/probe/probe_regs.h"
#include "tests/interop/qemu.h"

#define SLOT 4
#define AT_REGS 0xfe000000u
#define AT_DOORBELLS 0xfe010000u
#define AT_PAGES 0xfe020000u
#define AT_PORTS 0xc000u
/* Pages of RAM that the device writes to. */
#define MESSAGE 0x100000u
#define SOURCE 0x200000u
#define TARGET 0x300000u

struct machine {
	struct child probe;
	struct qemu qemu;
};

static void start_probe(struct machine *m, const char *option)
{
	const char *argv[] = { program("backends/cleat-probe"),
			       "--socket-path=probe.sock", option, NULL };

	child_start(&m->probe, "probe", argv);
	/* QEMU tries no more than once. */
	REQUIRE_SOON(!access("probe.sock", F_OK) || child_ended(&m->probe));
	ATF_REQUIRE(!child_ended(&m->probe));
}

/* What firmware does: give every BAR a place, and switch the device on. */
static void place(struct machine *m)
{
	struct qemu *q = &m->qemu;

	qemu_set_config(q, SLOT, PCI_BASE_ADDRESS_0, AT_REGS);
	qemu_set_config(q, SLOT, PCI_BASE_ADDRESS_1, AT_DOORBELLS);
	qemu_set_config(q, SLOT, PCI_BASE_ADDRESS_2, AT_PAGES);
	qemu_set_config(q, SLOT, PCI_BASE_ADDRESS_3, 0);
	qemu_set_config(q, SLOT, PCI_BASE_ADDRESS_4, AT_PORTS);
	qemu_set_config(q, SLOT, PCI_COMMAND,
			PCI_COMMAND_IO | PCI_COMMAND_MEMORY |
				PCI_COMMAND_MASTER);
}

static void start_qemu(struct machine *m, bool shared)
{
	qemu_prepare(&m->qemu);
	qemu_memory(&m->qemu, 64, shared);
	qemu_device(&m->qemu, "probe.sock", SLOT);
	qemu_start_qtest(&m->qemu);
	place(m);
}

/* @option: of cleat-probe's, or NULL; @shared: it can map the RAM */
static void start(struct machine *m, const char *option, bool shared)
{
	*m = (struct machine){ .qemu.qtest = -1 };
	qemu_prepare(&m->qemu); /* skips before there is a server */
	start_probe(m, option);
	start_qemu(m, shared);
}

static void end(struct machine *m)
{
	qemu_end(&m->qemu);
	ATF_REQUIRE(!child_ended(&m->probe));
	kill(m->probe.pid, SIGTERM);
	ATF_REQUIRE_EQ(0, child_wait(&m->probe, PATIENCE_MS));
	child_end(&m->probe);
}

static uint32_t load(struct machine *m, unsigned offset)
{
	return (uint32_t)qemu_load(&m->qemu, AT_REGS + offset, 4);
}

static void store(struct machine *m, unsigned offset, uint32_t value)
{
	qemu_store(&m->qemu, AT_REGS + offset, 4, value);
}

static uint64_t counter(struct machine *m, unsigned offset)
{
	return load(m, offset) | (uint64_t)load(m, offset + 4) << 32;
}

CLEAT_TC(registers__all_widths)
{
	struct machine m;

	start(&m, NULL, true);
	ATF_REQUIRE_EQ((uint32_t)PROBE_DEVICE << 16 | PROBE_VENDOR,
		       qemu_config(&m.qemu, SLOT, 0));
	ATF_REQUIRE_EQ(PROBE_MAGIC, load(&m, PROBE_ID));
	store(&m, PROBE_SCRATCH, 0x12345678);
	ATF_REQUIRE_EQ(0x12345678, load(&m, PROBE_SCRATCH));
	qemu_store(&m.qemu, AT_REGS + PROBE_SCRATCH64, 8, 0x1122334455667788);
	ATF_REQUIRE_EQ(0x1122334455667788,
		       qemu_load(&m.qemu, AT_REGS + PROBE_SCRATCH64, 8));
	ATF_REQUIRE_EQ(PROBE_MAGIC,
		       qemu_in(&m.qemu, AT_PORTS + PROBE_IO_ID, 4));
	qemu_out(&m.qemu, AT_PORTS + PROBE_IO_SCRATCH, 4, 0xabcd1234);
	ATF_REQUIRE_EQ(0xabcd1234,
		       qemu_in(&m.qemu, AT_PORTS + PROBE_IO_SCRATCH, 4));
	ATF_REQUIRE_EQ(1, counter(&m, PROBE_CLIENTS));
	ATF_REQUIRE(counter(&m, PROBE_RESETS) >= 1);
	end(&m);
}

/* QEMU asks for no IO descriptors: every doorbell comes as a message. */
CLEAT_TC(doorbells__by_message)
{
	struct machine m;

	start(&m, NULL, true);
	for (unsigned i = 0; i < PROBE_ECHOES; i++)
		qemu_store(&m.qemu, AT_DOORBELLS + PROBE_AT_ECHO(i), 4, i + 1);
	for (unsigned i = 0; i < PROBE_SHADOWS; i++)
		qemu_store(&m.qemu, AT_DOORBELLS + PROBE_AT_SHADOW(i), 4, 7);
	qemu_store(&m.qemu, AT_DOORBELLS + PROBE_AT_8, 8, 99);
	for (unsigned i = 0; i < PROBE_ECHOES; i++) {
		ATF_REQUIRE_EQ(1,
			       counter(&m, PROBE_MESSAGES(PROBE_DB_ECHO(i))));
		ATF_REQUIRE_EQ(i + 1,
			       counter(&m, PROBE_VALUE(PROBE_DB_ECHO(i))));
	}
	for (unsigned i = 0; i < PROBE_SHADOWS; i++)
		ATF_REQUIRE_EQ(1,
			       counter(&m, PROBE_MESSAGES(PROBE_DB_SHADOW(i))));
	ATF_REQUIRE_EQ(1, counter(&m, PROBE_MESSAGES(PROBE_DB_8)));
	ATF_REQUIRE_EQ(0, counter(&m, PROBE_WAKEUPS));
	end(&m);
}

/* Only where nothing can be mapped does QEMU not wait for a store's reply. */
CLEAT_TC(doorbells__posted)
{
	struct machine m;

	start(&m, "--no-mapped", true);
	for (unsigned i = 0; i < 1000; i++)
		qemu_store(&m.qemu, AT_DOORBELLS + PROBE_AT_MESSAGE, 4, i);
	ATF_REQUIRE_EQ(1000, counter(&m, PROBE_MESSAGES(PROBE_DB_MESSAGE)));
	ATF_REQUIRE_EQ(999, counter(&m, PROBE_VALUE(PROBE_DB_MESSAGE)));
	end(&m);
}

CLEAT_TC(pages__mapped_and_not)
{
	uint64_t reads, writes;
	struct machine m;

	start(&m, NULL, true);
	reads = counter(&m, PROBE_MESSAGE_READS(PROBE_BAR_PAGES));
	writes = counter(&m, PROBE_MESSAGE_WRITES(PROBE_BAR_PAGES));
	for (unsigned at = 0; at < PROBE_PAGES_LENGTH; at += 0x1000)
		qemu_store(&m.qemu, AT_PAGES + at + 8, 8, at);
	for (unsigned at = 0; at < PROBE_PAGES_LENGTH; at += 0x1000)
		ATF_REQUIRE_EQ(at, qemu_load(&m.qemu, AT_PAGES + at + 8, 8));
	/* 10 of the 16 pages are mapped; of the rest each is a message. */
	reads = counter(&m, PROBE_MESSAGE_READS(PROBE_BAR_PAGES)) - reads;
	writes = counter(&m, PROBE_MESSAGE_WRITES(PROBE_BAR_PAGES)) - writes;
	ATF_REQUIRE(reads >= 6 && reads <= 12);
	ATF_REQUIRE(writes >= 6 && writes <= 12);
	end(&m);
}

/* --- Interrupts ----------------------------------------------------------- */

/* Where a capability is in configuration space. */
static unsigned find_cap(struct machine *m, uint8_t id)
{
	unsigned at = qemu_config(&m->qemu, SLOT, PCI_CAPABILITY_LIST) & 0xfc;

	for (unsigned i = 0; i < 48 && at; i++) {
		uint32_t head = qemu_config(&m->qemu, SLOT, at);

		if ((head & 0xff) == id)
			return at;
		at = head >> 8 & 0xfc;
	}
	atf_tc_fail("no capability %u", id);
}

/* The address of an interrupt's message may be any: here it is RAM. */
CLEAT_TC(msix__every_vector)
{
	struct machine m;
	unsigned cap;

	start(&m, "--vectors=8", true);
	cap = find_cap(&m, PCI_CAP_ID_MSIX);
	for (unsigned i = 0; i < 8; i++) {
		unsigned entry = PROBE_MSIX_TABLE + 16 * i;

		store(&m, entry, MESSAGE + 4 * i);
		store(&m, entry + 4, 0);
		store(&m, entry + 8, 0x1000 + i);
		store(&m, entry + 12, 0);
	}
	qemu_set_config(&m.qemu, SLOT, cap,
			(uint32_t)PCI_MSIX_FLAGS_ENABLE << 16);
	for (unsigned i = 0; i < 8; i++) {
		ATF_REQUIRE_EQ(0, qemu_load(&m.qemu, MESSAGE + 4 * i, 4));
		store(&m, PROBE_IRQ_RAISE, PROBE_IRQ_MSIX | i);
		REQUIRE_SOON(qemu_load(&m.qemu, MESSAGE + 4 * i, 4) ==
			     0x1000 + i);
	}
	ATF_REQUIRE_EQ(0, counter(&m, PROBE_IRQS_LOST));
	end(&m);
}

CLEAT_TC(msix__masked_is_pending)
{
	struct machine m;
	unsigned cap;

	start(&m, "--vectors=4", true);
	cap = find_cap(&m, PCI_CAP_ID_MSIX);
	store(&m, PROBE_MSIX_TABLE, MESSAGE);
	store(&m, PROBE_MSIX_TABLE + 8, 5);
	store(&m, PROBE_MSIX_TABLE + 12, 0);
	qemu_set_config(&m.qemu, SLOT, cap,
			(uint32_t)PCI_MSIX_FLAGS_ENABLE << 16);
	store(&m, PROBE_MSIX_TABLE + 12, PCI_MSIX_ENTRY_CTRL_MASKBIT);
	store(&m, PROBE_IRQ_RAISE, PROBE_IRQ_MSIX);
	ATF_REQUIRE_EQ(1, counter(&m, PROBE_IRQS_RAISED));
	ATF_REQUIRE_EQ(0, qemu_load(&m.qemu, MESSAGE, 4));
	store(&m, PROBE_MSIX_TABLE + 12, 0);
	REQUIRE_SOON(qemu_load(&m.qemu, MESSAGE, 4) == 5);
	end(&m);
}

CLEAT_TC(msi__several)
{
	struct machine m;
	unsigned cap;

	start(&m, "--msi=4", true);
	cap = find_cap(&m, PCI_CAP_ID_MSI);
	qemu_set_config(&m.qemu, SLOT, cap + PCI_MSI_ADDRESS_LO, MESSAGE);
	qemu_set_config(&m.qemu, SLOT, cap + PCI_MSI_ADDRESS_HI, 0);
	qemu_set_config(&m.qemu, SLOT, cap + PCI_MSI_DATA_64, 0x40);
	qemu_set_config(&m.qemu, SLOT, cap,
			(uint32_t)(PCI_MSI_FLAGS_ENABLE | 2 << 4) << 16);
	for (unsigned i = 0; i < 4; i++) {
		store(&m, PROBE_IRQ_RAISE, PROBE_IRQ_MSI | i);
		REQUIRE_SOON(qemu_load(&m.qemu, MESSAGE, 4) == 0x40 + i);
	}
	end(&m);
}

/* The status register says that the line is up. */
CLEAT_TC(intx__up_and_down)
{
	struct machine m;

	start(&m, NULL, true);
	store(&m, PROBE_IRQ_RAISE, PROBE_IRQ_INTX);
	REQUIRE_SOON(counter(&m, PROBE_IRQS_RAISED) == 1);
	ATF_REQUIRE_EQ(0, counter(&m, PROBE_IRQS_LOST));
	store(&m, PROBE_IRQ_LOWER, 0);
	ATF_REQUIRE_EQ(PROBE_MAGIC, load(&m, PROBE_ID));
	end(&m);
}

/* --- DMA ------------------------------------------------------------------ */

static void copy(struct machine *m, uint32_t length)
{
	for (uint32_t at = 0; at < length; at += 4096)
		qemu_store(&m->qemu, SOURCE + at, 8, 0x0123456789abcdef + at);
	store(m, PROBE_DMA_SOURCE, SOURCE);
	store(m, PROBE_DMA_SOURCE + 4, 0);
	store(m, PROBE_DMA_TARGET, TARGET);
	store(m, PROBE_DMA_TARGET + 4, 0);
	store(m, PROBE_DMA_LENGTH, length);
	store(m, PROBE_DMA_GO, PROBE_DMA_COPY);
	REQUIRE_SOON(load(m, PROBE_DMA_STATUS) != PROBE_DMA_BUSY);
}

static void require_copied(struct machine *m, uint32_t length)
{
	ATF_REQUIRE_EQ_MSG(PROBE_DMA_DONE, load(m, PROBE_DMA_STATUS),
			   "status %#x", load(m, PROBE_DMA_STATUS));
	for (uint32_t at = 0; at < length; at += 4096)
		ATF_REQUIRE_EQ(0x0123456789abcdef + at,
			       qemu_load(&m->qemu, TARGET + at, 8));
}

CLEAT_TC(dma__mapped)
{
	struct machine m;

	start(&m, NULL, true);
	copy(&m, 0x40000);
	require_copied(&m, 0x40000);
	ATF_REQUIRE_EQ(PROBE_DMA_BY_MAPPING, load(&m, PROBE_DMA_WAY));
	end(&m);
}

CLEAT_TC(dma__by_message)
{
	struct machine m;

	start(&m, NULL, false);
	copy(&m, 0x40000);
	require_copied(&m, 0x40000);
	ATF_REQUIRE_EQ(PROBE_DMA_BY_MESSAGE, load(&m, PROBE_DMA_WAY));
	end(&m);
}

CLEAT_TC(dma__no_bus_master)
{
	struct machine m;

	start(&m, NULL, false);
	qemu_set_config(&m.qemu, SLOT, PCI_COMMAND, PCI_COMMAND_MEMORY);
	copy(&m, 0x1000);
	ATF_REQUIRE(load(&m, PROBE_DMA_STATUS) < PROBE_DMA_IDLE);
	ATF_REQUIRE_EQ(0, qemu_load(&m.qemu, TARGET, 8));
	qemu_set_config(&m.qemu, SLOT, PCI_COMMAND,
			PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	copy(&m, 0x1000);
	require_copied(&m, 0x1000);
	end(&m);
}

/* --- Comings and goings --------------------------------------------------- */

CLEAT_TC(client__one_after_another)
{
	struct machine m;

	start(&m, NULL, true);
	store(&m, PROBE_SCRATCH, 5);
	for (unsigned i = 2; i < 5; i++) {
		qemu_end(&m.qemu);
		start_qemu(&m, true);
		ATF_REQUIRE_EQ(PROBE_MAGIC, load(&m, PROBE_ID));
		ATF_REQUIRE_EQ(i, counter(&m, PROBE_CLIENTS));
	}
	end(&m);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, registers__all_widths);
	ATF_TP_ADD_TC(tp, doorbells__by_message);
	ATF_TP_ADD_TC(tp, doorbells__posted);
	ATF_TP_ADD_TC(tp, pages__mapped_and_not);
	ATF_TP_ADD_TC(tp, msix__every_vector);
	ATF_TP_ADD_TC(tp, msix__masked_is_pending);
	ATF_TP_ADD_TC(tp, msi__several);
	ATF_TP_ADD_TC(tp, intx__up_and_down);
	ATF_TP_ADD_TC(tp, dma__mapped);
	ATF_TP_ADD_TC(tp, dma__by_message);
	ATF_TP_ADD_TC(tp, dma__no_bus_master);
	ATF_TP_ADD_TC(tp, client__one_after_another);
	return atf_no_error();
}
