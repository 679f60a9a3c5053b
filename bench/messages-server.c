/* SPDX-License-Identifier: BSD-2-Clause */
/* A device on our own server library, which can do DMA by message. */
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cleat/server.h>

#include "bench/messages.h"

struct device {
	struct cleat_server *server;
	struct bench_shared *shared;
	int go;
};

static int region_read(void *opaque, uint32_t index, uint64_t offset, void *buf,
		       size_t count)
{
	memset(buf, 0, count < 8 ? count : 8);
	return 0;
}

static int region_write(void *opaque, uint32_t index, uint64_t offset,
			const void *buf, size_t count)
{
	struct device *device = opaque;
	uint64_t one = 1;

	if (offset == BENCH_GO && write(device->go, &one, sizeof(one)) < 0)
		return -1;
	return 0;
}

static void do_dma(void *opaque, int fd, uint32_t events)
{
	struct device *device = opaque;
	struct bench_shared *shared = device->shared;
	static char buf[1u << 20];
	uint64_t count;
	int err = 0;

	if (read(fd, &count, sizeof(count)) < 0)
		return;
	for (uint32_t i = 0; i < shared->num && !err; i++) {
		uint64_t start = cleat_bench_now_ns();

		err = shared->write ?
			      cleat_server_dma_write(device->server,
						     shared->address, buf,
						     shared->size) :
			      cleat_server_dma_read(device->server,
						    shared->address, buf,
						    shared->size);
		shared->ns[i] = cleat_bench_now_ns() - start;
	}
	shared->done = err ? 2 : 1;
}

void cleat_bench_serve_server(const struct bench_peer *peer, int fd)
{
	static const struct cleat_server_ops ops = {
		.size = sizeof(ops),
		.region_read = region_read,
		.region_write = region_write,
	};
	struct cleat_server_config config = {
		.size = sizeof(config),
		.flags = CLEAT_SERVER_ONCE |
			 (peer->no_twin ? CLEAT_SERVER_NO_TWIN : 0),
		.max_dma_maps = 100000,
		.spin_us = peer->spin_us,
	};
	struct cleat_server_region region = {
		.size = sizeof(region),
		.index = BENCH_REGION,
		.flags = CLEAT_REGION_READ | CLEAT_REGION_WRITE,
		.length = BENCH_REGION_SIZE,
	};
	struct device device = { .shared = peer->shared,
				 .go = eventfd(0, EFD_NONBLOCK) };
	struct cleat_error why;

	if (cleat_server_create(&config, &ops, &device, &device.server, &why) ||
	    cleat_server_add_region(device.server, &region, &why) ||
	    cleat_server_adopt(device.server, fd, &why) ||
	    cleat_server_watch(device.server, device.go, EPOLLIN, do_dma,
			       &device)) {
		fprintf(stderr, "cleat-bench-messages: %s\n", why.text);
		_exit(1);
	}
	cleat_server_run(device.server);
}
