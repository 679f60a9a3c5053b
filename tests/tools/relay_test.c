/* SPDX-License-Identifier: BSD-2-Clause */
/* cleatctl relay between the library and cleat-probe: all that a device can do
 * it can do through the relay. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cleat/cleat.h>

#include "backends/probe/probe_regs.h"
#include "tests/tools/ctl.h"

#define RAM 65536

static struct run run;
static char text[CTL_TEXT];

struct setup {
	struct child probe;
	struct child relay;
	struct cleat_device *dev;
};

static void open_through(struct setup *setup, uint32_t flags)
{
	struct cleat_device_config config = {
		.size = sizeof(config),
		.flags = flags,
		.path = "r.sock",
	};
	struct cleat_error why;
	int err = cleat_device_open(&config, &setup->dev, &why);

	ATF_REQUIRE_MSG(!err, "%s", why.text);
}

static void start_relay(struct setup *setup, const char *option,
			const char *value)
{
	start_ctl(&setup->relay, "relay", "relay", "r.sock", "p.sock", option,
		  option ? value : NULL, NULL);
	REQUIRE_SOON(out_has("relay", "listening"));
}

static void set_up(struct setup *setup, uint32_t flags)
{
	start_probe(&setup->probe, "p.sock");
	start_relay(setup, NULL, NULL);
	open_through(setup, flags);
}

static void end_relay(struct setup *setup)
{
	kill(setup->relay.pid, SIGINT);
	ATF_REQUIRE_EQ(0, child_wait(&setup->relay, PATIENCE_MS));
	ATF_CHECK(access("r.sock", F_OK));
}

static void tear_down(struct setup *setup)
{
	cleat_device_unref(setup->dev);
	REQUIRE_SOON(out_has("relay", "close"));
	end_relay(setup);
	stop_server(&setup->probe);
}

static uint64_t get(struct setup *setup, uint64_t offset)
{
	uint64_t value = 0;

	ATF_REQUIRE_EQ(0, cleat_region_read(setup->dev, PROBE_BAR_REGS, offset,
					    &value, 8));
	return value;
}

static void set(struct setup *setup, uint64_t offset, uint64_t value,
		size_t count)
{
	ATF_REQUIRE_EQ(0, cleat_region_write(setup->dev, PROBE_BAR_REGS,
					     offset, &value, count));
}

CLEAT_TC(relay__accesses)
{
	struct setup setup;

	set_up(&setup, 0);
	set(&setup, PROBE_SCRATCH, 0x11223344, 4);
	ATF_CHECK_EQ(0x11223344, (uint32_t)get(&setup, PROBE_SCRATCH));
	ATF_CHECK_EQ(0, cleat_device_reset(setup.dev));
	ATF_CHECK_EQ(0, (uint32_t)get(&setup, PROBE_SCRATCH));
	tear_down(&setup);
	ATF_CHECK(out_has("relay", "--> #"));
	ATF_CHECK(out_has("relay", " REGION_WRITE region=0 name=BAR0 "
				   "offset=0x10 count=4 value=0x11223344\n"));
	ATF_CHECK(out_has("relay", " REGION_READ reply region=0 name=BAR0 "
				   "offset=0x10 count=8 value=0x11223344 ("));
	ATF_CHECK(out_has("relay", " DEVICE_RESET reply ("));
	ATF_CHECK(out_has("relay", "close the client has gone\n"));
}

CLEAT_TC(relay__mapped_page)
{
	struct cleat_region_area area;
	struct setup setup;
	char byte = 0;
	char *page;

	set_up(&setup, 0);
	ATF_REQUIRE_EQ(0, cleat_region_area(setup.dev, PROBE_BAR_PAGES, 1,
					    &area));
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, area.fd,
		    (off_t)area.fd_offset);
	ATF_REQUIRE(page != MAP_FAILED);
	page[5] = 'm';
	ATF_REQUIRE_EQ(0, cleat_region_read(setup.dev, PROBE_BAR_PAGES,
					    area.offset + 5, &byte, 1));
	ATF_CHECK_EQ('m', byte);
	munmap(page, 4096);
	tear_down(&setup);
	ATF_CHECK(out_has("relay", "fds=[{memfd size=0x10000 writable=yes "
				   "seals=seal|shrink|grow}]"));
}

CLEAT_TC(relay__io_fds)
{
	struct cleat_io_fds all;
	struct setup setup;
	uint64_t one = 1;

	set_up(&setup, 0);
	ATF_REQUIRE_EQ(0, cleat_device_io_fds(setup.dev, PROBE_BAR_DOORBELLS,
					      &all, NULL));
	ATF_REQUIRE_EQ(39, all.num);
	for (unsigned i = 0; i < all.num; i++)
		if (all.entries[i].type == CLEAT_IO_FD_IOEVENTFD &&
		    all.entries[i].offset == PROBE_AT_4)
			ATF_REQUIRE_EQ(8, write(all.entries[i].fd, &one, 8));
	REQUIRE_SOON(get(&setup, PROBE_EVENTS(PROBE_DB_4)) == 1);
	cleat_io_fds_free(&all);
	tear_down(&setup);
	ATF_CHECK(out_has("relay", "type=ioeventfd"));
}

CLEAT_TC(relay__interrupts)
{
	const uint32_t arm = CLEAT_IRQ_DATA_EVENTFD | CLEAT_IRQ_TRIGGER;
	struct setup setup;
	int fds[16];

	set_up(&setup, 0);
	for (unsigned i = 0; i < 16; i++)
		fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ATF_REQUIRE_EQ(0, cleat_irq_set(setup.dev, CLEAT_IRQ_MSIX, arm, 0, 16,
					NULL, fds));
	for (unsigned i = 0; i < 16; i++) {
		set(&setup, PROBE_IRQ_RAISE, PROBE_IRQ_MSIX | i, 4);
		ATF_CHECK_EQ(1, wait_eventfd(fds[i], PATIENCE_MS));
	}
	for (unsigned i = 0; i < 16; i++)
		close(fds[i]);
	tear_down(&setup);
}

static void run_dma(struct setup *setup)
{
	set(setup, PROBE_DMA_SOURCE, 0x1000, 8);
	set(setup, PROBE_DMA_TARGET, 0x4000, 8);
	set(setup, PROBE_DMA_LENGTH, 5000, 4);
	set(setup, PROBE_DMA_GO, PROBE_DMA_COPY, 4);
	REQUIRE_SOON((uint32_t)get(setup, PROBE_DMA_STATUS) ==
		     PROBE_DMA_DONE);
}

/* The server's own requests, over the twin socket or the main one. */
static void check_dma(uint32_t flags, const char *seen)
{
	int fd = memfd(RAM, 0);
	uint8_t *ram = map_fd(fd, RAM, PROT_READ | PROT_WRITE);
	struct cleat_memory_range range = {
		.size = sizeof(range),
		.rights = CLEAT_READ | CLEAT_WRITE,
		.length = RAM,
		.host = ram,
		.fd = fd,
	};
	struct cleat_memory *memory;
	struct setup setup;

	for (unsigned i = 0; i < 5000; i++)
		ram[0x1000 + i] = (uint8_t)(i * 3 + i / 256);
	set_up(&setup, CLEAT_DEVICE_SECURE | flags);
	ATF_REQUIRE_EQ(0, cleat_memory_create(&memory));
	ATF_REQUIRE_EQ(0, cleat_memory_add(memory, &range));
	ATF_REQUIRE_EQ(0, cleat_memory_attach(memory, setup.dev));
	run_dma(&setup);
	cleat_memory_detach(memory, setup.dev);
	ATF_CHECK_EQ(0, memcmp(ram + 0x1000, ram + 0x4000, 5000));
	cleat_memory_unref(memory);
	tear_down(&setup);
	ATF_CHECK(out_has("relay", seen));
	ATF_CHECK(out_has("relay", "DMA_WRITE reply address=0x4000"));
	munmap(ram, RAM);
	close(fd);
}

