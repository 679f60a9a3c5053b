/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Our client on a device that an installed libvfio-user serves (vfu_device.c).
 * Where meson has found none (option libvfio_user), the cases are skipped.
 */
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>

#include <cleat/memory.h>
#include <cleat/mmio.h>

#include "client/client.h"
#include "irq/irq.h"
#include "tests/interop/vfu_regs.h"
#include "tests/support/support.h"

#define RAM (1u << 20)
#define RAM_AT 0x100000u
#define DOORBELLS_AT 0xfe000000u

struct rig {
	struct child server;
	struct cleat_device *dev;
	struct cleat_memory *memory;
	uint8_t *ram;
	int ram_fd;
	const char *peer; /* our word for the server */
};

static void start_server(struct rig *rig)
{
	const char *argv[] = { program("tests/interop/vfu_device"),
			       "device.sock", NULL };

	child_start(&rig->server, "device", argv);
}

/* The socket is there before anybody listens on it. */
static int try_open(struct rig *rig, uint32_t flags, struct cleat_error *why)
{
	struct cleat_device_config config = { .size = sizeof(config),
					      .path = "device.sock",
					      .flags = flags,
					      .peer = rig->peer,
					      .control_ms = PATIENCE_MS };

	ATF_REQUIRE(!child_ended(&rig->server));
	return cleat_device_open(&config, &rig->dev, why);
}

static void start_as(struct rig *rig, uint32_t flags, const char *peer)
{
	struct cleat_error why = { 0 };
	int err;

	*rig = (struct rig){ .ram_fd = -1, .peer = peer };
	start_server(rig);
	REQUIRE_SOON((err = try_open(rig, flags, &why)) != -ENOENT &&
		     err != -ECONNREFUSED);
	ATF_REQUIRE_EQ_MSG(0, err, "%s", why.text);
}

static void start(struct rig *rig, uint32_t flags)
{
	start_as(rig, flags, NULL);
}

static void end(struct rig *rig)
{
	ATF_REQUIRE_EQ(0, cleat_device_failure(rig->dev, NULL));
	cleat_device_unref(rig->dev);
	cleat_memory_unref(rig->memory);
	if (rig->ram) {
		munmap(rig->ram, RAM);
		close(rig->ram_fd);
	}
	/* It sees that its client has gone. */
	ATF_REQUIRE_EQ(0, child_wait(&rig->server, PATIENCE_MS));
}

static uint32_t get(struct rig *rig, unsigned offset)
{
	uint32_t value = 0;

	ATF_REQUIRE_EQ(0, cleat_region_read(rig->dev, VFU_REGS, offset, &value,
					    sizeof(value)));
	return value;
}

static void set(struct rig *rig, unsigned offset, uint32_t value)
{
	ATF_REQUIRE_EQ(0, cleat_region_write(rig->dev, VFU_REGS, offset, &value,
					     sizeof(value)));
}

/* --- What it says of itself ----------------------------------------------- */

