/* SPDX-License-Identifier: BSD-2-Clause */
#include <poll.h>
#include <sys/socket.h>

#include "tests/irq/server.h"

enum { GET_INFO = 4, GET_IRQ_INFO = 7, SET_IRQS = 8 };

static const uint32_t counts[NUM_TYPES] = {1, 32, VECTORS, 1, 0};

static void drop(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void drop_all(struct server *server)
{
	for (unsigned i = 0; i < VECTORS; i++)
		drop(&server->fds[i]);
	drop(&server->unmask_fd);
	server->on = -1;
}

static void keep(int *place, struct peer_message *message, unsigned i)
{
	drop(place);
	*place = message->fds[i];
	message->fds[i] = -1;
}

static void arm(struct server *server, const struct set *set,
		struct peer_message *message)
{
	if (set->index == ERR) {
		keep(&server->err_fd, message, 0);
		return;
	}
	/* One array: a type that goes on while another is on takes its place,
	 * and goes with it when that goes off. */
	if (server->on >= 0 && server->on != (int)set->index)
		server->faults++;
	server->on = (int)set->index;
	for (unsigned i = 0; i < set->count; i++)
		keep(&server->fds[set->start + i], message, i);
}

static int act(struct server *server, const struct set *set,
	       struct peer_message *message)
{
	if (set->index >= NUM_TYPES || !counts[set->index] ||
	    set->start + set->count > counts[set->index]) {
		server->faults++;
		return EINVAL;
	}
	if (set->flags & VFIO_IRQ_SET_DATA_EVENTFD) {
		/* To take one vector away goes wrong: it must not be asked. */
		if (set->num_fds != set->count) {
			server->faults++;
			return EINVAL;
		}
		if (set->flags & VFIO_IRQ_SET_ACTION_UNMASK)
			keep(&server->unmask_fd, message, 0);
		else
			arm(server, set, message);
	} else if (set->flags == DISABLE && !set->count) {
		if (set->index == ERR)
			drop(&server->err_fd);
		else
			drop_all(server);
	}
	return 0;
}

static void close_left(struct peer_message *message)
{
	for (unsigned i = 0; i < message->nr_fds; i++)
		drop(&message->fds[i]);
	message->nr_fds = 0;
}

static int take_set(struct server *server, struct peer_message *message)
{
	struct set *set = &server->sets[server->num_sets];
	int err = 0;

	if (message->length != 20 || server->num_sets == SETS)
		return -EBADMSG;
	memcpy(set, message->body, 20);
	set->num_fds = message->nr_fds;
	if (set->argsz != 20)
		server->faults++;
	server->num_sets++;
	if (server->num_sets == server->die) {
		shutdown(server->fd, SHUT_RDWR);
		return -EPIPE;
	}
	if (server->num_sets == server->mute)
		return 0;
	if (server->num_sets == server->refuse)
		return peer_reply_error(server->fd, message, EPERM);
	err = act(server, set, message);
	close_left(message);
	if (err)
		return peer_reply_error(server->fd, message, err);
	return peer_reply(server->fd, message, message->body,
			  server->echo ? message->length : 0, NULL, 0);
}

static int take_irq_info(struct server *server, struct peer_message *message)
{
	uint32_t info[4];

	if (message->length != sizeof(info))
		return -EBADMSG;
	memcpy(info, message->body, sizeof(info));
	if (info[2] >= NUM_TYPES)
		return -EBADMSG;
	info[1] = server->flags[info[2]] | VFIO_IRQ_INFO_EVENTFD;
	info[3] = counts[info[2]];
	return peer_reply(server->fd, message, info, sizeof(info), NULL, 0);
}

static int take(struct server *server, struct peer_message *message)
{
	static const uint32_t info[4] = {16, 3, 0, NUM_TYPES};

	switch (message->header.command) {
	case GET_INFO:
		return peer_reply(server->fd, message, info, sizeof(info), NULL,
				  0);
	case GET_IRQ_INFO:
		return take_irq_info(server, message);
	case SET_IRQS:
		return take_set(server, message);
	}
	return peer_reply_error(server->fd, message, EINVAL);
}

static int serve(void *arg)
{
	struct server *server = arg;
	struct peer_message message;
	int err = peer_serve_version(server->fd, 0, 1, server->json);

	while (!err) {
		/* An idle server waits for as long as the case likes. */
		while (!wait_fd(server->fd, POLLIN, PATIENCE_MS))
			;
		err = peer_receive(server->fd, &message);
		if (err)
			break;
		pthread_mutex_lock(&server->lock);
		err = take(server, &message);
		close_left(&message);
		pthread_mutex_unlock(&server->lock);
		peer_message_end(&message);
	}
	return err == -EPIPE || err == -ECONNRESET ? 0 : err;
}

void server_open(struct server *server)
{
	struct cleat_device_config config = {
		.size = sizeof(config),
		.control_ms = server->control_ms,
	};
	struct cleat_error why = {0};
	int ends[2], err;

	peer_pair(ends);
	server->fd = ends[1];
	server->on = server->unmask_fd = server->err_fd = -1;
	for (unsigned i = 0; i < VECTORS; i++)
		server->fds[i] = -1;
	pthread_mutex_init(&server->lock, NULL);
	script_start(&server->script, serve, server);
	config.fd = ends[0];
	err = cleat_device_open(&config, &server->dev, &why);
	ATF_REQUIRE_EQ_MSG(0, err, "%s", why.text);
	close(ends[0]);
	ATF_REQUIRE_EQ(0, cleat_irqs_create(server->dev, &server->irqs));
}

void server_close(struct server *server)
{
	cleat_irqs_destroy(server->irqs);
	cleat_device_unref(server->dev);
	script_end(&server->script);
	drop_all(server);
	drop(&server->err_fd);
	close(server->fd);
	pthread_mutex_destroy(&server->lock);
	ATF_CHECK_EQ(0, server->faults);
}

bool server_fire(struct server *server, unsigned vector)
{
	uint64_t one = 1;
	bool done;

	pthread_mutex_lock(&server->lock);
	done = server->fds[vector] >= 0 &&
	       write(server->fds[vector], &one, sizeof(one)) == sizeof(one);
	pthread_mutex_unlock(&server->lock);
	return done;
}

unsigned server_sets(struct server *server)
{
	unsigned sets;

	pthread_mutex_lock(&server->lock);
	sets = server->num_sets;
	pthread_mutex_unlock(&server->lock);
	return sets;
}

void server_check(struct server *server, unsigned n, uint32_t flags,
		  uint32_t index, uint32_t start, uint32_t count)
{
	struct set set;

	ATF_REQUIRE_MSG(n < server_sets(server), "there were only %u",
			server_sets(server));
	pthread_mutex_lock(&server->lock);
	set = server->sets[n];
	pthread_mutex_unlock(&server->lock);
	ATF_CHECK_MSG(set.flags == flags && set.index == index &&
			      set.start == start && set.count == count,
		      "number %u has flags %#x, index %u, vectors %u +%u", n,
		      set.flags, set.index, set.start, set.count);
}
