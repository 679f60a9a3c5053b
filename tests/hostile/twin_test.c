/* SPDX-License-Identifier: BSD-2-Clause */
/* A second socket that misbehaves. */
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "tests/hostile/scene.h"

#define TWIN                                                                   \
	"{\"capabilities\":{\"twin_socket\":{\"supported\":true,"             \
	"\"fd_index\":0}}}"

/* @ends: ours, which is passed, and the server's. */
struct twin {
	struct scene scene;
	struct ram ram;
	int ends[2];
};

static int pass_twin(struct model *model, const struct peer_message *m)
{
	struct twin *twin = model->arg;
	char body[4 + sizeof(TWIN)] = { 0, 0, 1, 0 };

	if (m->header.flags & PEER_REPLY)
		return 1;
	if (m->header.command != VFIO_USER_VERSION)
		return 0;
	memcpy(body + 4, TWIN, sizeof(TWIN));
	return scene_say(model, scene_header(m, sizeof(body)), body,
			 sizeof(body), &twin->ends[0], 1);
}

static void begin_with(struct twin *twin, int ours, int theirs)
{
	struct cleat_device_info info = { .size = sizeof(info) };

	twin->ends[0] = ours;
	twin->ends[1] = theirs;
	scene_begin(&twin->scene);
	ram_begin(&twin->ram);
	twin->scene.bad.on = pass_twin;
	twin->scene.bad.arg = twin;
	scene_open(&twin->scene);
	ATF_REQUIRE_EQ(0, cleat_device_info(twin->scene.dev, &info));
	ATF_CHECK(info.flags & CLEAT_DEVICE_INFO_TWIN);
	ATF_REQUIRE_EQ(0, cleat_memory_attach(twin->ram.memory,
					      twin->scene.dev));
}

static void begin(struct twin *twin)
{
	int ends[2];

	peer_pair(ends);
	begin_with(twin, ends[0], ends[1]);
}

static void end(struct twin *twin)
{
	close(twin->ends[0]);
	if (twin->ends[1] >= 0)
		close(twin->ends[1]);
	scene_end(&twin->scene);
	ram_end(&twin->ram);
}

CLEAT_TC(request__served)
{
	struct twin twin;
	size_t length;

	begin(&twin);
	ATF_REQUIRE_EQ(0, scene_ask(twin.ends[1], 5, VFIO_USER_DMA_READ,
				    RAM_BOTH, 100, 0));
	ATF_CHECK_EQ(0, scene_told(twin.ends[1], 5, &length));
	ATF_CHECK_EQ(116, length);
	ATF_CHECK_EQ(0, scene_read(&twin.scene));
	end(&twin);
}

CLEAT_TC(request__region_access)
{
	struct twin twin;
	size_t length;

	begin(&twin);
	ATF_REQUIRE_EQ(0, scene_ask(twin.ends[1], 5, VFIO_USER_REGION_READ, 0,
				    4, 0));
	ATF_CHECK_EQ(EINVAL, scene_told(twin.ends[1], 5, &length));
	scene_stands(&twin.scene);
	end(&twin);
}

static void ends_it(const struct peer_header *header, size_t payload,
		    const char *reason)
{
	uint8_t message[8192] = { 0 };
	struct twin twin;

	memcpy(message, header, sizeof(*header));
	begin(&twin);
	ATF_REQUIRE_EQ(0, peer_send_raw(twin.ends[1], message,
					sizeof(*header) + payload, NULL, 0));
	scene_lost(&twin.scene, -EPROTO, reason);
	end(&twin);
}

CLEAT_TC(reply__on_it)
{
	struct peer_header reply = { 1, VFIO_USER_REGION_READ, 16,
				     PEER_REPLY };

	ends_it(&reply, 0, "sent a reply on the twin socket");
}

CLEAT_TC(reply__large_on_it)
{
	struct peer_header reply = { 0x200, VFIO_USER_REGION_READ, 8000,
				     PEER_REPLY };

	ends_it(&reply, 100, "request that nobody made");
}

