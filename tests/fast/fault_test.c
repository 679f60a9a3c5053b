/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages that a server takes away from under a guest on KVM. */
#include <cleat/server.h>

#include "tests/fast/rig.h"

#define PAGE 0x1000u
#define MAPPED (PLACE + PAGE)

/**
 * struct scene - a guest, and a server in this process whose file has no seal
 * @rig:   first: the guest's hooks get it as the machine
 * @trick: what the server does between the guest's fault and our question
 */
struct scene {
	struct rig rig;
	int fd;
	struct cleat_server *srv;
	pthread_t thread;
	struct cleat_device *dev;
	struct cleat_binding *binding;
	void (*trick)(struct scene *scene);
};

/* --- The server -------------------------------------------------------------- */

static int on_read(void *opaque, uint32_t index, uint64_t offset, void *buf,
		   size_t count)
{
	memset(buf, 0x5a, count);
	return 0;
}

static void *run_server(void *srv)
{
	cleat_server_run(srv);
	return NULL;
}

/* Two pages, of which the second is mapped. */
static int open_server(struct scene *s)
{
	static const struct cleat_server_ops ops = {
		.size = sizeof(ops),
		.region_read = on_read,
	};
	struct cleat_server_area area = { .offset = PAGE,
					  .length = PAGE,
					  .fd = s->fd };
	struct cleat_server_region region = {
		.size = sizeof(region),
		.flags = CLEAT_REGION_READ | CLEAT_REGION_WRITE,
		.length = 2 * PAGE,
		.areas = &area,
		.n_areas = 1,
	};
	int ends[2];

	peer_pair(ends);
	ATF_REQUIRE_EQ(0, cleat_server_create(NULL, &ops, s, &s->srv, NULL));
	ATF_REQUIRE_EQ(0, cleat_server_add_region(s->srv, &region, NULL));
	ATF_REQUIRE_EQ(0, cleat_server_adopt(s->srv, ends[0], NULL));
	ATF_REQUIRE_EQ(0,
		       pthread_create(&s->thread, NULL, run_server, s->srv));
	return ends[1];
}

static void close_server(struct scene *s)
{
	if (!s->srv)
		return;
	cleat_server_stop(s->srv);
	pthread_join(s->thread, NULL);
	cleat_server_destroy(s->srv);
	s->srv = NULL;
}

/* --- The guest --------------------------------------------------------------- */

static int on_fault(void *opaque, unsigned cpu)
{
	struct scene *s = opaque;

	if (s->trick)
		s->trick(s);
	return cleat_mmio_fault(s->rig.machine.mmio);
}

static void scene_start(struct scene *s, const atf_tc_t *tc,
			enum guest_irqchip irqchip)
{
	struct cleat_device_config config = { .size = sizeof(config) };
	struct cleat_binding_config binding = { .size = sizeof(binding) };
	uint32_t stored;

	memset(s, 0, sizeof(*s));
	rig_open(&s->rig, tc, irqchip, 1, NULL);
	s->rig.machine.hooks.fault = on_fault;
	s->fd = memfd(PAGE, 0);
	config.fd = open_server(s);
	ATF_REQUIRE_EQ(0, cleat_device_open(&config, &s->dev, NULL));
	close(config.fd);
	binding.device = s->dev;
	binding.ops = s->rig.machine.ops;
	ATF_REQUIRE_EQ(0, cleat_mmio_bind(s->rig.machine.mmio, &binding,
					  &s->binding, NULL));
	ATF_REQUIRE_EQ(0, cleat_binding_place(s->binding, PLACE));
	/* It is mapped: what the guest stores is in the file. */
	rig_store(&s->rig, MAPPED, 0x12345678);
	ATF_REQUIRE_EQ(0x12345678, rig_load(&s->rig, MAPPED));
	ATF_REQUIRE_EQ(4, pread(s->fd, &stored, 4, 0));
	ATF_REQUIRE_EQ(0x12345678, stored);
}

static void scene_end(struct scene *s)
{
	cleat_mmio_unbind(s->binding);
	cleat_device_unref(s->dev);
	close_server(s);
	rig_end(&s->rig);
	close(s->fd);
}

/*
 * What the guest reads where its page has been, after one fault. No local APIC
 * in the kernel: some KVMs would rather wait for the page, see the last case.
 */
