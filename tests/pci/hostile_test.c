/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/pci/rig.h"
#include "wire/wire.h"

static void put16(struct rig *rig, unsigned at, uint16_t value)
{
	memcpy(rig->server.config + at, &value, 2);
}

static void put32(struct rig *rig, unsigned at, uint32_t value)
{
	memcpy(rig->server.config + at, &value, 4);
}

/* The function is refused with @code, for a reason that has @word in it. */
static void refused(struct rig *rig, int code, const char *word)
{
	struct cleat_error why = { 0 };

	rig_open(rig);
	ATF_CHECK_EQ(code, rig_create(rig, &why));
	ATF_CHECK_MSG(strstr(why.text, word), "\"%s\" without \"%s\"", why.text,
		      word);
	ATF_CHECK(!rig->pci);
	rig_end(rig);
}

static void accepted(struct rig *rig)
{
	rig_start(rig);
	rig_end(rig);
}

CLEAT_TC(header__none)
{
	struct rig *rig = rig_new();

	rig->server.config_length = 0;
	refused(rig, -ENODEV, "no config region");
	rig = rig_new();
	rig->server.config_length = 60;
	refused(rig, -EPROTO, "60 bytes");
	rig = rig_new();
	put16(rig, PCI_VENDOR_ID, 0xffff);
	refused(rig, -ENODEV, "vendor");
	rig = rig_new();
	rig->server.config[PCI_HEADER_TYPE] = 1;
	refused(rig, -EPROTO, "header of type 1");
}

CLEAT_TC(caps__outside)
{
	struct rig *rig = rig_new();

	rig->server.config[PCI_CAPABILITY_LIST] = 0x20;
	refused(rig, -EPROTO, "outside");
	rig = rig_new();
	rig->server.config_length = 64;
	refused(rig, -EPROTO, "outside");
	rig = rig_new();
	rig->server.config[PCI_CAPABILITY_LIST] = 0xfc;
	put16(rig, 0xfc, PCI_CAP_ID_MSIX);
	refused(rig, -EPROTO, "over the end");
	rig = rig_new();
	rig->server.config[PCI_CAPABILITY_LIST] = 0xfc;
	put16(rig, 0xfc, PCI_CAP_ID_VNDR);
	accepted(rig);
}

CLEAT_TC(caps__circle)
{
	struct rig *rig = rig_new();

	rig->server.config[RIG_EXPRESS + 1] = RIG_PM;
	refused(rig, -EPROTO, "circle");
	rig = rig_new();
	rig->server.config[PCI_CAPABILITY_LIST] = 0xc0;
	put16(rig, 0xc0, 9 | 0xc3 << 8);
	refused(rig, -EPROTO, "circle");
}

CLEAT_TC(caps__twice_or_over_another)
{
	struct rig *rig = rig_new();

	rig->server.config[RIG_EXPRESS + 1] = 0xc0;
	put16(rig, 0xc0, PCI_CAP_ID_MSIX);
	refused(rig, -EPROTO, "twice");
	rig = rig_new();
	rig->server.config[RIG_EXPRESS + 1] = RIG_MSIX + 8;
	refused(rig, -EPROTO, "over another");
	rig = rig_new();
	put16(rig, RIG_MSI + 2, 7 << 1);
	refused(rig, -EPROTO, "MSI");
}

CLEAT_TC(msix__impossible)
{
	static const struct {
		uint32_t table, pba;
		const char *word;
	} bad[] = {
		{ 0x3fc0, 0x3000, "outside" },
		{ 0xfffffff8, 0x3000, "outside" },
		{ 0x2000, 0x4000, "outside" },
		{ 0x2000, 0x2040, "over one another" },
		{ 0x2001, 0x3000, "BAR 1" },
		{ 0x2003, 0x3000, "BAR 3" },
		{ 0x2006, 0x3000, "BAR 6" },
		{ 0x2000, 0x3007, "BAR 7" },
		{ 0x2000, 0x3005, "BAR 5" },
	};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct rig *rig = rig_new();

		put32(rig, RIG_MSIX + 4, bad[i].table);
		put32(rig, RIG_MSIX + 8, bad[i].pba);
		refused(rig, -EPROTO, bad[i].word);
	}
}

