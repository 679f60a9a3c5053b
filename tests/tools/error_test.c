/* SPDX-License-Identifier: BSD-2-Clause */
/* What goes wrong: each by its own exit status and one line that says what. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

#include "tests/support/model.h"
#include "tests/tools/ctl.h"

#define RW (CLEAT_REGION_READ | CLEAT_REGION_WRITE)

static struct run run;

CLEAT_TC(usage__wrong_words)
{
	run_ctl(&run, NULL);
	require_complaint(&run, 2, "no command");
	run_ctl(&run, "inof", "p.sock", NULL);
	require_complaint(&run, 2, "no command \"inof\"");
	run_ctl(&run, "info", NULL);
	require_complaint(&run, 2, "usage: cleatctl info SOCKET");
	run_ctl(&run, "info", "a", "b", NULL);
	require_complaint(&run, 2, "usage: cleatctl info SOCKET");
	run_ctl(&run, "info", "p.sock", "--width", "4", NULL);
	require_complaint(&run, 2, "info takes no --width");
	run_ctl(&run, "read", "p.sock", "0", "0", "--save", "x", NULL);
	require_complaint(&run, 2, "read takes no --save");
	run_ctl(&run, "relay", "a", NULL);
	require_complaint(&run, 2, "usage: cleatctl relay");
	/* getopt has a line of its own before ours. */
	run_ctl(&run, "info", "p.sock", "--nonsense", NULL);
	ATF_CHECK_EQ(2, run.status);
	ATF_CHECK(strstr(run.err, "see cleatctl --help"));
}

CLEAT_TC(usage__wrong_numbers)
{
	static const char *const wrong[] = {
		"", " 1", "-1", "+1", "0x", "12x", "0xg", "1.5",
		"18446744073709551616", "0x10000000000000000",
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		run_ctl(&run, "--", "read", "p.sock", "0", wrong[i], NULL);
		require_complaint(&run, 2, "offset");
		run_ctl(&run, "--", "write", "p.sock", "0", "0", wrong[i],
			NULL);
		require_complaint(&run, 2, "value");
		run_ctl(&run, "--", "read", "p.sock", wrong[i], "0", NULL);
		require_complaint(&run, 2, "region");
	}
	run_ctl(&run, "write", "p.sock", "0", "0", "0x100", "-w1", NULL);
	require_complaint(&run, 2, "0 to 0xff");
	run_ctl(&run, "write", "p.sock", "0", "0", "0x100000000", NULL);
	require_complaint(&run, 2, "0 to 0xffffffff");
	run_ctl(&run, "read", "p.sock", "bar6", "0", NULL);
	require_complaint(&run, 2, "region \"bar6\"");
}

CLEAT_TC(usage__wrong_options)
{
	static const char *const wrong[][2] = {
		{ "--width", "3" },	  { "--width", "16" },
		{ "--width", "0" },	  { "--count", "0" },
		{ "--count", "many" },	  { "--timeout", "0" },
		{ "--timeout", "99999999999" },
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		run_ctl(&run, "read", "p.sock", "0", "0", wrong[i][0],
			wrong[i][1], NULL);
		require_complaint(&run, 2, wrong[i][1]);
	}
	run_ctl(&run, "read", "p.sock", "0", "0", "-w8", "-n",
		"0x8000000000000000", NULL);
	require_complaint(&run, 2, "too many");
	run_ctl(&run, "read", "p.sock", "0", "0", "-j", "-n", "2000000", NULL);
	require_complaint(&run, 2, "no more than");
	run_ctl(&run, "write", "p.sock", "0", "0", NULL);
	require_complaint(&run, 2, "either VALUE or --input");
	run_ctl(&run, "write", "p.sock", "0", "0", "1", "-i", "f", NULL);
	require_complaint(&run, 2, "either VALUE or --input");
	run_ctl(&run, "watch", "p.sock", "--vectors", "5-3", NULL);
	require_complaint(&run, 2, "5-3");
	run_ctl(&run, "watch", "p.sock", "--irq", "nmi", NULL);
	require_complaint(&run, 2, "nmi");
	run_ctl(&run, "watch", "p.sock", "--write", "0:0", NULL);
	require_complaint(&run, 2, "REGION:OFFSET=VALUE");
	run_ctl(&run, "watch", "p.sock", "--write", "0:0=256/1", NULL);
	require_complaint(&run, 2, "256");
}

