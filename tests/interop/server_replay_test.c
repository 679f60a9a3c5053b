/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The server library against what real clients were recorded to say. A device
 * is made of what the recorded server told of its own; each recorded command is
 * sent to it as it was, and what comes back must have the shape of the recorded
 * reply. What the recorded server asked by itself this one asks too.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <cleat/server.h>

#include "tests/interop/replay.h"

#define MAX_REGIONS 9
#define MAX_IRQS 5

/**
 * struct rig
 * @at:   the command that is being served
 * @kick: makes the server ask what the recorded one asked in message @at
 * @did:  what came of that
 * @qemu: the recorded client is QEMU's
 * @by_message: no descriptor of guest memory is passed on, so that the server
 *        has to ask
 */
struct rig {
	struct replay replay;
	struct cleat_server *srv;
	int fd;
	struct script script;
	atomic_uint at;
	int kick;
	atomic_int did;
	bool qemu;
	bool by_message;
	uint64_t lengths[MAX_REGIONS];
	uint32_t irqs[MAX_IRQS];
};

static int recorded_error(const struct rig *rig, unsigned i)
{
	int partner = rig->replay.partner[i];
	struct cleat_header header;

	if (partner < 0)
		return 0;
	header = replay_header(&rig->replay, (unsigned)partner);
	return cleat_header_error(&header);
}

/* --- The device, in the server's thread ---------------------------------- */

static int device_read(void *opaque, uint32_t index, uint64_t offset, void *buf,
		       size_t count)
{
	struct rig *rig = opaque;
	unsigned at = rig->at;
	int err = recorded_error(rig, at);
	const uint8_t *reply;

	if (err)
		return err;
	reply = replay_payload(&rig->replay, (unsigned)rig->replay.partner[at],
			       NULL);
	memcpy(buf, reply + sizeof(struct cleat_wire_access), count);
	return 0;
}

static int device_write(void *opaque, uint32_t index, uint64_t offset,
			const void *buf, size_t count)
{
	struct rig *rig = opaque;

	return recorded_error(rig, rig->at);
}

static int device_reset(void *opaque)
{
	return 0;
}

/* DMA of the recorded server's, once more. */
static int device_dma(struct rig *rig, unsigned i)
{
	const uint8_t *command = replay_payload(&rig->replay, i, NULL);
	const uint8_t *reply = replay_payload(
		&rig->replay, (unsigned)rig->replay.partner[i], NULL);
	struct cleat_wire_dma dma;
	uint8_t buf[65536];
	int err;

	memcpy(&dma, command, sizeof(dma));
	if (dma.count > sizeof(buf))
		return -E2BIG;
	if (replay_header(&rig->replay, i).command == VFIO_USER_DMA_WRITE)
		return cleat_server_dma_write(rig->srv, dma.address,
					      command + sizeof(dma), dma.count);
	err = cleat_server_dma_read(rig->srv, dma.address, buf, dma.count);
	if (!err && memcmp(buf, reply + sizeof(dma), dma.count))
		err = -EBADMSG;
	return err;
}

static void kicked(void *opaque, int fd, uint32_t events)
{
	struct rig *rig = opaque;
	uint64_t count;

	if (read(fd, &count, sizeof(count)) == sizeof(count))
		rig->did = device_dma(rig, rig->at);
}

/* --- The device, as the recorded server described it --------------------- */

static void add_region(struct rig *rig, unsigned reply)
{
	const struct cleat_stream_message *message =
		&rig->replay.messages[reply];
	struct cleat_server_area areas[8];
	struct cleat_wire_region_info info;
	struct cleat_wire_region wire;
	int fds[CLEAT_MAX_FDS];
	size_t length;
	const void *payload = replay_payload(&rig->replay, reply, &length);

	memcpy(&info, payload, sizeof(info));
	ATF_REQUIRE_EQ(0,
		       cleat_wire_parse_region(payload, length, info.index,
					       message->num_fds, &wire, NULL));
	replay_stand_in(&rig->replay, reply, fds);
	ATF_REQUIRE(wire.num_areas <= 8);
	for (unsigned i = 0; i < wire.num_areas; i++)
		areas[i] = (struct cleat_server_area){
			.offset = wire.areas[i].offset,
			.length = wire.areas[i].length,
			.fd = fds[wire.areas[i].fd_index],
			.fd_offset = wire.areas[i].fd_offset,
		};
	ATF_REQUIRE_EQ(
		0, cleat_server_add_region(
			   rig->srv,
			   &(struct cleat_server_region){
				   .size = sizeof(struct cleat_server_region),
				   .index = info.index,
				   .flags = wire.flags & (CLEAT_REGION_READ |
							  CLEAT_REGION_WRITE),
				   .length = wire.length,
				   .areas = areas,
				   .n_areas = wire.num_areas,
			   },
			   NULL));
	cleat_wire_region_free(&wire);
	for (unsigned i = 0; i < message->num_fds; i++)
		close(fds[i]);
}

