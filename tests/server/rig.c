/* SPDX-License-Identifier: BSD-2-Clause */
#include <linux/vfio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "tests/server/rig.h"

static void on_action(void *opaque, int fd, uint32_t events)
{
	struct rig *rig = opaque;

	cleat_server_unwatch(rig->srv, fd);
	close(fd);
	rig->action(rig);
}

static int on_read(void *opaque, uint32_t index, uint64_t offset, void *buf,
		   size_t count)
{
	struct rig *rig = opaque;

	rig->reads++;
	rig->last_offset = offset;
	rig->last_count = count;
	if (rig->fail_with)
		return rig->fail_with;
	memcpy(buf, rig->bar + offset, count);
	return 0;
}

static int on_write(void *opaque, uint32_t index, uint64_t offset,
		    const void *buf, size_t count)
{
	struct rig *rig = opaque;

	rig->writes++;
	rig->last_offset = offset;
	rig->last_count = count;
	if (rig->fail_with)
		return rig->fail_with;
	memcpy(rig->bar + offset, buf, count);
	if (offset == RIG_ACTION)
		return cleat_server_watch(rig->srv, eventfd(1, EFD_CLOEXEC),
					  EPOLLIN, on_action, rig);
	if (offset == RIG_ACTION_NOW)
		rig->action(rig);
	return 0;
}

static int on_reset(void *opaque)
{
	struct rig *rig = opaque;

	rig->resets++;
	return 0;
}

static void on_mapped(void *opaque, uint64_t iova, uint64_t length)
{
	struct rig *rig = opaque;

	rig->mapped++;
}

static void on_unmapping(void *opaque, uint64_t iova, uint64_t length)
{
	struct rig *rig = opaque;
	struct iovec iov[4];

	/* It is still there: that is what the call is for. */
	if (cleat_server_dma_map(rig->srv, iova, 1, 0, iov, 4) != -ENOENT)
		rig->unmapping++;
	rig->unmapped_iova = iova;
}

static void on_irqs(void *opaque, uint32_t index)
{
	struct rig *rig = opaque;

	rig->irqs_changed++;
}

static void on_connected(void *opaque)
{
	struct rig *rig = opaque;

	rig->connected++;
}

static void on_disconnected(void *opaque)
{
	struct rig *rig = opaque;

	rig->disconnected++;
}

static const struct cleat_server_ops ops = {
	.size = sizeof(ops),
	.region_read = on_read,
	.region_write = on_write,
	.reset = on_reset,
	.dma_mapped = on_mapped,
	.dma_unmapping = on_unmapping,
	.irqs_changed = on_irqs,
	.client_connected = on_connected,
	.client_disconnected = on_disconnected,
};

void rig_create(struct rig *rig, const struct cleat_server_config *config)
{
	struct cleat_server_region bar = {
		.size = sizeof(bar),
		.flags = CLEAT_REGION_READ | CLEAT_REGION_WRITE,
		.length = RIG_BAR,
	};

	memset(rig, 0, sizeof(*rig));
	rig->fd = -1;
	rig->next_id = 1;
	ATF_REQUIRE_EQ(0, cleat_server_create(config, &ops, rig, &rig->srv,
					      NULL));
	ATF_REQUIRE_EQ(0, cleat_server_add_region(rig->srv, &bar, NULL));
	ATF_REQUIRE_EQ(0, cleat_server_add_irqs(rig->srv, CLEAT_IRQ_INTX, 1, 0,
						NULL));
	ATF_REQUIRE_EQ(0, cleat_server_add_irqs(rig->srv, CLEAT_IRQ_MSI, 4, 0,
						NULL));
	ATF_REQUIRE_EQ(0, cleat_server_add_irqs(rig->srv, CLEAT_IRQ_MSIX, 8, 0,
						NULL));
}

static int run_server(void *arg)
{
	struct rig *rig = arg;

	return cleat_server_run(rig->srv);
}

void rig_run(struct rig *rig)
{
	int ends[2];

	peer_pair(ends);
	ATF_REQUIRE_EQ(0, cleat_server_adopt(rig->srv, ends[0], NULL));
	rig->fd = ends[1];
	rig_serve(rig);
}

void rig_serve(struct rig *rig)
{
	script_start(&rig->script, run_server, rig);
	rig->running = true;
}

void rig_start(struct rig *rig)
{
	struct peer_message reply;

	rig_create(rig, NULL);
	rig_run(rig);
	rig_version(rig, "{\"capabilities\":{\"max_msg_fds\":16}}", &reply);
	peer_message_end(&reply);
}

void rig_end(struct rig *rig)
{
	if (rig->running) {
		cleat_server_stop(rig->srv);
		script_end(&rig->script);
	}
	cleat_server_destroy(rig->srv);
	if (rig->fd >= 0)
		close(rig->fd);
}

