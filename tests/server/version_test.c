/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/server/rig.h"

/* What QEMU 11.1 sends. */
#define QEMU                                                                   \
	"{\"capabilities\":{\"pgsizes\":4096,\"max_msg_fds\":16,"              \
	"\"max_dma_maps\":65535,\"max_data_xfer_size\":1048576,"               \
	"\"migration\":{\"max_bitmap_size\":268435456,\"pgsize\":4096},"       \
	"\"write_multiple\":true}}"

static void parse(const struct peer_message *reply,
		  struct cleat_capabilities *caps)
{
	ATF_REQUIRE_EQ(0, cleat_capabilities_parse((char *)reply->body + 4,
						   reply->length - 4, caps,
						   NULL));
}

CLEAT_TC(agree__as_qemu_asks)
{
	struct cleat_capabilities caps;
	struct peer_message reply;
	uint16_t version[2];
	struct rig rig;

	rig_create(&rig, NULL);
	rig_run(&rig);
	rig_version(&rig, QEMU, &reply);
	ATF_REQUIRE_EQ(PEER_REPLY, reply.header.flags);
	memcpy(version, reply.body, 4);
	ATF_REQUIRE_EQ(0, version[0]);
	ATF_REQUIRE_EQ(1, version[1]);
	/* It takes no longer reply than its request, no more than 16 fds. */
	ATF_REQUIRE(reply.length <= 4 + sizeof(QEMU));
	parse(&reply, &caps);
	ATF_REQUIRE_EQ(16, caps.max_msg_fds);
	ATF_REQUIRE_EQ(1048576, caps.max_data_xfer_size);
	ATF_REQUIRE(caps.write_multiple);
	ATF_REQUIRE(!caps.has_migration);
	ATF_REQUIRE(!caps.twin_supported);
	peer_message_end(&reply);
	rig_end(&rig);
	ATF_REQUIRE_EQ(1, rig.connected);
}

CLEAT_TC(agree__no_json)
{
	struct peer_message reply;
	struct rig rig;

	rig_create(&rig, NULL);
	rig_run(&rig);
	rig_version(&rig, NULL, &reply);
	ATF_REQUIRE_EQ(PEER_REPLY, reply.header.flags);
	ATF_REQUIRE_EQ(4, reply.length);
	peer_message_end(&reply);
	rig_end(&rig);
}

CLEAT_TC(agree__configured_limits)
{
	const struct cleat_server_config config = {
		.size = sizeof(config),
		.max_msg_fds = 3,
		.max_data_xfer = 4096,
		.max_dma_maps = 5,
	};
	struct cleat_capabilities caps;
	struct peer_message reply;
	struct rig rig;
	char buf[4097];

	rig_create(&rig, &config);
	rig_run(&rig);
	rig_version(&rig, QEMU, &reply);
	parse(&reply, &caps);
	peer_message_end(&reply);
	ATF_REQUIRE_EQ(3, caps.max_msg_fds);
	ATF_REQUIRE_EQ(4096, caps.max_data_xfer_size);
	ATF_REQUIRE_EQ(5, caps.max_dma_maps);
	ATF_REQUIRE_EQ(0, rig_read(&rig, 0, 0, buf, 4096));
	ATF_REQUIRE_EQ(-EINVAL, rig_read(&rig, 0, 0, buf, 4097));
	rig_end(&rig);
}

CLEAT_TC(twin__asked_for)
{
	struct cleat_capabilities caps;
	struct peer_message reply;
	struct rig rig;

	rig_create(&rig, NULL);
	rig_run(&rig);
	rig_version(&rig,
		    "{\"capabilities\":{\"twin_socket\":{\"supported\":true}}}",
		    &reply);
	parse(&reply, &caps);
	ATF_REQUIRE(caps.twin_supported);
	ATF_REQUIRE_EQ(0, caps.twin_fd_index);
	ATF_REQUIRE_EQ(1, reply.nr_fds);
	peer_message_end(&reply);
	rig_end(&rig);
}