CLEAT_TC(connect__nobody_there)
{
	int fd;

	run_ctl(&run, "info", "none.sock", NULL);
	require_complaint(&run, 3, "none.sock: no server listens there");
	fd = open("file", O_CREAT | O_WRONLY, 0644);
	close(fd);
	run_ctl(&run, "info", "file", NULL);
	require_complaint(&run, 3, "file");
	close(peer_listen("dead.sock"));
	run_ctl(&run, "info", "dead.sock", "-j", NULL);
	require_complaint(&run, 3, "start the server first");
	run_ctl(&run, "info", "fd:99", NULL);
	require_complaint(&run, 3, "99 is no stream socket");
	run_ctl(&run, "info", "", NULL);
	ATF_CHECK_EQ(3, run.status);
}

/* Takes the connection and says nothing; and one that takes no connection. */
CLEAT_TC(connect__silent_server)
{
	struct deadline deadline = deadline_in(PATIENCE_MS);
	int fd = peer_listen("mute.sock");

	run_ctl(&run, "info", "mute.sock", "--timeout", "200", NULL);
	require_complaint(&run, 3, "no reply in time");
	ATF_CHECK(strstr(run.err, "--timeout"));
	ATF_CHECK(deadline_left(&deadline));
	close(fd);
}

static int close_after_version(void *arg)
{
	int fd = peer_accept(*(int *)arg);
	struct peer_message message;
	int err = fd < 0 ? fd : peer_expect(fd, 1, &message);

	if (!err)
		peer_message_end(&message);
	close(fd);
	return err;
}

CLEAT_TC(connect__server_closes)
{
	int fd = peer_listen("closes.sock");
	struct script script;

	script_start(&script, close_after_version, &fd);
	run_ctl(&run, "info", "closes.sock", NULL);
	require_complaint(&run, 3, "it may not speak vfio-user");
	script_end(&script);
	close(fd);
}

/* --- Devices that are not as they should be ------------------------------- */

/* A run against a model; its socket is inherited. */
static void run_on(struct model *model, const char *command, const char *more,
		   const char *most)
{
	char socket[16];
	int fd = model_start(model);

	ATF_REQUIRE_EQ(0, fcntl(fd, F_SETFD, 0));
	snprintf(socket, sizeof(socket), "fd:%d", fd);
	run_ctl(&run, command, socket, more, more ? most : NULL, NULL);
	close(fd);
	model_end(model);
}

static struct model make_model(void)
{
	return (struct model){
		.json = "{\"capabilities\":{\"max_msg_fds\":8}}",
		.num_regions = 9,
		.regions = { [0] = { 4096, RW },
			     [1] = { 4096, CLEAT_REGION_READ },
			     [7] = { 256, RW } },
		.irqs = { 1, 0, 16, 0, 1 },
	};
}

CLEAT_TC(peer__nobody_of_that_name)
{
	struct model model = make_model();

	run_on(&model, "info", "--peer", "nobody");
	require_complaint(&run, 2, "nobody");
}

static int refuse_reads(struct model *model, const struct peer_message *m)
{
	if (m->header.command != VFIO_USER_REGION_READ)
		return 0;
	return peer_reply_error(model->fd, m, ENXIO) ? -EPIPE : 1;
}

CLEAT_TC(read__refused)
{
	struct model model = make_model();

	run_on(&model, "read", "bar0", "0");
	require_run(&run, 0, "0x00000000\n", NULL);
	model = make_model();
	model.on = refuse_reads;
	run_on(&model, "read", "bar0", "0");
	require_complaint(&run, 1, "read of region 0 at 0: No such device");
	model = make_model();
	model.on = refuse_reads;
	run_on(&model, "config", NULL, NULL);
	require_complaint(&run, 1, "configuration space");
	model = make_model();
	run_on(&model, "read", "bar0", "0xffe");
	require_complaint(&run, 1, "not inside the region; see cleatctl regio");
	model = make_model();
	run_on(&model, "read", "77", "0");
	require_complaint(&run, 1, "not inside the region");
}

