/* SPDX-License-Identifier: BSD-2-Clause */
/* Headers that lie, and streams that end or stop anywhere. */
#include "tests/hostile/scene.h"

/* What the server does at a read of offset 0. */
struct lie {
	uint32_t size;
	uint32_t flags;
	size_t payload; /* bytes that really follow */
};

static int tell_lie(struct model *model, const struct peer_message *m)
{
	const struct lie *lie = model->arg;
	static uint8_t body[8192];
	struct peer_header header;

	if (!scene_is_read(m))
		return 0;
	header = scene_header(m, 0);
	header.size = lie->size;
	header.flags = lie->flags;
	return scene_say(model, header, body, lie->payload, NULL, 0);
}

/* The read fails with @err, and the connection for @reason. */
static void lie_ends_it(struct lie lie, int err, const char *reason)
{
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = tell_lie;
	scene.bad.arg = &lie;
	scene_open(&scene);
	ATF_CHECK_EQ(err, scene_read(&scene));
	scene_lost(&scene, -EPROTO, reason);
	scene_end(&scene);
}

CLEAT_TC(header__size_zero)
{
	lie_ends_it((struct lie){ 0, PEER_REPLY, 20 }, -ENOTCONN,
		    "impossible header");
}

CLEAT_TC(header__size_below_itself)
{
	lie_ends_it((struct lie){ 15, PEER_REPLY, 20 }, -ENOTCONN,
		    "impossible header");
}

CLEAT_TC(header__size_4_gib)
{
	lie_ends_it((struct lie){ UINT32_MAX, PEER_REPLY, 20 }, -ENOTCONN,
		    "impossible header");
}

CLEAT_TC(header__size_above_the_largest)
{
	lie_ends_it((struct lie){ CLEAT_MAX_MESSAGE + 1, PEER_REPLY, 20 },
		    -ENOTCONN, "impossible header");
}

CLEAT_TC(header__unknown_type)
{
	lie_ends_it((struct lie){ 36, 2, 20 }, -ENOTCONN, "impossible header");
	lie_ends_it((struct lie){ 36, 15, 20 }, -ENOTCONN, "impossible header");
}

CLEAT_TC(length__no_payload)
{
	lie_ends_it((struct lie){ 16, PEER_REPLY, 0 }, -EPROTO,
		    "reply to REGION_READ has 0 bytes, which cannot be");
}

CLEAT_TC(length__payload_cut_short)
{
	lie_ends_it((struct lie){ 24, PEER_REPLY, 8 }, -EPROTO,
		    "reply to REGION_READ has 8 bytes, which cannot be");
}

CLEAT_TC(length__longer_than_asked)
{
	lie_ends_it((struct lie){ 37, PEER_REPLY, 21 }, -EPROTO,
		    "reply to REGION_READ has 21 bytes, which cannot be");
}

/* Refused by its header, before a byte of it is kept. */
CLEAT_TC(length__much_longer_than_asked)
{
	lie_ends_it((struct lie){ 1u << 20, PEER_REPLY, 100 }, -EPROTO,
		    "reply to REGION_READ has 1048560 bytes, which cannot be");
}

/* The rest never comes: the read ends in time, and the next one too. */
CLEAT_TC(length__less_than_it_says)
{
	struct lie lie = { 36, PEER_REPLY, 10 };
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = tell_lie;
	scene.bad.arg = &lie;
	scene_open(&scene);
	ATF_CHECK_EQ(-ETIMEDOUT, scene_read(&scene));
	lie.payload = 0;
	ATF_CHECK_EQ(-ETIMEDOUT, scene_read(&scene));
	scene_end(&scene);
}

/* Bytes behind a reply are taken for the next message, which they are not. */
CLEAT_TC(length__more_than_it_says)
{
	struct lie lie = { 36, PEER_REPLY, 20 + 16 };
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = tell_lie;
	scene.bad.arg = &lie;
	scene_open(&scene);
	scene_read(&scene);
	scene_lost(&scene, -EPROTO, "impossible header");
	scene_end(&scene);
}

