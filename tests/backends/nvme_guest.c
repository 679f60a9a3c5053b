/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#include <cleat/api.h>

#include "tests/backends/nvme_guest.h"

static bool inside(uint64_t addr, uint64_t length)
{
	return addr >= 0x1000 && addr < GUEST_RAM && length <= GUEST_RAM - addr;
}

static int map(void *opaque, uint64_t addr, uint64_t length, uint32_t rights,
	       struct iovec *iov, unsigned n_iov)
{
	struct guest *guest = opaque;

	if (!inside(addr, length))
		return -ENOENT;
	if (guest->by_message)
		return -EOPNOTSUPP;
	if (!n_iov)
		return -E2BIG;
	*iov = (struct iovec){ guest->ram + addr, length };
	return 1;
}

static void dirty(void *opaque, uint64_t addr, uint64_t length)
{
	struct guest *guest = opaque;

	guest->dirty += length;
}

static int read_ram(void *opaque, uint64_t addr, void *buf, size_t count)
{
	struct guest *guest = opaque;
	void (*in_read)(struct guest *guest) = guest->in_read;

	if (!inside(addr, count))
		return -ENOENT;
	guest->in_read = NULL;
	if (in_read)
		in_read(guest);
	memcpy(buf, guest->ram + addr, count);
	return 0;
}

static int write_ram(void *opaque, uint64_t addr, const void *buf,
		     size_t count)
{
	struct guest *guest = opaque;
	void (*in_write)(struct guest *guest) = guest->in_write;

	if (!inside(addr, count))
		return -ENOENT;
	memcpy(guest->ram + addr, buf, count);
	guest->in_write = NULL;
	if (in_write)
		in_write(guest);
	return 0;
}

static void raise_vector(void *opaque, unsigned vector)
{
	struct guest *guest = opaque;

	ATF_REQUIRE(vector <= GUEST_QUEUES);
	guest->raised[vector]++;
}

static void pin(void *opaque, bool level)
{
	struct guest *guest = opaque;

	guest->pin = level;
	guest->pin_edges++;
}

static void warn(void *opaque, const char *line)
{
	struct guest *guest = opaque;

	printf("warned: %s\n", line);
	guest->warnings++;
}

static const struct cleat_nvme_ops ops = {
	.map = map,
	.dirty = dirty,
	.read = read_ram,
	.write = write_ram,
	.raise = raise_vector,
	.pin = pin,
	.warn = warn,
};

void guest_start_on(struct guest *guest, struct cleat_nvme_disk disk)
{
	struct cleat_nvme_config config = {
		.disk = &guest->disk,
		.queues = GUEST_QUEUES,
		.doorbells = guest->doorbells,
	};

	guest->disk = disk;
	guest->ram = calloc(1, GUEST_RAM);
	guest->page = calloc(1, NVME_DOORBELL_BYTES);
	ATF_REQUIRE(guest->ram && guest->page);
	if (guest->doorbells == NVME_MAPPED || guest->doorbells == NVME_SHADOW)
		config.page = guest->page;
	guest->nvme = cleat_nvme_new(&config, &ops, guest);
	ATF_REQUIRE(guest->nvme);
	cleat_nvme_set_irq_mode(guest->nvme, NVME_IRQ_MSIX);
	cleat_nvme_set_bus_master(guest->nvme, true);
}

void guest_start(struct guest *guest)
{
	struct cleat_nvme_disk disk;
	struct cleat_nvme_disk_config config = {
		.path = "disk",
		.block_size = guest->block_size ? guest->block_size : 512,
		.read_only = guest->read_only,
	};
	struct cleat_error why;
	int fd = open("disk", O_RDWR | O_CREAT | O_TRUNC, 0600);

	ATF_REQUIRE(fd >= 0);
	ATF_REQUIRE_EQ(0, ftruncate(fd, GUEST_DISK));
	close(fd);
	ATF_REQUIRE_EQ_MSG(0, cleat_nvme_disk_open(&disk, &config, &why), "%s",
			   why.text);
	guest_start_on(guest, disk);
}

void guest_end(struct guest *guest)
{
	cleat_nvme_free(guest->nvme);
	cleat_nvme_disk_close(&guest->disk);
	free(guest->ram);
	free(guest->page);
}

uint32_t guest_read32(struct guest *guest, unsigned offset)
{
	uint32_t value;

	cleat_nvme_bar_read(guest->nvme, offset, &value, 4);
	return value;
}

void guest_write32(struct guest *guest, unsigned offset, uint32_t value)
{
	cleat_nvme_bar_write(guest->nvme, offset, &value, 4);
}

static void new_queue(struct guest *guest, unsigned q, uint32_t entries)
{
	guest->queues[q] = (struct guest_queue){
		.entries = entries,
		.phase = 1,
	};
	memset(guest->ram + GUEST_SQ(q), 0, entries * 64);
	memset(guest->ram + GUEST_CQ(q), 0, entries * 16);
}