/* The recorded client's last question about a region got the whole answer. */
static int description(const struct rig *rig, uint32_t index)
{
	struct cleat_wire_region_info info;
	int found = -1;

	for (unsigned i = 0; i < rig->replay.num; i++) {
		if (!replay_is_request(&rig->replay, i) ||
		    replay_header(&rig->replay, i).command !=
			    VFIO_USER_DEVICE_GET_REGION_INFO)
			continue;
		memcpy(&info, replay_payload(&rig->replay, i, NULL),
		       sizeof(info));
		if (info.index == index)
			found = rig->replay.partner[i];
	}
	return found;
}

static void add_regions(struct rig *rig)
{
	struct cleat_wire_region_info info = { 0 };

	for (uint32_t index = 0; index < MAX_REGIONS; index++) {
		int reply = description(rig, index);
		struct cleat_server_region region = {
			.size = sizeof(region),
			.index = index,
			.flags = CLEAT_REGION_READ | CLEAT_REGION_WRITE,
			.length = rig->lengths[index],
		};

		info.size = 0;
		if (reply >= 0)
			memcpy(&info,
			       replay_payload(&rig->replay, (unsigned)reply,
					      NULL),
			       sizeof(info));
		if (info.size)
			add_region(rig, (unsigned)reply);
		else if (region.length)
			ATF_REQUIRE_EQ(0, cleat_server_add_region(
						  rig->srv, &region, NULL));
	}
}

/* What a client used without asking for it is there all the same. */
static void note_use(struct rig *rig, unsigned i)
{
	const void *payload = replay_payload(&rig->replay, i, NULL);
	struct cleat_wire_access access;
	struct cleat_wire_irq_set set;

	switch (replay_header(&rig->replay, i).command) {
	case VFIO_USER_REGION_READ:
	case VFIO_USER_REGION_WRITE:
		memcpy(&access, payload, sizeof(access));
		if (access.region < MAX_REGIONS &&
		    access.offset + access.count > rig->lengths[access.region])
			rig->lengths[access.region] =
				access.offset + access.count;
		break;
	case VFIO_USER_DEVICE_SET_IRQS:
		memcpy(&set, payload, sizeof(set));
		if (set.index < MAX_IRQS &&
		    set.start + set.count > rig->irqs[set.index])
			rig->irqs[set.index] = set.start + set.count;
	}
}

static void note_irqs(struct rig *rig, unsigned i)
{
	struct cleat_wire_irq_info info;

	if (replay_header(&rig->replay, i).command !=
	    VFIO_USER_DEVICE_GET_IRQ_INFO)
		return;
	memcpy(&info,
	       replay_payload(&rig->replay, (unsigned)rig->replay.partner[i],
			      NULL),
	       sizeof(info));
	ATF_REQUIRE(info.index < MAX_IRQS);
	rig->irqs[info.index] = info.count;
}

static void describe_device(struct rig *rig)
{
	for (unsigned i = 0; i < rig->replay.num; i++) {
		if (!replay_is_request(&rig->replay, i) ||
		    recorded_error(rig, i))
			continue;
		note_use(rig, i);
		note_irqs(rig, i);
	}
	add_regions(rig);
	for (uint32_t i = 0; i < MAX_IRQS; i++)
		ATF_REQUIRE_EQ(0,
			       cleat_server_add_irqs(rig->srv, i, rig->irqs[i],
						     1 /* eventfd */, NULL));
}

static int run(void *arg)
{
	struct rig *rig = arg;

	return cleat_server_run(rig->srv);
}

