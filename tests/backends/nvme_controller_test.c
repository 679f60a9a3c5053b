/* SPDX-License-Identifier: BSD-2-Clause */
/* Registers, and the controller's states. */
#include "tests/backends/nvme_guest.h"

#define CC_ENABLE (4u << 20 | 6u << 16 | 1)

CLEAT_TC(read__constants)
{
	struct guest g = { 0 };
	uint64_t cap;

	guest_start(&g);
	cleat_nvme_bar_read(g.nvme, NVME_REG_CAP, &cap, 8);
	ATF_REQUIRE((cap & 0xffff) >= 1023);
	ATF_REQUIRE(cap & NVME_CAP_CQR);
	ATF_REQUIRE_EQ(0, cap >> 32 & 15); /* doorbell stride */
	ATF_REQUIRE(cap & NVME_CAP_CSS_NVM);
	ATF_REQUIRE((cap >> 24 & 0xff) > 0);
	ATF_REQUIRE_EQ(0, cap >> 48 & 15); /* 4 KiB pages */
	ATF_REQUIRE_EQ(0x00010400, guest_read32(&g, NVME_REG_VS));
	ATF_REQUIRE_EQ(0, guest_read32(&g, NVME_REG_CC));
	ATF_REQUIRE_EQ(0, guest_read32(&g, NVME_REG_CSTS));
	guest_end(&g);
}

CLEAT_TC(read__odd_widths)
{
	struct guest g = { 0 };
	uint8_t bytes[7];

	guest_start(&g);
	cleat_nvme_bar_read(g.nvme, NVME_REG_VS + 1, bytes, 7);
	ATF_REQUIRE_EQ(0x04, bytes[0]);
	ATF_REQUIRE_EQ(0x01, bytes[1]);
	cleat_nvme_bar_read(g.nvme, NVME_BAR0_SIZE - 3, bytes, 3);
	ATF_REQUIRE_EQ(0, bytes[0] | bytes[1] | bytes[2]);
	guest_end(&g);
}

CLEAT_TC(write__read_only_and_odd)
{
	struct guest g = { 0 };
	uint64_t ones = ~0ull;

	guest_start(&g);
	cleat_nvme_bar_write(g.nvme, NVME_REG_CAP, &ones, 8);
	guest_write32(&g, NVME_REG_VS, 0);
	guest_write32(&g, NVME_REG_CSTS, ~0u);
	ATF_REQUIRE_EQ(0, guest_read32(&g, NVME_REG_CSTS));
	ATF_REQUIRE_EQ(0x00010400, guest_read32(&g, NVME_REG_VS));
	/* Widths and places that no register has do nothing. */
	cleat_nvme_bar_write(g.nvme, NVME_REG_CC, &ones, 1);
	cleat_nvme_bar_write(g.nvme, NVME_REG_CC + 1, &ones, 4);
	cleat_nvme_bar_write(g.nvme, NVME_REG_CC, &ones, 3);
	ATF_REQUIRE_EQ(0, guest_read32(&g, NVME_REG_CC));
	cleat_nvme_bar_write(g.nvme, NVME_BAR0_SIZE - 4, &ones, 8);
	guest_end(&g);
}

CLEAT_TC(write__admin_registers_hold_still)
{
	struct guest g = { 0 };

	guest_start(&g);
	guest_enable(&g);
	guest_write32(&g, NVME_REG_AQA, 0x00030003);
	guest_write32(&g, NVME_REG_ASQ, 0x7000);
	ATF_REQUIRE_EQ((GUEST_ENTRIES - 1) * 0x10001u,
		       guest_read32(&g, NVME_REG_AQA));
	ATF_REQUIRE_EQ(GUEST_SQ(0), guest_read32(&g, NVME_REG_ASQ));
	/* They survive a controller reset. */
	guest_disable(&g);
	ATF_REQUIRE_EQ(0, guest_read32(&g, NVME_REG_CSTS));
	ATF_REQUIRE_EQ(GUEST_SQ(0), guest_read32(&g, NVME_REG_ASQ));
	/* But not a function-level one. */
	cleat_nvme_reset(g.nvme);
	ATF_REQUIRE_EQ(0, guest_read32(&g, NVME_REG_ASQ));
	ATF_REQUIRE_EQ(0, guest_read32(&g, NVME_REG_AQA));
	guest_end(&g);
}

