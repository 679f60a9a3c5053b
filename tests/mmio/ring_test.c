/* SPDX-License-Identifier: BSD-2-Clause */
/* Writes that the VM has collected, in a ring of the test's own making. */
#include <fcntl.h>

#include "tests/mmio/rig.h"
#include "tests/support/model.h"

#define AT 0xfeb00000ull
#define RW (CLEAT_REGION_READ | CLEAT_REGION_WRITE)
#define MULTI_JSON "{\"capabilities\":{\"write_multiple\":true}}"
#define LOG 200000
#define ROOM 170

/* --- Servers that write down what comes --------------------------------------- */

/* One access, as it came. */
struct line {
	uint64_t offset;
	uint64_t value;
	uint32_t count;
	bool write;
	bool posted;
};

struct log {
	struct line lines[LOG];
	unsigned num;
	atomic_bool deaf; /* read no more until this is over */
};

static void put(struct log *log, uint64_t offset, uint32_t count,
		const void *data, bool posted)
{
	struct line *line = &log->lines[log->num++ % LOG];

	*line = (struct line){ offset, 0, count, data, posted };
	if (data)
		memcpy(&line->value, data, count < 8 ? count : 8);
}

static int put_multi(struct model *model, const struct peer_message *m)
{
	const uint8_t *body = m->body;
	struct cleat_wire_write w;
	uint64_t count;

	memcpy(&count, body, 8);
	if (count > 200 || m->length != 8 + count * sizeof(w))
		return -EBADMSG;
	for (uint64_t i = 0; i < count; i++) {
		memcpy(&w, body + 8 + i * sizeof(w), sizeof(w));
		put(model->arg, w.offset, w.count, w.data, true);
		for (unsigned j = 0; j < w.count; j++)
			model_fill(model, w.region, w.offset + j, w.data[j], 1);
	}
	return m->header.flags & PEER_NO_REPLY ? 1 : -EBADMSG;
}

static int on_message(struct model *model, const struct peer_message *m)
{
	struct cleat_wire_access access;
	struct log *log = model->arg;
	bool write = m->header.command == VFIO_USER_REGION_WRITE;

	while (atomic_load(&log->deaf))
		usleep(200);
	if (m->header.command == VFIO_USER_REGION_WRITE_MULTI)
		return put_multi(model, m);
	if (!write && m->header.command != VFIO_USER_REGION_READ)
		return 0;
	memcpy(&access, m->body, sizeof(access));
	put(log, access.offset, access.count,
	    write ? (const char *)m->body + sizeof(access) : NULL,
	    m->header.flags & PEER_NO_REPLY);
	return 0;
}

/* --- The VM ------------------------------------------------------------------- */

/* As KVM's ring: a place stays free, and a full one refuses. */
struct ring {
	pthread_mutex_t lock;
	struct cleat_coalesced entries[ROOM];
	atomic_uint first, last;
	atomic_uint zones;
};

static unsigned in_ring(struct ring *ring)
{
	return (atomic_load(&ring->last) + ROOM - atomic_load(&ring->first)) %
	       ROOM;
}

static bool push(struct ring *ring, uint64_t address, uint64_t value,
		 uint32_t length)
{
	struct cleat_coalesced *entry;
	bool room;

	pthread_mutex_lock(&ring->lock);
	room = in_ring(ring) < ROOM - 1;
	if (room) {
		entry = &ring->entries[ring->last];
		*entry = (struct cleat_coalesced){ .address = address,
						   .length = length };
		memcpy(entry->data, &value, sizeof(value));
		atomic_store(&ring->last, (ring->last + 1) % ROOM);
	}
	pthread_mutex_unlock(&ring->lock);
	return room;
}

static unsigned on_take(void *opaque, struct cleat_coalesced *entries,
			unsigned num)
{
	struct ring *ring = opaque;
	unsigned taken = 0;

	if (!num)
		return in_ring(ring);
	pthread_mutex_lock(&ring->lock);
	while (in_ring(ring) && taken < num) {
		entries[taken++] = ring->entries[ring->first];
		atomic_store(&ring->first, (ring->first + 1) % ROOM);
	}
	pthread_mutex_unlock(&ring->lock);
	return taken;
}

static int on_add(void *opaque, enum cleat_space space, uint64_t address,
		  uint64_t length)
{
	struct ring *ring = opaque;

	atomic_fetch_add(&ring->zones, 1);
	return 0;
}