CLEAT_TC(msix__fewer_interrupts_than_entries)
{
	struct rig *rig = rig_new();

	rig->server.irq_count[VFIO_PCI_MSIX_IRQ_INDEX] = 3;
	rig->server.irq_count[VFIO_PCI_MSI_IRQ_INDEX] = 3;
	rig_start(rig);
	ATF_CHECK_EQ(2, rig_read(rig, RIG_MSIX + 2, 2));
	ATF_CHECK_EQ(1 << 1, rig_read(rig, RIG_MSI + 2, 2) & 0xe);
	rig_end(rig);
	rig = rig_new();
	rig->server.irq_count[VFIO_PCI_MSIX_IRQ_INDEX] = 0;
	rig->server.irq_count[VFIO_PCI_MSI_IRQ_INDEX] = 0;
	rig_start(rig);
	ATF_CHECK_EQ(RIG_EXPRESS, rig_read(rig, RIG_PM + 1, 1));
	rig_end(rig);
}

CLEAT_TC(bars__impossible)
{
	struct rig *rig = rig_new();

	put32(rig, PCI_BASE_ADDRESS_5, PCI_BASE_ADDRESS_MEM_TYPE_64);
	rig->server.bar_length[5] = 4096;
	refused(rig, -EPROTO, "BAR 5: 64 bits");
	rig = rig_new();
	rig->server.bar_length[1] = 4096;
	refused(rig, -EPROTO, "BAR 1: is the upper half");
	rig = rig_new();
	rig->server.bar_length[2] = (1ull << 31) + 1;
	refused(rig, -EPROTO, "BAR 2: too large");
	rig = rig_new();
	rig->server.bar_length[3] = 0x10001;
	refused(rig, -EPROTO, "BAR 3: more ports");
	rig = rig_new();
	rig->server.bar_length[6] = 1ull << 32;
	refused(rig, -EPROTO, "ROM: too large");
}

CLEAT_TC(bars__sanitised)
{
	struct rig *rig = rig_new();

	rig->server.bar_length[4] = 1;
	rig->server.bar_length[5] = 17;
	put32(rig, PCI_BASE_ADDRESS_3, 0xffffffff);
	put32(rig, PCI_BASE_ADDRESS_4, 0x2);
	put32(rig, PCI_BASE_ADDRESS_5, 0x6);
	rig_start(rig);
	ATF_CHECK_EQ(1, rig_read(rig, PCI_BASE_ADDRESS_3, 4));
	ATF_CHECK_EQ(0, rig_read(rig, PCI_BASE_ADDRESS_4, 4));
	rig_write(rig, PCI_BASE_ADDRESS_4, ~0u, 4);
	rig_write(rig, PCI_BASE_ADDRESS_5, ~0u, 4);
	ATF_CHECK_EQ(0xfffffff0, rig_read(rig, PCI_BASE_ADDRESS_4, 4));
	ATF_CHECK_EQ(0xffffffe0, rig_read(rig, PCI_BASE_ADDRESS_5, 4));
	rig_end(rig);
}

CLEAT_TC(extended__outside_or_circle)
{
	struct rig *rig = rig_new();

	put32(rig, 0x100, 0x20010003);
	put32(rig, 0x200, 0x10010004);
	refused(rig, -EPROTO, "circle");
	rig = rig_new();
	put32(rig, 0x100, 0x0c010003);
	refused(rig, -EPROTO, "outside");
	rig = rig_new();
	rig->server.config_length = 0x200;
	put32(rig, 0x100, 0x20010003);
	refused(rig, -EPROTO, "outside");
	rig = rig_new();
	put32(rig, 0x100, 0xffffffff);
	accepted(rig);
}