static void require_refused(struct guest *g, uint32_t cc)
{
	guest_write32(g, NVME_REG_CC, cc);
	ATF_REQUIRE_EQ_MSG(NVME_CSTS_CFS, guest_read32(g, NVME_REG_CSTS),
			   "CC %08x", cc);
	guest_write32(g, NVME_REG_CC, 0);
	ATF_REQUIRE_EQ(0, guest_read32(g, NVME_REG_CSTS));
}

CLEAT_TC(enable__bad_configuration)
{
	struct guest g = { 0 };

	guest_start(&g);
	guest_set_up(&g);
	require_refused(&g, CC_ENABLE | 1u << 4);  /* another command set */
	require_refused(&g, CC_ENABLE | 5u << 7);  /* pages too large */
	require_refused(&g, CC_ENABLE | 1u << 11); /* another arbitration */
	guest_write32(&g, NVME_REG_AQA, 0x000f0000);
	require_refused(&g, CC_ENABLE);
	guest_write32(&g, NVME_REG_AQA, 0x0000000f);
	require_refused(&g, CC_ENABLE);
	/* Aligned for 4 KiB pages, not for 8 KiB ones. */
	guest_set_up(&g);
	guest_write32(&g, NVME_REG_ASQ, GUEST_SQ(0) + 0x1000);
	require_refused(&g, CC_ENABLE | 1u << 7);
	ATF_REQUIRE_EQ(6, g.warnings);
	guest_enable(&g);
	guest_end(&g);
}

CLEAT_TC(enable__queue_out_of_memory)
{
	struct guest g = { 0 };
	uint64_t nowhere = 0x100000000ull;

	guest_start(&g);
	guest_set_up(&g);
	cleat_nvme_bar_write(g.nvme, NVME_REG_ASQ, &nowhere, 8);
	guest_write32(&g, NVME_REG_CC, CC_ENABLE);
	ATF_REQUIRE_EQ(NVME_CSTS_RDY, guest_read32(&g, NVME_REG_CSTS));
	guest_write32(&g, NVME_DOORBELLS, 1);
	guest_run(&g);
	ATF_REQUIRE(guest_read32(&g, NVME_REG_CSTS) & NVME_CSTS_CFS);
	ATF_REQUIRE_EQ(-1, cleat_nvme_poll(g.nvme));
	guest_disable(&g);
	guest_enable(&g);
	guest_end(&g);
}

CLEAT_TC(enable__completions_out_of_memory)
{
	struct guest g = { 0 };
	uint64_t nowhere = GUEST_RAM;
	struct nvme_command cmd = { .opcode = NVME_ADMIN_ABORT };

	guest_start(&g);
	guest_set_up(&g);
	cleat_nvme_bar_write(g.nvme, NVME_REG_ACQ, &nowhere, 8);
	guest_write32(&g, NVME_REG_CC, CC_ENABLE);
	guest_put(&g, 0, &cmd);
	guest_ring(&g, 0);
	guest_run(&g);
	ATF_REQUIRE(guest_read32(&g, NVME_REG_CSTS) & NVME_CSTS_CFS);
	guest_end(&g);
}

CLEAT_TC(disable__forgets_queues)
{
	struct guest g = { 0 };
	struct nvme_command cmd = guest_rw(NVME_IO_READ, 0, 1);

	guest_start_io(&g);
	ATF_REQUIRE_EQ(NVME_SUCCESS, guest_command(&g, 1, cmd, NULL));
	guest_put(&g, 1, &cmd);
	guest_ring(&g, 1);
	/* Rung, but not run: the reset comes first. */
	guest_disable(&g);
	guest_enable(&g);
	guest_run(&g);
	ATF_REQUIRE_EQ(1, cleat_nvme_get_stats(g.nvme)->io[NVME_IO_READ]);
	guest_create_queues(&g, 1, GUEST_ENTRIES);
	ATF_REQUIRE_EQ(NVME_SUCCESS, guest_command(&g, 1, cmd, NULL));
	guest_end(&g);
}

CLEAT_TC(shutdown__normal)
{
	struct guest g = { 0 };
	struct nvme_command cmd = guest_rw(NVME_IO_READ, 0, 1);

	guest_start_io(&g);
	guest_write32(&g, NVME_REG_CC, CC_ENABLE | 1u << 14);
	ATF_REQUIRE_EQ(NVME_CSTS_RDY | NVME_CSTS_SHST_DONE,
		       guest_read32(&g, NVME_REG_CSTS));
	/* No command runs any more. */
	guest_put(&g, 1, &cmd);
	guest_ring(&g, 1);
	guest_run(&g);
	ATF_REQUIRE_EQ(0, cleat_nvme_get_stats(g.nvme)->io[NVME_IO_READ]);
	guest_disable(&g);
	ATF_REQUIRE_EQ(0, guest_read32(&g, NVME_REG_CSTS));
	guest_enable(&g);
	guest_end(&g);
}

