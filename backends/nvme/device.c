/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "backends/nvme/device.h"
#include "backends/nvme/spec.h"
#include "wire/wire.h"

#define BAR0 0
#define BAR4 4
#define PAGE 4096u
#define VENDOR 0xc1ea
#define DEVICE 0x0001
#define CLASS_NVME 0x010802
#define VALUE_SECONDS 2
#define STATE_VERSION 2

/* ---- what the controller asks of us ---- */

static int map(void *opaque, uint64_t addr, uint64_t length, uint32_t rights,
	       struct iovec *iov, unsigned n_iov)
{
	struct nvme_device *device = opaque;

	return cleat_server_dma_map(device->srv, addr, length, rights, iov,
				    n_iov);
}

static void dirty(void *opaque, uint64_t addr, uint64_t length)
{
	struct nvme_device *device = opaque;

	cleat_server_dma_dirty(device->srv, addr, length);
}

static int dma_read(void *opaque, uint64_t addr, void *buf, size_t count)
{
	struct nvme_device *device = opaque;

	return cleat_server_dma_read(device->srv, addr, buf, count);
}

static int dma_write(void *opaque, uint64_t addr, const void *buf,
		     size_t count)
{
	struct nvme_device *device = opaque;

	return cleat_server_dma_write(device->srv, addr, buf, count);
}

static void raise_vector(void *opaque, unsigned vector)
{
	struct nvme_device *device = opaque;
	uint32_t index = device->irq_mode == NVME_IRQ_MSIX ? CLEAT_IRQ_MSIX :
							     CLEAT_IRQ_MSI;

	device->pending[vector] =
		cleat_server_irq_raise(device->srv, index, vector) == -ENOENT;
}

static void set_pin(void *opaque, bool level)
{
	struct nvme_device *device = opaque;

	if (level)
		cleat_server_irq_raise(device->srv, CLEAT_IRQ_INTX, 0);
	else
		cleat_server_irq_lower(device->srv, CLEAT_IRQ_INTX, 0);
}

static void warn(void *opaque, const char *line)
{
	cleat_program_say(0, "%s", line);
}

static const struct cleat_nvme_ops nvme_ops = {
	.map = map,
	.dirty = dirty,
	.read = dma_read,
	.write = dma_write,
	.raise = raise_vector,
	.pin = set_pin,
	.warn = warn,
};

/* ---- what the server tells us ---- */

static int region_read(void *opaque, uint32_t index, uint64_t offset,
		       void *buf, size_t count)
{
	struct nvme_device *device = opaque;

	memset(buf, 0, count);
	if (index == BAR0)
		cleat_nvme_bar_read(device->nvme, offset, buf, count);
	return 0;
}

static int region_write(void *opaque, uint32_t index, uint64_t offset,
			const void *buf, size_t count)
{
	struct nvme_device *device = opaque;

	if (index == BAR0)
		cleat_nvme_bar_write(device->nvme, offset, buf, count);
	return 0;
}

static bool any_armed(const struct nvme_device *device, uint32_t index)
{
	for (unsigned i = 0; i < device->vectors; i++)
		if (cleat_server_irq_armed(device->srv, index, i))
			return true;
	return false;
}

/*
 * By what the guest enabled and by what the client armed: some clients keep
 * the enable bits to themselves.
 */
static void choose_irq_mode(struct nvme_device *device)
{
	enum cleat_nvme_irq_mode mode = NVME_IRQ_PIN;

	if (device->msix || any_armed(device, CLEAT_IRQ_MSIX))
		mode = NVME_IRQ_MSIX;
	else if (device->msi || any_armed(device, CLEAT_IRQ_MSI))
		mode = NVME_IRQ_MSI;
	device->irq_mode = mode;
	cleat_nvme_set_irq_mode(device->nvme, mode);
}

static void irqs_changed(void *opaque, uint32_t index)
{
	struct nvme_device *device = opaque;

	choose_irq_mode(device);
	for (unsigned i = 0; i < device->vectors; i++)
		if (device->pending[i])
			raise_vector(device, i);
}

static int reset(void *opaque)
{
	struct nvme_device *device = opaque;

	memset(device->pending, 0, sizeof(device->pending));
	cleat_nvme_reset(device->nvme);
	choose_irq_mode(device);
	return 0;
}

static void write_stats(const struct nvme_device *device)
{
	int err;

	if (device->stats_fd < 0)
		return;
	err = cleat_nvme_stats_write(cleat_nvme_get_stats(device->nvme),
				     device->doorbells, device->vectors,
				     device->stats_fd);
	if (err)
		cleat_program_say(0, "statistics not written: %s",
				  strerror(-err));
}

