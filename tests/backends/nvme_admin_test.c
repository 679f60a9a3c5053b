/* SPDX-License-Identifier: BSD-2-Clause */
/* Admin commands: what each returns, and every way to get it wrong. */
#include "tests/backends/nvme_guest.h"

#define NSID_ALL 0xffffffffu

static void require_status(struct guest *g, unsigned expected,
			   struct nvme_command cmd)
{
	unsigned status = guest_admin(g, cmd);

	ATF_REQUIRE_EQ_MSG(expected, status,
			   "opcode %02x cdw10 %08x cdw11 %08x: expected %x, "
			   "got %x", cmd.opcode, cmd.cdw10, cmd.cdw11,
			   expected, status);
}

static struct nvme_command identify(unsigned cns, uint32_t nsid)
{
	return (struct nvme_command){
		.opcode = NVME_ADMIN_IDENTIFY,
		.nsid = nsid,
		.prp1 = GUEST_DATA,
		.prp2 = GUEST_DATA + 4096,
		.cdw10 = cns,
	};
}

CLEAT_TC(identify__controller)
{
	struct guest g = { 0 };
	struct nvme_id_controller *id;

	guest_start(&g);
	guest_enable(&g);
	require_status(&g, NVME_SUCCESS, identify(1, 0));
	/* The data and its completion have been written. */
	ATF_REQUIRE_EQ(4096 + 16, g.dirty);
	id = (void *)(g.ram + GUEST_DATA);
	ATF_REQUIRE(!memcmp(id->sn, "CLEAT", 5));
	ATF_REQUIRE(!memcmp(id->mn, "cleat-nvme ", 11));
	ATF_REQUIRE_EQ(' ', id->mn[39]);
	ATF_REQUIRE_EQ(0x00010400, id->ver);
	ATF_REQUIRE_EQ(7, id->mdts);
	ATF_REQUIRE_EQ(1, id->cntrltype);
	ATF_REQUIRE_EQ(1, id->nn);
	ATF_REQUIRE_EQ(0x66, id->sqes);
	ATF_REQUIRE_EQ(0x44, id->cqes);
	ATF_REQUIRE_EQ(NVME_ONCS_COMPARE | NVME_ONCS_DSM |
			       NVME_ONCS_WRITE_ZEROES | NVME_ONCS_SELECT,
		       id->oncs);
	ATF_REQUIRE_EQ(0, id->oacs);
	ATF_REQUIRE_EQ(0, id->sgls);
	ATF_REQUIRE(id->vwc & 1);
	ATF_REQUIRE_EQ(3, id->aerl);
	ATF_REQUIRE(!memcmp(id->subnqn, "nqn.2014-08.org.nvmexpress:uuid:",
			    32));
	guest_end(&g);
}

CLEAT_TC(identify__offers_dbbuf_with_ioeventfds)
{
	struct guest g = { .doorbells = NVME_IOEVENTFD };
	struct nvme_id_controller *id;

	guest_start(&g);
	guest_enable(&g);
	require_status(&g, NVME_SUCCESS, identify(1, 0));
	id = (void *)(g.ram + GUEST_DATA);
	ATF_REQUIRE_EQ(NVME_OACS_DBBUF, id->oacs);
	guest_end(&g);
}

CLEAT_TC(identify__namespace)
{
	struct guest g = { .block_size = 4096, .read_only = true };
	struct nvme_id_namespace *id;

	guest_start(&g);
	guest_enable(&g);
	require_status(&g, NVME_SUCCESS, identify(0, 1));
	id = (void *)(g.ram + GUEST_DATA);
	ATF_REQUIRE_EQ(GUEST_DISK / 4096, id->nsze);
	ATF_REQUIRE_EQ(id->nsze, id->ncap);
	ATF_REQUIRE_EQ(12, id->lbaf[0].lbads);
	ATF_REQUIRE_EQ(1, id->nsattr);
	ATF_REQUIRE_EQ(0, id->nlbaf);
	require_status(&g, NVME_INVALID_NSID, identify(0, 0));
	require_status(&g, NVME_INVALID_NSID, identify(0, 2));
	require_status(&g, NVME_INVALID_NSID, identify(0, NSID_ALL));
	guest_end(&g);
}