/* --- Byte by byte ---------------------------------------------------------- */

static int send_bytes(struct model *model, const struct peer_message *m)
{
	struct {
		struct peer_header header;
		struct cleat_wire_access access;
		uint32_t data;
	} reply = { scene_header(m, 20), { 0, 0, 4 }, 0x11223344 };
	size_t *most = model->arg;
	int err = 0;

	if (!scene_is_read(m))
		return 0;
	for (size_t i = 0; i < *most && !err; i++)
		err = peer_send_raw(model->fd, (char *)&reply + i, 1, NULL, 0);
	return err ? err : *most < 36 ? -EPIPE : 1;
}

CLEAT_TC(bytes__one_by_one)
{
	size_t most = 36;
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = send_bytes;
	scene.bad.arg = &most;
	scene_open(&scene);
	for (int i = 0; i < 20; i++)
		ATF_CHECK_EQ(0, scene_read(&scene));
	scene_end(&scene);
}

CLEAT_TC(close__at_each_byte_of_a_reply)
{
	struct scene scene;

	scene_begin(&scene);
	for (size_t most = 0; most < 36; most++) {
		scene.bad.on = send_bytes;
		scene.bad.arg = &most;
		scene_open(&scene);
		ATF_CHECK_EQ(-ENOTCONN, scene_read(&scene));
		scene_lost(&scene, -ENOTCONN, "closed the connection");
		cleat_device_unref(scene.dev);
		model_end(&scene.bad);
	}
	scene.dev = NULL;
	scene_end(&scene);
}

/* --- Noise ------------------------------------------------------------------ */

static uint32_t rand_state = 4711;

static uint32_t rnd(void)
{
	rand_state = rand_state * 1664525u + 1013904223u;
	return rand_state >> 8;
}

/* Half of the time a header that is nearly right. */
static int make_noise(struct model *model, const struct peer_message *m)
{
	uint32_t words[64];
	struct peer_header header = scene_header(m, rnd() % 250);

	if (!scene_is_read(m))
		return 0;
	for (size_t i = 0; i < 64; i++)
		words[i] = rnd() % 3 ? rnd() % 64 : rnd() << (rnd() % 16);
	if (rnd() % 2)
		header.command = (uint16_t)(rnd() % 20);
	header.flags = rnd() % 2 ? PEER_REPLY : rnd() % 64;
	if (rnd() % 2)
		return scene_say(model, header, words, header.size - 16, NULL,
				 0);
	return peer_send_raw(model->fd, words, rnd() % sizeof(words), NULL, 0) ?
		       -EPIPE : 1;
}

CLEAT_TC(noise__in_place_of_a_reply)
{
	struct scene scene;

	scene_begin(&scene);
	scene.config.access_ms = 20;
	for (int i = 0; i < 100; i++) {
		scene.bad.on = make_noise;
		scene_open(&scene);
		for (int n = 0; n < 8; n++)
			scene_read(&scene);
		cleat_device_unref(scene.dev);
		model_end(&scene.bad);
	}
	scene.dev = NULL;
	scene_end(&scene);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, header__size_zero);
	ATF_TP_ADD_TC(tp, header__size_below_itself);
	ATF_TP_ADD_TC(tp, header__size_4_gib);
	ATF_TP_ADD_TC(tp, header__size_above_the_largest);
	ATF_TP_ADD_TC(tp, header__unknown_type);
	ATF_TP_ADD_TC(tp, length__no_payload);
	ATF_TP_ADD_TC(tp, length__payload_cut_short);
	ATF_TP_ADD_TC(tp, length__longer_than_asked);
	ATF_TP_ADD_TC(tp, length__much_longer_than_asked);
	ATF_TP_ADD_TC(tp, length__less_than_it_says);
	ATF_TP_ADD_TC(tp, length__more_than_it_says);
	ATF_TP_ADD_TC(tp, bytes__one_by_one);
	ATF_TP_ADD_TC(tp, close__at_each_byte_of_a_reply);
	ATF_TP_ADD_TC(tp, noise__in_place_of_a_reply);
	return atf_no_error();
}
