/* SPDX-License-Identifier: BSD-2-Clause */
/* The library's own: cleat_mmio_access(), whole; and under a VMM's RCU. */
#include <cleat/device.h>
#include <cleat/mmio.h>
#include <cleat/rcu.h>
#include <cleat/server.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <urcu/urcu-memb.h>
#include <urcu/urcu-qsbr.h>

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
			      fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK)
		      ? -errno
		      : cleat_server_add_region(srv, &region, NULL);
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
		err = cleat_binding_place(
			bindings[num - 1],
			CLEAT_BENCH_BASE + (num - 1) * CLEAT_BENCH_STRIDE);
	extra_in = !extra_in;
	return err;
}

/* --- RCU that the VMM brings ------------------------------------------------
 */

/* Threads are taken in as they come, and taken out before they end. */
static void memb_leave(void *unused)
{
	urcu_memb_unregister_thread();
}

static void qsbr_leave(void *unused)
{
	urcu_qsbr_unregister_thread();
}

static pthread_key_t memb_key, qsbr_key;
static _Thread_local bool is_memb, is_qsbr;

static void __attribute__((noinline)) memb_enter(void)
{
	urcu_memb_register_thread();
	pthread_setspecific(memb_key, &memb_key);
	is_memb = true;
}

static void memb_lock(void)
{
	if (!is_memb)
		memb_enter();
	urcu_memb_read_lock();
}

/* Offline outside of sections: a vCPU's thread may be in its guest for ever. */
static void __attribute__((noinline)) qsbr_enter(void)
{
	urcu_qsbr_register_thread();
	urcu_qsbr_thread_offline();
	pthread_setspecific(qsbr_key, &qsbr_key);
	is_qsbr = true;
}

static void qsbr_lock(void)
{
	if (!is_qsbr)
		qsbr_enter();
	urcu_qsbr_thread_online();
}

static const struct cleat_rcu_ops memb_ops = {
	.size = sizeof(memb_ops),
	.read_lock = memb_lock,
	.read_unlock = urcu_memb_read_unlock,
	.synchronize = urcu_memb_synchronize_rcu,
};

static const struct cleat_rcu_ops qsbr_ops = {
	.size = sizeof(qsbr_ops),
	.read_lock = qsbr_lock,
	.read_unlock = urcu_qsbr_thread_offline,
	.synchronize = urcu_qsbr_synchronize_rcu,
};

static int create_memb(unsigned regions)
{
	static bool has_key;

	if (!has_key)
		has_key = !pthread_key_create(&memb_key, memb_leave);
	return cleat_rcu_use(&memb_ops) ?: create(regions);
}

static int create_qsbr(unsigned regions)
{
	static bool has_key;

	if (!has_key)
		has_key = !pthread_key_create(&qsbr_key, qsbr_leave);
	return cleat_rcu_use(&qsbr_ops) ?: create(regions);
}

static void destroy_given(void)
{
	destroy();
	cleat_rcu_use(NULL);
}

const struct bench_dispatch cleat_bench_memb = {
	.name = "rcu memb",
	.create = create_memb,
	.destroy = destroy_given,
	.store = store,
	.update = update,
};

const struct bench_dispatch cleat_bench_qsbr = {
	.name = "rcu qsbr",
	.create = create_qsbr,
	.destroy = destroy_given,
	.store = store,
	.update = update,
};

const struct bench_dispatch cleat_bench_rcu = {
	.name = "rcu",
	.create = create,
	.destroy = destroy,
	.store = store,
	.update = update,
};