CLEAT_TC(identify__lists)
{
	struct guest g = { 0 };
	uint32_t *list;

	guest_start(&g);
	guest_enable(&g);
	list = (void *)(g.ram + GUEST_DATA);
	memset(list, 0xff, 4096);
	require_status(&g, NVME_SUCCESS, identify(2, 0));
	ATF_REQUIRE_EQ(1, list[0]);
	ATF_REQUIRE_EQ(0, list[1]);
	require_status(&g, NVME_SUCCESS, identify(2, 1));
	ATF_REQUIRE_EQ(0, list[0]);
	require_status(&g, NVME_INVALID_NSID, identify(2, 0xfffffffe));
	require_status(&g, NVME_INVALID_NSID, identify(2, NSID_ALL));
	/* One descriptor: a UUID, and the end. */
	require_status(&g, NVME_SUCCESS, identify(3, 1));
	ATF_REQUIRE_EQ(3, g.ram[GUEST_DATA]);
	ATF_REQUIRE_EQ(16, g.ram[GUEST_DATA + 1]);
	ATF_REQUIRE_EQ(0x80, g.ram[GUEST_DATA + 4 + 6] & 0xf0);
	ATF_REQUIRE_EQ(0, g.ram[GUEST_DATA + 20]);
	require_status(&g, NVME_INVALID_NSID, identify(3, 2));
	require_status(&g, NVME_INVALID_FIELD, identify(4, 1));
	require_status(&g, NVME_INVALID_FIELD, identify(0x10, 1));
	guest_end(&g);
}

CLEAT_TC(identify__bad_address)
{
	struct guest g = { 0 };
	struct nvme_command cmd = identify(1, 0);

	guest_start(&g);
	guest_enable(&g);
	cmd.prp1 = GUEST_RAM;
	require_status(&g, NVME_DATA_TRANSFER, cmd);
	cmd.prp1 = GUEST_DATA + 1;
	require_status(&g, NVME_PRP_OFFSET, cmd);
	cmd.prp1 = GUEST_DATA + 4;
	cmd.prp2 = GUEST_DATA + 4096 + 4;
	require_status(&g, NVME_PRP_OFFSET, cmd);
	guest_end(&g);
}

CLEAT_TC(command__unknown_or_malformed)
{
	struct guest g = { 0 };
	static const uint8_t unknown[] = { 0x03, 0x07, 0x0d, 0x10, 0x11, 0x14,
					   0x15, 0x18, 0x1a, 0x7c, 0x80, 0x81,
					   0x82, 0x84, 0xc0, 0xff };
	struct nvme_command cmd = { 0 };

	guest_start(&g);
	guest_enable(&g);
	for (unsigned i = 0; i < sizeof(unknown); i++) {
		cmd.opcode = unknown[i];
		require_status(&g, NVME_INVALID_OPCODE, cmd);
	}
	/* Scatter-gather lists and fused commands are not offered. */
	cmd = identify(1, 0);
	cmd.flags = 0x40;
	require_status(&g, NVME_INVALID_FIELD, cmd);
	cmd.flags = 0x80;
	require_status(&g, NVME_INVALID_FIELD, cmd);
	cmd.flags = 0x01;
	require_status(&g, NVME_INVALID_FIELD, cmd);
	guest_end(&g);
}

static struct nvme_command create(unsigned opcode, unsigned id, unsigned size,
				  uint32_t cdw11)
{
	return (struct nvme_command){
		.opcode = (uint8_t)opcode,
		.prp1 = opcode == NVME_ADMIN_CREATE_CQ ? GUEST_CQ(2) :
							 GUEST_SQ(2),
		.cdw10 = (size - 1) << 16 | id,
		.cdw11 = cdw11,
	};
}

static struct nvme_command delete(unsigned opcode, unsigned id)
{
	return (struct nvme_command){
		.opcode = (uint8_t)opcode,
		.cdw10 = id,
	};
}