CLEAT_TC(header__impossible)
{
	struct peer_header header = { 1, VFIO_USER_DMA_READ, 3 };

	ends_it(&header, 0, "impossible header");
}

CLEAT_TC(header__size_4_gib)
{
	struct peer_header header = { 1, VFIO_USER_DMA_WRITE, UINT32_MAX };

	ends_it(&header, 100, "impossible header");
}

CLEAT_TC(close__alone)
{
	struct twin twin;

	begin(&twin);
	close(twin.ends[1]);
	twin.ends[1] = -1;
	scene_lost(&twin.scene, -ENOTCONN, "closed the connection");
	end(&twin);
}

CLEAT_TC(close__inside_a_message)
{
	struct peer_header header = { 1, VFIO_USER_DMA_WRITE, 100016 };
	struct twin twin;

	begin(&twin);
	ATF_REQUIRE_EQ(0, peer_send_raw(twin.ends[1], &header, sizeof(header),
					NULL, 0));
	close(twin.ends[1]);
	twin.ends[1] = -1;
	scene_lost(&twin.scene, -ENOTCONN, "closed the connection");
	end(&twin);
}

/* Half a request, for good: it costs its body and keeps nobody. */
CLEAT_TC(silence__inside_a_message)
{
	struct peer_header header = { 1, VFIO_USER_DMA_WRITE, 100016 };
	struct twin twin;

	begin(&twin);
	ATF_REQUIRE_EQ(0, peer_send_raw(twin.ends[1], &header, sizeof(header),
					NULL, 0));
	for (int i = 0; i < 20; i++)
		ATF_CHECK_EQ(0, scene_read(&twin.scene));
	scene_stands(&twin.scene);
	end(&twin);
}

CLEAT_TC(bytes__one_by_one)
{
	struct {
		struct peer_header header;
		struct cleat_wire_dma dma;
	} ask = { { 3, VFIO_USER_DMA_READ, 32 }, { RAM_BOTH, 8 } };
	struct twin twin;
	size_t length;

	begin(&twin);
	for (size_t i = 0; i < sizeof(ask); i++)
		ATF_REQUIRE_EQ(0, peer_send_raw(twin.ends[1], (char *)&ask + i,
						1, NULL, 0));
	ATF_CHECK_EQ(0, scene_told(twin.ends[1], 3, &length));
	scene_stands(&twin.scene);
	end(&twin);
}

CLEAT_TC(fds__with_requests)
{
	int fds[8];
	struct cleat_wire_dma dma = { RAM_BOTH, 8 };
	struct twin twin;
	size_t length;

	for (unsigned i = 0; i < 8; i++)
		fds[i] = eventfd(0, EFD_CLOEXEC);
	begin(&twin);
	for (uint16_t i = 0; i < 100; i++) {
		ATF_REQUIRE_EQ(0, peer_command(twin.ends[1], i,
					       VFIO_USER_DMA_READ, &dma,
					       sizeof(dma), fds, 8));
		ATF_REQUIRE_EQ(0, scene_told(twin.ends[1], i, &length));
	}
	scene_stands(&twin.scene);
	for (unsigned i = 0; i < 8; i++)
		close(fds[i]);
	end(&twin);
}

/* Asked for megabytes until nothing goes in; the main socket goes on. */
CLEAT_TC(flood__replies_never_read)
{
	struct cleat_device_stats stats = { .size = sizeof(stats) };
	struct twin twin;
	unsigned sent = 0;

	begin(&twin);
	while (sent < 10000 && wait_fd(twin.ends[1], POLLOUT, 200)) {
		struct cleat_wire_dma dma = { RAM_BOTH,
					      CLEAT_MAX_TRANSFER - 64 };

		ATF_REQUIRE_EQ(0, peer_command(twin.ends[1], (uint16_t)sent++,
					       VFIO_USER_DMA_READ, &dma,
					       sizeof(dma), NULL, 0));
	}
	ATF_CHECK_MSG(sent < 10000, "nothing stops it");
	ATF_REQUIRE_EQ(0, cleat_device_stats(twin.scene.dev, &stats));
	ATF_CHECK(stats.server_requests <= 5);
	for (int i = 0; i < 20; i++)
		ATF_CHECK_EQ(0, scene_read(&twin.scene));
	for (unsigned i = 0; i < sent; i++) {
		size_t length;

		ATF_REQUIRE_EQ(0, scene_told(twin.ends[1], (uint16_t)i,
					     &length));
	}
	end(&twin);
}