CLEAT_TC(twin__switched_off)
{
	const struct cleat_server_config config = {
		.size = sizeof(config),
		.flags = CLEAT_SERVER_NO_TWIN,
	};
	struct peer_message reply;
	struct rig rig;

	rig_create(&rig, &config);
	rig_run(&rig);
	rig_version(&rig,
		    "{\"capabilities\":{\"twin_socket\":{\"supported\":true}}}",
		    &reply);
	ATF_REQUIRE_EQ(0, reply.nr_fds);
	ATF_REQUIRE(!strstr((char *)reply.body + 4, "twin"));
	peer_message_end(&reply);
	rig_end(&rig);
}

/* An error reply, and then the end. */
static void refused(const void *body, size_t length, int fd)
{
	struct peer_message reply;
	struct rig rig;

	rig_create(&rig, NULL);
	rig_run(&rig);
	rig_call_fds(&rig, VFIO_USER_VERSION, body, length, &fd, fd >= 0,
		     &reply);
	ATF_REQUIRE(reply.header.flags & PEER_ERROR);
	peer_message_end(&reply);
	rig_expect_end(&rig);
	ATF_REQUIRE_EQ(0, rig.connected);
	ATF_REQUIRE_EQ(0, rig.disconnected);
	rig_end(&rig);
}

CLEAT_TC(refuse__other_major)
{
	refused("\1\0\0\0", 4, -1);
}

CLEAT_TC(refuse__too_short)
{
	refused("\0\0\0", 3, -1);
}

CLEAT_TC(refuse__descriptor)
{
	int fd = memfd(1, 0);

	refused("\0\0\1\0", 4, fd);
	close(fd);
}

CLEAT_TC(refuse__not_json)
{
	static const char body[] = "\0\0\1\0{\"capabilities\":";

	refused(body, sizeof(body), -1);
}

CLEAT_TC(refuse__not_terminated)
{
	refused("\0\0\1\0{}", 6, -1);
}

CLEAT_TC(refuse__transfer_size_zero)
{
	static const char body[] =
		"\0\0\1\0{\"capabilities\":{\"max_data_xfer_size\":0}}";

	refused(body, sizeof(body), -1);
}

CLEAT_TC(refuse__second_version)
{
	struct rig rig;
	uint32_t value;

	rig_start(&rig);
	ATF_REQUIRE_EQ(-EINVAL, rig_call(&rig, VFIO_USER_VERSION, "\0\0\1\0",
					 4));
	/* It changes nothing. */
	ATF_REQUIRE_EQ(0, rig_read(&rig, 0, 0, &value, 4));
	rig_end(&rig);
}

CLEAT_TC(refuse__command_before_version)
{
	struct cleat_wire_access access = { 0, 0, 4 };
	struct rig rig;

	rig_create(&rig, NULL);
	rig_run(&rig);
	ATF_REQUIRE_EQ(0, peer_command(rig.fd, 1, VFIO_USER_REGION_READ,
				       &access, sizeof(access), NULL, 0));
	rig_expect_end(&rig);
	ATF_REQUIRE_EQ(0, rig.reads);
	rig_end(&rig);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, agree__as_qemu_asks);
	ATF_TP_ADD_TC(tp, agree__no_json);
	ATF_TP_ADD_TC(tp, agree__configured_limits);
	ATF_TP_ADD_TC(tp, twin__asked_for);
	ATF_TP_ADD_TC(tp, twin__switched_off);
	ATF_TP_ADD_TC(tp, refuse__other_major);
	ATF_TP_ADD_TC(tp, refuse__too_short);
	ATF_TP_ADD_TC(tp, refuse__descriptor);
	ATF_TP_ADD_TC(tp, refuse__not_json);
	ATF_TP_ADD_TC(tp, refuse__not_terminated);
	ATF_TP_ADD_TC(tp, refuse__transfer_size_zero);
	ATF_TP_ADD_TC(tp, refuse__second_version);
	ATF_TP_ADD_TC(tp, refuse__command_before_version);
	return atf_no_error();
}
