/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests that a leader sends for others. What makes it certain that the
 * leader is awake: it is inside a handler, for a DMA_READ that came in one
 * piece with a reply to somebody else.
 */
#include <semaphore.h>
#include <string.h>

#include "client/engine.h"
#include "tests/support/model.h"

#define RW (CLEAT_REGION_READ | CLEAT_REGION_WRITE)
#define EARLY 0 /* offsets: the read that is answered first, */
#define LEADING 8 /* the leader's, */
#define GATHERED 16 /* and the one that it is to send */

struct request {
	struct cleat_wire_access asked, reply;
	uint32_t value;
	struct cleat_call call;
};

/**
 * struct scene
 * @at_once:  the leader's own reply comes in the same piece
 * @hang_up:  the server closes when the leader goes on
 * @inside:   the leader is in the handler
 * @go:       and may leave it
 */
struct scene {
	bool at_once;
	bool hang_up;
	struct model model;
	struct cleat_device *dev;
	struct request early;
	struct request gathered;
	sem_t inside;
	sem_t go;
	pthread_t leader;
	int err;
	struct peer_message first, leading;
};

struct packed {
	struct cleat_header header;
	struct cleat_wire_access access;
	uint32_t value;
} __attribute__((packed));

static struct packed reply_to(const struct peer_message *m)
{
	struct packed reply = {
		.header = { .id = m->header.id,
			    .command = m->header.command,
			    .size = sizeof(reply),
			    .flags = CLEAT_HEADER_REPLY },
		.value = 0x11111111,
	};

	memcpy(&reply.access, m->body, sizeof(reply.access));
	return reply;
}

/* Reply, request and perhaps another reply, as one piece. */
static int send_piece(struct scene *scene)
{
	struct {
		struct packed first;
		struct cleat_header header;
		struct cleat_wire_dma dma;
		struct packed leading;
	} __attribute__((packed)) piece = {
		.first = reply_to(&scene->first),
		.header = { .id = 1,
			    .command = VFIO_USER_DMA_READ,
			    .size = sizeof(piece.header) + sizeof(piece.dma) },
		.dma = { .count = 4 },
		.leading = reply_to(&scene->leading),
	};
	size_t size = sizeof(piece);

	if (!scene->at_once)
		size -= sizeof(piece.leading);
	return peer_send_raw(scene->model.fd, &piece, size, NULL, 0);
}

static int on_read(struct scene *scene, const struct peer_message *m)
{
	struct cleat_wire_access access;
	struct peer_message copy = *m;

	memcpy(&access, m->body, sizeof(access));
	if (access.offset != EARLY && access.offset != LEADING)
		return 0;
	copy.body = malloc(m->length);
	memcpy(copy.body, m->body, m->length);
	if (access.offset == EARLY) {
		scene->first = copy;
		return 1;
	}
	scene->leading = copy;
	return send_piece(scene) ? -EPIPE : 1;
}

static int on_message(struct model *model, const struct peer_message *m)
{
	struct scene *scene = model->arg;
	struct packed reply;

	if (m->header.command == VFIO_USER_REGION_READ)
		return on_read(scene, m);
	if (m->header.command != VFIO_USER_DMA_READ)
		return 0;
	if (scene->hang_up)
		return -EPIPE;
	if (scene->at_once)
		return 1;
	reply = reply_to(&scene->leading);
	return peer_send_raw(model->fd, &reply, sizeof(reply), NULL, 0) ?
		       -EPIPE :
		       1;
}

static int handle(void *opaque, struct cleat_inbound *in)
{
	struct scene *scene = opaque;

	sem_post(&scene->inside);
	sem_wait(&scene->go);
	return -EINVAL;
}

static void *lead(void *arg)
{
	struct scene *scene = arg;
	uint32_t value;

	scene->err = cleat_region_read(scene->dev, 0, LEADING, &value, 4);
	return NULL;
}

static void make_request(struct request *request, uint64_t offset)
{
	*request = (struct request){
		.asked = { .offset = offset, .region = 0, .count = 4 },
		.call = { .command = VFIO_USER_REGION_READ,
			  .flags = CLEAT_CALL_KEPT | CLEAT_CALL_PARK,
			  .head_size = sizeof(request->asked),
			  .reply_min = sizeof(request->reply),
			  .reply_size = sizeof(request->reply),
			  .reply_data_size = sizeof(request->value) },
	};
	request->call.head = &request->asked;
	request->call.reply = &request->reply;
	request->call.reply_data = &request->value;
}

/* Until the leader is inside the handler and has a request to send. */
static void set_up(struct scene *scene)
{
	struct cleat_device_config config = { .size = sizeof(config),
					      .flags = CLEAT_DEVICE_NO_TWIN };

	scene->model = (struct model){ .num_regions = 1,
				       .regions = { { 65536, RW } },
				       .on = on_message,
				       .arg = scene };
	sem_init(&scene->inside, 0, 0);
	sem_init(&scene->go, 0, 0);
	make_request(&scene->early, EARLY);
	make_request(&scene->gathered, GATHERED);
	scene->dev = model_open(&scene->model, &config);
	cleat_device_serve(scene->dev, VFIO_USER_DMA_READ, handle, scene);
	ATF_REQUIRE_EQ(0, cleat_call_start(scene->dev, &scene->early.call));
	pthread_create(&scene->leader, NULL, lead, scene);
	sem_wait(&scene->inside);
	ATF_REQUIRE_EQ(0, cleat_call_start(scene->dev, &scene->gathered.call));
	ATF_REQUIRE_EQ(2, model_count(&scene->model, VFIO_USER_REGION_READ));
}

