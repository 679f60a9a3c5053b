/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>

#include "tests/interop/recorded_server.h"

/* What the payloads of two commands must have in common to be the same
 * question: bytes [from, to). */
static const struct {
	size_t from;
	size_t to;
} keys[] = {
	[VFIO_USER_DMA_MAP] = { 16, 32 }, /* address and size */
	[VFIO_USER_DMA_UNMAP] = { 4, 24 },
	[VFIO_USER_DEVICE_GET_REGION_INFO] = { 8, 12 }, /* index */
	[VFIO_USER_DEVICE_GET_REGION_IO_FDS] = { 8, 12 },
	[VFIO_USER_DEVICE_GET_IRQ_INFO] = { 8, 12 },
	[VFIO_USER_DEVICE_SET_IRQS] = { 4, 20 }, /* all but argsz */
	[VFIO_USER_REGION_READ] = { 0, 16 },
	[VFIO_USER_REGION_WRITE] = { 0, SIZE_MAX },
	[VFIO_USER_DEVICE_FEATURE] = { 0, SIZE_MAX },
	[VFIO_USER_MIG_DATA_READ] = { 4, 8 }, /* size */
	[VFIO_USER_MIG_DATA_WRITE] = { 4, SIZE_MAX },
};

#define NUM_KEYS (sizeof(keys) / sizeof(keys[0]))

static int wrong(struct recorded_server *server, const char *why)
{
	server->why = why;
	return -EBADMSG;
}

static bool same_key(uint16_t command, const void *a, size_t a_length,
		     const void *b, size_t b_length)
{
	size_t from, to;

	if (command >= NUM_KEYS || !keys[command].to)
		return true;
	from = keys[command].from;
	to = keys[command].to;
	if (to == SIZE_MAX) {
		if (a_length != b_length)
			return false;
		to = a_length;
	}
	return a_length >= to && b_length >= to &&
	       !memcmp((const char *)a + from, (const char *)b + from,
		       to - from);
}

static bool is_same(const struct replay *replay, unsigned i,
		    const struct peer_message *message)
{
	size_t length;
	const void *payload = replay_payload(replay, i, &length);

	return replay_is_request(replay, i) &&
	       replay_header(replay, i).command == message->header.command &&
	       same_key(message->header.command, payload, length, message->body,
			message->length);
}

/* Our client may ask what it asks in another order than the recorded one, and
 * more than once. */
static int look_up(const struct recorded_server *server,
		   const struct peer_message *message)
{
	const struct replay *replay = server->replay;
	int found = -1;

	for (unsigned k = 0; k < replay->num; k++) {
		unsigned i = (server->at + k) % replay->num;

		if (!is_same(replay, i, message))
			continue;
		if (!server->used[i])
			return (int)i;
		if (found < 0)
			found = (int)i;
	}
	return found;
}

/*
 * A client that asks with little room is told how much is needed, and asks
 * again: of these answers the last one is the whole one, and ours has room.
 */
static int last_of(const struct recorded_server *server,
		   const struct peer_message *message, int found)
{
	const struct replay *replay = server->replay;

	if (message->header.command != VFIO_USER_DEVICE_GET_REGION_INFO)
		return found;
	for (unsigned i = 0; i < replay->num; i++) {
		if (!is_same(replay, i, message))
			continue;
		server->used[i] = true;
		found = (int)i;
	}
	return found;
}

static int send_recorded(struct recorded_server *server, unsigned i,
			 uint16_t id)
{
	const struct cleat_stream_message *message =
		&server->replay->messages[i];
	uint8_t *bytes = malloc(message->length);
	int err;

	memcpy(bytes, message->bytes, message->length);
	memcpy(bytes, &id, sizeof(id));
	err = peer_send_raw(server->fd, bytes, message->length, server->fds[i],
			    message->num_fds);
	free(bytes);
	server->used[i] = true;
	return err;
}

/* What the recorded client never asked for is a thing that is not there. */
static int send_unknown(struct recorded_server *server,
			const struct peer_message *message)
{
	struct cleat_wire_device_info info = { .argsz = sizeof(info),
					       .flags = 2, /* PCI */
					       .num_regions = 9,
					       .num_irqs = 5 };

	switch (message->header.command) {
	case VFIO_USER_DEVICE_GET_INFO:
		return peer_reply(server->fd, message, &info, sizeof(info),
				  NULL, 0);
	case VFIO_USER_DEVICE_GET_REGION_INFO:
	case VFIO_USER_DEVICE_GET_REGION_IO_FDS:
	case VFIO_USER_DEVICE_GET_IRQ_INFO:
		return peer_reply_error(server->fd, message, EINVAL);
	}
	return wrong(server, "a command that is not in the recording");
}

