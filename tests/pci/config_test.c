/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/pci/rig.h"
#include "wire/wire.h"

#define MEMORY_AND_MASTER \
	(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE)

/* Asks for the size as Linux does, and leaves the register as it was. */
static uint32_t size_of(struct rig *rig, unsigned offset)
{
	uint32_t old = rig_read(rig, offset, 4), size;

	rig_write(rig, offset, ~0u, 4);
	size = rig_read(rig, offset, 4);
	rig_write(rig, offset, old, 4);
	return size;
}

CLEAT_TC(create__finds_device_at_work)
{
	struct rig *rig = rig_new();

	rig->server.config[PCI_COMMAND] = 7;
	rig->server.config[RIG_MSIX + 3] = 0x80;
	rig_open(rig);
	ATF_REQUIRE_EQ(0, rig_create(rig, NULL));
	rig_expect(rig, "config 4 0; config 72 7");
	ATF_CHECK_EQ(0, rig_read(rig, PCI_COMMAND, 2));
	rig_end(rig);
}

CLEAT_TC(read__structure_without_message)
{
	struct cleat_device_stats stats = { .size = sizeof(stats) };
	struct rig *rig = rig_new();
	uint64_t before;

	rig_start(rig);
	cleat_device_stats(rig->dev, &stats);
	before = stats.requests;
	ATF_CHECK_EQ(0x00101b36, rig_read(rig, PCI_VENDOR_ID, 4));
	ATF_CHECK_EQ(0x1b36, rig_read(rig, PCI_VENDOR_ID, 2));
	ATF_CHECK_EQ(0x1b, rig_read(rig, PCI_VENDOR_ID + 1, 1));
	ATF_CHECK_EQ(RIG_PM, rig_read(rig, PCI_CAPABILITY_LIST, 1));
	ATF_CHECK_EQ(1, rig_read(rig, PCI_INTERRUPT_PIN, 1));
	cleat_device_stats(rig->dev, &stats);
	ATF_CHECK_EQ(before, stats.requests);
	rig_end(rig);
}

CLEAT_TC(read__server_cannot_change_structure)
{
	struct rig *rig = rig_new();

	rig_start(rig);
	memset(rig->server.config, 0xff, sizeof(rig->server.config));
	ATF_CHECK_EQ(0x00101b36, rig_read(rig, PCI_VENDOR_ID, 4));
	ATF_CHECK_EQ(PCI_CAP_ID_PM | RIG_MSI << 8, rig_read(rig, RIG_PM, 2));
	ATF_CHECK_EQ(7, rig_read(rig, RIG_MSIX + PCI_MSIX_FLAGS, 2));
	ATF_CHECK_EQ(0, rig_read(rig, PCI_COMMAND, 2) & 0x407);
	rig_end(rig);
}

CLEAT_TC(read__merged_by_bit)
{
	struct rig *rig = rig_new();

	rig_start(rig);
	rig_write(rig, PCI_COMMAND, MEMORY_AND_MASTER, 2);
	/* What is ours the server has otherwise, and so the other way round. */
	rig->server.config[PCI_COMMAND] = 0x41;
	rig->server.config[PCI_STATUS] = 0x08;
	ATF_CHECK_EQ(0x00180446, rig_read(rig, PCI_COMMAND, 4));
	rig_end(rig);
}

CLEAT_TC(read__odd_accesses)
{
	struct rig *rig = rig_new();

	rig_start(rig);
	ATF_CHECK_EQ(~0u, rig_read(rig, 2, 4));
	ATF_CHECK_EQ(~0u, rig_read(rig, 4096, 4));
	ATF_CHECK_EQ(~0u, rig_read(rig, 0, 8));
	ATF_CHECK_EQ(0xffffff, rig_read(rig, 0, 3));
	ATF_CHECK_EQ(~0u, rig_read(rig, ~0u - 3, 4));
	rig_write(rig, 5, 0xffff, 2);
	rig_write(rig, 4096, 0, 1);
	rig_expect(rig, "");
	rig_end(rig);
}