void guest_set_up(struct guest *guest)
{
	uint64_t sq = GUEST_SQ(0), cq = GUEST_CQ(0);

	guest_write32(guest, NVME_REG_AQA,
		      (GUEST_ENTRIES - 1) << 16 | (GUEST_ENTRIES - 1));
	cleat_nvme_bar_write(guest->nvme, NVME_REG_ASQ, &sq, 8);
	cleat_nvme_bar_write(guest->nvme, NVME_REG_ACQ, &cq, 8);
	new_queue(guest, 0, GUEST_ENTRIES);
}

void guest_enable(struct guest *guest)
{
	guest_set_up(guest);
	/* 64-byte and 16-byte entries, 4 KiB pages */
	guest_write32(guest, NVME_REG_CC, 4u << 20 | 6u << 16 | 1);
	ATF_REQUIRE_EQ(NVME_CSTS_RDY, guest_read32(guest, NVME_REG_CSTS));
}

void guest_disable(struct guest *guest)
{
	guest_write32(guest, NVME_REG_CC, 0);
}

void guest_run(struct guest *guest)
{
	for (unsigned i = 0; i < 10000; i++)
		if (cleat_nvme_poll(guest->nvme) <= 0)
			return;
	atf_tc_fail("the controller never comes to rest");
}

void guest_create_queues(struct guest *guest, unsigned q, unsigned entries)
{
	struct nvme_command cq = {
		.opcode = NVME_ADMIN_CREATE_CQ,
		.prp1 = GUEST_CQ(q),
		.cdw10 = (entries - 1) << 16 | q,
		.cdw11 = q << 16 | 3,
	};
	struct nvme_command sq = {
		.opcode = NVME_ADMIN_CREATE_SQ,
		.prp1 = GUEST_SQ(q),
		.cdw10 = (entries - 1) << 16 | q,
		.cdw11 = q << 16 | 1,
	};

	new_queue(guest, q, entries);
	ATF_REQUIRE_EQ(NVME_SUCCESS, guest_admin(guest, cq));
	ATF_REQUIRE_EQ(NVME_SUCCESS, guest_admin(guest, sq));
}

void guest_start_io(struct guest *guest)
{
	guest_start(guest);
	guest_enable(guest);
	guest_create_queues(guest, 1, GUEST_ENTRIES);
}

void guest_put(struct guest *guest, unsigned q, const struct nvme_command *cmd)
{
	struct guest_queue *queue = &guest->queues[q];

	memcpy(guest->ram + GUEST_SQ(q) + queue->tail * 64, cmd, 64);
	queue->tail = (queue->tail + 1) % queue->entries;
}

static void ring(struct guest *guest, unsigned index, uint32_t value)
{
	uint32_t *buffer = (uint32_t *)(guest->ram + GUEST_DBBUF);

	if (guest->doorbells == NVME_TRAPPED ||
	    (guest->doorbells == NVME_IOEVENTFD && index < 2)) {
		guest_write32(guest, NVME_DOORBELLS + 4 * index, value);
		return;
	}
	if (guest->doorbells == NVME_IOEVENTFD)
		buffer[index] = value;
	else
		guest->page[index] = value;
	if (guest->doorbells != NVME_MAPPED)
		cleat_nvme_kicked(guest->nvme, 1);
}

void guest_ring(struct guest *guest, unsigned q)
{
	ring(guest, 2 * q, guest->queues[q].tail);
}

void guest_ring_head(struct guest *guest, unsigned q)
{
	ring(guest, 2 * q + 1, guest->queues[q].head);
}

bool guest_take(struct guest *guest, unsigned q, struct nvme_completion *ret)
{
	struct guest_queue *queue = &guest->queues[q];

	memcpy(ret, guest->ram + GUEST_CQ(q) + queue->head * 16, 16);
	if ((ret->status & 1) != queue->phase)
		return false;
	queue->head++;
	if (queue->head == queue->entries) {
		queue->head = 0;
		queue->phase ^= 1;
	}
	return true;
}

unsigned guest_command(struct guest *guest, unsigned q,
		       struct nvme_command cmd, uint32_t *result)
{
	static uint16_t cid = 1000;
	struct nvme_completion done;

	cmd.cid = ++cid;
	guest_put(guest, q, &cmd);
	guest_ring(guest, q);
	guest_run(guest);
	ATF_REQUIRE_MSG(guest_take(guest, q, &done), "no completion");
	ATF_REQUIRE_EQ(cid, done.cid);
	ATF_REQUIRE_EQ(q, done.sq_id);
	ATF_REQUIRE_EQ(guest->queues[q].tail, done.sq_head);
	guest_ring_head(guest, q);
	guest_run(guest);
	if (result)
		*result = done.dw0;
	return STATUS(done);
}

unsigned guest_admin(struct guest *guest, struct nvme_command cmd)
{
	return guest_command(guest, 0, cmd, NULL);
}

struct nvme_command guest_rw(unsigned opcode, uint64_t slba, unsigned blocks)
{
	return (struct nvme_command){
		.opcode = (uint8_t)opcode,
		.nsid = 1,
		.prp1 = GUEST_DATA,
		.prp2 = GUEST_DATA + 4096,
		.cdw10 = (uint32_t)slba,
		.cdw11 = (uint32_t)(slba >> 32),
		.cdw12 = blocks - 1,
	};
}