static void rig_start(struct rig *rig, const char *name)
{
	const struct cleat_server_ops ops = {
		.size = sizeof(ops),
		.region_read = device_read,
		.region_write = device_write,
		.reset = device_reset,
	};
	int ends[2];

	replay_load(&rig->replay, name);
	ATF_REQUIRE_EQ(0,
		       cleat_server_create(NULL, &ops, rig, &rig->srv, NULL));
	describe_device(rig);
	rig->kick = eventfd(0, EFD_CLOEXEC);
	ATF_REQUIRE_EQ(0, cleat_server_watch(rig->srv, rig->kick, EPOLLIN,
					     kicked, rig));
	peer_pair(ends);
	rig->fd = ends[0];
	ATF_REQUIRE_EQ(0, cleat_server_adopt(rig->srv, ends[1], NULL));
	script_start(&rig->script, run, rig);
}

static void rig_end(struct rig *rig)
{
	close(rig->fd);
	script_end(&rig->script);
	cleat_server_unwatch(rig->srv, rig->kick);
	cleat_server_destroy(rig->srv);
	close(rig->kick);
	replay_free(&rig->replay);
}

/* --- Shapes --------------------------------------------------------------- */

/* QEMU takes no reply that is longer than its request. */
static void require_version(const struct rig *rig, unsigned request,
			    const struct peer_message *ours)
{
	const char *json = (const char *)ours->body + 4;
	struct cleat_capabilities caps;

	ATF_REQUIRE(!rig->qemu ||
		    ours->header.size <=
			    replay_header(&rig->replay, request).size);
	ATF_REQUIRE_EQ(0, cleat_capabilities_parse(json, ours->length - 4,
						   &caps, NULL));
}

/* Servers without migration refuse its commands. */
static bool is_migration(const struct rig *rig, unsigned request)
{
	struct cleat_wire_feature feature;

	switch (replay_header(&rig->replay, request).command) {
	case VFIO_USER_DEVICE_FEATURE:
		memcpy(&feature, replay_payload(&rig->replay, request, NULL),
		       sizeof(feature));
		return (feature.flags & 0xffff) <= 2;
	case VFIO_USER_MIG_DATA_READ:
	case VFIO_USER_MIG_DATA_WRITE:
		return true;
	}
	return false;
}

/* How much of a reply the device and not the library decides. */
static size_t same_bytes(uint16_t command, size_t length)
{
	switch (command) {
	case VFIO_USER_DEVICE_FEATURE:
		return 8; /* a bitmap follows */
	case VFIO_USER_DEVICE_GET_INFO:
		return 12; /* types of interrupts may be more */
	}
	return length;
}

static void require_shape(const struct rig *rig, unsigned request,
			  const struct peer_message *ours)
{
	unsigned reply = (unsigned)rig->replay.partner[request];
	struct cleat_header theirs = replay_header(&rig->replay, reply);
	size_t length, same;
	const void *payload = replay_payload(&rig->replay, reply, &length);

	ATF_REQUIRE_EQ(theirs.command, ours->header.command);
	if (is_migration(rig, request) && ours->header.flags & PEER_ERROR)
		return;
	ATF_REQUIRE_EQ_MSG(theirs.flags, ours->header.flags, "message %u",
			   request);
	ATF_REQUIRE_EQ_MSG(theirs.error, ours->header.error, "message %u",
			   request);
	if (theirs.flags & PEER_ERROR)
		return;
	if (theirs.command == VFIO_USER_VERSION) {
		require_version(rig, request, ours);
		return;
	}
	/* A server without DMA has nothing to say of what it unmapped. */
	if (theirs.command == VFIO_USER_DMA_UNMAP && !length) {
		ATF_REQUIRE_EQ(sizeof(struct cleat_wire_dma_unmap),
			       ours->length);
		return;
	}
	ATF_REQUIRE_EQ_MSG(length, ours->length, "message %u", request);
	ATF_REQUIRE_EQ_MSG(rig->replay.messages[reply].num_fds, ours->nr_fds,
			   "message %u", request);
	same = same_bytes(theirs.command, length);
	ATF_REQUIRE_MSG(!same || !memcmp(payload, ours->body, same),
			"message %u", request);
}

/* --- The connection once more -------------------------------------------- */