/* The recorded server asked something: ask it of ours. */
static int ask(struct recorded_server *server, unsigned i)
{
	const struct replay *replay = server->replay;
	int partner = replay->partner[i], err;
	struct peer_message reply;
	const void *payload;
	size_t length;

	if (partner < 0)
		return wrong(server, "a question that was never answered");
	err = send_recorded(server, i, replay_header(replay, i).id);
	if (!err)
		err = peer_receive(server->fd, &reply);
	if (err)
		return err;
	payload = replay_payload(replay, (unsigned)partner, &length);
	if (memcmp(&reply.header, replay->messages[partner].bytes,
		   sizeof(reply.header)) ||
	    reply.length != length || memcmp(reply.body, payload, length))
		err = wrong(server, "a reply is not as recorded");
	peer_message_end(&reply);
	server->used[partner] = true;
	return err;
}

/* What the recorded server asked before the client's next command. */
static int ask_all(struct recorded_server *server, unsigned from)
{
	const struct replay *replay = server->replay;
	int err = 0;

	for (unsigned i = from; i < replay->num && !err; i++) {
		if (replay_is_request(replay, i))
			break;
		if (replay_is_command(replay, i) && !server->used[i])
			err = ask(server, i);
	}
	return err;
}

static int answer(struct recorded_server *server,
		  const struct peer_message *message)
{
	int i = look_up(server, message), partner, err = 0;

	if (i < 0)
		return send_unknown(server, message);
	i = last_of(server, message, i);
	server->used[i] = true;
	partner = server->replay->partner[i];
	if (message->header.flags & PEER_NO_REPLY)
		return 0;
	if (partner < 0)
		return wrong(server, "a command that was never answered");
	err = send_recorded(server, (unsigned)partner, message->header.id);
	return err ? err : ask_all(server, (unsigned)partner + 1);
}

static int serve(void *arg)
{
	struct recorded_server *server = arg;
	struct peer_message message;
	int err;

	do {
		err = peer_receive(server->fd, &message);
		if (err)
			break;
		err = answer(server, &message);
		peer_message_end(&message);
	} while (!err);
	if (server->why)
		fprintf(stderr,
			"recorded server: %s: command %u, after "
			"message %u\n",
			server->why, message.header.command, server->at);
	close(server->fd);
	return err == -EPIPE ? 0 : err;
}

/* Here, because nothing may fail in the script's thread. */
static void make_fds(struct recorded_server *server)
{
	const struct replay *replay = server->replay;

	for (unsigned i = 0; i < replay->num; i++) {
		server->fds[i] = calloc(CLEAT_MAX_FDS, sizeof(int));
		ATF_REQUIRE(server->fds[i]);
		if (replay->messages[i].from_server)
			replay_stand_in(replay, i, server->fds[i]);
	}
}

int recorded_server_start(struct recorded_server *server, struct replay *replay)
{
	int ends[2];

	peer_pair(ends);
	*server = (struct recorded_server){ .replay = replay, .fd = ends[0] };
	server->used = calloc(replay->num, sizeof(*server->used));
	server->fds = calloc(replay->num, sizeof(*server->fds));
	ATF_REQUIRE(server->used && server->fds);
	make_fds(server);
	script_start(&server->script, serve, server);
	return ends[1];
}

void recorded_server_wait(struct recorded_server *server, unsigned before)
{
	const struct replay *replay = server->replay;

	for (unsigned i = 0; i < before; i++)
		if (replay->messages[i].from_server &&
		    replay_is_command(replay, i))
			REQUIRE_SOON(server->used[replay->partner[i]]);
}

void recorded_server_end(struct recorded_server *server)
{
	const struct replay *replay = server->replay;

	script_end(&server->script);
	for (unsigned i = 0; i < replay->num; i++) {
		for (unsigned k = 0; replay->messages[i].from_server &&
				     k < replay->messages[i].num_fds;
		     k++)
			close(server->fds[i][k]);
		free(server->fds[i]);
	}
	free(server->fds);
	free(server->used);
}
