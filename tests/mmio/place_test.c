/* SPDX-License-Identifier: BSD-2-Clause */
/* Where regions are, who gives way to whom, and what the VMM is asked for. */
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/vfs.h>

#include "tests/mmio/rig.h"

#define AT 0xfeb00000ull
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

struct setting {
	struct rig rig;
	struct cleat_mmio *mmio;
	struct vm vm;
	struct cleat_binding *binding;
	int fd;
	int kick;
};

/* Region 0: registers, then a page that is mapped; a doorbell at 0x10. */
static void open_rig(struct setting *s, unsigned seals)
{
	uint64_t four = 4;

	s->fd = memfd(PAGE, seals);
	s->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->rig.areas[0] = (struct cleat_server_area){ .offset = PAGE,
						      .length = PAGE,
						      .fd = s->fd };
	s->rig.num_areas = 1;
	s->rig.io[0] = (struct cleat_server_io_fd){ .offset = 0x10,
						    .length = four,
						    .flags = CLEAT_IO_FD_DATAMATCH,
						    .datamatch = 9,
						    .fd = s->kick };
	s->rig.num_io = 1;
	rig_open(&s->rig);
	ATF_REQUIRE_EQ(0, cleat_mmio_create(&s->mmio));
	vm_init(&s->vm, s->mmio);
}

static void set_up(struct setting *s)
{
	open_rig(s, SEALS);
	s->binding = rig_bind(&s->rig, s->mmio, &s->vm, 0);
}

static void tear_down(struct setting *s)
{
	cleat_mmio_unbind(s->binding);
	cleat_mmio_unref(s->mmio);
	rig_close(&s->rig);
	close(s->fd);
	close(s->kick);
}

static struct cleat_segment segment(struct cleat_binding *binding, unsigned i)
{
	struct cleat_segment seg;

	ATF_REQUIRE_EQ(0, cleat_binding_segment(binding, i, &seg));
	return seg;
}

/* --- What the VMM is asked for ------------------------------------------------- */

CLEAT_TC(place__published_first)
{
	struct setting s = { 0 };

	set_up(&s);
	ATF_REQUIRE(!is_there(s.mmio, CLEAT_MEMORY, AT));
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	ATF_REQUIRE_STREQ("+slot:feb01000:1000 +kick:feb00010:4=9",
			  vm_said(&s.vm));
	/* There already. */
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	ATF_REQUIRE_STREQ("", vm_said(&s.vm));
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT + BAR));
	ATF_REQUIRE_STREQ("-slot:feb01000 -kick:feb00010:4=9 "
			  "+slot:feb05000:1000 +kick:feb04010:4=9",
			  vm_said(&s.vm));
	ATF_REQUIRE(!is_there(s.mmio, CLEAT_MEMORY, AT));
	cleat_binding_unplace(s.binding);
	ATF_REQUIRE_STREQ("-slot:feb05000 -kick:feb04010:4=9",
			  vm_said(&s.vm));
	ATF_REQUIRE(!is_there(s.mmio, CLEAT_MEMORY, AT + BAR));
	cleat_binding_unplace(s.binding);
	ATF_REQUIRE_STREQ("", vm_said(&s.vm));
	tear_down(&s);
}

CLEAT_TC(place__unbound_where_it_is)
{
	struct setting s = { 0 };

	set_up(&s);
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	vm_said(&s.vm);
	s.binding = cleat_mmio_unbind(s.binding);
	ATF_REQUIRE_STREQ("-slot:feb01000 -kick:feb00010:4=9",
			  vm_said(&s.vm));
	ATF_REQUIRE(!is_there(s.mmio, CLEAT_MEMORY, AT));
	tear_down(&s);
}

CLEAT_TC(place__segments_tell)
{
	struct setting s = { 0 };
	struct cleat_segment seg;

	set_up(&s);
	ATF_REQUIRE_EQ(-ENOENT, cleat_binding_segment(s.binding, 5, &seg));
	ATF_REQUIRE(!segment(s.binding, 3).installed);
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	ATF_REQUIRE(!segment(s.binding, 0).installed);
	seg = segment(s.binding, 1);
	ATF_REQUIRE_EQ(CLEAT_WAY_IOEVENTFD, seg.write_way);
	ATF_REQUIRE_EQ(1, seg.num_kicks);
	ATF_REQUIRE_EQ(9, seg.kicks[0].datamatch);
	ATF_REQUIRE(seg.installed);
	seg = segment(s.binding, 3);
	ATF_REQUIRE_EQ(CLEAT_WAY_MAP, seg.read_way);
	ATF_REQUIRE_EQ(PAGE, seg.offset);
	ATF_REQUIRE(seg.installed);
	ATF_REQUIRE(!seg.why);
	tear_down(&s);
}