CLEAT_TC(info__all)
{
	struct cleat_device_info info = { .size = sizeof(info) };
	struct cleat_region_info region = { .size = sizeof(region) };
	struct cleat_irq_info irq;
	struct rig rig;

	start(&rig, 0);
	ATF_REQUIRE_EQ(0, cleat_device_info(rig.dev, &info));
	ATF_REQUIRE_EQ(9, info.num_regions);
	ATF_REQUIRE_EQ(5, info.num_irqs);
	ATF_REQUIRE_EQ(0, info.major);
	ATF_REQUIRE(info.minor >= 1);
	ATF_REQUIRE_EQ(8, info.max_msg_fds);
	ATF_REQUIRE(info.flags & CLEAT_DEVICE_INFO_PCI);
	ATF_REQUIRE(info.flags & CLEAT_DEVICE_INFO_RESET);
	ATF_REQUIRE(info.flags & CLEAT_DEVICE_INFO_TWIN);
	ATF_REQUIRE(!(info.flags & CLEAT_DEVICE_INFO_WRITE_MULTI));
	ATF_REQUIRE_EQ(0, cleat_region_info(rig.dev, VFU_BULK, &region));
	ATF_REQUIRE_EQ(VFU_BULK_LENGTH, region.length);
	ATF_REQUIRE_EQ(0, cleat_region_info(rig.dev, 3, &region));
	ATF_REQUIRE_EQ(0, region.length);
	ATF_REQUIRE_EQ(0, cleat_device_irq_info(rig.dev,
						VFIO_PCI_MSIX_IRQ_INDEX, &irq));
	ATF_REQUIRE_EQ(VFU_VECTORS, irq.count);
	ATF_REQUIRE_EQ(0, cleat_device_irq_info(rig.dev,
						VFIO_PCI_INTX_IRQ_INDEX, &irq));
	ATF_REQUIRE_EQ(1, irq.count);
	/* Even INTx: whoever takes AUTOMASKED for granted is wrong. */
	ATF_REQUIRE_EQ(VFIO_IRQ_INFO_EVENTFD, irq.flags);
	end(&rig);
}

CLEAT_TC(config__read_and_write)
{
	uint32_t id, bar = 0xffffffff;
	uint8_t config[256];
	uint16_t command;
	struct rig rig;

	start(&rig, 0);
	ATF_REQUIRE_EQ(0,
		       cleat_region_read(rig.dev, VFIO_PCI_CONFIG_REGION_INDEX,
					 0, config, sizeof(config)));
	memcpy(&id, config, sizeof(id));
	ATF_REQUIRE_EQ((uint32_t)VFU_DEVICE << 16 | VFU_VENDOR, id);
	ATF_REQUIRE_EQ(PCI_CAP_ID_MSIX, config[config[PCI_CAPABILITY_LIST]]);
	command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	ATF_REQUIRE_EQ(
		0, cleat_region_write(rig.dev, VFIO_PCI_CONFIG_REGION_INDEX,
				      PCI_COMMAND, &command, sizeof(command)));
	command = 0;
	ATF_REQUIRE_EQ(
		0, cleat_region_read(rig.dev, VFIO_PCI_CONFIG_REGION_INDEX,
				     PCI_COMMAND, &command, sizeof(command)));
	ATF_REQUIRE_EQ(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, command);
	ATF_REQUIRE_EQ(
		0, cleat_region_write(rig.dev, VFIO_PCI_CONFIG_REGION_INDEX,
				      PCI_BASE_ADDRESS_0, &bar, sizeof(bar)));
	ATF_REQUIRE_EQ(
		0, cleat_region_read(rig.dev, VFIO_PCI_CONFIG_REGION_INDEX,
				     PCI_BASE_ADDRESS_0, &bar, sizeof(bar)));
	ATF_REQUIRE_EQ(~(VFU_REGS_LENGTH - 1u),
		       bar & PCI_BASE_ADDRESS_MEM_MASK);
	end(&rig);
}

/* --- Accesses ------------------------------------------------------------- */

CLEAT_TC(access__all_widths)
{
	uint64_t value = 0x1122334455667788, back;
	struct rig rig;

	start(&rig, 0);
	ATF_REQUIRE_EQ(VFU_MAGIC, get(&rig, VFU_AT_MAGIC));
	for (unsigned width = 1; width <= 8; width *= 2) {
		back = 0;
		ATF_REQUIRE_EQ(0, cleat_region_write(rig.dev, VFU_REGS,
						     VFU_AT_SCRATCH, &value,
						     width));
		ATF_REQUIRE_EQ(0,
			       cleat_region_read(rig.dev, VFU_REGS,
						 VFU_AT_SCRATCH, &back, width));
		ATF_REQUIRE(!memcmp(&value, &back, width));
	}
	ATF_REQUIRE_EQ(-ERANGE, cleat_region_read(rig.dev, VFU_REGS,
						  VFU_REGS_LENGTH, &back, 1));
	end(&rig);
}

