/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/pci/rig.h"
#include "wire/wire.h"

static struct rig *with_msix(void)
{
	struct rig *rig = rig_new();

	rig_start(rig);
	rig_enable(rig);
	rig_enable_msix(rig);
	rig_forget(rig);
	return rig;
}

CLEAT_TC(msix__like_linux)
{
	struct rig *rig = rig_new();

	rig_start(rig);
	rig_enable(rig);
	rig_forget(rig);
	rig_write(rig, RIG_MSIX + 2, 0xc000, 2);
	rig_expect(rig, "config 72 c007");
	for (unsigned i = 0; i < 3; i++)
		rig_entry(rig, i, 0x41 + i, true);
	rig_expect(rig, "");
	/* What was programmed goes over in one message. */
	rig_write(rig, RIG_MSIX + 2, 0x8000, 2);
	rig_expect(rig, "config 72 8007; arm 2 0+3");
	rig_mask(rig, 1, false);
	rig_expect(rig, "route 100 fee00000 42; commit; irqfd+ 100");
	ATF_CHECK_EQ(1, rig_stats(rig).irqfds);
	ATF_CHECK_EQ(3, rig_stats(rig).type);
	rig_write(rig, RIG_MSIX + 2, 0, 2);
	rig_expect(rig, "irqfd- 100; off 2; free 100; commit; config 72 7");
	ATF_CHECK_EQ(0, rig_stats(rig).type);
	rig_end(rig);
}

CLEAT_TC(msix__costs_nothing_unused)
{
	struct rig *rig = rig_new();
	unsigned fds;

	memcpy(rig->server.config + RIG_MSIX + 2, "\xff\x01", 2);
	rig->server.bar_length[0] = 0x8000;
	rig->server.config[RIG_MSIX + PCI_MSIX_PBA + 1] = 0x40;
	rig->server.irq_count[2] = 512;
	rig_start(rig);
	fds = count_fds();
	rig_enable(rig);
	rig_enable_msix(rig);
	ATF_CHECK_EQ(fds, count_fds());
	rig_forget(rig);
	rig_entry(rig, 511, 0x99, false);
	ATF_CHECK_EQ(1, rig_stats(rig).vectors);
	ATF_CHECK(rig_has_said(rig, "arm 2 511+1"));
	ATF_CHECK(count_fds() <= fds + 2); /* ours, and the server's */
	rig_end(rig);
}

CLEAT_TC(mask__keeps_what_comes)
{
	struct rig *rig = with_msix();

	rig_entry(rig, 2, 0x55, false);
	rig_fire(rig, 2, 2);
	rig_forget(rig);
	rig_pump(rig);
	rig_expect(rig, "inject 55");
	rig_mask(rig, 2, true);
	rig_expect(rig, "irqfd- 100");
	ATF_CHECK_EQ(0, rig_load(rig, RIG_PBA));
	rig_fire(rig, 2, 2);
	rig_fire(rig, 2, 2);
	ATF_CHECK_EQ(4, rig_load(rig, RIG_PBA));
	rig_store(rig, RIG_PBA, 0);
	ATF_CHECK_EQ(4, rig_load(rig, RIG_PBA));
	rig_mask(rig, 2, false);
	rig_pump(rig);
	rig_pump(rig);
	/* Once, with the route it had. */
	rig_expect(rig, "irqfd+ 100; inject 55");
	ATF_CHECK_EQ(0, rig_load(rig, RIG_PBA));
	rig_end(rig);
}

CLEAT_TC(mask__already_waiting_interrupt)
{
	struct rig *rig = with_msix();

	rig_entry(rig, 0, 0x55, false);
	rig_mask(rig, 0, true);
	rig_fire(rig, 2, 0);
	rig_mask(rig, 0, true);
	ATF_CHECK_EQ(1, rig_load(rig, RIG_PBA));
	rig_end(rig);
}