CLEAT_TC(relay__dma_on_twin_socket)
{
	check_dma(0, "<== #");
}

CLEAT_TC(relay__dma_on_main_socket)
{
	check_dma(CLEAT_DEVICE_NO_TWIN, "DMA_READ reply address=0x1000");
	ATF_CHECK(!out_has("relay", "<=="));
}

CLEAT_TC(relay__clients_come_and_go)
{
	struct setup setup;

	start_probe(&setup.probe, "p.sock");
	start_relay(&setup, NULL, NULL);
	for (unsigned i = 0; i < 20; i++) {
		open_through(&setup, 0);
		ATF_CHECK_EQ(PROBE_MAGIC, (uint32_t)get(&setup, PROBE_ID));
		cleat_device_unref(setup.dev);
	}
	/* Neither does one that says nothing stand in the way. */
	close(peer_connect("r.sock"));
	open_through(&setup, 0);
	tear_down(&setup);
	ATF_CHECK(out_has("relay", "  22     open"));
	ATF_CHECK(out_has("relay", "  22     close"));
}

/* How many the relay has open; it must not be more after 20 clients. */
static unsigned relay_fds(const struct setup *setup)
{
	char command[96];
	unsigned num = 0;
	FILE *pipe;

	snprintf(command, sizeof(command), "ls /proc/%d/fd | wc -l",
		 (int)setup->relay.pid);
	pipe = popen(command, "r");
	ATF_REQUIRE(pipe);
	ATF_REQUIRE_EQ(1, fscanf(pipe, "%u", &num));
	pclose(pipe);
	return num;
}