CLEAT_TC(create_cq__bad)
{
	struct guest g = { 0 };
	struct nvme_command cmd = create(NVME_ADMIN_CREATE_CQ, 2, 16, 3);

	guest_start_io(&g);
	require_status(&g, NVME_QID_INVALID,
		       create(NVME_ADMIN_CREATE_CQ, 0, 16, 3));
	require_status(&g, NVME_QID_INVALID,
		       create(NVME_ADMIN_CREATE_CQ, 1, 16, 3));
	require_status(&g, NVME_QID_INVALID,
		       create(NVME_ADMIN_CREATE_CQ, GUEST_QUEUES + 1, 16, 3));
	require_status(&g, NVME_QID_INVALID,
		       create(NVME_ADMIN_CREATE_CQ, 0xffff, 16, 3));
	require_status(&g, NVME_QUEUE_SIZE,
		       create(NVME_ADMIN_CREATE_CQ, 2, 1, 3));
	require_status(&g, NVME_QUEUE_SIZE,
		       create(NVME_ADMIN_CREATE_CQ, 2, 4097, 3));
	require_status(&g, NVME_QUEUE_SIZE,
		       create(NVME_ADMIN_CREATE_CQ, 2, 65536, 3));
	/* Not contiguous */
	require_status(&g, NVME_INVALID_FIELD,
		       create(NVME_ADMIN_CREATE_CQ, 2, 16, 2));
	require_status(&g, NVME_INVALID_VECTOR,
		       create(NVME_ADMIN_CREATE_CQ, 2, 16,
			      (GUEST_QUEUES + 1) << 16 | 3));
	cmd.prp1 += 16;
	require_status(&g, NVME_PRP_OFFSET, cmd);
	guest_end(&g);
}

CLEAT_TC(create_sq__bad)
{
	struct guest g = { 0 };
	struct nvme_command cmd = create(NVME_ADMIN_CREATE_SQ, 2, 16, 0x10001);

	guest_start_io(&g);
	require_status(&g, NVME_QID_INVALID,
		       create(NVME_ADMIN_CREATE_SQ, 0, 16, 0x10001));
	require_status(&g, NVME_QID_INVALID,
		       create(NVME_ADMIN_CREATE_SQ, 1, 16, 0x10001));
	require_status(&g, NVME_QID_INVALID,
		       create(NVME_ADMIN_CREATE_SQ, 100, 16, 0x10001));
	/* The admin completion queue takes no I/O; the others are not there. */
	require_status(&g, NVME_QID_INVALID,
		       create(NVME_ADMIN_CREATE_SQ, 2, 16, 1));
	require_status(&g, NVME_CQ_INVALID,
		       create(NVME_ADMIN_CREATE_SQ, 2, 16, 0x30001));
	require_status(&g, NVME_CQ_INVALID,
		       create(NVME_ADMIN_CREATE_SQ, 2, 16, 0xffff0001));
	require_status(&g, NVME_QUEUE_SIZE,
		       create(NVME_ADMIN_CREATE_SQ, 2, 1, 0x10001));
	require_status(&g, NVME_QUEUE_SIZE,
		       create(NVME_ADMIN_CREATE_SQ, 2, 4097, 0x10001));
	require_status(&g, NVME_INVALID_FIELD,
		       create(NVME_ADMIN_CREATE_SQ, 2, 16, 0x10000));
	cmd.prp1 += 64;
	require_status(&g, NVME_PRP_OFFSET, cmd);
	guest_end(&g);
}

CLEAT_TC(create__before_the_entry_sizes)
{
	struct guest g = { 0 };

	guest_start(&g);
	guest_set_up(&g);
	guest_write32(&g, NVME_REG_CC, 1);
	require_status(&g, NVME_QUEUE_SIZE,
		       create(NVME_ADMIN_CREATE_CQ, 2, 16, 3));
	/* They may be set while the controller runs. */
	guest_write32(&g, NVME_REG_CC, 4u << 20 | 6u << 16 | 1);
	require_status(&g, NVME_SUCCESS,
		       create(NVME_ADMIN_CREATE_CQ, 2, 16, 3));
	guest_end(&g);
}