CLEAT_TC(extended__hidden)
{
	struct rig *rig = rig_new();

	put32(rig, 0x100, 0x14010015);
	put32(rig, 0x108, 0x1234);
	put32(rig, 0x140, 0x00010003);
	put32(rig, 0x144, 0x5678);
	rig_start(rig);
	/* Resizable BARs are gone, and the list goes on. */
	ATF_CHECK_EQ(0x14010000, rig_read(rig, 0x100, 4));
	ATF_CHECK_EQ(0, rig_read(rig, 0x108, 4));
	rig_write(rig, 0x108, 1, 4);
	rig_expect(rig, "");
	ATF_CHECK_EQ(0x5678, rig_read(rig, 0x144, 4));
	rig_end(rig);
}

#define ROUNDS 100000

static uint32_t next(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005 + 1442695040888963407;
	return (uint32_t)(*seed >> 33);
}

/* Mostly where something happens, with values that make it happen. */
static void nonsense(struct rig *rig, uint64_t *seed)
{
	static const uint32_t likely[] = { 0,	       ~0u,	   0xe0000000,
					   0xfee00000, 0x80000000, 0xc0000000,
					   0x407,      1,	   0x10000,
					   0x70000 };
	unsigned length = 1u << next(seed) % 3;
	uint32_t value = next(seed) % 2 ? next(seed) * 2 + next(seed) % 2
					: likely[next(seed) % 10];
	unsigned offset = next(seed) % (next(seed) % 8 ? 0xa0 : 4096);

	switch (next(seed) % 8) {
	case 0:
		rig_read(rig, offset & ~(length - 1), length);
		break;
	case 1:
		cleat_mmio_access(rig->mmio, CLEAT_MEMORY,
				  RIG_TABLE + next(seed) % 0x90, &value, length,
				  next(seed) % 2);
		break;
	case 2:
		rig_load(rig, RIG_PBA + next(seed) % 8);
		break;
	case 3:
		rig_enable(rig);
		break;
	default:
		rig_write(rig, offset & ~(length - 1), value, length);
	}
}

static bool is_there(struct rig *rig)
{
	return rig_read(rig, PCI_VENDOR_ID, 2) != 0xffff;
}

CLEAT_TC(guest__writes_nonsense)
{
	struct cleat_device_stats stats = { .size = sizeof(stats) };
	struct rig *rig = rig_new();
	uint64_t seed = 1;

	rig_start(rig);
	for (unsigned i = 0; i < ROUNDS; i++) {
		nonsense(rig, &seed);
		/* A reset on the way swallows what comes meanwhile. */
		if (next(&seed) % 16)
			REQUIRE_SOON(is_there(rig));
		if (!(i % 256))
			rig_forget(rig);
	}
	cleat_device_stats(rig->dev, &stats);
	ATF_CHECK(stats.requests > ROUNDS / 10);
	/* And it is still a function that a guest can use. */
	ATF_CHECK_EQ(0, cleat_pci_reset(rig->pci));
	ATF_CHECK_EQ(0x00101b36, rig_read(rig, PCI_VENDOR_ID, 4));
	rig_enable(rig);
	rig_enable_msix(rig);
	rig_entry(rig, 0, 0x41, false);
	ATF_CHECK_EQ(1, rig_stats(rig).irqfds);
	rig_end(rig);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, header__none);
	ATF_TP_ADD_TC(tp, caps__outside);
	ATF_TP_ADD_TC(tp, caps__circle);
	ATF_TP_ADD_TC(tp, caps__twice_or_over_another);
	ATF_TP_ADD_TC(tp, msix__impossible);
	ATF_TP_ADD_TC(tp, msix__fewer_interrupts_than_entries);
	ATF_TP_ADD_TC(tp, bars__impossible);
	ATF_TP_ADD_TC(tp, bars__sanitised);
	ATF_TP_ADD_TC(tp, extended__outside_or_circle);
	ATF_TP_ADD_TC(tp, extended__hidden);
	ATF_TP_ADD_TC(tp, guest__writes_nonsense);
	return atf_no_error();
}
