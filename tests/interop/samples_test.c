/* SPDX-License-Identifier: BSD-2-Clause */
/* Our client on the sample servers of libvfio-user. */
#include <linux/vfio.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

#include <cleat/memory.h>
#include <cleat/mmio.h>

#include "irq/irq.h"
#include "tests/interop/samples.h"

#define PAGE 4096u

static uint8_t port(struct sample *rig, uint64_t offset)
{
	uint8_t value = 0;

	ATF_REQUIRE_EQ(0, cleat_region_read(rig->dev, 2, offset, &value, 1));
	return value;
}

/* Each pin is counted up by a write, and reads as one at every third. */
CLEAT_TC(gpio__count_pins)
{
	uint8_t all = 0xff;
	struct cleat_irq_info irq;
	uint64_t flags = 0;
	struct sample rig;
	size_t size;

	ATF_REQUIRE(sample_open(&rig, "gpio-pci-idio-16", "sample.sock"));
	for (unsigned i = 0; i < 9; i++) {
		ATF_REQUIRE_EQ(i % 3 ? 0 : 0xff, port(&rig, 1));
		ATF_REQUIRE_EQ(0, cleat_region_write(rig.dev, 2, 0, &all, 1));
	}
	ATF_REQUIRE_EQ(0, cleat_device_irq_info(rig.dev, 0, &irq));
	ATF_REQUIRE_EQ(1, irq.count);
	ATF_REQUIRE_EQ(0, cleat_device_reset(rig.dev));
	ATF_REQUIRE_EQ(0, cleat_device_feature(rig.dev,
					       VFIO_DEVICE_FEATURE_MIGRATION,
					       CLEAT_FEATURE_GET, &flags, 0,
					       sizeof(flags), &size));
	ATF_REQUIRE(flags & VFIO_MIGRATION_STOP_COPY);
	sample_end(&rig);
}

CLEAT_TC(null__nothing_there)
{
	struct cleat_region_info info = { .size = sizeof(info) };
	struct sample rig;

	ATF_REQUIRE(sample_open(&rig, "null", "sample.sock"));
	for (unsigned i = 0; i < 7; i++) {
		ATF_REQUIRE_EQ(0, cleat_region_info(rig.dev, i, &info));
		ATF_REQUIRE_EQ(0, info.length);
	}
	sample_end(&rig);
}

/* It makes the doorbell when a client has attached: it may be there later. */
static void wait_for_doorbell(struct sample *rig, struct cleat_io_fd *ret)
{
	struct deadline limit = deadline_in(PATIENCE_MS);
	struct cleat_io_fds all;
	unsigned num;

	do {
		ATF_REQUIRE(deadline_left(&limit));
		ATF_REQUIRE_EQ(0, cleat_device_io_fds(rig->dev, 0, &all, NULL));
		num = all.num;
		if (num)
			*ret = all.entries[0];
		cleat_io_fds_free(&all);
	} while (!num);
}

/* Its page is not sealed, and could go away under a vCPU: by message. */
CLEAT_TC(shadow__page_not_sealed)
{
	struct cleat_binding_config config = { .size = sizeof(config) };
	struct cleat_segment segment;
	struct cleat_binding *binding;
	struct cleat_mmio *mmio;
	struct cleat_io_fd io;
	struct sample rig;

	ATF_REQUIRE(sample_open(&rig, "shadow_ioeventfd_server", "sample.sock"));
	wait_for_doorbell(&rig, &io);
	ATF_REQUIRE_EQ(CLEAT_IO_FD_SHADOW, io.type);
	ATF_REQUIRE_EQ(0, io.offset);
	ATF_REQUIRE_EQ(4, io.length);
	config.device = rig.dev;
	ATF_REQUIRE_EQ(0, cleat_mmio_create(&mmio));
	ATF_REQUIRE_EQ(0, cleat_mmio_bind(mmio, &config, &binding, NULL));
	ATF_REQUIRE_EQ(0, cleat_binding_segment(binding, 0, &segment));
	ATF_REQUIRE_EQ(CLEAT_WAY_TRAP, segment.write_way);
	ATF_REQUIRE(segment.why);
	printf("%s\n", segment.why);
	cleat_mmio_unbind(binding);
	cleat_mmio_unref(mmio);
	sample_end(&rig);
}

/* --- The sample that does DMA ----------------------------------------------
 */

/* Two pages, the first reached by messages and the second through the fd. */
static struct cleat_memory *add_pages(struct sample *rig, uint8_t **ret_pages)
{
	int fd = memfd(2 * PAGE, 0);
	struct cleat_memory_range range = {
		.size = sizeof(range),
		.rights = CLEAT_READ | CLEAT_WRITE,
		.length = PAGE,
		.fd = fd,
	};
	struct cleat_memory *memory;

	*ret_pages = map_fd(fd, 2 * PAGE, PROT_READ | PROT_WRITE);
	ATF_REQUIRE_EQ(0, cleat_memory_create(&memory));
	ATF_REQUIRE_EQ(0, cleat_memory_attach(memory, rig->dev));
	for (unsigned i = 0; i < 2; i++) {
		range.guest = range.offset = i * PAGE;
		range.host = *ret_pages + i * PAGE;
		ATF_REQUIRE_EQ(0, cleat_memory_add(memory, &range));
	}
	close(fd);
	return memory;
}

static bool is_written(const uint8_t *page)
{
	for (unsigned i = 0; i < PAGE; i++)
		if (page[i] != 'A' + i / 1024)
			return false;
	return true;
}

/* A timer is set; when it goes off the server interrupts, and writes to both
 * pages. */
CLEAT_TC(server__timer_and_dma)
{
	struct cleat_region_info info = { .size = sizeof(info) };
	struct cleat_memory *memory;
	struct cleat_irqs *irqs;
	uint8_t *pages;
	struct sample rig;
	time_t when;

	if (!sample_open(&rig, "server", "sample.sock")) {
		sample_end(&rig);
		atf_tc_skip("this libvfio-user refuses its own sample's BAR");
	}
	ATF_REQUIRE_EQ(0, cleat_region_info(rig.dev, 1, &info));
	ATF_REQUIRE_EQ(2, info.num_areas);
	memory = add_pages(&rig, &pages);
	ATF_REQUIRE_EQ(0, cleat_irqs_create(rig.dev, &irqs));
	ATF_REQUIRE_EQ(0, cleat_irqs_enable(irqs, VFIO_PCI_INTX_IRQ_INDEX, 1));
	when = time(NULL) + 1;
	ATF_REQUIRE_EQ(0,
		       cleat_region_write(rig.dev, 0, 0, &when, sizeof(when)));
	ATF_REQUIRE(wait_eventfd(
		cleat_irqs_fd(irqs, VFIO_PCI_INTX_IRQ_INDEX, 0), PATIENCE_MS));
	REQUIRE_SOON(is_written(pages) && is_written(pages + PAGE));
	cleat_irqs_destroy(irqs);
	sample_end(&rig);
	cleat_memory_unref(memory);
	munmap(pages, 2 * PAGE);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, gpio__count_pins);
	ATF_TP_ADD_TC(tp, null__nothing_there);
	ATF_TP_ADD_TC(tp, shadow__page_not_sealed);
	ATF_TP_ADD_TC(tp, server__timer_and_dma);
	return atf_no_error();
}