CLEAT_TC(read__server_refuses)
{
	struct rig *rig = rig_new();

	rig_start(rig);
	atomic_store(&rig->server.refused, 1u << VFIO_USER_REGION_READ);
	ATF_CHECK_EQ(0xffff, rig_read(rig, 0x200, 2));
	ATF_CHECK_EQ(0x1b36, rig_read(rig, PCI_VENDOR_ID, 2));
	rig_end(rig);
}

CLEAT_TC(read__short_config_space)
{
	struct rig *rig = rig_new();

	rig->server.config_length = 256;
	rig_start(rig);
	ATF_CHECK_EQ(0, rig_read(rig, 0x100, 4));
	ATF_CHECK_EQ(0, rig_read(rig, 0xffc, 4));
	rig_write(rig, 0x100, 1, 4);
	rig_expect(rig, "");
	rig_end(rig);
}

CLEAT_TC(size__every_kind)
{
	struct rig *rig = rig_new();

	rig->server.bar_length[2] = 0x1001;
	rig_start(rig);
	ATF_CHECK_EQ(0xffffc004, size_of(rig, PCI_BASE_ADDRESS_0));
	ATF_CHECK_EQ(0xffffffff, size_of(rig, PCI_BASE_ADDRESS_1));
	ATF_CHECK_EQ(0xffffe008, size_of(rig, PCI_BASE_ADDRESS_2));
	ATF_CHECK_EQ(0xffffffe1, size_of(rig, PCI_BASE_ADDRESS_3));
	ATF_CHECK_EQ(0, size_of(rig, PCI_BASE_ADDRESS_4));
	ATF_CHECK_EQ(0, size_of(rig, PCI_BASE_ADDRESS_5));
	ATF_CHECK_EQ(0xffff0001, size_of(rig, PCI_ROM_ADDRESS));
	rig_end(rig);
}

CLEAT_TC(size__above_4_gib)
{
	struct rig *rig = rig_new();

	rig->server.bar_length[0] = 1ull << 33;
	rig_start(rig);
	ATF_CHECK_EQ(0x4, size_of(rig, PCI_BASE_ADDRESS_0));
	ATF_CHECK_EQ(0xfffffffe, size_of(rig, PCI_BASE_ADDRESS_1));
	rig_end(rig);
}

CLEAT_TC(size__while_decoding)
{
	struct rig *rig = rig_new();
	uint64_t placed;

	rig_start(rig);
	rig_enable(rig);
	placed = rig_stats(rig).placed;
	rig_write(rig, PCI_BASE_ADDRESS_0, ~0u, 4);
	ATF_CHECK_EQ(RIG_NOBODY, rig_load(rig, 0xffffc000));
	ATF_CHECK_EQ(RIG_NOBODY, rig_load(rig, RIG_BAR0));
	rig_write(rig, PCI_BASE_ADDRESS_1, ~0u, 4);
	rig_write(rig, PCI_BASE_ADDRESS_0, (uint32_t)RIG_BAR0, 4);
	ATF_CHECK_EQ(placed, rig_stats(rig).placed);
	rig_write(rig, PCI_BASE_ADDRESS_1, 0, 4);
	ATF_CHECK_EQ(placed + 1, rig_stats(rig).placed);
	ATF_CHECK_EQ(0x10101010, rig_load(rig, RIG_BAR0));
	rig_end(rig);
}