CLEAT_TC(delete__in_and_out_of_order)
{
	struct guest g = { 0 };
	struct nvme_command cmd = guest_rw(NVME_IO_READ, 0, 1);

	guest_start_io(&g);
	require_status(&g, NVME_QID_INVALID, delete(NVME_ADMIN_DELETE_SQ, 0));
	require_status(&g, NVME_QID_INVALID, delete(NVME_ADMIN_DELETE_CQ, 0));
	require_status(&g, NVME_QID_INVALID, delete(NVME_ADMIN_DELETE_SQ, 2));
	require_status(&g, NVME_QID_INVALID,
		       delete(NVME_ADMIN_DELETE_CQ, 0xffff));
	require_status(&g, NVME_QUEUE_DELETION,
		       delete(NVME_ADMIN_DELETE_CQ, 1));
	/* Commands in a queue that goes are not run. */
	guest_put(&g, 1, &cmd);
	require_status(&g, NVME_SUCCESS, delete(NVME_ADMIN_DELETE_SQ, 1));
	guest_ring(&g, 1);
	guest_run(&g);
	ATF_REQUIRE_EQ(0, cleat_nvme_get_stats(g.nvme)->io[NVME_IO_READ]);
	require_status(&g, NVME_QID_INVALID, delete(NVME_ADMIN_DELETE_SQ, 1));
	require_status(&g, NVME_SUCCESS, delete(NVME_ADMIN_DELETE_CQ, 1));
	guest_create_queues(&g, 1, 8);
	ATF_REQUIRE_EQ(NVME_SUCCESS, guest_command(&g, 1, cmd, NULL));
	guest_end(&g);
}

CLEAT_TC(queues__over_each_other)
{
	struct guest g = { 0 };
	struct nvme_command cq = create(NVME_ADMIN_CREATE_CQ, 2, 4096, 3);
	struct nvme_command sq = create(NVME_ADMIN_CREATE_SQ, 2, 4096, 0x20001);

	guest_start_io(&g);
	/* Each on top of the other, and both on the admin queue. */
	cq.prp1 = GUEST_SQ(0);
	sq.prp1 = GUEST_SQ(0);
	require_status(&g, NVME_SUCCESS, cq);
	require_status(&g, NVME_SUCCESS, sq);
	guest_write32(&g, NVME_DOORBELLS + 16, 4095);
	for (unsigned i = 0; i < 1000; i++)
		cleat_nvme_poll(g.nvme);
	guest_disable(&g);
	guest_enable(&g);
	require_status(&g, NVME_SUCCESS, identify(1, 0));
	guest_end(&g);
}

static struct nvme_command get_log(unsigned id, unsigned bytes)
{
	return (struct nvme_command){
		.opcode = NVME_ADMIN_GET_LOG,
		.nsid = NSID_ALL,
		.prp1 = GUEST_DATA,
		.prp2 = GUEST_DATA + 4096,
		.cdw10 = (bytes / 4 - 1) << 16 | id,
	};
}

CLEAT_TC(log__errors)
{
	struct guest g = { 0 };
	struct nvme_error_entry *entry;
	struct nvme_command bad = { .opcode = 0xff, .nsid = 7 };
	struct nvme_command cmd = get_log(NVME_LOG_ERROR, 4096);

	guest_start_io(&g);
	require_status(&g, NVME_INVALID_OPCODE, bad);
	ATF_REQUIRE_EQ(NVME_LBA_RANGE,
		       guest_command(&g, 1,
				     guest_rw(NVME_IO_READ, 1u << 30, 1),
				     NULL));
	require_status(&g, NVME_SUCCESS, cmd);
	entry = (void *)(g.ram + GUEST_DATA);
	/* Newest first */
	ATF_REQUIRE_EQ(2, entry[0].count);
	ATF_REQUIRE_EQ(1, entry[0].sq_id);
	ATF_REQUIRE_EQ(NVME_LBA_RANGE << 1, entry[0].status);
	ATF_REQUIRE_EQ(1u << 30, entry[0].lba);
	ATF_REQUIRE_EQ(1, entry[1].count);
	ATF_REQUIRE_EQ(7, entry[1].nsid);
	ATF_REQUIRE_EQ(0, entry[2].count);
	for (unsigned i = 0; i < 100; i++)
		guest_admin(&g, bad);
	/* From an offset; what is past the page reads as zero. */
	cmd = get_log(NVME_LOG_ERROR, 4096);
	cmd.cdw12 = 63 * 64;
	require_status(&g, NVME_SUCCESS, cmd);
	ATF_REQUIRE_EQ(102 - 63, entry[0].count);
	ATF_REQUIRE_EQ(0, entry[1].count);
	guest_end(&g);
}

