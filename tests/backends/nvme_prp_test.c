/* SPDX-License-Identifier: BSD-2-Clause */
/* Where a command's data is: every shape of PRPs, right and wrong. */
#include "tests/backends/nvme_guest.h"

#define PAGE 4096u

static uint8_t pattern(uint64_t i)
{
	return (uint8_t)(i * 7 + i / 253);
}

/* Byte @i of the data, which starts at @offset in the first of the pages. */
static uint8_t *at(struct guest *g, const uint64_t *pages, unsigned offset,
		   unsigned i)
{
	return g->ram + pages[(offset + i) / PAGE] + (offset + i) % PAGE;
}

static void require_status(struct guest *g, unsigned expected,
			   struct nvme_command cmd)
{
	unsigned status = guest_command(g, 1, cmd, NULL);

	ATF_REQUIRE_EQ_MSG(expected, status, "expected %x, got %x", expected,
			   status);
}

/* Written from, then read back into, scattered pages. */
static void transfer(struct guest *g, struct nvme_command cmd,
		     const uint64_t *pages, unsigned offset, unsigned length)
{
	for (unsigned i = 0; i < length; i++)
		*at(g, pages, offset, i) = pattern(i);
	cmd.opcode = NVME_IO_WRITE;
	require_status(g, NVME_SUCCESS, cmd);
	for (unsigned i = 0; i < length; i++)
		*at(g, pages, offset, i) = 0xee;
	g->dirty = 0;
	cmd.opcode = NVME_IO_READ;
	require_status(g, NVME_SUCCESS, cmd);
	for (unsigned i = 0; i < length; i++)
		ATF_REQUIRE_EQ_MSG(pattern(i), *at(g, pages, offset, i),
				   "byte %u", i);
	/* The data and one completion. */
	if (!g->by_message)
		ATF_REQUIRE_EQ(length + 16, g->dirty);
}

/* Pages far apart and in no order. */
static void scatter(uint64_t *pages, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		pages[i] = GUEST_DATA + (i * 37u % 256) * PAGE;
}

static void one_and_two(struct guest *g)
{
	uint64_t pages[2] = { GUEST_DATA + 9 * PAGE, GUEST_DATA + 3 * PAGE };
	struct nvme_command cmd = guest_rw(0, 8, 1);

	cmd.prp1 = pages[0];
	cmd.prp2 = 0xdead; /* not looked at */
	transfer(g, cmd, pages, 0, 512);
	cmd.prp1 = pages[0] + PAGE - 512;
	transfer(g, cmd, pages, PAGE - 512, 512);
	/* Split in the middle of a block, at a dword. */
	cmd.prp1 = pages[0] + PAGE - 300;
	cmd.prp2 = pages[1];
	transfer(g, cmd, pages, PAGE - 300, 512);
	cmd.cdw12 = 15;
	cmd.prp1 = pages[0];
	transfer(g, cmd, pages, 0, 2 * PAGE);
}

CLEAT_TC(prp__one_and_two)
{
	struct guest g = { 0 }, h = { .by_message = true };

	guest_start_io(&g);
	one_and_two(&g);
	guest_end(&g);
	guest_start_io(&h);
	one_and_two(&h);
	guest_end(&h);
}

/*
 * @length bytes from @offset in the first page, with the list at @list; lists
 * go on in the pages after GUEST_LIST.
 */
static void list(struct guest *g, unsigned offset, unsigned length,
		 uint64_t list_at)
{
	struct nvme_command cmd = guest_rw(0, 16, length / 512);
	unsigned count = (offset + length + PAGE - 1) / PAGE, next = 1;
	uint64_t pages[200], here = list_at;

	scatter(pages, count);
	for (unsigned i = 1; i < count; i++) {
		/* The last place of a page is for the chain. */
		if (here % PAGE == PAGE - 8 && i + 1 < count) {
			uint64_t to = GUEST_LIST + PAGE * next++;

			memcpy(g->ram + here, &to, 8);
			here = to;
		}
		memcpy(g->ram + here, &pages[i], 8);
		here += 8;
	}
	cmd.prp1 = pages[0] + offset;
	cmd.prp2 = list_at;
	transfer(g, cmd, pages, offset, length);
}

static void lists(struct guest *g)
{
	list(g, 0, 3 * PAGE, GUEST_LIST);
	list(g, 512, 2 * PAGE + 512, GUEST_LIST);
	list(g, 0, 512 << 10, GUEST_LIST);
	/* Unaligned, and so a page more. */
	list(g, 4, 512 << 10, GUEST_LIST);
	/* Exactly to the end of its page: no chain. */
	list(g, 0, 5 * PAGE, GUEST_LIST + PAGE - 32);
	/* One more: a chain with three entries before it. */
	list(g, 0, 6 * PAGE, GUEST_LIST + PAGE - 32);
	/* The chain is all that fits into the first list page. */
	list(g, 0, 3 * PAGE, GUEST_LIST + PAGE - 8);
	list(g, 0, 512 << 10, GUEST_LIST + PAGE - 80);
}

CLEAT_TC(prp__lists)
{
	struct guest g = { 0 };

	guest_start_io(&g);
	lists(&g);
	guest_end(&g);
}

CLEAT_TC(prp__lists_by_message)
{
	struct guest g = { .by_message = true };

	guest_start_io(&g);
	lists(&g);
	guest_end(&g);
}

