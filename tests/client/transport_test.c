/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ways to reach a server: by an abstract name, and over stream sockets that
 * pass no descriptors. Over those everything works in band, or says that it
 * does not.
 */
#include <cleat/cleat.h>
#include <cleat/server.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "tests/support/support.h"

#define BAR 0x4000u
#define PAGE 4096u
#define GUEST 0x100000u
#define RAM (64u * PAGE)
#define RW (CLEAT_REGION_READ | CLEAT_REGION_WRITE)

/**
 * struct world - a server that has all that goes by descriptor elsewhere
 * @regs:   region 0, the server's thread's alone; its second page is a file
 * @mirror: what the case knows to be in it
 */
#define GO 0x10u /* a store there writes the first 100 bytes to guest memory */

struct world {
	struct cleat_server *srv;
	struct script script;
	struct cleat_device *dev;
	struct cleat_memory *memory;
	uint8_t regs[BAR];
	uint8_t mirror[BAR];
	int page_fd, ram_fd, kick;
	uint8_t *ram;
};

static int on_read(void *opaque, uint32_t index, uint64_t offset, void *buf,
		   size_t count)
{
	struct world *world = opaque;

	memcpy(buf, world->regs + offset, count);
	return 0;
}

static int on_write(void *opaque, uint32_t index, uint64_t offset,
		    const void *buf, size_t count)
{
	struct world *world = opaque;

	memcpy(world->regs + offset, buf, count);
	if (offset != GO)
		return 0;
	return cleat_server_dma_write(world->srv, GUEST + 5 * PAGE - 50,
				      world->regs, 100);
}

static int no_state(void *opaque, void *buf, size_t room)
{
	return 0;
}

static int any_state(void *opaque, uint32_t version, const void *buf,
		     size_t count)
{
	return 0;
}

static int loaded(void *opaque)
{
	return 0;
}

static int run(void *arg)
{
	return cleat_server_run(((struct world *)arg)->srv);
}

static void add_bar(struct world *world)
{
	const struct cleat_server_area area = { .offset = PAGE,
						.length = PAGE,
						.fd = world->page_fd };
	const struct cleat_server_region bar = {
		.size = sizeof(bar),
		.length = BAR,
		.flags = RW,
		.areas = &area,
		.n_areas = 1,
	};
	const struct cleat_server_io_fd io = { .offset = 0x20,
					       .length = 4,
					       .fd = world->kick };

	ATF_REQUIRE_EQ(0, cleat_server_add_region(world->srv, &bar, NULL));
	ATF_REQUIRE_EQ(0, cleat_server_set_io_fds(world->srv, 0, &io, 1));
	ATF_REQUIRE_EQ(0, cleat_server_add_irqs(world->srv, CLEAT_IRQ_MSIX, 4,
						CLEAT_IRQ_INFO_EVENTFD, NULL));
}

static void world_serve(struct world *world)
{
	const struct cleat_server_config config = { .size = sizeof(config) };
	const struct cleat_server_ops ops = { .size = sizeof(ops),
					      .region_read = on_read,
					      .region_write = on_write };
	const struct cleat_server_migration migration = {
		.size = sizeof(migration),
		.name = "nothing",
		.save = no_state,
		.load = any_state,
		.loaded = loaded,
	};

	memset(world, 0, sizeof(*world));
	world->page_fd = memfd(PAGE, 0);
	world->kick = eventfd(0, EFD_CLOEXEC);
	for (unsigned i = 0; i < BAR; i++)
		world->regs[i] = world->mirror[i] = (uint8_t)(i * 5 + i / 256);
	ATF_REQUIRE_EQ(0, cleat_server_create(&config, &ops, world,
					      &world->srv, NULL));
	add_bar(world);
	ATF_REQUIRE_EQ(0, cleat_server_add_migration(world->srv, &migration,
						     NULL));
}

static void world_open(struct world *world, const char *path, int fd)
{
	struct cleat_device_config config = { .size = sizeof(config),
					      .path = path,
					      .fd = fd };
	struct cleat_error why;

	script_start(&world->script, run, world);
	ATF_REQUIRE_EQ_MSG(0, cleat_device_open(&config, &world->dev, &why),
			   "%s", why.text);
}

static void world_end(struct world *world)
{
	cleat_device_unref(world->dev);
	cleat_memory_unref(world->memory);
	cleat_server_stop(world->srv);
	script_end(&world->script);
	cleat_server_destroy(world->srv);
	if (world->ram) {
		munmap(world->ram, RAM);
		close(world->ram_fd);
	}
	close(world->page_fd);
	close(world->kick);
}