CLEAT_TC(access__posted_and_batched)
{
	struct cleat_region_store stores[100];
	struct rig rig;

	start(&rig, 0);
	for (uint32_t i = 0; i < 500; i++)
		ATF_REQUIRE_EQ(0, cleat_region_post(rig.dev, VFU_REGS,
						    VFU_AT_SCRATCH, &i, 4));
	ATF_REQUIRE_EQ(499, get(&rig, VFU_AT_SCRATCH));
	for (unsigned i = 0; i < 100; i++)
		stores[i] = (struct cleat_region_store){
			.offset = VFU_AT_SCRATCH + 4 * i,
			.region = VFU_REGS,
			.count = 4,
			.data = { (uint8_t)i, 1 },
		};
	ATF_REQUIRE_EQ(0, cleat_region_write_batch(rig.dev, stores, 100, true));
	for (unsigned i = 0; i < 100; i++)
		ATF_REQUIRE_EQ(256 + i, get(&rig, VFU_AT_SCRATCH + 4 * i));
	end(&rig);
}

/* The library reads what is larger than it gets at once wrongly. */
CLEAT_TC(access__large)
{
	uint8_t *out = malloc(VFU_BULK_LENGTH), *in = malloc(VFU_BULK_LENGTH);
	struct rig rig;

	start(&rig, 0);
	for (unsigned round = 0; round < 8; round++) {
		for (unsigned i = 0; i < VFU_BULK_LENGTH; i++)
			out[i] = (uint8_t)(i * 7 + (i >> 8) + round);
		ATF_REQUIRE_EQ(0, cleat_region_write(rig.dev, VFU_BULK, 0, out,
						     VFU_BULK_LENGTH));
		ATF_REQUIRE_EQ(0, cleat_region_read(rig.dev, VFU_BULK, 0, in,
						    VFU_BULK_LENGTH));
		ATF_REQUIRE(!memcmp(in, out, VFU_BULK_LENGTH));
	}
	end(&rig);
	free(in);
	free(out);
}

struct reader {
	struct cleat_device *dev;
	unsigned at;
};

static int read_and_write(void *arg)
{
	struct reader *reader = arg;
	uint32_t back;
	int err = 0;

	for (uint32_t i = 0; i < 2000 && !err; i++) {
		err = cleat_region_write(reader->dev, VFU_REGS, reader->at, &i,
					 4);
		if (!err)
			err = cleat_region_read(reader->dev, VFU_REGS,
						reader->at, &back, 4);
		if (!err && back != i)
			err = -EBADMSG;
	}
	return err;
}

CLEAT_TC(access__many_threads)
{
	struct reader readers[4];
	struct script scripts[4];
	struct rig rig;

	start(&rig, 0);
	for (unsigned i = 0; i < 4; i++) {
		readers[i] = (struct reader){ rig.dev, VFU_AT_SCRATCH + 8 * i };
		script_start(&scripts[i], read_and_write, &readers[i]);
	}
	for (unsigned i = 0; i < 4; i++)
		script_end(&scripts[i]);
	end(&rig);
}

