/* SPDX-License-Identifier: BSD-2-Clause */
/* What a server may ask of guest memory, on the main socket. */
#include <poll.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "tests/hostile/scene.h"

/* Requests of the server's, made by its own thread in place of an answer. */
struct dialogue {
	int (*talk)(struct model *model);
	int result;
};

static int talk_first(struct model *model, const struct peer_message *m)
{
	struct dialogue *dialogue = model->arg;

	if (!scene_is_read(m))
		return 0;
	dialogue->result = dialogue->talk(model);
	return dialogue->result ? -EPIPE : 0;
}

/* A device attached to memory, whose server talks while a read waits. */
static void talk(int (*words)(struct model *model))
{
	struct dialogue dialogue = { words, 1 };
	struct scene scene;
	struct ram ram;

	scene_begin(&scene);
	scene.config.access_ms = 5000;
	scene.bad.on = talk_first;
	scene.bad.arg = &dialogue;
	ram_begin(&ram);
	scene_open(&scene);
	ATF_REQUIRE_EQ(0, cleat_memory_attach(ram.memory, scene.dev));
	ATF_CHECK_EQ(0, scene_read(&scene));
	ATF_CHECK_EQ_MSG(0, dialogue.result, "in the server: %d",
			 dialogue.result);
	scene_stands(&scene);
	scene_end(&scene);
	ram_end(&ram);
}

struct request {
	uint16_t command;
	uint64_t address;
	uint64_t count;
	size_t data;
	int error;
};

#define READ VFIO_USER_DMA_READ
#define WRITE VFIO_USER_DMA_WRITE

/* Each of them gets its answer; a line number for what did not. */
static int ask_all(struct model *model, const struct request *requests,
		   size_t number)
{
	for (uint16_t i = 0; i < number; i++) {
		const struct request *r = &requests[i];
		size_t length;

		if (scene_ask(model->fd, i, r->command, r->address, r->count,
			      r->data))
			return 1000 + i;
		if (scene_told(model->fd, i, &length) != r->error)
			return 2000 + i;
		if (r->error && length)
			return 3000 + i;
	}
	return 0;
}

#define ASK(model, ...)                                                        \
	ask_all(model, (const struct request[]){ __VA_ARGS__ },                \
		sizeof((const struct request[]){ __VA_ARGS__ }) /              \
			sizeof(struct request))

static int ask_outside(struct model *model)
{
	return ASK(model, { READ, 0, 8, 0, EFAULT },
		   { WRITE, 0, 8, 8, EFAULT },
		   { READ, RAM_BOTH + RAM_LENGTH - 4, 8, 0, EFAULT },
		   { WRITE, RAM_BOTH + RAM_LENGTH - 4, 8, 8, EFAULT },
		   { READ, RAM_BOTH - 1, 2, 0, EFAULT },
		   { READ, RAM_READ + RAM_LENGTH, 1, 0, EFAULT },
		   { READ, 1ull << 63, 4096, 0, EFAULT },
		   { READ, RAM_BOTH, 8, 0, 0 });
}

CLEAT_TC(address__not_memory)
{
	talk(ask_outside);
}

static int ask_to_write(struct model *model)
{
	return ASK(model, { WRITE, RAM_READ, 8, 8, EACCES },
		   { WRITE, RAM_READ + RAM_LENGTH - 8, 8, 8, EACCES },
		   { WRITE, RAM_READ - 4, 8, 8, EFAULT },
		   { READ, RAM_READ, 8, 0, 0 });
}

CLEAT_TC(right__write_to_read_only)
{
	talk(ask_to_write);
}

static int ask_around(struct model *model)
{
	return ASK(model, { READ, UINT64_MAX, 1, 0, EFAULT },
		   { READ, UINT64_MAX, 2, 0, EFAULT },
		   { READ, -(uint64_t)4096, 8192, 0, EFAULT },
		   { WRITE, -(uint64_t)4, 8, 8, EFAULT },
		   { READ, RAM_BOTH, UINT64_MAX, 0, E2BIG },
		   { READ, RAM_BOTH, -(uint64_t)RAM_BOTH, 0, E2BIG });
}

