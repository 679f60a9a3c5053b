/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The handshake. A reply says no more than the request did and is no longer:
 * QEMU's client takes nothing longer than its own request and no more than
 * 16 descriptors when it has named 16.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "server/server.h"

#define MAJOR 0
#define MINOR 2
#define FEWEST_FDS 8
#define JSON_SIZE 1024

static uint32_t choose_fds(const struct cleat_server *srv, uint32_t theirs)
{
	if (srv->config.max_msg_fds)
		return srv->config.max_msg_fds;
	if (theirs < FEWEST_FDS)
		return FEWEST_FDS;
	return theirs < CLEAT_MAX_FDS ? theirs : CLEAT_MAX_FDS;
}

/* From here on @ours is what the reply says. */
static void choose(const struct cleat_server *srv,
		   const struct cleat_capabilities *theirs,
		   struct cleat_capabilities *ours)
{
	cleat_capabilities_default(ours);
	ours->max_msg_fds = choose_fds(srv, theirs->max_msg_fds);
	ours->max_data_xfer_size = srv->config.max_data_xfer;
	ours->max_dma_maps = srv->config.max_dma_maps;
	if (ours->max_dma_maps > theirs->max_dma_maps)
		ours->max_dma_maps = theirs->max_dma_maps;
	ours->page_sizes = theirs->page_sizes;
	ours->write_multiple = theirs->write_multiple;
	ours->has_migration = theirs->has_migration && srv->mig;
	ours->twin_supported = theirs->twin_supported && srv->conn.pass_fds &&
			       !(srv->config.flags & CLEAT_SERVER_NO_TWIN);
	ours->twin_fd_index = ours->twin_supported ? 0 : -1;
}

static int open_twin(struct cleat_server *srv, int *ret_theirs)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return -errno;
	srv->conn.twin = ends[0];
	*ret_theirs = ends[1];
	return 0;
}

static int reply(struct cleat_server *srv, const struct cleat_srv_msg *msg,
		 struct cleat_wire_version *version,
		 const struct cleat_capabilities *ours, bool json)
{
	char text[JSON_SIZE];
	struct iovec payload[2] = { { version, sizeof(*version) },
				    { text, 0 } };
	int twin = -1, err = 0;
	ssize_t length = 0;

	if (json)
		length = cleat_capabilities_print(ours, false, text,
						  sizeof(text));
	if (length < 0)
		return (int)length;
	payload[1].iov_len = (size_t)length;
	if (ours->twin_supported)
		err = open_twin(srv, &twin);
	if (err)
		return err;
	cleat_srv_reply_full(srv, msg, payload, &twin, twin >= 0);
	cleat_close(&twin);
	return 0;
}

static int agree(struct cleat_server *srv, const struct cleat_srv_msg *msg)
{
	struct cleat_capabilities theirs, ours;
	struct cleat_wire_version version;
	size_t json;
	int err;

	if (msg->length < sizeof(version) || msg->fds->num)
		return -EINVAL;
	memcpy(&version, msg->body, sizeof(version));
	if (version.major != MAJOR)
		return -EINVAL;
	json = msg->length - sizeof(version);
	err = cleat_capabilities_parse(
		(const char *)msg->body + sizeof(version), json, &theirs, NULL);
	if (err)
		return err == -EPROTO ? -EINVAL : err;
	if (version.minor > MINOR)
		version.minor = MINOR;
	choose(srv, &theirs, &ours);
	srv->conn.peer_fds = theirs.max_msg_fds < CLEAT_MAX_FDS ?
				     theirs.max_msg_fds :
				     CLEAT_MAX_FDS;
	srv->conn.peer_xfer = theirs.max_data_xfer_size;
	return reply(srv, msg, &version, &ours, json);
}

int cleat_srv_version(struct cleat_server *srv, struct cleat_srv_msg *msg)
{
	int err;

	/* A second one changes nothing. */
	if (srv->conn.ready)
		return -EINVAL;
	err = agree(srv, msg);
	if (err) {
		/* After the error reply there is nothing more to say. */
		srv->conn.refused = true;
		return err;
	}
	srv->conn.ready = true;
	srv->stats.clients++;
	if (srv->ops.client_connected)
		srv->ops.client_connected(srv->opaque);
	return 0;
}