CLEAT_TC(reroute__counts)
{
	struct rig *rig = with_msix();

	rig_entry(rig, 0, 0x41, false);
	rig_forget(rig);
	/* Masked, however much is written: one update at the unmasking. */
	rig_mask(rig, 0, true);
	rig_entry(rig, 0, 0x51, true);
	rig_entry(rig, 0, 0x52, true);
	rig_expect(rig, "irqfd- 100");
	rig_mask(rig, 0, false);
	rig_expect(rig, "route 100 fee00000 52; commit; irqfd+ 100");
	/* Unmasked: one for what changes, none for what does not. */
	rig_store(rig, RIG_TABLE, 0xfee00000);
	rig_store(rig, RIG_TABLE + 8, 0x53);
	rig_expect(rig, "route 100 fee00000 53; commit");
	rig_end(rig);
}

CLEAT_TC(reroute__function_mask)
{
	struct rig *rig = with_msix();

	for (unsigned i = 0; i < 8; i++)
		rig_entry(rig, i, 0x41 + i, false);
	ATF_CHECK_EQ(8, rig_stats(rig).irqfds);
	rig_write(rig, RIG_MSIX + 2, 0xc000, 2);
	ATF_CHECK_EQ(0, rig_stats(rig).irqfds);
	rig_fire(rig, 2, 7);
	ATF_CHECK_EQ(0x80, rig_load(rig, RIG_PBA));
	for (unsigned i = 0; i < 8; i++)
		rig_store(rig, RIG_TABLE + 16 * i + 8, 0x61 + i);
	rig_forget(rig);
	rig_write(rig, RIG_MSIX + 2, 0x8000, 2);
	ATF_CHECK_EQ(8, rig_count(rig, "route "));
	ATF_CHECK_EQ(1, rig_count(rig, "commit"));
	ATF_CHECK_EQ(8, rig_count(rig, "irqfd+"));
	ATF_CHECK_EQ(0, rig_count(rig, "arm"));
	rig_forget(rig);
	rig_pump(rig);
	rig_expect(rig, "inject 68");
	rig_end(rig);
}