/* EEXIST, EINVAL, ENOSPC: the same is done by the vCPU thread. */
CLEAT_TC(place__vmm_refuses)
{
	struct setting s = { 0 };
	uint64_t messages;

	set_up(&s);
	s.vm.refuse = -EEXIST;
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	ATF_REQUIRE(!segment(s.binding, 1).installed);
	ATF_REQUIRE(!segment(s.binding, 3).installed);
	messages = rig_messages(&s.rig);
	store(s.mmio, AT + PAGE, 0x1234, 4);
	ATF_REQUIRE_EQ(0x1234, load(s.mmio, AT + PAGE, 4));
	store(s.mmio, AT + 0x10, 9, 4);
	ATF_REQUIRE_EQ(1, wait_eventfd(s.kick, 0));
	ATF_REQUIRE_EQ(messages, rig_messages(&s.rig));
	vm_said(&s.vm);
	cleat_binding_unplace(s.binding);
	ATF_REQUIRE_STREQ("", vm_said(&s.vm));
	tear_down(&s);
}

/* Each change tries again to have it taken away. */
CLEAT_TC(place__slot_not_let_go)
{
	struct setting s = { 0 };

	set_up(&s);
	s.vm.mmio = NULL;
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	vm_said(&s.vm);
	s.vm.keep = -ENOMEM;
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT + BAR));
	ATF_CHECK_STREQ("-slot:feb01000 -kick:feb00010:4=9 "
			"-slot:feb01000 +kick:feb04010:4=9",
			vm_said(&s.vm));
	/* It is not where the region is now, which the vCPU's thread reaches. */
	ATF_CHECK(!segment(s.binding, 3).installed);
	store(s.mmio, AT + BAR + PAGE, 0x1234, 4);
	ATF_CHECK_EQ(0x1234, *(uint32_t *)s.vm.host);
	cleat_binding_unplace(s.binding);
	vm_said(&s.vm);
	s.vm.keep = 0;
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	ATF_CHECK_STREQ("-slot:feb01000 +slot:feb01000:1000 "
			"+kick:feb00010:4=9",
			vm_said(&s.vm));
	ATF_CHECK(segment(s.binding, 3).installed);
	tear_down(&s);
}

static bool is_mapped(void *host)
{
	unsigned char in_core;

	return !mincore(host, PAGE, &in_core);
}

CLEAT_TC(unbind__slot_not_let_go)
{
	struct setting s = { 0 };

	set_up(&s);
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	s.vm.keep = -ENOMEM;
	cleat_binding_unplace(s.binding);
	vm_said(&s.vm);
	s.binding = cleat_mmio_unbind(s.binding);
	ATF_CHECK_STREQ("-slot:feb01000!", vm_said(&s.vm));
	/* Where the guest may still store, nothing else may come to be. */
	ATF_REQUIRE(is_mapped(s.vm.host));
	ATF_REQUIRE_EQ(1, pwrite(s.fd, "x", 1, 0));
	ATF_CHECK_EQ('x', *(char *)s.vm.host);
	munmap(s.vm.host, PAGE);
	tear_down(&s);
}

/* And what was let go in the end is unmapped as ever. */
CLEAT_TC(unbind__slot_let_go_at_last)
{
	struct setting s = { 0 };

	set_up(&s);
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	s.vm.keep = -ENOMEM;
	cleat_binding_unplace(s.binding);
	s.vm.keep = 0;
	s.binding = cleat_mmio_unbind(s.binding);
	ATF_CHECK(!is_mapped(s.vm.host));
	tear_down(&s);
}

CLEAT_TC(place__not_at_a_page)
{
	struct setting s = { 0 };

	set_up(&s);
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT + 0x100));
	ATF_REQUIRE_STREQ("+kick:feb00110:4=9", vm_said(&s.vm));
	store(s.mmio, AT + 0x100 + PAGE, 1, 1);
	ATF_REQUIRE_EQ(0, atomic_load(&s.rig.writes));
	tear_down(&s);
}

CLEAT_TC(place__page_that_can_shrink)
{
	struct setting s = { 0 };

	open_rig(&s, 0);
	s.binding = rig_bind(&s.rig, s.mmio, &s.vm, 0);
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	ATF_REQUIRE_STREQ("+slot:feb01000:1000 +kick:feb00010:4=9",
			  vm_said(&s.vm));
	/* The guest may, we may not. */
	store(s.mmio, AT + PAGE, 1, 1);
	ATF_REQUIRE_EQ(1, atomic_load(&s.rig.writes));
	tear_down(&s);
}

