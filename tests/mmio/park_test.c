/* SPDX-License-Identifier: BSD-2-Clause */
/* vCPUs that are called back out of an access, and come again. */
#include <fcntl.h>
#include <sys/mman.h>

#include "tests/mmio/rig.h"

#define AT 0xfeb00000ull

struct setting {
	struct rig rig;
	struct cleat_mmio *mmio;
	struct cleat_binding *binding;
	struct vcpu vcpu;
};

static void set_up(struct setting *s)
{
	rig_open(&s->rig);
	ATF_REQUIRE_EQ(0, cleat_mmio_create(&s->mmio));
	s->binding = rig_bind(&s->rig, s->mmio, NULL, 0);
	ATF_REQUIRE_EQ(0, cleat_binding_place(s->binding, AT));
	s->vcpu.mmio = s->mmio;
	s->vcpu.address = AT;
	s->vcpu.length = 4;
	ATF_REQUIRE_EQ(0, cleat_cancel_create(&s->vcpu.cancel));
}

static void tear_down(struct setting *s)
{
	cleat_cancel_destroy(s->vcpu.cancel);
	cleat_mmio_unbind(s->binding);
	cleat_mmio_unref(s->mmio);
	rig_close(&s->rig);
}

/* Call the vCPU back out of an access that the server does not answer. */
static void park(struct setting *s)
{
	struct deadline patience;
	unsigned before = atomic_load(&s->rig.reads) +
			  atomic_load(&s->rig.writes);

	atomic_store(&s->rig.hang, true);
	vcpu_start(&s->vcpu);
	REQUIRE_SOON(atomic_load(&s->rig.reads) +
			     atomic_load(&s->rig.writes) > before);
	patience = deadline_in(PATIENCE_MS);
	cleat_cancel_set(s->vcpu.cancel);
	ATF_REQUIRE_EQ(-EINTR, vcpu_join(&s->vcpu));
	/* 100 promised; this machine has other things to do. */
	ATF_REQUIRE(deadline_spent(&patience) < 1000);
}

/* And again, in the same thread as the test's. */
static int again(struct setting *s)
{
	int err;

	cleat_cancel_enter(s->vcpu.cancel);
	err = cleat_mmio_access(s->mmio, CLEAT_MEMORY, s->vcpu.address,
				&s->vcpu.value, s->vcpu.length, s->vcpu.write);
	cleat_cancel_enter(NULL);
	return err;
}

static void answer(struct setting *s)
{
	cleat_cancel_clear(s->vcpu.cancel);
	atomic_store(&s->rig.hang, false);
}

CLEAT_TC(park__load_repeated)
{
	struct setting s = { 0 };
	struct cleat_mmio_stats stats = { .size = sizeof(stats) };

	set_up(&s);
	s.rig.regs[0] = 0x42;
	park(&s);
	ATF_REQUIRE_EQ(0, s.vcpu.value);
	/* Still called back: nothing is sent. */
	ATF_REQUIRE_EQ(-EINTR, again(&s));
	answer(&s);
	ATF_REQUIRE_EQ(0, again(&s));
	ATF_REQUIRE_EQ(0x42, s.vcpu.value);
	ATF_REQUIRE_EQ(1, atomic_load(&s.rig.reads));
	ATF_REQUIRE_EQ(0, cleat_binding_stats(s.binding, &stats));
	ATF_REQUIRE_EQ(2, stats.called_back);
	ATF_REQUIRE_EQ(1, stats.reads[CLEAT_WAY_TRAP]);
	/* It is over: the next one is a new one. */
	ATF_REQUIRE_EQ(0, again(&s));
	ATF_REQUIRE_EQ(2, atomic_load(&s.rig.reads));
	tear_down(&s);
}

CLEAT_TC(park__store_repeated)
{
	struct setting s = { 0 };

	set_up(&s);
	s.vcpu.write = true;
	s.vcpu.value = 0x77;
	park(&s);
	answer(&s);
	ATF_REQUIRE_EQ(0, again(&s));
	ATF_REQUIRE_EQ(1, atomic_load(&s.rig.writes));
	tear_down(&s);
}

CLEAT_TC(park__called_back_before_it_began)
{
	struct setting s = { 0 };

	set_up(&s);
	cleat_cancel_set(s.vcpu.cancel);
	ATF_REQUIRE_EQ(-EINTR, again(&s));
	cleat_cancel_clear(s.vcpu.cancel);
	ATF_REQUIRE_EQ(0, again(&s));
	ATF_REQUIRE_EQ(1, atomic_load(&s.rig.reads));
	tear_down(&s);
}

