/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The function on a device of our own server library: what one side means by a
 * register the other must mean too.
 */
#include <linux/kvm.h>
#include <linux/pci_regs.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include <cleat/cleat.h>
#include <cleat/server.h>

#include "tests/support/support.h"

#define VECTORS 8
#define REG_RAISE 0
#define REG_LOWER 4
#define REG_RESETS 8

struct machine {
	struct cleat_server *srv;
	struct cleat_server_pci *config;
	pthread_t thread;
	uint32_t resets;

	struct cleat_vm_ops ops;
	struct cleat_device *dev;
	struct cleat_mmio *mmio;
	struct cleat_pci *pci;
	uint8_t msix, express;
	/* One irqfd is enough here. */
	pthread_mutex_t lock;
	int fd;
	int resample;
};

static int read_bar(void *opaque, uint32_t index, uint64_t offset, void *buf,
		    size_t count)
{
	struct machine *m = opaque;

	memset(buf, 0, count);
	if (offset == REG_RESETS && count == 4)
		memcpy(buf, &m->resets, 4);
	return 0;
}

static int write_bar(void *opaque, uint32_t index, uint64_t offset,
		     const void *buf, size_t count)
{
	struct machine *m = opaque;
	uint32_t value = 0;

	memcpy(&value, buf, count < 4 ? count : 4);
	if (offset == REG_RAISE)
		return cleat_server_pci_raise(m->config, value);
	cleat_server_pci_lower(m->config);
	return 0;
}

static int reset(void *opaque)
{
	struct machine *m = opaque;

	m->resets++;
	return 0;
}

static void *serve(void *opaque)
{
	struct machine *m = opaque;

	cleat_server_run(m->srv);
	return NULL;
}

static void make_server(struct machine *m, int fd)
{
	static const struct cleat_server_ops ops = {
		.size = sizeof(ops),
		.region_read = read_bar,
		.region_write = write_bar,
		.reset = reset,
	};
	struct cleat_server_region bar = {
		.size = sizeof(bar),
		.flags = CLEAT_REGION_READ | CLEAT_REGION_WRITE,
		.length = 0x4000,
	};
	struct cleat_server_pci_config config = {
		.size = sizeof(config),
		.vendor = 0x1b36,
		.device = 0x10,
		.interrupt_pin = 1,
		.bars[0].flags = CLEAT_BAR_64,
		.pm = true,
		.pcie = true,
		.msi_vectors = VECTORS,
		.msix_vectors = VECTORS,
		.msix_table = 0x1000,
		.msix_pba = 0x2000,
		.serial = 0x123456789abcdef0,
	};

	ATF_REQUIRE_EQ(0, cleat_server_create(NULL, &ops, m, &m->srv, NULL));
	ATF_REQUIRE_EQ(0, cleat_server_add_region(m->srv, &bar, NULL));
	ATF_REQUIRE_EQ(0, cleat_server_pci_create(m->srv, &config, NULL, m,
						  &m->config, NULL));
	ATF_REQUIRE_EQ(0, cleat_server_adopt(m->srv, fd, NULL));
	ATF_REQUIRE_EQ(0, pthread_create(&m->thread, NULL, serve, m));
}

static int gsi_alloc(void *opaque, uint32_t *ret_gsi)
{
	*ret_gsi = 30;
	return 0;
}

static void gsi_free(void *opaque, uint32_t gsi)
{
}

static int msi_route(void *opaque, uint32_t gsi, const struct cleat_msi *msi)
{
	return 0;
}

static void routes_begin(void *opaque)
{
}

static int routes_commit(void *opaque)
{
	return 0;
}

static void set_irqfd(struct machine *m, int fd, int resample)
{
	pthread_mutex_lock(&m->lock);
	m->fd = fd;
	m->resample = resample;
	pthread_mutex_unlock(&m->lock);
}

static int irqfd_add(void *opaque, uint32_t gsi, int fd, int resample)
{
	set_irqfd(opaque, fd, resample);
	return 0;
}

static int irqfd_remove(void *opaque, uint32_t gsi, int fd)
{
	set_irqfd(opaque, -1, -1);
	return 0;
}

static int intx_gsi(void *opaque, uint32_t requester, unsigned pin,
		    uint32_t *ret_gsi)
{
	*ret_gsi = 16;
	return 0;
}

static const struct cleat_vm_ops vm_ops = {
	.size = sizeof(vm_ops),
	.gsi_alloc = gsi_alloc,
	.gsi_free = gsi_free,
	.msi_route = msi_route,
	.routes_begin = routes_begin,
	.routes_commit = routes_commit,
	.irqfd_add = irqfd_add,
	.irqfd_remove = irqfd_remove,
	.intx_gsi = intx_gsi,
};

static uint8_t find_cap(struct machine *m, uint8_t id)
{
	uint32_t at = cleat_pci_config_read(m->pci, PCI_CAPABILITY_LIST, 1);

	while (at && cleat_pci_config_read(m->pci, at, 1) != id)
		at = cleat_pci_config_read(m->pci, at + 1, 1);
	ATF_REQUIRE(at);
	return (uint8_t)at;
}

