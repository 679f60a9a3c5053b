/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest that does anything at all. What is required: the controller neither
 * crashes nor writes where it may not (the sanitizers see to that), each turn
 * of it ends, the disk keeps its size, and after a reset it works as before.
 */
#include <sys/stat.h>

#include "tests/backends/nvme_guest.h"

#define STEPS 20000

/* xorshift: the same run each time */
static uint64_t state;

static uint32_t some(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 11) % below;
}

/* Mostly addresses that mean something, with the low bits at times wrong. */
static uint64_t some_address(void)
{
	uint64_t addr = (uint64_t)some(GUEST_RAM / 4096 + 2) * 4096;

	switch (some(8)) {
	case 0:
		return addr + some(4096);
	case 1:
		return addr + 4096 - 8 * some(4);
	case 2:
		return ~0ull - some(1 << 16);
	}
	return addr;
}

static struct nvme_command some_command(void)
{
	static const uint8_t opcodes[] = { 0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 124 };
	struct nvme_command cmd = {
		.opcode = some(8) ? opcodes[some(sizeof(opcodes))] :
				    (uint8_t)some(256),
		.flags = some(16) ? 0 : (uint8_t)some(256),
		.cid = (uint16_t)some(8),
		.nsid = some(4) ? 1 : some(3) - 1,
		.prp1 = some_address(),
		.prp2 = some_address(),
		.cdw10 = some(2) ? some(64) : some(1u << 31) * 2,
		.cdw11 = some(2) ? some(8) : some(1u << 31) * 2 + some(2),
		.cdw12 = some(2) ? some(1200) : some(1u << 31) * 2,
		.cdw13 = some(8) ? 0 : some(1u << 31),
	};

	/* Some that could be right but for the addresses */
	if (!some(4)) {
		cmd = guest_rw(some(3), some(GUEST_DISK / 512), 1 + some(64));
		cmd.prp1 = some_address();
		cmd.prp2 = some_address();
		return cmd;
	}
	/* Queues of few sizes and ids, so that many can be made. */
	if (some(2))
		cmd.cdw10 = some(20) << 16 | some(GUEST_QUEUES + 2);
	if (some(2))
		cmd.cdw11 = some(GUEST_QUEUES + 2) << 16 | some(4);
	return cmd;
}

/* A page of lists, of commands, or of nothing in particular. */
static void scribble(struct guest *g)
{
	uint8_t *page = g->ram + some(GUEST_RAM / 4096) * 4096;
	unsigned kind = some(3);

	for (unsigned i = 0; i < 512; i++) {
		uint64_t word = kind ? some_address() : state;

		if (kind < 2)
			memcpy(page + 8 * i, &word, 8);
	}
	for (unsigned i = 0; kind == 2 && i < 64; i++) {
		struct nvme_command cmd = some_command();

		memcpy(page + 64 * i, &cmd, sizeof(cmd));
	}
}

static void ring_something(struct guest *g)
{
	unsigned index = some(8) ? some(2 * GUEST_QUEUES + 2) : some(1024);
	uint32_t value = some(8) ? some(20) : some(1u << 31) * 2 + 1;

	switch (some(3)) {
	case 0:
		guest_write32(g, NVME_DOORBELLS + 4 * index, value);
		break;
	case 1:
		g->page[index] = value;
		cleat_nvme_kicked(g->nvme, 1);
		break;
	default:
		memcpy(g->ram + GUEST_DBBUF + 4 * index, &value, 4);
		cleat_nvme_kicked(g->nvme, 1);
	}
}

static void touch_registers(struct guest *g)
{
	static const uint8_t interrupts[] = { NVME_REG_INTMS, NVME_REG_INTMC };

	if (some(4)) {
		guest_write32(g, interrupts[some(2)], some(8));
		return;
	}
	cleat_nvme_set_irq_mode(g->nvme, some(3));
	if (some(4))
		return;
	guest_write32(g, 4 * some(16), some(1u << 31) * 2 + some(2));
	guest_write32(g, NVME_REG_CC, some(2) ? 0 : 0x00460001);
}

static void submit(struct guest *g)
{
	struct nvme_command cmd = some_command();
	unsigned q = some(2);

	guest_put(g, q, &cmd);
	guest_write32(g, NVME_DOORBELLS + 8 * q, g->queues[q].tail);
	/* As if everything had been consumed */
	guest_write32(g, NVME_DOORBELLS + 8 * q + 4, some(GUEST_ENTRIES));
}

static void interfere(struct guest *g)
{
	guest_write32(g, NVME_REG_CC, some(4) ? 0x00460001 : 0);
	guest_write32(g, NVME_DOORBELLS + 4 * some(12), some(20));
	scribble(g);
}