CLEAT_TC(park__store_of_another_value)
{
	struct setting s = { 0 };

	set_up(&s);
	s.vcpu.write = true;
	s.vcpu.value = 1;
	park(&s);
	answer(&s);
	s.vcpu.value = 2;
	ATF_REQUIRE_EQ(0, again(&s));
	ATF_REQUIRE_EQ(2, atomic_load(&s.rig.writes));
	ATF_REQUIRE_EQ(2, s.rig.regs[0]);
	tear_down(&s);
}

CLEAT_TC(park__another_access_instead)
{
	struct setting s = { 0 };

	set_up(&s);
	s.rig.regs[0] = 1;
	s.rig.regs[4] = 2;
	park(&s);
	answer(&s);
	s.vcpu.address += 4;
	ATF_REQUIRE_EQ(0, again(&s));
	ATF_REQUIRE_EQ(2, s.vcpu.value);
	s.vcpu.address -= 4;
	ATF_REQUIRE_EQ(0, again(&s));
	ATF_REQUIRE_EQ(1, s.vcpu.value);
	ATF_REQUIRE_EQ(3, atomic_load(&s.rig.reads));
	tear_down(&s);
}

CLEAT_TC(park__never_repeated)
{
	struct setting s = { 0 };

	set_up(&s);
	park(&s);
	answer(&s);
	tear_down(&s);
}

CLEAT_TC(park__handle_outlives_everything)
{
	struct setting s = { 0 };

	set_up(&s);
	park(&s);
	answer(&s);
	s.binding = cleat_mmio_unbind(s.binding);
	rig_close(&s.rig);
	s.mmio = cleat_mmio_unref(s.mmio);
	tear_down(&s);
}

/* Unplugged while the vCPU is away: no wait for it, and no stale answer. */
CLEAT_TC(park__repeated_after_shutdown)
{
	struct setting s = { .rig = { .access_ms = 60000 } };
	struct deadline patience;

	set_up(&s);
	s.rig.regs[0] = 0x42;
	park(&s);
	cleat_cancel_clear(s.vcpu.cancel);
	patience = deadline_in(PATIENCE_MS);
	s.binding = cleat_mmio_unbind(s.binding);
	rig_close_device(&s.rig);
	ATF_REQUIRE(deadline_spent(&patience) < 3000);
	ATF_REQUIRE_EQ(0, again(&s));
	ATF_REQUIRE_EQ(0xffffffff, s.vcpu.value);
	ATF_REQUIRE_EQ(-ENOENT, again(&s));
	tear_down(&s);
}

/* The region has been moved meanwhile: the access belongs to where it went. */
CLEAT_TC(park__repeated_after_a_move)
{
	struct setting s = { 0 };

	set_up(&s);
	s.rig.regs[0] = 0x42;
	park(&s);
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT + 0x100000));
	answer(&s);
	ATF_REQUIRE_EQ(0, again(&s));
	ATF_REQUIRE_EQ(0x42, s.vcpu.value);
	ATF_REQUIRE_EQ(1, atomic_load(&s.rig.reads));
	ATF_REQUIRE_EQ(-ENOENT, again(&s));
	tear_down(&s);
}

/* Half of it is a store to a mapped page, which must not be done again. */
CLEAT_TC(park__half_done)
{
	struct setting s = { 0 };
	int fd = memfd(PAGE, F_SEAL_SHRINK);
	uint8_t *page = map_fd(fd, PAGE, PROT_READ | PROT_WRITE);

	s.rig.areas[0] = (struct cleat_server_area){ .length = PAGE, .fd = fd };
	s.rig.num_areas = 1;
	set_up(&s);
	s.vcpu.address = AT + PAGE - 4;
	s.vcpu.length = 8;
	s.vcpu.write = true;
	s.vcpu.value = 0x2222222211111111;
	park(&s);
	ATF_REQUIRE_EQ(0x11, page[PAGE - 4]);
	page[PAGE - 4] = 0x99;
	answer(&s);
	ATF_REQUIRE_EQ(0, again(&s));
	ATF_REQUIRE_EQ(0x99, page[PAGE - 4]);
	ATF_REQUIRE_EQ(0x22, s.rig.regs[PAGE + 3]);
	ATF_REQUIRE_EQ(1, atomic_load(&s.rig.writes));
	tear_down(&s);
	munmap(page, PAGE);
	close(fd);
}

static int called_back_once(void *opaque, uint64_t offset, void *data,
			    unsigned length, bool write)
{
	unsigned *calls = opaque;

	return (*calls)++ ? 0 : -EINTR;
}

