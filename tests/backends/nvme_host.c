/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/backends/nvme_host.h"
#include "wire/wire.h"

#define ARGS_MAX 16
#define CONFIG_REGION 7
#define DMA_READABLE 1u
#define DMA_WRITEABLE 2u
#define TYPE_SHADOW 2u

/* ---- messages ---- */

static int serve_dma(struct host *host, const struct peer_message *message)
{
	struct cleat_wire_dma dma;
	uint8_t reply[sizeof(dma) + 65536];

	if (message->length < sizeof(dma))
		return -EBADMSG;
	memcpy(&dma, message->body, sizeof(dma));
	if (dma.address > HOST_RAM || dma.count > HOST_RAM - dma.address ||
	    dma.count > sizeof(reply) - sizeof(dma))
		return peer_reply_error(host->fd, message, EFAULT);
	memcpy(reply, &dma, sizeof(dma));
	if (message->header.command == VFIO_USER_DMA_READ) {
		memcpy(reply + sizeof(dma), host->ram + dma.address, dma.count);
		return peer_reply(host->fd, message, reply,
				  sizeof(dma) + dma.count, NULL, 0);
	}
	memcpy(host->ram + dma.address, (char *)message->body + sizeof(dma),
	       dma.count);
	return peer_reply(host->fd, message, reply, sizeof(dma), NULL, 0);
}

/* The next message that is not a request for DMA. */
static int receive(struct host *host, struct peer_message *message)
{
	int err;

	for (;;) {
		err = peer_receive(host->fd, message);
		if (err || message->header.flags & PEER_REPLY)
			return err;
		err = serve_dma(host, message);
		peer_message_end(message);
		if (err)
			return err;
	}
}

int host_call(struct host *host, uint16_t command, const void *body,
	      size_t length, const int *fds, unsigned n_fds,
	      struct peer_message *reply)
{
	struct peer_message message;
	int err;

	ATF_REQUIRE_EQ(0, peer_command(host->fd, ++host->id, command, body,
				       length, fds, n_fds));
	ATF_REQUIRE_EQ(0, receive(host, &message));
	ATF_REQUIRE_EQ(host->id, message.header.id);
	ATF_REQUIRE_EQ(command, message.header.command);
	err = message.header.flags & PEER_ERROR ? -(int)message.header.error :
						  0;
	if (reply && !err)
		*reply = message;
	else
		peer_message_end(&message);
	return err;
}

static void access_region(struct host *host, bool write, uint32_t region,
			  uint32_t offset, void *data, uint32_t count)
{
	struct {
		struct cleat_wire_access access;
		uint8_t data[8];
	} body = { { offset, region, count }, { 0 } };
	struct peer_message reply;

	memcpy(body.data, data, write ? count : 0);
	ATF_REQUIRE_EQ(0, host_call(host,
				    write ? VFIO_USER_REGION_WRITE :
					    VFIO_USER_REGION_READ,
				    &body,
				    sizeof(body.access) + (write ? count : 0),
				    NULL, 0, &reply));
	if (!write) {
		ATF_REQUIRE_EQ(sizeof(body.access) + count, reply.length);
		memcpy(data, (char *)reply.body + sizeof(body.access), count);
	}
	peer_message_end(&reply);
}

uint32_t host_read32(struct host *host, uint32_t offset)
{
	uint32_t value;

	access_region(host, false, 0, offset, &value, 4);
	return value;
}

void host_write32(struct host *host, uint32_t offset, uint32_t value)
{
	access_region(host, true, 0, offset, &value, 4);
}

void host_config16(struct host *host, uint32_t offset, uint16_t value)
{
	access_region(host, true, CONFIG_REGION, offset, &value, 2);
}

/* ---- setting up ---- */

static void start_program(struct host *host, const char *const extra[])
{
	const char *argv[ARGS_MAX] = { program("backends/cleat-nvme") };
	char fd_option[32], way[32];
	unsigned n = 1;
	int ends[2];

	peer_pair(ends);
	host->fd = ends[0];
	ATF_REQUIRE_EQ(0, fcntl(ends[1], F_SETFD, 0));
	snprintf(fd_option, sizeof(fd_option), "--fd=%d", ends[1]);
	argv[n++] = fd_option;
	snprintf(way, sizeof(way), "--doorbells=%s", host->doorbells);
	if (host->doorbells)
		argv[n++] = way;
	while (*extra)
		argv[n++] = *extra++;
	child_start(&host->child, "nvme", argv);
	close(ends[1]);
}

