/* SPDX-License-Identifier: BSD-2-Clause */
/* Many devices in one program: what one does is not the others' trouble. */
#include <stdatomic.h>

#include "tests/hostile/scene.h"

/* --- Two servers that wait for each other through us ------------------------------ */

/* @seen: that server's DMA was answered; the other's reply waits for it. */
struct half {
	struct model model;
	struct cleat_device *dev;
	atomic_bool seen;
	struct half *other;
	int result;
};

static int ask_then_await(struct model *model, const struct peer_message *m)
{
	struct half *half = model->arg;
	struct deadline soon = deadline_in(PATIENCE_MS);
	size_t length;

	if (!scene_is_read(m))
		return 0;
	if (scene_ask(model->fd, 1, VFIO_USER_DMA_READ, RAM_BOTH, 64, 0) ||
	    scene_told(model->fd, 1, &length))
		return -EPIPE;
	atomic_store(&half->seen, true);
	while (!atomic_load(&half->other->seen))
		if (!deadline_left(&soon))
			return -ETIMEDOUT;
		else
			usleep(200);
	return 0;
}

static void open_half(struct half *half, struct half *other, struct ram *ram)
{
	half->other = other;
	half->model.num_regions = 1;
	half->model.regions[0].length = 4096;
	half->model.regions[0].flags = RW;
	half->model.on = ask_then_await;
	half->model.arg = half;
	half->dev = model_open(&half->model, NULL);
	ATF_REQUIRE_EQ(0, cleat_memory_attach(ram->memory, half->dev));
}

static void close_half(struct half *half)
{
	cleat_device_unref(half->dev);
	model_end(&half->model);
}

static int read_half(void *arg)
{
	struct half *half = arg;
	uint32_t value;

	half->result = cleat_region_read(half->dev, 0, 0, &value, 4);
	return 0;
}

CLEAT_TC(two__servers_that_wait_for_each_other)
{
	struct half a = { .result = 1 }, b = { .result = 1 };
	struct script scripts[2];
	struct ram ram;

	ram_begin(&ram);
	open_half(&a, &b, &ram);
	open_half(&b, &a, &ram);
	script_start(&scripts[0], read_half, &a);
	script_start(&scripts[1], read_half, &b);
	script_end(&scripts[0]);
	script_end(&scripts[1]);
	ATF_CHECK_EQ(0, a.result);
	ATF_CHECK_EQ(0, b.result);
	close_half(&a);
	close_half(&b);
	ram_end(&ram);
}

/* Nobody waits at the second one: its request is the events thread's. */
static int ask_by_itself(void *arg)
{
	struct half *half = arg;
	struct deadline soon = deadline_in(PATIENCE_MS);

	while (!model_count(&half->other->model, VFIO_USER_REGION_READ))
		if (!deadline_left(&soon))
			return -ETIMEDOUT;
		else
			usleep(200);
	return scene_ask(half->model.fd, 1, VFIO_USER_DMA_READ, RAM_BOTH, 64,
			 0);
}

static int note_reply(struct model *model, const struct peer_message *m)
{
	struct half *half = model->arg;

	if (!(m->header.flags & PEER_REPLY))
		return 0;
	atomic_store(&half->seen, true);
	return 1;
}

CLEAT_TC(two__one_of_them_idle)
{
	struct half a = { .result = 1 }, b = { .result = 1 };
	struct script script;
	struct ram ram;

	ram_begin(&ram);
	open_half(&a, &b, &ram);
	open_half(&b, &a, &ram);
	b.model.on = note_reply;
	script_start(&script, ask_by_itself, &b);
	read_half(&a);
	script_end(&script);
	ATF_CHECK_EQ(0, a.result);
	close_half(&a);
	close_half(&b);
	ram_end(&ram);
}

/* --- Many ------------------------------------------------------------------------- */

#define MANY 40

static int be_silent(struct model *model, const struct peer_message *m)
{
	return scene_is_read(m);
}

static int be_gone(struct model *model, const struct peer_message *m)
{
	return scene_is_read(m) ? -EPIPE : 0;
}

