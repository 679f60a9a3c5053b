/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page accounting from end to end: one device writes through its mapping and
 * logs by either generation's commands, one writes by message, a vCPU writes
 * under KVM's log, all to random pages. An oracle knows each of them.
 */
#include <cleat/cleat.h>
#include <cleat/server.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "bench/guest.h"
#include "tests/support/support.h"

#define PAGE 4096ull
#define GIB (1ull << 30)
#define ORDERS 1024u
#define MOST 64u /* bytes of one write */

/* --- Memory --------------------------------------------------------------- */

/*
 * 4 GiB that begin and end on no word of a bitmap, at pages of 4, 8 or 16 KiB;
 * what is below is the guest's program.
 */
static const struct {
	uint64_t guest, length;
} layout[] = {
	{ 0x1004000, 0x98000 },
	{ 0x2108000, 0x2ff4000 },
	{ 0x800c000, GIB },
	{ 4 * GIB + 0x4000, 3 * GIB - 0x308c000 },
};
#define RANGES (sizeof(layout) / sizeof(layout[0]))
#define LENGTH (4 * GIB)
/* Only makes bitmaps coarser: nobody writes there. */
#define HUGE_GUEST (64 * GIB)

static uint64_t random_state = 88172645463325252ull;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	return random_state ^= random_state << 17;
}

static unsigned range_of(uint64_t guest)
{
	unsigned i = 0;

	while (guest - layout[i].guest >= layout[i].length)
		ATF_REQUIRE(++i < RANGES);
	return i;
}

/* --- Devices -------------------------------------------------------------- */

/* Written at offset 0 of BAR 0, many at once: store there, now. */
struct order {
	uint64_t guest;
	uint64_t value;
	uint64_t length;
};

struct device {
	struct cleat_server *srv;
	struct script script;
	struct cleat_device *dev;
	struct order orders[ORDERS];
	unsigned num;
};

static int obey(void *opaque, uint32_t index, uint64_t offset, const void *buf,
		size_t count)
{
	struct device *device = opaque;
	uint8_t data[MOST] = { 0 };
	struct order order;
	int err = 0;

	for (size_t at = 0; at < count && !err; at += sizeof(order)) {
		memcpy(&order, (const uint8_t *)buf + at, sizeof(order));
		memcpy(data, &order.value, sizeof(order.value));
		err = cleat_server_dma_write(device->srv, order.guest, data,
					     order.length);
	}
	return err;
}

static int run(void *arg)
{
	return cleat_server_run(((struct device *)arg)->srv);
}

/* It migrates nothing; but only who migrates has DIRTY_PAGES. */
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

static void serve(struct device *device, bool v1, int fd)
{
	const struct cleat_server_config config = { .size = sizeof(config) };
	const struct cleat_server_ops ops = { .size = sizeof(ops),
					      .region_write = obey };
	const struct cleat_server_region bar = {
		.size = sizeof(bar),
		.length = 0x10000,
		.flags = CLEAT_REGION_WRITE,
	};
	const struct cleat_server_migration migration = {
		.size = sizeof(migration),
		.flags = v1 ? CLEAT_SERVER_MIGRATE_V1 : 0,
		.name = "nothing",
		.save = no_state,
		.load = any_state,
		.loaded = loaded,
	};

	ATF_REQUIRE_EQ(0, cleat_server_create(&config, &ops, device,
					      &device->srv, NULL));
	ATF_REQUIRE_EQ(0, cleat_server_add_region(device->srv, &bar, NULL));
	ATF_REQUIRE_EQ(0, cleat_server_add_migration(device->srv, &migration,
						     NULL));
	ATF_REQUIRE_EQ(0, cleat_server_adopt(device->srv, fd, NULL));
	script_start(&device->script, run, device);
}