CLEAT_TC(place__read_only_region)
{
	struct setting s = { .rig = { .flags = CLEAT_REGION_READ } };

	set_up(&s);
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	ATF_REQUIRE_STREQ("+slotr:feb01000:1000", vm_said(&s.vm));
	tear_down(&s);
}

CLEAT_TC(place__ops_of_an_older_vmm)
{
	struct setting s = { 0 };

	open_rig(&s, SEALS);
	s.vm.ops.size = offsetof(struct cleat_vm_ops, ioeventfd_add);
	s.binding = rig_bind(&s.rig, s.mmio, &s.vm, 0);
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	ATF_REQUIRE_STREQ("+slot:feb01000:1000", vm_said(&s.vm));
	tear_down(&s);
}

CLEAT_TC(place__out_of_the_space)
{
	struct setting s = { 0 };
	struct cleat_binding_config config = { .size = sizeof(config),
					       .space = CLEAT_PORTS };
	struct cleat_binding *ports;

	set_up(&s);
	ATF_REQUIRE_EQ(-ERANGE,
		       cleat_binding_place(s.binding, 1 - (uint64_t)BAR));
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, -(uint64_t)BAR));
	ATF_REQUIRE(is_there(s.mmio, CLEAT_MEMORY, UINT64_MAX));
	ATF_REQUIRE(!is_there(s.mmio, CLEAT_MEMORY, -(uint64_t)BAR - 1));
	config.device = s.rig.dev;
	ATF_REQUIRE_EQ(0, cleat_mmio_bind(s.mmio, &config, &ports, NULL));
	ATF_REQUIRE_EQ(-ERANGE, cleat_binding_place(ports, 0x10000 - BAR + 1));
	ATF_REQUIRE_EQ(0, cleat_binding_place(ports, 0x10000 - BAR));
	ATF_REQUIRE(is_there(s.mmio, CLEAT_PORTS, 0xffff));
	ATF_REQUIRE(!is_there(s.mmio, CLEAT_PORTS, 0x10000 - BAR - 1));
	cleat_mmio_unbind(ports);
	tear_down(&s);
}

CLEAT_TC(bind__bad_arguments)
{
	const struct cleat_emulated bad[] = { { BAR - 4, 8, (void *)1, NULL } };
	struct setting s = { 0 };
	struct cleat_binding_config config = { .size = sizeof(config) };
	struct cleat_binding *binding;
	struct cleat_error why;

	set_up(&s);
	config.device = s.rig.dev;
	config.region = 1;
	ATF_REQUIRE_EQ(-ENOENT,
		       cleat_mmio_bind(s.mmio, &config, &binding, &why));
	ATF_REQUIRE_EQ(-ENOENT, why.code);
	config.region = 1000;
	ATF_REQUIRE_EQ(-ENOENT,
		       cleat_mmio_bind(s.mmio, &config, &binding, NULL));
	config.region = 0;
	config.emulated = bad;
	config.num_emulated = 1;
	ATF_REQUIRE_EQ(-EINVAL,
		       cleat_mmio_bind(s.mmio, &config, &binding, NULL));
	config.size = 8;
	ATF_REQUIRE_EQ(-EINVAL,
		       cleat_mmio_bind(s.mmio, &config, &binding, NULL));
	tear_down(&s);
}

CLEAT_TC(bind__file_on_a_disk)
{
	struct setting s = { 0 };
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct statfs fs;

	ATF_REQUIRE_EQ(0, fstatfs(fd, &fs));
	if (fs.f_type == TMPFS_MAGIC)
		atf_tc_skip("everything here is on tmpfs");
	s.rig.areas[0] = (struct cleat_server_area){ .length = PAGE, .fd = fd };
	s.rig.num_areas = 1;
	rig_open(&s.rig);
	ATF_REQUIRE_EQ(0, cleat_mmio_create(&s.mmio));
	vm_init(&s.vm, s.mmio);
	s.binding = rig_bind(&s.rig, s.mmio, &s.vm, 0);
	ATF_REQUIRE_EQ(CLEAT_WAY_TRAP, segment(s.binding, 0).read_way);
	ATF_REQUIRE_STREQ("its file is not on tmpfs or hugetlbfs",
			  segment(s.binding, 0).why);
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	ATF_REQUIRE_STREQ("", vm_said(&s.vm));
	cleat_mmio_unbind(s.binding);
	cleat_mmio_unref(s.mmio);
	rig_close(&s.rig);
	close(fd);
}

/* Offered when it was long enough, and shrunk before we looked. */
CLEAT_TC(bind__file_too_small)
{
	struct setting s = { 0 };

	open_rig(&s, 0);
	ATF_REQUIRE_EQ(0, ftruncate(s.fd, PAGE - 1));
	s.binding = rig_bind(&s.rig, s.mmio, &s.vm, 0);
	ATF_REQUIRE_EQ(CLEAT_WAY_TRAP, segment(s.binding, 3).read_way);
	ATF_REQUIRE_STREQ("its file is smaller than that",
			  segment(s.binding, 3).why);
	tear_down(&s);
}

