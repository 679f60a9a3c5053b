/* SPDX-License-Identifier: BSD-2-Clause */
/* What the device is made of. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/timerfd.h>

#include "backends/probe/probe.h"
#include "wire/wire.h"

#define CLASS_OTHER 0xff0000 /* no defined class: no driver takes it */
#define PAGE 4096

static int fail(struct cleat_error *reterr, int err, const char *what)
{
	return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err, "%s: %s", what,
			  strerror(-err));
}

static int make_memory(const char *name, size_t length, int *fd, uint8_t **ret)
{
	void *map = NULL;
	int err = cleat_program_memory(name, length, 0, fd, &map);

	*ret = map;
	return err;
}

static int add_region(struct probe *probe, uint32_t index, uint64_t length,
		      uint32_t flags, struct cleat_error *reterr)
{
	struct cleat_server_region region = {
		.size = sizeof(region),
		.index = index,
		.flags = flags,
		.length = length,
	};

	return cleat_server_add_region(probe->srv, &region, reterr);
}

static int add_pages(struct probe *probe, struct cleat_error *reterr)
{
	const struct cleat_server_area areas[] = {
		{ PROBE_AREA_0, PROBE_AREA_0_LENGTH, probe->pages_fd,
		  PROBE_AREA_0 },
		{ PROBE_AREA_1, PROBE_AREA_1_LENGTH, probe->pages_fd,
		  PROBE_AREA_1 },
	};
	struct cleat_server_region region = {
		.size = sizeof(region),
		.index = PROBE_BAR_PAGES,
		.flags = CLEAT_REGION_READ | CLEAT_REGION_WRITE,
		.length = PROBE_PAGES_LENGTH,
		.areas = areas,
		.n_areas = probe->options.features & PROBE_HAS_MAPPED ? 2 : 0,
	};

	return cleat_server_add_region(probe->srv, &region, reterr);
}

static int add_regions(struct probe *probe, struct cleat_error *reterr)
{
	const uint32_t both = CLEAT_REGION_READ | CLEAT_REGION_WRITE;
	uint32_t features = probe->options.features;
	int err;

	err = add_region(probe, PROBE_BAR_REGS, PROBE_REGS_LENGTH, both,
			 reterr);
	if (!err)
		err = add_region(probe, PROBE_BAR_DOORBELLS,
				 PROBE_DOORBELLS_LENGTH, both, reterr);
	if (!err)
		err = add_pages(probe, reterr);
	if (!err && features & PROBE_HAS_IO)
		err = add_region(probe, PROBE_BAR_IO, PROBE_IO_LENGTH, both,
				 reterr);
	if (!err && features & PROBE_HAS_ROM)
		err = add_region(probe, PROBE_ROM, PROBE_ROM_LENGTH,
				 CLEAT_REGION_READ, reterr);
	return err;
}

static int add_config_space(struct probe *probe, struct cleat_error *reterr)
{
	const struct probe_options *options = &probe->options;
	const struct cleat_server_pci_config config = {
		.size = sizeof(config),
		.vendor = PROBE_VENDOR,
		.device = PROBE_DEVICE,
		.subvendor = PROBE_VENDOR,
		.subdevice = PROBE_DEVICE,
		.class_code = CLASS_OTHER,
		.revision = PROBE_VERSION,
		.interrupt_pin = options->features & PROBE_HAS_INTX ? 1 : 0,
		.bars = { [PROBE_BAR_PAGES] = { options->bar_32 ?
						CLEAT_BAR_PREFETCH :
						CLEAT_BAR_PREFETCH |
							CLEAT_BAR_64 },
			  [PROBE_BAR_IO] = { CLEAT_BAR_IO } },
		.pm = true,
		.pcie = true,
		.msi_vectors = (uint16_t)options->msi_vectors,
		.msix_vectors = (uint16_t)options->msix_vectors,
		.msix_bar = PROBE_BAR_REGS,
		.msix_table = PROBE_MSIX_TABLE,
		.msix_pba_bar = PROBE_BAR_REGS,
		.msix_pba = PROBE_MSIX_PBA,
		.serial = UINT64_C(0xc1ea000000000000) | PROBE_DEVICE,
	};

	return cleat_server_pci_create(probe->srv, &config, NULL, NULL,
				       &probe->pci, reterr);
}

