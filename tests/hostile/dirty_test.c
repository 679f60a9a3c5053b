/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a server says of the pages it wrote: true, wrong or nothing at all. What
 * cannot be believed makes the whole range dirty, never less.
 */
#include <linux/vfio.h>
#include <sys/mman.h>

#include "tests/hostile/scene.h"

#define PAGE 4096u
#define PAGES 100u
#define LENGTH (PAGES * PAGE)
#define GUEST 0x203000u
#define BYTES 16u
#define EVERYTHING (PAGES * PAGE)

struct question {
	struct cleat_wire_dma_unmap unmap;
	struct cleat_wire_bitmap bitmap;
};

struct tell {
	struct question words;
	uint64_t bits[512];
};

/**
 * struct liar - what the hostile server says
 * @feature: it logs by the second generation's commands
 * @size:    bytes of the reply to DMA_UNMAP; 0: as it should be
 * @error:   instead of one
 * @always:  and to a DMA_UNMAP that does not ask
 * @change:  what is wrong with it
 * @asked, @plain: DMA_UNMAPs so far that asked for a bitmap, and others
 * @bits:    its dirty pages
 */
struct liar {
	bool feature;
	size_t size;
	int error;
	int always;
	void (*change)(struct tell *tell);
	unsigned asked;
	unsigned plain;
	uint64_t bits[2];
};

static int say_unmap(struct model *model, const struct peer_message *m)
{
	struct liar *liar = model->arg;
	struct tell tell = { 0 };

	if (m->length != sizeof(tell.words)) {
		liar->plain++;
		return liar->always && !peer_reply_error(model->fd, m,
							 liar->always);
	}
	liar->asked++;
	if (liar->error)
		return peer_reply_error(model->fd, m, liar->error) ? -EPIPE : 1;
	memcpy(&tell.words, m->body, sizeof(tell.words));
	memcpy(tell.bits, liar->bits, sizeof(liar->bits));
	if (liar->change)
		liar->change(&tell);
	return peer_reply(model->fd, m, &tell,
			  liar->size ? liar->size :
				       sizeof(tell.words) + BYTES,
			  NULL, 0) ? -EPIPE : 1;
}

static int say_feature(struct model *model, const struct peer_message *m)
{
	const struct liar *liar = model->arg;

	if (!liar->feature)
		return 0;
	return peer_reply(model->fd, m, m->body, m->length, NULL, 0) ? -EPIPE :
								       1;
}

static int lie(struct model *model, const struct peer_message *m)
{
	switch (m->header.command) {
	case VFIO_USER_DMA_UNMAP:
		return say_unmap(model, m);
	case VFIO_USER_DEVICE_FEATURE:
		return say_feature(model, m);
	case VFIO_USER_DIRTY_PAGES:
		return peer_reply(model->fd, m, m->body, m->length, NULL, 0) ?
			       -EPIPE : 1;
	default:
		return 0;
	}
}

struct world {
	struct scene scene;
	struct liar liar;
	struct cleat_memory *memory;
	int fd;
	void *host;
};

static void world_add(struct world *world, uint64_t guest)
{
	struct cleat_memory_range range = {
		.size = sizeof(range),
		.rights = CLEAT_READ | CLEAT_WRITE,
		.guest = guest,
		.length = LENGTH,
		.host = world->host,
		.fd = world->fd,
	};

	ATF_REQUIRE_EQ(0, cleat_memory_add(world->memory, &range));
}

/* What is dirty by being new is taken. */
static void world_clean(struct world *world)
{
	uint64_t guest, length = 0;

	while (cleat_memory_log_take(world->memory, 0, 1u << 30, &guest,
				     &length) == 1)
		;
	ATF_REQUIRE_EQ(0, cleat_memory_log_dirty(world->memory));
}

static void world_begin_as(struct world *world, const char *peer)
{
	scene_begin(&world->scene);
	world->scene.config.peer = peer;
	world->scene.bad.arg = &world->liar;
	world->scene.bad.on = lie;
	scene_open(&world->scene);
	world->fd = memfd(LENGTH, 0);
	world->host = map_fd(world->fd, LENGTH, PROT_READ | PROT_WRITE);
	ATF_REQUIRE_EQ(0, cleat_memory_create(&world->memory));
	world_add(world, GUEST);
	ATF_REQUIRE_EQ(0, cleat_memory_attach(world->memory,
					      world->scene.dev));
	ATF_REQUIRE_EQ(0, cleat_memory_log_start(world->memory, 0, NULL));
}