CLEAT_TC(area__sparse)
{
	struct cleat_region_info info = { .size = sizeof(info) };
	struct cleat_region_area area;
	struct rig rig;
	uint64_t value;

	start(&rig, 0);
	ATF_REQUIRE_EQ(0, cleat_region_info(rig.dev, VFU_PAGES, &info));
	ATF_REQUIRE_EQ(2, info.num_areas);
	for (unsigned i = 0; i < 2; i++) {
		volatile uint64_t *page;

		ATF_REQUIRE_EQ(0,
			       cleat_region_area(rig.dev, VFU_PAGES, i, &area));
		ATF_REQUIRE_EQ(0x1000 + i * 0x2000, area.offset);
		ATF_REQUIRE_EQ(0x1000, area.length);
		page = mmap(NULL, area.length, PROT_READ | PROT_WRITE,
			    MAP_SHARED, area.fd, (off_t)area.fd_offset);
		ATF_REQUIRE(page != MAP_FAILED);
		page[3] = 0x1234567890 + i;
		ATF_REQUIRE_EQ(0,
			       cleat_region_read(rig.dev, VFU_PAGES,
						 area.offset + 24, &value, 8));
		ATF_REQUIRE_EQ(0x1234567890 + i, value);
		value = 77 + i;
		ATF_REQUIRE_EQ(0,
			       cleat_region_write(rig.dev, VFU_PAGES,
						  area.offset + 32, &value, 8));
		ATF_REQUIRE_EQ(77 + i, page[4]);
		munmap((void *)page, area.length);
	}
	end(&rig);
}

/* --- Doorbells ------------------------------------------------------------ */

static const struct cleat_io_fd *entry(const struct cleat_io_fds *all,
				       uint64_t offset)
{
	for (unsigned i = 0; i < all->num; i++)
		if (all->entries[i].offset == offset)
			return &all->entries[i];
	return NULL;
}

static void kick(int fd)
{
	uint64_t one = 1;

	ATF_REQUIRE_EQ(sizeof(one), write(fd, &one, sizeof(one)));
}

CLEAT_TC(io_fds__plain_and_match)
{
	const struct cleat_io_fd *plain, *match;
	struct cleat_io_fds all;
	struct rig rig;

	start(&rig, 0);
	ATF_REQUIRE_EQ(0,
		       cleat_device_io_fds(rig.dev, VFU_DOORBELLS, &all, NULL));
	plain = entry(&all, VFU_AT_PLAIN);
	match = entry(&all, VFU_AT_MATCH);
	ATF_REQUIRE(plain && match);
	ATF_REQUIRE_EQ(4, plain->length);
	ATF_REQUIRE_EQ(CLEAT_IO_FD_IOEVENTFD, plain->type);
	ATF_REQUIRE(!plain->match);
	ATF_REQUIRE(match->match);
	ATF_REQUIRE_EQ(VFU_MATCH, match->datamatch);
	kick(plain->fd);
	REQUIRE_SOON(get(&rig, VFU_AT_KICKS) == 1);
	kick(match->fd);
	REQUIRE_SOON(get(&rig, VFU_AT_MATCHES) == 1);
	ATF_REQUIRE_EQ(0, get(&rig, VFU_AT_MESSAGES));
	cleat_io_fds_free(&all);
	/* A region without any has none. */
	ATF_REQUIRE_EQ(0, cleat_device_io_fds(rig.dev, VFU_BULK, &all, NULL));
	ATF_REQUIRE_EQ(0, all.num);
	cleat_io_fds_free(&all);
	end(&rig);
}

static bool has_shadow(struct rig *rig)
{
	struct cleat_io_fds all;
	bool found;

	ATF_REQUIRE_EQ(
		0, cleat_device_io_fds(rig->dev, VFU_DOORBELLS, &all, NULL));
	found = entry(&all, VFU_AT_SHADOW);
	cleat_io_fds_free(&all);
	return found;
}

