/* SPDX-License-Identifier: BSD-2-Clause */
/* Where an access goes, and what comes back. */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "tests/mmio/rig.h"

#define AT 0xfeb00000ull

/* A device in a VM, placed at AT. */
struct setting {
	struct rig rig;
	struct cleat_mmio *mmio;
	struct cleat_binding *binding;
	int page_fd;
	uint8_t *page; /* as the server sees it */
	int kick_fd[2];
};

static void set_up(struct setting *s)
{
	rig_open(&s->rig);
	ATF_REQUIRE_EQ(0, cleat_mmio_create(&s->mmio));
	s->binding = rig_bind(&s->rig, s->mmio, NULL, 0);
	ATF_REQUIRE_EQ(0, cleat_binding_place(s->binding, AT));
}

static void tear_down(struct setting *s)
{
	s->binding = cleat_mmio_unbind(s->binding);
	s->mmio = cleat_mmio_unref(s->mmio);
	rig_close(&s->rig);
	if (s->page) {
		munmap(s->page, PAGE);
		close(s->page_fd);
	}
	for (unsigned i = 0; i < 2; i++)
		if (s->kick_fd[i])
			close(s->kick_fd[i]);
}

/* A file of one page, offered for the region's second. */
static void offer_page(struct setting *s, unsigned seals)
{
	s->page_fd = memfd(PAGE, seals);
	s->page = map_fd(s->page_fd, PAGE, PROT_READ | PROT_WRITE);
	s->rig.areas[0] = (struct cleat_server_area){
		.offset = PAGE, .length = PAGE, .fd = s->page_fd
	};
	s->rig.num_areas = 1;
}

/* For its first one, which an access finds without the binding. */
static void offer_first_page(struct setting *s)
{
	offer_page(s, F_SEAL_SHRINK);
	s->rig.areas[0].offset = 0;
}