CLEAT_TC(log__health)
{
	struct guest g = { 0 };
	struct nvme_health *health;

	guest_start_io(&g);
	for (unsigned i = 0; i < 130; i++)
		guest_command(&g, 1, guest_rw(NVME_IO_READ, 0, 8), NULL);
	guest_command(&g, 1, guest_rw(NVME_IO_WRITE, 0, 8), NULL);
	require_status(&g, NVME_SUCCESS, get_log(NVME_LOG_HEALTH, 512));
	health = (void *)(g.ram + GUEST_DATA);
	ATF_REQUIRE_EQ(0, health->warning);
	ATF_REQUIRE_EQ(308, health->temperature);
	ATF_REQUIRE_EQ(100, health->spare);
	ATF_REQUIRE_EQ(130, health->reads[0]);
	ATF_REQUIRE_EQ(2, health->units_read[0]);
	ATF_REQUIRE_EQ(1, health->writes[0]);
	ATF_REQUIRE_EQ(1, health->units_written[0]);
	guest_end(&g);
}

CLEAT_TC(log__others)
{
	struct guest g = { 0 };
	uint32_t *words;

	guest_start_io(&g);
	words = (void *)(g.ram + GUEST_DATA);
	require_status(&g, NVME_SUCCESS, get_log(NVME_LOG_FIRMWARE, 512));
	ATF_REQUIRE_EQ(1, words[0]);
	ATF_REQUIRE(!memcmp(g.ram + GUEST_DATA + 8, "0.", 2));
	memset(words, 0xff, 4096);
	require_status(&g, NVME_SUCCESS, get_log(NVME_LOG_CHANGED_NS, 4096));
	ATF_REQUIRE_EQ(0, words[0]);
	require_status(&g, NVME_SUCCESS, get_log(NVME_LOG_EFFECTS, 4096));
	ATF_REQUIRE_EQ(1, words[NVME_ADMIN_IDENTIFY]);
	ATF_REQUIRE_EQ(0, words[NVME_ADMIN_DBBUF]);
	ATF_REQUIRE_EQ(3, words[256 + NVME_IO_WRITE]);
	ATF_REQUIRE_EQ(0, words[256 + 0x04]);
	guest_end(&g);
}

CLEAT_TC(log__bad)
{
	struct guest g = { 0 };
	struct nvme_command cmd = get_log(NVME_LOG_HEALTH, 512);

	guest_start(&g);
	guest_enable(&g);
	require_status(&g, NVME_INVALID_LOG, get_log(0, 512));
	require_status(&g, NVME_INVALID_LOG, get_log(0x06, 512));
	require_status(&g, NVME_INVALID_LOG, get_log(0xff, 512));
	cmd.nsid = 1;
	require_status(&g, NVME_INVALID_NSID, cmd);
	cmd.nsid = 2;
	require_status(&g, NVME_INVALID_NSID, cmd);
	cmd.nsid = NSID_ALL;
	cmd.cdw12 = 2;
	require_status(&g, NVME_INVALID_FIELD, cmd);
	cmd.cdw12 = 516;
	require_status(&g, NVME_INVALID_FIELD, cmd);
	cmd.cdw12 = 0;
	cmd.cdw13 = 1;
	require_status(&g, NVME_INVALID_FIELD, cmd);
	/* Longer than a transfer may be: 16 GiB. */
	cmd.cdw13 = 0;
	cmd.cdw10 |= 0xffff0000;
	cmd.cdw11 = 0xffff;
	require_status(&g, NVME_INVALID_FIELD, cmd);
	guest_end(&g);
}

static struct nvme_command features(unsigned opcode, uint32_t cdw10,
				    uint32_t cdw11)
{
	return (struct nvme_command){
		.opcode = (uint8_t)opcode,
		.nsid = 1,
		.cdw10 = cdw10,
		.cdw11 = cdw11,
	};
}

static uint32_t get(struct guest *g, uint32_t cdw10, uint32_t cdw11)
{
	uint32_t result = 0xdeadbeef;

	ATF_REQUIRE_EQ(NVME_SUCCESS,
		       guest_command(g, 0,
				     features(NVME_ADMIN_GET_FEATURES, cdw10,
					      cdw11),
				     &result));
	return result;
}

static void set(struct guest *g, uint32_t cdw10, uint32_t cdw11)
{
	require_status(g, NVME_SUCCESS,
		       features(NVME_ADMIN_SET_FEATURES, cdw10, cdw11));
}

static void set_fails(struct guest *g, unsigned status, uint32_t cdw10,
		      uint32_t cdw11)
{
	require_status(g, status,
		       features(NVME_ADMIN_SET_FEATURES, cdw10, cdw11));
}