/* A store by a vCPU: into the server's page, and a kick; no message. */
CLEAT_TC(io_fds__shadow)
{
	struct cleat_binding_config config = { .size = sizeof(config),
					       .region = VFU_DOORBELLS };
	struct cleat_binding *binding;
	struct cleat_mmio *mmio;
	uint32_t value = 0x600dcafe;
	struct rig rig;

	start(&rig, 0);
	if (!has_shadow(&rig)) {
		end(&rig);
		atf_tc_skip("libvfio-user was built without shadow ioeventfds");
	}
	config.device = rig.dev;
	ATF_REQUIRE_EQ(0, cleat_mmio_create(&mmio));
	ATF_REQUIRE_EQ(0, cleat_mmio_bind(mmio, &config, &binding, NULL));
	ATF_REQUIRE_EQ(0, cleat_binding_place(binding, DOORBELLS_AT));
	ATF_REQUIRE_EQ(0, cleat_mmio_access(mmio, CLEAT_MEMORY,
					    DOORBELLS_AT + VFU_AT_SHADOW,
					    &value, 4, true));
	REQUIRE_SOON(get(&rig, VFU_AT_SHADOWS) == 1);
	ATF_REQUIRE_EQ(value, get(&rig, VFU_AT_SHADOW_VALUE));
	ATF_REQUIRE_EQ(0, get(&rig, VFU_AT_MESSAGES));
	/* Where there is no doorbell it is a message. */
	ATF_REQUIRE_EQ(0, cleat_mmio_access(mmio, CLEAT_MEMORY,
					    DOORBELLS_AT + 0x100, &value, 4,
					    true));
	ATF_REQUIRE_EQ(1, get(&rig, VFU_AT_MESSAGES));
	cleat_mmio_unbind(binding);
	cleat_mmio_unref(mmio);
	end(&rig);
}

/* --- Interrupts ----------------------------------------------------------- */

static void fire_all(struct rig *rig, struct cleat_irqs *irqs, unsigned index,
		     unsigned count)
{
	ATF_REQUIRE_EQ(0, cleat_irqs_enable(irqs, index, count));
	for (unsigned i = 0; i < count; i++) {
		set(rig, VFU_AT_RAISE, i);
		ATF_REQUIRE_EQ(1, wait_eventfd(cleat_irqs_fd(irqs, index, i),
					       PATIENCE_MS));
	}
}

/* Each type, one after another and back: the library has one array for all. */
CLEAT_TC(irq__every_type)
{
	struct cleat_irqs *irqs;
	struct rig rig;

	start(&rig, 0);
	ATF_REQUIRE_EQ(0, cleat_irqs_create(rig.dev, &irqs));
	fire_all(&rig, irqs, VFIO_PCI_INTX_IRQ_INDEX, 1);
	fire_all(&rig, irqs, VFIO_PCI_MSIX_IRQ_INDEX, VFU_VECTORS);
	fire_all(&rig, irqs, VFIO_PCI_INTX_IRQ_INDEX, 1);
	ATF_REQUIRE_EQ(0, cleat_irqs_disable(irqs, VFIO_PCI_INTX_IRQ_INDEX));
	set(&rig, VFU_AT_RAISE, 0);
	fire_all(&rig, irqs, VFIO_PCI_MSIX_IRQ_INDEX, VFU_VECTORS);
	cleat_irqs_destroy(irqs);
	end(&rig);
}

CLEAT_TC(irq__one_by_one)
{
	static const unsigned order[] = { 5, 0, 7, 2 };
	unsigned index = VFIO_PCI_MSIX_IRQ_INDEX;
	struct cleat_irqs *irqs;
	struct rig rig;

	start(&rig, 0);
	ATF_REQUIRE_EQ(0, cleat_irqs_create(rig.dev, &irqs));
	for (unsigned i = 0; i < 4; i++)
		ATF_REQUIRE_EQ(0, cleat_irqs_arm(irqs, index, order[i], 1));
	for (unsigned i = 0; i < 4; i++) {
		set(&rig, VFU_AT_RAISE, order[i]);
		ATF_REQUIRE_EQ(
			1, wait_eventfd(cleat_irqs_fd(irqs, index, order[i]),
					PATIENCE_MS));
	}
	cleat_irqs_destroy(irqs);
	end(&rig);
}

/* --- DMA ------------------------------------------------------------------ */