static int on_remove(void *opaque, enum cleat_space space, uint64_t address,
		     uint64_t length)
{
	struct ring *ring = opaque;

	atomic_fetch_sub(&ring->zones, 1);
	return 0;
}

/* --- Both ---------------------------------------------------------------------- */

struct side {
	struct model model;
	struct log log;
	struct cleat_device *dev;
	struct cleat_binding *binding;
};

struct scene {
	struct side sides[2];
	struct cleat_mmio *mmio;
	struct ring ring;
	struct cleat_vm_ops ops;
};

#define SIDE(i) (AT + (i) * 0x10000ull)
#define ZONE 0x1000u

static void open_side(struct scene *s, unsigned i, const char *json,
		      uint32_t access_ms)
{
	struct cleat_device_config device = { .size = sizeof(device),
					      .access_ms = access_ms };
	struct side *side = &s->sides[i];
	struct cleat_binding_config config = { .size = sizeof(config),
					       .ops = &s->ops };
	struct cleat_error why = { .text = "" };

	side->model = (struct model){ .json = json,
				      .num_regions = 1,
				      .regions = { { 0x2000, RW } },
				      .on = on_message,
				      .arg = &side->log };
	side->dev = model_open(&side->model, &device);
	config.device = side->dev;
	ATF_REQUIRE_EQ_MSG(0,
			   cleat_mmio_bind(s->mmio, &config, &side->binding,
					   &why),
			   "%s", why.text);
	ATF_REQUIRE_EQ_MSG(0,
			   cleat_mmio_coalesce(s->mmio, side->dev, 0, 0, ZONE,
					       0, &why),
			   "%s", why.text);
	ATF_REQUIRE_EQ(0, cleat_binding_place(side->binding, SIDE(i)));
}

static struct scene *open_scene(const char *json, unsigned sides,
				uint32_t access_ms)
{
	static struct scene s;

	memset(&s, 0, sizeof(s));
	pthread_mutex_init(&s.ring.lock, NULL);
	s.ops = (struct cleat_vm_ops){ .size = sizeof(s.ops),
				       .opaque = &s.ring,
				       .coalesce_add = on_add,
				       .coalesce_remove = on_remove,
				       .coalesced_take = on_take };
	ATF_REQUIRE_EQ(0, cleat_mmio_create(&s.mmio));
	for (unsigned i = 0; i < sides; i++)
		open_side(&s, i, json, access_ms);
	ATF_REQUIRE_EQ(sides, s.ring.zones);
	return &s;
}

static void close_scene(struct scene *s)
{
	for (unsigned i = 0; i < 2; i++) {
		if (!s->sides[i].dev)
			continue;
		cleat_mmio_unbind(s->sides[i].binding);
		cleat_device_unref(s->sides[i].dev);
		atomic_store(&s->sides[i].log.deaf, false);
		model_end(&s->sides[i].model);
	}
	ATF_CHECK_EQ(0, s->ring.zones);
	cleat_mmio_unref(s->mmio);
}

/* A read of the device's, by which all that was posted before has come. */
static void settle(struct side *side)
{
	uint32_t value;

	ATF_REQUIRE_EQ(0, cleat_region_read(side->dev, 0, 0x1ffc, &value, 4));
}

static unsigned messages(struct side *side, unsigned command)
{
	return model_count(&side->model, command);
}

static struct cleat_mmio_stats stats_of(struct side *side)
{
	struct cleat_mmio_stats stats = { .size = sizeof(stats) };

	ATF_REQUIRE_EQ(0, cleat_binding_stats(side->binding, &stats));
	return stats;
}

/* --- Cases --------------------------------------------------------------------- */

#define N 100

static void push_row(struct scene *s, unsigned side)
{
	for (unsigned i = 0; i < N; i++)
		ATF_REQUIRE(push(&s->ring, SIDE(side) + 4 * i, i + 1, 4));
}

static void check_row(struct side *side)
{
	for (unsigned i = 0; i < N; i++) {
		ATF_CHECK_EQ(4 * i, side->log.lines[i].offset);
		ATF_CHECK_EQ(i + 1, side->log.lines[i].value);
		ATF_CHECK_EQ(4, side->log.lines[i].count);
		ATF_CHECK(side->log.lines[i].posted);
	}
}