static void world_begin(struct world *world)
{
	world_begin_as(world, NULL);
}

static void world_end(struct world *world)
{
	cleat_memory_log_stop(world->memory);
	scene_end(&world->scene);
	cleat_memory_unref(world->memory);
	munmap(world->host, LENGTH);
	close(world->fd);
}

/* What is dirty after it is gone. */
static uint64_t remove_it(struct world *world, int expected)
{
	ATF_CHECK_EQ(expected, cleat_memory_remove(world->memory, GUEST,
						   LENGTH));
	return cleat_memory_log_dirty(world->memory);
}

static void expect_page(struct world *world, uint64_t guest, uint64_t pages)
{
	uint64_t at = 0, length = 0;

	ATF_REQUIRE_EQ(1, cleat_memory_log_take(world->memory, 0, 1u << 30, &at,
						&length));
	ATF_CHECK_EQ_MSG(guest, at, "%#llx", (unsigned long long)at);
	ATF_CHECK_EQ_MSG(pages * PAGE, length, "%#llx",
			 (unsigned long long)length);
}

/* --- DMA_UNMAP ---------------------------------------------------------------------- */

CLEAT_TC(unmap__tells)
{
	static struct world world;

	world.liar.bits[0] = 1 | UINT64_C(1) << 63;
	world.liar.bits[1] = 1 | UINT64_C(1) << 35;
	world_begin(&world);
	ATF_CHECK_EQ(4 * PAGE, remove_it(&world, 0));
	ATF_CHECK_EQ(1, world.liar.asked);
	ATF_CHECK_EQ(0, world.liar.plain);
	expect_page(&world, GUEST, 1);
	expect_page(&world, GUEST + 63 * PAGE, 2);
	expect_page(&world, GUEST + 99 * PAGE, 1);
	scene_stands(&world.scene);
	world_end(&world);
}

/* The last word has room for more than there are pages. */
CLEAT_TC(unmap__bits_past_the_end)
{
	static struct world world;

	memset(world.liar.bits, 0xff, sizeof(world.liar.bits));
	world_begin(&world);
	world_add(&world, GUEST + LENGTH);
	world_clean(&world);
	ATF_CHECK_EQ(EVERYTHING, remove_it(&world, 0));
	expect_page(&world, GUEST, PAGES);
	world_end(&world);
}

/* Asked once; what it does without a question it has to do. */
CLEAT_TC(unmap__refused_and_not_asked_again)
{
	static struct world world;

	world.liar.error = EINVAL;
	world_begin(&world);
	ATF_CHECK_EQ(EVERYTHING, remove_it(&world, 0));
	ATF_CHECK_EQ(1, world.liar.plain);
	world_add(&world, GUEST);
	world_clean(&world);
	ATF_CHECK_EQ(EVERYTHING, remove_it(&world, 0));
	ATF_CHECK_EQ(1, world.liar.asked);
	ATF_CHECK_EQ(2, world.liar.plain);
	scene_stands(&world.scene);
	world_end(&world);
}

CLEAT_TC(unmap__refused_altogether)
{
	static struct world world;

	world.liar.error = EBUSY;
	world.liar.always = EBUSY;
	world_begin(&world);
	ATF_CHECK_EQ(EVERYTHING, remove_it(&world, -ENOTCONN));
	scene_lost(&world.scene, -EPROTO, "DMA_UNMAP of 0x203000 was refused");
	world_end(&world);
}

/* The range is given back; what was written in it is anybody's guess. */
static void unmap_says(size_t size, void (*change)(struct tell *tell))
{
	static struct world world;

	world.liar.size = size;
	world.liar.change = change;
	world_begin(&world);
	ATF_CHECK_EQ(EVERYTHING, remove_it(&world, 0));
	ATF_CHECK_EQ(1, world.liar.asked);
	ATF_CHECK_EQ(0, world.liar.plain);
	scene_stands(&world.scene);
	world_end(&world);
}