static void add_ram(struct rig *rig)
{
	struct cleat_memory_range range = {
		.size = sizeof(range),
		.rights = CLEAT_READ | CLEAT_WRITE,
		.guest = RAM_AT,
		.length = RAM,
	};
	void *host;

	rig->ram_fd = cleat_memory_alloc(RAM * 2, 0, &host, NULL);
	ATF_REQUIRE(rig->ram_fd >= 0);
	munmap((uint8_t *)host + RAM, RAM);
	rig->ram = range.host = host;
	range.fd = rig->ram_fd;
	ATF_REQUIRE_EQ(0, cleat_memory_create(&rig->memory));
	ATF_REQUIRE_EQ(0, cleat_memory_add(rig->memory, &range));
	ATF_REQUIRE_EQ(0, cleat_memory_attach(rig->memory, rig->dev));
}

static int dma(struct rig *rig, uint32_t go, uint64_t address, uint32_t length)
{
	ATF_REQUIRE_EQ(0, cleat_region_write(rig->dev, VFU_REGS,
					     VFU_AT_DMA_ADDRESS, &address, 8));
	set(rig, VFU_AT_DMA_LENGTH, length);
	set(rig, VFU_AT_DMA_GO, go);
	return (int)get(rig, VFU_AT_DMA_RESULT);
}

static void fill_and_sum(struct rig *rig, uint32_t fill, uint32_t sum)
{
	memset(rig->ram, 0, RAM);
	ATF_REQUIRE_EQ(0, dma(rig, fill, RAM_AT + 4000, 60000));
	for (unsigned i = 0; i < RAM; i++)
		ATF_REQUIRE_EQ(i >= 4000 && i < 64000 ? VFU_DMA_PATTERN : 0,
			       rig->ram[i]);
	for (unsigned i = 0; i < 1000; i++)
		rig->ram[i] = 3;
	ATF_REQUIRE_EQ(0, dma(rig, sum, RAM_AT, 2000));
	ATF_REQUIRE_EQ(3000, get(rig, VFU_AT_DMA_SUM));
}

CLEAT_TC(dma__mapped)
{
	struct rig rig;

	start(&rig, 0);
	add_ram(&rig);
	fill_and_sum(&rig, VFU_DMA_FILL_MAPPED, VFU_DMA_SUM_MAPPED);
	end(&rig);
}

/* While a region access of ours waits for its reply. */
CLEAT_TC(dma__by_message)
{
	struct rig rig;

	start(&rig, 0);
	add_ram(&rig);
	fill_and_sum(&rig, VFU_DMA_FILL_MESSAGE, VFU_DMA_SUM_MESSAGE);
	end(&rig);
}

CLEAT_TC(dma__by_message_without_twin)
{
	struct rig rig;

	start(&rig, CLEAT_DEVICE_NO_TWIN);
	add_ram(&rig);
	fill_and_sum(&rig, VFU_DMA_FILL_MESSAGE, VFU_DMA_SUM_MESSAGE);
	end(&rig);
}

/* It gets no descriptor, so that it cannot map. */
CLEAT_TC(dma__secure)
{
	struct rig rig;

	start(&rig, CLEAT_DEVICE_SECURE);
	add_ram(&rig);
	ATF_REQUIRE(dma(&rig, VFU_DMA_FILL_MAPPED, RAM_AT, 4096));
	fill_and_sum(&rig, VFU_DMA_FILL_MESSAGE, VFU_DMA_SUM_MESSAGE);
	end(&rig);
}

/* --- Dirty pages ---------------------------------------------------------- */

/* Sixteen pages, and no other. */
static void write_under_log(struct rig *rig, const char *peer)
{
	start_as(rig, 0, peer);
	add_ram(rig);
	ATF_REQUIRE_EQ(0, cleat_memory_log_start(rig->memory, 0, NULL));
	ATF_REQUIRE_EQ(0, dma(rig, VFU_DMA_FILL_MAPPED, RAM_AT + 4000, 60000));
}