static void check_mirror(struct world *world)
{
	uint8_t data[BAR];

	ATF_REQUIRE_EQ(0, cleat_region_read(world->dev, 0, 0, data, BAR));
	ATF_CHECK_EQ(0, memcmp(data, world->mirror, BAR));
}

CLEAT_TC(path__abstract)
{
	static struct world world;
	char name[64];

	world_serve(&world);
	snprintf(name, sizeof(name), "@cleat-transport-%d", (int)getpid());
	ATF_REQUIRE_EQ(0, cleat_server_listen(world.srv, name, NULL));
	world_open(&world, name, -1);
	check_mirror(&world);
	world_end(&world);
}

/* --- In band -------------------------------------------------------------- */

static void check_described(struct world *world)
{
	struct cleat_device_info info = { .size = sizeof(info) };
	struct cleat_io_fds io;

	ATF_REQUIRE_EQ(0, cleat_device_info(world->dev, &info));
	ATF_CHECK_EQ(0, info.max_msg_fds);
	ATF_CHECK(!(info.flags & CLEAT_DEVICE_INFO_TWIN));
	ATF_CHECK_EQ(0, cleat_device_io_fds(world->dev, 0, &io, NULL));
	ATF_CHECK_EQ(0, io.num);
	cleat_io_fds_free(&io);
}

static void check_accesses(struct world *world)
{
	check_mirror(world);
	memset(world->mirror + PAGE, 0x77, 2 * PAGE);
	ATF_REQUIRE_EQ(0, cleat_region_write(world->dev, 0, PAGE,
					     world->mirror + PAGE, 2 * PAGE));
	memcpy(world->mirror + 0x100, "posted", 6);
	ATF_REQUIRE_EQ(0, cleat_region_post(world->dev, 0, 0x100, "posted", 6));
	check_mirror(world);
}

/* Every part of the region by message: what was a file, and the doorbell. */
static void check_guest(struct world *world)
{
	struct cleat_binding_config config = { .size = sizeof(config),
					       .device = world->dev };
	struct cleat_binding *binding;
	struct cleat_segment seg;
	struct cleat_mmio *mmio;
	uint32_t value = 0xabcd;

	ATF_REQUIRE_EQ(0, cleat_mmio_create(&mmio));
	ATF_REQUIRE_EQ(0, cleat_mmio_bind(mmio, &config, &binding, NULL));
	for (unsigned i = 0; !cleat_binding_segment(binding, i, &seg); i++) {
		ATF_CHECK_EQ(CLEAT_WAY_TRAP, seg.read_way);
		ATF_CHECK_EQ(CLEAT_WAY_TRAP, seg.write_way);
	}
	ATF_REQUIRE_EQ(0, cleat_binding_place(binding, 0xe0000000));
	ATF_CHECK_EQ(0, cleat_mmio_access(mmio, CLEAT_MEMORY, 0xe0000020,
					  &value, 4, true));
	ATF_CHECK_EQ(0, cleat_mmio_access(mmio, CLEAT_MEMORY,
					  0xe0000000 + PAGE + 8, &value, 4,
					  true));
	memcpy(world->mirror + 0x20, &value, 4);
	memcpy(world->mirror + PAGE + 8, &value, 4);
	check_mirror(world);
	cleat_mmio_unbind(binding);
	cleat_mmio_unref(mmio);
}

/* The server is told of memory, gets no file of it, and reaches it. */
static void check_dma(struct world *world)
{
	struct cleat_memory_range range = { .size = sizeof(range),
					    .rights = CLEAT_READ | CLEAT_WRITE,
					    .guest = GUEST,
					    .length = RAM };
	uint64_t at = 0, length = 0;
	void *ram;

	world->ram_fd = cleat_memory_alloc(RAM, 0, &ram, NULL);
	ATF_REQUIRE(world->ram_fd >= 0);
	range.host = world->ram = ram;
	range.fd = world->ram_fd;
	ATF_REQUIRE_EQ(0, cleat_memory_create(&world->memory));
	ATF_REQUIRE_EQ(0, cleat_memory_add(world->memory, &range));
	ATF_REQUIRE_EQ(0, cleat_memory_attach(world->memory, world->dev));
	ATF_REQUIRE_EQ(0, cleat_memory_log_start(world->memory, 0, NULL));
	ATF_REQUIRE_EQ(0, cleat_region_write(world->dev, 0, GO, "12345678", 8));
	memcpy(world->mirror + GO, "12345678", 8);
	ATF_CHECK_EQ(0, memcmp(world->ram + 5 * PAGE - 50, world->mirror, 100));
	/* All of it was seen: no server has anything to tell. */
	ATF_REQUIRE_EQ(0, cleat_memory_log_fetch(world->memory,
						 CLEAT_MEMORY_LOG_FINAL));
	ATF_REQUIRE_EQ(1, cleat_memory_log_take(world->memory, 0, RAM, &at,
						&length));
	ATF_CHECK_EQ(GUEST + 4 * PAGE, at);
	ATF_CHECK_EQ(2 * PAGE, length);
	ATF_CHECK_EQ(0, cleat_memory_log_dirty(world->memory));
	ATF_REQUIRE_EQ(0, cleat_memory_remove(world->memory, GUEST, RAM));
}