static int no_answer(struct model *model, const struct peer_message *m)
{
	return m->header.command == VFIO_USER_DEVICE_RESET;
}

CLEAT_TC(reset__no_answer)
{
	struct model model = make_model();

	model.on = no_answer;
	run_on(&model, "reset", "--timeout", "200");
	require_complaint(&run, 1, "reset");
	model = make_model();
	run_on(&model, "reset", "--peer", "usbvfiod");
	require_complaint(&run, 1, "the device does not have this");
}

static int die_at_read(struct model *model, const struct peer_message *m)
{
	return m->header.command == VFIO_USER_REGION_READ ? -EPIPE : 0;
}

CLEAT_TC(read__server_dies)
{
	struct model model = make_model();

	model.on = die_at_read;
	run_on(&model, "read", "bar0", "0");
	require_complaint(&run, 1, "read of region 0");
}

static int die_at_feature(struct model *model, const struct peer_message *m)
{
	return m->header.command == VFIO_USER_DEVICE_FEATURE ? -EPIPE : 0;
}

/* Half a document is none. */
CLEAT_TC(features__server_dies)
{
	struct model model = make_model();

	model.on = die_at_feature;
	run_on(&model, "features", "--json", NULL);
	require_complaint(&run, 1, "features");
	model = make_model();
	run_on(&model, "features", "--json", NULL);
	require_run(&run, 0, "\"migration_region\": null", NULL);
}

/* --- Configuration space that leads astray -------------------------------- */

static const uint8_t *astray;

static int serve_config(struct model *model, const struct peer_message *m)
{
	struct {
		struct cleat_wire_access access;
		uint8_t data[256];
	} reply;

	if (m->header.command != VFIO_USER_REGION_READ)
		return 0;
	memcpy(&reply.access, m->body, sizeof(reply.access));
	if (reply.access.region != 7 || reply.access.offset ||
	    reply.access.count != 256)
		return 0;
	memcpy(reply.data, astray, 256);
	return peer_reply(model->fd, m, &reply, sizeof(reply), NULL, 0) ? -EPIPE
									: 1;
}

static void run_config(const uint8_t *bytes)
{
	struct model model = make_model();

	astray = bytes;
	model.on = serve_config;
	run_on(&model, "config", NULL, NULL);
}

CLEAT_TC(config__chains)
{
	uint8_t bytes[256] = { [0] = 0xea, [6] = 0x10, [0x34] = 0x40,
			       [0x40] = 9, [0x41] = 0x48, [0x48] = 9,
			       [0x49] = 0x40 };

	/* A circle, one that leaves, one that begins in the header. */
	run_config(bytes);
	require_run(&run, 0, "list of capabilities is broken", NULL);
	bytes[0x49] = 0xfc;
	bytes[0xfc] = 0x11;
	run_config(bytes);
	require_run(&run, 0, "[fc] MSI-X", "vectors=1 ", NULL);
	bytes[0x34] = 0x10;
	run_config(bytes);
	require_run(&run, 0, "list of capabilities is broken", NULL);
	memset(bytes, 0xff, sizeof(bytes));
	run_config(bytes);
	require_run(&run, 0, "ffff:ffff class ffffff", NULL);
}

static int serve_not_pci(struct model *model, const struct peer_message *m)
{
	uint32_t info[4] = { 16, 1, 9, 5 };

	if (m->header.command != VFIO_USER_DEVICE_GET_INFO)
		return 0;
	return peer_reply(model->fd, m, info, sizeof(info), NULL, 0) ? -EPIPE :
								       1;
}

CLEAT_TC(config__not_pci)
{
	struct model model = make_model();

	model.on = serve_not_pci;
	run_on(&model, "config", NULL, NULL);
	require_complaint(&run, 1, "no PCI device");
	model = make_model();
	model.on = serve_not_pci;
	run_on(&model, "regions", "--json", NULL);
	require_run(&run, 0, NULL);
	yajl_tree_free(parse_json(run.out));
}

/* --- IO descriptors ------------------------------------------------------- */

