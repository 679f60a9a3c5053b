/* SPDX-License-Identifier: BSD-2-Clause */
/* Replies that belong to nothing, come twice, or say what cannot be. */
#include "tests/hostile/scene.h"

/* What the server does at a read of offset 0. */
struct twist {
	uint16_t id; /* added to the request's */
	uint16_t command; /* in its place, unless 0 */
	uint32_t flags; /* of an error; 0: none */
	uint32_t error;
	size_t payload; /* of an error */
	unsigned times;
	struct cleat_wire_access access; /* added to the request's */
	size_t data;
};

static int say_error(struct model *model, const struct peer_message *m)
{
	const struct twist *twist = model->arg;
	struct peer_header header = scene_header(m, twist->payload);
	uint8_t *body = calloc(1, twist->payload + 1);
	int err;

	header.flags = twist->flags;
	header.error = twist->error;
	err = scene_say(model, header, body, twist->payload, NULL, 0);
	free(body);
	return err;
}

static int answer(struct model *model, const struct peer_message *m)
{
	const struct twist *twist = model->arg;
	struct {
		struct cleat_wire_access access;
		uint8_t data[64];
	} reply = { { 0 } };
	size_t length = sizeof(reply.access) + twist->data;
	struct peer_header header = scene_header(m, length);
	int err = 1;

	memcpy(&reply.access, m->body, sizeof(reply.access));
	reply.access.offset += twist->access.offset;
	reply.access.region += twist->access.region;
	reply.access.count += twist->access.count;
	header.id = (uint16_t)(header.id + twist->id);
	header.command = twist->command ? twist->command : header.command;
	for (unsigned i = 0; i < twist->times && err == 1; i++)
		err = scene_say(model, header, &reply, length, NULL, 0);
	return err;
}

static int twist_it(struct model *model, const struct peer_message *m)
{
	const struct twist *twist = model->arg;

	if (!scene_is_read(m))
		return 0;
	return twist->flags ? say_error(model, m) : answer(model, m);
}

static void begin(struct scene *scene, struct twist *twist)
{
	scene_begin(scene);
	scene->bad.on = twist_it;
	scene->bad.arg = twist;
	scene_open(scene);
}

static void ends_it(struct twist twist, int err, const char *reason)
{
	struct scene scene;

	begin(&scene, &twist);
	ATF_CHECK_EQ(err, scene_read(&scene));
	scene_lost(&scene, -EPROTO, reason);
	scene_end(&scene);
}

/* The read fails, and that is all. */
static void fails_only(struct twist twist, int err)
{
	struct scene scene;
	uint32_t value;

	begin(&scene, &twist);
	ATF_CHECK_EQ(err, scene_read(&scene));
	ATF_CHECK_EQ(0, cleat_region_read(scene.dev, 0, 8, &value, 4));
	scene_stands(&scene);
	scene_end(&scene);
}

/* --- That belong to nothing ------------------------------------------------- */

CLEAT_TC(reply__wrong_id)
{
	ends_it((struct twist){ .id = 1, .times = 1, .data = 4 }, -ENOTCONN,
		"request that nobody made .*REGION_READ");
}

CLEAT_TC(reply__id_of_another_generation)
{
	ends_it((struct twist){ .id = 0x200, .times = 1, .data = 4 },
		-ENOTCONN, "request that nobody made");
}

CLEAT_TC(reply__wrong_command)
{
	ends_it((struct twist){ .command = VFIO_USER_DEVICE_RESET,
				.times = 1, .data = 4 },
		-ENOTCONN, "request that nobody made .*DEVICE_RESET");
}

CLEAT_TC(reply__unknown_command)
{
	ends_it((struct twist){ .command = 999, .times = 1, .data = 4 },
		-ENOTCONN, "request that nobody made .*no known command");
}

CLEAT_TC(reply__twice)
{
	struct twist twist = { .times = 2, .data = 4 };
	struct scene scene;
	int err;

	begin(&scene, &twist);
	err = scene_read(&scene);
	ATF_CHECK(err == 0 || err == -ENOTCONN);
	/* The second one is found by whoever reads next. */
	scene_read(&scene);
	scene_lost(&scene, -EPROTO, "request that nobody made");
	scene_end(&scene);
}