static void device_make(struct device *device, bool v1, uint32_t flags)
{
	struct cleat_device_config config = { .size = sizeof(config),
					      .flags = flags };
	struct cleat_error why;
	int ends[2];

	peer_pair(ends);
	serve(device, v1, ends[1]);
	config.fd = ends[0];
	ATF_REQUIRE_EQ_MSG(0, cleat_device_open(&config, &device->dev, &why),
			   "%s", why.text);
	close(ends[0]);
}

static void device_end(struct device *device)
{
	cleat_device_unref(device->dev);
	script_end(&device->script);
	cleat_server_destroy(device->srv);
}

/* Done when it returns. */
static int device_flush(struct device *device)
{
	unsigned num = device->num;

	device->num = 0;
	return cleat_region_write(device->dev, 0, 0, device->orders,
				  num * sizeof(device->orders[0]));
}

static int device_store(struct device *device, uint64_t guest, uint64_t value,
			uint64_t length)
{
	device->orders[device->num++] = (struct order){ guest, value, length };
	return device->num == ORDERS ? device_flush(device) : 0;
}

/* --- The oracle ----------------------------------------------------------- */

/**
 * struct world
 * @page:   of the mapped device's log
 * @dirty:  a byte for each page of the file: what may be told, and has to be
 * @wrote:  pages that were dirtied, each once until it is taken
 * @set:    bytes of @dirty that are set
 * @taken:  pages that were told
 */
struct world {
	struct cleat_memory *memory;
	int fd;
	uint8_t *host;
	uint64_t at[RANGES]; /* in the file */
	int huge_fd;
	uint8_t *huge;
	uint64_t huge_length;
	struct device mapped, message;
	struct guest *guest;
	struct guest_op ops[GUEST_OPS_MAX];
	unsigned num_ops;
	uint64_t page;
	uint8_t *dirty;
	uint64_t set, wrote, taken;
};

enum { WROTE = 1, MORE = 2 };

static void *map_file(int fd, uint64_t length)
{
	void *host = mmap(NULL, length, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_NORESERVE, fd, 0);

	ATF_REQUIRE(host != MAP_FAILED);
	return host;
}

static void add(struct world *world, uint64_t guest, uint64_t length, int fd,
		void *host, uint64_t offset)
{
	struct cleat_memory_range range = {
		.size = sizeof(range),
		.rights = CLEAT_READ | CLEAT_WRITE,
		.guest = guest,
		.length = length,
		.host = host,
		.fd = fd,
		.offset = offset,
	};

	ATF_REQUIRE_EQ(0, cleat_memory_add(world->memory, &range));
}

static void add_memory(struct world *world)
{
	uint64_t offset = 0;

	world->fd = memfd(LENGTH, 0);
	world->host = map_file(world->fd, LENGTH);
	ATF_REQUIRE_EQ(0, cleat_memory_create(&world->memory));
	for (unsigned i = 0; i < RANGES; i++) {
		world->at[i] = offset;
		add(world, layout[i].guest, layout[i].length, world->fd,
		    world->host + offset, offset);
		offset += layout[i].length;
	}
	ATF_REQUIRE_EQ(LENGTH, offset);
	world->dirty = calloc(1, LENGTH / PAGE);
	/* 16 GiB fit one bitmap of pages of 4 KiB. */
	world->huge_length = world->page / PAGE * 16 * GIB;
	if (world->page == PAGE)
		return;
	world->huge_fd = memfd(world->huge_length, 0);
	world->huge = map_file(world->huge_fd, world->huge_length);
	add(world, HUGE_GUEST, world->huge_length, world->huge_fd, world->huge,
	    0);
}

static void world_make(struct world *world, bool v1, uint64_t page)
{
	memset(world, 0, sizeof(*world));
	world->page = page;
	add_memory(world);
	device_make(&world->mapped, v1, 0);
	device_make(&world->message, v1, CLEAT_DEVICE_SECURE);
	ATF_REQUIRE_EQ(0, cleat_memory_attach(world->memory,
					      world->mapped.dev));
	ATF_REQUIRE_EQ(0, cleat_memory_attach(world->memory,
					      world->message.dev));
	ATF_REQUIRE_EQ(0, cleat_memory_log_start(world->memory, 0, NULL));
}

