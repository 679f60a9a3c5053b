/* SPDX-License-Identifier: BSD-2-Clause */
/* Servers of others under our client, and what is needed to start them. */
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/messages-qemu.h"

/* How long a server may take to be there. */
#define START_NS 5000000000u

pid_t cleat_bench_fork(enum bench_pinning pinning, bool client)
{
	cpu_set_t set;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	CPU_ZERO(&set);
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (pinning == BENCH_FREE ||
		    i == (pinning == BENCH_TWO_CORES && !client))
			CPU_SET(i, &set);
	sched_setaffinity(0, sizeof(set), &set);
	return 0;
}

void cleat_bench_kill(pid_t pid)
{
	if (pid <= 0)
		return;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

int cleat_bench_open_path(const char *path, uint32_t spin_us,
			  struct cleat_device **ret)
{
	struct cleat_device_config config = {
		.size = sizeof(config),
		.path = path,
		.spin_us = spin_us,
	};
	uint64_t until = cleat_bench_now_ns() + START_NS;
	struct cleat_error why;
	int err;

	do {
		err = cleat_device_open(&config, ret, &why);
		if (err != -ENOENT && err != -ECONNREFUSED)
			break;
		usleep(2000);
	} while (cleat_bench_now_ns() < until);
	if (err)
		fprintf(stderr, "cleat-bench-messages: %s\n", why.text);
	return err;
}

#define MOST_STORES 64

static int one_batch(struct bench_way *way)
{
	struct cleat_region_store stores[MOST_STORES];

	for (size_t i = 0; i < way->size && i < MOST_STORES; i++)
		stores[i] = (struct cleat_region_store){
			.offset = way->num,
			.region = BENCH_REGION,
			.count = 4,
		};
	return cleat_region_write_batch(way->dev, stores, way->size, false);
}

int cleat_bench_run_mean(const struct bench_messages *bench,
			 struct bench_way *way, struct bench_sample *ret)
{
	uint64_t start = cleat_bench_now_ns();
	bool write = way->flags & BENCH_WAY_WRITE;
	unsigned step = way->size ? (unsigned)way->size : 1;
	uint32_t value = 0;
	int err = 0;

	for (unsigned i = 0; i < bench->count && !err; i += step) {
		if (way->size)
			err = one_batch(way);
		else if (write)
			err = cleat_region_post(way->dev, BENCH_REGION,
						way->num, &value, 4);
		else
			err = cleat_region_read(way->dev, BENCH_REGION,
						way->num, &value, 4);
	}
	if (write && !err)
		err = cleat_region_read(way->dev, BENCH_REGION, way->num,
					&value, 4);
	ret->value = (double)(cleat_bench_now_ns() - start) / bench->count;
	return err;
}

/* --- libvfio-user ---------------------------------------------------------------- */

/* A register of tests/interop/vfu_device that keeps what is written. */
#define VFU_SCRATCH 0x100

/* CLEAT_VFU_DEVICE, or where this program's own build has it. */
static bool find_vfu(char *path, size_t size)
{
	const char *named = getenv("CLEAT_VFU_DEVICE");
	char self[PATH_MAX], *end;
	ssize_t length;

	if (named) {
		snprintf(path, size, "%s", named);
		return !access(path, X_OK);
	}
	length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (length <= 0)
		return false;
	self[length] = '\0';
	end = strrchr(self, '/');
	*end = '\0';
	snprintf(path, size, "%s/../tests/interop/vfu_device", self);
	return !access(path, X_OK);
}

struct match {
	pid_t server;
	struct bench_peer ours;
	struct bench_way ways[2];
};

static int start_match(struct match *match, enum bench_pinning pinning,
		       const char *program, const char *path)
{
	int err;

	match->ours = (struct bench_peer){ .kind = BENCH_PEER_SERVER,
					   .fd = -1 };
	err = cleat_bench_peer_start(&match->ours, pinning);
	match->server = cleat_bench_fork(pinning, false);
	if (!match->server) {
		execl(program, program, path, NULL);
		_exit(1);
	}
	cleat_bench_pin_us(pinning);
	for (unsigned i = 0; i < 2; i++)
		match->ways[i] = (struct bench_way){
			.name = i ? "libvfio-user" : "our server library",
			.run = cleat_bench_run_mean,
			.num = VFU_SCRATCH,
		};
	if (!err)
		err = cleat_bench_peer_open(&match->ours, 0, CLEAT_SPIN_NEVER,
					    &match->ways[0].dev);
	return err ? err : cleat_bench_open_path(path, CLEAT_SPIN_NEVER,
					   &match->ways[1].dev);
}

static int run_match(struct bench_messages *bench, enum bench_pinning pinning,
		     const char *program, const char *path)
{
	static struct match match;
	int err;

	memset(&match, 0, sizeof(match));
	err = start_match(&match, pinning, program, path);
	for (unsigned write = 0; write < 2 && !err; write++) {
		match.ways[0].flags = write ? BENCH_WAY_WRITE : 0;
		match.ways[1].flags = match.ways[0].flags;
		err = cleat_bench_by_turns(bench, match.ways, 2);
		if (!err)
			err = cleat_bench_compare(
				bench,
				write ? "posted write 4, libvfio-user's server" :
					"read 4, libvfio-user's server",
				pinning, "ns", &match.ways[1], &match.ways[0],
				0);
	}
	for (unsigned i = 0; i < 2; i++)
		cleat_device_unref(match.ways[i].dev);
	cleat_bench_kill(match.server);
	cleat_bench_peer_end(&match.ours);
	unlink(path);
	return err;
}

int cleat_bench_row_libvfio_user(struct bench_messages *bench)
{
	char program[PATH_MAX + 64], folder[] = "/tmp/cleat-bench.XXXXXX";
	char path[sizeof(folder) + 16];
	int err = 0;

	if (!find_vfu(program, sizeof(program))) {
		fprintf(stderr, "cleat-bench-messages: libvfio-user: skipped: "
				"no vfu_device: build with libvfio-user, or "
				"set CLEAT_VFU_DEVICE\n");
		return 0;
	}
	if (!mkdtemp(folder))
		return -errno;
	snprintf(path, sizeof(path), "%s/socket", folder);
	for (unsigned i = 0; i < 2 && !err; i++)
		err = run_match(bench, i ? BENCH_TWO_CORES : BENCH_ONE_CORE,
				program, path);
	rmdir(folder);
	return err;
}