CLEAT_TC(drain__one_message)
{
	struct scene *s = open_scene(MULTI_JSON, 1, 0);
	struct side *side = &s->sides[0];

	ATF_REQUIRE_EQ(0, cleat_mmio_drain(s->mmio));
	push_row(s, 0);
	ATF_REQUIRE_EQ(0, cleat_mmio_drain(s->mmio));
	ATF_CHECK_EQ(0, in_ring(&s->ring));
	settle(side);
	ATF_CHECK_EQ(1, messages(side, VFIO_USER_REGION_WRITE_MULTI));
	ATF_CHECK_EQ(0, messages(side, VFIO_USER_REGION_WRITE));
	ATF_CHECK_EQ(N + 1, side->log.num);
	check_row(side);
	ATF_CHECK_EQ(N, stats_of(side).coalesced);
	ATF_CHECK_EQ(N, stats_of(side).writes[CLEAT_WAY_TRAP]);
	close_scene(s);
}

CLEAT_TC(drain__server_without_multi)
{
	struct scene *s = open_scene(NULL, 1, 0);
	struct side *side = &s->sides[0];

	push_row(s, 0);
	ATF_REQUIRE_EQ(0, cleat_mmio_drain(s->mmio));
	settle(side);
	ATF_CHECK_EQ(N, messages(side, VFIO_USER_REGION_WRITE));
	check_row(side);
	close_scene(s);
}

CLEAT_TC(drain__two_devices)
{
	struct scene *s = open_scene(MULTI_JSON, 2, 0);

	for (unsigned i = 0; i < 80; i++)
		ATF_REQUIRE(push(&s->ring, SIDE(i & 1), i, 4));
	ATF_REQUIRE_EQ(0, cleat_mmio_drain(s->mmio));
	for (unsigned d = 0; d < 2; d++) {
		struct side *side = &s->sides[d];

		settle(side);
		ATF_CHECK_EQ(1, messages(side, VFIO_USER_REGION_WRITE_MULTI));
		ATF_REQUIRE_EQ(41, side->log.num);
		for (unsigned i = 0; i < 40; i++)
			ATF_CHECK_EQ(2 * i + d, side->log.lines[i].value);
	}
	close_scene(s);
}

/* What is not collected, a read above all, goes after what is. */
CLEAT_TC(access__after_what_was_collected)
{
	struct scene *s = open_scene(MULTI_JSON, 1, 0);
	struct log *log = &s->sides[0].log;

	push(&s->ring, AT, 1, 4);
	push(&s->ring, AT + 4, 2, 4);
	ATF_CHECK_EQ(2, load(s->mmio, AT + 4, 4));
	push(&s->ring, AT, 3, 4);
	store(s->mmio, AT + ZONE, 4, 4); /* not in the zone */
	push(&s->ring, AT, 5, 4);
	store(s->mmio, AT, 6, 4); /* as when the ring is full */
	settle(&s->sides[0]);
	ATF_REQUIRE_EQ(8, log->num);
	ATF_CHECK(!log->lines[2].write);
	ATF_CHECK_EQ(3, log->lines[3].value);
	ATF_CHECK_EQ(4, log->lines[4].value);
	ATF_CHECK(!log->lines[4].posted);
	ATF_CHECK_EQ(5, log->lines[5].value);
	ATF_CHECK_EQ(6, log->lines[6].value);
	ATF_CHECK(log->lines[6].posted);
	close_scene(s);
}

CLEAT_TC(drain__place_is_gone)
{
	struct scene *s = open_scene(MULTI_JSON, 2, 0);

	push(&s->ring, SIDE(0), 1, 4);
	push(&s->ring, SIDE(1), 2, 4);
	/* Another device comes there, and has not asked for it. */
	cleat_binding_unplace(s->sides[1].binding);
	ATF_REQUIRE_EQ(0, cleat_binding_place(s->sides[0].binding,
					      SIDE(1) - ZONE));
	ATF_CHECK_EQ(1, s->ring.zones);
	ATF_REQUIRE_EQ(0, cleat_mmio_drain(s->mmio));
	for (unsigned i = 0; i < 2; i++) {
		settle(&s->sides[i]);
		ATF_CHECK_EQ(1, s->sides[i].log.num);
	}
	close_scene(s);
}

