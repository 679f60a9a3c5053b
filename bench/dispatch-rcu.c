/* SPDX-License-Identifier: BSD-2-Clause */
/* The library's own: cleat_mmio_access(), whole. */
#include <cleat/device.h>
#include <cleat/mmio.h>
#include <cleat/server.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/dispatch.h"

static struct cleat_server *srv;
static pthread_t server_thread;
static bool server_runs;
static struct cleat_device *dev;
static struct cleat_mmio *mmio;
static struct cleat_binding **bindings; /* the last is the one of updates */
static unsigned num;
static bool extra_in;

static void *serve(void *unused)
{
	cleat_server_run(srv);
	return NULL;
}

/* A region of one mapped page. */
static int add_region(void)
{
	int fd = memfd_create("dispatch", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct cleat_server_area area = { .length = CLEAT_BENCH_PAGE,
					  .fd = fd };
	struct cleat_server_region region = {
		.size = sizeof(region),
		.flags = CLEAT_REGION_READ | CLEAT_REGION_WRITE,
		.length = CLEAT_BENCH_PAGE,
		.areas = &area,
		.n_areas = 1,
	};
	int err;

	if (fd < 0)
		return -errno;
	err = ftruncate(fd, CLEAT_BENCH_PAGE) ||
			      fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) ?
		      -errno :
		      cleat_server_add_region(srv, &region, NULL);
	close(fd);
	return err;
}

static int open_server(int fd)
{
	/* Nothing ever reaches it: the page is mapped. */
	static const struct cleat_server_ops ops = { .size = sizeof(ops) };
	int err = cleat_server_create(NULL, &ops, NULL, &srv, NULL);

	if (!err)
		err = add_region();
	if (!err)
		err = cleat_server_adopt(srv, fd, NULL);
	if (err) {
		close(fd);
		return err;
	}
	err = -pthread_create(&server_thread, NULL, serve, NULL);
	server_runs = !err;
	return err;
}

static int open_device(void)
{
	struct cleat_device_config config = { .size = sizeof(config) };
	int ends[2], err;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return -errno;
	err = open_server(ends[0]);
	config.fd = ends[1];
	if (!err)
		err = cleat_device_open(&config, &dev, NULL);
	close(ends[1]);
	return err;
}

static int create(unsigned regions)
{
	struct cleat_binding_config config = { .size = sizeof(config) };
	int err = open_device();

	if (!err)
		err = cleat_mmio_create(&mmio);
	bindings = calloc(regions + 1, sizeof(*bindings));
	if (!bindings)
		err = -ENOMEM;
	config.device = dev;
	for (num = 0; num <= regions && !err; num++) {
		err = cleat_mmio_bind(mmio, &config, &bindings[num], NULL);
		if (!err && num < regions)
			err = cleat_binding_place(
				bindings[num],
				CLEAT_BENCH_BASE + num * CLEAT_BENCH_STRIDE);
	}
	return err;
}

static void destroy(void)
{
	while (num)
		cleat_mmio_unbind(bindings[--num]);
	free(bindings);
	bindings = NULL;
	extra_in = false;
	mmio = cleat_mmio_unref(mmio);
	dev = cleat_device_unref(dev);
	if (server_runs) {
		cleat_server_stop(srv);
		pthread_join(server_thread, NULL);
	}
	server_runs = false;
	cleat_server_destroy(srv);
	srv = NULL;
}

static int store(uint64_t address, uint32_t value)
{
	return cleat_mmio_access(mmio, CLEAT_MEMORY, address, &value,
				 sizeof(value), true);
}

static int update(void)
{
	int err = 0;

	if (extra_in)
		cleat_binding_unplace(bindings[num - 1]);
	else
		err = cleat_binding_place(bindings[num - 1],
					  CLEAT_BENCH_BASE +
						  (num - 1) *
							  CLEAT_BENCH_STRIDE);
	extra_in = !extra_in;
	return err;
}

const struct bench_dispatch cleat_bench_rcu = {
	.name = "rcu",
	.create = create,
	.destroy = destroy,
	.store = store,
	.update = update,
};
