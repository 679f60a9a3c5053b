/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A whole server from fuzz input. The input is cut into sends,
 *
 *	u8 descriptors (low 3 bits: how many; bits 3 and 4: of what kind), and
 *	   bit 5: not in answer to a request
 *	u16 bytes
 *	the bytes
 *
 * each of which follows one request of the client's, whose ids are known
 * beforehand. The client does everything it can do with a device.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cleat/cleat.h>

#include "client/client.h"
#include "fuzz/fuzz.h"

#define RAM 0x10000

static int make_fd(unsigned kind)
{
	int fd;

	switch (kind) {
	case 0:
		return eventfd(0, EFD_CLOEXEC);
	case 1:
		fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		if (fd >= 0 && !ftruncate(fd, 0x2000))
			fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
		return fd;
	case 2:
		return memfd_create("fuzz", MFD_CLOEXEC);
	default:
		return open("/", O_RDONLY | O_CLOEXEC);
	}
}

static int send_piece(int fd, const uint8_t *data, size_t size, uint8_t how)
{
	struct iovec iov = { (void *)data, size };
	struct cleat_fds fds = { .num = how & 7 };
	ssize_t n;

	for (unsigned i = 0; i < fds.num; i++)
		fds.fd[i] = make_fd((how >> 3) & 3);
	n = cleat_wire_send(fd, &iov, 1, fds.fd, fds.num, MSG_DONTWAIT);
	cleat_fds_close(&fds);
	return n == (ssize_t)size ? 0 : -1;
}

/* One request, whatever it says. False: the client has gone. */
static int await_request(int fd)
{
	static __thread uint8_t body[65536];
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	struct cleat_header header;
	size_t left;

	/* The client may be waiting for us as we are for it: that is the end. */
	if (poll(&pfd, 1, 5) <= 0)
		return 0;
	if (recv(fd, &header, sizeof(header), MSG_WAITALL) != sizeof(header))
		return 0;
	for (left = header.size - sizeof(header); left;) {
		size_t want = left < sizeof(body) ? left : sizeof(body);
		ssize_t n = recv(fd, body, want, 0);

		if (n <= 0)
			return 0;
		left -= (size_t)n;
	}
	return 1;
}

struct input {
	int fd;
	const uint8_t *data;
	size_t size;
};

static void *send_input(void *arg)
{
	struct input *in = arg;
	const uint8_t *data = in->data;
	size_t size = in->size;

	while (size > 3) {
		size_t n = (size_t)data[1] | (size_t)data[2] << 8;
		uint8_t how = data[0];

		data += 3;
		size -= 3;
		if (n > size)
			n = size;
		if (!(how & 0x20) && !await_request(in->fd))
			break;
		if (n && send_piece(in->fd, data, n, how))
			break;
		data += n;
		size -= n;
	}
	/* What the input does not say is never said. */
	shutdown(in->fd, SHUT_WR);
	return NULL;
}

static void use_memory(struct cleat_device *dev, struct cleat_memory *memory,
		       void *ram)
{
	struct cleat_memory_range range = {
		.size = sizeof(range),
		.rights = CLEAT_READ | CLEAT_WRITE,
		.guest = 0x1000,
		.length = RAM,
		.host = ram,
		.fd = -1,
	};

	cleat_memory_add(memory, &range);
	cleat_memory_attach(memory, dev);
}

static void use_regions(struct cleat_device *dev, unsigned num)
{
	uint8_t buf[64] = { 0 };

	for (unsigned i = 0; i < num && i < 10; i++) {
		struct cleat_io_fds io_fds;

		cleat_region_read(dev, i, 0, buf, 4);
		cleat_region_write(dev, i, 8, buf, 8);
		cleat_region_post(dev, i, 0, buf, 1);
		if (!cleat_device_io_fds(dev, i, &io_fds, NULL))
			cleat_io_fds_free(&io_fds);
	}
}

static void use_device(struct cleat_device *dev, void *ram)
{
	struct cleat_device_info info = { .size = sizeof(info) };
	struct cleat_memory *memory;
	uint64_t data[4] = { 0 };

	if (cleat_memory_create(&memory))
		return;
	use_memory(dev, memory, ram);
	cleat_device_info(dev, &info);
	use_regions(dev, info.num_regions);
	cleat_device_feature(dev, 1, CLEAT_FEATURE_GET, data, 0, sizeof(data),
			     NULL);
	cleat_device_dispatch(dev);
	cleat_device_reset(dev);
	cleat_device_unref(dev);
	cleat_memory_unref(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t ram[RAM] __attribute__((aligned(4096)));
	struct cleat_device_config config = {
		.size = sizeof(config),
		.flags = CLEAT_DEVICE_OWN_LOOP,
		.access_ms = 1000,
		.control_ms = 1000,
		.quiesce_ms = 1000,
	};
	struct input input = { .data = data, .size = size };
	struct cleat_device *dev;
	struct cleat_error why;
	pthread_t thread;
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		abort();
	input.fd = ends[1];
	if (pthread_create(&thread, NULL, send_input, &input))
		abort();
	config.fd = ends[0];
	if (!cleat_device_open(&config, &dev, &why))
		use_device(dev, ram);
	shutdown(ends[0], SHUT_RDWR);
	pthread_join(thread, NULL);
	close(ends[0]);
	close(ends[1]);
	return 0;
}