static void world_end(struct world *world)
{
	cleat_memory_log_stop(world->memory);
	device_end(&world->mapped);
	device_end(&world->message);
	cleat_memory_unref(world->memory);
	cleat_guest_destroy(world->guest);
	munmap(world->host, LENGTH);
	close(world->fd);
	if (world->huge) {
		munmap(world->huge, world->huge_length);
		close(world->huge_fd);
	}
	free(world->dirty);
}

static void note_page(struct world *world, uint64_t index, uint8_t how)
{
	uint8_t *dirty = &world->dirty[index];

	world->set += !*dirty;
	world->wrote += how == WROTE && !(*dirty & WROTE);
	*dirty |= how;
}

/* A write, and the pages of @page bytes, from the range's start on, it is in. */
static void note(struct world *world, uint64_t guest, uint64_t length,
		 uint64_t page)
{
	unsigned i = range_of(guest);
	uint64_t offset = guest - layout[i].guest;
	uint64_t first = offset / page * page, at;
	uint64_t end = (offset + length - 1) / page * page + page;

	if (end > layout[i].length)
		end = layout[i].length;
	for (at = first; at < end; at += PAGE)
		note_page(world, (world->at[i] + at) / PAGE, MORE);
	for (at = offset / PAGE * PAGE; at < offset + length; at += PAGE)
		note_page(world, (world->at[i] + at) / PAGE, WROTE);
}

static uint64_t anywhere(uint64_t length)
{
	unsigned i = (unsigned)(next_random() % RANGES);

	/* Eight bytes of a vCPU's are in one page. */
	return (layout[i].guest + next_random() % (layout[i].length - length)) &
	       ~7ull;
}

/* --- vCPUs ---------------------------------------------------------------- */

static void set_slots(struct world *world)
{
	for (unsigned i = 0; i < RANGES; i++) {
		struct kvm_userspace_memory_region slot = {
			.slot = i + 1,
			.flags = KVM_MEM_LOG_DIRTY_PAGES,
			.guest_phys_addr = layout[i].guest,
			.memory_size = layout[i].length,
			.userspace_addr = (uintptr_t)world->host +
					  world->at[i],
		};

		ATF_REQUIRE_EQ(0, ioctl(cleat_guest_vm(world->guest),
					KVM_SET_USER_MEMORY_REGION, &slot));
		ATF_REQUIRE_EQ(0, cleat_guest_window(world->guest,
						     layout[i].guest,
						     layout[i].length));
	}
}

static void add_guest(struct world *world, const atf_tc_t *tc)
{
	const struct guest_config config = { .irqchip = GUEST_IRQCHIP_NONE,
					     .cpus = 1 };
	int kvm = kvm_open(tc);

	ATF_REQUIRE_EQ(0, cleat_guest_create(kvm, &config, &world->guest));
	close(kvm);
	set_slots(world);
}

static void vcpu_flush(struct world *world)
{
	ATF_REQUIRE_EQ(0, cleat_guest_run(world->guest, 0, world->ops,
					  world->num_ops, NULL, PATIENCE_MS));
	world->num_ops = 0;
}

static void vcpu_store(struct world *world, uint64_t guest)
{
	world->ops[world->num_ops++] = (struct guest_op){
		.kind = GUEST_STORE,
		.size = 8,
		.address = guest,
		.value = next_random(),
		.count = 1,
	};
	if (world->num_ops == GUEST_OPS_MAX)
		vcpu_flush(world);
}