/* Sent while nothing was asked: found at the next request. */
CLEAT_TC(reply__before_the_request)
{
	struct twist twist = { .times = 1, .data = 4 };
	struct peer_header header = { 7, VFIO_USER_REGION_READ, 16, PEER_REPLY };
	struct scene scene;

	begin(&scene, &twist);
	ATF_REQUIRE_EQ(1, scene_say(&scene.bad, header, NULL, 0, NULL, 0));
	ATF_CHECK_EQ(-ENOTCONN, scene_read(&scene));
	scene_lost(&scene, -EPROTO, "request that nobody made .id 7");
	scene_end(&scene);
}

static int answer_posted(struct model *model, const struct peer_message *m)
{
	if (m->header.command != VFIO_USER_REGION_WRITE)
		return 0;
	return scene_say(model, scene_header(m, 0), NULL, 0, NULL, 0);
}

CLEAT_TC(reply__to_a_posted_write)
{
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = answer_posted;
	scene_open(&scene);
	ATF_CHECK_EQ(0, cleat_region_post(scene.dev, 0, 0, "abcd", 4));
	REQUIRE_SOON(model_count(&scene.bad, VFIO_USER_REGION_WRITE) == 1);
	ATF_CHECK_EQ(-ENOTCONN, scene_read(&scene));
	scene_lost(&scene, -EPROTO, "nobody made .id 65535, REGION_WRITE");
	scene_end(&scene);
}

/* --- Errors ------------------------------------------------------------------- */

CLEAT_TC(error__without_payload)
{
	fails_only((struct twist){ .flags = PEER_REPLY | PEER_ERROR,
				   .error = ENXIO }, -ENXIO);
}

CLEAT_TC(error__with_payload)
{
	fails_only((struct twist){ .flags = PEER_REPLY | PEER_ERROR,
				   .error = ENXIO, .payload = 16 + 4 },
		   -ENXIO);
}

CLEAT_TC(error__with_a_large_payload)
{
	fails_only((struct twist){ .flags = PEER_REPLY | PEER_ERROR,
				   .error = ENXIO, .payload = 1000000 },
		   -ENXIO);
}

CLEAT_TC(error__of_type_command)
{
	fails_only((struct twist){ .flags = PEER_ERROR, .error = ENXIO },
		   -ENXIO);
}

CLEAT_TC(error__zero)
{
	fails_only((struct twist){ .flags = PEER_REPLY | PEER_ERROR }, -EIO);
}

CLEAT_TC(error__no_errno)
{
	fails_only((struct twist){ .flags = PEER_REPLY | PEER_ERROR,
				   .error = 4096 }, -EPROTO);
	fails_only((struct twist){ .flags = PEER_REPLY | PEER_ERROR,
				   .error = 0x80000001u }, -EPROTO);
}

/* The numbers that say what became of a call are the library's alone. */
CLEAT_TC(error__that_only_the_library_gives)
{
	static const uint32_t ours[] = { EINTR, ECANCELED, ETIMEDOUT, ENOTCONN,
					 ESHUTDOWN, ECHILD };

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		fails_only((struct twist){ .flags = PEER_REPLY | PEER_ERROR,
					   .error = ours[i] }, -EREMOTEIO);
}

/* --- Echoes --------------------------------------------------------------------- */

CLEAT_TC(read__of_another_offset)
{
	ends_it((struct twist){ .times = 1, .data = 4,
				.access = { .offset = 4 } },
		-EPROTO, "another region access");
}

CLEAT_TC(read__of_another_region)
{
	ends_it((struct twist){ .times = 1, .data = 4,
				.access = { .region = 1 } },
		-EPROTO, "another region access");
}

CLEAT_TC(read__count_above_the_request)
{
	ends_it((struct twist){ .times = 1, .data = 4,
				.access = { .count = 1 } },
		-EPROTO, "another region access");
}

CLEAT_TC(read__data_above_the_request)
{
	ends_it((struct twist){ .times = 1, .data = 64 }, -EPROTO,
		"reply to REGION_READ has 80 bytes, which cannot be");
}

CLEAT_TC(read__less_than_asked)
{
	fails_only((struct twist){ .times = 1, .data = 2,
				   .access = { .count = -2u } },
		   -EIO);
}

/* It claims all and brings less. */
CLEAT_TC(read__data_below_its_count)
{
	ends_it((struct twist){ .times = 1, .data = 2 }, -EPROTO,
		"another region access");
}

