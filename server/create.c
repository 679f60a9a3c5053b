/* SPDX-License-Identifier: BSD-2-Clause */
/* The life of a server object, and its counters. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "server/server.h"

#define DEFAULT_DMA_MAPS 32768
#define DEFAULT_DMA_TIMEOUT_MS 5000
#define DEFAULT_POLL_BUSY_US 50
#define DEFAULT_POLL_SLEEP_US 1000
#define ALL_FLAGS                                                              \
	(CLEAT_SERVER_ONCE | CLEAT_SERVER_IO_FDS_40 | CLEAT_SERVER_SIGBUS |    \
	 CLEAT_SERVER_NO_TWIN)

static void set_default(uint32_t *value, uint32_t otherwise)
{
	if (!*value)
		*value = otherwise;
}

static int take_config(struct cleat_server *srv,
		       const struct cleat_server_config *given,
		       struct cleat_error *reterr)
{
	struct cleat_server_config *config = &srv->config;

	if (given)
		memcpy(config, given,
		       given->size < sizeof(*config) ? given->size :
						       sizeof(*config));
	if ((given && given->size < 2 * sizeof(uint32_t)) ||
	    config->flags & ~ALL_FLAGS || config->max_msg_fds > CLEAT_MAX_FDS ||
	    config->max_data_xfer > CLEAT_MAX_TRANSFER)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "struct cleat_server_config: a member is "
				  "out of range");
	set_default(&config->max_data_xfer, CLEAT_MAX_TRANSFER);
	set_default(&config->max_dma_maps, DEFAULT_DMA_MAPS);
	set_default(&config->dma_timeout_ms, DEFAULT_DMA_TIMEOUT_MS);
	set_default(&config->poll_busy_us, DEFAULT_POLL_BUSY_US);
	set_default(&config->poll_sleep_us, DEFAULT_POLL_SLEEP_US);
	return 0;
}

static void on_stop(void *opaque, int fd, uint32_t events)
{
	struct cleat_server *srv = opaque;
	uint64_t count;

	if (read(fd, &count, sizeof(count)) == sizeof(count))
		srv->stopped = true;
}

static int open_loop(struct cleat_server *srv)
{
	srv->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (srv->epoll < 0)
		return -errno;
	srv->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (srv->stop < 0)
		return -errno;
	return cleat_srv_watch_internal(srv, srv->stop, EPOLLIN, on_stop, srv);
}

static int open_server(struct cleat_server *srv, struct cleat_error *reterr)
{
	int err = open_loop(srv);

	if (!err && srv->config.flags & CLEAT_SERVER_SIGBUS)
		err = cleat_srv_guard_begin(srv);
	if (err)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
				  "server: %s", strerror(-err));
	return 0;
}

int cleat_server_create(const struct cleat_server_config *config,
			const struct cleat_server_ops *ops, void *opaque,
			struct cleat_server **ret_srv,
			struct cleat_error *reterr)
{
	struct cleat_server *srv = calloc(1, sizeof(*srv));
	int err;

	if (!srv)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ENOMEM,
				  "server: no memory");
	srv->epoll = srv->stop = srv->listener = -1;
	srv->conn.fd = srv->conn.twin = -1;
	memcpy(&srv->ops, ops,
	       ops->size < sizeof(*ops) ? ops->size : sizeof(*ops));
	srv->opaque = opaque;
	err = take_config(srv, config, reterr);
	if (!err)
		err = open_server(srv, reterr);
	if (err) {
		cleat_server_destroy(srv);
		return err;
	}
	srv->once = srv->config.flags & CLEAT_SERVER_ONCE;
	*ret_srv = srv;
	return 0;
}

void cleat_server_destroy(struct cleat_server *srv)
{
	if (!srv)
		return;
	cleat_srv_conn_end(srv);
	cleat_srv_listen_end(srv);
	cleat_srv_guard_end(srv);
	cleat_srv_irqs_end(srv);
	cleat_srv_regions_end(srv);
	cleat_srv_pci_end(srv->pci);
	cleat_srv_mig_end(srv);
	free(srv->dma.ranges);
	cleat_srv_watch_end(srv);
	cleat_close(&srv->stop);
	cleat_close(&srv->epoll);
	free(srv);
}

void cleat_server_get_stats(const struct cleat_server *srv,
			    struct cleat_server_stats *stats)
{
	uint32_t size = stats->size;

	if (size > sizeof(*stats))
		size = sizeof(*stats);
	if (size <= sizeof(size))
		return;
	memcpy((char *)stats + sizeof(size),
	       (const char *)&srv->stats + sizeof(size), size - sizeof(size));
}

const char *cleat_server_command_name(unsigned command)
{
	return command <= UINT16_MAX ? cleat_command_name((uint16_t)command) :
				       NULL;
}