/* --- Sockets that are no second connection ------------------------------------- */

static int pass_main(struct model *model, const struct peer_message *m)
{
	struct twin *twin = model->arg;

	twin->ends[0] = model->fd;
	return pass_twin(model, m);
}

/* The server's own end of the main one: we would talk to ourselves. */
CLEAT_TC(socket__the_servers_end_of_the_main_one)
{
	struct twin twin;
	int err;

	scene_begin(&twin.scene);
	twin.scene.bad.on = pass_main;
	twin.scene.bad.arg = &twin;
	twin.scene.config.fd = model_start(&twin.scene.bad);
	err = cleat_device_open(&twin.scene.config, &twin.scene.dev, NULL);
	close(twin.scene.config.fd);
	if (err) {
		twin.scene.dev = NULL;
		model_end(&twin.scene.bad);
	} else {
		for (int i = 0; i < 10; i++)
			scene_read(&twin.scene);
	}
	scene_end(&twin.scene);
}

CLEAT_TC(socket__that_listens)
{
	int listener = peer_listen("socket");
	struct twin twin;

	begin_with(&twin, listener, -1);
	ATF_CHECK_EQ(0, scene_ask(twin.scene.bad.fd, 1, VFIO_USER_DMA_READ,
				  RAM_BOTH, 8, 0));
	REQUIRE_SOON(model_count(&twin.scene.bad, VFIO_USER_DMA_READ) ||
		     cleat_device_failure(twin.scene.dev, NULL) ||
		     scene_read(&twin.scene));
	end(&twin);
}

/* Whoever reads its end in our place: requests to a mirror. */
CLEAT_TC(socket__both_ends_the_servers)
{
	struct twin twin;
	size_t length;

	begin(&twin);
	/* The server has kept a copy of our end, and writes into it. */
	ATF_REQUIRE_EQ(0, scene_ask(twin.ends[0], 1, VFIO_USER_DMA_READ,
				    RAM_BOTH, 8, 0));
	ATF_REQUIRE_EQ(0, scene_ask(twin.ends[1], 2, VFIO_USER_DMA_READ,
				    RAM_BOTH, 8, 0));
	/* It is the server's own request that comes out at its other end. */
	ATF_CHECK_EQ(-EBADMSG, scene_told(twin.ends[1], 2, &length));
	ATF_CHECK_EQ(0, scene_told(twin.ends[1], 2, &length));
	ATF_REQUIRE_EQ(0, shutdown(twin.ends[0], SHUT_RDWR));
	scene_lost(&twin.scene, -ENOTCONN, "closed the connection|is gone");
	end(&twin);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, request__served);
	ATF_TP_ADD_TC(tp, request__region_access);
	ATF_TP_ADD_TC(tp, reply__on_it);
	ATF_TP_ADD_TC(tp, reply__large_on_it);
	ATF_TP_ADD_TC(tp, header__impossible);
	ATF_TP_ADD_TC(tp, header__size_4_gib);
	ATF_TP_ADD_TC(tp, close__alone);
	ATF_TP_ADD_TC(tp, close__inside_a_message);
	ATF_TP_ADD_TC(tp, silence__inside_a_message);
	ATF_TP_ADD_TC(tp, bytes__one_by_one);
	ATF_TP_ADD_TC(tp, fds__with_requests);
	ATF_TP_ADD_TC(tp, flood__replies_never_read);
	ATF_TP_ADD_TC(tp, socket__the_servers_end_of_the_main_one);
	ATF_TP_ADD_TC(tp, socket__that_listens);
	ATF_TP_ADD_TC(tp, socket__both_ends_the_servers);
	return atf_no_error();
}