CLEAT_TC(relay__keeps_no_descriptor)
{
	struct cleat_io_fds all;
	struct setup setup;
	unsigned before;

	start_probe(&setup.probe, "p.sock");
	start_relay(&setup, NULL, NULL);
	before = relay_fds(&setup);
	for (unsigned i = 0; i < 5; i++) {
		open_through(&setup, 0);
		ATF_REQUIRE_EQ(0, cleat_device_io_fds(setup.dev, 1, &all,
						      NULL));
		cleat_io_fds_free(&all);
		cleat_device_unref(setup.dev);
	}
	REQUIRE_SOON(relay_fds(&setup) == before);
	open_through(&setup, 0);
	tear_down(&setup);
}

/* The library sees the loss at once, as it would without the relay. */
CLEAT_TC(relay__server_dies)
{
	struct setup setup;
	uint32_t value;

	set_up(&setup, 0);
	child_end(&setup.probe);
	REQUIRE_SOON(cleat_device_failure(setup.dev, NULL) == -ENOTCONN);
	ATF_CHECK_EQ(-ENOTCONN, cleat_region_read(setup.dev, 0, 0, &value, 4));
	cleat_device_unref(setup.dev);
	/* And again, when there is one again. */
	start_probe(&setup.probe, "p.sock");
	open_through(&setup, 0);
	tear_down(&setup);
}

CLEAT_TC(relay__dies)
{
	struct setup setup;

	set_up(&setup, 0);
	child_end(&setup.relay);
	REQUIRE_SOON(cleat_device_failure(setup.dev, NULL) == -ENOTCONN);
	cleat_device_unref(setup.dev);
	/* Its socket's file is still there: that is nobody's now. */
	start_relay(&setup, NULL, NULL);
	open_through(&setup, 0);
	tear_down(&setup);
}

static unsigned check_json_lines(char *lines)
{
	unsigned num = 0;
	char *line, *rest;

	for (line = strtok_r(lines, "\n", &rest); line;
	     line = strtok_r(NULL, "\n", &rest), num++)
		yajl_tree_free(parse_json(line));
	return num;
}

CLEAT_TC(relay__json)
{
	struct setup setup;

	start_probe(&setup.probe, "p.sock");
	start_relay(&setup, "--json", NULL);
	open_through(&setup, 0);
	set(&setup, PROBE_SCRATCH, 7, 4);
	tear_down(&setup);
	read_out("relay", text, sizeof(text));
	ATF_CHECK(strstr(text, "\"from\":\"client\",\"id\":"));
	ATF_CHECK(strstr(text, "\"latency\":0.0"));
	ATF_CHECK(strstr(text, "\"payload\":{\"region\":0,\"name\":\"BAR0\","
			       "\"offset\":16,\"count\":4,\"value\":7}"));
	ATF_CHECK(check_json_lines(text) > 30);
}

/* Of what is shown, all but the time since the beginning. */
static unsigned count_messages(const char *lines, const char *what)
{
	unsigned num = 0;

	for (; (lines = strstr(lines, what)); lines++)
		num++;
	return num;
}

