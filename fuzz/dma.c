/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The server's DMA_READ and DMA_WRITE, from its bytes on the socket to guest
 * memory and back: pieces of
 *
 *	u8 command: 0 DMA_READ, 1 DMA_WRITE, else itself
 *	u8 flags of the header
 *	u64 address, u64 count
 *	u16 bytes of data that follow, of no particular value
 *
 * The memory has a range that may be read and written, one that may only be
 * read, and a gap. What must not change is looked at after each input.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cleat/cleat.h>

#include "fuzz/fuzz.h"
#include "wire/wire.h"

#define PAGE 4096u
#define RANGE (4 * PAGE)
#define RAM (6 * PAGE + 2 * RANGE) /* with pages around and between */
#define BOTH (2 * PAGE)
#define READ_ONLY (4 * PAGE + RANGE)

struct request {
	struct cleat_header header;
	struct cleat_wire_dma dma;
	uint8_t data[65536];
};

struct piece {
	uint8_t command;
	uint8_t flags;
	uint64_t address;
	uint64_t count;
	uint16_t data;
} __attribute__((packed));

static struct {
	uint8_t *ram;
	struct cleat_memory *memory;
	struct cleat_device *dev;
	int fd;
} rig;

static int answer(int fd)
{
	struct cleat_header header;
	uint8_t body[4096];
	struct cleat_wire_device_info info = { .argsz = sizeof(info) };
	uint32_t version = 0;
	void *payload = &version;
	size_t size = sizeof(version);

	if (recv(fd, &header, sizeof(header), MSG_WAITALL) != sizeof(header))
		return -1;
	if (header.size > sizeof(header) &&
	    recv(fd, body, header.size - sizeof(header), MSG_WAITALL) < 0)
		return -1;
	if (header.command == VFIO_USER_DEVICE_GET_INFO) {
		payload = &info;
		size = sizeof(info);
	} else if (header.command != VFIO_USER_VERSION) {
		size = 0;
	}
	header.size = (uint32_t)(sizeof(header) + size);
	header.flags = CLEAT_HEADER_REPLY;
	memcpy(body, &header, sizeof(header));
	memcpy(body + sizeof(header), payload, size);
	return send(fd, body, header.size, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

/* VERSION, GET_INFO, and a DMA_MAP of each range. */
static void *serve_opening(void *arg)
{
	for (int i = 0; i < 4 && !answer(*(int *)arg); i++)
		;
	return NULL;
}

static void add_range(uint64_t guest, uint32_t rights)
{
	struct cleat_memory_range range = {
		.size = sizeof(range),
		.rights = rights,
		.guest = guest,
		.length = RANGE,
		.host = rig.ram + guest,
		.fd = -1,
	};

	if (cleat_memory_add(rig.memory, &range))
		abort();
}

static void make_memory(void)
{
	rig.ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (rig.ram == MAP_FAILED || cleat_memory_create(&rig.memory))
		abort();
	memset(rig.ram, 0x5a, RAM);
	add_range(BOTH, CLEAT_READ | CLEAT_WRITE);
	add_range(READ_ONLY, CLEAT_READ);
}

static void open_device(void)
{
	struct cleat_device_config config = {
		.size = sizeof(config),
		.flags = CLEAT_DEVICE_OWN_LOOP | CLEAT_DEVICE_NO_TWIN,
	};
	pthread_t thread;
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) ||
	    pthread_create(&thread, NULL, serve_opening, &ends[1]))
		abort();
	config.fd = ends[0];
	if (cleat_device_open(&config, &rig.dev, NULL) ||
	    cleat_memory_attach(rig.memory, rig.dev))
		abort();
	pthread_join(thread, NULL);
	close(ends[0]);
	rig.fd = ends[1];
}

static void close_device(void)
{
	cleat_device_unref(rig.dev);
	close(rig.fd);
	rig.dev = NULL;
}

static size_t send_piece(const struct piece *piece, uint16_t id)
{
	static struct request request;
	uint16_t command = piece->command == 0 ? VFIO_USER_DMA_READ :
			   piece->command == 1 ? VFIO_USER_DMA_WRITE :
						 piece->command;

	request.header = (struct cleat_header){
		.id = id,
		.command = command,
		.size = (uint32_t)(sizeof(request.header) +
				   sizeof(request.dma) + piece->data),
		.flags = piece->flags,
	};
	request.dma = (struct cleat_wire_dma){ piece->address, piece->count };
	memset(request.data, piece->command, piece->data);
	return send(rig.fd, &request, request.header.size,
		    MSG_DONTWAIT | MSG_NOSIGNAL) == request.header.size;
}

/* Everything that came back; replies that are no longer than was asked for. */
static void take_replies(void)
{
	static uint8_t buf[2 * CLEAT_MAX_MESSAGE];

	while (recv(rig.fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
}

static void check_ram(void)
{
	static uint8_t good[PAGE];

	memset(good, 0x5a, sizeof(good));
	for (uint32_t at = 0; at < RAM; at += PAGE)
		if ((at < BOTH || at >= BOTH + RANGE) &&
		    memcmp(rig.ram + at, good, PAGE))
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct piece piece;
	uint16_t id = 0;

	if (!rig.memory)
		make_memory();
	if (!rig.dev)
		open_device();
	for (; size >= sizeof(piece); size -= sizeof(piece)) {
		memcpy(&piece, data, sizeof(piece));
		data += sizeof(piece);
		send_piece(&piece, ++id);
		if (cleat_device_dispatch(rig.dev))
			break;
		take_replies();
	}
	if (cleat_device_failure(rig.dev, NULL))
		close_device();
	check_ram();
	return 0;
}