CLEAT_TC(address__around_the_end_of_the_world)
{
	talk(ask_around);
}

static int ask_much(struct model *model)
{
	return ASK(model, { READ, RAM_BOTH, CLEAT_MAX_TRANSFER + 1, 0, E2BIG },
		   { READ, RAM_BOTH, 1ull << 32, 0, E2BIG },
		   { READ, RAM_BOTH, UINT64_MAX - 15, 0, E2BIG },
		   { WRITE, RAM_BOTH, 1ull << 32, 0, E2BIG },
		   { READ, RAM_BOTH, 0, 0, 0 },
		   { WRITE, RAM_BOTH, 0, 0, 0 },
		   { READ, 0, 0, 0, 0 });
}

CLEAT_TC(count__more_than_one_may_carry)
{
	talk(ask_much);
}

/* The largest there is works. */
static int ask_most(struct model *model)
{
	size_t length;

	if (scene_ask(model->fd, 1, READ, RAM_BOTH, CLEAT_MAX_TRANSFER - 64, 0))
		return 1;
	if (scene_told(model->fd, 1, &length))
		return 2;
	return length == 16 + CLEAT_MAX_TRANSFER - 64 ? 0 : 3;
}

CLEAT_TC(count__as_much_as_one_may_carry)
{
	talk(ask_most);
}

static int ask_lying(struct model *model)
{
	return ASK(model, { WRITE, RAM_BOTH, 8, 0, EINVAL },
		   { WRITE, RAM_BOTH, 8, 7, EINVAL },
		   { WRITE, RAM_BOTH, 8, 9, EINVAL },
		   { WRITE, RAM_BOTH, 0, 100, EINVAL },
		   { WRITE, RAM_BOTH, CLEAT_MAX_TRANSFER, 16, EINVAL },
		   { READ, RAM_BOTH, 8, 8, EINVAL });
}

CLEAT_TC(length__not_as_counted)
{
	talk(ask_lying);
}

static int ask_short(struct model *model)
{
	static const uint8_t body[15];

	for (uint16_t length = 0; length < 16; length++) {
		size_t got;

		if (peer_command(model->fd, length, length & 1 ? READ : WRITE,
				 body, length, NULL, 0))
			return 1000 + length;
		if (scene_told(model->fd, length, &got) != EINVAL)
			return 2000 + length;
	}
	return 0;
}

CLEAT_TC(length__short_of_the_fixed_part)
{
	talk(ask_short);
}

/* Whatever else a server may ask of a client: nothing. */
static int ask_for_anything(struct model *model)
{
	for (uint16_t i = 0; i < 100; i++) {
		uint16_t command = i < 30 ? i : (uint16_t)(i * 661);
		size_t length;

		if (command == READ || command == WRITE)
			continue;
		if (scene_ask(model->fd, i, command, 0, 0, i))
			return 1000 + i;
		if (scene_told(model->fd, i, &length) != EINVAL)
			return 2000 + i;
	}
	return 0;
}

CLEAT_TC(command__not_for_clients)
{
	talk(ask_for_anything);
}

/* A write that ends in the gap has written nothing. */
static int write_into_gap(struct model *model)
{
	return ASK(model,
		   { WRITE, RAM_BOTH + RAM_LENGTH - 4096, 8192, 8192, EFAULT });
}

CLEAT_TC(write__not_by_halves)
{
	struct dialogue dialogue = { write_into_gap, 1 };
	struct scene scene;
	struct ram ram;

	scene_begin(&scene);
	scene.bad.on = talk_first;
	scene.bad.arg = &dialogue;
	ram_begin(&ram);
	scene_open(&scene);
	ATF_REQUIRE_EQ(0, cleat_memory_attach(ram.memory, scene.dev));
	ATF_CHECK_EQ(0, scene_read(&scene));
	ATF_CHECK_EQ(0, dialogue.result);
	for (size_t i = RAM_LENGTH - 4096; i < RAM_LENGTH; i++)
		ATF_REQUIRE_EQ(0x5a, ram.host[i]);
	scene_end(&scene);
	ram_end(&ram);
}

static int ask_without_memory(struct model *model)
{
	return ASK(model, { READ, RAM_BOTH, 8, 0, EINVAL },
		   { WRITE, RAM_BOTH, 8, 8, EINVAL });
}