/* The next client is another machine: nothing of this one's is left to it. */
static void client_disconnected(void *opaque)
{
	struct nvme_device *device = opaque;

	reset(device);
	device->msi = false;
	device->msix = false;
	cleat_nvme_set_bus_master(device->nvme, false);
	write_stats(device);
}

static void drain(struct nvme_device *device, int fd)
{
	uint64_t kicks;

	if (read(fd, &kicks, sizeof(kicks)) == sizeof(kicks))
		cleat_nvme_kicked(device->nvme, kicks);
}

static void kicked(void *opaque, int fd, uint32_t events)
{
	drain(opaque, fd);
}

/* Completion queue heads matter only while one of those queues is full. */
static void watch_heads(struct nvme_device *device)
{
	bool want = cleat_nvme_wants_heads(device->nvme);

	if (device->heads < 0 || want == device->heads_watched)
		return;
	if (want)
		device->heads_watched =
			!cleat_server_watch(device->srv, device->heads, EPOLLIN,
					    kicked, device);
	else
		cleat_server_unwatch(device->srv, device->heads);
	if (!want)
		device->heads_watched = false;
}

static void value_late(void *opaque, int fd, uint32_t events)
{
	struct nvme_device *device = opaque;
	uint64_t count;

	if (read(fd, &count, sizeof(count)) == sizeof(count))
		cleat_nvme_give_up_value(device->nvme);
	device->timing = false;
}

static void watch_value(struct nvme_device *device)
{
	bool want = cleat_nvme_misses_value(device->nvme);
	struct itimerspec in = { .it_value.tv_sec = want * VALUE_SECONDS };

	if (want == device->timing)
		return;
	device->timing = want;
	timerfd_settime(device->timer, 0, &in, NULL);
}

static int poll_device(void *opaque)
{
	struct nvme_device *device = opaque;
	int work = cleat_nvme_poll(device->nvme);

	watch_heads(device);
	watch_value(device);
	return work;
}

static void command_changed(void *opaque, uint16_t old, uint16_t now)
{
	struct nvme_device *device = opaque;

	cleat_nvme_set_bus_master(device->nvme, now & PCI_COMMAND_MASTER);
}

static void msi_changed(void *opaque, bool enabled)
{
	struct nvme_device *device = opaque;

	device->msi = enabled;
	choose_irq_mode(device);
}

static void msix_changed(void *opaque, bool enabled, bool masked)
{
	struct nvme_device *device = opaque;

	device->msix = enabled;
	choose_irq_mode(device);
}

/* ---- moving to another process ---- */

/* While the guest runs there is nothing that would not change again. */
static int save(void *opaque, void *buf, size_t room)
{
	struct nvme_device *device = opaque;

	if (device->phase != CLEAT_SERVER_SAVING)
		return 0;
	return cleat_nvme_save(device->nvme, device->saved++, buf);
}

/* An older state says less than a guest would notice. */
static int load(void *opaque, uint32_t version, const void *buf, size_t count)
{
	struct nvme_device *device = opaque;

	if (version != STATE_VERSION)
		return -EPROTONOSUPPORT;
	return cleat_nvme_load(device->nvme, buf, count);
}

static int loaded(void *opaque)
{
	struct nvme_device *device = opaque;

	int err = cleat_nvme_loaded(device->nvme);

	if (!err)
		device->incoming = false;
	return err;
}

/*
 * The file goes from hand to hand: whoever gives his state away has written
 * everything out and lets go, whoever runs holds it. When the client has gone
 * nobody runs here: the state may be in another process, whose file it is now.
 * The next guest takes it with CC.EN.
 */
static int change_disk(struct nvme_device *device, enum cleat_server_phase now)
{
	int err;

	if (now == CLEAT_SERVER_RUNNING && !device->incoming &&
	    cleat_server_connected(device->srv))
		return cleat_nvme_disk_lock(&device->disk);
	if (now != CLEAT_SERVER_SAVING)
		return 0;
	err = cleat_nvme_disk_flush(&device->disk);
	if (!err)
		cleat_nvme_disk_unlock(&device->disk);
	return err;
}

static int change(void *opaque, enum cleat_server_phase old,
		  enum cleat_server_phase now)
{
	struct nvme_device *device = opaque;
	int err = 0;

	if (now == CLEAT_SERVER_LOADING)
		err = cleat_nvme_load_begin(device->nvme);
	if (!err)
		err = change_disk(device, now);
	if (err)
		return err;
	if (now == CLEAT_SERVER_RUNNING)
		cleat_nvme_load_end(device->nvme);
	device->saved = 0;
	device->phase = now;
	return 0;
}

