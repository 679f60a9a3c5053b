/* SPDX-License-Identifier: BSD-2-Clause */
/* I/O commands, and what becomes of them when the disk fails. */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/backends/nvme_guest.h"

static void require_status(struct guest *g, unsigned expected,
			   struct nvme_command cmd)
{
	unsigned status = guest_command(g, 1, cmd, NULL);

	ATF_REQUIRE_EQ_MSG(expected, status, "opcode %02x: expected %x, got %x",
			   cmd.opcode, expected, status);
}

static void fill(struct guest *g, uint8_t byte)
{
	memset(g->ram + GUEST_DATA, byte, 8192);
}

static void require_bytes(struct guest *g, uint8_t byte, unsigned length)
{
	for (unsigned i = 0; i < length; i++)
		ATF_REQUIRE_EQ_MSG(byte, g->ram[GUEST_DATA + i], "at %u", i);
}

CLEAT_TC(rw__blocks_of_4096)
{
	struct guest g = { .block_size = 4096 };
	uint64_t last = GUEST_DISK / 4096 - 1;

	guest_start_io(&g);
	fill(&g, 0xa5);
	require_status(&g, NVME_SUCCESS, guest_rw(NVME_IO_WRITE, last, 1));
	fill(&g, 0);
	require_status(&g, NVME_SUCCESS, guest_rw(NVME_IO_READ, last - 1, 2));
	require_bytes(&g, 0, 4096);
	ATF_REQUIRE_EQ(0xa5, g.ram[GUEST_DATA + 4096]);
	guest_end(&g);
}

CLEAT_TC(rw__out_of_range)
{
	struct guest g = { 0 };
	static const uint8_t opcodes[] = { NVME_IO_READ, NVME_IO_WRITE,
					   NVME_IO_COMPARE,
					   NVME_IO_WRITE_ZEROES };
	uint64_t end = GUEST_DISK / 512;

	guest_start_io(&g);
	for (unsigned i = 0; i < sizeof(opcodes); i++) {
		require_status(&g, NVME_LBA_RANGE,
			       guest_rw(opcodes[i], end, 1));
		require_status(&g, NVME_LBA_RANGE,
			       guest_rw(opcodes[i], end - 1, 2));
		require_status(&g, NVME_LBA_RANGE,
			       guest_rw(opcodes[i], ~0ull, 1));
		require_status(&g, NVME_LBA_RANGE,
			       guest_rw(opcodes[i], ~0ull - 7, 16));
		/* Times 512 this is block 0 again. */
		require_status(&g, NVME_LBA_RANGE,
			       guest_rw(opcodes[i], 1ull << 55, 1));
	}
	guest_end(&g);
}

CLEAT_TC(rw__too_long)
{
	struct guest g = { 0 };

	guest_start_io(&g);
	require_status(&g, NVME_INVALID_FIELD, guest_rw(NVME_IO_READ, 0, 1025));
	require_status(&g, NVME_INVALID_FIELD,
		       guest_rw(NVME_IO_WRITE, 0, 65536));
	require_status(&g, NVME_INVALID_FIELD,
		       guest_rw(NVME_IO_COMPARE, 0, 1025));
	guest_end(&g);
}

CLEAT_TC(command__namespace_and_opcode)
{
	struct guest g = { 0 };
	static const uint32_t wrong[] = { 0, 2, 0xffffffff };
	struct nvme_command cmd = guest_rw(NVME_IO_READ, 0, 1);

	guest_start_io(&g);
	for (unsigned i = 0; i < 3; i++) {
		cmd.nsid = wrong[i];
		require_status(&g, NVME_INVALID_NSID, cmd);
	}
	/* But Flush may be for all. */
	cmd.opcode = NVME_IO_FLUSH;
	require_status(&g, NVME_SUCCESS, cmd);
	cmd.nsid = 2;
	require_status(&g, NVME_INVALID_NSID, cmd);
	cmd.nsid = 1;
	for (unsigned opcode = 0; opcode < 256; opcode++) {
		cmd.opcode = (uint8_t)opcode;
		if (opcode == 0 || opcode == 1 || opcode == 2 || opcode == 5 ||
		    opcode == 8 || opcode == 9)
			continue;
		require_status(&g, NVME_INVALID_OPCODE, cmd);
	}
	cmd.opcode = NVME_IO_READ;
	cmd.flags = 0x40;
	require_status(&g, NVME_INVALID_FIELD, cmd);
	guest_end(&g);
}