CLEAT_TC(relay__save_and_replay)
{
	struct setup setup;
	unsigned shown, replayed;

	start_probe(&setup.probe, "p.sock");
	start_relay(&setup, "--save", "saved");
	open_through(&setup, 0);
	set(&setup, PROBE_SCRATCH, 99, 4);
	cleat_device_unref(setup.dev);
	REQUIRE_SOON(out_has("relay", "close"));
	read_out("relay", text, sizeof(text));
	shown = count_messages(text, " #");
	open_through(&setup, 0);
	tear_down(&setup);
	run_ctl(&run, "replay", "saved", NULL);
	require_run(&run, 0, " VERSION major=0",
		    "REGION_WRITE region=0 name=BAR0 offset=0x10 count=4 "
		    "value=0x63",
		    "fds=[socket]", "fds=[{memfd size=0x10000}]", NULL);
	replayed = count_messages(run.out, " #");
	ATF_CHECK_EQ(shown, replayed);
	ATF_CHECK_EQ(0, count_messages(run.out, "nobody asked"));
	run_ctl(&run, "replay", "--json", "saved", NULL);
	require_run(&run, 0, NULL);
	ATF_CHECK_EQ(replayed, check_json_lines(run.out));
	run_ctl(&run, "replay", "-x", "saved.2", NULL);
	require_run(&run, 0, "00000000  ", NULL);
}

CLEAT_TC(replay__wrong_files)
{
	FILE *file = fopen("wrong", "w");

	fputs("cleat-stream 1\n> 0\n 0100zz\n", file);
	fclose(file);
	run_ctl(&run, "replay", "wrong", NULL);
	require_complaint(&run, 4, "wrong:3: not a message");
	run_ctl(&run, "replay", "/dev/null", NULL);
	require_complaint(&run, 4, "not a file of cleatctl relay --save");
	run_ctl(&run, "replay", "none", NULL);
	require_complaint(&run, 4, "none: No such file");
	run_ctl(&run, "replay", ".", NULL);
	ATF_CHECK_EQ(4, run.status);
}

CLEAT_TC(relay__cannot_begin)
{
	struct setup setup;

	set_up(&setup, 0);
	run_ctl(&run, "relay", "r.sock", "p.sock", NULL);
	require_complaint(&run, 3, "cannot listen: Address already in use");
	run_ctl(&run, "relay", "no/such/dir", "p.sock", NULL);
	require_complaint(&run, 3, "cannot listen");
	run_ctl(&run, "relay", "s.sock", "p.sock", "--save", "no/such", NULL);
	require_complaint(&run, 4, "no/such");
	run_ctl(&run, "relay", "s.sock", "p.sock", "--save", "/dev/full", NULL);
	require_complaint(&run, 4, "not a plain file");
	tear_down(&setup);
}

/* A client is told by the end of its connection; the relay goes on. */
CLEAT_TC(relay__server_not_there)
{
	struct setup setup;
	int fd;

	start_relay(&setup, NULL, NULL);
	fd = peer_connect("r.sock");
	ATF_CHECK_EQ(0, peer_expect_close(fd));
	close(fd);
	REQUIRE_SOON(out_has("relay", "cannot connect to the server"));
	start_probe(&setup.probe, "p.sock");
	open_through(&setup, 0);
	tear_down(&setup);
	start_relay(&setup, "--once", NULL);
	fd = peer_connect("r.sock");
	ATF_CHECK_EQ(3 << 8, child_wait(&setup.relay, PATIENCE_MS));
	close(fd);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, relay__accesses);
	ATF_TP_ADD_TC(tp, relay__mapped_page);
	ATF_TP_ADD_TC(tp, relay__io_fds);
	ATF_TP_ADD_TC(tp, relay__interrupts);
	ATF_TP_ADD_TC(tp, relay__dma_on_twin_socket);
	ATF_TP_ADD_TC(tp, relay__dma_on_main_socket);
	ATF_TP_ADD_TC(tp, relay__clients_come_and_go);
	ATF_TP_ADD_TC(tp, relay__keeps_no_descriptor);
	ATF_TP_ADD_TC(tp, relay__server_dies);
	ATF_TP_ADD_TC(tp, relay__dies);
	ATF_TP_ADD_TC(tp, relay__json);
	ATF_TP_ADD_TC(tp, relay__save_and_replay);
	ATF_TP_ADD_TC(tp, replay__wrong_files);
	ATF_TP_ADD_TC(tp, relay__cannot_begin);
	ATF_TP_ADD_TC(tp, relay__server_not_there);
	return atf_no_error();
}