static void offer_kick(struct setting *s, unsigned i, uint64_t offset,
		       uint64_t length, const uint64_t *match)
{
	s->kick_fd[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->rig.io[s->rig.num_io++] = (struct cleat_server_io_fd){
		.offset = offset,
		.length = length,
		.type = CLEAT_IO_FD_IOEVENTFD,
		.flags = match ? CLEAT_IO_FD_DATAMATCH : 0,
		.fd = s->kick_fd[i],
		.datamatch = match ? *match : 0,
	};
}

static uint64_t kicks(struct setting *s, unsigned i)
{
	uint64_t count = 0;

	if (read(s->kick_fd[i], &count, sizeof(count)) != sizeof(count))
		return 0;
	return count;
}

static struct cleat_mmio_stats stats_of(struct setting *s)
{
	struct cleat_mmio_stats stats = { .size = sizeof(stats) };

	ATF_REQUIRE_EQ(0, cleat_binding_stats(s->binding, &stats));
	return stats;
}

/* --- By message -------------------------------------------------------------- */

static uint64_t low_bytes(uint64_t value, unsigned length)
{
	return length < 8 ? value & ((1ull << 8 * length) - 1) : value;
}

CLEAT_TC(access__by_message)
{
	const uint64_t value = 0x1122334455667788;
	struct setting s = { 0 };
	struct cleat_mmio_stats stats;
	uint64_t waits = 0;

	set_up(&s);
	for (unsigned length = 1; length <= 8; length *= 2) {
		memset(s.rig.regs, 0, sizeof(s.rig.regs));
		store(s.mmio, AT + 0x10, value, length);
		ATF_REQUIRE_EQ(0, memcmp(s.rig.regs + 0x10, &value, length));
		ATF_REQUIRE_EQ(0, s.rig.regs[0x10 + length]);
		ATF_REQUIRE_EQ(length, atomic_load(&s.rig.last_count));
		ATF_REQUIRE_EQ(0x10, atomic_load(&s.rig.last_offset));
		ATF_REQUIRE_EQ(low_bytes(value, length),
			       load(s.mmio, AT + 0x10, length));
	}
	stats = stats_of(&s);
	ATF_REQUIRE_EQ(4, stats.reads[CLEAT_WAY_TRAP]);
	ATF_REQUIRE_EQ(4, stats.writes[CLEAT_WAY_TRAP]);
	for (unsigned i = 0; i < CLEAT_MMIO_BUCKETS; i++)
		waits += stats.wait_ns[i];
	ATF_REQUIRE_EQ(8, waits);
	ATF_REQUIRE(stats.wait_worst_ns > 0);
	ATF_REQUIRE_EQ(0, stats.failed);
	tear_down(&s);
}

/* Lengths that the emulator makes at a page's end, and that no server knows. */
CLEAT_TC(access__odd_lengths)
{
	struct setting s = { 0 };

	set_up(&s);
	store(s.mmio, AT + 1, 0x776655, 3);
	ATF_REQUIRE_EQ(0, memcmp(s.rig.regs + 1, "\x55\x66\x77", 4));
	ATF_REQUIRE_EQ(2, atomic_load(&s.rig.writes));
	ATF_REQUIRE_EQ(0x776655, load(s.mmio, AT + 1, 3));
	ATF_REQUIRE_EQ(0x77665500, load(s.mmio, AT, 7));
	ATF_REQUIRE_EQ(5, atomic_load(&s.rig.reads));
	tear_down(&s);
}

CLEAT_TC(access__nobody)
{
	struct setting s = { 0 };
	uint8_t data[16] = { 42 };

	set_up(&s);
	ATF_REQUIRE_EQ(-ENOENT, cleat_mmio_access(s.mmio, CLEAT_MEMORY, AT - 1,
						  data, 8, false));
	ATF_REQUIRE_EQ(-ENOENT, cleat_mmio_access(s.mmio, CLEAT_MEMORY,
						  AT + BAR, data, 1, true));
	ATF_REQUIRE_EQ(-ENOENT, cleat_mmio_access(s.mmio, CLEAT_PORTS, 0x80,
						  data, 1, false));
	ATF_REQUIRE_EQ(42, data[0]);
	ATF_REQUIRE_EQ(-EINVAL, cleat_mmio_access(s.mmio, CLEAT_MEMORY, AT,
						  data, 0, false));
	ATF_REQUIRE_EQ(-EINVAL, cleat_mmio_access(s.mmio, CLEAT_MEMORY, AT,
						  data, 9, false));
	ATF_REQUIRE_EQ(-EINVAL, cleat_mmio_access(s.mmio, (enum cleat_space)2,
						  AT, data, 8, false));
	ATF_REQUIRE_EQ(0, atomic_load(&s.rig.reads));
	tear_down(&s);
}

CLEAT_TC(access__over_the_end)
{
	struct setting s = { 0 };

	set_up(&s);
	memset(s.rig.regs + BAR - 4, 0x5a, 4);
	ATF_REQUIRE_EQ(0xffffffff5a5a5a5a, load(s.mmio, AT + BAR - 4, 8));
	store(s.mmio, AT + BAR - 4, 0x1111111122222222, 8);
	ATF_REQUIRE_EQ(0x22222222, load(s.mmio, AT + BAR - 4, 4));
	ATF_REQUIRE_EQ(2, stats_of(&s).failed);
	tear_down(&s);
}

CLEAT_TC(access__server_refuses)
{
	struct setting s = { 0 };

	set_up(&s);
	atomic_store(&s.rig.refuse, -EIO);
	ATF_REQUIRE_EQ(0xffffffff, load(s.mmio, AT, 4));
	store(s.mmio, AT, 1, 4);
	ATF_REQUIRE_EQ(2, stats_of(&s).failed);
	atomic_store(&s.rig.refuse, 0);
	ATF_REQUIRE_EQ(1, load(s.mmio, AT, 4));
	tear_down(&s);
}

CLEAT_TC(access__no_such_right)
{
	struct setting s = { .rig = { .flags = CLEAT_REGION_READ } };

	set_up(&s);
	store(s.mmio, AT, 1, 4);
	ATF_REQUIRE_EQ(0, load(s.mmio, AT, 4));
	ATF_REQUIRE_EQ(0, atomic_load(&s.rig.writes));
	tear_down(&s);
}

CLEAT_TC(access__no_answer)
{
	struct setting s = { .rig = { .access_ms = 50 } };
	struct deadline patience;

	set_up(&s);
	s.rig.regs[0] = 1;
	atomic_store(&s.rig.hang, true);
	patience = deadline_in(PATIENCE_MS);
	ATF_REQUIRE_EQ(0xff, load(s.mmio, AT, 1));
	ATF_REQUIRE(deadline_spent(&patience) >= 45);
	ATF_REQUIRE(deadline_spent(&patience) < 3000);
	atomic_store(&s.rig.hang, false);
	/* The late reply is not taken for the next one's. */
	ATF_REQUIRE_EQ(0, load(s.mmio, AT + 1, 1));
	ATF_REQUIRE_EQ(1, load(s.mmio, AT, 1));
	tear_down(&s);
}

/* --- By the vCPU thread ------------------------------------------------------ */

CLEAT_TC(access__mapped_page)
{
	struct setting s = { 0 };
	uint64_t messages;

	offer_page(&s, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	set_up(&s);
	messages = rig_messages(&s.rig);
	for (unsigned length = 1; length <= 8; length++) {
		memset(s.page, 0xee, 32);
		store(s.mmio, AT + PAGE + 7, 0x0807060504030201, length);
		ATF_REQUIRE_EQ(0, memcmp(s.page + 7, "\1\2\3\4\5\6\7\10",
					 length));
		ATF_REQUIRE_EQ(0xee, s.page[6]);
		ATF_REQUIRE_EQ(0xee, s.page[7 + length]);
		ATF_REQUIRE_EQ(low_bytes(0x0807060504030201, length),
			       load(s.mmio, AT + PAGE + 7, length));
	}
	ATF_REQUIRE_EQ(messages, rig_messages(&s.rig));
	ATF_REQUIRE_EQ(8, stats_of(&s).reads[CLEAT_WAY_MAP]);
	tear_down(&s);
}

CLEAT_TC(access__first_page)
{
	struct setting s = { 0 };
	uint64_t messages, value = 0x0807060504030201;

	offer_first_page(&s);
	set_up(&s);
	messages = rig_messages(&s.rig);
	for (unsigned length = 1; length <= 8; length++) {
		for (unsigned at = PAGE - 16; at <= PAGE - length; at++) {
			memset(s.page + PAGE - 24, 0xee, 24);
			store(s.mmio, AT + at, value, length);
			ATF_REQUIRE_EQ(0, memcmp(s.page + at, &value, length));
			ATF_REQUIRE_EQ(0xee, s.page[at - 1]);
			if (at + length < PAGE)
				ATF_REQUIRE_EQ(0xee, s.page[at + length]);
			ATF_REQUIRE_EQ(low_bytes(value, length),
				       load(s.mmio, AT + at, length));
		}
	}
	ATF_REQUIRE_EQ(messages, rig_messages(&s.rig));
	ATF_CHECK_EQ(100, stats_of(&s).reads[CLEAT_WAY_MAP]);
	ATF_CHECK_EQ(100, stats_of(&s).writes[CLEAT_WAY_MAP]);
	/* Beyond it, and over its end. */
	store(s.mmio, AT + PAGE - 2, 0x99887766, 4);
	ATF_CHECK_EQ(0x77, s.page[PAGE - 1]);
	ATF_CHECK_EQ(0x88, s.rig.regs[PAGE]);
	ATF_CHECK_EQ(0x9988, load(s.mmio, AT + PAGE, 2));
	ATF_CHECK_EQ(0, stats_of(&s).failed);
	tear_down(&s);
}

/* What is stored there kicks; what is before and behind it does not. */
CLEAT_TC(access__first_page_with_a_kick)
{
	struct setting s = { 0 };

	offer_first_page(&s);
	offer_kick(&s, 0, 0x100, 4, NULL);
	set_up(&s);
	store(s.mmio, AT + 0xfc, 1, 4);
	store(s.mmio, AT + 0x104, 2, 4);
	ATF_CHECK_EQ(0, kicks(&s, 0));
	store(s.mmio, AT + 0x100, 3, 4);
	ATF_CHECK_EQ(1, kicks(&s, 0));
	ATF_CHECK_EQ(0, memcmp(s.page + 0xfc, "\1\0\0\0\0\0\0\0\2", 9));
	/* A load has nothing to do with it. */
	ATF_CHECK_EQ(1, load(s.mmio, AT + 0xfc, 4));
	ATF_CHECK_EQ(2, load(s.mmio, AT + 0x104, 4));
	tear_down(&s);
}

CLEAT_TC(access__first_page_lost)
{
	struct setting s = { 0 };

	offer_first_page(&s);
	set_up(&s);
	memset(s.page, 0x11, 8);
	ATF_REQUIRE_EQ(0x11, load(s.mmio, AT, 1));
	rig_kill_server(&s.rig);
	REQUIRE_SOON(load(s.mmio, AT, 4) == 0xffffffff);
	store(s.mmio, AT, 0, 8);
	ATF_CHECK_EQ(0x11, s.page[0]);
	/* Placed anew it is still lost. */
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT + BAR));
	ATF_CHECK_EQ(UINT64_MAX, load(s.mmio, AT + BAR, 8));
	tear_down(&s);
}

