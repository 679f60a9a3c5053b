/* SPDX-License-Identifier: BSD-2-Clause */
/* The controller's state: what goes with it, and what is not taken in. */
#include <fcntl.h>
#include <linux/vfio.h>

#include "backends/nvme/private.h"
#include "server/server.h"
#include "tests/backends/nvme_guest.h"
#include "tests/backends/nvme_host.h"

#define UUID_AT 4
#define HELLO 0x43535631u
#define DEVICE_RECORD 1u

/* A target whose copy of the disk is another file, as on another host. */
static void start_target(struct guest *g)
{
	const struct cleat_nvme_disk_config config = {
		.path = "copy",
		.create_size = GUEST_DISK,
		.block_size = 512,
	};
	struct cleat_nvme_disk disk;
	struct cleat_error why;

	ATF_REQUIRE_EQ_MSG(0, cleat_nvme_disk_open(&disk, &config, &why), "%s",
			   why.text);
	guest_start_on(g, disk);
}

static int move(const struct guest *from, struct guest *to)
{
	uint8_t record[8192];
	int length, err;

	memcpy(to->ram, from->ram, GUEST_RAM);
	memcpy(to->queues, from->queues, sizeof(to->queues));
	ATF_REQUIRE_EQ(0, cleat_nvme_load_begin(to->nvme));
	for (unsigned i = 0;
	     (length = cleat_nvme_save(from->nvme, i, record)) > 0; i++)
		ATF_REQUIRE_EQ(0, cleat_nvme_load(to->nvme, record,
						  (size_t)length));
	err = cleat_nvme_loaded(to->nvme);
	cleat_nvme_load_end(to->nvme);
	return err;
}

static void *admin_data(struct guest *g, unsigned opcode, uint32_t nsid,
			uint32_t cdw10)
{
	const struct nvme_command cmd = {
		.opcode = (uint8_t)opcode,
		.nsid = nsid,
		.prp1 = GUEST_DATA,
		.cdw10 = cdw10,
	};

	memset(g->ram + GUEST_DATA, 0, 4096);
	ATF_REQUIRE_EQ(NVME_SUCCESS, guest_admin(g, cmd));
	return g->ram + GUEST_DATA;
}

static struct nvme_health health(struct guest *g)
{
	return *(struct nvme_health *)admin_data(
		g, NVME_ADMIN_GET_LOG, 0xffffffff,
		(512 / 4 - 1) << 16 | NVME_LOG_HEALTH);
}

CLEAT_TC(move__keeps_the_names)
{
	struct guest from = { 0 }, to = { 0 };
	struct nvme_id_controller before, *id;
	uint8_t uuid[16], *list;

	guest_start_io(&from);
	start_target(&to);
	ATF_REQUIRE(memcmp(from.disk.identity, to.disk.identity,
			   sizeof(to.disk.identity)));
	before = *(struct nvme_id_controller *)admin_data(
		&from, NVME_ADMIN_IDENTIFY, 0, 1);
	list = admin_data(&from, NVME_ADMIN_IDENTIFY, 1, 3);
	memcpy(uuid, list + UUID_AT, sizeof(uuid));
	ATF_REQUIRE_EQ(0, move(&from, &to));
	id = admin_data(&to, NVME_ADMIN_IDENTIFY, 0, 1);
	ATF_CHECK(!memcmp(before.sn, id->sn, sizeof(id->sn)));
	ATF_CHECK(!memcmp(before.subnqn, id->subnqn, sizeof(id->subnqn)));
	list = admin_data(&to, NVME_ADMIN_IDENTIFY, 1, 3);
	ATF_CHECK(!memcmp(uuid, list + UUID_AT, sizeof(uuid)));
	guest_end(&from);
	guest_end(&to);
}

static void require_work(struct guest *g, unsigned reads, unsigned writes)
{
	const struct nvme_health now = health(g);

	ATF_REQUIRE_EQ(reads, now.reads[0]);
	ATF_REQUIRE_EQ(writes, now.writes[0]);
	ATF_REQUIRE_EQ((reads * 4096 + 511999) / 512000, now.units_read[0]);
	ATF_REQUIRE_EQ((writes * 4096 + 511999) / 512000,
		       now.units_written[0]);
}

static void work(struct guest *g, unsigned reads, unsigned writes)
{
	while (reads--)
		ATF_REQUIRE_EQ(NVME_SUCCESS,
			       guest_command(g, 1,
					     guest_rw(NVME_IO_READ, 0, 8),
					     NULL));
	while (writes--)
		ATF_REQUIRE_EQ(NVME_SUCCESS,
			       guest_command(g, 1,
					     guest_rw(NVME_IO_WRITE, 0, 8),
					     NULL));
}