CLEAT_TC(compare__same_and_other)
{
	struct guest g = { 0 }, h = { .by_message = true };
	struct guest *both[] = { &g, &h };

	for (unsigned i = 0; i < 2; i++) {
		guest_start_io(both[i]);
		fill(both[i], 0x11);
		require_status(both[i], NVME_SUCCESS,
			       guest_rw(NVME_IO_WRITE, 3, 16));
		require_status(both[i], NVME_SUCCESS,
			       guest_rw(NVME_IO_COMPARE, 3, 16));
		both[i]->ram[GUEST_DATA + 8191] ^= 1;
		require_status(both[i], NVME_COMPARE_FAILURE,
			       guest_rw(NVME_IO_COMPARE, 3, 16));
		guest_end(both[i]);
	}
}

CLEAT_TC(write_zeroes__plain_and_deallocating)
{
	struct guest g = { 0 };
	struct nvme_command cmd = guest_rw(NVME_IO_WRITE_ZEROES, 8, 8);
	struct stat before, after;

	guest_start_io(&g);
	fill(&g, 0x77);
	for (unsigned i = 0; i < 8; i++)
		require_status(&g, NVME_SUCCESS,
			       guest_rw(NVME_IO_WRITE, 8 * i, 8));
	require_status(&g, NVME_SUCCESS, cmd);
	require_status(&g, NVME_SUCCESS, guest_rw(NVME_IO_READ, 8, 8));
	require_bytes(&g, 0, 4096);
	/* Its neighbours are as they were. */
	require_status(&g, NVME_SUCCESS, guest_rw(NVME_IO_READ, 7, 1));
	require_bytes(&g, 0x77, 512);
	require_status(&g, NVME_SUCCESS, guest_rw(NVME_IO_READ, 16, 1));
	require_bytes(&g, 0x77, 512);
	ATF_REQUIRE_EQ(0, fstat(g.disk.fd, &before));
	cmd = guest_rw(NVME_IO_WRITE_ZEROES, 0, 65536);
	cmd.cdw12 = NVME_WZ_DEAC | (GUEST_DISK / 512 - 1);
	require_status(&g, NVME_SUCCESS, cmd);
	ATF_REQUIRE_EQ(0, fstat(g.disk.fd, &after));
	ATF_REQUIRE_EQ(before.st_size, after.st_size);
	ATF_REQUIRE(after.st_blocks < before.st_blocks);
	guest_end(&g);
}

static void put_range(struct guest *g, unsigned i, uint64_t slba,
		      uint32_t length)
{
	struct nvme_dsm_range range = { .length = length, .slba = slba };

	memcpy(g->ram + GUEST_DATA + i * sizeof(range), &range, sizeof(range));
}

static struct nvme_command dsm(unsigned ranges, uint32_t cdw11)
{
	return (struct nvme_command){
		.opcode = NVME_IO_DSM,
		.nsid = 1,
		.prp1 = GUEST_DATA,
		.prp2 = GUEST_DATA + 4096,
		.cdw10 = ranges - 1,
		.cdw11 = cdw11,
	};
}

CLEAT_TC(dsm__deallocates)
{
	struct guest g = { 0 };
	struct stat before, after;

	guest_start_io(&g);
	fill(&g, 0x42);
	for (unsigned i = 0; i < 512; i += 8)
		require_status(&g, NVME_SUCCESS, guest_rw(NVME_IO_WRITE, i, 8));
	ATF_REQUIRE_EQ(0, fstat(g.disk.fd, &before));
	put_range(&g, 0, 8, 8);
	put_range(&g, 1, 300, 0);
	put_range(&g, 2, 64, 256);
	/* A hint only: nothing happens */
	require_status(&g, NVME_SUCCESS, dsm(3, 1));
	ATF_REQUIRE_EQ(0, fstat(g.disk.fd, &after));
	ATF_REQUIRE_EQ(before.st_blocks, after.st_blocks);
	require_status(&g, NVME_SUCCESS, dsm(3, NVME_DSM_AD));
	ATF_REQUIRE_EQ(0, fstat(g.disk.fd, &after));
	ATF_REQUIRE_EQ(before.st_size, after.st_size);
	ATF_REQUIRE(after.st_blocks < before.st_blocks);
	require_status(&g, NVME_SUCCESS, guest_rw(NVME_IO_READ, 8, 8));
	require_bytes(&g, 0, 4096);
	require_status(&g, NVME_SUCCESS, guest_rw(NVME_IO_READ, 320, 8));
	require_bytes(&g, 0x42, 4096);
	guest_end(&g);
}