static void send_request(struct rig *rig, unsigned i)
{
	const struct cleat_stream_message *message = &rig->replay.messages[i];
	unsigned num_fds = message->num_fds;
	int fds[CLEAT_MAX_FDS];

	if (rig->by_message &&
	    replay_header(&rig->replay, i).command == VFIO_USER_DMA_MAP)
		num_fds = 0;
	replay_stand_in(&rig->replay, i, fds);
	rig->at = i;
	ATF_REQUIRE_EQ(0, peer_send_raw(rig->fd, message->bytes,
					message->length, fds, num_fds));
	for (unsigned k = 0; k < message->num_fds; k++)
		close(fds[k]);
}

static void receive_reply(struct rig *rig, unsigned i)
{
	unsigned request = (unsigned)rig->replay.partner[i];
	struct peer_message ours;

	ATF_REQUIRE_EQ_MSG(0, peer_receive(rig->fd, &ours), "message %u", i);
	ATF_REQUIRE_EQ(replay_header(&rig->replay, i).id, ours.header.id);
	require_shape(rig, request, &ours);
	peer_message_end(&ours);
}

/* The server's own question, and the recorded client's answer. */
static void let_ask(struct rig *rig, unsigned i)
{
	const struct cleat_stream_message *answer =
		&rig->replay.messages[rig->replay.partner[i]];
	struct cleat_header header = replay_header(&rig->replay, i);
	uint8_t *bytes = malloc(answer->length);
	struct peer_message ours;
	uint64_t one = 1;
	size_t length;
	const void *payload = replay_payload(&rig->replay, i, &length);

	rig->at = i;
	rig->did = 1;
	ATF_REQUIRE_EQ(sizeof(one), write(rig->kick, &one, sizeof(one)));
	ATF_REQUIRE_EQ(0, peer_receive(rig->fd, &ours));
	ATF_REQUIRE_EQ(header.command, ours.header.command);
	ATF_REQUIRE_EQ(header.flags, ours.header.flags);
	ATF_REQUIRE_EQ(length, ours.length);
	ATF_REQUIRE(!memcmp(payload, ours.body, length));
	memcpy(bytes, answer->bytes, answer->length);
	memcpy(bytes, &ours.header.id, sizeof(ours.header.id));
	ATF_REQUIRE_EQ(0,
		       peer_send_raw(rig->fd, bytes, answer->length, NULL, 0));
	REQUIRE_SOON(rig->did <= 0);
	ATF_REQUIRE_EQ(0, rig->did);
	peer_message_end(&ours);
	free(bytes);
}

static void replay(const char *name, bool by_message)
{
	static struct rig rig;

	rig.qemu = !strncmp(name, "qemu", 4);
	rig.by_message = by_message;
	rig_start(&rig, name);
	for (unsigned i = 0; i < rig.replay.num; i++) {
		if (replay_is_request(&rig.replay, i))
			send_request(&rig, i);
		else if (!rig.replay.messages[i].from_server)
			continue; /* sent with its question */
		else if (!replay_is_command(&rig.replay, i))
			receive_reply(&rig, i);
		else if (by_message)
			let_ask(&rig, i);
	}
	rig_end(&rig);
}

CLEAT_TC(replay__libvfio_user_source)
{
	replay("client-source", false);
}

CLEAT_TC(replay__libvfio_user_source_by_message)
{
	replay("client-source", true);
}

CLEAT_TC(replay__libvfio_user_destination_by_message)
{
	replay("client-destination", true);
}

CLEAT_TC(replay__qemu)
{
	replay("qemu-gpio", false);
}

CLEAT_TC(replay__qemu_booting)
{
	replay("qemu-boot", false);
}

CLEAT_TC(replay__qemu_posting)
{
	replay("qemu-shadow", false);
}

CLEAT_TC(replay__qemu_sparse_region)
{
	replay("qemu-sparse", false);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, replay__libvfio_user_source);
	ATF_TP_ADD_TC(tp, replay__libvfio_user_source_by_message);
	ATF_TP_ADD_TC(tp, replay__libvfio_user_destination_by_message);
	ATF_TP_ADD_TC(tp, replay__qemu);
	ATF_TP_ADD_TC(tp, replay__qemu_booting);
	ATF_TP_ADD_TC(tp, replay__qemu_posting);
	ATF_TP_ADD_TC(tp, replay__qemu_sparse_region);
	return atf_no_error();
}
