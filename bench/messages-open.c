/* SPDX-License-Identifier: BSD-2-Clause */
/* Rows of opening devices, and of what they cost when nothing happens. */
#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bench/messages.h"

#define DEVICES 1000
/* Of a device of 9 regions and 5 interrupt types. */
#define QUESTIONS 14
#define REGIONS 9
#define REGION_REPLY 48
#define IRQ_REPLY 32
#define INFO_REPLY 32

static void address(struct sockaddr_un *addr, char *path, size_t size)
{
	snprintf(path, size, "@cleat-bench-messages-%d", getpid());
	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	memcpy(addr->sun_path + 1, path + 1, strlen(path) - 1);
}

static socklen_t address_size(const char *path)
{
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
			   strlen(path));
}

int cleat_bench_start_many(struct bench_peer *peer, enum bench_pinning pinning)
{
	struct sockaddr_un addr;
	char path[64];

	address(&addr, path, sizeof(path));
	*peer = (struct bench_peer){ .kind = BENCH_PEER_MANY, .fd = -1 };
	peer->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (peer->listener < 0)
		return -errno;
	if (bind(peer->listener, (struct sockaddr *)&addr,
		 address_size(path)) ||
	    listen(peer->listener, 128)) {
		close(peer->listener);
		return -errno;
	}
	return cleat_bench_peer_start(peer, pinning);
}

/* --- The same messages, bare -------------------------------------------------- */

struct question {
	uint16_t id;
	uint16_t command;
	uint32_t size;
	uint32_t flags;
	uint32_t error;
	uint32_t argsz;
	uint32_t payload_flags;
	uint32_t index;
	uint32_t more[5];
};

static bool ask(int fd, uint16_t command, uint32_t size, uint32_t index)
{
	struct question question = { .command = command,
				     .size = size,
				     .argsz = size - 16,
				     .index = index };

	return cleat_bench_give(fd, &question, size);
}

/* What answers VERSION is as long as it says. */
static bool bare_version(int fd)
{
	static const char json[] = "{\"capabilities\":{}}";
	struct {
		uint16_t id, command;
		uint32_t size, flags, error;
		uint16_t major, minor;
		char json[sizeof(json)];
	} message = { .command = 1, .size = 20 + sizeof(json), .minor = 1 };
	char reply[1024];

	memcpy(message.json, json, sizeof(json));
	return cleat_bench_give(fd, &message, message.size) &&
	       recv(fd, reply, sizeof(reply), 0) > 0;
}

static bool bare_describe(int fd)
{
	char reply[1024];

	if (!ask(fd, 4, 32, 0) || !cleat_bench_take(fd, reply, INFO_REPLY, 0))
		return false;
	for (uint32_t i = 0; i < QUESTIONS; i++)
		if (!(i < REGIONS ? ask(fd, 5, 48, i) :
				    ask(fd, 7, 32, i - REGIONS)))
			return false;
	return cleat_bench_take(fd, reply,
				REGIONS * REGION_REPLY +
					(QUESTIONS - REGIONS) * IRQ_REPLY,
				0);
}

static int bare_open(int *ret_fd)
{
	struct sockaddr_un addr;
	char path[64];

	address(&addr, path, sizeof(path));
	*ret_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*ret_fd < 0 || connect(*ret_fd, (struct sockaddr *)&addr,
				   address_size(path)))
		return -errno;
	return bare_version(*ret_fd) && bare_describe(*ret_fd) ? 0 : -EIO;
}

int cleat_bench_open_many(struct cleat_device **ret)
{
	struct cleat_device_config config = { .size = sizeof(config),
					      .fd = -1 };
	struct sockaddr_un addr;
	struct cleat_error why;
	char path[64];
	int err;

	address(&addr, path, sizeof(path));
	config.path = path;
	err = cleat_device_open(&config, ret, &why);
	if (err)
		fprintf(stderr, "cleat-bench-messages: %s\n", why.text);
	return err;
}

/* --- Opening ---------------------------------------------------------------------- */

/* @num of them, all open before the first is closed. */
static int run_bare_open(const struct bench_messages *bench,
			 struct bench_way *way, struct bench_sample *ret)
{
	int *fds = calloc(way->num, sizeof(*fds)), err = fds ? 0 : -ENOMEM;
	uint64_t start = cleat_bench_now_ns();
	unsigned opened = 0;

	for (; opened < way->num && !err; opened++)
		err = bare_open(&fds[opened]);
	ret->value = (double)(cleat_bench_now_ns() - start) / way->num;
	while (opened)
		close(fds[--opened]);
	free(fds);
	return err;
}

static int run_device_open(const struct bench_messages *bench,
			   struct bench_way *way, struct bench_sample *ret)
{
	struct cleat_device **devs = calloc(way->num, sizeof(*devs));
	uint64_t start = cleat_bench_now_ns();
	int err = devs ? 0 : -ENOMEM;