static void fetch_vcpus(struct world *world)
{
	for (unsigned i = 0; i < RANGES && world->guest; i++) {
		uint64_t words = layout[i].length / PAGE / 64 + 1;
		uint64_t *bitmap = calloc(words, 8);
		struct kvm_dirty_log log = { .slot = i + 1,
					     .dirty_bitmap = bitmap };

		ATF_REQUIRE_EQ(0, ioctl(cleat_guest_vm(world->guest),
					KVM_GET_DIRTY_LOG, &log));
		ATF_REQUIRE_EQ(0, cleat_memory_log_merge(
					  world->memory, layout[i].guest,
					  layout[i].length, PAGE, bitmap));
		free(bitmap);
	}
}

/* --- One after the other -------------------------------------------------- */

static void write_some(struct world *world, unsigned num)
{
	while (num--) {
		uint64_t length = 8 + next_random() % (MOST - 8);
		uint64_t guest = anywhere(MOST);
		unsigned dice = (unsigned)(next_random() % 100);

		if (dice < 20 && world->guest) {
			vcpu_store(world, guest);
			note(world, guest, 8, PAGE);
		} else if (dice < 30) {
			ATF_REQUIRE_EQ(0, device_store(&world->message, guest,
						       num, length));
			note(world, guest, length, PAGE);
		} else {
			ATF_REQUIRE_EQ(0, device_store(&world->mapped, guest,
						       num, length));
			note(world, guest, length, world->page);
		}
	}
	if (world->num_ops)
		vcpu_flush(world);
	ATF_REQUIRE_EQ(0, device_flush(&world->mapped));
	ATF_REQUIRE_EQ(0, device_flush(&world->message));
}

static void found(struct world *world, uint64_t guest, uint64_t length)
{
	unsigned i = range_of(guest);
	uint64_t at = (world->at[i] + guest - layout[i].guest) / PAGE;

	ATF_REQUIRE(guest - layout[i].guest + length <= layout[i].length);
	world->taken += length / PAGE;
	for (uint64_t page = at; page < at + length / PAGE; page++) {
		world->set -= !!world->dirty[page];
		world->dirty[page] = 0;
	}
}

static void take_all(struct world *world)
{
	uint64_t guest = 0, length = 0;

	while (cleat_memory_log_take(world->memory, guest + length, GIB, &guest,
				     &length))
		found(world, guest, length);
}

/* Nobody is to see the pages again; they need not be kept. */
static void forget_pages(struct world *world)
{
	ATF_REQUIRE_EQ(0, fallocate(world->fd,
				    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				    0, (off_t)LENGTH));
}

/*
 * KVM may tell of pages nobody wrote (and so is the only one that may), and
 * larger pages bring their neighbours along.
 */
static void account(struct world *world, unsigned writes)
{
	for (unsigned done = 0; done < writes; done += writes / 10) {
		write_some(world, writes / 10);
		ATF_REQUIRE_EQ(0, cleat_memory_log_fetch(
					  world->memory,
					  done % 3 ? 0 :
						     CLEAT_MEMORY_LOG_FINAL));
		fetch_vcpus(world);
		ATF_REQUIRE(cleat_memory_log_dirty(world->memory) >=
			    world->set * PAGE);
		if (!world->guest)
			ATF_REQUIRE_EQ(world->set * PAGE,
				       cleat_memory_log_dirty(world->memory));
		take_all(world);
		ATF_REQUIRE_EQ_MSG(0, world->set, "%llu pages are missing",
				   (unsigned long long)world->set);
		forget_pages(world);
	}
	if (world->page <= 2 * PAGE)
		ATF_CHECK_MSG(world->taken <= 2 * world->wrote,
			      "%llu pages for %llu",
			      (unsigned long long)world->taken,
			      (unsigned long long)world->wrote);
}

static void account_for(const atf_tc_t *tc, bool with_vcpu, bool v1,
			uint64_t page)
{
	static struct world world;

	if (page > 2 * PAGE)
		skip_on_valgrind("it has no address space for it");
	world_make(&world, v1, page);
	if (with_vcpu)
		add_guest(&world, tc);
	account(&world, on_valgrind() ? 3000 : 250000);
	world_end(&world);
}

/* A million writes in these four. */
CLEAT_TC(account__second_generation)
{
	account_for(tc, true, false, PAGE);
}