static void expect_dirty(struct rig *rig, uint64_t length)
{
	uint64_t at = 0, got = 0;

	ATF_REQUIRE_EQ(1, cleat_memory_log_take(rig->memory, 0, RAM, &at,
						&got));
	ATF_CHECK_EQ(RAM_AT, at);
	ATF_CHECK_EQ_MSG(length, got, "%#llx", (unsigned long long)got);
	ATF_CHECK_EQ(0, cleat_memory_log_dirty(rig->memory));
	cleat_memory_log_stop(rig->memory);
}

CLEAT_TC(dirty__reported)
{
	struct rig rig;

	write_under_log(&rig, NULL);
	ATF_REQUIRE_EQ(0, cleat_memory_log_fetch(rig.memory,
						 CLEAT_MEMORY_LOG_FINAL));
	expect_dirty(&rig, 16 * 4096);
	end(&rig);
}

CLEAT_TC(dirty__told_with_unmap)
{
	struct rig rig;

	write_under_log(&rig, "libvfio-user");
	ATF_REQUIRE_EQ(0, cleat_memory_remove(rig.memory, RAM_AT, RAM));
	expect_dirty(&rig, 16 * 4096);
	end(&rig);
}

CLEAT_TC(dirty__not_asked_with_unmap)
{
	struct rig rig;

	write_under_log(&rig, NULL);
	ATF_REQUIRE_EQ(0, cleat_memory_remove(rig.memory, RAM_AT, RAM));
	expect_dirty(&rig, RAM);
	end(&rig);
}

CLEAT_TC(dma__after_removal)
{
	struct rig rig;

	start(&rig, 0);
	add_ram(&rig);
	ATF_REQUIRE_EQ(0, dma(&rig, VFU_DMA_FILL_MAPPED, RAM_AT, 4096));
	ATF_REQUIRE(dma(&rig, VFU_DMA_FILL_MAPPED, RAM_AT + RAM, 4096));
	ATF_REQUIRE_EQ(0, cleat_memory_remove(rig.memory, RAM_AT, RAM));
	ATF_REQUIRE(dma(&rig, VFU_DMA_FILL_MAPPED, RAM_AT, 4096));
	ATF_REQUIRE(dma(&rig, VFU_DMA_FILL_MESSAGE, RAM_AT, 4096));
	end(&rig);
}

/* --- Reset, features, loss ------------------------------------------------ */

CLEAT_TC(reset__twice)
{
	struct rig rig;

	start(&rig, 0);
	add_ram(&rig);
	ATF_REQUIRE_EQ(0, cleat_device_reset(rig.dev));
	ATF_REQUIRE_EQ(0, cleat_device_reset(rig.dev));
	ATF_REQUIRE_EQ(2, get(&rig, VFU_AT_RESETS));
	/* Memory stays. */
	ATF_REQUIRE_EQ(0, dma(&rig, VFU_DMA_FILL_MAPPED, RAM_AT, 4096));
	end(&rig);
}

static int probe_feature(struct rig *rig, uint16_t feature, uint32_t flags)
{
	uint8_t data[64] = { 0 };
	size_t size;

	return cleat_device_feature(rig->dev, feature,
				    flags | CLEAT_FEATURE_PROBE, data, 0,
				    sizeof(data), &size);
}

CLEAT_TC(feature__migration)
{
	struct vfio_device_feature_mig_state state = { 0 };
	uint64_t flags = 0;
	size_t size = 0;
	struct rig rig;

	start(&rig, 0);
	ATF_REQUIRE_EQ(0, probe_feature(&rig, VFIO_DEVICE_FEATURE_MIGRATION,
					CLEAT_FEATURE_GET));
	ATF_REQUIRE_EQ(0, cleat_device_feature(rig.dev,
					       VFIO_DEVICE_FEATURE_MIGRATION,
					       CLEAT_FEATURE_GET, &flags, 0,
					       sizeof(flags), &size));
	ATF_REQUIRE_EQ(sizeof(flags), size);
	ATF_REQUIRE(flags & VFIO_MIGRATION_STOP_COPY);
	ATF_REQUIRE_EQ(0, cleat_device_feature(
				  rig.dev, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
				  CLEAT_FEATURE_GET, &state, 0, sizeof(state),
				  &size));
	ATF_REQUIRE_EQ(VFIO_DEVICE_STATE_RUNNING, state.device_state);
	state.device_state = VFIO_DEVICE_STATE_STOP;
	ATF_REQUIRE_EQ(0, cleat_device_feature(
				  rig.dev, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
				  CLEAT_FEATURE_SET, &state, sizeof(state),
				  sizeof(state), &size));
	end(&rig);
}