CLEAT_TC(master__off_holds_back)
{
	struct rig *rig = with_msix();

	rig_entry(rig, 0, 0x41, false);
	rig_forget(rig);
	rig_write(rig, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	rig_expect(rig, "irqfd- 100; config 4 2");
	rig_fire(rig, 2, 0);
	ATF_CHECK_EQ(1, rig_load(rig, RIG_PBA));
	rig_write(rig, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
	rig_pump(rig);
	rig_expect(rig, "config 4 6; irqfd+ 100; inject 41");
	rig_end(rig);
}

CLEAT_TC(type__old_off_before_new_on)
{
	struct rig *rig = rig_new();

	rig_start(rig);
	rig_write(rig, PCI_COMMAND, PCI_COMMAND_MASTER, 2);
	ATF_CHECK_EQ(1, rig_stats(rig).type);
	rig_forget(rig);
	rig_write(rig, RIG_MSI + PCI_MSI_ADDRESS_LO, 0xfee01000, 4);
	rig_write(rig, RIG_MSI + PCI_MSI_DATA_64, 0x30, 2);
	rig_expect(rig, "");
	rig_write(rig, RIG_MSI + 2, PCI_MSI_FLAGS_ENABLE, 2);
	rig_expect(rig, "irqfd- 16; off 0; config 52 187; arm 1 0+1; "
			"route 100 fee01000 30; commit; irqfd+ 100");
	rig_write(rig, RIG_MSIX + 2, 0x8000, 2);
	rig_expect(rig, "irqfd- 100; off 1; free 100; commit; config 72 8007");
	rig_write(rig, RIG_MSI + 2, 0, 2);
	rig_expect(rig, "config 52 186");
	rig_write(rig, RIG_MSIX + 2, 0, 2);
	ATF_CHECK(rig_has_said(rig, "config 72 7; arm 0 0+1"));
	rig_end(rig);
}

CLEAT_TC(msi__several)
{
	struct rig *rig = rig_new();

	rig_start(rig);
	rig_enable(rig);
	rig_write(rig, RIG_MSI + PCI_MSI_ADDRESS_LO, 0xfee00000, 4);
	rig_write(rig, RIG_MSI + PCI_MSI_ADDRESS_HI, 1, 4);
	rig_write(rig, RIG_MSI + PCI_MSI_DATA_64, 0x33, 2);
	rig_write(rig, RIG_MSI + PCI_MSI_MASK_64, 1, 4);
	rig_forget(rig);
	rig_write(rig, RIG_MSI + 2, PCI_MSI_FLAGS_ENABLE | 1 << 4, 2);
	rig_expect(rig, "config 52 197; arm 1 0+2; "
			"route 100 1fee00000 33; commit; irqfd+ 100");
	rig_fire(rig, 1, 0);
	ATF_CHECK_EQ(1, rig_read(rig, RIG_MSI + PCI_MSI_PENDING_64, 4));
	rig_write(rig, RIG_MSI + PCI_MSI_MASK_64, 0, 4);
	rig_pump(rig);
	rig_expect(rig, "route 101 1fee00000 32; commit; irqfd+ 101; "
			"inject 32");
	ATF_CHECK_EQ(0, rig_read(rig, RIG_MSI + PCI_MSI_PENDING_64, 4));
	/* More than it offers is less. */
	rig_write(rig, RIG_MSI + 2, PCI_MSI_FLAGS_ENABLE | 7 << 4, 2);
	ATF_CHECK_EQ(0x1b7, rig_read(rig, RIG_MSI + 2, 2));
	ATF_CHECK_EQ(8, rig_stats(rig).irqfds);
	rig_end(rig);
}

static void fire_and_wait(struct rig *rig, unsigned index, unsigned vector,
			  const char *text)
{
	rig_forget(rig);
	rig_fire(rig, index, vector);
	REQUIRE_SOON(rig_has_said(rig, "signal"));
	rig_expect(rig, text);
}

CLEAT_TC(fallback__no_gsi_left)
{
	struct rig *rig = rig_new();

	rig->gsis_left = 1;
	rig_start(rig);
	rig_enable(rig);
	rig_enable_msix(rig);
	rig_entry(rig, 0, 0x41, false);
	rig_entry(rig, 1, 0x42, false);
	ATF_CHECK_EQ(2, rig_stats(rig).vectors);
	ATF_CHECK_EQ(1, rig_stats(rig).irqfds);
	fire_and_wait(rig, 2, 1, "signal fee00000 42");
	/* It follows the guest too. */
	rig_store(rig, RIG_TABLE + 16 + 8, 0x43);
	fire_and_wait(rig, 2, 1, "signal fee00000 43");
	ATF_CHECK_EQ(2, rig_stats(rig).injected);
	rig_mask(rig, 1, true);
	rig_fire(rig, 2, 1);
	ATF_CHECK_EQ(2, rig_load(rig, RIG_PBA));
	rig_forget(rig);
	rig_mask(rig, 1, false);
	REQUIRE_SOON(rig_has_said(rig, "signal"));
	rig_expect(rig, "signal fee00000 43");
	rig_end(rig);
}

CLEAT_TC(fallback__no_irqfd)
{
	struct rig *rig = rig_new();

	rig->ops.irqfd_add = NULL;
	rig_start(rig);
	rig_enable(rig);
	rig_enable_msix(rig);
	rig_entry(rig, 3, 0x41, false);
	ATF_CHECK_EQ(0, rig_stats(rig).irqfds);
	fire_and_wait(rig, 2, 3, "signal fee00000 41");
	rig_end(rig);
}

CLEAT_TC(fallback__routes_not_taken)
{
	struct rig *rig = with_msix();

	rig_entry(rig, 0, 0x41, false);
	rig->commit_fails = true;
	rig_store(rig, RIG_TABLE + 8, 0x42);
	ATF_CHECK_EQ(0, rig_stats(rig).irqfds);
	fire_and_wait(rig, 2, 0, "signal fee00000 42");
	rig_end(rig);
}

/* What its GSI sends is not what the guest set meanwhile. */
CLEAT_TC(fallback__irqfd_not_taken_once)
{
	struct rig *rig = with_msix();

	rig->irqfds_refused = 1;
	rig_entry(rig, 0, 0x41, false);
	ATF_CHECK_EQ(0, rig_stats(rig).irqfds);
	ATF_CHECK_EQ(1, rig_stats(rig).vectors);
	rig_store(rig, RIG_TABLE + 8, 0x77);
	fire_and_wait(rig, 2, 0, "signal fee00000 77");
	rig_mask(rig, 0, true);
	rig_forget(rig);
	rig_mask(rig, 0, false);
	ATF_CHECK_EQ(1, rig_stats(rig).irqfds);
	rig_fire(rig, 2, 0);
	rig_pump(rig);
	rig_expect(rig, "route 100 fee00000 77; commit; irqfd+ 100; "
			"inject 77");
	rig_end(rig);
}

CLEAT_TC(fallback__nothing_to_deliver_with)
{
	struct rig *rig = rig_new();

	memset(&rig->ops, 0, sizeof(rig->ops));
	rig->ops.size = sizeof(rig->ops);
	rig_start(rig);
	/* PM is followed by PCI Express, and there is no pin. */
	ATF_CHECK_EQ(RIG_EXPRESS, rig_read(rig, RIG_PM + 1, 1));
	ATF_CHECK_EQ(0, rig_read(rig, RIG_MSIX, 4));
	ATF_CHECK_EQ(0, rig_read(rig, PCI_INTERRUPT_PIN, 1));
	rig_end(rig);
}

CLEAT_TC(arm__refused)
{
	struct rig *rig = with_msix();

	atomic_store(&rig->server.refused, 1u << VFIO_USER_DEVICE_SET_IRQS);
	rig_entry(rig, 0, 0x41, false);
	ATF_CHECK_EQ(0, rig_stats(rig).vectors);
	atomic_store(&rig->server.refused, 0);
	rig_write(rig, RIG_MSIX + 2, 0, 2);
	rig_enable_msix(rig);
	ATF_CHECK_EQ(1, rig_stats(rig).vectors);
	rig_end(rig);
}

CLEAT_TC(table__any_width)
{
	struct rig *rig = with_msix();
	uint64_t eight = 0x123456789abcdef0;
	uint8_t one = 0xff;

	ATF_CHECK_EQ(1, rig_load(rig, RIG_TABLE + 12));
	cleat_mmio_access(rig->mmio, CLEAT_MEMORY, RIG_TABLE, &eight, 8, true);
	ATF_CHECK_EQ(0x9abcdef0, rig_load(rig, RIG_TABLE));
	ATF_CHECK_EQ(0x12345678, rig_load(rig, RIG_TABLE + 4));
	cleat_mmio_access(rig->mmio, CLEAT_MEMORY, RIG_TABLE + 13, &one, 1,
			  true);
	ATF_CHECK_EQ(1, rig_load(rig, RIG_TABLE + 12));
	/* The server sees none of it. */
	ATF_CHECK_EQ(0, rig_count(rig, "write"));
	rig_end(rig);
}

CLEAT_TC(lost__withdrawn)
{
	struct rig *rig = with_msix();

	rig_entry(rig, 0, 0x41, false);
	shutdown(rig->server.fd, SHUT_RDWR);
	REQUIRE_SOON(!rig_stats(rig).irqfds);
	REQUIRE_SOON(!rig_stats(rig).type);
	ATF_CHECK_EQ(~0u, rig_load(rig, RIG_TABLE));
	rig_end(rig);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, msix__like_linux);
	ATF_TP_ADD_TC(tp, msix__costs_nothing_unused);
	ATF_TP_ADD_TC(tp, mask__keeps_what_comes);
	ATF_TP_ADD_TC(tp, mask__already_waiting_interrupt);
	ATF_TP_ADD_TC(tp, reroute__counts);
	ATF_TP_ADD_TC(tp, reroute__function_mask);
	ATF_TP_ADD_TC(tp, master__off_holds_back);
	ATF_TP_ADD_TC(tp, type__old_off_before_new_on);
	ATF_TP_ADD_TC(tp, msi__several);
	ATF_TP_ADD_TC(tp, fallback__no_gsi_left);
	ATF_TP_ADD_TC(tp, fallback__no_irqfd);
	ATF_TP_ADD_TC(tp, fallback__routes_not_taken);
	ATF_TP_ADD_TC(tp, fallback__irqfd_not_taken_once);
	ATF_TP_ADD_TC(tp, fallback__nothing_to_deliver_with);
	ATF_TP_ADD_TC(tp, arm__refused);
	ATF_TP_ADD_TC(tp, table__any_width);
	ATF_TP_ADD_TC(tp, lost__withdrawn);
	return atf_no_error();
}