CLEAT_TC(prp__bad_offsets)
{
	struct guest g = { 0 };
	struct nvme_command cmd = guest_rw(NVME_IO_READ, 0, 16);
	uint64_t entry = GUEST_DATA + 8;

	guest_start_io(&g);
	cmd.prp1 = GUEST_DATA + 2;
	require_status(&g, NVME_PRP_OFFSET, cmd);
	/* The second entry starts a page. */
	cmd.prp1 = GUEST_DATA;
	cmd.prp2 = GUEST_DATA + PAGE + 4;
	require_status(&g, NVME_PRP_OFFSET, cmd);
	/* A list starts at a multiple of eight. */
	cmd.cdw12 = 31;
	cmd.prp2 = GUEST_LIST + 4;
	require_status(&g, NVME_PRP_OFFSET, cmd);
	/* Its entries start pages. */
	cmd.prp2 = GUEST_LIST;
	memcpy(g.ram + GUEST_LIST, &entry, 8);
	require_status(&g, NVME_PRP_OFFSET, cmd);
	/* And so does the next list. */
	entry = GUEST_LIST + PAGE + 8;
	cmd.prp2 = GUEST_LIST + PAGE - 8;
	memcpy(g.ram + GUEST_LIST + PAGE - 8, &entry, 8);
	require_status(&g, NVME_PRP_OFFSET, cmd);
	guest_end(&g);
}

static void outside(struct guest *g)
{
	struct nvme_command cmd = guest_rw(NVME_IO_READ, 0, 16);
	uint64_t entry = 0xfffffffffffff000ull;

	guest_start_io(g);
	cmd.prp1 = 0;
	require_status(g, NVME_DATA_TRANSFER, cmd);
	cmd.prp1 = entry;
	require_status(g, NVME_DATA_TRANSFER, cmd);
	cmd.prp1 = GUEST_DATA;
	cmd.prp2 = GUEST_RAM;
	require_status(g, NVME_DATA_TRANSFER, cmd);
	cmd.opcode = NVME_IO_WRITE;
	require_status(g, NVME_DATA_TRANSFER, cmd);
	cmd.opcode = NVME_IO_COMPARE;
	require_status(g, NVME_DATA_TRANSFER, cmd);
	/* A list, an entry of it, and its chain */
	cmd.opcode = NVME_IO_READ;
	cmd.cdw12 = 31;
	require_status(g, NVME_DATA_TRANSFER, cmd);
	cmd.prp2 = GUEST_LIST;
	memcpy(g->ram + GUEST_LIST, &entry, 8);
	require_status(g, NVME_DATA_TRANSFER, cmd);
	cmd.prp2 = GUEST_LIST + PAGE - 8;
	memcpy(g->ram + GUEST_LIST + PAGE - 8, &entry, 8);
	require_status(g, NVME_DATA_TRANSFER, cmd);
	guest_end(g);
}

CLEAT_TC(prp__out_of_memory)
{
	struct guest g = { 0 }, h = { .by_message = true };

	outside(&g);
	outside(&h);
}

CLEAT_TC(prp__chain_to_itself)
{
	struct guest g = { 0 };
	struct nvme_command cmd = guest_rw(NVME_IO_READ, 0, 1024);

	guest_start_io(&g);
	/* Every entry, the chain too, is the list itself: ends, no more. */
	for (unsigned i = 0; i < PAGE / 8; i++) {
		uint64_t self = GUEST_LIST;

		memcpy(g.ram + GUEST_LIST + 8 * i, &self, 8);
	}
	cmd.prp2 = GUEST_LIST + PAGE - 8;
	guest_command(&g, 1, cmd, NULL);
	guest_end(&g);
}

CLEAT_TC(prp__large_pages)
{
	struct guest g = { 0 };
	struct nvme_command cmd;
	uint64_t entries[2] = { GUEST_DATA + 0x20000, GUEST_DATA + 0x40000 };
	uint8_t *ram;

	guest_start(&g);
	guest_set_up(&g);
	guest_write32(&g, NVME_REG_CC, 4u << 20 | 6u << 16 | 4u << 7 | 1);
	ATF_REQUIRE_EQ(NVME_CSTS_RDY, guest_read32(&g, NVME_REG_CSTS));
	guest_create_queues(&g, 1, GUEST_ENTRIES);
	ram = g.ram;
	cmd = guest_rw(NVME_IO_WRITE, 0, 3 * 128);
	memcpy(ram + GUEST_LIST, entries, sizeof(entries));
	memset(ram + GUEST_DATA, 1, 0x10000);
	memset(ram + entries[0], 2, 0x10000);
	memset(ram + entries[1], 3, 0x10000);
	cmd.prp2 = GUEST_LIST;
	require_status(&g, NVME_SUCCESS, cmd);
	cmd = guest_rw(NVME_IO_READ, 3 * 128 - 1, 1);
	require_status(&g, NVME_SUCCESS, cmd);
	ATF_REQUIRE_EQ(3, ram[GUEST_DATA]);
	cmd = guest_rw(NVME_IO_READ, 128, 1);
	require_status(&g, NVME_SUCCESS, cmd);
	ATF_REQUIRE_EQ(2, ram[GUEST_DATA]);
	guest_end(&g);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, prp__one_and_two);
	ATF_TP_ADD_TC(tp, prp__lists);
	ATF_TP_ADD_TC(tp, prp__lists_by_message);
	ATF_TP_ADD_TC(tp, prp__bad_offsets);
	ATF_TP_ADD_TC(tp, prp__out_of_memory);
	ATF_TP_ADD_TC(tp, prp__chain_to_itself);
	ATF_TP_ADD_TC(tp, prp__large_pages);
	return atf_no_error();
}
