/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The least that answers a vfio-user client: no checks, no state. What a client
 * costs with this at the other end is its own doing.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bench/messages.h"

enum {
	VERSION = 1,
	GET_INFO = 4,
	GET_REGION_INFO = 5,
	GET_REGION_IO_FDS = 6,
	GET_IRQ_INFO = 7,
	REGION_READ = 9,
	REGION_WRITE = 10,
	WRITE_MULTI = 15,
};

#define NO_REPLY 0x10
#define REGIONS 9
#define CONFIG_REGION 7
#define IRQS 5
#define ROOM (64u * 1024)

struct header {
	uint16_t id;
	uint16_t command;
	uint32_t size;
	uint32_t flags;
	uint32_t error;
};

struct region_info {
	uint32_t argsz;
	uint32_t flags;
	uint32_t index;
	uint32_t cap_offset;
	uint64_t size;
	uint64_t offset;
};

struct access {
	uint64_t offset;
	uint32_t region;
	uint32_t count;
};

struct message {
	struct header header;
	char payload[ROOM];
};

static size_t answer_version(char *payload)
{
	static const char json[] =
		"{\"capabilities\":{\"max_msg_fds\":8,\"max_dma_maps\":100000,"
		"\"write_multiple\":true}}";
	static const uint16_t version[2] = { 0, 1 };

	memcpy(payload, version, sizeof(version));
	memcpy(payload + sizeof(version), json, sizeof(json));
	return sizeof(version) + sizeof(json);
}

static size_t answer_region(const char *asked, char *payload)
{
	struct region_info info;

	memcpy(&info, asked, sizeof(info));
	info.argsz = sizeof(info);
	info.cap_offset = 0;
	info.flags = 3;
	if (info.index == BENCH_REGION)
		info.size = BENCH_REGION_SIZE;
	else if (info.index == CONFIG_REGION)
		info.size = 256;
	else
		info.size = info.flags = 0;
	memcpy(payload, &info, sizeof(info));
	return sizeof(info);
}

/* The reply's payload; its size. */
static size_t answer(uint16_t command, const char *asked, char *payload)
{
	static const uint32_t info[4] = { 16, 3, REGIONS, IRQS };
	static const uint32_t config[64] = { 0x00011b36 };
	struct access access;

	switch (command) {
	case VERSION:
		return answer_version(payload);
	case GET_INFO:
		memcpy(payload, info, sizeof(info));
		return sizeof(info);
	case GET_REGION_INFO:
		return answer_region(asked, payload);
	case GET_REGION_IO_FDS:
	case GET_IRQ_INFO:
		memcpy(payload, asked, 16);
		return 16;
	case REGION_READ:
		memcpy(&access, asked, sizeof(access));
		memcpy(payload, asked, sizeof(access));
		if (access.region == CONFIG_REGION)
			memcpy(payload + sizeof(access),
			       (const char *)config + access.offset,
			       access.count);
		return sizeof(access) + access.count;
	case REGION_WRITE:
		memcpy(payload, asked, sizeof(access));
		return sizeof(access);
	case WRITE_MULTI:
		memcpy(payload, asked, 8);
		return 8;
	default:
		return 0;
	}
}

static bool reply_to(int fd, const char *at, struct message *out)
{
	size_t size;

	memcpy(&out->header, at, sizeof(out->header));
	if (out->header.flags & NO_REPLY)
		return true;
	size = sizeof(out->header) + answer(out->header.command,
					    at + sizeof(out->header),
					    out->payload);
	out->header.flags = 1;
	out->header.size = (uint32_t)size;
	return cleat_bench_give(fd, out, size);
}

static void sleep_us(unsigned us)
{
	struct timespec time = { .tv_nsec = us * 1000L };

	if (us)
		nanosleep(&time, NULL);
}

/* What is left of [@in, @in + @size) goes to the front; -1: the end. */
static ssize_t answer_all(const struct bench_peer *peer, int fd, char *in,
			  size_t size, struct message *out)
{
	size_t at = 0;
	struct header header;

	while (size - at >= sizeof(header)) {
		memcpy(&header, in + at, sizeof(header));
		if (header.size > size - at)
			break;
		sleep_us(peer->delay_us);
		if (!reply_to(fd, in + at, out))
			return -1;
		at += header.size;
	}
	if (at && at < size)
		memmove(in, in + at, size - at);
	return (ssize_t)(size - at);
}

void cleat_bench_serve_canned(const struct bench_peer *peer, int fd)
{
	static struct message out;
	static char in[2 * ROOM];
	ssize_t have = 0;

	while (have >= 0) {
		ssize_t n = cleat_bench_receive(fd, in + have,
						sizeof(in) - (size_t)have,
						peer->spin_us);

		if (n <= 0)
			return;
		have = answer_all(peer, fd, in, (size_t)(have + n), &out);
	}
}

/* Whole messages only, as small ones always come. */
static void serve_one(const struct bench_peer *peer, int fd)
{
	static struct message out;
	static char in[ROOM];
	ssize_t n = recv(fd, in, sizeof(in), 0);

	if (n <= 0 || answer_all(peer, fd, in, (size_t)n, &out) != 0)
		close(fd);
}

void cleat_bench_serve_many(const struct bench_peer *peer)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = 3 };
	int epoll = epoll_create1(0);

	epoll_ctl(epoll, EPOLL_CTL_ADD, 3, &event);
	for (;;) {
		struct epoll_event ready[64];
		int num = epoll_wait(epoll, ready, 64, -1);

		for (int i = 0; i < num; i++) {
			if (ready[i].data.fd != 3) {
				serve_one(peer, ready[i].data.fd);
				continue;
			}
			event.data.fd = accept(3, NULL, NULL);
			epoll_ctl(epoll, EPOLL_CTL_ADD, event.data.fd, &event);
		}
	}
}