static void step(struct guest *g)
{
	switch (some(6)) {
	case 0:
		scribble(g);
		break;
	case 1:
		ring_something(g);
		break;
	case 2:
		if (!some(16))
			touch_registers(g);
		break;
	case 3:
		if (g->by_message)
			g->in_read = interfere;
		break;
	default:
		submit(g);
	}
	cleat_nvme_poll(g->nvme);
	if (!some(64))
		cleat_nvme_give_up_value(g->nvme);
}

static void revive(struct guest *g)
{
	cleat_nvme_reset(g->nvme);
	cleat_nvme_set_irq_mode(g->nvme, NVME_IRQ_MSIX);
	g->in_read = NULL;
	memset(g->page, 0, NVME_DOORBELL_BYTES);
	guest_enable(g);
	guest_create_queues(g, 1, GUEST_ENTRIES);
}

static void torture(enum cleat_nvme_doorbells doorbells, bool by_message)
{
	struct guest g = { .doorbells = doorbells, .by_message = by_message };
	struct stat st;

	state = 0x9e3779b97f4a7c15ull + doorbells * 2 + by_message;
	guest_start_io(&g);
	for (unsigned i = 0; i < STEPS; i++) {
		step(&g);
		if (i % 1000 == 999 ||
		    guest_read32(&g, NVME_REG_CSTS) != NVME_CSTS_RDY)
			revive(&g);
	}
	revive(&g);
	ATF_REQUIRE_EQ(0, fstat(g.disk.fd, &st));
	ATF_REQUIRE_EQ(GUEST_DISK, st.st_size);
	if (doorbells != NVME_IOEVENTFD)
		ATF_REQUIRE_EQ(NVME_SUCCESS,
			       guest_command(&g, 1,
					     guest_rw(NVME_IO_READ, 0, 8),
					     NULL));
	/* Nor does it fill the administrator's log. */
	ATF_REQUIRE(g.warnings <= 20);
	/* It did get somewhere. */
	ATF_REQUIRE(cleat_nvme_get_stats(g.nvme)->bytes_written > 0);
	ATF_REQUIRE(cleat_nvme_get_stats(g.nvme)->io[NVME_IO_WRITE] > 50);
	guest_end(&g);
}

CLEAT_TC(torture__trapped)
{
	torture(NVME_TRAPPED, false);
}

CLEAT_TC(torture__mapped)
{
	torture(NVME_MAPPED, false);
}

CLEAT_TC(torture__shadow)
{
	torture(NVME_SHADOW, false);
}

CLEAT_TC(torture__ioeventfd)
{
	torture(NVME_IOEVENTFD, false);
}

CLEAT_TC(torture__by_message)
{
	torture(NVME_TRAPPED, true);
	torture(NVME_IOEVENTFD, true);
}

/* The second copying read, with which the command has been fetched. */
static void change_command(struct guest *g)
{
	struct nvme_command *cmd = (void *)(g->ram + GUEST_SQ(1));

	cmd->cdw10 = GUEST_DISK;
	cmd->cdw12 = 0xffff;
	cmd->prp1 = 0;
	cmd->nsid = 99;
	cmd->cid = 77;
}

static void change_after_this(struct guest *g)
{
	g->in_read = change_command;
}

CLEAT_TC(command__changed_while_it_runs)
{
	struct guest g = { .by_message = true };
	struct nvme_command cmd = guest_rw(NVME_IO_WRITE, 0, 32);
	struct nvme_completion done;
	uint64_t list[3] = { GUEST_DATA + 4096, GUEST_DATA + 8192,
			     GUEST_DATA + 12288 };

	guest_start_io(&g);
	memcpy(g.ram + GUEST_LIST, list, sizeof(list));
	cmd.prp2 = GUEST_LIST;
	cmd.cid = 7;
	guest_put(&g, 1, &cmd);
	guest_ring(&g, 1);
	g.in_read = change_after_this;
	guest_run(&g);
	ATF_REQUIRE(!g.in_read);
	ATF_REQUIRE_EQ(77, ((uint16_t *)(g.ram + GUEST_SQ(1)))[1]);
	ATF_REQUIRE(guest_take(&g, 1, &done));
	ATF_REQUIRE_EQ(NVME_SUCCESS, STATUS(done));
	ATF_REQUIRE_EQ(7, done.cid);
	ATF_REQUIRE_EQ(16384,
		       cleat_nvme_get_stats(g.nvme)->bytes_written);
	guest_end(&g);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, torture__trapped);
	ATF_TP_ADD_TC(tp, torture__mapped);
	ATF_TP_ADD_TC(tp, torture__shadow);
	ATF_TP_ADD_TC(tp, torture__ioeventfd);
	ATF_TP_ADD_TC(tp, torture__by_message);
	ATF_TP_ADD_TC(tp, command__changed_while_it_runs);
	return atf_no_error();
}