CLEAT_TC(features__set_and_get)
{
	struct guest g = { 0 };
	static const struct {
		uint32_t feature, value, fallback;
	} plain[] = {
		{ NVME_FEAT_ARBITRATION, 0x01020303, 7 },
		{ NVME_FEAT_POWER, 0x20, 0 },
		{ NVME_FEAT_TEMPERATURE, 350, 343 },
		{ NVME_FEAT_ERROR_RECOVERY, 100, 0 },
		{ NVME_FEAT_WRITE_CACHE, 0, 1 },
		{ NVME_FEAT_COALESCING, 0x0a05, 0 },
		{ NVME_FEAT_ATOMICITY, 1, 0 },
		{ NVME_FEAT_EVENTS, 0x1f, 0 },
	};

	guest_start(&g);
	guest_enable(&g);
	for (unsigned i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
		uint32_t feature = plain[i].feature;

		ATF_REQUIRE_EQ(plain[i].fallback, get(&g, feature, 0));
		set(&g, feature, plain[i].value);
		ATF_REQUIRE_EQ(plain[i].value, get(&g, feature, 0));
		/* Default and saved: the same, as nothing is saved. */
		ATF_REQUIRE_EQ(plain[i].fallback, get(&g, feature | 0x100, 0));
		ATF_REQUIRE_EQ(plain[i].fallback, get(&g, feature | 0x200, 0));
		ATF_REQUIRE_EQ(4, get(&g, feature | 0x300, 0) & 5);
		set_fails(&g, NVME_NOT_SAVEABLE, feature | 1u << 31, 0);
	}
	guest_disable(&g);
	guest_enable(&g);
	for (unsigned i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
		ATF_REQUIRE_EQ(plain[i].fallback,
			       get(&g, plain[i].feature, 0));
	guest_end(&g);
}

CLEAT_TC(features__queues)
{
	struct guest g = { 0 };
	uint32_t most = (GUEST_QUEUES - 1) * 0x10001u, result;

	guest_start(&g);
	guest_enable(&g);
	ATF_REQUIRE_EQ(most, get(&g, NVME_FEAT_QUEUES, 0));
	ATF_REQUIRE_EQ(NVME_SUCCESS,
		       guest_command(&g, 0,
				     features(NVME_ADMIN_SET_FEATURES,
					      NVME_FEAT_QUEUES, 0x00ff00ff),
				     &result));
	ATF_REQUIRE_EQ(most, result);
	set_fails(&g, NVME_INVALID_FIELD, NVME_FEAT_QUEUES, 0xffff);
	set_fails(&g, NVME_INVALID_FIELD, NVME_FEAT_QUEUES, 0xffff0000);
	guest_create_queues(&g, 1, 16);
	set_fails(&g, NVME_SEQUENCE, NVME_FEAT_QUEUES, 0x00030003);
	guest_end(&g);
}

CLEAT_TC(features__vectors)
{
	struct guest g = { 0 };

	guest_start(&g);
	guest_enable(&g);
	ATF_REQUIRE_EQ(1u << 16, get(&g, NVME_FEAT_VECTOR, 0));
	ATF_REQUIRE_EQ(2, get(&g, NVME_FEAT_VECTOR, 2));
	set(&g, NVME_FEAT_VECTOR, 1u << 16 | 2);
	ATF_REQUIRE_EQ(1u << 16 | 2, get(&g, NVME_FEAT_VECTOR, 2));
	set_fails(&g, NVME_INVALID_FIELD, NVME_FEAT_VECTOR, GUEST_QUEUES + 1);
	set_fails(&g, NVME_INVALID_FIELD, NVME_FEAT_VECTOR, 0);
	require_status(&g, NVME_INVALID_FIELD,
		       features(NVME_ADMIN_GET_FEATURES, NVME_FEAT_VECTOR,
				0xffff));
	guest_end(&g);
}

CLEAT_TC(features__bad)
{
	struct guest g = { 0 };
	struct nvme_command cmd;

	guest_start(&g);
	guest_enable(&g);
	set_fails(&g, NVME_INVALID_FIELD, 0, 0);
	set_fails(&g, NVME_INVALID_FIELD, 0x03, 0);
	set_fails(&g, NVME_INVALID_FIELD, 0x0c, 0);
	set_fails(&g, NVME_INVALID_FIELD, 0xff, 0);
	set_fails(&g, NVME_INVALID_FIELD, NVME_FEAT_POWER, 1);
	set_fails(&g, NVME_INVALID_FIELD, NVME_FEAT_TEMPERATURE, 1u << 16);
	set_fails(&g, NVME_INVALID_FIELD, NVME_FEAT_TEMPERATURE, 2u << 20);
	set_fails(&g, NVME_INVALID_FIELD, NVME_FEAT_ERROR_RECOVERY, 1u << 16);
	cmd = features(NVME_ADMIN_SET_FEATURES, NVME_FEAT_ERROR_RECOVERY, 1);
	cmd.nsid = 3;
	require_status(&g, NVME_INVALID_NSID, cmd);
	cmd = features(NVME_ADMIN_GET_FEATURES, NVME_FEAT_ERROR_RECOVERY, 0);
	cmd.nsid = 0;
	require_status(&g, NVME_INVALID_NSID, cmd);
	require_status(&g, NVME_INVALID_FIELD,
		       features(NVME_ADMIN_GET_FEATURES, 0x0c, 0));
	require_status(&g, NVME_INVALID_FIELD,
		       features(NVME_ADMIN_GET_FEATURES, 0x401, 0));
	require_status(&g, NVME_INVALID_FIELD,
		       features(NVME_ADMIN_GET_FEATURES, NVME_FEAT_TEMPERATURE,
				3u << 16));
	guest_end(&g);
}

static void request_event(struct guest *g, uint16_t cid)
{
	struct nvme_command cmd = {
		.opcode = NVME_ADMIN_ASYNC_EVENT,
		.cid = cid,
	};

	guest_put(g, 0, &cmd);
	guest_ring(g, 0);
	guest_run(g);
}

CLEAT_TC(events__limit_and_conflict)
{
	struct guest g = { 0 };
	struct nvme_completion done;

	guest_start(&g);
	guest_enable(&g);
	for (uint16_t i = 0; i < 4; i++)
		request_event(&g, i);
	ATF_REQUIRE(!guest_take(&g, 0, &done));
	request_event(&g, 4);
	ATF_REQUIRE(guest_take(&g, 0, &done));
	ATF_REQUIRE_EQ(NVME_AER_LIMIT, STATUS(done));
	request_event(&g, 2);
	ATF_REQUIRE(guest_take(&g, 0, &done));
	ATF_REQUIRE_EQ(NVME_CID_CONFLICT, STATUS(done));
	guest_end(&g);
}

CLEAT_TC(events__masked_until_the_log_is_read)
{
	struct guest g = { 0 };
	struct nvme_completion done;
	struct nvme_command retain = get_log(NVME_LOG_ERROR, 64);

	guest_start(&g);
	guest_enable(&g);
	request_event(&g, 50);
	request_event(&g, 51);
	guest_write32(&g, NVME_DOORBELLS + 8, 1);
	guest_run(&g);
	ATF_REQUIRE(guest_take(&g, 0, &done));
	ATF_REQUIRE_EQ(50, done.cid);
	ATF_REQUIRE_EQ(0x00010000, done.dw0);
	guest_ring_head(&g, 0);
	/* The next of the type waits, and is not forgotten. */
	guest_write32(&g, NVME_DOORBELLS, 4000);
	guest_run(&g);
	ATF_REQUIRE(!guest_take(&g, 0, &done));
	/* Reading with RAE set does not count. */
	retain.cdw10 |= 1u << 15;
	require_status(&g, NVME_SUCCESS, retain);
	ATF_REQUIRE(!guest_take(&g, 0, &done));
	require_status(&g, NVME_SUCCESS, get_log(NVME_LOG_ERROR, 64));
	ATF_REQUIRE(guest_take(&g, 0, &done));
	ATF_REQUIRE_EQ(51, done.cid);
	ATF_REQUIRE_EQ(0x00010100, done.dw0);
	guest_end(&g);
}

CLEAT_TC(events__temperature)
{
	struct guest g = { 0 };
	struct nvme_completion done;
	struct nvme_health *health;

	guest_start(&g);
	guest_enable(&g);
	request_event(&g, 60);
	/* Not asked for: no event, but the log has it. */
	set(&g, NVME_FEAT_TEMPERATURE, 300);
	ATF_REQUIRE(!guest_take(&g, 0, &done));
	require_status(&g, NVME_SUCCESS, get_log(NVME_LOG_HEALTH, 512));
	health = (void *)(g.ram + GUEST_DATA);
	ATF_REQUIRE_EQ(NVME_WARN_TEMPERATURE, health->warning);
	set(&g, NVME_FEAT_TEMPERATURE, 340);
	set(&g, NVME_FEAT_EVENTS, NVME_WARN_TEMPERATURE);
	/* Under the lower threshold */
	set(&g, NVME_FEAT_TEMPERATURE, 1u << 20 | 310);
	ATF_REQUIRE(guest_take(&g, 0, &done));
	ATF_REQUIRE_EQ(60, done.cid);
	ATF_REQUIRE_EQ(0x00020101, done.dw0);
	guest_end(&g);
}

static struct nvme_command abort_of(unsigned sq, uint16_t cid)
{
	return (struct nvme_command){
		.opcode = NVME_ADMIN_ABORT,
		.cdw10 = (uint32_t)cid << 16 | sq,
	};
}

CLEAT_TC(abort__event_request)
{
	struct guest g = { 0 };
	struct nvme_completion done;
	struct nvme_command cmd = abort_of(0, 71);

	guest_start(&g);
	guest_enable(&g);
	request_event(&g, 70);
	request_event(&g, 71);
	cmd.cid = 99;
	guest_put(&g, 0, &cmd);
	guest_ring(&g, 0);
	guest_run(&g);
	ATF_REQUIRE(guest_take(&g, 0, &done));
	ATF_REQUIRE_EQ(71, done.cid);
	ATF_REQUIRE_EQ(NVME_ABORT_REQUESTED, STATUS(done));
	ATF_REQUIRE(guest_take(&g, 0, &done));
	ATF_REQUIRE_EQ(99, done.cid);
	ATF_REQUIRE_EQ(NVME_SUCCESS, STATUS(done));
	ATF_REQUIRE_EQ(0, done.dw0);
	guest_end(&g);
}

CLEAT_TC(abort__nothing_there)
{
	struct guest g = { 0 };
	uint32_t result = 0;

	guest_start_io(&g);
	ATF_REQUIRE_EQ(NVME_SUCCESS,
		       guest_command(&g, 0, abort_of(0, 1), &result));
	ATF_REQUIRE_EQ(1, result);
	result = 0;
	ATF_REQUIRE_EQ(NVME_SUCCESS,
		       guest_command(&g, 0, abort_of(1, 1), &result));
	ATF_REQUIRE_EQ(1, result);
	require_status(&g, NVME_INVALID_FIELD, abort_of(2, 1));
	require_status(&g, NVME_INVALID_FIELD, abort_of(0xffff, 1));
	guest_end(&g);
}

static atf_error_t add_queue_cases(atf_tp_t *tp)
{
	ATF_TP_ADD_TC(tp, create_cq__bad);
	ATF_TP_ADD_TC(tp, create_sq__bad);
	ATF_TP_ADD_TC(tp, create__before_the_entry_sizes);
	ATF_TP_ADD_TC(tp, delete__in_and_out_of_order);
	ATF_TP_ADD_TC(tp, queues__over_each_other);
	return atf_no_error();
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, identify__controller);
	ATF_TP_ADD_TC(tp, identify__offers_dbbuf_with_ioeventfds);
	ATF_TP_ADD_TC(tp, identify__namespace);
	ATF_TP_ADD_TC(tp, identify__lists);
	ATF_TP_ADD_TC(tp, identify__bad_address);
	ATF_TP_ADD_TC(tp, command__unknown_or_malformed);
	ATF_TP_ADD_TC(tp, log__errors);
	ATF_TP_ADD_TC(tp, log__health);
	ATF_TP_ADD_TC(tp, log__others);
	ATF_TP_ADD_TC(tp, log__bad);
	ATF_TP_ADD_TC(tp, features__set_and_get);
	ATF_TP_ADD_TC(tp, features__queues);
	ATF_TP_ADD_TC(tp, features__vectors);
	ATF_TP_ADD_TC(tp, features__bad);
	ATF_TP_ADD_TC(tp, events__limit_and_conflict);
	ATF_TP_ADD_TC(tp, events__masked_until_the_log_is_read);
	ATF_TP_ADD_TC(tp, events__temperature);
	ATF_TP_ADD_TC(tp, abort__event_request);
	ATF_TP_ADD_TC(tp, abort__nothing_there);
	return add_queue_cases(tp);
}