CLEAT_TC(unmap__as_if_not_asked)
{
	unmap_says(sizeof(struct cleat_wire_dma_unmap), NULL);
}

CLEAT_TC(unmap__bitmap_missing)
{
	unmap_says(sizeof(struct question), NULL);
}

CLEAT_TC(unmap__bitmap_short)
{
	unmap_says(sizeof(struct question) + BYTES - 1, NULL);
}

static void other_page(struct tell *tell)
{
	tell->words.bitmap.page_size = 2 * PAGE;
}

CLEAT_TC(unmap__other_page_size)
{
	unmap_says(0, other_page);
}

static void other_size(struct tell *tell)
{
	tell->words.bitmap.size = UINT64_C(1) << 32;
}

CLEAT_TC(unmap__other_size)
{
	unmap_says(0, other_size);
}

static void other_range(struct tell *tell)
{
	tell->words.unmap.address += PAGE;
}

CLEAT_TC(unmap__other_range)
{
	unmap_says(0, other_range);
}

CLEAT_TC(unmap__bitmap_long)
{
	static struct world world;

	world.liar.size = sizeof(struct question) + BYTES + 1;
	world_begin(&world);
	ATF_CHECK_EQ(EVERYTHING, remove_it(&world, -EPROTO));
	scene_lost(&world.scene, -EPROTO, "DMA_UNMAP");
	world_end(&world);
}

CLEAT_TC(unmap__bitmap_never_comes)
{
	static struct world world;
	uint16_t command = VFIO_USER_DMA_UNMAP;

	world_begin(&world);
	world.scene.bad.arg = &command;
	world.scene.bad.on = scene_silent;
	ATF_CHECK_EQ(EVERYTHING, remove_it(&world, -ETIMEDOUT));
	scene_lost(&world.scene, -ETIMEDOUT, "DMA_UNMAP was not answered");
	world_end(&world);
}

/* Another device that logs as it should does not make up for this one. */
CLEAT_TC(unmap__one_of_two_tells)
{
	static struct world world;
	struct liar honest = { .bits = { 2 } };

	world.liar.error = EINVAL;
	world_begin(&world);
	world.scene.good.arg = &honest;
	world.scene.good.on = lie;
	ATF_REQUIRE_EQ(0, cleat_memory_attach(world.memory,
					      world.scene.friend));
	world_clean(&world);
	ATF_CHECK_EQ(EVERYTHING, remove_it(&world, 0));
	ATF_CHECK_EQ(1, honest.asked);
	ATF_CHECK_EQ(0, honest.plain);
	world_end(&world);
}

/* Nobody could have written it unseen. */
CLEAT_TC(unmap__nothing_hidden)
{
	static struct world world;

	world_begin(&world);
	ATF_REQUIRE_EQ(0, cleat_memory_detach(world.memory, world.scene.dev));
	world_clean(&world);
	ATF_CHECK_EQ(0, remove_it(&world, 0));
	world_end(&world);
}

/* --- The second generation ---------------------------------------------------------- */

static void second(const char *peer, unsigned asked, uint64_t dirty)
{
	static struct world world;

	world.liar.feature = true;
	world.liar.bits[0] = 6;
	world_begin_as(&world, peer);
	ATF_CHECK_EQ(dirty, remove_it(&world, 0));
	ATF_CHECK_EQ(asked, world.liar.asked);
	world_end(&world);
}

CLEAT_TC(second__not_asked)
{
	second(NULL, 0, EVERYTHING);
}

CLEAT_TC(second__asked_where_it_is_known)
{
	second("libvfio-user", 1, 2 * PAGE);
}

/* --- DIRTY_PAGES -------------------------------------------------------------------- */

struct pages {
	struct cleat_wire_dirty_pages pages;
	struct cleat_wire_dirty_range range;
	uint64_t bits[512];
};

/* The size of a reply, and its page. */
struct report {
	size_t size;
	uint64_t page;
};

static int report_on(struct model *model, const struct peer_message *m)
{
	const struct report *report = model->arg;
	struct pages reply = { .bits = { 5 } };

	if (m->header.command != VFIO_USER_DIRTY_PAGES || m->length < 40)
		return lie(model, m);
	memcpy(&reply, m->body, 40);
	reply.range.bitmap.page_size = report->page;
	return peer_reply(model->fd, m, &reply, report->size, NULL, 0) ?
		       -EPIPE : 1;
}