/* --- Who gives way --------------------------------------------------------------- */

/* Which of three bindings of one device have their place, as bits. */
struct three {
	struct rig rig;
	struct cleat_mmio *mmio;
	struct vm vms[3];
	struct cleat_binding *bindings[3];
};

static void three_set_up(struct three *t)
{
	rig_open(&t->rig);
	ATF_REQUIRE_EQ(0, cleat_mmio_create(&t->mmio));
	for (unsigned i = 0; i < 3; i++) {
		vm_init(&t->vms[i], NULL);
		t->bindings[i] = rig_bind(&t->rig, t->mmio, NULL, i);
	}
}

static void three_tear_down(struct three *t)
{
	for (unsigned i = 0; i < 3; i++)
		cleat_mmio_unbind(t->bindings[i]);
	cleat_mmio_unref(t->mmio);
	rig_close(&t->rig);
}

static unsigned loads_of(struct cleat_binding *binding)
{
	struct cleat_mmio_stats stats = { .size = sizeof(stats) };

	ATF_REQUIRE_EQ(0, cleat_binding_stats(binding, &stats));
	return (unsigned)stats.reads[CLEAT_WAY_TRAP];
}

/* The binding that answers at an address, or -1. */
static int owner(struct three *t, uint64_t address)
{
	unsigned before[3];
	int owner = -1;

	for (unsigned i = 0; i < 3; i++)
		before[i] = loads_of(t->bindings[i]);
	is_there(t->mmio, CLEAT_MEMORY, address);
	for (unsigned i = 0; i < 3; i++)
		if (loads_of(t->bindings[i]) != before[i])
			owner = (int)i;
	return owner;
}

CLEAT_TC(overlap__the_lower_order_keeps_it)
{
	struct three t = { 0 };

	three_set_up(&t);
	ATF_REQUIRE_EQ(0, cleat_binding_place(t.bindings[1], AT));
	ATF_REQUIRE_EQ(1, owner(&t, AT));
	/* Over its second half: the winner gets all, the loser nothing. */
	ATF_REQUIRE_EQ(0, cleat_binding_place(t.bindings[0], AT + BAR / 2));
	ATF_REQUIRE_EQ(-1, owner(&t, AT));
	ATF_REQUIRE_EQ(0, owner(&t, AT + BAR / 2));
	ATF_REQUIRE_EQ(0, cleat_binding_place(t.bindings[2], AT + BAR));
	ATF_REQUIRE_EQ(0, owner(&t, AT + BAR));
	ATF_REQUIRE_EQ(-1, owner(&t, AT + BAR + BAR / 2));
	/* And back when it goes. */
	cleat_binding_unplace(t.bindings[0]);
	ATF_REQUIRE_EQ(1, owner(&t, AT));
	ATF_REQUIRE_EQ(2, owner(&t, AT + BAR));
	three_tear_down(&t);
}

/* One that lost its place no longer takes it from a third. */
CLEAT_TC(overlap__chain)
{
	struct three t = { 0 };

	three_set_up(&t);
	ATF_REQUIRE_EQ(0, cleat_binding_place(t.bindings[2], AT + BAR));
	ATF_REQUIRE_EQ(0, cleat_binding_place(t.bindings[1], AT + BAR / 2));
	ATF_REQUIRE_EQ(1, owner(&t, AT + BAR));
	ATF_REQUIRE_EQ(0, cleat_binding_place(t.bindings[0], AT));
	ATF_REQUIRE_EQ(0, owner(&t, AT + BAR - 1));
	ATF_REQUIRE_EQ(2, owner(&t, AT + BAR));
	ATF_REQUIRE_EQ(0, cleat_binding_place(t.bindings[0], AT + 8 * BAR));
	ATF_REQUIRE_EQ(1, owner(&t, AT + BAR));
	ATF_REQUIRE_EQ(-1, owner(&t, AT + 2 * BAR - 1));
	t.bindings[1] = cleat_mmio_unbind(t.bindings[1]);
	ATF_REQUIRE(is_there(t.mmio, CLEAT_MEMORY, AT + 2 * BAR - 1));
	three_tear_down(&t);
}