static int serve_ioregionfd(struct model *model, const struct peer_message *m)
{
	struct {
		struct cleat_wire_io_fds head;
		struct cleat_wire_io_fd entry;
	} reply = { 0 };
	int ends[2], err;

	if (m->header.command != VFIO_USER_DEVICE_GET_REGION_IO_FDS)
		return 0;
	memcpy(&reply.head, m->body, sizeof(reply.head));
	reply.head.argsz = sizeof(reply);
	reply.head.count = 1;
	reply.entry.offset = 0x10;
	reply.entry.size = 0x20;
	reply.entry.type = CLEAT_IO_FD_IOREGIONFD;
	reply.entry.shadow_fd_index = CLEAT_WIRE_NO_FD;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return -errno;
	err = peer_reply(model->fd, m, &reply, sizeof(reply), ends, 1);
	close(ends[0]);
	close(ends[1]);
	return err ? err : 1;
}

CLEAT_TC(regions__ioregionfd)
{
	struct model model = make_model();
	yajl_val json;

	model.on = serve_ioregionfd;
	run_on(&model, "regions", NULL, NULL);
	require_run(&run, 0, "io-fd    0x000010-0x00002f  type=ioregionfd",
		    NULL);
	model = make_model();
	model.on = serve_ioregionfd;
	run_on(&model, "regions", "--json", NULL);
	require_run(&run, 0, NULL);
	json = parse_json(run.out);
	ATF_CHECK_STREQ("ioregionfd",
			json_text(json, "regions.0.io_fds.0.type"));
	ATF_CHECK_STREQ("message", json_text(json,
					     "regions.0.segments.0.write"));
	yajl_tree_free(json);
}

CLEAT_TC(watch__not_there)
{
	struct model model = make_model();

	run_on(&model, "watch", "--irq", "msi");
	require_complaint(&run, 1, "no interrupt type 1");
	model = make_model();
	run_on(&model, "watch", "--vectors", "3-16");
	require_complaint(&run, 2, "vectors 0 to 15");
	model = make_model();
	memset(model.irqs, 0, sizeof(model.irqs));
	run_on(&model, "watch", NULL, NULL);
	require_complaint(&run, 1, "no interrupts");
}

/* A full disk is not success. */
CLEAT_TC(output__no_room)
{
	struct child probe;
	char command[1024];

	start_probe(&probe, "p.sock");
	snprintf(command, sizeof(command),
		 "%s regions p.sock >/dev/full 2>err; test $? = 4",
		 program("tools/ctl/cleatctl"));
	ATF_CHECK_EQ(0, system(command));
	ATF_CHECK_EQ(0, system("grep -q 'cannot write the output' err"));
	run_ctl(&run, "read", "p.sock", "bar0", "0", "-o", "/dev/full", NULL);
	require_complaint(&run, 4, "/dev/full");
	run_ctl(&run, "read", "p.sock", "bar0", "0", "-o", "no/such", NULL);
	require_complaint(&run, 4, "no/such");
	run_ctl(&run, "write", "p.sock", "bar0", "0", "-i", "none", NULL);
	require_complaint(&run, 4, "none");
	stop_server(&probe);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, usage__wrong_words);
	ATF_TP_ADD_TC(tp, usage__wrong_numbers);
	ATF_TP_ADD_TC(tp, usage__wrong_options);
	ATF_TP_ADD_TC(tp, connect__nobody_there);
	ATF_TP_ADD_TC(tp, connect__silent_server);
	ATF_TP_ADD_TC(tp, connect__server_closes);
	ATF_TP_ADD_TC(tp, peer__nobody_of_that_name);
	ATF_TP_ADD_TC(tp, read__refused);
	ATF_TP_ADD_TC(tp, reset__no_answer);
	ATF_TP_ADD_TC(tp, read__server_dies);
	ATF_TP_ADD_TC(tp, features__server_dies);
	ATF_TP_ADD_TC(tp, config__chains);
	ATF_TP_ADD_TC(tp, config__not_pci);
	ATF_TP_ADD_TC(tp, regions__ioregionfd);
	ATF_TP_ADD_TC(tp, watch__not_there);
	ATF_TP_ADD_TC(tp, output__no_room);
	return atf_no_error();
}