/* The same where the other half is served in this process. */
CLEAT_TC(park__half_done_before_a_handler)
{
	struct setting s = { 0 };
	unsigned calls = 0;
	struct cleat_emulated part = { .offset = PAGE,
				       .length = PAGE,
				       .access = called_back_once,
				       .opaque = &calls };
	struct cleat_binding_config config = { .size = sizeof(config),
					       .emulated = &part,
					       .num_emulated = 1 };
	int fd = memfd(PAGE, F_SEAL_SHRINK);
	uint8_t *page = map_fd(fd, PAGE, PROT_READ | PROT_WRITE);

	s.rig.areas[0] = (struct cleat_server_area){ .length = PAGE, .fd = fd };
	s.rig.num_areas = 1;
	set_up(&s);
	cleat_mmio_unbind(s.binding);
	config.device = s.rig.dev;
	ATF_REQUIRE_EQ(0, cleat_mmio_bind(s.mmio, &config, &s.binding, NULL));
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	s.vcpu.address = AT + PAGE - 4;
	s.vcpu.length = 8;
	s.vcpu.write = true;
	s.vcpu.value = 0x2222222211111111;
	ATF_REQUIRE_EQ(-EINTR, again(&s));
	ATF_REQUIRE_EQ(0x11, page[PAGE - 4]);
	page[PAGE - 4] = 0x99;
	ATF_REQUIRE_EQ(0, again(&s));
	ATF_REQUIRE_EQ(0x99, page[PAGE - 4]);
	ATF_REQUIRE_EQ(2, calls);
	tear_down(&s);
	munmap(page, PAGE);
	close(fd);
}

/* The rest of an access that was over a region's end, or moved away. */
CLEAT_TC(park__the_rest_has_moved_away)
{
	struct setting s = { 0 };
	int fd = memfd(PAGE, F_SEAL_SHRINK);

	s.rig.areas[0] = (struct cleat_server_area){ .offset = PAGE,
						     .length = PAGE,
						     .fd = fd };
	s.rig.num_areas = 1;
	set_up(&s);
	memset(s.rig.regs, 0x33, PAGE);
	s.vcpu.address = AT + PAGE - 4;
	s.vcpu.length = 8;
	park(&s);
	cleat_binding_unplace(s.binding);
	answer(&s);
	ATF_REQUIRE_EQ(0, again(&s));
	ATF_REQUIRE_EQ(0xffffffff33333333, s.vcpu.value);
	tear_down(&s);
	close(fd);
}

/* Called back time and again while the answers come. */
CLEAT_TC(park__many_times)
{
	struct setting s = { 0 };
	unsigned called_back = 0;

	set_up(&s);
	for (unsigned i = 0; i < 300; i++) {
		int err;

		s.rig.regs[0] = (uint8_t)i;
		s.vcpu.value = ~0ull;
		cleat_cancel_clear(s.vcpu.cancel);
		vcpu_start(&s.vcpu);
		if (i % 3)
			cleat_cancel_set(s.vcpu.cancel);
		err = vcpu_join(&s.vcpu);
		cleat_cancel_clear(s.vcpu.cancel);
		if (err) {
			ATF_REQUIRE_EQ(-EINTR, err);
			called_back++;
			ATF_REQUIRE_EQ(0, again(&s));
		}
		ATF_REQUIRE_EQ(i & 0xff, s.vcpu.value & 0xff);
		ATF_REQUIRE_EQ(i + 1, atomic_load(&s.rig.reads));
	}
	ATF_REQUIRE(called_back > 0);
	tear_down(&s);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, park__load_repeated);
	ATF_TP_ADD_TC(tp, park__store_repeated);
	ATF_TP_ADD_TC(tp, park__called_back_before_it_began);
	ATF_TP_ADD_TC(tp, park__store_of_another_value);
	ATF_TP_ADD_TC(tp, park__another_access_instead);
	ATF_TP_ADD_TC(tp, park__never_repeated);
	ATF_TP_ADD_TC(tp, park__handle_outlives_everything);
	ATF_TP_ADD_TC(tp, park__repeated_after_shutdown);
	ATF_TP_ADD_TC(tp, park__repeated_after_a_move);
	ATF_TP_ADD_TC(tp, park__half_done);
	ATF_TP_ADD_TC(tp, park__half_done_before_a_handler);
	ATF_TP_ADD_TC(tp, park__the_rest_has_moved_away);
	ATF_TP_ADD_TC(tp, park__many_times);
	return atf_no_error();
}
