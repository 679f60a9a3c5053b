/* SPDX-License-Identifier: BSD-2-Clause */
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "tests/dma/server.h"

enum { MAP = 2, UNMAP = 3, GET_INFO = 4, RESET = 13 };

struct wire_map {
	uint32_t argsz;
	uint32_t flags;
	uint64_t offset;
	uint64_t address;
	uint64_t size;
};

struct wire_unmap {
	uint32_t argsz;
	uint32_t flags;
	uint64_t address;
	uint64_t size;
};

static int take_map(struct server *server, struct peer_message *message)
{
	struct server_map *map = &server->maps[server->num_maps];
	struct wire_map wire;

	if (message->length != sizeof(wire) || message->nr_fds > 1)
		return -EBADMSG;
	if (server->num_maps == SERVER_MAPS)
		return -E2BIG;
	if (++server->mapped == server->refuse_map)
		return peer_reply_error(server->fd, message, EPERM);
	if (server->mapped == server->die_at_map) {
		shutdown(server->fd, SHUT_RDWR);
		return -EPIPE;
	}
	memcpy(&wire, message->body, sizeof(wire));
	*map = (struct server_map){ wire.flags, wire.offset, wire.address,
				    wire.size, -1 };
	if (message->nr_fds) {
		map->fd = message->fds[0];
		message->nr_fds = 0;
	}
	server->num_maps++;
	return peer_reply(server->fd, message, NULL, 0, NULL, 0);
}

static bool drop_map(struct server *server, const struct wire_unmap *wire)
{
	for (unsigned i = 0; i < server->num_maps; i++) {
		struct server_map *map = &server->maps[i];

		if (map->address != wire->address || map->size != wire->size)
			continue;
		if (map->fd >= 0)
			close(map->fd);
		*map = server->maps[--server->num_maps];
		return true;
	}
	return false;
}

static int take_unmap(struct server *server, struct peer_message *message)
{
	struct wire_unmap wire;

	if (message->length != sizeof(wire))
		return -EBADMSG;
	memcpy(&wire, message->body, sizeof(wire));
	server->unmapped++;
	if (server->mute_unmap)
		return 0;
	if (server->refuse_unmap)
		return peer_reply_error(server->fd, message, EBUSY);
	if (!drop_map(server, &wire))
		return peer_reply_error(server->fd, message, ENOENT);
	return peer_reply(server->fd, message, &wire,
			  server->bare_unmap ? 0 : sizeof(wire), NULL, 0);
}

/* A reply to a command of ours; the message now belongs to the server. */
static int take_reply(struct server *server, struct peer_message *message)
{
	uint64_t one = 1;

	peer_message_end(&server->reply);
	server->reply = *message;
	memset(message, 0, sizeof(*message));
	return write(server->replied, &one, sizeof(one)) == sizeof(one)
		       ? 0 : -EIO;
}

static int take(struct server *server, struct peer_message *message)
{
	/* A PCI device that can be reset, without regions or interrupts. */
	static const uint32_t info[4] = { 16, 3 };

	if (message->header.flags & PEER_REPLY)
		return take_reply(server, message);
	switch (message->header.command) {
	case MAP:
		return take_map(server, message);
	case UNMAP:
		return take_unmap(server, message);
	case GET_INFO:
		return peer_reply(server->fd, message, info, sizeof(info),
				  NULL, 0);
	case RESET:
		return peer_reply(server->fd, message, NULL, 0, NULL, 0);
	}
	return peer_reply_error(server->fd, message, ENOTSUP);
}

static int receive(struct server *server, struct peer_message *message)
{
	int err;

	/* An idle server waits for as long as the case likes. */
	while (!wait_fd(server->fd, POLLIN, PATIENCE_MS))
		;
	err = peer_receive(server->fd, message);
	return err == -ECONNRESET ? -EPIPE : err;
}

static int serve(void *arg)
{
	struct server *server = arg;
	struct peer_message message;
	int err = peer_serve_version(server->fd, 0, 1, server->json);

	while (!err) {
		err = receive(server, &message);
		if (err)
			break;
		pthread_mutex_lock(&server->lock);
		err = take(server, &message);
		pthread_mutex_unlock(&server->lock);
		peer_message_end(&message);
	}
	/* Gone while we answered, or between two commands: it is the end. */
	return err == -EPIPE || err == -ECONNRESET ? 0 : err;
}