void rig_version(struct rig *rig, const char *json, struct peer_message *reply)
{
	char body[4096] = { 0, 0, 1, 0 };
	size_t length = 4;

	if (json) {
		ATF_REQUIRE(strlen(json) < sizeof(body) - length);
		strcpy(body + length, json);
		length += strlen(json) + 1;
	}
	ATF_REQUIRE_EQ(0, peer_command(rig->fd, rig->next_id++,
				       VFIO_USER_VERSION, body, length, NULL,
				       0));
	ATF_REQUIRE_EQ(0, peer_expect(rig->fd, VFIO_USER_VERSION, reply));
}

void rig_call_fds(struct rig *rig, uint16_t command, const void *body,
		  size_t length, const int *fds, unsigned n_fds,
		  struct peer_message *reply)
{
	uint16_t id = rig->next_id++;

	ATF_REQUIRE_EQ(0, peer_command(rig->fd, id, command, body, length, fds,
				       n_fds));
	ATF_REQUIRE_EQ(0, peer_expect(rig->fd, command, reply));
	ATF_REQUIRE_EQ(id, reply->header.id);
	ATF_REQUIRE_EQ(PEER_REPLY, reply->header.flags & 0xf);
	/* The specification: an error reply is a header. */
	if (reply->header.flags & PEER_ERROR) {
		ATF_REQUIRE_EQ(0, reply->length);
		ATF_REQUIRE(reply->header.error);
	}
}

static int end_reply(struct peer_message *reply)
{
	int err = -(int)reply->header.error;

	peer_message_end(reply);
	return err;
}

int rig_call_fd(struct rig *rig, uint16_t command, const void *body,
		size_t length, int fd)
{
	struct peer_message reply;

	rig_call_fds(rig, command, body, length, &fd, fd >= 0, &reply);
	return end_reply(&reply);
}

int rig_call(struct rig *rig, uint16_t command, const void *body,
	     size_t length)
{
	return rig_call_fd(rig, command, body, length, -1);
}

int rig_read(struct rig *rig, uint32_t region, uint64_t offset, void *buf,
	     uint32_t count)
{
	struct cleat_wire_access access = { offset, region, count };
	struct peer_message reply;

	rig_call_fds(rig, VFIO_USER_REGION_READ, &access, sizeof(access), NULL,
		     0, &reply);
	if (!reply.header.error) {
		ATF_REQUIRE_EQ(sizeof(access) + count, reply.length);
		ATF_REQUIRE(!memcmp(&access, reply.body, sizeof(access)));
		memcpy(buf, (char *)reply.body + sizeof(access), count);
	}
	return end_reply(&reply);
}

int rig_write(struct rig *rig, uint32_t region, uint64_t offset,
	      const void *buf, uint32_t count)
{
	struct cleat_wire_access access = { offset, region, count };
	struct peer_message reply;
	char *body = malloc(sizeof(access) + count);

	ATF_REQUIRE(body);
	memcpy(body, &access, sizeof(access));
	memcpy(body + sizeof(access), buf, count);
	rig_call_fds(rig, VFIO_USER_REGION_WRITE, body, sizeof(access) + count,
		     NULL, 0, &reply);
	free(body);
	if (!reply.header.error)
		ATF_REQUIRE_EQ(sizeof(access), reply.length);
	return end_reply(&reply);
}

int rig_write32(struct rig *rig, uint64_t offset, uint32_t value)
{
	return rig_write(rig, 0, offset, &value, sizeof(value));
}

void rig_post32(struct rig *rig, uint64_t offset, uint32_t value, uint16_t id)
{
	struct {
		struct cleat_wire_access access;
		uint32_t value;
	} __attribute__((packed)) body = { { offset, 0, 4 }, value };

	ATF_REQUIRE_EQ(0, peer_command(rig->fd, id, VFIO_USER_REGION_WRITE,
				       &body, sizeof(body), NULL, 0));
}

int rig_map(struct rig *rig, uint64_t iova, uint64_t size, uint32_t flags,
	    int fd, uint64_t offset)
{
	struct cleat_wire_dma_map map = { sizeof(map), flags, offset, iova,
					  size };

	return rig_call_fd(rig, VFIO_USER_DMA_MAP, &map, sizeof(map), fd);
}

int rig_unmap(struct rig *rig, uint64_t iova, uint64_t size, uint32_t flags)
{
	struct cleat_wire_dma_unmap unmap = { sizeof(unmap), flags, iova,
					      size };

	return rig_call(rig, VFIO_USER_DMA_UNMAP, &unmap, sizeof(unmap));
}

int rig_set_irqs(struct rig *rig, uint32_t flags, uint32_t index,
		 uint32_t start, uint32_t count, const int *fds,
		 unsigned n_fds)
{
	struct cleat_wire_irq_set set = { sizeof(set), flags, index, start,
					  count };
	struct peer_message reply;

	rig_call_fds(rig, VFIO_USER_DEVICE_SET_IRQS, &set, sizeof(set), fds,
		     n_fds, &reply);
	return end_reply(&reply);
}

void rig_expect_end(struct rig *rig)
{
	ATF_REQUIRE_EQ(0, peer_expect_close(rig->fd));
	script_end(&rig->script);
	rig->running = false;
}