CLEAT_TC(overlap__loser_moves_or_goes)
{
	struct three t = { 0 };

	three_set_up(&t);
	ATF_REQUIRE_EQ(0, cleat_binding_place(t.bindings[0], AT));
	ATF_REQUIRE_EQ(0, cleat_binding_place(t.bindings[1], AT));
	ATF_REQUIRE_EQ(0, cleat_binding_place(t.bindings[2], AT));
	ATF_REQUIRE_EQ(0, owner(&t, AT));
	ATF_REQUIRE_EQ(0, cleat_binding_place(t.bindings[1], AT + BAR));
	ATF_REQUIRE_EQ(1, owner(&t, AT + BAR));
	cleat_binding_unplace(t.bindings[2]);
	cleat_binding_unplace(t.bindings[0]);
	ATF_REQUIRE_EQ(-1, owner(&t, AT));
	three_tear_down(&t);
}

/* The VMM's slots do not overlap, in whatever order things go. */
CLEAT_TC(overlap__slots_out_before_slots_in)
{
	struct setting s = { 0 };
	struct cleat_binding *first;

	set_up(&s);
	s.vm.mmio = NULL;
	ATF_REQUIRE_EQ(0, cleat_mmio_reserve(s.mmio, CLEAT_MEMORY, 0, PAGE));
	cleat_mmio_unbind(s.binding);
	first = rig_bind(&s.rig, s.mmio, &s.vm, 1);
	s.binding = rig_bind(&s.rig, s.mmio, &s.vm, 2);
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	vm_said(&s.vm);
	ATF_REQUIRE_EQ(0, cleat_binding_place(first, AT + 0));
	ATF_REQUIRE_STREQ("-slot:feb01000 -kick:feb00010:4=9 "
			  "+slot:feb01000:1000 +kick:feb00010:4=9",
			  vm_said(&s.vm));
	ATF_REQUIRE_EQ(0, cleat_binding_place(first, AT + BAR / 2));
	ATF_REQUIRE_STREQ("-slot:feb01000 -kick:feb00010:4=9 "
			  "+slot:feb03000:1000 +kick:feb02010:4=9",
			  vm_said(&s.vm));
	cleat_mmio_unbind(first);
	ATF_REQUIRE_STREQ("-slot:feb03000 -kick:feb02010:4=9 "
			  "+slot:feb01000:1000 +kick:feb00010:4=9",
			  vm_said(&s.vm));
	tear_down(&s);
}

CLEAT_TC(reserve__beats_bindings)
{
	struct setting s = { 0 };

	set_up(&s);
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	vm_said(&s.vm);
	ATF_REQUIRE_EQ(0, cleat_mmio_reserve(s.mmio, CLEAT_MEMORY,
					     AT + BAR - 1, 0x1000));
	ATF_REQUIRE(!is_there(s.mmio, CLEAT_MEMORY, AT));
	ATF_REQUIRE_STREQ("-slot:feb01000 -kick:feb00010:4=9",
			  vm_said(&s.vm));
	/* Two over the same, and both must go. */
	ATF_REQUIRE_EQ(0, cleat_mmio_reserve(s.mmio, CLEAT_MEMORY, 0,
					     AT + BAR));
	ATF_REQUIRE_EQ(0, cleat_mmio_unreserve(s.mmio, CLEAT_MEMORY,
					       AT + BAR - 1, 0x1000));
	ATF_REQUIRE(!is_there(s.mmio, CLEAT_MEMORY, AT));
	ATF_REQUIRE_EQ(-ENOENT, cleat_mmio_unreserve(s.mmio, CLEAT_MEMORY, 0,
						     AT));
	ATF_REQUIRE_EQ(0, cleat_mmio_unreserve(s.mmio, CLEAT_MEMORY, 0,
					       AT + BAR));
	ATF_REQUIRE_STREQ("+slot:feb01000:1000 +kick:feb00010:4=9",
			  vm_said(&s.vm));
	/* Beside it, to either side, and in the other space. */
	ATF_REQUIRE_EQ(0, cleat_mmio_reserve(s.mmio, CLEAT_MEMORY, 0, AT));
	ATF_REQUIRE_EQ(0, cleat_mmio_reserve(s.mmio, CLEAT_MEMORY, AT + BAR,
					     -(AT + BAR)));
	ATF_REQUIRE_EQ(0, cleat_mmio_reserve(s.mmio, CLEAT_PORTS, 0, 0x10000));
	ATF_REQUIRE(is_there(s.mmio, CLEAT_MEMORY, AT));
	ATF_REQUIRE_EQ(-ERANGE, cleat_mmio_reserve(s.mmio, CLEAT_PORTS, 1,
						   0x10000));
	ATF_REQUIRE_EQ(-ERANGE, cleat_mmio_reserve(s.mmio, CLEAT_MEMORY, AT,
						   0));
	tear_down(&s);
}

/* --- Devices that go --------------------------------------------------------------- */