/* ---- making it ---- */

static int fail(struct cleat_error *reterr, int code, const char *what)
{
	return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, code, "%s: %s", what,
			  strerror(-code));
}

/*
 * The doorbells lie where BAR 0 has them: then the area needs no offset of its
 * own in the file, which few clients understand.
 */
static int make_page(struct nvme_device *device, struct cleat_error *reterr)
{
	void *page = NULL;
	int err;

	if (device->doorbells != NVME_MAPPED &&
	    device->doorbells != NVME_SHADOW)
		return 0;
	err = cleat_program_memory("cleat-nvme-doorbells", NVME_BAR0_SIZE,
				   NVME_DOORBELLS, &device->page_fd, &page);
	device->page = page;
	return err ? fail(reterr, err, "doorbell page") : 0;
}

static int make_eventfds(struct nvme_device *device, struct cleat_error *reterr)
{
	if (device->doorbells != NVME_SHADOW &&
	    device->doorbells != NVME_IOEVENTFD)
		return 0;
	device->tails = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	device->heads = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	device->timer =
		timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (device->tails < 0 || device->heads < 0 || device->timer < 0)
		return fail(reterr, -errno, "doorbell eventfds");
	return 0;
}

static int make_controller(struct nvme_device *device,
			   const struct nvme_options *options,
			   struct cleat_error *reterr)
{
	struct cleat_nvme_config config = {
		.disk = &device->disk,
		.queues = options->queues,
		.doorbells = options->doorbells,
		.page = device->page,
		.serial = options->serial,
		.pci_vendor = VENDOR,
		.pci_subvendor = VENDOR,
	};

	device->nvme = cleat_nvme_new(&config, &nvme_ops, device);
	return device->nvme ? 0 : fail(reterr, -ENOMEM, "controller");
}

static int make_server(struct nvme_device *device,
		       const struct nvme_options *options,
		       struct cleat_error *reterr)
{
	const struct cleat_server_ops ops = {
		.size = sizeof(ops),
		.region_read = region_read,
		.region_write = region_write,
		.reset = reset,
		.irqs_changed = irqs_changed,
		.client_disconnected = client_disconnected,
		.poll = poll_device,
	};
	const struct cleat_server_config config = {
		.size = sizeof(config),
		.flags = CLEAT_SERVER_SIGBUS,
		.poll_busy_us = options->busy_us,
		.poll_sleep_us = options->sleep_us,
	};

	return cleat_server_create(&config, &ops, device, &device->srv, reterr);
}

static uint32_t table_bytes(const struct nvme_device *device)
{
	uint32_t bytes = device->vectors * PCI_MSIX_ENTRY_SIZE;

	return (bytes + PAGE - 1) / PAGE * PAGE;
}

static int add_regions(struct nvme_device *device, struct cleat_error *reterr)
{
	const struct cleat_server_area area = {
		.offset = NVME_DOORBELLS,
		.length = NVME_DOORBELL_BYTES,
		.fd = device->page_fd,
		.fd_offset = NVME_DOORBELLS,
	};
	struct cleat_server_region bar = {
		.size = sizeof(bar),
		.index = BAR0,
		.flags = CLEAT_REGION_READ | CLEAT_REGION_WRITE,
		.length = NVME_BAR0_SIZE,
		.areas = &area,
		.n_areas = device->doorbells == NVME_MAPPED,
	};
	int err = cleat_server_add_region(device->srv, &bar, reterr);

	if (err)
		return err;
	/* The MSI-X table, and the pending bits behind it. */
	bar.index = BAR4;
	bar.n_areas = 0;
	bar.length = PAGE;
	while (bar.length < table_bytes(device) + PAGE)
		bar.length *= 2;
	return cleat_server_add_region(device->srv, &bar, reterr);
}

/*
 * Every doorbell where the value is stored for us; where it is lost only those
 * of I/O queues, whose values are in the guest's doorbell buffer.
 */