CLEAT_TC(memory__none_attached)
{
	struct dialogue dialogue = { ask_without_memory, 1 };
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = talk_first;
	scene.bad.arg = &dialogue;
	scene_open(&scene);
	ATF_CHECK_EQ(0, scene_read(&scene));
	ATF_CHECK_EQ(0, dialogue.result);
	scene_end(&scene);
}

/* Before the device is one at all. */
static int ask_in_handshake(struct model *model, const struct peer_message *m)
{
	int *result = model->arg;
	size_t length;

	/* (what follows comes in one go) */
	if (m->header.command != VFIO_USER_VERSION &&
	    m->header.command != VFIO_USER_DEVICE_GET_INFO)
		return 0;
	if (scene_ask(model->fd, 9, READ, RAM_BOTH, 8, 0) ||
	    scene_told(model->fd, 9, &length) != EINVAL)
		*result = 1;
	return 0;
}

CLEAT_TC(memory__before_the_handshake_is_over)
{
	struct scene scene;
	int result = 0;

	scene_begin(&scene);
	scene.bad.on = ask_in_handshake;
	scene.bad.arg = &result;
	scene_open(&scene);
	ATF_CHECK_EQ(0, result);
	scene_end(&scene);
}

/* --- Floods ------------------------------------------------------------------------ */

static bool can_send(int fd, unsigned ms)
{
	return wait_fd(fd, POLLOUT, ms);
}

/* As many requests as go out while nothing is read. */
static unsigned flood(int fd, uint64_t count, unsigned most)
{
	struct {
		struct peer_header header;
		struct cleat_wire_dma dma;
	} ask = { { 0, READ, 32 }, { RAM_BOTH, count } };
	unsigned sent = 0;

	while (sent < most && can_send(fd, 200)) {
		ask.header.id = (uint16_t)sent;
		if (send(fd, &ask, sizeof(ask), MSG_DONTWAIT | MSG_NOSIGNAL) !=
		    sizeof(ask))
			break;
		sent++;
	}
	return sent;
}

static uint64_t served(struct cleat_device *dev)
{
	struct cleat_device_stats stats = { .size = sizeof(stats) };

	ATF_REQUIRE_EQ(0, cleat_device_stats(dev, &stats));
	return stats.server_requests;
}

/* Replies to requests [0, @number) in order; false when one is wrong. */
static bool take_replies(int fd, unsigned number, size_t count)
{
	for (unsigned i = 0; i < number; i++) {
		size_t length;

		if (scene_told(fd, (uint16_t)i, &length) ||
		    length != 16 + count)
			return false;
	}
	return true;
}

/* The server's own thread keeps away from the socket. */
static int stand_aside(struct model *model, const struct peer_message *m)
{
	atomic_bool *aside = model->arg;

	if (!scene_is_read(m))
		return 0;
	atomic_store(aside, true);
	while (atomic_load(aside))
		usleep(1000);
	return -EPIPE;
}

struct reader {
	struct cleat_device *dev;
	int result;
};

static int read_once(void *arg)
{
	struct reader *reader = arg;
	uint32_t value;

	reader->result = cleat_region_read(reader->dev, 0, 0, &value, 4);
	return 0;
}

/*
 * While a read waits, or while nobody does, the server asks and never looks at
 * an answer: what is kept for it is bounded, and so is the wait.
 */
static void flood_with(uint64_t count, bool reading, uint64_t most_served)
{
	atomic_bool aside = false;
	struct reader reader;
	struct script script;
	struct scene scene;
	unsigned sent;
	struct ram ram;

	scene_begin(&scene);
	scene.config.access_ms = 1000;
	scene.bad.on = stand_aside;
	scene.bad.arg = &aside;
	ram_begin(&ram);
	scene_open(&scene);
	ATF_REQUIRE_EQ(0, cleat_memory_attach(ram.memory, scene.dev));
	reader = (struct reader){ scene.dev, 1 };
	script_start(&script, read_once, &reader);
	REQUIRE_SOON(atomic_load(&aside));
	if (!reading)
		script_end(&script);
	sent = flood(scene.bad.fd, count, 200000);
	ATF_CHECK_MSG(sent < 200000, "nothing stops it");
	ATF_CHECK_MSG(served(scene.dev) <= most_served, "%llu were served",
		      (unsigned long long)served(scene.dev));
	if (reading)
		script_end(&script);
	ATF_CHECK_EQ(-ETIMEDOUT, reader.result);
	scene_check_friend(&scene);
	/* When it reads after all, everything is there, in order. */
	ATF_CHECK(take_replies(scene.bad.fd, sent, count));
	scene_stands(&scene);
	atomic_store(&aside, false);
	scene_end(&scene);
	ram_end(&ram);
}