static uint64_t load_hole(struct scene *s)
{
	struct guest_returns returns;
	uint64_t value;

	ATF_REQUIRE_EQ(0, ftruncate(s->fd, 0));
	value = rig_load(&s->rig, MAPPED);
	cleat_guest_returns(s->rig.guest, 0, &returns);
	ATF_CHECK_EQ(1, returns.faults);
	return value;
}

CLEAT_TC(shrunk__lost)
{
	struct scene s;

	scene_start(&s, tc, GUEST_IRQCHIP_NONE);
	ATF_CHECK_EQ(UINT32_MAX, load_hole(&s));
	ATF_CHECK_EQ(-ENOTCONN, cleat_device_failure(s.dev, NULL));
	scene_end(&s);
}

static void grow(struct scene *s)
{
	ATF_REQUIRE_EQ(0, ftruncate(s->fd, PAGE));
}

/* What it stored is gone, and the file is as it was: from now on by message. */
CLEAT_TC(shrunk__and_grown)
{
	struct scene s;

	scene_start(&s, tc, GUEST_IRQCHIP_NONE);
	s.trick = grow;
	ATF_CHECK_EQ(0x5a5a5a5a, load_hole(&s));
	ATF_CHECK_EQ(0, cleat_device_failure(s.dev, NULL));
	scene_end(&s);
}

static bool is_trapped(struct scene *s)
{
	struct cleat_segment segment;

	return !cleat_binding_segment(s->binding, 1, &segment) &&
	       segment.read_way == CLEAT_WAY_TRAP;
}

static void leave(struct scene *s)
{
	close_server(s);
	REQUIRE_SOON(is_trapped(s));
}

CLEAT_TC(shrunk__and_left)
{
	struct scene s;

	scene_start(&s, tc, GUEST_IRQCHIP_NONE);
	s.trick = leave;
	ATF_CHECK_EQ(UINT32_MAX, load_hole(&s));
	scene_end(&s);
}

static void unplace(struct scene *s)
{
	cleat_binding_unplace(s->binding);
}

/* As another of the guest's CPUs would: nobody is there then. */
CLEAT_TC(shrunk__and_moved)
{
	struct scene s;

	scene_start(&s, tc, GUEST_IRQCHIP_NONE);
	s.trick = unplace;
	ATF_CHECK_EQ(UINT32_MAX, load_hole(&s));
	ATF_CHECK_EQ(0, cleat_device_failure(s.dev, NULL));
	scene_end(&s);
}

static bool is_stuck(struct scene *s, int64_t exits)
{
	struct guest_returns returns;
	struct guest_stats stats;

	ATF_REQUIRE_EQ(0, cleat_guest_stats(s->rig.guest, 0, &stats));
	cleat_guest_returns(s->rig.guest, 0, &returns);
	return stats.exits > exits + 10 || returns.faults;
}

/*
 * With a local APIC some KVMs take the hole for a page that is on its way, and
 * the guest's CPU waits for it in KVM_RUN. It goes on when the region goes.
 */
CLEAT_TC(shrunk__waited_for)
{
	struct guest_op op = {
		.kind = GUEST_LOAD, .size = 4, .address = MAPPED, .count = 1
	};
	struct guest_stats stats;
	struct scene s;

	scene_start(&s, tc, GUEST_IRQCHIP_KERNEL);
	ATF_REQUIRE_EQ(0, ftruncate(s.fd, 0));
	ATF_REQUIRE_EQ(0, cleat_guest_stats(s.rig.guest, 0, &stats));
	ATF_REQUIRE_EQ(0, cleat_guest_start(s.rig.guest, 0, &op, 1,
					    &s.rig.machine.hooks, RUN_MS));
	REQUIRE_SOON(is_stuck(&s, stats.exits));
	cleat_binding_unplace(s.binding);
	ATF_REQUIRE_EQ(0, cleat_guest_wait(s.rig.guest, 0));
	/* By message, or when the region was not there either. */
	ATF_CHECK(op.result == 0x5a5a5a5a || op.result == UINT32_MAX);
	scene_end(&s);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, shrunk__lost);
	ATF_TP_ADD_TC(tp, shrunk__and_grown);
	ATF_TP_ADD_TC(tp, shrunk__and_left);
	ATF_TP_ADD_TC(tp, shrunk__and_moved);
	ATF_TP_ADD_TC(tp, shrunk__waited_for);
	return atf_no_error();
}