CLEAT_TC(place__every_kind)
{
	struct rig *rig = rig_new();

	rig_start(rig);
	rig_write(rig, PCI_BASE_ADDRESS_0, 0x40000000, 4);
	rig_write(rig, PCI_BASE_ADDRESS_1, 0x12, 4);
	rig_write(rig, PCI_BASE_ADDRESS_2, 0xe0010000, 4);
	rig_write(rig, PCI_BASE_ADDRESS_3, 0xc000, 4);
	rig_write(rig, PCI_ROM_ADDRESS, 0xe0020000, 4);
	ATF_CHECK_EQ(RIG_NOBODY, rig_load(rig, 0xe0010000));
	rig_write(rig, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	ATF_CHECK_EQ(0x10101010, rig_load(rig, 0x1240000000));
	ATF_CHECK_EQ(0x12121212, rig_load(rig, 0xe0010ffc));
	ATF_CHECK_EQ(RIG_NOBODY, rig_load(rig, 0xe0011000));
	ATF_CHECK_EQ(RIG_NOBODY, rig_load(rig, 0xe0020000));
	ATF_CHECK_EQ(RIG_NOBODY, rig_in(rig, 0xc000));
	rig_write(rig, PCI_ROM_ADDRESS, 0xe0020001, 4);
	ATF_CHECK_EQ(0x16161616, rig_load(rig, 0xe0020000));
	rig_write(rig, PCI_COMMAND, PCI_COMMAND_IO, 2);
	ATF_CHECK_EQ(0x13131313, rig_in(rig, 0xc01c));
	ATF_CHECK_EQ(RIG_NOBODY, rig_in(rig, 0xc020));
	ATF_CHECK_EQ(RIG_NOBODY, rig_load(rig, 0xe0010000));
	rig_write(rig, PCI_COMMAND, 0, 2);
	ATF_CHECK_EQ(RIG_NOBODY, rig_in(rig, 0xc000));
	rig_end(rig);
}

CLEAT_TC(place__nowhere)
{
	struct rig *rig = rig_new();

	rig_start(rig);
	rig_write(rig, PCI_COMMAND, 3, 2);
	rig_write(rig, PCI_BASE_ADDRESS_2, 0, 4);
	rig_write(rig, PCI_BASE_ADDRESS_3, 0x10000, 4);
	rig_write(rig, PCI_BASE_ADDRESS_1, 0xffffffff, 4);
	rig_write(rig, PCI_BASE_ADDRESS_0, 0xffffc000, 4);
	ATF_CHECK_EQ(0, rig_stats(rig).placed);
	ATF_CHECK_EQ(RIG_NOBODY, rig_load(rig, 0));
	ATF_CHECK_EQ(RIG_NOBODY, rig_in(rig, 0));
	rig_end(rig);
}

CLEAT_TC(place__moved)
{
	struct rig *rig = rig_new();

	rig_start(rig);
	rig_enable(rig);
	rig_forget(rig);
	rig_write(rig, PCI_BASE_ADDRESS_0, 0xe1000000, 4);
	rig_expect(rig, "config 10 e1000004");
	ATF_CHECK_EQ(RIG_NOBODY, rig_load(rig, RIG_BAR0));
	ATF_CHECK_EQ(0x10101010, rig_load(rig, 0xe1000000));
	/* A byte at a time. */
	rig_write(rig, PCI_BASE_ADDRESS_0 + 3, 0xe2, 1);
	ATF_CHECK_EQ(0x10101010, rig_load(rig, 0xe2000000));
	rig_end(rig);
}

/* Each BAR where it was, and its own parts in it. */
CLEAT_TC(place__refreshed)
{
	struct rig *rig = rig_new();
	struct cleat_binding *before;

	rig_start(rig);
	rig_enable(rig);
	before = cleat_pci_binding(rig->pci, 0);
	ATF_REQUIRE_EQ(0, cleat_pci_refresh(rig->pci, NULL));
	ATF_CHECK(before != cleat_pci_binding(rig->pci, 0));
	ATF_CHECK_EQ(0x10101010, rig_load(rig, RIG_BAR0));
	/* The MSI-X table: masked, as it is after a reset. */
	ATF_CHECK_EQ(1, rig_load(rig, RIG_BAR0 + 0x200c));
	rig_write(rig, PCI_BASE_ADDRESS_0, 0xe1000000, 4);
	ATF_CHECK_EQ(RIG_NOBODY, rig_load(rig, RIG_BAR0));
	ATF_CHECK_EQ(0x10101010, rig_load(rig, 0xe1000000));
	ATF_CHECK_EQ(1, rig_load(rig, 0xe100200c));
	rig_end(rig);
}

CLEAT_TC(write__forwarded_or_kept)
{
	struct rig *rig = rig_new();

	rig_start(rig);
	rig_write(rig, PCI_COMMAND, MEMORY_AND_MASTER | PCI_COMMAND_SERR, 2);
	rig_expect(rig, "config 4 506");
	/* Status is write-one-to-clear: it comes alone, and as it is. */
	rig_write(rig, PCI_STATUS, 0xf900, 2);
	rig_expect(rig, "config 6 f910");
	rig_write(rig, PCI_INTERRUPT_LINE, 11, 1);
	ATF_CHECK_EQ(11, rig_read(rig, PCI_INTERRUPT_LINE, 1));
	rig_write(rig, PCI_INTERRUPT_PIN, 3, 1);
	ATF_CHECK_EQ(1, rig_read(rig, PCI_INTERRUPT_PIN, 1));
	rig_write(rig, PCI_VENDOR_ID, 0x12345678, 4);
	rig_write(rig, RIG_MSIX + PCI_MSIX_TABLE, 0x12345678, 4);
	rig_write(rig, RIG_MSI + PCI_MSI_ADDRESS_LO, 0xfee00003, 4);
	ATF_CHECK_EQ(0xfee00000, rig_read(rig, RIG_MSI + 4, 4));
	rig_expect(rig, "");
	rig_write(rig, PCI_CACHE_LINE_SIZE, 16, 1);
	rig_write(rig, RIG_EXPRESS + PCI_EXP_DEVCTL, 0x2810, 2);
	rig_write(rig, 0x300, 0xabcd, 4);
	rig_expect(rig, "config c 10; config 88 2810; config 300 abcd");
	rig_end(rig);
}

CLEAT_TC(lost__reads_ones)
{
	struct rig *rig = rig_new();

	rig_start(rig);
	rig_enable(rig);
	shutdown(rig->server.fd, SHUT_RDWR);
	REQUIRE_SOON(cleat_device_failure(rig->dev, NULL));
	ATF_CHECK_EQ(~0u, rig_read(rig, PCI_VENDOR_ID, 4));
	ATF_CHECK_EQ(0xff, rig_read(rig, PCI_INTERRUPT_LINE, 1));
	rig_write(rig, PCI_COMMAND, 0, 2);
	rig_end(rig);
}

CLEAT_TC(unref__after_device)
{
	struct rig *rig = rig_new();

	rig_start(rig);
	rig_enable(rig);
	rig_enable_msix(rig);
	rig_entry(rig, 0, 0x41, false);
	rig->dev = cleat_device_unref(rig->dev);
	ATF_CHECK_EQ(0, rig->num_irqfds);
	ATF_CHECK_EQ(~0u, rig_read(rig, PCI_VENDOR_ID, 4));
	rig_end(rig);
}

static void dma_is_answered(struct rig *rig, const char *reply)
{
	struct cleat_wire_dma dma = { .address = 0x1000, .count = 4 };

	rig_forget(rig);
	ATF_REQUIRE_EQ(0, peer_command(rig->server.fd, 1, VFIO_USER_DMA_READ,
				       &dma, sizeof(dma), NULL, 0));
	REQUIRE_SOON(rig_has_said(rig, "reply"));
	rig_expect(rig, reply);
}

CLEAT_TC(master__gate)
{
	struct rig *rig = rig_new();
	struct cleat_memory *memory;

	rig_start(rig);
	ATF_REQUIRE_EQ(0, cleat_memory_create(&memory));
	ATF_REQUIRE_EQ(0, cleat_memory_attach(memory, rig->dev));
	dma_is_answered(rig, "reply 19"); /* ENODEV */
	rig_write(rig, PCI_COMMAND, PCI_COMMAND_MASTER, 2);
	dma_is_answered(rig, "reply 14"); /* EFAULT: there is no memory */
	ATF_REQUIRE_EQ(0, cleat_pci_reset(rig->pci));
	dma_is_answered(rig, "reply 19");
	rig->pci = cleat_pci_unref(rig->pci);
	dma_is_answered(rig, "reply 14");
	rig_end(rig);
	cleat_memory_unref(memory);
}

static void *call_back(void *arg)
{
	struct rig *rig = arg;

	while (!atomic_load(&rig->server.waiting))
		usleep(200);
	cleat_cancel_set(rig->cancel);
	return NULL;
}

/* -EINTR within 100 ms though the server does not answer, then the same again
 * to its end. */
static void access_called_back(struct rig *rig, unsigned offset,
			       uint32_t *value, bool write, unsigned command)
{
	struct deadline time;
	pthread_t thread;

	ATF_REQUIRE_EQ(0, cleat_cancel_create(&rig->cancel));
	rig_hold(rig, command);
	pthread_create(&thread, NULL, call_back, rig);
	cleat_cancel_enter(rig->cancel);
	ATF_CHECK_EQ(-EINTR, cleat_pci_config_access(rig->pci, offset, value, 4,
						     write));
	time = deadline_in(PATIENCE_MS);
	ATF_CHECK_EQ(-EINTR, cleat_pci_config_access(rig->pci, offset, value, 4,
						     write));
	ATF_CHECK(deadline_spent(&time) < 1000);
	pthread_join(thread, NULL);
	rig_release(rig);
	cleat_cancel_clear(rig->cancel);
	ATF_CHECK_EQ(
		0, cleat_pci_config_access(rig->pci, offset, value, 4, write));
	cleat_cancel_enter(NULL);
	cleat_cancel_destroy(rig->cancel);
}

CLEAT_TC(read__called_back)
{
	struct rig *rig = rig_new();
	uint32_t value = 0;

	rig_start(rig);
	rig->server.config[0x200] = 0x5a;
	access_called_back(rig, 0x200, &value, false, VFIO_USER_REGION_READ);
	ATF_CHECK_EQ(0x5a, value);
	rig_end(rig);
}

CLEAT_TC(write__called_back)
{
	struct rig *rig = rig_new();
	uint32_t value = PCI_COMMAND_MEMORY;

	rig_start(rig);
	rig_write(rig, PCI_BASE_ADDRESS_0, (uint32_t)RIG_BAR0, 4);
	access_called_back(rig, PCI_COMMAND, &value, true,
			   VFIO_USER_REGION_WRITE);
	ATF_CHECK_EQ(0x10101010, rig_load(rig, RIG_BAR0));
	ATF_CHECK_EQ(PCI_COMMAND_MEMORY, rig_read(rig, PCI_COMMAND, 2));
	rig_end(rig);
}

CLEAT_TC(write__called_back_from_arming)
{
	struct rig *rig = rig_new();
	uint32_t value = PCI_MSI_FLAGS_ENABLE << 16;

	rig_start(rig);
	rig_enable(rig);
	access_called_back(rig, RIG_MSI, &value, true,
			   VFIO_USER_DEVICE_SET_IRQS);
	ATF_CHECK_EQ(0, cleat_device_failure(rig->dev, NULL));
	ATF_CHECK_EQ(1, rig_stats(rig).irqfds);
	rig_end(rig);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, create__finds_device_at_work);
	ATF_TP_ADD_TC(tp, read__structure_without_message);
	ATF_TP_ADD_TC(tp, read__server_cannot_change_structure);
	ATF_TP_ADD_TC(tp, read__merged_by_bit);
	ATF_TP_ADD_TC(tp, read__odd_accesses);
	ATF_TP_ADD_TC(tp, read__server_refuses);
	ATF_TP_ADD_TC(tp, read__short_config_space);
	ATF_TP_ADD_TC(tp, size__every_kind);
	ATF_TP_ADD_TC(tp, size__above_4_gib);
	ATF_TP_ADD_TC(tp, size__while_decoding);
	ATF_TP_ADD_TC(tp, place__every_kind);
	ATF_TP_ADD_TC(tp, place__nowhere);
	ATF_TP_ADD_TC(tp, place__moved);
	ATF_TP_ADD_TC(tp, place__refreshed);
	ATF_TP_ADD_TC(tp, write__forwarded_or_kept);
	ATF_TP_ADD_TC(tp, lost__reads_ones);
	ATF_TP_ADD_TC(tp, unref__after_device);
	ATF_TP_ADD_TC(tp, master__gate);
	ATF_TP_ADD_TC(tp, read__called_back);
	ATF_TP_ADD_TC(tp, write__called_back);
	ATF_TP_ADD_TC(tp, write__called_back_from_arming);
	return atf_no_error();
}
