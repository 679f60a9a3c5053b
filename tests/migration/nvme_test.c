/* SPDX-License-Identifier: BSD-2-Clause */
/* A disk in use goes from one cleat-nvme to another, queues and all. */
#include <linux/pci_regs.h>
#include <signal.h>
#include <stdio.h>

#include "backends/nvme/spec.h"
#include "tests/migration/rig.h"

#define NVME "backends/cleat-nvme"
#define ENTRIES 16u
#define SQ(q) (0x10000u + (q) * 0x10000u)
#define CQ(q) (0x40000u + (q) * 0x10000u)
#define DATA 0x100000u

struct queue {
	uint32_t tail, head;
	unsigned phase;
};

struct disk {
	struct end end;
	struct queue queues[2];
	uint16_t cid;
};

static void set_command(struct disk *disk, uint16_t value)
{
	ATF_REQUIRE_EQ(0, cleat_region_write(disk->end.dev, 7, PCI_COMMAND,
					     &value, sizeof(value)));
}

static void start(struct disk *disk, const char *generation,
		  const char *doorbells, bool incoming)
{
	char migration[32], how[32];
	const char *const options[] = { "--file=disk",
					incoming ? "--incoming" : "--size=4M",
					"--queues=2", migration, how, NULL };

	memset(disk, 0, sizeof(*disk));
	snprintf(migration, sizeof(migration), "--migration=%s", generation);
	snprintf(how, sizeof(how), "--doorbells=%s", doorbells);
	end_start(&disk->end, NVME, options);
	end_migration(&disk->end, 0);
	set_command(disk, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static void ring(struct disk *disk, unsigned index, uint32_t value)
{
	end_set(&disk->end, 0x1000 + 4 * index, value);
}

static uint16_t put(struct disk *disk, unsigned q, struct nvme_command cmd)
{
	struct queue *queue = &disk->queues[q];

	cmd.cid = ++disk->cid;
	memcpy(disk->end.ram + SQ(q) + queue->tail * sizeof(cmd), &cmd,
	       sizeof(cmd));
	queue->tail = (queue->tail + 1) % ENTRIES;
	ring(disk, 2 * q, queue->tail);
	return cmd.cid;
}

static bool is_done(struct disk *disk, unsigned q)
{
	const struct nvme_completion *entry =
		(void *)(disk->end.ram + CQ(q) +
			 disk->queues[q].head * sizeof(*entry));

	return (__atomic_load_n(&entry->status, __ATOMIC_ACQUIRE) & 1u) ==
	       disk->queues[q].phase;
}

static void take(struct disk *disk, unsigned q, uint16_t cid)
{
	struct queue *queue = &disk->queues[q];
	const struct nvme_completion *entry;

	REQUIRE_SOON(is_done(disk, q));
	entry = (void *)(disk->end.ram + CQ(q) + queue->head * sizeof(*entry));
	ATF_REQUIRE_EQ(cid, entry->cid);
	ATF_REQUIRE_EQ_MSG(0, entry->status >> 1, "status %#x", entry->status);
	queue->head = (queue->head + 1) % ENTRIES;
	if (!queue->head)
		queue->phase ^= 1;
	ring(disk, 2 * q + 1, queue->head);
}

static void command(struct disk *disk, unsigned q, struct nvme_command cmd)
{
	take(disk, q, put(disk, q, cmd));
}

static struct nvme_command rw(unsigned opcode, unsigned block, uint64_t data)
{
	return (struct nvme_command){ .opcode = (uint8_t)opcode,
				      .nsid = 1,
				      .prp1 = data,
				      .cdw10 = block };
}

static uint32_t try_enable(struct end *end)
{
	end_set(end, NVME_REG_CC, 0);
	end_set(end, NVME_REG_AQA, (ENTRIES - 1) * 0x10001u);
	end_set(end, NVME_REG_ASQ, SQ(0));
	end_set(end, NVME_REG_ACQ, CQ(0));
	end_set(end, NVME_REG_CC, 4u << 20 | 6u << 16 | 1);
	return end_get(end, NVME_REG_CSTS);
}

static void enable(struct disk *disk)
{
	const struct nvme_command cq = {
		.opcode = NVME_ADMIN_CREATE_CQ,
		.prp1 = CQ(1),
		.cdw10 = (ENTRIES - 1) << 16 | 1,
		.cdw11 = 1,
	};
	const struct nvme_command sq = {
		.opcode = NVME_ADMIN_CREATE_SQ,
		.prp1 = SQ(1),
		.cdw10 = (ENTRIES - 1) << 16 | 1,
		.cdw11 = 1u << 16 | 1,
	};

	disk->queues[0].phase = disk->queues[1].phase = 1;
	ATF_REQUIRE_EQ(NVME_CSTS_RDY, try_enable(&disk->end));
	command(disk, 0, cq);
	command(disk, 0, sq);
}

static void write_block(struct disk *disk, unsigned block)
{
	memset(disk->end.ram + DATA, (int)(block * 3 + 1), 512);
	command(disk, 1, rw(NVME_IO_WRITE, block, DATA));
}

static void check_block(struct disk *disk, unsigned block)
{
	uint8_t *data = disk->end.ram + DATA + 0x10000;

	memset(data, 0, 512);
	command(disk, 1, rw(NVME_IO_READ, block, DATA + 0x10000));
	for (unsigned i = 0; i < 512; i++)
		ATF_REQUIRE_EQ((uint8_t)(block * 3 + 1), data[i]);
}

/* What the VMM would do with RAM and vCPUs. */
static void switch_over(struct disk *to, const struct disk *from)
{
	memcpy(to->end.ram, from->end.ram, RAM_SIZE);
	memcpy(to->queues, from->queues, sizeof(to->queues));
	to->cid = from->cid;
}

static void move(const char *generation, const char *doorbells)
{
	struct cleat_error why = { .text = "" };
	struct disk from, to;
	struct tape tape;
	uint16_t cid;

	tape_make(&tape);
	start(&from, generation, doorbells, false);
	start(&to, generation, doorbells, true);
	enable(&from);
	for (unsigned i = 0; i < 2 * ENTRIES + 3; i++)
		write_block(&from, i);
	ATF_REQUIRE_EQ(0, cleat_migration_start(from.end.mig, &why));
	ATF_REQUIRE_EQ(0, cleat_migration_save(from.end.mig, &tape.io, 0,
					       &why));
	write_block(&from, 100);
	ATF_REQUIRE_MSG(!cleat_migration_stop(from.end.mig, &why), "%s",
			why.text);
	/* Rung when nobody looks any more: it is done at the target. */
	memset(from.end.ram + DATA, 200 * 3 + 1, 512);
	cid = put(&from, 1, rw(NVME_IO_WRITE, 200, DATA));
	ATF_REQUIRE_EQ(0, cleat_migration_save(from.end.mig, &tape.io, 0,
					       &why));
	ATF_CHECK(!is_done(&from, 1));
	switch_over(&to, &from);
	ATF_REQUIRE_MSG(!load_all(&to.end, &tape, &why), "%s", why.text);
	ATF_REQUIRE_MSG(!cleat_migration_run(to.end.mig, &why), "%s", why.text);
	take(&to, 1, cid);
	for (unsigned i = 0; i < 2 * ENTRIES + 3; i++)
		check_block(&to, i);
	check_block(&to, 100);
	check_block(&to, 200);
	/* The file is the target's now. */
	ATF_CHECK_EQ(-EBUSY, cleat_migration_run(from.end.mig, &why));
	ATF_CHECK_EQ(CLEAT_MIGRATION_STOP, end_state(&from.end));
	tape_free(&tape);
	end_stop(&from.end);
	end_stop(&to.end);
}

CLEAT_TC(move__second_generation)
{
	move("v2", "mapped");
}

CLEAT_TC(move__first_generation)
{
	move("v1", "mapped");
}

CLEAT_TC(move__shadow_doorbells)
{
	move("v2", "shadow");
}

CLEAT_TC(move__trapped_doorbells)
{
	move("v2", "trapped");
}

CLEAT_TC(cancel__goes_on)
{
	struct cleat_error why = { .text = "" };
	struct disk from, to;
	struct tape tape;

	tape_make(&tape);
	start(&from, "v2", "mapped", false);
	start(&to, "v2", "mapped", true);
	enable(&from);
	write_block(&from, 7);
	save_all(&from.end, &tape, 1);
	ATF_REQUIRE_MSG(!load_all(&to.end, &tape, &why), "%s", why.text);
	ATF_REQUIRE_MSG(!cleat_migration_run(from.end.mig, &why), "%s",
			why.text);
	/* Whoever comes late finds the file taken. */
	ATF_CHECK_EQ(-EBUSY, cleat_migration_run(to.end.mig, &why));
	write_block(&from, 8);
	check_block(&from, 7);
	check_block(&from, 8);
	tape_free(&tape);
	end_stop(&from.end);
	end_stop(&to.end);
}

/* A target whose state never came is nobody's disk. */
CLEAT_TC(incoming__does_not_touch_the_file)
{
	struct disk from, to;

	start(&from, "v2", "mapped", false);
	start(&to, "v2", "mapped", true);
	ATF_CHECK_EQ(NVME_CSTS_CFS, try_enable(&to.end));
	end_stop(&from.end);
	end_stop(&to.end);
}

static void open_by_path(struct end *end)
{
	struct cleat_device_config config = { .size = sizeof(config),
					      .path = "s" };
	struct cleat_error why = { .text = "" };

	ATF_REQUIRE_MSG(!cleat_device_open(&config, &end->dev, &why), "%s",
			why.text);
}

/* Its VMM has quit, and the server waits for the next. */
CLEAT_TC(source__client_gone_before_the_target_runs)
{
	const char *argv[] = { program(NVME), "--file=disk", "--size=4M",
			       "--queues=2", "--socket-path=s", NULL };
	struct cleat_error why = { .text = "" };
	struct end from = { 0 };
	struct disk to;
	struct tape tape;

	tape_make(&tape);
	child_start(&from.child, "source", argv);
	REQUIRE_SOON(!access("s", F_OK));
	open_by_path(&from);
	end_migration(&from, 0);
	start(&to, "v2", "mapped", true);
	save_all(&from, &tape, 0);
	cleat_migration_unref(from.mig);
	cleat_device_unref(from.dev);
	/* Served when the first client has been forgotten. */
	open_by_path(&from);
	ATF_REQUIRE_MSG(!load_all(&to.end, &tape, &why), "%s", why.text);
	ATF_REQUIRE_MSG(!cleat_migration_run(to.end.mig, &why), "%s", why.text);
	ATF_CHECK_EQ(NVME_CSTS_CFS, try_enable(&from));
	end_stop(&to.end);
	ATF_CHECK_EQ(NVME_CSTS_RDY, try_enable(&from));
	tape_free(&tape);
	cleat_device_unref(from.dev);
	ATF_REQUIRE_EQ(0, kill(from.child.pid, SIGTERM));
	ATF_CHECK_EQ(0, child_wait(&from.child, PATIENCE_MS));
}

/* What a client sees of the function: all of it, and the MSI-X table. */
struct function {
	uint8_t config[256];
	uint8_t table[3 * 16]; /* two queues and the admin queue */
};

static void look(struct end *end, struct function *function)
{
	ATF_REQUIRE_EQ(0, cleat_region_read(end->dev, 7, 0, function->config,
					    sizeof(function->config)));
	ATF_REQUIRE_EQ(0, cleat_region_read(end->dev, 4, 0, function->table,
					    sizeof(function->table)));
}

/* As a guest would: where its BAR is, and where its interrupts go. */
static void set_up(struct end *end)
{
	uint32_t bar = 0xfebf0000, entry[4] = { 0xfee00000, 0, 0x4021, 0 };

	ATF_REQUIRE_EQ(0, cleat_region_write(end->dev, 7, PCI_BASE_ADDRESS_0,
					     &bar, sizeof(bar)));
	ATF_REQUIRE_EQ(0, cleat_region_write(end->dev, 4, 0, entry,
					     sizeof(entry)));
}

CLEAT_TC(load__another_disk)
{
	static const char *const options[] = { "--file=other", "--size=8M",
					       "--queues=2", NULL };
	struct cleat_error why = { .text = "" };
	struct function foreign, before, after;
	struct disk from;
	struct tape tape;
	struct end to;

	tape_make(&tape);
	start(&from, "v2", "mapped", false);
	enable(&from);
	set_up(&from.end);
	look(&from.end, &foreign);
	end_start(&to, NVME, options);
	end_migration(&to, 0);
	look(&to, &before);
	ATF_REQUIRE(memcmp(foreign.config, before.config,
			   sizeof(before.config)));
	ATF_REQUIRE(memcmp(foreign.table, before.table, sizeof(before.table)));
	save_all(&from.end, &tape, 0);
	ATF_CHECK_EQ(-EXDEV, load_all(&to, &tape, &why));
	ATF_CHECK_EQ(CLEAT_MIGRATION_RUNNING, end_state(&to));
	ATF_CHECK_EQ(0, end_get(&to, NVME_REG_CSTS));
	/* Nothing of the state that was refused is left. */
	look(&to, &after);
	ATF_CHECK(!memcmp(&before, &after, sizeof(before)));
	tape_free(&tape);
	end_stop(&from.end);
	end_stop(&to);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, move__second_generation);
	ATF_TP_ADD_TC(tp, move__first_generation);
	ATF_TP_ADD_TC(tp, move__shadow_doorbells);
	ATF_TP_ADD_TC(tp, move__trapped_doorbells);
	ATF_TP_ADD_TC(tp, cancel__goes_on);
	ATF_TP_ADD_TC(tp, incoming__does_not_touch_the_file);
	ATF_TP_ADD_TC(tp, source__client_gone_before_the_target_runs);
	ATF_TP_ADD_TC(tp, load__another_disk);
	return atf_no_error();
}
