/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which handler a command has, and when it runs. Commands are handled in the
 * order received, with one exception that is none: while the device waits for
 * the reply to a DMA message, those that would pull the ground from under it
 * are put aside, and everything behind them with them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "server/server.h"

#define DEFERRED_BYTES (4u << 20)
#define DEFERRED_COUNT 256
#define DEFERRED_FDS 512

struct command {
	int (*handle)(struct cleat_server *srv, struct cleat_srv_msg *msg);
	bool defer;
};

static const struct command commands[] = {
	[VFIO_USER_VERSION] = { cleat_srv_version },
	[VFIO_USER_DMA_MAP] = { cleat_srv_dma_map },
	[VFIO_USER_DMA_UNMAP] = { cleat_srv_dma_unmap, .defer = true },
	[VFIO_USER_DEVICE_GET_INFO] = { cleat_srv_get_info },
	[VFIO_USER_DEVICE_GET_REGION_INFO] = { cleat_srv_region_info },
	[VFIO_USER_DEVICE_GET_REGION_IO_FDS] = { cleat_srv_io_fds },
	[VFIO_USER_DEVICE_GET_IRQ_INFO] = { cleat_srv_irq_info },
	[VFIO_USER_DEVICE_SET_IRQS] = { cleat_srv_set_irqs },
	[VFIO_USER_REGION_READ] = { cleat_srv_read },
	[VFIO_USER_REGION_WRITE] = { cleat_srv_write },
	[VFIO_USER_DEVICE_RESET] = { cleat_srv_reset, .defer = true },
	[VFIO_USER_DIRTY_PAGES] = { cleat_srv_dirty_pages, .defer = true },
	[VFIO_USER_REGION_WRITE_MULTI] = { cleat_srv_write_multi },
	[VFIO_USER_DEVICE_FEATURE] = { cleat_srv_feature, .defer = true },
	[VFIO_USER_MIG_DATA_READ] = { cleat_srv_mig_read, .defer = true },
	[VFIO_USER_MIG_DATA_WRITE] = { cleat_srv_mig_write, .defer = true },
};

static const struct command *find(uint16_t number)
{
	static const struct command none;

	if (number >= sizeof(commands) / sizeof(commands[0]))
		return &none;
	return &commands[number];
}

int cleat_srv_reply_full(struct cleat_server *srv,
			 const struct cleat_srv_msg *msg,
			 const struct iovec payload[2], const int *fds,
			 unsigned n_fds)
{
	struct cleat_header header = {
		.id = msg->header.id,
		.command = msg->header.command,
		.flags = CLEAT_HEADER_REPLY,
	};
	struct iovec iov[3] = {
		{ &header, sizeof(header) }, payload[0], payload[1]
	};

	if (msg->header.flags & CLEAT_HEADER_NO_REPLY)
		return 0;
	header.size = (uint32_t)(sizeof(header) + iov[1].iov_len +
				 iov[2].iov_len);
	cleat_srv_conn_send(srv, iov, 3, fds, n_fds);
	return 0;
}

int cleat_srv_reply(struct cleat_server *srv, const struct cleat_srv_msg *msg,
		    const void *head, size_t length)
{
	struct iovec payload[2] = { { (void *)head, length }, { NULL, 0 } };

	return cleat_srv_reply_full(srv, msg, payload, NULL, 0);
}

static void reply_error(struct cleat_server *srv,
			const struct cleat_srv_msg *msg, int err)
{
	struct cleat_header header = {
		.id = msg->header.id,
		.command = msg->header.command,
		.size = sizeof(header),
		.flags = CLEAT_HEADER_REPLY | CLEAT_HEADER_ERROR,
		.error = (uint32_t)-err,
	};
	struct iovec iov = { &header, sizeof(header) };

	srv->stats.errors++;
	if (!(msg->header.flags & CLEAT_HEADER_NO_REPLY))
		cleat_srv_conn_send(srv, &iov, 1, NULL, 0);
}

static void run(struct cleat_server *srv, struct cleat_srv_msg *msg)
{
	const struct command *command = find(msg->header.command);
	int err = command->handle ? command->handle(srv, msg) : -EINVAL;

	/* What a device makes up is not put on the wire. */
	if (err > 0 || err < -4095)
		err = -EIO;
	if (err)
		reply_error(srv, msg, err);
	cleat_fds_close(msg->fds);
}