CLEAT_TC(dsm__bad_ranges)
{
	struct guest g = { 0 };
	struct nvme_command cmd = dsm(1, NVME_DSM_AD);

	guest_start_io(&g);
	fill(&g, 0x42);
	require_status(&g, NVME_SUCCESS, guest_rw(NVME_IO_WRITE, 0, 8));
	/* The first is good, the second is not: neither is done. */
	put_range(&g, 0, 0, 8);
	put_range(&g, 1, GUEST_DISK / 512, 1);
	require_status(&g, NVME_LBA_RANGE, dsm(2, NVME_DSM_AD));
	put_range(&g, 1, ~0ull, 0xffffffff);
	require_status(&g, NVME_LBA_RANGE, dsm(2, NVME_DSM_AD));
	require_status(&g, NVME_SUCCESS, guest_rw(NVME_IO_READ, 0, 8));
	require_bytes(&g, 0x42, 4096);
	memset(g.ram + GUEST_DATA, 0, 4096);
	require_status(&g, NVME_SUCCESS, dsm(256, NVME_DSM_AD));
	cmd.prp1 = GUEST_RAM;
	require_status(&g, NVME_DATA_TRANSFER, cmd);
	guest_end(&g);
}

CLEAT_TC(write__read_only)
{
	struct guest g = { .read_only = true };

	guest_start_io(&g);
	require_status(&g, NVME_WRITE_PROTECTED, guest_rw(NVME_IO_WRITE, 0, 1));
	require_status(&g, NVME_WRITE_PROTECTED,
		       guest_rw(NVME_IO_WRITE_ZEROES, 0, 1));
	require_status(&g, NVME_WRITE_PROTECTED, dsm(1, NVME_DSM_AD));
	require_status(&g, NVME_SUCCESS, guest_rw(NVME_IO_FLUSH, 0, 1));
	require_status(&g, NVME_SUCCESS, guest_rw(NVME_IO_READ, 0, 1));
	guest_end(&g);
}

/* A disk that says it is large, on anything. */
static void start_on_path(struct guest *g, const char *path, int flags)
{
	struct cleat_nvme_disk disk = {
		.fd = open(path, flags | O_CREAT | O_CLOEXEC, 0600),
		.size = GUEST_DISK,
		.block_size = 512,
	};

	ATF_REQUIRE(disk.fd >= 0);
	guest_start_on(g, disk);
	guest_enable(g);
	guest_create_queues(g, 1, GUEST_ENTRIES);
}

CLEAT_TC(write__no_space)
{
	struct guest g = { 0 };

	/* Writes there fail with ENOSPC. */
	start_on_path(&g, "/dev/full", O_RDWR);
	require_status(&g, NVME_CAPACITY, guest_rw(NVME_IO_WRITE, 0, 8));
	require_status(&g, NVME_CAPACITY, guest_rw(NVME_IO_WRITE_ZEROES, 0, 8));
	/* And it cannot be synced: from then on nothing can be trusted. */
	require_status(&g, NVME_WRITE_FAULT, guest_rw(NVME_IO_FLUSH, 0, 1));
	ATF_REQUIRE_EQ(1, g.warnings);
	require_status(&g, NVME_WRITE_FAULT, guest_rw(NVME_IO_FLUSH, 0, 1));
	ATF_REQUIRE_EQ(1, g.warnings);
	guest_end(&g);
}

CLEAT_TC(write__file_size_limit)
{
	struct guest g = { 0 };
	struct rlimit limit = { 1 << 20, 1 << 20 };

	signal(SIGXFSZ, SIG_IGN);
	guest_start_io(&g);
	ATF_REQUIRE_EQ(0, setrlimit(RLIMIT_FSIZE, &limit));
	fill(&g, 0x5a);
	require_status(&g, NVME_SUCCESS, guest_rw(NVME_IO_WRITE, 2047, 1));
	require_status(&g, NVME_CAPACITY, guest_rw(NVME_IO_WRITE, 2048, 8));
	/* Across the limit: the command fails, what is before may be there. */
	require_status(&g, NVME_CAPACITY, guest_rw(NVME_IO_WRITE, 2044, 8));
	require_status(&g, NVME_SUCCESS, guest_rw(NVME_IO_READ, 2048, 8));
	require_bytes(&g, 0, 4096);
	require_status(&g, NVME_SUCCESS, guest_rw(NVME_IO_FLUSH, 0, 1));
	guest_end(&g);
}