CLEAT_TC(lost__taken_out)
{
	struct setting s = { 0 };
	bool was = false;

	set_up(&s);
	s.vm.mmio = NULL;
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	vm_said(&s.vm);
	rig_kill_server(&s.rig);
	REQUIRE_SOON((was = !segment(s.binding, 3).installed &&
			    segment(s.binding, 3).read_way == CLEAT_WAY_TRAP));
	ATF_REQUIRE_STREQ("-slot:feb01000 -kick:feb00010:4=9",
			  vm_said(&s.vm));
	/* It may still be moved, but only as something that is not there. */
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT + BAR));
	ATF_REQUIRE_STREQ("", vm_said(&s.vm));
	ATF_REQUIRE_EQ(0xff, load(s.mmio, AT + BAR + PAGE, 1));
	tear_down(&s);
}

CLEAT_TC(shutdown__taken_out)
{
	struct setting s = { 0 };

	set_up(&s);
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	vm_said(&s.vm);
	s.vm.mmio = NULL;
	rig_close_device(&s.rig);
	ATF_REQUIRE_STREQ("-slot:feb01000 -kick:feb00010:4=9",
			  vm_said(&s.vm));
	ATF_REQUIRE(!is_there(s.mmio, CLEAT_MEMORY, AT));
	tear_down(&s);
}

static void *ask_about_fault(void *mmio)
{
	return (void *)(intptr_t)cleat_mmio_fault(mmio);
}

static int fault_elsewhere(struct cleat_mmio *mmio)
{
	pthread_t thread;
	void *result;

	ATF_REQUIRE_EQ(0, pthread_create(&thread, NULL, ask_about_fault, mmio));
	ATF_REQUIRE_EQ(0, pthread_join(thread, &result));
	return (int)(intptr_t)result;
}

/* A page that its server can take away is under the guest. */
static void set_up_unsealed(struct setting *s)
{
	open_rig(s, 0);
	s->binding = rig_bind(&s->rig, s->mmio, &s->vm, 0);
	ATF_REQUIRE_EQ(0, cleat_binding_place(s->binding, AT));
	ATF_REQUIRE_STREQ("+slot:feb01000:1000 +kick:feb00010:4=9",
			  vm_said(&s->vm));
}

CLEAT_TC(fault__file_that_shrank)
{
	struct setting s = { 0 };
	struct cleat_error why;

	set_up_unsealed(&s);
	ATF_REQUIRE_EQ(0, ftruncate(s.fd, 0));
	ATF_REQUIRE_EQ(0, cleat_mmio_fault(s.mmio));
	ATF_REQUIRE_STREQ("-slot:feb01000 -kick:feb00010:4=9",
			  vm_said(&s.vm));
	ATF_REQUIRE_EQ(-ENOTCONN, cleat_device_failure(s.rig.dev, &why));
	ATF_REQUIRE_STREQ("region 0: the server shrank a file under the guest",
			  why.text);
	ATF_REQUIRE_EQ(0xff, load(s.mmio, AT + PAGE, 1));
	/* Another vCPU that ran into the same hole goes on too; a fault that
	 * comes back is somebody else's. */
	ATF_REQUIRE_EQ(0, fault_elsewhere(s.mmio));
	ATF_REQUIRE_EQ(-ENOENT, cleat_mmio_fault(s.mmio));
	tear_down(&s);
}

/* And grew before anybody looked: its device is not lost, but trusted less. */
CLEAT_TC(fault__file_that_grew_again)
{
	struct setting s = { 0 };

	set_up_unsealed(&s);
	ATF_REQUIRE_EQ(0, ftruncate(s.fd, 0));
	ATF_REQUIRE_EQ(0, ftruncate(s.fd, PAGE));
	ATF_REQUIRE_EQ(0, cleat_mmio_fault(s.mmio));
	ATF_REQUIRE_STREQ("-slot:feb01000", vm_said(&s.vm));
	ATF_REQUIRE(!segment(s.binding, 3).installed);
	ATF_REQUIRE_EQ(0, cleat_device_failure(s.rig.dev, NULL));
	s.rig.regs[PAGE] = 0x42;
	ATF_REQUIRE_EQ(0x42, load(s.mmio, AT + PAGE, 1));
	ATF_REQUIRE_EQ(-ENOENT, cleat_mmio_fault(s.mmio));
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT + BAR));
	ATF_REQUIRE_STREQ("-kick:feb00010:4=9 "
			  "+slot:feb05000:1000 +kick:feb04010:4=9",
			  vm_said(&s.vm));
	ATF_REQUIRE_EQ(0, cleat_mmio_fault(s.mmio));
	tear_down(&s);
}