static int add_io_fds(struct nvme_device *device, struct cleat_error *reterr)
{
	struct cleat_server_io_fd entries[2 * (NVME_QUEUES_MAX + 1)];
	bool shadow = device->doorbells == NVME_SHADOW;
	unsigned count = 0;
	int err;

	if (device->tails < 0)
		return 0;
	for (unsigned i = shadow ? 0 : 2; i < 2 * device->vectors; i++)
		entries[count++] = (struct cleat_server_io_fd){
			.offset = NVME_DOORBELLS + 4 * i,
			.length = 4,
			.type = shadow ? CLEAT_IO_FD_SHADOW :
					 CLEAT_IO_FD_IOEVENTFD,
			.fd = i % 2 ? device->heads : device->tails,
			.shadow_fd = device->page_fd,
			.shadow_offset = NVME_DOORBELLS + 4 * i,
		};
	err = cleat_server_set_io_fds(device->srv, BAR0, entries, count);
	if (!err)
		err = cleat_server_watch(device->srv, device->tails, EPOLLIN,
					 kicked, device);
	if (!err)
		err = cleat_server_watch(device->srv, device->timer, EPOLLIN,
					 value_late, device);
	return err ? fail(reterr, err, "doorbell eventfds") : 0;
}

static uint16_t msi_vectors(unsigned vectors)
{
	uint16_t most = 1;

	while (most < 32 && most * 2u <= vectors)
		most *= 2;
	return most;
}

static int add_config_space(struct nvme_device *device,
			    struct cleat_error *reterr)
{
	const struct cleat_server_pci_ops ops = {
		.size = sizeof(ops),
		.command_changed = command_changed,
		.msi_changed = msi_changed,
		.msix_changed = msix_changed,
	};
	const struct cleat_server_pci_config config = {
		.size = sizeof(config),
		.vendor = VENDOR,
		.device = DEVICE,
		.subvendor = VENDOR,
		.subdevice = DEVICE,
		.class_code = CLASS_NVME,
		.interrupt_pin = 1,
		.bars[BAR0].flags = CLEAT_BAR_64,
		.bars[BAR4].flags = CLEAT_BAR_64,
		.pm = true,
		.pcie = true,
		.msi_vectors = msi_vectors(device->vectors),
		.msix_vectors = (uint16_t)device->vectors,
		.msix_bar = BAR4,
		.msix_pba_bar = BAR4,
		.msix_pba = table_bytes(device),
	};
	struct cleat_server_pci *pci;

	return cleat_server_pci_create(device->srv, &config, &ops, device, &pci,
				       reterr);
}

static int add_migration(struct nvme_device *device,
			 const struct nvme_options *options,
			 struct cleat_error *reterr)
{
	const struct cleat_server_migration migration = {
		.size = sizeof(migration),
		.flags = CLEAT_SERVER_MIGRATE_PRE_COPY |
			 (options->migration == PROGRAM_MIGRATION_V1 ?
				  CLEAT_SERVER_MIGRATE_V1 :
				  0),
		.name = "cleat-nvme",
		.version = STATE_VERSION,
		.change = change,
		.save = save,
		.load = load,
		.loaded = loaded,
	};

	device->phase = CLEAT_SERVER_RUNNING;
	device->incoming = options->disk.incoming;
	if (options->migration == PROGRAM_MIGRATION_NONE)
		return 0;
	return cleat_server_add_migration(device->srv, &migration, reterr);
}

static int create(struct nvme_device *device,
		  const struct nvme_options *options,
		  struct cleat_error *reterr)
{
	int err = cleat_nvme_disk_open(&device->disk, &options->disk, reterr);

	if (!err)
		err = make_page(device, reterr);
	if (!err)
		err = make_eventfds(device, reterr);
	if (!err)
		err = make_controller(device, options, reterr);
	if (!err)
		err = make_server(device, options, reterr);
	if (!err)
		err = add_regions(device, reterr);
	if (!err)
		err = add_config_space(device, reterr);
	if (!err)
		err = add_io_fds(device, reterr);
	if (!err)
		err = add_migration(device, options, reterr);
	return err;
}

int cleat_nvme_device_create(struct nvme_device *device,
			     const struct nvme_options *options,
			     struct cleat_error *reterr)
{
	int err;

	*device = (struct nvme_device){
		.disk.fd = -1,
		.doorbells = options->doorbells,
		.vectors = options->queues + 1,
		.stats_fd = -1,
		.page_fd = -1,
		.tails = -1,
		.heads = -1,
		.timer = -1,
	};
	err = create(device, options, reterr);
	if (err)
		cleat_nvme_device_destroy(device);
	return err;
}

void cleat_nvme_device_destroy(struct nvme_device *device)
{
	cleat_server_destroy(device->srv);
	if (device->nvme)
		write_stats(device);
	cleat_nvme_free(device->nvme);
	cleat_nvme_disk_close(&device->disk);
	if (device->page)
		munmap(device->page, NVME_DOORBELL_BYTES);
	cleat_close(&device->page_fd);
	cleat_close(&device->tails);
	cleat_close(&device->heads);
	cleat_close(&device->timer);
	cleat_close(&device->stats_fd);
}