CLEAT_TC(read__file_made_shorter)
{
	struct guest g = { 0 };
	uint32_t result;
	struct nvme_command log = {
		.opcode = NVME_ADMIN_GET_LOG,
		.nsid = 0xffffffff,
		.prp1 = GUEST_DATA,
		.cdw10 = 127u << 16 | NVME_LOG_HEALTH,
	};
	struct nvme_health *health;

	guest_start_io(&g);
	ATF_REQUIRE_EQ(0, ftruncate(g.disk.fd, 1 << 20));
	require_status(&g, NVME_READ_ERROR, guest_rw(NVME_IO_READ, 2047, 2));
	require_status(&g, NVME_READ_ERROR, guest_rw(NVME_IO_READ, 4000, 1));
	require_status(&g, NVME_READ_ERROR, guest_rw(NVME_IO_COMPARE, 4000, 1));
	require_status(&g, NVME_SUCCESS, guest_rw(NVME_IO_READ, 2047, 1));
	ATF_REQUIRE_EQ(NVME_SUCCESS, guest_command(&g, 0, log, &result));
	health = (void *)(g.ram + GUEST_DATA);
	ATF_REQUIRE_EQ(3, health->media_errors[0]);
	guest_end(&g);
}

CLEAT_TC(rw__disk_is_gone)
{
	struct guest g = { 0 };
	int fd;

	guest_start_io(&g);
	/* A descriptor that can do neither */
	fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ATF_REQUIRE(dup2(fd, g.disk.fd) >= 0);
	close(fd);
	require_status(&g, NVME_READ_ERROR, guest_rw(NVME_IO_READ, 0, 1));
	require_status(&g, NVME_WRITE_FAULT, guest_rw(NVME_IO_WRITE, 0, 1));
	guest_end(&g);
}

CLEAT_TC(write__cache_off)
{
	struct guest g = { 0 };
	struct nvme_command off = {
		.opcode = NVME_ADMIN_SET_FEATURES,
		.cdw10 = NVME_FEAT_WRITE_CACHE,
	};

	guest_start_io(&g);
	ATF_REQUIRE_EQ(NVME_SUCCESS, guest_admin(&g, off));
	fill(&g, 9);
	require_status(&g, NVME_SUCCESS, guest_rw(NVME_IO_WRITE, 5, 8));
	require_status(&g, NVME_SUCCESS, guest_rw(NVME_IO_WRITE_ZEROES, 6, 1));
	require_status(&g, NVME_SUCCESS, guest_rw(NVME_IO_READ, 5, 1));
	require_bytes(&g, 9, 512);
	guest_end(&g);
}

CLEAT_TC(write__fua)
{
	struct guest g = { 0 };
	struct nvme_command cmd = guest_rw(NVME_IO_WRITE, 5, 8);

	guest_start_io(&g);
	cmd.cdw12 |= NVME_RW_FUA;
	require_status(&g, NVME_SUCCESS, cmd);
	cmd.opcode = NVME_IO_READ;
	require_status(&g, NVME_SUCCESS, cmd);
	/* Data that was lost earlier may have been this command's. */
	g.disk.sync_error = -EIO;
	require_status(&g, NVME_WRITE_FAULT, cmd);
	cmd.opcode = NVME_IO_WRITE;
	require_status(&g, NVME_WRITE_FAULT, cmd);
	guest_end(&g);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, rw__blocks_of_4096);
	ATF_TP_ADD_TC(tp, rw__out_of_range);
	ATF_TP_ADD_TC(tp, rw__too_long);
	ATF_TP_ADD_TC(tp, command__namespace_and_opcode);
	ATF_TP_ADD_TC(tp, compare__same_and_other);
	ATF_TP_ADD_TC(tp, write_zeroes__plain_and_deallocating);
	ATF_TP_ADD_TC(tp, dsm__deallocates);
	ATF_TP_ADD_TC(tp, dsm__bad_ranges);
	ATF_TP_ADD_TC(tp, write__read_only);
	ATF_TP_ADD_TC(tp, write__no_space);
	ATF_TP_ADD_TC(tp, write__file_size_limit);
	ATF_TP_ADD_TC(tp, read__file_made_shorter);
	ATF_TP_ADD_TC(tp, rw__disk_is_gone);
	ATF_TP_ADD_TC(tp, write__cache_off);
	ATF_TP_ADD_TC(tp, write__fua);
	return atf_no_error();
}