static void negotiate(struct host *host)
{
	static const char json[] =
		"{\"capabilities\":{\"max_msg_fds\":16}}";
	uint8_t body[4 + sizeof(json)] = { 0, 0, 1, 0 };

	memcpy(body + 4, json, sizeof(json));
	ATF_REQUIRE_EQ(0, host_call(host, VFIO_USER_VERSION, body,
				    sizeof(body), NULL, 0, NULL));
}

static void map_ram(struct host *host)
{
	struct cleat_wire_dma_map map = {
		.argsz = sizeof(map),
		.flags = DMA_READABLE | DMA_WRITEABLE,
		.size = HOST_RAM,
	};

	host->ram_fd = memfd(HOST_RAM, F_SEAL_SHRINK | F_SEAL_GROW);
	host->ram = map_fd(host->ram_fd, HOST_RAM, PROT_READ | PROT_WRITE);
	ATF_REQUIRE_EQ(0, host_call(host, VFIO_USER_DMA_MAP, &map, sizeof(map),
				    &host->ram_fd, !host->by_message, NULL));
}

static void set_vectors(struct host *host)
{
	struct cleat_wire_irq_set set = {
		.argsz = sizeof(set),
		.flags = VFIO_IRQ_SET_DATA_EVENTFD |
			 VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = VFIO_PCI_MSIX_IRQ_INDEX,
		.count = HOST_VECTORS,
	};

	for (unsigned i = 0; i < HOST_VECTORS; i++)
		host->vectors[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ATF_REQUIRE_EQ(0, host_call(host, VFIO_USER_DEVICE_SET_IRQS, &set,
				    sizeof(set), host->vectors, HOST_VECTORS,
				    NULL));
}

/* The sparse area of BAR 0, as a client finds it. */
static void map_doorbells(struct host *host)
{
	struct cleat_wire_region_info info = { .argsz = 256 };
	struct {
		struct vfio_info_cap_header header;
		uint32_t nr_areas, reserved;
		struct vfio_region_sparse_mmap_area area;
	} sparse;
	struct peer_message reply;

	ATF_REQUIRE_EQ(0, host_call(host, VFIO_USER_DEVICE_GET_REGION_INFO,
				    &info, sizeof(info), NULL, 0, &reply));
	ATF_REQUIRE(reply.length >= sizeof(info) + sizeof(sparse));
	ATF_REQUIRE_EQ(1, reply.nr_fds);
	memcpy(&info, reply.body, sizeof(info));
	ATF_REQUIRE_EQ(NVME_BAR0_SIZE, info.size);
	memcpy(&sparse, (char *)reply.body + info.cap_offset, sizeof(sparse));
	ATF_REQUIRE_EQ(VFIO_REGION_INFO_CAP_SPARSE_MMAP, sparse.header.id);
	ATF_REQUIRE_EQ(1, sparse.nr_areas);
	ATF_REQUIRE_EQ(NVME_DOORBELLS, sparse.area.offset);
	ATF_REQUIRE_EQ(NVME_DOORBELL_BYTES, sparse.area.size);
	ATF_REQUIRE(fcntl(reply.fds[0], F_GET_SEALS) & F_SEAL_SHRINK);
	host->page = mmap(NULL, NVME_DOORBELL_BYTES, PROT_READ | PROT_WRITE,
			  MAP_SHARED, reply.fds[0],
			  (off_t)(info.offset + sparse.area.offset));
	ATF_REQUIRE(host->page != MAP_FAILED);
	peer_message_end(&reply);
}

static void take_entry(struct host *host, const struct peer_message *reply,
		       const struct cleat_wire_io_fd *entry)
{
	unsigned index = (unsigned)(entry->offset - NVME_DOORBELLS) / 4;

	ATF_REQUIRE(entry->fd_index < reply->nr_fds);
	ATF_REQUIRE_EQ(4, entry->size);
	if (index >= 2 * HOST_VECTORS)
		return;
	host->kicks[index] = dup(reply->fds[entry->fd_index]);
	if (entry->type != TYPE_SHADOW || host->page)
		return;
	ATF_REQUIRE(entry->shadow_fd_index < reply->nr_fds);
	/* The first entry seen is that of the first doorbell. */
	host->page = mmap(NULL, NVME_DOORBELL_BYTES, PROT_READ | PROT_WRITE,
			  MAP_SHARED, reply->fds[entry->shadow_fd_index],
			  (off_t)entry->shadow_offset);
	ATF_REQUIRE(host->page != MAP_FAILED);
}

static void get_io_fds(struct host *host)
{
	struct cleat_wire_io_fds ask = { .argsz = 65536 };
	struct cleat_wire_io_fd entry;
	struct peer_message reply;

	ATF_REQUIRE_EQ(0, host_call(host, VFIO_USER_DEVICE_GET_REGION_IO_FDS,
				    &ask, sizeof(ask), NULL, 0, &reply));
	memcpy(&ask, reply.body, sizeof(ask));
	ATF_REQUIRE_EQ(sizeof(ask) + ask.count * sizeof(entry), reply.length);
	for (unsigned i = 0; i < ask.count; i++) {
		memcpy(&entry,
		       (char *)reply.body + sizeof(ask) + i * sizeof(entry),
		       sizeof(entry));
		take_entry(host, &reply, &entry);
	}
	peer_message_end(&reply);
}

static bool is(const struct host *host, const char *doorbells)
{
	return host->doorbells && !strcmp(host->doorbells, doorbells);
}

void host_start(struct host *host, const char *const extra[])
{
	for (unsigned i = 0; i < 2 * HOST_VECTORS; i++)
		host->kicks[i] = -1;
	start_program(host, extra);
	negotiate(host);
	map_ram(host);
	set_vectors(host);
	if (is(host, "mapped"))
		map_doorbells(host);
	if (is(host, "shadow") || is(host, "ioeventfd"))
		get_io_fds(host);
	host_config16(host, PCI_COMMAND,
		      PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

void host_end(struct host *host)
{
	child_end(&host->child);
	close(host->fd);
	close(host->ram_fd);
	munmap(host->ram, HOST_RAM);
	for (unsigned i = 0; i < HOST_VECTORS; i++)
		close(host->vectors[i]);
	for (unsigned i = 0; i < 2 * HOST_VECTORS; i++)
		if (host->kicks[i] >= 0)
			close(host->kicks[i]);
	if (host->page)
		munmap(host->page, NVME_DOORBELL_BYTES);
}

int host_stop(struct host *host)
{
	int status;

	ATF_REQUIRE_EQ(0, kill(host->child.pid, SIGTERM));
	status = child_wait(&host->child, PATIENCE_MS);
	ATF_REQUIRE(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* ---- the driver ---- */

static void ring(struct host *host, unsigned index, uint32_t value)
{
	uint32_t *word = host->page ? &host->page[index] : NULL;
	uint64_t one = 1;

	if (host->dbbuf && index >= 2)
		word = (uint32_t *)(host->ram + HOST_DBBUF) + index;
	if (word)
		__atomic_store_n(word, value, __ATOMIC_SEQ_CST);
	if (host->kicks[index] >= 0)
		ATF_REQUIRE_EQ(8, write(host->kicks[index], &one, 8));
	else if (!host->page)
		host_write32(host, NVME_DOORBELLS + 4 * index, value);
}

void host_put(struct host *host, unsigned q, struct nvme_command cmd)
{
	uint32_t *tail = &host->queues[q].tail;

	cmd.cid = ++host->cid;
	memcpy(host->ram + HOST_SQ(q) + *tail * 64, &cmd, 64);
	*tail = (*tail + 1) % HOST_ENTRIES;
}

void host_ring(struct host *host, unsigned q)
{
	ring(host, 2 * q, host->queues[q].tail);
}

void host_ring_head(struct host *host, unsigned q)
{
	ring(host, 2 * q + 1, host->queues[q].head);
}

void host_submit(struct host *host, unsigned q, struct nvme_command cmd)
{
	host_put(host, q, cmd);
	host_ring(host, q);
}

bool host_done(struct host *host, unsigned q)
{
	const struct nvme_completion *entry = (const void *)(host->ram +
		HOST_CQ(q) + host->queues[q].head * sizeof(*entry));

	return (__atomic_load_n(&entry->status, __ATOMIC_ACQUIRE) & 1) ==
	       host->queues[q].phase;
}

/* Meanwhile the server may want DMA. */
static void wait_vector(struct host *host, unsigned vector)
{
	struct deadline deadline = deadline_in(PATIENCE_MS);
	struct pollfd fds[] = {
		{ .fd = host->vectors[vector], .events = POLLIN },
		{ .fd = host->fd, .events = POLLIN },
	};
	struct peer_message message;
	uint64_t count;

	while (read(fds[0].fd, &count, 8) != 8) {
		ATF_REQUIRE_MSG(deadline_left(&deadline), "no interrupt");
		ATF_REQUIRE(poll(fds, 2, deadline_left(&deadline)) >= 0);
		if (!(fds[1].revents & POLLIN))
			continue;
		ATF_REQUIRE_EQ(0, peer_receive(host->fd, &message));
		ATF_REQUIRE_EQ(0, serve_dma(host, &message));
		peer_message_end(&message);
	}
}

struct nvme_completion host_take(struct host *host, unsigned q)
{
	struct nvme_completion done;
	uint32_t *head = &host->queues[q].head;

	while (!host_done(host, q))
		wait_vector(host, q);
	memcpy(&done, host->ram + HOST_CQ(q) + *head * 16, 16);
	*head = (*head + 1) % HOST_ENTRIES;
	if (!*head)
		host->queues[q].phase ^= 1;
	return done;
}

struct nvme_completion host_complete(struct host *host, unsigned q)
{
	struct nvme_completion done = host_take(host, q);

	host_ring_head(host, q);
	return done;
}

unsigned host_command(struct host *host, unsigned q, struct nvme_command cmd)
{
	struct nvme_completion done;

	host_submit(host, q, cmd);
	done = host_complete(host, q);
	ATF_REQUIRE_EQ(host->cid, done.cid);
	return done.status >> 1 & ~NVME_STATUS_MORE;
}

unsigned host_rw(struct host *host, unsigned opcode, uint64_t slba,
		 unsigned blocks)
{
	struct nvme_command cmd = {
		.opcode = (uint8_t)opcode,
		.nsid = 1,
		.prp1 = HOST_DATA,
		.prp2 = HOST_DATA + 4096,
		.cdw10 = (uint32_t)slba,
		.cdw12 = blocks - 1,
	};

	return host_command(host, 1, cmd);
}

static void set_dbbuf(struct host *host)
{
	struct nvme_command cmd = {
		.opcode = NVME_ADMIN_DBBUF,
		.prp1 = HOST_DBBUF,
		.prp2 = HOST_EVENTIDX,
	};

	ATF_REQUIRE_EQ(NVME_SUCCESS, host_command(host, 0, cmd));
	host->dbbuf = true;
}

static void enable_admin(struct host *host)
{
	for (unsigned q = 0; q < HOST_VECTORS; q++) {
		memset(&host->queues[q], 0, sizeof(host->queues[q]));
		host->queues[q].phase = 1;
		memset(host->ram + HOST_CQ(q), 0, HOST_ENTRIES * 16);
	}
	host->dbbuf = false;
	memset(host->ram + HOST_DBBUF, 0, 0x2000);
	host_write32(host, NVME_REG_AQA, (HOST_ENTRIES - 1) * 0x10001u);
	host_write32(host, NVME_REG_ASQ, HOST_SQ(0));
	host_write32(host, NVME_REG_ACQ, HOST_CQ(0));
	host_write32(host, NVME_REG_CC, 4u << 20 | 6u << 16 | 1);
	ATF_REQUIRE_EQ(NVME_CSTS_RDY, host_read32(host, NVME_REG_CSTS));
}

void host_enable(struct host *host)
{
	struct nvme_command cq = {
		.opcode = NVME_ADMIN_CREATE_CQ,
		.prp1 = HOST_CQ(1),
		.cdw10 = (HOST_ENTRIES - 1) << 16 | 1,
		.cdw11 = 1u << 16 | 3,
	};
	struct nvme_command sq = {
		.opcode = NVME_ADMIN_CREATE_SQ,
		.prp1 = HOST_SQ(1),
		.cdw10 = (HOST_ENTRIES - 1) << 16 | 1,
		.cdw11 = 1u << 16 | 1,
	};

	enable_admin(host);
	ATF_REQUIRE_EQ(NVME_SUCCESS, host_command(host, 0, cq));
	ATF_REQUIRE_EQ(NVME_SUCCESS, host_command(host, 0, sq));
	if (is(host, "ioeventfd") && !host->no_dbbuf)
		set_dbbuf(host);
}
