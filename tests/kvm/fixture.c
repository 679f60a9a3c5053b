/* SPDX-License-Identifier: BSD-2-Clause */
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "tests/kvm/fixture.h"

#define ROUTES_ROOM                                                            \
	(sizeof(struct kvm_irq_routing) +                                      \
	 IOAPIC_PINS * sizeof(struct kvm_irq_routing_entry))

const struct kvm_irq_routing *ioapic_routes(void)
{
	static uint64_t room[ROUTES_ROOM / sizeof(uint64_t)];
	struct kvm_irq_routing *table = (void *)room;

	table->nr = IOAPIC_PINS;
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		table->entries[pin] = (struct kvm_irq_routing_entry){
			.gsi = pin,
			.type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = {KVM_IRQCHIP_IOAPIC, pin},
		};
	return table;
}

static void defaults(struct cleat_kvm_config *config,
		     enum guest_irqchip irqchip)
{
	static const struct kvm_irq_routing none;

	config->size = sizeof(*config);
	if (!config->slots) {
		config->first_slot = FIRST_SLOT;
		config->slots = 4;
	}
	if (!config->gsis) {
		config->first_gsi = FIRST_GSI;
		config->gsis = 16;
	}
	if (!config->base_routes && !config->commit_routes)
		config->base_routes = irqchip == GUEST_IRQCHIP_KERNEL
					      ? ioapic_routes()
					      : &none;
}

void machine_start(struct machine *machine, const atf_tc_t *tc,
		   enum guest_irqchip irqchip,
		   const struct cleat_kvm_config *more)
{
	struct guest_config guest = {.irqchip = irqchip, .cpus = 2};
	struct cleat_kvm_config config = {0};
	struct cleat_error why = {0};
	int kvm_fd = kvm_open(tc);

	if (more)
		config = *more;
	defaults(&config, irqchip);
	ATF_REQUIRE_EQ(0, cleat_guest_create(kvm_fd, &guest, &machine->guest));
	close(kvm_fd);
	ATF_REQUIRE_EQ(0, cleat_guest_window(machine->guest, WINDOW, 1u << 20));
	ATF_REQUIRE_EQ_MSG(0,
			   cleat_kvm_create(cleat_guest_vm(machine->guest),
					    &config, &machine->kvm, &why),
			   "%s", why.text);
	machine->ops = cleat_kvm_ops(machine->kvm);
}

static int count_commit(void *opaque, const struct kvm_irq_routing *routes)
{
	struct machine *machine = opaque;

	machine->commits++;
	machine->entries = routes->nr;
	if (ioctl(cleat_guest_vm(machine->guest), KVM_SET_GSI_ROUTING, routes))
		return -errno;
	return 0;
}

void machine_count_commits(struct machine *machine,
			   struct cleat_kvm_config *config)
{
	machine->commits = machine->entries = 0;
	config->commit_routes = count_commit;
	config->opaque = machine;
}

void machine_end(struct machine *machine)
{
	machine->kvm = cleat_kvm_destroy(machine->kvm);
	cleat_guest_destroy(machine->guest);
}

void machine_run(struct machine *machine, struct guest_op *ops, unsigned nr)
{
	int err = cleat_guest_run(machine->guest, 0, ops, nr, NULL, RUN_MS);

	ATF_REQUIRE_EQ_MSG(0, err, "the guest's run: %s", strerror(-err));
}

uint64_t machine_do(struct machine *machine, struct guest_op op)
{
	machine_run(machine, &op, 1);
	return op.result;
}

uint64_t machine_cost(struct machine *machine, struct guest_op op)
{
	struct guest_stats before, after;
	uint64_t returned = cleat_guest_returned(machine->guest, 0);

	cleat_guest_stats(machine->guest, 0, &before);
	machine_run(machine, &op, 1);
	cleat_guest_stats(machine->guest, 0, &after);
	returned = cleat_guest_returned(machine->guest, 0) - returned;
	/* KVM's own count must not tell another story. */
	if (op.kind <= GUEST_LOAD)
		ATF_CHECK_EQ(after.mmio_exits - before.mmio_exits,
			     (int64_t)returned);
	return returned;
}

struct cleat_msi message_to(unsigned vector)
{
	return (struct cleat_msi){
		.address = cleat_guest_msi_address(0),
		.data = cleat_guest_msi_data(vector),
	};
}

uint32_t route_to(struct machine *machine, unsigned vector)
{
	const struct cleat_vm_ops *ops = machine->ops;
	struct cleat_msi message = message_to(vector);
	uint32_t gsi;

	ATF_REQUIRE_EQ(0, ops->gsi_alloc(ops->opaque, &gsi));
	ops->routes_begin(ops->opaque);
	ATF_REQUIRE_EQ(0, ops->msi_route(ops->opaque, gsi, &message));
	ATF_REQUIRE_EQ(0, ops->routes_commit(ops->opaque));
	return gsi;
}

int make_eventfd(void)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	ATF_REQUIRE(fd >= 0);
	return fd;
}

void signal_eventfd(int fd)
{
	uint64_t one = 1;

	ATF_REQUIRE_EQ(sizeof(one), write(fd, &one, sizeof(one)));
}

uint64_t eventfd_count(int fd)
{
	uint64_t count;

	return read(fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}