static int be_absurd(struct model *model, const struct peer_message *m)
{
	struct peer_header header = scene_header(m, 0);

	header.size = 7;
	return scene_is_read(m) ?
		       scene_say(model, header, NULL, 0, NULL, 0) : 0;
}

static int be_good(struct model *model, const struct peer_message *m)
{
	return 0;
}

static int (*const manners[4])(struct model *model,
			       const struct peer_message *m) = {
	be_good, be_silent, be_gone, be_absurd
};

struct one {
	struct model model;
	struct cleat_device *dev;
	atomic_uint losses;
	unsigned good_reads;
};

static void count_loss(void *opaque, const struct cleat_error *why)
{
	struct one *one = opaque;

	atomic_fetch_add(&one->losses, 1);
}

static void open_one(struct one *one, unsigned number)
{
	struct cleat_device_config config = {
		.size = sizeof(config),
		.access_ms = manners[number % 4] == be_silent ? 50 : 0,
		.lost = count_loss,
		.opaque = one,
	};

	one->model.num_regions = 1;
	one->model.regions[0].length = 4096;
	one->model.regions[0].flags = RW;
	one->model.on = manners[number % 4];
	one->dev = model_open(&one->model, &config);
}

/* Whatever the others do, the good ones answer each time. */
static int read_all(void *arg)
{
	struct one *ones = arg;

	for (unsigned round = 0; round < 10; round++) {
		for (unsigned i = 0; i < MANY; i++) {
			uint32_t value;
			int err = cleat_region_read(ones[i].dev, 0, 0, &value,
						    4);

			if (i % 4 == 0 && err)
				return err;
		}
	}
	return 0;
}

CLEAT_TC(many__of_every_kind)
{
	static struct one ones[MANY];
	struct script scripts[4];

	for (unsigned i = 0; i < MANY; i++)
		open_one(&ones[i], i);
	for (unsigned i = 0; i < 4; i++)
		script_start(&scripts[i], read_all, ones);
	for (unsigned i = 0; i < 4; i++)
		script_end(&scripts[i]);
	for (unsigned i = 0; i < MANY; i++) {
		if (i % 4 >= 2)
			REQUIRE_SOON(atomic_load(&ones[i].losses) == 1);
		ATF_CHECK_EQ(i % 4 >= 2,
			     !!cleat_device_failure(ones[i].dev, NULL));
	}
	for (unsigned i = 0; i < MANY; i++) {
		cleat_device_unref(ones[i].dev);
		model_end(&ones[i].model);
		ATF_CHECK_EQ(i % 4 >= 2, atomic_load(&ones[i].losses));
	}
}

/* Memory is the same for all: who is lost is passed over. */
CLEAT_TC(many__share_a_memory)
{
	struct cleat_memory_range more = {
		.size = sizeof(more), .rights = CLEAT_READ,
		.guest = 1ull << 32, .length = 4096, .fd = -1,
	};
	static struct one ones[MANY];
	struct ram ram;
	uint32_t value;

	ram_begin(&ram);
	more.host = ram.host;
	for (unsigned i = 0; i < MANY; i++) {
		open_one(&ones[i], i);
		ATF_REQUIRE_EQ(0, cleat_memory_attach(ram.memory,
						      ones[i].dev));
	}
	for (unsigned i = 0; i < MANY; i++)
		cleat_region_read(ones[i].dev, 0, 0, &value, 4);
	ATF_CHECK_EQ(0, cleat_memory_add(ram.memory, &more));
	for (unsigned i = 0; i < MANY; i += 4)
		ATF_CHECK_EQ(3, model_count(&ones[i].model,
					    VFIO_USER_DMA_MAP));
	cleat_memory_remove(ram.memory, more.guest, more.length);
	for (unsigned i = 0; i < MANY; i++) {
		ATF_CHECK(i % 4 || !cleat_device_failure(ones[i].dev, NULL));
		cleat_device_unref(ones[i].dev);
		model_end(&ones[i].model);
	}
	ram_end(&ram);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, two__servers_that_wait_for_each_other);
	ATF_TP_ADD_TC(tp, two__one_of_them_idle);
	ATF_TP_ADD_TC(tp, many__of_every_kind);
	ATF_TP_ADD_TC(tp, many__share_a_memory);
	return atf_no_error();
}