/* Two wait, one is in the socket, one has just been served. */
CLEAT_TC(flood__a_megabyte_each)
{
	flood_with(CLEAT_MAX_TRANSFER - 64, true, 5);
}

CLEAT_TC(flood__a_megabyte_each_to_nobody)
{
	flood_with(CLEAT_MAX_TRANSFER - 64, false, 5);
}

/* Of small ones there are more; each costs more than its 32 bytes. What the
 * socket takes comes on top. */
#define MOST_SMALL (2 * CLEAT_MAX_MESSAGE / 48 + 2000)

CLEAT_TC(flood__nothing_each)
{
	flood_with(0, true, MOST_SMALL);
}

CLEAT_TC(flood__nothing_each_to_nobody)
{
	flood_with(0, false, MOST_SMALL);
}

/* It does not even want answers: a read still ends at its deadline. */
static int flood_on(struct model *model, const struct peer_message *m)
{
	struct {
		struct peer_header header;
		struct cleat_wire_dma dma;
	} ask = { { 1, READ, 32, PEER_NO_REPLY }, { RAM_BOTH, 65536 } };

	if (!scene_is_read(m))
		return 0;
	while (!peer_send_raw(model->fd, &ask, sizeof(ask), NULL, 0))
		;
	return -EPIPE;
}

CLEAT_TC(flood__without_replies)
{
	struct scene scene;
	struct ram ram;

	scene_begin(&scene);
	scene.bad.on = flood_on;
	ram_begin(&ram);
	scene_open(&scene);
	ATF_REQUIRE_EQ(0, cleat_memory_attach(ram.memory, scene.dev));
	ATF_CHECK_EQ(-ETIMEDOUT, scene_read(&scene));
	/* It goes on, and the other device's memory is served meanwhile. */
	ATF_REQUIRE_EQ(0, cleat_memory_attach(ram.memory, scene.friend));
	for (uint16_t i = 0; i < 10; i++) {
		uint64_t before = served(scene.friend);

		ATF_REQUIRE_EQ(0, scene_ask(scene.good.fd, i, READ, RAM_BOTH,
					    8, 0));
		REQUIRE_SOON(served(scene.friend) == before + 1);
	}
	ATF_CHECK_EQ(-ETIMEDOUT, scene_read(&scene));
	scene_end(&scene);
	ram_end(&ram);
}

/* --- Ranges come and go ------------------------------------------------------------- */

static int refuse_command(struct model *model, const struct peer_message *m)
{
	const uint16_t *command = model->arg;

	if (m->header.command != *command)
		return 0;
	return peer_reply_error(model->fd, m, ENOTCONN) ? -EPIPE : 1;
}

/* Both devices see the memory; then the bad one goes wrong. */
static void begin_shared(struct scene *scene, struct ram *ram)
{
	scene_begin(scene);
	ram_begin(ram);
	scene_open(scene);
	ATF_REQUIRE_EQ(0, cleat_memory_attach(ram->memory, scene->dev));
	ATF_REQUIRE_EQ(0, cleat_memory_attach(ram->memory, scene->friend));
}

static struct cleat_memory_range more_ram(const struct ram *ram)
{
	return (struct cleat_memory_range){
		.size = sizeof(struct cleat_memory_range),
		.rights = CLEAT_READ,
		.guest = 1ull << 32,
		.length = 4096,
		.host = ram->host,
		.fd = -1,
	};
}