/* --- By many threads --------------------------------------------------------- */

struct storm {
	struct cleat_mmio *mmio;
	uint64_t address;
	atomic_bool over;
	atomic_uint stores;
};

static void *store_on(void *arg)
{
	struct storm *storm = arg;
	uint32_t value = 1;
	int err = 0;

	/* Nobody is there for a moment when it moves. */
	while (!atomic_load(&storm->over) && (!err || err == -ENOENT)) {
		err = cleat_mmio_access(storm->mmio, CLEAT_MEMORY,
					storm->address, &value, 4, true);
		atomic_fetch_add(&storm->stores, !err);
	}
	return NULL;
}

/* New ones come and old ones go, more than have a stripe to themselves. */
CLEAT_TC(count__of_many_threads)
{
	enum { THREADS = 80, ROUNDS = 3 };
	pthread_t threads[THREADS];
	struct setting s = { 0 };
	struct storm storm;

	offer_first_page(&s);
	set_up(&s);
	storm = (struct storm){ .mmio = s.mmio, .address = AT };
	for (unsigned round = 1; round <= ROUNDS; round++) {
		atomic_store(&storm.over, false);
		for (unsigned i = 0; i < THREADS; i++)
			ATF_REQUIRE_EQ(0, pthread_create(&threads[i], NULL,
							 store_on, &storm));
		REQUIRE_SOON(atomic_load(&storm.stores) > round * 20000);
		atomic_store(&storm.over, true);
		for (unsigned i = 0; i < THREADS; i++)
			pthread_join(threads[i], NULL);
		ATF_REQUIRE_EQ(atomic_load(&storm.stores),
			       stats_of(&s).writes[CLEAT_WAY_MAP]);
	}
	tear_down(&s);
}