	for (unsigned i = 0; i < way->num && !err; i++)
		err = cleat_bench_open_many(&devs[i]);
	ret->value = (double)(cleat_bench_now_ns() - start) / way->num;
	for (unsigned i = 0; devs && i < way->num; i++)
		cleat_device_unref(devs[i]);
	free(devs);
	return err;
}

static int measure_open(struct bench_messages *bench, const char *name,
			enum bench_pinning pinning, unsigned num, double target)
{
	struct bench_way ways[2] = {
		{ .name = "bare handshake", .run = run_bare_open, .num = num },
		{ .name = "device", .run = run_device_open, .num = num },
	};
	struct bench_peer server;
	int err = cleat_bench_start_many(&server, pinning);

	cleat_bench_pin_us(pinning);
	if (!err)
		err = cleat_bench_by_turns(bench, ways, 2);
	if (!err)
		err = cleat_bench_compare(bench, name, pinning, "ns", &ways[1],
					  &ways[0], target);
	cleat_bench_peer_end(&server);
	return err;
}

int cleat_bench_row_open(struct bench_messages *bench)
{
	int err = measure_open(bench, "open of a device", BENCH_ONE_CORE, 1, 0);

	return err ? err :
		     measure_open(bench, "open of a device", BENCH_TWO_CORES, 1,
				  0);
}

/* --- Idle ------------------------------------------------------------------------- */

static unsigned count_threads(void)
{
	DIR *tasks = opendir("/proc/self/task");
	unsigned num = 0;

	while (tasks && readdir(tasks))
		num++;
	if (tasks)
		closedir(tasks);
	return num;
}

struct idle {
	struct cleat_device *devs[DEVICES];
	struct cleat_pci *functions[DEVICES];
	struct cleat_mmio *mmio;
	size_t bytes;
	unsigned threads;
};

/* @most: bytes wished for; 0: none. */
static int add_figures(struct bench_messages *bench, const struct idle *before,
		       const struct idle *after, const char *what, double most)
{
	struct bench_figure *figure;
	char name[56];

	snprintf(name, sizeof(name), "heap of an idle %s", what);
	figure = cleat_bench_figure(bench, name, BENCH_FREE, "bytes", most);
	if (!figure)
		return -ENOMEM;
	figure->value = (double)(after->bytes - before->bytes) / DEVICES;
	snprintf(name, sizeof(name), "threads of %d idle %ss", DEVICES, what);
	/* Those of the process, not of the device. */
	figure = cleat_bench_figure(bench, name, BENCH_FREE, "", 2);
	if (!figure)
		return -ENOMEM;
	figure->value = after->threads - before->threads;
	return 0;
}

static void look(struct idle *idle)
{
	struct mallinfo2 heap = mallinfo2();

	idle->bytes = heap.uordblks + heap.hblkhd;
	idle->threads = count_threads();
}

static int fill_idle(struct bench_messages *bench, struct idle *idle)
{
	struct idle *before = calloc(1, sizeof(*before));
	int err = before ? 0 : -ENOMEM;

	if (!err)
		look(before);
	for (unsigned i = 0; i < DEVICES && !err; i++)
		err = cleat_bench_open_many(&idle->devs[i]);
	if (!err) {
		look(idle);
		err = add_figures(bench, before, idle, "device", 16384);
	}
	if (!err)
		err = cleat_mmio_create(&idle->mmio);
	for (unsigned i = 0; i < DEVICES && !err; i++) {
		struct cleat_pci_config config = { .size = sizeof(config),
						   .device = idle->devs[i],
						   .mmio = idle->mmio,
						   .function = i };
		struct cleat_error why;

		err = cleat_pci_create(&config, &idle->functions[i], &why);
		if (err)
			fprintf(stderr, "cleat-bench-messages: %s\n",
				why.text);
	}
	if (!err) {
		look(idle);
		/* With its device; the wish is for devices alone. */
		err = add_figures(bench, before, idle, "function", 0);
	}
	free(before);
	return err;
}

static int measure_idle(struct bench_messages *bench)
{
	struct idle *idle = calloc(1, sizeof(*idle));
	struct bench_peer server;
	int err = cleat_bench_start_many(&server, BENCH_FREE);

	cleat_bench_pin_us(BENCH_FREE);
	if (!idle && !err)
		err = -ENOMEM;
	if (!err)
		err = fill_idle(bench, idle);
	for (unsigned i = 0; idle && i < DEVICES; i++) {
		cleat_pci_unref(idle->functions[i]);
		cleat_device_unref(idle->devs[i]);
	}
	if (idle)
		cleat_mmio_unref(idle->mmio);
	free(idle);
	cleat_bench_peer_end(&server);
	return err;
}

int cleat_bench_row_devices(struct bench_messages *bench)
{
	struct rlimit limit;
	int err;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		return -errno;
	err = measure_open(bench, "open of 1000 devices, each", BENCH_ONE_CORE,
			   DEVICES, 2.0);
	return err ? err : measure_idle(bench);
}
