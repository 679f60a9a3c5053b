/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The function built on a hostile config space, and what a guest then does to
 * it. The input is
 *
 *	u8 log2 of the length of each of regions 0 to 6 (0: not there)
 *	u8 interrupt types: bit i: type i has vectors
 *	u16 bytes of config space, and these
 *	accesses of the guest: u16 offset (bit 15: a write, bits 13 and 14: log2
 *	of the length), u32 value
 *
 * The server is a thread that agrees to everything. Reads of config space do
 * not go there but to the input (cleat_region_read() is wrapped by the linker):
 * a thousand round trips for each input would leave little to find.
 */
#include <linux/vfio.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cleat/cleat.h>

#include "fuzz/fuzz.h"
#include "wire/wire.h"

#define REGIONS 9
#define IRQS 5

int __real_cleat_region_read(struct cleat_device *dev, unsigned index,
			     uint64_t offset, void *buf, size_t count);
int __wrap_cleat_region_read(struct cleat_device *dev, unsigned index,
			     uint64_t offset, void *buf, size_t count);

static struct {
	uint8_t order[REGIONS];
	uint8_t irqs;
	uint8_t config[4096];
} device;

int __wrap_cleat_region_read(struct cleat_device *dev, unsigned index,
			     uint64_t offset, void *buf, size_t count)
{
	if (index != VFIO_PCI_CONFIG_REGION_INDEX)
		return __real_cleat_region_read(dev, index, offset, buf, count);
	if (offset > sizeof(device.config) ||
	    count > sizeof(device.config) - offset)
		abort();
	memcpy(buf, device.config + offset, count);
	return 0;
}

/* --- The server ----------------------------------------------------------- */

static size_t describe(const struct cleat_header *header, void *payload)
{
	struct cleat_wire_device_info *info = payload;
	struct cleat_wire_region_info *region = payload;
	struct cleat_wire_irq_info *irq = payload;

	switch (header->command) {
	case VFIO_USER_VERSION:
		memset(payload, 0, 4);
		return 4;
	case VFIO_USER_DEVICE_GET_INFO:
		*info = (struct cleat_wire_device_info){ sizeof(*info), 3,
							 REGIONS, IRQS };
		return sizeof(*info);
	case VFIO_USER_DEVICE_GET_REGION_INFO:
		region->argsz = sizeof(*region);
		region->flags = CLEAT_REGION_READ | CLEAT_REGION_WRITE;
		if (device.order[region->index])
			region->size = 1ull << device.order[region->index];
		return sizeof(*region);
	case VFIO_USER_DEVICE_GET_IRQ_INFO:
		irq->flags = VFIO_IRQ_INFO_EVENTFD;
		irq->count = device.irqs >> irq->index & 1 ? 1u << irq->index :
							     0;
		return sizeof(*irq);
	case VFIO_USER_REGION_WRITE:
		return sizeof(struct cleat_wire_access);
	default:
		return 0;
	}
}

