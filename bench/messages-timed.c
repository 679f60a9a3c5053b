/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A PCI device on our server library that tells a guest what to do and takes
 * the time: the guest needs no clock then, nor a way to tell what it has read
 * from it.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cleat/server.h>

#include "bench/firmware.h"
#include "bench/messages-qemu.h"

/* Looks for work so often, 1 ms apart, before it answers that there is none. */
#define TRIES 20

static uint32_t wait_for_turn(struct bench_turn *turn)
{
	atomic_store(&turn->ready, 1);
	for (unsigned i = 0; i < TRIES; i++) {
		uint32_t go = atomic_exchange(&turn->go, 0);

		if (go) {
			turn->start_ns = cleat_bench_now_ns();
			return go;
		}
		usleep(1000);
	}
	return 0;
}

static int region_read(void *opaque, uint32_t index, uint64_t offset, void *buf,
		       size_t count)
{
	struct bench_turn *turn = opaque;
	uint32_t value = 0;

	if (offset == FIRMWARE_GO)
		value = wait_for_turn(turn);
	if (offset == FIRMWARE_DONE) {
		turn->end_ns = cleat_bench_now_ns();
		atomic_store(&turn->done, 1);
	}
	memset(buf, 0, count);
	memcpy(buf, &value, count < sizeof(value) ? count : sizeof(value));
	return 0;
}

static int region_write(void *opaque, uint32_t index, uint64_t offset,
			const void *buf, size_t count)
{
	return 0;
}

static int make(struct bench_turn *turn, const char *path,
		struct cleat_server **srv, struct cleat_error *why)
{
	static const struct cleat_server_ops ops = {
		.size = sizeof(ops),
		.region_read = region_read,
		.region_write = region_write,
	};
	struct cleat_server_config config = {
		.size = sizeof(config),
		.flags = CLEAT_SERVER_ONCE,
	};
	struct cleat_server_region region = {
		.size = sizeof(region),
		.index = BENCH_REGION,
		.flags = CLEAT_REGION_READ | CLEAT_REGION_WRITE,
		.length = 4096,
	};
	struct cleat_server_pci_config function = {
		.size = sizeof(function),
		.vendor = 0xc1ea,
		.device = 0xcb02,
		.class_code = 0xff0000,
	};
	struct cleat_server_pci *pci;
	int err = cleat_server_create(&config, &ops, turn, srv, why);

	if (!err)
		err = cleat_server_add_region(*srv, &region, why);
	if (!err)
		err = cleat_server_pci_create(*srv, &function, NULL, turn, &pci,
					      why);
	return err ? err : cleat_server_listen(*srv, path, why);
}

void cleat_bench_serve_timed(struct bench_turn *turn, const char *path)
{
	struct cleat_server *srv = NULL;
	struct cleat_error why = { .text = "" };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (make(turn, path, &srv, &why))
		fprintf(stderr, "cleat-bench-messages: %s\n", why.text);
	else
		cleat_server_run(srv);
	_exit(0);
}