CLEAT_TC(drain__impossible_entries)
{
	struct scene *s = open_scene(MULTI_JSON, 1, 0);
	struct log *log = &s->sides[0].log;

	push(&s->ring, AT, 1, 0);
	push(&s->ring, AT, 2, 9);
	push(&s->ring, AT, 3, UINT32_MAX);
	push(&s->ring, AT + ZONE - 2, 4, 4);
	push(&s->ring, UINT64_MAX - 1, 5, 4);
	push(&s->ring, AT + 4, 0x332211, 3);
	s->ring.entries[0].space = (enum cleat_space)7;
	ATF_REQUIRE_EQ(0, cleat_mmio_drain(s->mmio));
	settle(&s->sides[0]);
	/* Three bytes are two and one. */
	ATF_REQUIRE_EQ(3, log->num);
	ATF_CHECK_EQ(0x2211, log->lines[0].value);
	ATF_CHECK_EQ(6, log->lines[1].offset);
	ATF_CHECK_EQ(0x33, log->lines[1].value);
	close_scene(s);
}

/* --- A server that does not read ----------------------------------------------- */

struct drainer {
	struct cleat_mmio *mmio;
	struct cleat_cancel *cancel;
	struct ring *ring;
	unsigned written;
	int result;
	pthread_t thread;
};

static void *drain_until_called_back(void *arg)
{
	struct drainer *d = arg;

	cleat_cancel_enter(d->cancel);
	do {
		while (push(d->ring, AT, d->written + 1, 4))
			d->written++;
		d->result = cleat_mmio_drain(d->mmio);
	} while (!d->result);
	cleat_cancel_enter(NULL);
	return NULL;
}

/* A second one waits for the first, and is called back all the same. */
static void *drain_once(void *arg)
{
	struct drainer *d = arg;

	cleat_cancel_enter(d->cancel);
	d->result = cleat_mmio_drain(d->mmio);
	cleat_cancel_enter(NULL);
	return NULL;
}

static void call_back(struct drainer *d)
{
	cleat_cancel_set(d->cancel);
	pthread_join(d->thread, NULL);
	ATF_CHECK_EQ(-EINTR, d->result);
	cleat_cancel_destroy(d->cancel);
}

static void check_called_back(struct scene *s)
{
	struct drainer first = { .mmio = s->mmio, .ring = &s->ring };
	struct drainer second = { .mmio = s->mmio };
	struct log *log = &s->sides[0].log;
	uint64_t sent = 0;

	ATF_REQUIRE_EQ(0, cleat_cancel_create(&first.cancel));
	ATF_REQUIRE_EQ(0, cleat_cancel_create(&second.cancel));
	atomic_store(&log->deaf, true);
	pthread_create(&first.thread, NULL, drain_until_called_back, &first);
	/* Until nothing goes out any more. */
	for (uint64_t now = 1; now != sent; usleep(50000)) {
		struct cleat_device_stats stats = { .size = sizeof(stats) };

		ATF_REQUIRE_EQ(0,
			       cleat_device_stats(s->sides[0].dev, &stats));
		sent = now;
		now = stats.posted + 1;
	}
	pthread_create(&second.thread, NULL, drain_once, &second);
	call_back(&second);
	call_back(&first);
	atomic_store(&log->deaf, false);
	ATF_REQUIRE_EQ(0, cleat_mmio_drain(s->mmio));
	settle(&s->sides[0]);
	ATF_REQUIRE_EQ(first.written + 1, log->num);
	for (unsigned i = 0; i < first.written && i < LOG; i++)
		ATF_REQUIRE_EQ(i + 1, log->lines[i].value);
}

CLEAT_TC(drain__called_back)
{
	struct scene *s = open_scene(NULL, 1, 0);

	check_called_back(s);
	close_scene(s);
}

CLEAT_TC(drain__called_back_multi)
{
	struct scene *s = open_scene(MULTI_JSON, 1, 0);

	check_called_back(s);
	close_scene(s);
}

/* It is waited for once, and no more. */
CLEAT_TC(drain__server_deaf)
{
	struct scene *s = open_scene(NULL, 1, 200);
	struct side *side = &s->sides[0];

	atomic_store(&side->log.deaf, true);
	while (!cleat_device_failure(side->dev, NULL)) {
		while (push(&s->ring, AT, 1, 4))
			;
		ATF_REQUIRE_EQ(0, cleat_mmio_drain(s->mmio));
	}
	ATF_CHECK_EQ(UINT32_MAX, load(s->mmio, AT, 4));
	close_scene(s);
}

