/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <linux/vfio.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "tests/backends/probe_host.h"

#define ARGS_MAX 16

static void agree(struct probe_host *host)
{
	static const char json[] = "{\"capabilities\":{\"max_msg_fds\":64}}";
	char body[4 + sizeof(json)] = { 0, 0, 1, 0 };

	memcpy(body + 4, json, sizeof(json));
	ATF_REQUIRE_EQ(0, probe_call(host, VFIO_USER_VERSION, body,
				     sizeof(body), NULL, 0, NULL));
}

void probe_start(struct probe_host *host, const char *const extra[])
{
	const char *argv[ARGS_MAX] = { program("backends/cleat-probe") };
	char option[32];
	unsigned n = 1;
	int ends[2];

	memset(host, 0, sizeof(*host));
	peer_pair(ends);
	host->fd = ends[0];
	ATF_REQUIRE_EQ(0, fcntl(ends[1], F_SETFD, 0));
	snprintf(option, sizeof(option), "--fd=%d", ends[1]);
	argv[n++] = option;
	while (extra && *extra && n < ARGS_MAX - 1)
		argv[n++] = *extra++;
	child_start(&host->child, "probe", argv);
	close(ends[1]);
	agree(host);
}

void probe_stop(struct probe_host *host)
{
	kill(host->child.pid, SIGTERM);
	ATF_REQUIRE_EQ(0, child_wait(&host->child, PATIENCE_MS));
	close(host->fd);
}

int probe_call(struct probe_host *host, uint16_t command, const void *body,
	       size_t length, const int *fds, unsigned n_fds,
	       struct peer_message *reply)
{
	struct peer_message local;
	int err;

	if (!reply)
		reply = &local;
	ATF_REQUIRE_EQ(0, peer_command(host->fd, ++host->id, command, body,
				       length, fds, n_fds));
	ATF_REQUIRE_EQ(0, peer_expect(host->fd, command, reply));
	ATF_REQUIRE_EQ(host->id, reply->header.id);
	err = -(int)reply->header.error;
	if (err || reply == &local)
		peer_message_end(reply);
	return err;
}

uint64_t probe_read(struct probe_host *host, uint32_t region, uint64_t offset,
		    uint32_t count)
{
	struct cleat_wire_access access = { offset, region, count };
	struct peer_message reply;
	uint64_t value = 0;

	ATF_REQUIRE_EQ(0, probe_call(host, VFIO_USER_REGION_READ, &access,
				     sizeof(access), NULL, 0, &reply));
	ATF_REQUIRE_EQ(sizeof(access) + count, reply.length);
	memcpy(&value, (char *)reply.body + sizeof(access), count);
	peer_message_end(&reply);
	return value;
}

void probe_write(struct probe_host *host, uint32_t region, uint64_t offset,
		 uint32_t count, uint64_t value)
{
	struct {
		struct cleat_wire_access access;
		uint64_t value;
	} body = { { offset, region, count }, value };

	ATF_REQUIRE_EQ(0, probe_call(host, VFIO_USER_REGION_WRITE, &body,
				     sizeof(body.access) + count, NULL, 0,
				     NULL));
}

uint64_t probe_reg(struct probe_host *host, uint64_t offset)
{
	return probe_read(host, PROBE_BAR_REGS, offset, 4);
}

void probe_set(struct probe_host *host, uint64_t offset, uint32_t value)
{
	probe_write(host, PROBE_BAR_REGS, offset, 4, value);
}

uint64_t probe_counter(struct probe_host *host, uint64_t offset)
{
	return probe_read(host, PROBE_BAR_REGS, offset, 8);
}

void probe_arm(struct probe_host *host, uint32_t index, unsigned count,
	       int *fds)
{
	struct cleat_wire_irq_set set = { sizeof(set),
					  VFIO_IRQ_SET_DATA_EVENTFD |
						  VFIO_IRQ_SET_ACTION_TRIGGER,
					  index, 0, count };

	for (unsigned i = 0; i < count; i++)
		fds[i] = eventfd(0, EFD_NONBLOCK);
	ATF_REQUIRE_EQ(0, probe_call(host, VFIO_USER_DEVICE_SET_IRQS, &set,
				     sizeof(set), fds, count, NULL));
}

int probe_map(struct probe_host *host, uint64_t iova, uint64_t size, int fd)
{
	struct cleat_wire_dma_map map = { sizeof(map),
					  CLEAT_DMA_READ | CLEAT_DMA_WRITE, 0,
					  iova, size };

	return probe_call(host, VFIO_USER_DMA_MAP, &map, sizeof(map), &fd,
			  fd >= 0, NULL);
}

void probe_region(struct probe_host *host, uint32_t index,
		  struct cleat_wire_region *region, struct peer_message *reply)
{
	struct cleat_wire_region_info info = { .argsz = 4096, .index = index };

	ATF_REQUIRE_EQ(0, probe_call(host, VFIO_USER_DEVICE_GET_REGION_INFO,
				     &info, sizeof(info), NULL, 0, reply));
	ATF_REQUIRE_EQ(0, cleat_wire_parse_region(reply->body, reply->length,
						  index, reply->nr_fds, region,
						  NULL));
}

unsigned probe_io_fds(struct probe_host *host, uint32_t index,
		      struct cleat_wire_io_fd **entries,
		      struct peer_message *reply)
{
	struct cleat_wire_io_fds head = { .argsz = 65536, .index = index };
	int count;

	ATF_REQUIRE_EQ(0, probe_call(host, VFIO_USER_DEVICE_GET_REGION_IO_FDS,
				     &head, sizeof(head), NULL, 0, reply));
	count = cleat_wire_parse_io_fds(reply->body, reply->length, index,
					PROBE_DOORBELLS_LENGTH, reply->nr_fds,
					entries, NULL);
	ATF_REQUIRE(count >= 0);
	return (unsigned)count;
}