static void report_says(size_t size, uint64_t page, uint64_t dirty, bool lost)
{
	static struct world world;
	struct report report = { size, page };

	world_begin(&world);
	world.scene.bad.arg = &report;
	world.scene.bad.on = report_on;
	ATF_REQUIRE_EQ(0, cleat_memory_log_fetch(world.memory, 0));
	ATF_CHECK_EQ(dirty, cleat_memory_log_dirty(world.memory));
	if (lost)
		scene_lost(&world.scene, -EPROTO, "DIRTY_PAGES");
	else
		scene_stands(&world.scene);
	world_end(&world);
}

CLEAT_TC(report__tells)
{
	report_says(40 + BYTES, PAGE, 2 * PAGE, false);
}

CLEAT_TC(report__short)
{
	report_says(40 + BYTES - 1, PAGE, EVERYTHING, false);
}

CLEAT_TC(report__nothing)
{
	report_says(0, PAGE, EVERYTHING, false);
}

CLEAT_TC(report__long)
{
	report_says(40 + BYTES + 1, PAGE, EVERYTHING, true);
}

CLEAT_TC(report__other_page_size)
{
	report_says(40 + BYTES, 16 * PAGE, EVERYTHING, false);
}

static int refuse_second(struct model *model, const struct peer_message *m)
{
	struct report fine = { 40 + BYTES, PAGE };
	struct model asked = *model;
	struct pages pages;

	asked.arg = &fine;
	if (m->header.command != VFIO_USER_DIRTY_PAGES || m->length < 40)
		return lie(model, m);
	memcpy(&pages, m->body, 40);
	if (pages.range.iova == GUEST)
		return report_on(&asked, m);
	return peer_reply_error(model->fd, m, EINVAL) ? -EPIPE : 1;
}

/* The other one's pages are told, in every round. */
CLEAT_TC(report__one_range_refused)
{
	static struct world world;

	world_begin(&world);
	world.scene.bad.on = refuse_second;
	world_add(&world, GUEST + 2 * LENGTH);
	world_clean(&world);
	for (unsigned round = 0; round < 3; round++) {
		ATF_REQUIRE_EQ(0, cleat_memory_log_fetch(
					  world.memory,
					  round == 2 ? CLEAT_MEMORY_LOG_FINAL :
						       0));
		ATF_CHECK_EQ(2 * PAGE + (round == 1 ? 0 : EVERYTHING),
			     cleat_memory_log_dirty(world.memory));
		world_clean(&world);
	}
	scene_stands(&world.scene);
	world_end(&world);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, unmap__tells);
	ATF_TP_ADD_TC(tp, unmap__bits_past_the_end);
	ATF_TP_ADD_TC(tp, unmap__refused_and_not_asked_again);
	ATF_TP_ADD_TC(tp, unmap__refused_altogether);
	ATF_TP_ADD_TC(tp, unmap__as_if_not_asked);
	ATF_TP_ADD_TC(tp, unmap__bitmap_missing);
	ATF_TP_ADD_TC(tp, unmap__bitmap_short);
	ATF_TP_ADD_TC(tp, unmap__other_page_size);
	ATF_TP_ADD_TC(tp, unmap__other_size);
	ATF_TP_ADD_TC(tp, unmap__other_range);
	ATF_TP_ADD_TC(tp, unmap__bitmap_long);
	ATF_TP_ADD_TC(tp, unmap__bitmap_never_comes);
	ATF_TP_ADD_TC(tp, unmap__one_of_two_tells);
	ATF_TP_ADD_TC(tp, unmap__nothing_hidden);
	ATF_TP_ADD_TC(tp, second__not_asked);
	ATF_TP_ADD_TC(tp, second__asked_where_it_is_known);
	ATF_TP_ADD_TC(tp, report__tells);
	ATF_TP_ADD_TC(tp, report__short);
	ATF_TP_ADD_TC(tp, report__nothing);
	ATF_TP_ADD_TC(tp, report__long);
	ATF_TP_ADD_TC(tp, report__other_page_size);
	ATF_TP_ADD_TC(tp, report__one_range_refused);
	return atf_no_error();
}