static void on_connected(void *opaque)
{
	struct probe *probe = opaque;

	probe->counters.clients++;
}

static int make_server(struct probe *probe, struct cleat_error *reterr)
{
	const struct cleat_server_ops ops = {
		.size = sizeof(ops),
		.region_read = cleat_probe_region_read,
		.region_write = cleat_probe_region_write,
		.reset = cleat_probe_reset,
		.client_connected = on_connected,
		.poll = cleat_probe_poll,
	};
	int err = cleat_server_create(&probe->options.server, &ops, probe,
				      &probe->srv, reterr);

	if (!err)
		err = add_regions(probe, reterr);
	if (!err)
		err = add_config_space(probe, reterr);
	return err ? err : cleat_probe_add_migration(probe, reterr);
}

static int make_descriptors(struct probe *probe)
{
	int err = make_memory("cleat-probe-pages", PROBE_PAGES_LENGTH,
			      &probe->pages_fd, &probe->pages);

	if (!err)
		err = make_memory("cleat-probe-shadow", PAGE,
				  &probe->shadow_fd, &probe->shadow);
	if (err)
		return err;
	probe->work = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	probe->timer = timerfd_create(CLOCK_MONOTONIC,
				      TFD_CLOEXEC | TFD_NONBLOCK);
	return probe->work < 0 || probe->timer < 0 ? -errno : 0;
}

static int watch_own(struct probe *probe)
{
	int err = cleat_server_watch(probe->srv, probe->work, EPOLLIN,
				     cleat_probe_on_work, probe);

	if (!err)
		err = cleat_server_watch(probe->srv, probe->timer, EPOLLIN,
					 cleat_probe_on_timer, probe);
	return err ? err : cleat_probe_add_doorbells(probe);
}

static int build(struct probe *probe, struct cleat_error *reterr)
{
	int err = make_descriptors(probe);

	if (err)
		return fail(reterr, err, "pages and timers");
	err = make_server(probe, reterr);
	if (err)
		return err;
	err = watch_own(probe);
	return err ? fail(reterr, err, "doorbells") : 0;
}

int cleat_probe_create(struct probe *probe, const struct probe_options *options,
		       struct cleat_error *reterr)
{
	int err;

	memset(probe, 0, sizeof(*probe));
	probe->options = *options;
	probe->pages_fd = probe->shadow_fd = probe->shadow_kick = -1;
	probe->work = probe->timer = probe->tick = -1;
	for (unsigned i = 0; i < PROBE_DOORBELLS; i++)
		probe->kicks[i] = -1;
	err = build(probe, reterr);
	if (err) {
		cleat_probe_destroy(probe);
		return err;
	}
	cleat_probe_reset(probe);
	probe->counters.resets = 0;
	return 0;
}

static void unmap(uint8_t *map, size_t length)
{
	if (map)
		munmap(map, length);
}

void cleat_probe_destroy(struct probe *probe)
{
	cleat_server_destroy(probe->srv);
	for (unsigned i = 0; i < PROBE_DOORBELLS; i++)
		cleat_close(&probe->kicks[i]);
	cleat_close(&probe->shadow_kick);
	cleat_close(&probe->work);
	cleat_close(&probe->timer);
	cleat_probe_end_migration(probe);
	unmap(probe->pages, PROBE_PAGES_LENGTH);
	unmap(probe->shadow, PAGE);
	cleat_close(&probe->pages_fd);
	cleat_close(&probe->shadow_fd);
}