CLEAT_TC(shutdown__abrupt_and_disabled)
{
	struct guest g = { 0 };

	guest_start(&g);
	guest_write32(&g, NVME_REG_CC, 2u << 14);
	ATF_REQUIRE_EQ(NVME_CSTS_SHST_DONE, guest_read32(&g, NVME_REG_CSTS));
	guest_write32(&g, NVME_REG_CC, 0);
	ATF_REQUIRE_EQ(0, guest_read32(&g, NVME_REG_CSTS));
	guest_end(&g);
}

CLEAT_TC(reset__clears_everything)
{
	struct guest g = { .doorbells = NVME_MAPPED };

	guest_start_io(&g);
	ATF_REQUIRE(g.page[0] && g.page[1]);
	cleat_nvme_reset(g.nvme);
	ATF_REQUIRE_EQ(0, guest_read32(&g, NVME_REG_CC));
	ATF_REQUIRE_EQ(0, guest_read32(&g, NVME_REG_CSTS));
	for (unsigned i = 0; i < NVME_DOORBELL_BYTES / 4; i++)
		ATF_REQUIRE_EQ(0, g.page[i]);
	ATF_REQUIRE_EQ(-1, cleat_nvme_poll(g.nvme));
	guest_end(&g);
}

static void disable_inside(struct guest *g)
{
	guest_write32(g, NVME_REG_CC, 0);
	/* Not yet: the command is still using the queue. */
	ATF_REQUIRE(guest_read32(g, NVME_REG_CSTS) & NVME_CSTS_RDY);
}

CLEAT_TC(reset__while_a_command_waits_for_dma)
{
	struct guest g = { .by_message = true };
	struct nvme_completion done;
	struct nvme_command cmd = guest_rw(NVME_IO_WRITE, 0, 8);

	guest_start_io(&g);
	g.in_read = disable_inside;
	guest_put(&g, 1, &cmd);
	guest_ring(&g, 1);
	guest_run(&g);
	ATF_REQUIRE_EQ(0, guest_read32(&g, NVME_REG_CSTS));
	ATF_REQUIRE(!guest_take(&g, 1, &done));
	guest_enable(&g);
	guest_create_queues(&g, 1, GUEST_ENTRIES);
	ATF_REQUIRE_EQ(NVME_SUCCESS, guest_command(&g, 1, cmd, NULL));
	guest_end(&g);
}

CLEAT_TC(bus_master__off_stops_everything)
{
	struct guest g = { .doorbells = NVME_MAPPED };
	struct nvme_completion done;
	struct nvme_command cmd = guest_rw(NVME_IO_READ, 0, 1);

	guest_start_io(&g);
	cleat_nvme_set_bus_master(g.nvme, false);
	guest_put(&g, 1, &cmd);
	guest_ring(&g, 1);
	guest_run(&g);
	ATF_REQUIRE(!guest_take(&g, 1, &done));
	cleat_nvme_set_bus_master(g.nvme, true);
	guest_run(&g);
	ATF_REQUIRE(guest_take(&g, 1, &done));
	guest_end(&g);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, read__constants);
	ATF_TP_ADD_TC(tp, read__odd_widths);
	ATF_TP_ADD_TC(tp, write__read_only_and_odd);
	ATF_TP_ADD_TC(tp, write__admin_registers_hold_still);
	ATF_TP_ADD_TC(tp, enable__bad_configuration);
	ATF_TP_ADD_TC(tp, enable__queue_out_of_memory);
	ATF_TP_ADD_TC(tp, enable__completions_out_of_memory);
	ATF_TP_ADD_TC(tp, disable__forgets_queues);
	ATF_TP_ADD_TC(tp, shutdown__normal);
	ATF_TP_ADD_TC(tp, shutdown__abrupt_and_disabled);
	ATF_TP_ADD_TC(tp, reset__clears_everything);
	ATF_TP_ADD_TC(tp, reset__while_a_command_waits_for_dma);
	ATF_TP_ADD_TC(tp, bus_master__off_stops_everything);
	return atf_no_error();
}