/* A page is unmapped only when nobody is on the way to it. */
CLEAT_TC(refresh__while_stores_go_on)
{
	pthread_t threads[2];
	struct setting s = { 0 };
	struct storm storm;

	offer_first_page(&s);
	set_up(&s);
	storm = (struct storm){ .mmio = s.mmio, .address = AT };
	for (unsigned i = 0; i < 2; i++)
		ATF_REQUIRE_EQ(0, pthread_create(&threads[i], NULL, store_on,
						 &storm));
	for (unsigned i = 0; i < 200; i++) {
		ATF_REQUIRE_EQ(0, cleat_binding_refresh(&s.binding, NULL));
		/* Placed anew, it is found without the binding again. */
		cleat_binding_unplace(s.binding);
		ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	}
	atomic_store(&storm.over, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	ATF_CHECK(atomic_load(&storm.stores) > 0);
	s.page[0] = 0;
	store(s.mmio, AT, 7, 4);
	ATF_CHECK_EQ(7, s.page[0]);
	tear_down(&s);
}

CLEAT_TC(access__over_a_pages_edge)
{
	struct setting s = { 0 };

	offer_page(&s, F_SEAL_SHRINK);
	set_up(&s);
	memset(s.rig.regs + PAGE - 4, 0x11, 8);
	memset(s.page, 0x22, 8);
	memset(s.rig.regs + 2 * PAGE, 0x33, 8);
	memset(s.page + PAGE - 8, 0x44, 8);
	ATF_REQUIRE_EQ(0x2222222211111111, load(s.mmio, AT + PAGE - 4, 8));
	ATF_REQUIRE_EQ(4, atomic_load(&s.rig.last_count));
	ATF_REQUIRE_EQ(0x3333334444444444,
		       load(s.mmio, AT + 2 * PAGE - 5, 8));
	store(s.mmio, AT + PAGE - 2, 0x99887766, 4);
	ATF_REQUIRE_EQ(0x77, s.rig.regs[PAGE - 1]);
	ATF_REQUIRE_EQ(0x88, s.page[0]);
	tear_down(&s);
}

/* Loads of ours would die of SIGBUS where the file has become short. */
CLEAT_TC(access__file_that_shrinks)
{
	struct setting s = { 0 };

	offer_page(&s, 0);
	set_up(&s);
	s.rig.regs[PAGE] = 0x12;
	s.page[0] = 0x34;
	ATF_REQUIRE_EQ(0x12, load(s.mmio, AT + PAGE, 1));
	ATF_REQUIRE_EQ(0, ftruncate(s.page_fd, 0));
	ATF_REQUIRE_EQ(0x12, load(s.mmio, AT + PAGE, 1));
	store(s.mmio, AT + PAGE, 0x56, 1);
	ATF_REQUIRE_EQ(0x56, s.rig.regs[PAGE]);
	tear_down(&s);
}

CLEAT_TC(access__kicked_by_us)
{
	const uint64_t value = 7;
	struct setting s = { 0 };

	offer_kick(&s, 0, 0x100, 4, &value);
	offer_kick(&s, 1, 0x108, 0, NULL);
	set_up(&s);
	store(s.mmio, AT + 0x100, 7, 4);
	ATF_REQUIRE_EQ(1, kicks(&s, 0));
	ATF_REQUIRE_EQ(0, atomic_load(&s.rig.writes));
	/* Another value, another length, another address: by message. */
	store(s.mmio, AT + 0x100, 8, 4);
	store(s.mmio, AT + 0x100, 7, 2);
	store(s.mmio, AT + 0x101, 7, 4);
	ATF_REQUIRE_EQ(0, kicks(&s, 0));
	ATF_REQUIRE_EQ(3, atomic_load(&s.rig.writes));
	for (unsigned length = 1; length <= 8; length++)
		store(s.mmio, AT + 0x108, ~0ull, length);
	ATF_REQUIRE_EQ(8, kicks(&s, 1));
	store(s.mmio, AT + 0x10c, 1, 4);
	ATF_REQUIRE_EQ(0, kicks(&s, 1));
	ATF_REQUIRE_EQ(4, atomic_load(&s.rig.writes));
	/* A load has nothing to do with it, and goes as one message. */
	ATF_REQUIRE_EQ(0, load(s.mmio, AT + 0xfc, 8) >> 56);
	ATF_REQUIRE_EQ(1, atomic_load(&s.rig.reads));
	ATF_REQUIRE_EQ(9, stats_of(&s).writes[CLEAT_WAY_IOEVENTFD]);
	tear_down(&s);
}

CLEAT_TC(access__shadow_doorbell)
{
	struct setting s = { 0 };
	uint64_t messages;

	offer_page(&s, F_SEAL_SHRINK);
	s.rig.num_areas = 0;
	offer_kick(&s, 0, 0x100, 8, NULL);
	s.rig.io[0].type = CLEAT_IO_FD_SHADOW;
	s.rig.io[0].shadow_fd = s.page_fd;
	s.rig.io[0].shadow_offset = 0x20;
	set_up(&s);
	messages = rig_messages(&s.rig);
	store(s.mmio, AT + 0x104, 0xabcd, 4);
	store(s.mmio, AT + 0x100, 0x1234, 2);
	ATF_REQUIRE_EQ(0, memcmp(s.page + 0x20, "\x34\x12\0\0\xcd\xab\0\0", 8));
	ATF_REQUIRE_EQ(2, kicks(&s, 0));
	ATF_REQUIRE_EQ(messages, rig_messages(&s.rig));
	ATF_REQUIRE_EQ(2, stats_of(&s).writes[CLEAT_WAY_SHADOW]);
	/* A load goes to the server. */
	s.rig.regs[0x100] = 9;
	ATF_REQUIRE_EQ(9, load(s.mmio, AT + 0x100, 1));
	tear_down(&s);
}

/* A server that never reads its eventfd, and has made it block. */
CLEAT_TC(access__full_eventfd)
{
	const uint64_t full = UINT64_MAX - 1;
	struct setting s = { 0 };
	struct deadline patience;

	offer_kick(&s, 0, 0x100, 4, NULL);
	set_up(&s);
	ATF_REQUIRE_EQ(8, write(s.kick_fd[0], &full, 8));
	/* It does not block yet. */
	store(s.mmio, AT + 0x100, 1, 4);
	ATF_REQUIRE_EQ(0, fcntl(s.kick_fd[0], F_SETFL, 0));
	patience = deadline_in(PATIENCE_MS);
	store(s.mmio, AT + 0x100, 1, 4);
	ATF_REQUIRE(deadline_spent(&patience) < 2000);
	ATF_REQUIRE_EQ(full, kicks(&s, 0));
	store(s.mmio, AT + 0x100, 1, 4);
	ATF_REQUIRE_EQ(1, kicks(&s, 0));
	tear_down(&s);
}

static int emulate(void *opaque, uint64_t offset, void *data, unsigned length,
		   bool write)
{
	uint8_t *registers = opaque;

	if (write)
		memcpy(registers + offset, data, length);
	else
		memcpy(data, registers + offset, length);
	return 0;
}

CLEAT_TC(access__emulated_part)
{
	uint8_t first[8] = { 1 }, second[8] = { 2 };
	const struct cleat_emulated parts[] = {
		{ PAGE + 0x100, 8, emulate, second },
		{ PAGE, 8, emulate, first },
	};
	struct cleat_binding_config config = {
		.size = sizeof(config),
		.emulated = parts,
		.num_emulated = 2,
	};
	struct setting s = { 0 };

	offer_page(&s, F_SEAL_SHRINK);
	set_up(&s);
	cleat_mmio_unbind(s.binding);
	config.device = s.rig.dev;
	ATF_REQUIRE_EQ(0, cleat_mmio_bind(s.mmio, &config, &s.binding, NULL));
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	memset(s.page, 0x77, PAGE);
	ATF_REQUIRE_EQ(1, load(s.mmio, AT + PAGE, 8));
	ATF_REQUIRE_EQ(2, load(s.mmio, AT + PAGE + 0x100, 1));
	store(s.mmio, AT + PAGE + 0x106, 0xbbbbbbbb, 4);
	ATF_REQUIRE_EQ(0xbb, second[7]);
	ATF_REQUIRE_EQ(0xbb, s.page[0x108]);
	ATF_REQUIRE_EQ(0x77, s.page[0x100]);
	ATF_REQUIRE_EQ(0, atomic_load(&s.rig.writes));
	tear_down(&s);
}

/* --- Devices that go ----------------------------------------------------------- */

CLEAT_TC(access__lost_device)
{
	struct setting s = { 0 };
	struct cleat_segment seg;

	offer_page(&s, F_SEAL_SHRINK);
	set_up(&s);
	memset(s.page, 0x11, 8);
	ATF_REQUIRE_EQ(0x11, load(s.mmio, AT + PAGE, 1));
	rig_kill_server(&s.rig);
	REQUIRE_SOON(load(s.mmio, AT + PAGE, 4) == 0xffffffff);
	store(s.mmio, AT + PAGE, 0, 8);
	ATF_REQUIRE_EQ(0x11, s.page[0]);
	ATF_REQUIRE_EQ(UINT64_MAX, load(s.mmio, AT, 8));
	REQUIRE_SOON(!cleat_binding_segment(s.binding, 1, &seg) &&
		     seg.read_way == CLEAT_WAY_TRAP);
	ATF_REQUIRE_STREQ("the device is lost", seg.why);
	tear_down(&s);
}

CLEAT_TC(access__while_another_device_hangs)
{
	struct setting s = { 0 };
	struct rig hung = { .access_ms = 3000 };
	struct cleat_binding *binding;
	struct vcpu vcpu = { .address = AT + 0x100000, .length = 4 };
	struct deadline patience;

	set_up(&s);
	rig_open(&hung);
	binding = rig_bind(&hung, s.mmio, NULL, 0);
	ATF_REQUIRE_EQ(0, cleat_binding_place(binding, AT + 0x100000));
	atomic_store(&hung.hang, true);
	vcpu.mmio = s.mmio;
	vcpu_start(&vcpu);
	REQUIRE_SOON(atomic_load(&hung.hung) == 1);
	patience = deadline_in(PATIENCE_MS);
	for (unsigned i = 0; i < 20; i++) {
		store(s.mmio, AT, i, 4);
		cleat_binding_unplace(s.binding);
		ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
		ATF_REQUIRE_EQ(i, load(s.mmio, AT, 4));
	}
	/* Even the hung one's own region can be moved. */
	ATF_REQUIRE_EQ(0, cleat_binding_place(binding, AT + 0x200000));
	ATF_REQUIRE(deadline_spent(&patience) < 2000);
	ATF_REQUIRE_EQ(1, atomic_load(&hung.hung));
	atomic_store(&hung.hang, false);
	ATF_REQUIRE_EQ(0, vcpu_join(&vcpu));
	ATF_REQUIRE_EQ(0, vcpu.value);
	cleat_mmio_unbind(binding);
	rig_close(&hung);
	tear_down(&s);
}

CLEAT_TC(unbind__while_the_server_hangs)
{
	struct setting s = { .rig = { .access_ms = 60000 } };
	struct vcpu vcpus[3];
	struct deadline patience;

	set_up(&s);
	atomic_store(&s.rig.hang, true);
	for (unsigned i = 0; i < 3; i++) {
		vcpus[i] = (struct vcpu){ .mmio = s.mmio,
					  .address = AT,
					  .length = 4 };
		vcpu_start(&vcpus[i]);
	}
	REQUIRE_SOON(rig_messages(&s.rig) >= 3 &&
		     atomic_load(&s.rig.hung) == 1);
	patience = deadline_in(PATIENCE_MS);
	s.binding = cleat_mmio_unbind(s.binding);
	ATF_REQUIRE(deadline_spent(&patience) < 3000);
	for (unsigned i = 0; i < 3; i++) {
		int err = vcpu_join(&vcpus[i]);

		ATF_REQUIRE(err == 0 || err == -ENOENT);
		ATF_REQUIRE(err || vcpus[i].value == 0xffffffff);
	}
	atomic_store(&s.rig.hang, false);
	tear_down(&s);
}

CLEAT_TC(shutdown__while_the_server_hangs)
{
	struct setting s = { .rig = { .access_ms = 60000 } };
	struct vcpu vcpu = { .address = AT, .length = 4 };
	struct deadline patience;

	set_up(&s);
	atomic_store(&s.rig.hang, true);
	vcpu.mmio = s.mmio;
	vcpu_start(&vcpu);
	REQUIRE_SOON(atomic_load(&s.rig.hung) == 1);
	patience = deadline_in(PATIENCE_MS);
	rig_close_device(&s.rig);
	ATF_REQUIRE(deadline_spent(&patience) < 3000);
	ATF_REQUIRE_EQ(0, vcpu_join(&vcpu));
	ATF_REQUIRE_EQ(0xffffffff, vcpu.value);
	/* What is left is a binding that is nowhere. */
	ATF_REQUIRE(!is_there(s.mmio, CLEAT_MEMORY, AT));
	ATF_REQUIRE_EQ(0, cleat_binding_place(s.binding, AT));
	ATF_REQUIRE(!is_there(s.mmio, CLEAT_MEMORY, AT));
	tear_down(&s);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, access__by_message);
	ATF_TP_ADD_TC(tp, access__odd_lengths);
	ATF_TP_ADD_TC(tp, access__nobody);
	ATF_TP_ADD_TC(tp, access__over_the_end);
	ATF_TP_ADD_TC(tp, access__server_refuses);
	ATF_TP_ADD_TC(tp, access__no_such_right);
	ATF_TP_ADD_TC(tp, access__no_answer);
	ATF_TP_ADD_TC(tp, access__mapped_page);
	ATF_TP_ADD_TC(tp, access__first_page);
	ATF_TP_ADD_TC(tp, access__first_page_with_a_kick);
	ATF_TP_ADD_TC(tp, access__first_page_lost);
	ATF_TP_ADD_TC(tp, count__of_many_threads);
	ATF_TP_ADD_TC(tp, refresh__while_stores_go_on);
	ATF_TP_ADD_TC(tp, access__over_a_pages_edge);
	ATF_TP_ADD_TC(tp, access__file_that_shrinks);
	ATF_TP_ADD_TC(tp, access__kicked_by_us);
	ATF_TP_ADD_TC(tp, access__shadow_doorbell);
	ATF_TP_ADD_TC(tp, access__full_eventfd);
	ATF_TP_ADD_TC(tp, access__emulated_part);
	ATF_TP_ADD_TC(tp, access__lost_device);
	ATF_TP_ADD_TC(tp, access__while_another_device_hangs);
	ATF_TP_ADD_TC(tp, unbind__while_the_server_hangs);
	ATF_TP_ADD_TC(tp, shutdown__while_the_server_hangs);
	return atf_no_error();
}