CLEAT_TC(map__refused_with_an_odd_number)
{
	uint16_t command = VFIO_USER_DMA_MAP;
	struct cleat_memory_range more;
	struct scene scene;
	struct ram ram;

	begin_shared(&scene, &ram);
	scene.bad.arg = &command;
	scene.bad.on = refuse_command;
	more = more_ram(&ram);
	/* Not taken for a device that is gone. */
	ATF_CHECK_EQ(-EREMOTEIO, cleat_memory_add(ram.memory, &more));
	ATF_CHECK_EQ(1, model_count(&scene.good, VFIO_USER_DMA_UNMAP));
	scene_stands(&scene);
	scene_end(&scene);
	ram_end(&ram);
}

CLEAT_TC(map__not_answered)
{
	uint16_t command = VFIO_USER_DMA_MAP;
	struct cleat_memory_range more;
	struct scene scene;
	struct ram ram;

	begin_shared(&scene, &ram);
	scene.bad.arg = &command;
	scene.bad.on = scene_silent;
	more = more_ram(&ram);
	ATF_CHECK_EQ(-ETIMEDOUT, cleat_memory_add(ram.memory, &more));
	scene_lost(&scene, -ETIMEDOUT, "DMA_MAP was not answered in time: its");
	/* The others get it when it is tried again. */
	ATF_CHECK_EQ(0, cleat_memory_add(ram.memory, &more));
	scene_end(&scene);
	ram_end(&ram);
}

CLEAT_TC(unmap__not_answered)
{
	uint16_t command = VFIO_USER_DMA_UNMAP;
	struct scene scene;
	struct ram ram;

	begin_shared(&scene, &ram);
	scene.bad.arg = &command;
	scene.bad.on = scene_silent;
	ATF_CHECK_EQ(-ETIMEDOUT,
		     cleat_memory_remove(ram.memory, RAM_READ, RAM_LENGTH));
	scene_lost(&scene, -ETIMEDOUT, "DMA_UNMAP was not answered in time");
	ATF_CHECK_EQ(1, model_count(&scene.good, VFIO_USER_DMA_UNMAP));
	scene_end(&scene);
	ram_end(&ram);
}

CLEAT_TC(unmap__refused)
{
	uint16_t command = VFIO_USER_DMA_UNMAP;
	struct scene scene;
	struct ram ram;

	begin_shared(&scene, &ram);
	scene.bad.arg = &command;
	scene.bad.on = refuse_command;
	ATF_CHECK_EQ(-ENOTCONN,
		     cleat_memory_remove(ram.memory, RAM_READ, RAM_LENGTH));
	scene_lost(&scene, -EPROTO, "DMA_UNMAP of 0x800000 was refused");
	scene_end(&scene);
	ram_end(&ram);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, address__not_memory);
	ATF_TP_ADD_TC(tp, right__write_to_read_only);
	ATF_TP_ADD_TC(tp, address__around_the_end_of_the_world);
	ATF_TP_ADD_TC(tp, count__more_than_one_may_carry);
	ATF_TP_ADD_TC(tp, count__as_much_as_one_may_carry);
	ATF_TP_ADD_TC(tp, length__not_as_counted);
	ATF_TP_ADD_TC(tp, length__short_of_the_fixed_part);
	ATF_TP_ADD_TC(tp, command__not_for_clients);
	ATF_TP_ADD_TC(tp, write__not_by_halves);
	ATF_TP_ADD_TC(tp, memory__none_attached);
	ATF_TP_ADD_TC(tp, memory__before_the_handshake_is_over);
	ATF_TP_ADD_TC(tp, flood__a_megabyte_each);
	ATF_TP_ADD_TC(tp, flood__a_megabyte_each_to_nobody);
	ATF_TP_ADD_TC(tp, flood__nothing_each);
	ATF_TP_ADD_TC(tp, flood__nothing_each_to_nobody);
	ATF_TP_ADD_TC(tp, flood__without_replies);
	ATF_TP_ADD_TC(tp, map__refused_with_an_odd_number);
	ATF_TP_ADD_TC(tp, map__not_answered);
	ATF_TP_ADD_TC(tp, unmap__not_answered);
	ATF_TP_ADD_TC(tp, unmap__refused);
	return atf_no_error();
}
