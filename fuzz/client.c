/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A whole client from fuzz input, against a server of the library's with one of
 * everything. The input is cut into sends,
 *
 *	u8 descriptors (low 2 bits: how many; bits 2 and 3: of what kind)
 *	u8 command of a header that is made for it, 0: none is
 *	u16 bytes
 *	the bytes
 */
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cleat/server.h>

#include "fuzz/fuzz.h"
#include "wire/wire.h"

#define BAR 0x4000u

static uint8_t bar[BAR];

struct rig {
	struct cleat_server *srv;
	int fd;
};

static int on_read(void *opaque, uint32_t index, uint64_t offset, void *buf,
		   size_t count)
{
	if (offset > BAR || count > BAR - offset)
		abort();
	memcpy(buf, bar + offset, count);
	return 0;
}

/* The guest makes the device read and write its memory, and interrupt. */
static int on_write(void *opaque, uint32_t index, uint64_t offset,
		    const void *buf, size_t count)
{
	struct rig *rig = opaque;
	uint8_t data[64] = { 0 };
	uint64_t address = 0;

	if (offset > BAR || count > BAR - offset)
		abort();
	memcpy(bar + offset, buf, count);
	memcpy(&address, buf, count < 8 ? count : 8);
	if (offset == 8)
		cleat_server_dma_read(rig->srv, address, data, sizeof(data));
	if (offset == 16)
		cleat_server_dma_write(rig->srv, address, data, sizeof(data));
	for (uint32_t i = 0; offset == 24 && i < 5; i++)
		cleat_server_irq_raise(rig->srv, i, (uint32_t)address);
	return 0;
}

static int on_reset(void *opaque)
{
	return 0;
}

static const struct cleat_server_ops ops = {
	.size = sizeof(ops),
	.region_read = on_read,
	.region_write = on_write,
	.reset = on_reset,
};

static int make_file(void)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, 0x10000) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK))
		abort();
	return fd;
}

static void add_regions(struct cleat_server *srv)
{
	static int file = -1, kick = -1;
	struct cleat_server_area area = { .offset = 0x1000, .length = 0x1000 };
	struct cleat_server_io_fd io = { .offset = 0x2000, .length = 4,
					 .shadow_fd = -1 };
	struct cleat_server_region region = {
		.size = sizeof(region),
		.flags = CLEAT_REGION_READ | CLEAT_REGION_WRITE,
		.length = BAR,
	};
	struct cleat_server_pci_config config = {
		.size = sizeof(config),
		.interrupt_pin = 1,
		.pm = true,
		.pcie = true,
		.msi_vectors = 4,
		.msix_vectors = 8,
		.msix_table = 0x3000,
		.msix_pba = 0x3800,
	};
	struct cleat_server_pci *pci;

	if (file < 0)
		file = make_file();
	if (kick < 0)
		kick = eventfd(0, EFD_CLOEXEC);
	area.fd = file;
	area.fd_offset = area.offset;
	io.fd = kick;
	region.areas = &area;
	region.n_areas = 1;
	if (cleat_server_add_region(srv, &region, NULL) ||
	    cleat_server_set_io_fds(srv, 0, &io, 1) ||
	    cleat_server_pci_create(srv, &config, NULL, NULL, &pci, NULL))
		abort();
}

static int make_fd(unsigned kind)
{
	int fds[2] = { -1, -1 };

	switch (kind) {
	case 0:
		return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	case 1:
		return make_file();
	case 2:
		if (!pipe2(fds, O_CLOEXEC | O_NONBLOCK))
			close(fds[0]);
		return fds[1];
	default:
		return open("/", O_RDONLY | O_CLOEXEC);
	}
}

static int send_piece(int fd, const uint8_t *data, size_t size, uint8_t how,
		      uint8_t command)
{
	struct cleat_header header = {
		.id = (uint16_t)size,
		.command = command,
		.size = (uint32_t)(sizeof(header) + size),
	};
	struct iovec iov[2] = { { &header, sizeof(header) },
				{ (void *)data, size } };
	struct cleat_fds fds = { .num = how & 3 };
	size_t whole = size + (command ? sizeof(header) : 0);
	ssize_t n;

	for (unsigned i = 0; i < fds.num; i++)
		fds.fd[i] = make_fd((how >> 2) & 3);
	n = cleat_wire_send(fd, command ? iov : iov + 1, command ? 2 : 1,
			    fds.fd, fds.num, MSG_DONTWAIT);
	cleat_fds_close(&fds);
	return n == (ssize_t)whole ? 0 : -1;
}

static void send_input(int fd, const uint8_t *data, size_t size)
{
	while (size > 4) {
		size_t n = (size_t)data[2] | (size_t)data[3] << 8;
		uint8_t how = data[0], command = data[1];

		data += 4;
		size -= 4;
		if (n > size)
			n = size;
		if ((n || command) && send_piece(fd, data, n, how, command))
			break;
		data += n;
		size -= n;
	}
	shutdown(fd, SHUT_WR);
}

/* A client that reads nothing fills its socket: what the server sends goes. */
static void drop_replies(int fd)
{
	char buf[65536];
	struct cleat_fds fds;
	struct iovec iov = { buf, sizeof(buf) };

	while (cleat_wire_recv(fd, &iov, 1, &fds, MSG_DONTWAIT) > 0)
		cleat_fds_close(&fds);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cleat_server_config config = {
		.size = sizeof(config),
		.max_dma_maps = 64,
		.dma_timeout_ms = 1,
	};
	struct rig rig;
	int ends[2], turns = 0;

	if (cleat_server_create(&config, &ops, &rig, &rig.srv, NULL) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		abort();
	add_regions(rig.srv);
	if (cleat_server_adopt(rig.srv, ends[0], NULL))
		abort();
	rig.fd = ends[1];
	send_input(rig.fd, data, size);
	while (cleat_server_step(rig.srv, 0) == 1) {
		drop_replies(rig.fd);
		/* Its input has an end, and so must its work. */
		if (++turns > 100000)
			abort();
	}
	cleat_server_destroy(rig.srv);
	close(rig.fd);
	return 0;
}