/* The device's loss has taken the slot out before the vCPU could ask. */
CLEAT_TC(fault__server_that_left)
{
	struct setting s = { 0 };

	set_up_unsealed(&s);
	s.vm.mmio = NULL;
	ATF_REQUIRE_EQ(0, ftruncate(s.fd, 0));
	rig_kill_server(&s.rig);
	REQUIRE_SOON(segment(s.binding, 3).read_way == CLEAT_WAY_TRAP);
	ATF_REQUIRE_EQ(0, cleat_mmio_fault(s.mmio));
	ATF_REQUIRE_EQ(-ENOENT, cleat_mmio_fault(s.mmio));
	tear_down(&s);
}

/* Another vCPU has. */
CLEAT_TC(fault__region_that_moved)
{
	struct setting s = { 0 };

	set_up_unsealed(&s);
	ATF_REQUIRE_EQ(0, ftruncate(s.fd, 0));
	cleat_binding_unplace(s.binding);
	ATF_REQUIRE_EQ(0, cleat_mmio_fault(s.mmio));
	ATF_REQUIRE_EQ(-ENOENT, cleat_mmio_fault(s.mmio));
	/* There was no hole when it was under the guest again. */
	ATF_REQUIRE_EQ(0, cleat_device_failure(s.rig.dev, NULL));
	tear_down(&s);
}

/* As long as the guest has it, it would run into the same hole again. */
CLEAT_TC(fault__slot_not_let_go)
{
	struct setting s = { 0 };

	set_up_unsealed(&s);
	ATF_REQUIRE_EQ(0, ftruncate(s.fd, 0));
	s.vm.keep = -ENOMEM;
	ATF_REQUIRE_EQ(-ENOENT, cleat_mmio_fault(s.mmio));
	s.vm.keep = 0;
	ATF_REQUIRE_EQ(0, cleat_mmio_fault(s.mmio));
	ATF_REQUIRE_EQ(-ENOENT, cleat_mmio_fault(s.mmio));
	tear_down(&s);
}

/* Sealed pages are always there, and another VM's faults are its own. */
CLEAT_TC(fault__not_ours)
{
	struct setting s = { 0 }, other = { 0 };

	set_up(&s);
	set_up_unsealed(&other);
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	vm_said(&s.vm);
	ATF_REQUIRE_EQ(-ENOENT, cleat_mmio_fault(s.mmio));
	ATF_REQUIRE_STREQ("", vm_said(&s.vm));
	cleat_binding_unplace(other.binding);
	cleat_binding_unplace(s.binding);
	ATF_REQUIRE_EQ(-ENOENT, cleat_mmio_fault(s.mmio));
	tear_down(&s);
	tear_down(&other);
}

/* --- Once more ----------------------------------------------------------------- */

/* The server offers a second doorbell, at 0x20, and drops the first. */
static void offer_another(struct setting *s)
{
	s->rig.io[0].offset = 0x20;
	s->rig.io[0].datamatch = 7;
	atomic_store(&s->rig.offer, true);
	store(s->mmio, AT + 0x100, 1, 4);
	ATF_REQUIRE(!atomic_load(&s->rig.offer));
}

CLEAT_TC(refresh__where_it_is)
{
	struct setting s = { 0 };
	unsigned writes;

	set_up(&s);
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	vm_said(&s.vm);
	offer_another(&s);
	writes = atomic_load(&s.rig.writes);
	ATF_REQUIRE_EQ(0, cleat_binding_refresh(&s.binding, NULL));
	ATF_REQUIRE_STREQ("-slot:feb01000 -kick:feb00010:4=9 "
			  "+slot:feb01000:1000 +kick:feb00020:4=7",
			  vm_said(&s.vm));
	/* The vCPU's way where KVM does not take it. */
	store(s.mmio, AT + 0x20, 7, 4);
	ATF_REQUIRE_EQ(1, wait_eventfd(s.kick, PATIENCE_MS));
	ATF_REQUIRE_EQ(writes, atomic_load(&s.rig.writes));
	store(s.mmio, AT + 0x10, 9, 4);
	ATF_REQUIRE_EQ(writes + 1, atomic_load(&s.rig.writes));
	tear_down(&s);
}

CLEAT_TC(refresh__not_placed)
{
	struct setting s = { 0 };

	set_up(&s);
	s.rig.num_io = 0;
	ATF_REQUIRE_EQ(0, cleat_binding_refresh(&s.binding, NULL));
	ATF_REQUIRE_STREQ("", vm_said(&s.vm));
	ATF_REQUIRE(!is_there(s.mmio, CLEAT_MEMORY, AT));
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	ATF_REQUIRE_STREQ("+slot:feb01000:1000 +kick:feb00010:4=9",
			  vm_said(&s.vm));
	tear_down(&s);
}

