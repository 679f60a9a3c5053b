/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vfu_device SOCKET: a device on an installed libvfio-user (vfu_regs.h), so
 * that our client meets that library with everything that a device can have.
 * Ends when its client has gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vfio-user/libvfio-user.h>
#include <vfio-user/pci_caps/msix.h>

#include "tests/interop/vfu_regs.h"

enum { PLAIN, MATCH, SHADOW, NUM_KICKS };

static struct {
	vfu_ctx_t *ctx;
	uint8_t regs[VFU_REGS_LENGTH];
	uint8_t *pages;
	uint8_t *bulk;
	uint8_t *shadow;
	int kicks[NUM_KICKS];
	int shadow_fd;
} device;

static void die(const char *what)
{
	fprintf(stderr, "vfu_device: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint32_t get32(unsigned offset)
{
	uint32_t value;

	memcpy(&value, device.regs + offset, sizeof(value));
	return value;
}

static void set32(unsigned offset, uint32_t value)
{
	memcpy(device.regs + offset, &value, sizeof(value));
}

static void count(unsigned offset)
{
	set32(offset, get32(offset) + 1);
}

/* --- DMA ------------------------------------------------------------------ */

static int dma_mapped(dma_sg_t *sg, uint8_t *buf, uint32_t length, bool fill)
{
	struct iovec iov;

	if (vfu_sgl_get(device.ctx, sg, &iov, 1, 0))
		return errno;
	memcpy(fill ? iov.iov_base : buf, fill ? buf : iov.iov_base, length);
	vfu_sgl_put(device.ctx, sg, &iov, 1);
	return 0;
}

static int dma_message(dma_sg_t *sg, uint8_t *buf, bool fill)
{
	int ret = fill ? vfu_sgl_write(device.ctx, sg, 1, buf, 0)
		       : vfu_sgl_read(device.ctx, sg, 1, buf, 0);

	return ret ? errno : 0;
}

static int dma(uint32_t go)
{
	static uint8_t buf[VFU_DMA_MOST];
	bool fill = go == VFU_DMA_FILL_MAPPED || go == VFU_DMA_FILL_MESSAGE;
	uint32_t length = get32(VFU_AT_DMA_LENGTH), sum = 0;
	dma_sg_t *sg = calloc(1, dma_sg_size());
	uint64_t address;
	int err = 0;

	memcpy(&address, device.regs + VFU_AT_DMA_ADDRESS, sizeof(address));
	memset(buf, fill ? VFU_DMA_PATTERN : 0, sizeof(buf));
	if (length > sizeof(buf))
		err = E2BIG;
	else if (vfu_addr_to_sgl(device.ctx, (vfu_dma_addr_t)address, length,
				 sg, 1, fill ? PROT_WRITE : PROT_READ) != 1)
		err = errno;
	else if (go == VFU_DMA_FILL_MAPPED || go == VFU_DMA_SUM_MAPPED)
		err = dma_mapped(sg, buf, length, fill);
	else
		err = dma_message(sg, buf, fill);
	for (uint32_t i = 0; i < length && i < sizeof(buf); i++)
		sum += buf[i];
	set32(VFU_AT_DMA_SUM, sum);
	free(sg);
	return err;
}

static void on_register(vfu_ctx_t *ctx, vfu_dma_info_t *info)
{
}

/* --- Regions -------------------------------------------------------------- */

static void wrote_register(unsigned offset)
{
	if (offset == VFU_AT_DMA_GO)
		set32(VFU_AT_DMA_RESULT, (uint32_t)dma(get32(VFU_AT_DMA_GO)));
	else if (offset == VFU_AT_RAISE)
		vfu_irq_trigger(device.ctx, get32(VFU_AT_RAISE));
}

static ssize_t copy(void *at, char *buf, size_t length, bool write)
{
	memcpy(write ? at : buf, write ? buf : at, length);
	return (ssize_t)length;
}

static ssize_t on_regs(vfu_ctx_t *ctx, char *buf, size_t length, loff_t offset,
		       bool write)
{
	copy(device.regs + offset, buf, length, write);
	if (write)
		wrote_register((unsigned)offset);
	return (ssize_t)length;
}

static ssize_t on_pages(vfu_ctx_t *ctx, char *buf, size_t length, loff_t offset,
			bool write)
{
	return copy(device.pages + offset, buf, length, write);
}

static ssize_t on_doorbells(vfu_ctx_t *ctx, char *buf, size_t length,
			    loff_t offset, bool write)
{
	count(VFU_AT_MESSAGES);
	return (ssize_t)length;
}

static ssize_t on_bulk(vfu_ctx_t *ctx, char *buf, size_t length, loff_t offset,
		       bool write)
{
	return copy(device.bulk + offset, buf, length, write);
}

static uint8_t *make_memory(const char *name, size_t length, int *ret_fd)
{
	void *at;

	*ret_fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (*ret_fd < 0 || ftruncate(*ret_fd, (off_t)length) ||
	    fcntl(*ret_fd, F_ADD_SEALS, F_SEAL_SHRINK))
		die(name);
	at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, *ret_fd, 0);
	if (at == MAP_FAILED)
		die(name);
	return at;
}

static void setup(int index, size_t length, vfu_region_access_cb_t *access,
		  struct iovec *areas, uint32_t num_areas, int fd)
{
	if (vfu_setup_region(device.ctx, index, length, access,
			     VFU_REGION_FLAG_RW | VFU_REGION_FLAG_MEM, areas,
			     num_areas, fd, 0))
		die("region");
}

static void setup_regions(void)
{
	struct iovec areas[2] = { { (void *)0x1000, 0x1000 },
				  { (void *)0x3000, 0x1000 } };
	int fd;

	set32(VFU_AT_MAGIC, VFU_MAGIC);
	setup(VFU_REGS, VFU_REGS_LENGTH, on_regs, NULL, 0, -1);
	device.pages = make_memory("pages", VFU_PAGES_LENGTH, &fd);
	setup(VFU_PAGES, VFU_PAGES_LENGTH, on_pages, areas, 2, fd);
	setup(VFU_DOORBELLS, VFU_DOORBELLS_LENGTH, on_doorbells, NULL, 0, -1);
	device.bulk = calloc(1, VFU_BULK_LENGTH);
	setup(VFU_BULK, VFU_BULK_LENGTH, on_bulk, NULL, 0, -1);
}

/* --- Doorbells, interrupts, the rest -------------------------------------- */

static void kicked(int which)
{
	static const unsigned counters[] = { VFU_AT_KICKS, VFU_AT_MATCHES,
					     VFU_AT_SHADOWS };
	uint64_t times;
	uint32_t value;

	if (read(device.kicks[which], &times, sizeof(times)) != sizeof(times))
		return;
	set32(counters[which], get32(counters[which]) + (uint32_t)times);
	memcpy(&value, device.shadow + VFU_SHADOW_OFFSET, sizeof(value));
	set32(VFU_AT_SHADOW_VALUE, value);
}

static void setup_doorbells(void)
{
	device.shadow = make_memory("shadow", 4096, &device.shadow_fd);
	for (unsigned i = 0; i < NUM_KICKS; i++)
		device.kicks[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vfu_create_ioeventfd(device.ctx, VFU_DOORBELLS, device.kicks[PLAIN],
				 VFU_AT_PLAIN, 4, 0, 0, -1, 0) ||
	    vfu_create_ioeventfd(device.ctx, VFU_DOORBELLS, device.kicks[MATCH],
				 VFU_AT_MATCH, 4, 1 /* datamatch */, VFU_MATCH,
				 -1, 0))
		die("ioeventfd");
	/* Only where the library was built with it. */
	if (vfu_create_ioeventfd(device.ctx, VFU_DOORBELLS,
				 device.kicks[SHADOW], VFU_AT_SHADOW, 4, 0, 0,
				 device.shadow_fd, VFU_SHADOW_OFFSET))
		fprintf(stderr, "vfu_device: no shadow ioeventfds\n");
}

static int on_reset(vfu_ctx_t *ctx, vfu_reset_type_t type)
{
	if (type != VFU_RESET_LOST_CONN)
		count(VFU_AT_RESETS);
	return 0;
}

static int on_transition(vfu_ctx_t *ctx, vfu_migr_state_t state)
{
	return 0;
}

static ssize_t on_data(vfu_ctx_t *ctx, void *buf, uint64_t length)
{
	return 0;
}

static void setup_rest(void)
{
	static const vfu_migration_callbacks_t migration = {
		.version = VFU_MIGR_CALLBACKS_VERS,
		.transition = on_transition,
		.read_data = on_data,
		.write_data = on_data,
	};
	struct msixcap msix = { .hdr.id = PCI_CAP_ID_MSIX,
				.mxc.ts = VFU_VECTORS - 1,
				.mtab = { .tbir = VFU_REGS, .to = 0x800 >> 3 },
				.mpba = { .pbir = VFU_REGS,
					  .pbao = 0xc00 >> 3 } };

	if (vfu_pci_add_capability(device.ctx, 0, 0, &msix) < 0 ||
	    vfu_setup_device_nr_irqs(device.ctx, VFU_DEV_INTX_IRQ, 1) ||
	    vfu_setup_device_nr_irqs(device.ctx, VFU_DEV_MSIX_IRQ,
				     VFU_VECTORS) ||
	    vfu_setup_device_reset_cb(device.ctx, on_reset) ||
	    vfu_setup_device_dma(device.ctx, LIBVFIO_USER_MAX_DMA_REGIONS,
				 on_register, on_register) ||
	    vfu_setup_device_migration_callbacks(device.ctx, &migration))
		die("setting up");
}

static void wait_for(short events)
{
	struct pollfd pollers[1 + NUM_KICKS] = {
		{ .fd = vfu_get_poll_fd(device.ctx), .events = events },
	};

	for (unsigned i = 0; i < NUM_KICKS; i++)
		pollers[1 + i] = (struct pollfd){ .fd = device.kicks[i],
						  .events = POLLIN };
	if (poll(pollers, 1 + NUM_KICKS, -1) < 0 && errno != EINTR)
		die("poll");
	for (int i = 0; i < NUM_KICKS; i++)
		if (pollers[1 + i].revents)
			kicked(i);
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fputs("usage: vfu_device SOCKET\n", stderr);
		return 2;
	}
	device.ctx = vfu_create_ctx(VFU_TRANS_SOCK, argv[1],
				    LIBVFIO_USER_FLAG_ATTACH_NB, NULL,
				    VFU_DEV_TYPE_PCI);
	if (!device.ctx || vfu_pci_init(device.ctx, VFU_PCI_TYPE_CONVENTIONAL,
					PCI_HEADER_TYPE_NORMAL, 0))
		die(argv[1]);
	vfu_pci_set_id(device.ctx, VFU_VENDOR, VFU_DEVICE, 0, 0);
	setup_regions();
	setup_rest();
	if (vfu_realize_ctx(device.ctx))
		die("realize");
	setup_doorbells();
	while (vfu_attach_ctx(device.ctx)) {
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			die("attach");
		wait_for(POLLIN);
	}
	for (;;) {
		wait_for(POLLIN);
		if (vfu_run_ctx(device.ctx) < 0 && errno != EAGAIN)
			break;
	}
	vfu_destroy_ctx(device.ctx);
	return 0;
}