static void check_irqs(struct world *world)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	ATF_CHECK_EQ(-EOPNOTSUPP,
		     cleat_irq_set(world->dev, CLEAT_IRQ_MSIX,
				   CLEAT_IRQ_DATA_EVENTFD | CLEAT_IRQ_TRIGGER,
				   0, 1, NULL, &fd));
	ATF_CHECK_EQ(0, cleat_irq_set(world->dev, CLEAT_IRQ_MSIX,
				      CLEAT_IRQ_DATA_NONE | CLEAT_IRQ_TRIGGER,
				      0, 0, NULL, NULL));
	close(fd);
}

static void check_migration(struct world *world)
{
	enum cleat_migration_state state = CLEAT_MIGRATION_ERROR;
	struct cleat_migration *mig;
	struct cleat_error why = { .text = "" };

	ATF_REQUIRE_MSG(!cleat_migration_create(world->dev, 0, &mig, &why),
			"%s", why.text);
	ATF_CHECK_EQ(0, cleat_migration_start(mig, &why));
	ATF_CHECK_EQ(0, cleat_migration_stop(mig, &why));
	ATF_CHECK_EQ(0, cleat_migration_run(mig, &why));
	ATF_CHECK_EQ(0, cleat_migration_state(mig, &state));
	ATF_CHECK_EQ(CLEAT_MIGRATION_RUNNING, state);
	cleat_migration_unref(mig);
}

static void in_band(int ends[2])
{
	static struct world world;

	world_serve(&world);
	ATF_REQUIRE_EQ(0, cleat_server_adopt(world.srv, ends[1], NULL));
	world_open(&world, NULL, ends[0]);
	close(ends[0]);
	check_described(&world);
	check_accesses(&world);
	check_guest(&world);
	check_dma(&world);
	check_irqs(&world);
	check_migration(&world);
	world_end(&world);
}

/* Both ends of a connection to @addr, whatever its port turns out to be. */
static void connect_ends(const struct sockaddr *addr, socklen_t size,
			 int ends[2])
{
	int listener = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_storage bound;
	socklen_t length = sizeof(bound);

	if (listener < 0 || bind(listener, addr, size)) {
		int err = errno;

		close(listener);
		atf_tc_skip("no such socket here: %s", strerror(err));
	}
	ATF_REQUIRE_EQ(0, listen(listener, 1));
	ATF_REQUIRE_EQ(0, getsockname(listener, (struct sockaddr *)&bound,
				      &length));
	ends[0] = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(ends[0], (struct sockaddr *)&bound, length)) {
		int err = errno;

		close(ends[0]);
		close(listener);
		atf_tc_skip("not to be reached here: %s", strerror(err));
	}
	ends[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	ATF_REQUIRE(ends[1] >= 0);
	close(listener);
}

CLEAT_TC(inet__everything_in_band)
{
	const struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int ends[2];

	connect_ends((const struct sockaddr *)&addr, sizeof(addr), ends);
	in_band(ends);
}

CLEAT_TC(inet6__everything_in_band)
{
	const struct sockaddr_in6 addr = {
		.sin6_family = AF_INET6,
		.sin6_addr = IN6ADDR_LOOPBACK_INIT,
	};
	int ends[2];

	connect_ends((const struct sockaddr *)&addr, sizeof(addr), ends);
	in_band(ends);
}

CLEAT_TC(vsock__everything_in_band)
{
	const struct sockaddr_vm addr = {
		.svm_family = AF_VSOCK,
		.svm_port = VMADDR_PORT_ANY,
		.svm_cid = VMADDR_CID_LOCAL,
	};
	int ends[2];

	connect_ends((const struct sockaddr *)&addr, sizeof(addr), ends);
	in_band(ends);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, path__abstract);
	ATF_TP_ADD_TC(tp, inet__everything_in_band);
	ATF_TP_ADD_TC(tp, inet6__everything_in_band);
	ATF_TP_ADD_TC(tp, vsock__everything_in_band);
	return atf_no_error();
}