static void let_go(struct scene *scene, int expected)
{
	sem_post(&scene->go);
	pthread_join(scene->leader, NULL);
	ATF_CHECK_EQ(expected, scene->err);
}

static void tear_down(struct scene *scene)
{
	ATF_CHECK_EQ(0, cleat_call_finish(scene->dev, &scene->early.call));
	cleat_device_unref(scene->dev);
	model_end(&scene->model);
	free(scene->first.body);
	free(scene->leading.body);
}

CLEAT_TC(gather__sent_before_the_leader_sleeps)
{
	struct scene scene = { 0 };

	set_up(&scene);
	sem_post(&scene.go);
	ATF_CHECK_EQ(0, cleat_call_finish(scene.dev, &scene.gathered.call));
	pthread_join(scene.leader, NULL);
	ATF_CHECK_EQ(0, scene.err);
	ATF_CHECK_EQ(3, model_count(&scene.model, VFIO_USER_REGION_READ));
	tear_down(&scene);
}

CLEAT_TC(gather__sent_before_the_leader_leaves)
{
	struct scene scene = { .at_once = true };

	set_up(&scene);
	let_go(&scene, 0);
	REQUIRE_SOON(model_count(&scene.model, VFIO_USER_REGION_READ) == 3);
	ATF_CHECK_EQ(0, cleat_call_finish(scene.dev, &scene.gathered.call));
	tear_down(&scene);
}

/* The last of them does not wait for the leader, which is busy. */
CLEAT_TC(gather__as_many_as_may_wait)
{
	struct request more[CLEAT_GATHER_NUM - 1];
	struct scene scene = { 0 };

	set_up(&scene);
	for (unsigned i = 0; i < CLEAT_GATHER_NUM - 1; i++) {
		make_request(&more[i], GATHERED);
		ATF_REQUIRE_EQ(0, cleat_call_start(scene.dev, &more[i].call));
	}
	REQUIRE_SOON(model_count(&scene.model, VFIO_USER_REGION_READ) ==
		     2 + CLEAT_GATHER_NUM);
	let_go(&scene, 0);
	ATF_CHECK_EQ(0, cleat_call_finish(scene.dev, &scene.gathered.call));
	for (unsigned i = 0; i < CLEAT_GATHER_NUM - 1; i++)
		ATF_CHECK_EQ(0, cleat_call_finish(scene.dev, &more[i].call));
	tear_down(&scene);
}

CLEAT_TC(gather__abandoned)
{
	struct scene scene = { 0 };
	uint32_t value;

	set_up(&scene);
	cleat_call_abandon(scene.dev, &scene.gathered.call);
	let_go(&scene, 0);
	ATF_CHECK_EQ(0, cleat_region_read(scene.dev, 0, 24, &value, 4));
	ATF_CHECK_EQ(3, model_count(&scene.model, VFIO_USER_REGION_READ));
	tear_down(&scene);
}

/* A vCPU called back meanwhile comes again, and the request goes out once. */
CLEAT_TC(gather__parked)
{
	struct scene scene = { .at_once = true };
	struct cleat_cancel *cancel;

	set_up(&scene);
	cleat_cancel_create(&cancel);
	cleat_cancel_enter(cancel);
	cleat_cancel_set(cancel);
	ATF_CHECK_EQ(-EINTR,
		     cleat_call_finish(scene.dev, &scene.gathered.call));
	cleat_cancel_clear(cancel);
	let_go(&scene, 0);
	ATF_CHECK_EQ(0, cleat_call_finish(scene.dev, &scene.gathered.call));
	ATF_CHECK_EQ(3, model_count(&scene.model, VFIO_USER_REGION_READ));
	cleat_cancel_enter(NULL);
	cleat_cancel_destroy(cancel);
	tear_down(&scene);
}

CLEAT_TC(gather__cancelled)
{
	struct scene scene = { 0 };
	struct cleat_cancel *cancel;
	uint32_t value;

	set_up(&scene);
	cleat_cancel_create(&cancel);
	cleat_cancel_enter(cancel);
	cleat_cancel_set(cancel);
	scene.gathered.call.flags &= (uint8_t)~CLEAT_CALL_PARK;
	ATF_CHECK_EQ(-ECANCELED,
		     cleat_call_finish(scene.dev, &scene.gathered.call));
	cleat_cancel_clear(cancel);
	let_go(&scene, 0);
	ATF_CHECK_EQ(0, cleat_region_read(scene.dev, 0, 24, &value, 4));
	ATF_CHECK_EQ(3, model_count(&scene.model, VFIO_USER_REGION_READ));
	cleat_cancel_enter(NULL);
	cleat_cancel_destroy(cancel);
	tear_down(&scene);
}

CLEAT_TC(gather__connection_lost)
{
	struct scene scene = { .hang_up = true };

	set_up(&scene);
	let_go(&scene, -ENOTCONN);
	ATF_CHECK_EQ(-ENOTCONN,
		     cleat_call_finish(scene.dev, &scene.gathered.call));
	tear_down(&scene);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, gather__sent_before_the_leader_sleeps);
	ATF_TP_ADD_TC(tp, gather__sent_before_the_leader_leaves);
	ATF_TP_ADD_TC(tp, gather__as_many_as_may_wait);
	ATF_TP_ADD_TC(tp, gather__abandoned);
	ATF_TP_ADD_TC(tp, gather__parked);
	ATF_TP_ADD_TC(tp, gather__cancelled);
	ATF_TP_ADD_TC(tp, gather__connection_lost);
	return atf_no_error();
}