void server_open(struct server *server)
{
	struct cleat_device_config config = {
		.size = sizeof(config),
		.quiesce_ms = server->quiesce_ms,
	};
	struct cleat_error why = { 0 };
	int ends[2], err;

	peer_pair(ends);
	server->fd = ends[1];
	server->replied = eventfd(0, EFD_CLOEXEC);
	pthread_mutex_init(&server->lock, NULL);
	script_start(&server->script, serve, server);
	config.fd = ends[0];
	err = cleat_device_open(&config, &server->dev, &why);
	ATF_REQUIRE_EQ_MSG(0, err, "%s", why.text);
	close(ends[0]);
}

void server_close(struct server *server)
{
	cleat_device_unref(server->dev);
	script_end(&server->script);
	while (server->num_maps)
		if (server->maps[--server->num_maps].fd >= 0)
			close(server->maps[server->num_maps].fd);
	peer_message_end(&server->reply);
	close(server->replied);
	close(server->fd);
	pthread_mutex_destroy(&server->lock);
}

const struct server_map *server_find(struct server *server, uint64_t address)
{
	const struct server_map *found = NULL;

	pthread_mutex_lock(&server->lock);
	for (unsigned i = 0; i < server->num_maps; i++)
		if (server->maps[i].address == address)
			found = &server->maps[i];
	pthread_mutex_unlock(&server->lock);
	return found;
}

static void server_dma_send(struct server *server, uint16_t command,
			    uint64_t address, uint64_t count, const void *data,
			    size_t length)
{
	uint64_t fixed[2] = { address, count };
	char *body = malloc(sizeof(fixed) + length + 1);
	int err;

	ATF_REQUIRE(body);
	/* Whoever looked at the last reply is done with it. */
	pthread_mutex_lock(&server->lock);
	pthread_mutex_unlock(&server->lock);
	memcpy(body, fixed, sizeof(fixed));
	if (length)
		memcpy(body + sizeof(fixed), data, length);
	err = peer_command(server->fd, 77, command, body,
			   sizeof(fixed) + length, NULL, 0);
	free(body);
	ATF_REQUIRE_EQ(0, err);
}

static int server_dma_result(struct server *server, uint16_t command)
{
	ATF_REQUIRE_EQ(1, wait_eventfd(server->replied, PATIENCE_MS));
	ATF_REQUIRE_EQ(77, server->reply.header.id);
	ATF_REQUIRE_EQ(command, server->reply.header.command);
	if (!(server->reply.header.flags & PEER_ERROR))
		return 0;
	ATF_REQUIRE_EQ(0, server->reply.length);
	return (int)server->reply.header.error;
}

int server_dma(struct server *server, uint16_t command, uint64_t address,
	       uint64_t count, const void *data, size_t length)
{
	server_dma_send(server, command, address, count, data, length);
	return server_dma_result(server, command);
}

int server_dma_unserved(struct server *server, uint16_t command,
			uint64_t address, uint64_t count)
{
	server_dma_send(server, command, address, count, NULL, 0);
	ATF_REQUIRE_EQ(0, cleat_device_reset(server->dev));
	return server_dma_result(server, command);
}

void ram_make(struct ram *ram, size_t pages)
{
	ram->size = pages * PAGE;
	ram->fd = memfd(ram->size, 0);
	ram->host = map_fd(ram->fd, ram->size, PROT_READ | PROT_WRITE);
	for (size_t i = 0; i < ram->size; i++)
		ram->host[i] = (unsigned char)(i * 7 + i / PAGE);
}

bool ram_holds(const struct ram *ram, size_t offset, const void *data,
	       size_t length)
{
	char *copy = malloc(length + 1);
	bool same;

	ATF_REQUIRE(copy);
	ATF_REQUIRE_EQ((ssize_t)length,
		       pread(ram->fd, copy, length, (off_t)offset));
	same = !memcmp(copy, data, length);
	free(copy);
	return same;
}

void ram_free(struct ram *ram)
{
	munmap(ram->host, ram->size);
	close(ram->fd);
}

struct cleat_memory_range ram_range(const struct ram *ram, uint64_t guest,
				    size_t first, size_t pages,
				    uint32_t rights)
{
	return (struct cleat_memory_range){
		.size = sizeof(struct cleat_memory_range),
		.rights = rights,
		.guest = guest,
		.length = pages * PAGE,
		.host = ram->host + first * PAGE,
		.fd = ram->fd,
		.offset = first * PAGE,
	};
}