/* --- Many vCPUs ----------------------------------------------------------------- */

#define VCPUS 4
#define TURNS 400

struct writer {
	struct scene *s;
	unsigned number;
	unsigned wrong;
	pthread_t thread;
};

/* What it wrote it reads, whoever has sent it. */
static void *write_and_read(void *arg)
{
	struct writer *w = arg;
	uint64_t at = SIDE(w->number & 1) + 8 * w->number;
	struct scene *s = w->s;

	for (uint32_t turn = 1; turn <= TURNS; turn++) {
		uint32_t value = turn, back = 0;

		if (!push(&s->ring, at, turn, 4))
			cleat_mmio_access(s->mmio, CLEAT_MEMORY, at, &value, 4,
					  true);
		if (turn % 3)
			continue;
		cleat_mmio_access(s->mmio, CLEAT_MEMORY, at, &back, 4, false);
		w->wrong += back != turn;
	}
	return NULL;
}

CLEAT_TC(read__by_many_vcpus)
{
	struct scene *s = open_scene(MULTI_JSON, 2, 0);
	struct writer writers[VCPUS];

	for (unsigned i = 0; i < VCPUS; i++) {
		writers[i] = (struct writer){ .s = s, .number = i };
		pthread_create(&writers[i].thread, NULL, write_and_read,
			       &writers[i]);
	}
	for (unsigned i = 0; i < VCPUS; i++) {
		pthread_join(writers[i].thread, NULL);
		ATF_CHECK_EQ(0, writers[i].wrong);
	}
	close_scene(s);
}

/* --- What is refused ------------------------------------------------------------- */

static int try(struct rig *rig, struct cleat_mmio *mmio, uint64_t offset,
	       uint64_t length, uint32_t flags)
{
	return cleat_mmio_coalesce(mmio, rig->dev, 0, offset, length, flags,
				   NULL);
}

CLEAT_TC(coalesce__refused)
{
	struct rig rig = { .num_areas = 1 };
	struct cleat_binding *binding;
	struct cleat_mmio *mmio;
	int fd = memfd(PAGE, F_SEAL_SHRINK);

	rig.areas[0] = (struct cleat_server_area){ PAGE, PAGE, fd, 0 };
	rig_open(&rig);
	ATF_REQUIRE_EQ(0, cleat_mmio_create(&mmio));
	ATF_CHECK_EQ(-ENOENT, try(&rig, mmio, 0, PAGE, 0));
	binding = rig_bind(&rig, mmio, NULL, 0);
	ATF_CHECK_EQ(-EOPNOTSUPP, try(&rig, mmio, 0, PAGE, 0));
	ATF_CHECK_EQ(-EINVAL, try(&rig, mmio, 0, PAGE, 2));
	ATF_CHECK_EQ(-ERANGE, try(&rig, mmio, 0, 0, 1));
	ATF_CHECK_EQ(-ERANGE, try(&rig, mmio, BAR, 1, 1));
	ATF_CHECK_EQ(-ERANGE, try(&rig, mmio, 1, UINT64_MAX, 1));
	ATF_CHECK_EQ(0, try(&rig, mmio, 8, 8, CLEAT_COALESCE_ANYWAY));
	ATF_CHECK_EQ(-EEXIST, try(&rig, mmio, 15, 8, CLEAT_COALESCE_ANYWAY));
	ATF_REQUIRE_EQ(0, cleat_binding_place(binding, AT));
	cleat_binding_unplace(binding);
	ATF_CHECK_EQ(-EBUSY, try(&rig, mmio, 32, 8, CLEAT_COALESCE_ANYWAY));
	cleat_mmio_unbind(binding);
	cleat_mmio_unref(mmio);
	rig_close(&rig);
	close(fd);
}