/* It waits for its place as it did before. */
CLEAT_TC(refresh__one_that_waits)
{
	struct setting s = { 0 };
	struct cleat_binding *other;

	set_up(&s);
	other = rig_bind(&s.rig, s.mmio, NULL, 1);
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	ATF_REQUIRE_EQ(0, cleat_binding_place(other, AT));
	vm_said(&s.vm);
	ATF_REQUIRE_EQ(0, cleat_binding_refresh(&other, NULL));
	/* And the one that has it keeps it. */
	ATF_REQUIRE_EQ(0, cleat_binding_refresh(&s.binding, NULL));
	ATF_REQUIRE_STREQ("-slot:feb01000 -kick:feb00010:4=9 "
			  "+slot:feb01000:1000 +kick:feb00010:4=9",
			  vm_said(&s.vm));
	cleat_binding_unplace(s.binding);
	ATF_REQUIRE(is_there(s.mmio, CLEAT_MEMORY, AT));
	cleat_mmio_unbind(other);
	ATF_REQUIRE(!is_there(s.mmio, CLEAT_MEMORY, AT));
	tear_down(&s);
}

/* An access that is under way gets its answer; others go on meanwhile. */
CLEAT_TC(refresh__while_accesses_go_on)
{
	struct vcpu vcpu = { .address = AT + 8, .length = 4 };
	struct setting s = { 0 };
	uint32_t value = 0x1234;

	set_up(&s);
	memcpy(s.rig.regs + 8, &value, 4);
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	vcpu.mmio = s.mmio;
	for (unsigned i = 0; i < 50; i++) {
		vcpu_start(&vcpu);
		ATF_REQUIRE_EQ(0, cleat_binding_refresh(&s.binding, NULL));
		ATF_REQUIRE_EQ(0, vcpu_join(&vcpu));
		ATF_REQUIRE_EQ_MSG(value, vcpu.value, "%#llx",
				   (unsigned long long)vcpu.value);
		vcpu.value = 0;
	}
	tear_down(&s);
}

CLEAT_TC(refresh__lost)
{
	struct setting s = { 0 };

	set_up(&s);
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	rig_kill_server(&s.rig);
	REQUIRE_SOON(cleat_device_failure(s.rig.dev, NULL));
	cleat_binding_refresh(&s.binding, NULL);
	ATF_REQUIRE_EQ(0xffffffff, load(s.mmio, AT, 4));
	tear_down(&s);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, place__published_first);
	ATF_TP_ADD_TC(tp, place__unbound_where_it_is);
	ATF_TP_ADD_TC(tp, place__segments_tell);
	ATF_TP_ADD_TC(tp, place__vmm_refuses);
	ATF_TP_ADD_TC(tp, place__slot_not_let_go);
	ATF_TP_ADD_TC(tp, unbind__slot_not_let_go);
	ATF_TP_ADD_TC(tp, unbind__slot_let_go_at_last);
	ATF_TP_ADD_TC(tp, place__not_at_a_page);
	ATF_TP_ADD_TC(tp, place__page_that_can_shrink);
	ATF_TP_ADD_TC(tp, place__read_only_region);
	ATF_TP_ADD_TC(tp, place__ops_of_an_older_vmm);
	ATF_TP_ADD_TC(tp, place__out_of_the_space);
	ATF_TP_ADD_TC(tp, bind__bad_arguments);
	ATF_TP_ADD_TC(tp, bind__file_on_a_disk);
	ATF_TP_ADD_TC(tp, bind__file_too_small);
	ATF_TP_ADD_TC(tp, overlap__the_lower_order_keeps_it);
	ATF_TP_ADD_TC(tp, overlap__chain);
	ATF_TP_ADD_TC(tp, overlap__loser_moves_or_goes);
	ATF_TP_ADD_TC(tp, overlap__slots_out_before_slots_in);
	ATF_TP_ADD_TC(tp, reserve__beats_bindings);
	ATF_TP_ADD_TC(tp, lost__taken_out);
	ATF_TP_ADD_TC(tp, shutdown__taken_out);
	ATF_TP_ADD_TC(tp, fault__file_that_shrank);
	ATF_TP_ADD_TC(tp, fault__file_that_grew_again);
	ATF_TP_ADD_TC(tp, fault__server_that_left);
	ATF_TP_ADD_TC(tp, fault__region_that_moved);
	ATF_TP_ADD_TC(tp, fault__slot_not_let_go);
	ATF_TP_ADD_TC(tp, fault__not_ours);
	ATF_TP_ADD_TC(tp, refresh__where_it_is);
	ATF_TP_ADD_TC(tp, refresh__not_placed);
	ATF_TP_ADD_TC(tp, refresh__one_that_waits);
	ATF_TP_ADD_TC(tp, refresh__while_accesses_go_on);
	ATF_TP_ADD_TC(tp, refresh__lost);
	return atf_no_error();
}