static int inflate_writes(struct model *model, const struct peer_message *m)
{
	struct cleat_wire_access access;
	uint64_t done = 1000;

	if (m->header.command == VFIO_USER_REGION_WRITE_MULTI)
		return scene_say(model, scene_header(m, 8), &done, 8, NULL, 0);
	if (m->header.command != VFIO_USER_REGION_WRITE)
		return 0;
	memcpy(&access, m->body, sizeof(access));
	access.count += 100;
	return scene_say(model, scene_header(m, 16), &access, 16, NULL, 0);
}

CLEAT_TC(write__more_than_asked)
{
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = inflate_writes;
	scene_open(&scene);
	ATF_CHECK_EQ(-EPROTO, cleat_region_write(scene.dev, 0, 0, "abcd", 4));
	scene_lost(&scene, -EPROTO, "another region access");
	scene_end(&scene);
}

CLEAT_TC(write_multi__more_than_asked)
{
	struct cleat_region_store store = { .count = 4 };
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = inflate_writes;
	scene.bad.json = "{\"capabilities\":{\"write_multiple\":true}}";
	scene_open(&scene);
	ATF_CHECK_EQ(-EIO,
		     cleat_region_write_batch(scene.dev, &store, 1, true));
	scene_stands(&scene);
	scene_end(&scene);
}

static int answer_everything(struct model *model, const struct peer_message *m)
{
	static const uint8_t body[4096];

	if (m->header.command != VFIO_USER_DEVICE_RESET &&
	    m->header.command != VFIO_USER_DEVICE_FEATURE)
		return 0;
	return scene_say(model, scene_header(m, sizeof(body)), body,
			 sizeof(body), NULL, 0);
}

CLEAT_TC(reset__with_a_payload)
{
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = answer_everything;
	scene_open(&scene);
	ATF_CHECK_EQ(-EPROTO, cleat_device_reset(scene.dev));
	scene_lost(&scene, -EPROTO, "DEVICE_RESET has 4096 bytes");
	scene_end(&scene);
}

CLEAT_TC(feature__more_than_there_is_room_for)
{
	uint64_t data[2] = { 0, 0x5a5a5a5a };
	struct scene scene;
	int err;

	scene_begin(&scene);
	scene.bad.on = answer_everything;
	scene_open(&scene);
	err = cleat_device_feature(scene.dev, 1, CLEAT_FEATURE_GET, data, 0, 8,
				   NULL);
	ATF_CHECK_EQ(-EPROTO, err);
	ATF_CHECK_EQ(0x5a5a5a5a, data[1]);
	scene_end(&scene);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, reply__wrong_id);
	ATF_TP_ADD_TC(tp, reply__id_of_another_generation);
	ATF_TP_ADD_TC(tp, reply__wrong_command);
	ATF_TP_ADD_TC(tp, reply__unknown_command);
	ATF_TP_ADD_TC(tp, reply__twice);
	ATF_TP_ADD_TC(tp, reply__before_the_request);
	ATF_TP_ADD_TC(tp, reply__to_a_posted_write);
	ATF_TP_ADD_TC(tp, error__without_payload);
	ATF_TP_ADD_TC(tp, error__with_payload);
	ATF_TP_ADD_TC(tp, error__with_a_large_payload);
	ATF_TP_ADD_TC(tp, error__of_type_command);
	ATF_TP_ADD_TC(tp, error__zero);
	ATF_TP_ADD_TC(tp, error__no_errno);
	ATF_TP_ADD_TC(tp, error__that_only_the_library_gives);
	ATF_TP_ADD_TC(tp, read__of_another_offset);
	ATF_TP_ADD_TC(tp, read__of_another_region);
	ATF_TP_ADD_TC(tp, read__count_above_the_request);
	ATF_TP_ADD_TC(tp, read__data_above_the_request);
	ATF_TP_ADD_TC(tp, read__less_than_asked);
	ATF_TP_ADD_TC(tp, read__data_below_its_count);
	ATF_TP_ADD_TC(tp, write__more_than_asked);
	ATF_TP_ADD_TC(tp, write_multi__more_than_asked);
	ATF_TP_ADD_TC(tp, reset__with_a_payload);
	ATF_TP_ADD_TC(tp, feature__more_than_there_is_room_for);
	return atf_no_error();
}