/* The health log counts on, whoever did the work; statistics are our own. */
CLEAT_TC(move__counts_on)
{
	struct guest here = { 0 }, there = { 0 };

	guest_start_io(&here);
	start_target(&there);
	work(&here, 130, 260);
	require_work(&here, 130, 260);
	ATF_REQUIRE_EQ(0, move(&here, &there));
	require_work(&there, 130, 260);
	work(&there, 130, 10);
	require_work(&there, 260, 270);
	ATF_CHECK_EQ(10 * 4096,
		     cleat_nvme_get_stats(there.nvme)->bytes_written);
	/* And back to a process that has its share in them. */
	ATF_REQUIRE_EQ(0, move(&there, &here));
	require_work(&here, 260, 270);
	work(&here, 1, 1);
	require_work(&here, 261, 271);
	guest_end(&here);
	guest_end(&there);
}

/* Rung at the source, done at the target: it was not seen at boot. */
CLEAT_TC(move__command_on_its_way)
{
	const struct nvme_command flush = { .opcode = NVME_IO_FLUSH,
					    .nsid = 1 };
	struct guest from = { 0 }, to = { 0 };
	struct nvme_completion done;
	uint64_t before;

	guest_start_io(&from);
	start_target(&to);
	guest_put(&from, 1, &flush);
	guest_ring(&from, 1);
	before = cleat_nvme_now_ns();
	ATF_REQUIRE_EQ(0, move(&from, &to));
	guest_run(&to);
	ATF_REQUIRE(guest_take(&to, 1, &done));
	ATF_CHECK_EQ(1, cleat_nvme_get_stats(to.nvme)->latency_count);
	ATF_CHECK(cleat_nvme_get_stats(to.nvme)->latency_worst_ns <=
		  cleat_nvme_now_ns() - before);
	guest_end(&from);
	guest_end(&to);
}

CLEAT_TC(load__unknown_event)
{
	struct guest from = { 0 }, to = { 0 };
	struct nvme_events *events;

	guest_start_io(&from);
	start_target(&to);
	events = &from.nvme->events;
	events->n_pending = 2;
	events->pending[1].type = NVME_EVENT_HEALTH + 1;
	ATF_CHECK_EQ(-EBADMSG, move(&from, &to));
	events->pending[1].type = 200;
	ATF_CHECK_EQ(-EBADMSG, move(&from, &to));
	ATF_CHECK_EQ(0, guest_read32(&to, NVME_REG_CSTS));
	events->pending[1].type = NVME_EVENT_HEALTH;
	ATF_CHECK_EQ(0, move(&from, &to));
	ATF_CHECK_EQ(NVME_CSTS_RDY, guest_read32(&to, NVME_REG_CSTS));
	guest_end(&from);
	guest_end(&to);
}

static void begin_loading(struct host *host)
{
	const struct {
		struct cleat_wire_feature feature;
		struct cleat_wire_mig_state state;
	} body = {
		{ sizeof(body), VFIO_DEVICE_FEATURE_SET |
				VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE },
		{ CLEAT_SERVER_LOADING },
	};

	ATF_REQUIRE_EQ(0, host_call(host, VFIO_USER_DEVICE_FEATURE, &body,
				    sizeof(body), NULL, 0, NULL));
}

static int send_record(struct host *host, uint32_t type, uint32_t number,
		       const void *payload, uint32_t length)
{
	struct {
		struct cleat_wire_mig_data data;
		struct cleat_srv_record head;
		uint8_t payload[64];
	} body = {
		.data.size = (uint32_t)sizeof(body.head) + length,
		.head = { .type = type, .length = length, .number = number },
	};
	uint32_t crc = cleat_crc32c(0, &body.head, offsetof(
					   struct cleat_srv_record, crc));

	body.head.crc = cleat_crc32c(crc, payload, length);
	body.data.argsz = (uint32_t)sizeof(body.data) + body.data.size;
	memcpy(body.payload, payload, length);
	return host_call(host, VFIO_USER_MIG_DATA_WRITE, &body,
			 body.data.argsz, NULL, 0, NULL);
}

/* What it says of a state of this @version: at the name, and at a record. */
static void give_version(uint32_t version, int *hello, int *record)
{
	static const char *const options[] = { "--file=disk", "--size=4M",
					       NULL };
	const struct {
		char name[32];
		uint32_t version;
	} name = { "cleat-nvme", version };
	struct host host = { 0 };

	host_start(&host, options);
	begin_loading(&host);
	*hello = send_record(&host, HELLO, 0, &name, sizeof(name));
	*record = send_record(&host, DEVICE_RECORD, 1, "?", 1);
	ATF_REQUIRE_EQ(0, host_stop(&host));
	host_end(&host);
}

CLEAT_TC(load__another_version)
{
	int hello, record;

	give_version(1, &hello, &record);
	ATF_CHECK_EQ(0, hello);
	ATF_CHECK_EQ(-EPROTONOSUPPORT, record);
	give_version(2, &hello, &record);
	ATF_CHECK_EQ(0, hello);
	ATF_CHECK_EQ(-EBADMSG, record);
	give_version(3, &hello, &record);
	ATF_CHECK_EQ(-EPROTONOSUPPORT, hello);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, move__keeps_the_names);
	ATF_TP_ADD_TC(tp, move__counts_on);
	ATF_TP_ADD_TC(tp, move__command_on_its_way);
	ATF_TP_ADD_TC(tp, load__unknown_event);
	ATF_TP_ADD_TC(tp, load__another_version);
	return atf_no_error();
}