static struct machine *machine_with(const struct cleat_vm_ops *ops)
{
	struct machine *m = calloc(1, sizeof(*m));
	struct cleat_device_config device = { .size = sizeof(device) };
	struct cleat_pci_config config = { .size = sizeof(config),
					   .ops = ops ? ops : &m->ops };
	int ends[2];

	pthread_mutex_init(&m->lock, NULL);
	m->fd = m->resample = -1;
	m->ops = vm_ops;
	m->ops.opaque = m;
	peer_pair(ends);
	make_server(m, ends[1]);
	device.fd = ends[0];
	ATF_REQUIRE_EQ(0, cleat_device_open(&device, &m->dev, NULL));
	close(ends[0]);
	ATF_REQUIRE_EQ(0, cleat_mmio_create(&m->mmio));
	config.device = m->dev;
	config.mmio = m->mmio;
	ATF_REQUIRE_EQ(0, cleat_pci_create(&config, &m->pci, NULL));
	m->msix = find_cap(m, PCI_CAP_ID_MSIX);
	m->express = find_cap(m, PCI_CAP_ID_EXP);
	return m;
}

static struct machine *machine_new(void)
{
	return machine_with(NULL);
}

static void machine_end(struct machine *m)
{
	cleat_pci_unref(m->pci);
	cleat_device_unref(m->dev);
	cleat_mmio_unref(m->mmio);
	pthread_join(m->thread, NULL);
	cleat_server_destroy(m->srv);
	free(m);
}

static void write16(struct machine *m, unsigned offset, uint16_t value)
{
	cleat_pci_config_write(m->pci, offset, value, 2);
}

static void store(struct machine *m, uint64_t offset, uint32_t value)
{
	ATF_REQUIRE_EQ(0,
		       cleat_mmio_access(m->mmio, CLEAT_MEMORY,
					 0xe0000000 + offset, &value, 4, true));
}

static uint32_t load(struct machine *m, uint64_t offset)
{
	uint32_t value = 0;

	cleat_mmio_access(m->mmio, CLEAT_MEMORY, 0xe0000000 + offset, &value, 4,
			  false);
	return value;
}

static void enable(struct machine *m, uint16_t command)
{
	cleat_pci_config_write(m->pci, PCI_BASE_ADDRESS_0, 0xe0000000, 4);
	write16(m, PCI_COMMAND, command);
}

/* What KVM would take; its resample eventfd is written if @end. */
static bool raised(struct machine *m, bool end)
{
	uint64_t one = 1;
	bool got;

	pthread_mutex_lock(&m->lock);
	got = m->fd >= 0 && wait_eventfd(m->fd, 0) > 0;
	if (got && end)
		ATF_CHECK_EQ(8, write(m->resample, &one, 8));
	pthread_mutex_unlock(&m->lock);
	return got;
}