/* The mapped page is left out; without a VM that collects, it is posted. */
CLEAT_TC(coalesce__around_a_mapped_page)
{
	struct rig rig = { .num_areas = 1 };
	struct cleat_device_stats stats = { .size = sizeof(stats) };
	struct cleat_binding *binding;
	struct cleat_mmio *mmio;
	int fd = memfd(PAGE, F_SEAL_SHRINK);

	rig.areas[0] = (struct cleat_server_area){ PAGE, PAGE, fd, 0 };
	rig_open(&rig);
	ATF_REQUIRE_EQ(0, cleat_mmio_create(&mmio));
	binding = rig_bind(&rig, mmio, NULL, 0);
	ATF_REQUIRE_EQ(0, try(&rig, mmio, 0, BAR, CLEAT_COALESCE_ANYWAY));
	ATF_REQUIRE_EQ(0, cleat_binding_place(binding, AT));
	store(mmio, AT + PAGE - 4, 1, 4);
	store(mmio, AT + PAGE, 2, 4);
	store(mmio, AT + 2 * PAGE, 3, 4);
	store(mmio, AT + PAGE - 4, 4 | 5ull << 32, 8); /* over the end of a way */
	ATF_CHECK_EQ(4, load(mmio, AT + PAGE - 4, 4));
	ATF_CHECK_EQ(5, load(mmio, AT + PAGE, 4));
	ATF_REQUIRE_EQ(0, cleat_device_stats(rig.dev, &stats));
	ATF_CHECK_EQ(3, stats.posted);
	cleat_mmio_unbind(binding);
	cleat_mmio_unref(mmio);
	rig_close(&rig);
	close(fd);
}

/* --- Refreshed -------------------------------------------------------------- */

/* Not even a region with nothing to collect: order is the device's. */
CLEAT_TC(refresh__device_collected)
{
	struct rig rig = { 0 };
	struct cleat_binding *bindings[2], *beside;
	struct cleat_mmio *mmio;
	struct cleat_error why;

	rig_open(&rig);
	ATF_REQUIRE_EQ(0, cleat_mmio_create(&mmio));
	/* Of two bindings of a region the first is the one that is meant. */
	for (unsigned i = 0; i < 2; i++)
		bindings[i] = rig_bind(&rig, mmio, NULL, i);
	ATF_REQUIRE_EQ(0, try(&rig, mmio, 0, PAGE, 0));
	ATF_REQUIRE_EQ(0, cleat_binding_place(bindings[1], AT));
	beside = bindings[1];
	ATF_CHECK_EQ(-EBUSY, cleat_binding_refresh(&bindings[1], &why));
	ATF_CHECK_STREQ("region 0: writes to its device are collected",
			why.text);
	ATF_CHECK_EQ(beside, bindings[1]);
	ATF_CHECK_EQ(-EBUSY, cleat_binding_refresh(&bindings[0], NULL));
	for (unsigned i = 0; i < 2; i++)
		cleat_mmio_unbind(bindings[i]);
	cleat_mmio_unref(mmio);
	rig_close(&rig);
}

CLEAT_TC(refresh__after_what_was_posted)
{
	struct rig rig = { 0 };
	struct cleat_binding *binding;
	struct cleat_mmio *mmio;

	rig_open(&rig);
	ATF_REQUIRE_EQ(0, cleat_mmio_create(&mmio));
	binding = rig_bind(&rig, mmio, NULL, 0);
	for (uint32_t i = 0; i < N; i++)
		ATF_REQUIRE_EQ(0, cleat_region_post(rig.dev, 0, 4 * i, &i, 4));
	ATF_REQUIRE_EQ(0, cleat_binding_refresh(&binding, NULL));
	ATF_CHECK_EQ(N, atomic_load(&rig.writes));
	cleat_mmio_unbind(binding);
	cleat_mmio_unref(mmio);
	rig_close(&rig);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, drain__one_message);
	ATF_TP_ADD_TC(tp, drain__server_without_multi);
	ATF_TP_ADD_TC(tp, drain__two_devices);
	ATF_TP_ADD_TC(tp, access__after_what_was_collected);
	ATF_TP_ADD_TC(tp, drain__place_is_gone);
	ATF_TP_ADD_TC(tp, drain__impossible_entries);
	ATF_TP_ADD_TC(tp, drain__called_back);
	ATF_TP_ADD_TC(tp, drain__called_back_multi);
	ATF_TP_ADD_TC(tp, drain__server_deaf);
	ATF_TP_ADD_TC(tp, read__by_many_vcpus);
	ATF_TP_ADD_TC(tp, coalesce__refused);
	ATF_TP_ADD_TC(tp, coalesce__around_a_mapped_page);
	ATF_TP_ADD_TC(tp, refresh__device_collected);
	ATF_TP_ADD_TC(tp, refresh__after_what_was_posted);
	return atf_no_error();
}