CLEAT_TC(feature__unknown)
{
	struct rig rig;

	start(&rig, 0);
	ATF_REQUIRE_EQ(-EINVAL, probe_feature(&rig, 99, CLEAT_FEATURE_GET));
	ATF_REQUIRE_EQ(VFU_MAGIC, get(&rig, VFU_AT_MAGIC));
	end(&rig);
}

/* A second client gets no answer while the first one is there. */
CLEAT_TC(open__server_is_taken)
{
	struct cleat_device_config config = { .size = sizeof(config),
					      .path = "device.sock",
					      .control_ms = 500 };
	struct cleat_device *second;
	struct deadline limit;
	struct rig rig;
	int err;

	start(&rig, 0);
	limit = deadline_in(PATIENCE_MS);
	err = cleat_device_open(&config, &second, NULL);
	ATF_REQUIRE_MSG(err == -ETIMEDOUT || err == -ECONNREFUSED, "%d", err);
	ATF_REQUIRE(deadline_spent(&limit) < 3000);
	ATF_REQUIRE_EQ(VFU_MAGIC, get(&rig, VFU_AT_MAGIC));
	end(&rig);
}

CLEAT_TC(lost__server_killed)
{
	struct rig rig;
	uint32_t value;

	start(&rig, 0);
	kill(rig.server.pid, SIGKILL);
	REQUIRE_SOON(cleat_device_failure(rig.dev, NULL));
	ATF_REQUIRE_EQ(-ENOTCONN,
		       cleat_region_read(rig.dev, VFU_REGS, 0, &value, 4));
	cleat_device_unref(rig.dev);
	child_end(&rig.server);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, info__all);
	ATF_TP_ADD_TC(tp, config__read_and_write);
	ATF_TP_ADD_TC(tp, access__all_widths);
	ATF_TP_ADD_TC(tp, access__posted_and_batched);
	ATF_TP_ADD_TC(tp, access__large);
	ATF_TP_ADD_TC(tp, access__many_threads);
	ATF_TP_ADD_TC(tp, area__sparse);
	ATF_TP_ADD_TC(tp, io_fds__plain_and_match);
	ATF_TP_ADD_TC(tp, io_fds__shadow);
	ATF_TP_ADD_TC(tp, irq__every_type);
	ATF_TP_ADD_TC(tp, irq__one_by_one);
	ATF_TP_ADD_TC(tp, dma__mapped);
	ATF_TP_ADD_TC(tp, dma__by_message);
	ATF_TP_ADD_TC(tp, dma__by_message_without_twin);
	ATF_TP_ADD_TC(tp, dma__secure);
	ATF_TP_ADD_TC(tp, dirty__reported);
	ATF_TP_ADD_TC(tp, dirty__told_with_unmap);
	ATF_TP_ADD_TC(tp, dirty__not_asked_with_unmap);
	ATF_TP_ADD_TC(tp, dma__after_removal);
	ATF_TP_ADD_TC(tp, reset__twice);
	ATF_TP_ADD_TC(tp, feature__migration);
	ATF_TP_ADD_TC(tp, feature__unknown);
	ATF_TP_ADD_TC(tp, open__server_is_taken);
	ATF_TP_ADD_TC(tp, lost__server_killed);
	return atf_no_error();
}