CLEAT_TC(account__first_generation)
{
	account_for(tc, true, true, PAGE);
}

CLEAT_TC(account__pages_of_8_kib)
{
	account_for(tc, true, false, 2 * PAGE);
}

CLEAT_TC(account__pages_of_16_kib)
{
	account_for(tc, true, true, 4 * PAGE);
}

/* Where there is no KVM: all but the vCPU, and then not a page too many. */
CLEAT_TC(account__without_vcpus)
{
	account_for(tc, false, false, PAGE);
}

/* --- All at once ---------------------------------------------------------- */

#define HOT 2000u
#define STORES 100000u

/**
 * struct writer - a device that writes while pages are copied
 * @hot: where
 */
struct writer {
	struct device *device;
	const uint64_t *hot;
	struct script script;
	bool done;
};

static int keep_writing(void *arg)
{
	struct writer *writer = arg;
	uint64_t value = 1;
	int err = 0;

	while (value <= STORES && !err) {
		value++;
		err = device_store(writer->device,
				   writer->hot[value * 7919 % HOT], value, 8);
	}
	if (!err)
		err = device_flush(writer->device);
	__atomic_store_n(&writer->done, true, __ATOMIC_RELEASE);
	return err;
}

/* The bits first, then the pages: what comes meanwhile is there again. */
static void copy_some(struct world *world, uint8_t *copy)
{
	uint64_t guest = 0, length = 0;

	ATF_REQUIRE_EQ(0, cleat_memory_log_fetch(world->memory, 0));
	while (cleat_memory_log_take(world->memory, guest + length, 16 * PAGE,
				     &guest, &length)) {
		unsigned i = range_of(guest);
		uint64_t at = world->at[i] + guest - layout[i].guest;

		ATF_REQUIRE_EQ((ssize_t)length, pread(world->fd, copy + at,
						      length, (off_t)at));
		world->taken += length / PAGE;
	}
}

static void compare(struct world *world, const uint64_t *hot,
		    const uint8_t *copy)
{
	for (unsigned n = 0; n < HOT; n++) {
		unsigned i = range_of(hot[n]);
		uint64_t at = world->at[i] + hot[n] - layout[i].guest;

		ATF_REQUIRE_MSG(!memcmp(world->host + at, copy + at, 8),
				"%#llx was not copied at last",
				(unsigned long long)hot[n]);
	}
}

CLEAT_TC(account__while_pages_are_copied)
{
	static uint64_t hot[2][HOT];
	static struct world world;
	struct writer writers[2] = { { &world.mapped, hot[0] },
				     { &world.message, hot[1] } };
	uint8_t *copy = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			     0);

	ATF_REQUIRE(copy != MAP_FAILED);
	for (unsigned i = 0; i < 2 * HOT; i++)
		hot[i / HOT][i % HOT] = anywhere(8);
	world_make(&world, false, PAGE);
	for (unsigned i = 0; i < 2; i++)
		script_start(&writers[i].script, keep_writing, &writers[i]);
	while (!__atomic_load_n(&writers[0].done, __ATOMIC_ACQUIRE) ||
	       !__atomic_load_n(&writers[1].done, __ATOMIC_ACQUIRE))
		copy_some(&world, copy);
	script_end(&writers[0].script);
	script_end(&writers[1].script);
	copy_some(&world, copy);
	compare(&world, hot[0], copy);
	compare(&world, hot[1], copy);
	munmap(copy, LENGTH);
	world_end(&world);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, account__second_generation);
	ATF_TP_ADD_TC(tp, account__first_generation);
	ATF_TP_ADD_TC(tp, account__pages_of_8_kib);
	ATF_TP_ADD_TC(tp, account__pages_of_16_kib);
	ATF_TP_ADD_TC(tp, account__without_vcpus);
	ATF_TP_ADD_TC(tp, account__while_pages_are_copied);
	return atf_no_error();
}