static int serve_one(int fd)
{
	static __thread uint8_t body[65536];
	struct cleat_header header;
	struct cleat_fds fds;
	struct iovec iov = { &header, sizeof(header) };
	size_t left;

	if (cleat_wire_recv(fd, &iov, 1, &fds, MSG_WAITALL) != sizeof(header))
		return -1;
	cleat_fds_close(&fds);
	left = header.size - sizeof(header);
	if (left > sizeof(body) - sizeof(header) ||
	    (left && recv(fd, body + sizeof(header), left, MSG_WAITALL) !=
			     (ssize_t)left))
		return -1;
	if (header.flags & CLEAT_HEADER_NO_REPLY)
		return 0;
	header.size = (uint32_t)(sizeof(header) +
				 describe(&header, body + sizeof(header)));
	header.flags = CLEAT_HEADER_REPLY;
	if (header.command == VFIO_USER_DEVICE_GET_REGION_IO_FDS) {
		header.flags |= CLEAT_HEADER_ERROR;
		header.error = 22;
	}
	memcpy(body, &header, sizeof(header));
	return send(fd, body, header.size, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

static void *serve(void *arg)
{
	while (!serve_one(*(int *)arg))
		;
	return NULL;
}

/* --- The VMM --------------------------------------------------------------- */

static int take_gsi(void *opaque, uint32_t *ret_gsi)
{
	*ret_gsi = 24;
	return 0;
}

static void give_gsi(void *opaque, uint32_t gsi)
{
}

static int set_route(void *opaque, uint32_t gsi, const struct cleat_msi *msi)
{
	return 0;
}

static void begin_routes(void *opaque)
{
}

static int commit_routes(void *opaque)
{
	return 0;
}

static int add_irqfd(void *opaque, uint32_t gsi, int fd, int resample_fd)
{
	return 0;
}

static int remove_irqfd(void *opaque, uint32_t gsi, int fd)
{
	return 0;
}

static int send_msi(void *opaque, const struct cleat_msi *msi)
{
	return 0;
}

static int set_line(void *opaque, uint32_t gsi, bool level)
{
	return 0;
}

static int route_pin(void *opaque, uint32_t requester, unsigned pin,
		     uint32_t *ret_gsi)
{
	*ret_gsi = 16 + pin;
	return 0;
}

static const struct cleat_vm_ops ops = {
	.size = sizeof(ops),
	.gsi_alloc = take_gsi,
	.gsi_free = give_gsi,
	.msi_route = set_route,
	.routes_begin = begin_routes,
	.routes_commit = commit_routes,
	.irqfd_add = add_irqfd,
	.irqfd_remove = remove_irqfd,
	.msi_signal = send_msi,
	.intx_gsi = route_pin,
	.line_set = set_line,
};

/* What the guest does after its access: whatever is placed is reached. */
static void touch(struct cleat_mmio *mmio, uint32_t value)
{
	uint64_t data = value;

	cleat_mmio_access(mmio, CLEAT_MEMORY, value & ~7ull, &data, 4, false);
	cleat_mmio_access(mmio, CLEAT_MEMORY, value & ~7ull, &data, 4, true);
}

static void run_guest(struct cleat_pci *pci, struct cleat_mmio *mmio,
		      const uint8_t *data, size_t size)
{
	for (unsigned i = 0; size >= 6 && i < 64; i++, data += 6, size -= 6) {
		uint16_t where;
		uint32_t value;
		unsigned length;

		memcpy(&where, data, 2);
		memcpy(&value, data + 2, 4);
		length = 1u << (where >> 13 & 3);
		where &= 0x8fff;
		if (where & 0x8000)
			cleat_pci_config_write(pci, where & 0xfff, value,
					       length);
		else
			cleat_pci_config_read(pci, where, length);
		touch(mmio, value);
	}
}

static void use_device(struct cleat_device *dev, const uint8_t *data,
		       size_t size)
{
	struct cleat_pci_config config = { .size = sizeof(config),
					   .device = dev,
					   .ops = &ops };
	struct cleat_error why;
	struct cleat_pci *pci;

	if (cleat_mmio_create(&config.mmio))
		abort();
	if (!cleat_pci_create(&config, &pci, &why)) {
		run_guest(pci, config.mmio, data, size);
		cleat_pci_unref(pci);
	} else if (!why.text[0] || why.code >= 0) {
		abort();
	}
	cleat_device_unref(dev);
	cleat_mmio_unref(config.mmio);
}

static size_t take_input(const uint8_t *data, size_t size)
{
	size_t length;

	if (size < 10)
		return 0;
	memset(&device, 0, sizeof(device));
	for (unsigned i = 0; i < 7; i++)
		device.order[i] = data[i] % 40;
	device.order[VFIO_PCI_CONFIG_REGION_INDEX] = 12;
	device.irqs = data[7];
	length = (size_t)data[8] | (size_t)data[9] << 8;
	if (length > size - 10)
		length = size - 10;
	if (length > sizeof(device.config))
		length = sizeof(device.config);
	memcpy(device.config, data + 10, length);
	/* (half of all inputs would be thrown away for this alone) */
	device.config[0xe] &= 0x80;
	return 10 + length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cleat_device_config config = {
		.size = sizeof(config),
		.flags = CLEAT_DEVICE_OWN_LOOP | CLEAT_DEVICE_NO_TWIN,
	};
	size_t used = take_input(data, size);
	struct cleat_device *dev;
	pthread_t thread;
	int ends[2];

	if (!used)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) ||
	    pthread_create(&thread, NULL, serve, &ends[1]))
		abort();
	config.fd = ends[0];
	if (cleat_device_open(&config, &dev, NULL))
		abort();
	use_device(dev, data + used, size - used);
	shutdown(ends[0], SHUT_RDWR);
	pthread_join(thread, NULL);
	close(ends[0]);
	close(ends[1]);
	return 0;
}