static void count(struct cleat_server *srv, const struct cleat_header *header)
{
	if (header->command < CLEAT_SERVER_COMMANDS)
		srv->stats.commands[header->command]++;
	else
		srv->stats.unknown++;
	if (header->flags & CLEAT_HEADER_NO_REPLY)
		srv->stats.no_reply++;
}

static void defer(struct cleat_server *srv, const struct cleat_srv_msg *msg)
{
	struct cleat_srv_conn *conn = &srv->conn;
	struct cleat_srv_deferred *deferred;

	deferred = malloc(sizeof(*deferred) + msg->length);
	if (!deferred) {
		cleat_fds_close(msg->fds);
		conn->broken = 1;
		return;
	}
	deferred->next = NULL;
	deferred->msg = *msg;
	deferred->fds = *msg->fds;
	memcpy(deferred->body, msg->body, msg->length);
	*conn->deferred_end = deferred;
	conn->deferred_end = &deferred->next;
	conn->deferred_bytes += msg->length;
	conn->deferred_fds += msg->fds->num;
	conn->deferred_count++;
}

bool cleat_srv_deferred_full(const struct cleat_server *srv)
{
	const struct cleat_srv_conn *conn = &srv->conn;

	return conn->deferred_bytes >= DEFERRED_BYTES ||
	       conn->deferred_count >= DEFERRED_COUNT ||
	       conn->deferred_fds >= DEFERRED_FDS;
}

static struct cleat_srv_deferred *pop_deferred(struct cleat_srv_conn *conn)
{
	struct cleat_srv_deferred *deferred = conn->deferred;

	conn->deferred = deferred->next;
	if (!conn->deferred)
		conn->deferred_end = &conn->deferred;
	conn->deferred_bytes -= deferred->msg.length;
	conn->deferred_fds -= deferred->fds.num;
	conn->deferred_count--;
	deferred->msg.fds = &deferred->fds;
	deferred->msg.body = deferred->body;
	return deferred;
}

void cleat_srv_run_deferred(struct cleat_server *srv)
{
	struct cleat_srv_deferred *deferred;

	if (srv->nested)
		return;
	if (srv->reset_wanted) {
		srv->reset_wanted = false;
		srv->ops.reset(srv->opaque);
	}
	while (srv->conn.fd >= 0 && srv->conn.deferred && !srv->conn.out &&
	       !srv->conn.broken) {
		deferred = pop_deferred(&srv->conn);
		run(srv, &deferred->msg);
		free(deferred);
	}
}

void cleat_srv_drop_deferred(struct cleat_server *srv)
{
	struct cleat_srv_deferred *deferred;

	while (srv->conn.deferred) {
		deferred = pop_deferred(&srv->conn);
		cleat_fds_close(&deferred->fds);
		free(deferred);
	}
}

/* The first generation's commands are accesses to a region of its own. */
static bool must_wait(const struct cleat_server *srv,
		      const struct cleat_srv_msg *msg)
{
	struct cleat_wire_access access;
	uint16_t command = msg->header.command;

	if (cleat_srv_mig_v1(srv) && command == VFIO_USER_REGION_WRITE_MULTI)
		return true; /* (one of its stores may be) */
	if (!cleat_srv_mig_v1(srv) || msg->length < sizeof(access) ||
	    (command != VFIO_USER_REGION_READ &&
	     command != VFIO_USER_REGION_WRITE))
		return find(command)->defer;
	memcpy(&access, msg->body, sizeof(access));
	return access.region == CLEAT_SRV_MIG_REGION;
}

void cleat_srv_message(struct cleat_server *srv, struct cleat_srv_msg *msg)
{
	uint32_t type = msg->header.flags & CLEAT_HEADER_TYPE;

	if (type == CLEAT_HEADER_REPLY) {
		cleat_srv_dma_reply(srv, msg);
		cleat_fds_close(msg->fds);
		return;
	}
	count(srv, &msg->header);
	/* Nothing can be said to a peer before a version has been agreed on. */
	if (!srv->conn.ready && msg->header.command != VFIO_USER_VERSION) {
		cleat_fds_close(msg->fds);
		srv->conn.broken = 1;
		return;
	}
	if (srv->nested && (srv->conn.deferred || must_wait(srv, msg)))
		defer(srv, msg);
	else
		run(srv, msg);
}