CLEAT_TC(msix__end_to_end)
{
	struct machine *m = machine_new();

	enable(m, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	write16(m, m->msix + 2, PCI_MSIX_FLAGS_ENABLE);
	ATF_CHECK_EQ(PCI_MSIX_FLAGS_ENABLE | (VECTORS - 1),
		     cleat_pci_config_read(m->pci, m->msix + 2, 2));
	store(m, 0x1000 + 5 * 16, 0xfee00000);
	store(m, 0x1000 + 5 * 16 + 8, 0x41);
	store(m, 0x1000 + 5 * 16 + 12, 0);
	store(m, REG_RAISE, 5);
	ATF_CHECK(raised(m, false));
	store(m, 0x1000 + 5 * 16 + 12, 1);
	store(m, REG_RAISE, 5);
	ATF_CHECK_EQ(1 << 5, load(m, 0x2000));
	machine_end(m);
}

CLEAT_TC(intx__level)
{
	struct machine *m = machine_new();

	enable(m, PCI_COMMAND_MEMORY);
	store(m, REG_RAISE, 0);
	ATF_CHECK(raised(m, true));
	/* Still up: it fires again after each end, until it is let go. */
	REQUIRE_SOON(raised(m, true));
	REQUIRE_SOON(raised(m, false));
	store(m, REG_LOWER, 0);
	ATF_CHECK(!raised(m, false));
	machine_end(m);
}

CLEAT_TC(types__one_after_the_other)
{
	struct machine *m = machine_new();
	struct cleat_pci_stats stats = { .size = sizeof(stats) };
	uint8_t msi = find_cap(m, PCI_CAP_ID_MSI);

	enable(m, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	for (unsigned i = 0; i < 10; i++) {
		cleat_pci_stats(m->pci, &stats);
		ATF_CHECK_EQ(1, stats.type);
		write16(m, msi + 2, PCI_MSI_FLAGS_ENABLE);
		store(m, REG_RAISE, 0);
		ATF_CHECK(raised(m, false));
		write16(m, msi + 2, 0);
		write16(m, m->msix + 2, PCI_MSIX_FLAGS_ENABLE);
		store(m, 0x1000 + 12, 0);
		store(m, REG_RAISE, 0);
		ATF_CHECK(raised(m, false));
		write16(m, m->msix + 2, 0);
		store(m, REG_RAISE, 0);
		ATF_CHECK(raised(m, false));
		store(m, REG_LOWER, 0);
	}
	machine_end(m);
}

static bool is_back(struct machine *m)
{
	return cleat_pci_config_read(m->pci, PCI_VENDOR_ID, 2) == 0x1b36;
}

CLEAT_TC(flr__reaches_the_device)
{
	struct machine *m = machine_new();

	enable(m, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	write16(m, m->msix + 2, PCI_MSIX_FLAGS_ENABLE);
	write16(m, m->express + PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_BCR_FLR);
	REQUIRE_SOON(is_back(m));
	ATF_CHECK_EQ(0, cleat_pci_config_read(m->pci, PCI_COMMAND, 2));
	ATF_CHECK_EQ(VECTORS - 1,
		     cleat_pci_config_read(m->pci, m->msix + 2, 2));
	enable(m, PCI_COMMAND_MEMORY);
	ATF_CHECK_EQ(1, load(m, REG_RESETS));
	machine_end(m);
}

CLEAT_TC(extended__serial)
{
	struct machine *m = machine_new();
	uint32_t at = 0x100, head = cleat_pci_config_read(m->pci, at, 4);

	while ((head & 0xffff) != PCI_EXT_CAP_ID_DSN && head >> 20) {
		at = head >> 20;
		head = cleat_pci_config_read(m->pci, at, 4);
	}
	ATF_CHECK_EQ(0x9abcdef0, cleat_pci_config_read(m->pci, at + 4, 4));
	ATF_CHECK_EQ(0x12345678, cleat_pci_config_read(m->pci, at + 8, 4));
	machine_end(m);
}

/* Routes of pins 0 to 23 of the I/O APIC, as a VMM has them. */
static struct kvm_irq_routing *base_routes(void)
{
	struct kvm_irq_routing *routes =
		calloc(1, sizeof(*routes) + 24 * sizeof(routes->entries[0]));

	ATF_REQUIRE(routes);
	for (unsigned i = 0; i < 24; i++)
		routes->entries[routes->nr++] = (struct kvm_irq_routing_entry){
			.gsi = i,
			.type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = { KVM_IRQCHIP_IOAPIC, i },
		};
	return routes;
}

static struct cleat_kvm *kvm_ops(int vm)
{
	struct kvm_irq_routing *routes = base_routes();
	struct cleat_kvm_config config = {
		.size = sizeof(config),
		.first_slot = 1,
		.slots = 8,
		.first_gsi = 24,
		.gsis = 64,
		.base_routes = routes,
		.intx_gsi = intx_gsi,
	};
	struct cleat_kvm *kvm;

	ATF_REQUIRE_EQ(0, cleat_kvm_create(vm, &config, &kvm, NULL));
	free(routes);
	return kvm;
}

static struct cleat_pci_stats stats_of(struct machine *m)
{
	struct cleat_pci_stats stats = { .size = sizeof(stats) };

	ATF_REQUIRE_EQ(0, cleat_pci_stats(m->pci, &stats));
	return stats;
}

/* KVM takes what is fired, unless it is masked. */
static void use_real_kvm(struct machine *m)
{
	enable(m, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	ATF_CHECK_EQ(1, stats_of(m).type);
	ATF_CHECK_EQ(1, stats_of(m).irqfds);
	write16(m, m->msix + 2, PCI_MSIX_FLAGS_ENABLE);
	store(m, 0x1000, 0xfee00000);
	store(m, 0x1000 + 8, 0x41);
	store(m, 0x1000 + 12, 0);
	ATF_CHECK_EQ(1, stats_of(m).irqfds);
	store(m, 0x1000 + 12, 1);
	store(m, REG_RAISE, 0);
	ATF_CHECK_EQ(1, load(m, 0x2000));
	store(m, 0x1000 + 12, 0);
	store(m, 0x1000 + 12, 1);
	ATF_CHECK_EQ(0, load(m, 0x2000));
	ATF_CHECK_EQ(0, stats_of(m).injected);
}

CLEAT_TC(kvm__takes_interrupts)
{
	int kvm_fd = kvm_open(tc), vm = ioctl(kvm_fd, KVM_CREATE_VM, 0);
	struct cleat_kvm *kvm;
	struct machine *m;

	ATF_REQUIRE(vm >= 0);
	ATF_REQUIRE_EQ(0, ioctl(vm, KVM_CREATE_IRQCHIP, 0));
	kvm = kvm_ops(vm);
	m = machine_with(cleat_kvm_ops(kvm));
	use_real_kvm(m);
	machine_end(m);
	cleat_kvm_destroy(kvm);
	close(vm);
	close(kvm_fd);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, msix__end_to_end);
	ATF_TP_ADD_TC(tp, intx__level);
	ATF_TP_ADD_TC(tp, types__one_after_the_other);
	ATF_TP_ADD_TC(tp, flr__reaches_the_device);
	ATF_TP_ADD_TC(tp, extended__serial);
	ATF_TP_ADD_TC(tp, kvm__takes_interrupts);
	return atf_no_error();
}
