/* SPDX-License-Identifier: BSD-2-Clause */
/* The pin of a real device, wherever the interrupt controllers are. */
#include <linux/kvm.h>
#include <linux/pci_regs.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "tests/fast/rig.h"

#define PIN 10
#define PINS 24
#define LEVEL (1u << 15)
#define ASSERT (1u << 14)
#define EOI_REGISTER 0xfee000b0u
#define ROUNDS 20

/**
 * struct pin - the VMM's side of it
 * @line:   what the library has set it to
 * @taken:  the guest has been given it and has not ended it
 * @ends:   how often the guest ended it
 * @hooks:  the machine's, where ours go before them
 */
struct pin {
	struct rig rig;
	_Atomic bool line;
	bool taken;
	_Atomic unsigned ends;
	struct guest_hooks hooks;
};

static int pin_gsi(void *opaque, uint32_t requester, unsigned pin,
		   uint32_t *ret_gsi)
{
	ATF_CHECK_EQ(1 << 3, requester);
	*ret_gsi = PIN + pin;
	return 0;
}

static struct kvm_irq_routing *new_table(void)
{
	return calloc(1, sizeof(struct kvm_irq_routing) +
				 PINS * sizeof(struct kvm_irq_routing_entry));
}

static struct cleat_kvm_config config_of(struct pin *pin,
					 const struct kvm_irq_routing *table)
{
	return (struct cleat_kvm_config){
		.size = sizeof(struct cleat_kvm_config),
		.first_slot = MACHINE_FIRST_SLOT,
		.slots = MACHINE_SLOTS,
		.first_gsi = MACHINE_FIRST_GSI,
		.gsis = table ? 64 : 0,
		.base_routes = table,
		.intx_gsi = pin_gsi,
		.opaque = pin,
	};
}

static void plug(struct pin *pin, const char *const *options)
{
	rig_plug(&pin->rig, &pin->rig.plug, options, 1 << 3);
	cleat_plug_place(&pin->rig.plug, PLACE, PORT);
}

static void set_routes(struct pin *pin, const struct kvm_irq_routing *table)
{
	ATF_REQUIRE_EQ(0, ioctl(cleat_guest_vm(pin->rig.guest),
				KVM_SET_GSI_ROUTING, table));
}

static uint64_t taken(struct pin *pin)
{
	rig_linger(&pin->rig);
	return cleat_guest_interrupts(pin->rig.guest, VECTOR);
}

static void raise_pin(struct pin *pin)
{
	rig_store(&pin->rig, PLACE + PROBE_IRQ_RAISE, PROBE_IRQ_INTX);
}

/* When it is quiet again: how many came. */
static uint64_t lower_pin(struct pin *pin)
{
	uint64_t before, now;

	rig_store(&pin->rig, PLACE + PROBE_IRQ_LOWER, 1);
	now = taken(pin);
	do {
		before = now;
		usleep(2000);
		now = taken(pin);
	} while (now != before);
	return now;
}

/* What a driver does: sees the interrupt, quiets the device. */
static void take_some(struct pin *pin)
{
	uint64_t before = taken(pin);

	for (unsigned i = 0; i < ROUNDS; i++) {
		raise_pin(pin);
		REQUIRE_SOON(taken(pin) > before);
		before = lower_pin(pin);
	}
}

/* Up, it comes again after each end; then it is lowered. */
static void take_held(struct pin *pin)
{
	uint64_t before = taken(pin);

	raise_pin(pin);
	REQUIRE_SOON(taken(pin) >= before + 5);
	before = lower_pin(pin);
	ATF_CHECK_EQ(before, taken(pin));
}

static void set_command(struct pin *pin, uint32_t bits)
{
	cleat_pci_config_write(pin->rig.plug.pci, PCI_COMMAND,
			       PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | bits,
			       2);
}

/* Command bit 10: what is up comes when it is cleared. */
static void take_disabled(struct pin *pin)
{
	uint64_t before = taken(pin);

	set_command(pin, PCI_COMMAND_INTX_DISABLE);
	raise_pin(pin);
	ATF_CHECK_EQ(before, taken(pin));
	set_command(pin, 0);
	REQUIRE_SOON(taken(pin) > before);
	lower_pin(pin);
}

static void take_all(struct pin *pin, bool irqfd)
{
	struct cleat_pci_stats stats = { .size = sizeof(stats) };

	take_some(pin);
	take_held(pin);
	take_disabled(pin);
	ATF_REQUIRE_EQ(0, cleat_pci_stats(pin->rig.plug.pci, &stats));
	ATF_CHECK_EQ(1, stats.type);
	ATF_CHECK_EQ(irqfd, stats.irqfds);
	ATF_CHECK_EQ(irqfd, !stats.injected);
	ATF_CHECK_EQ(!irqfd, atomic_load(&pin->ends) >= ROUNDS);
}

/* --- All in the kernel -----------------------------------------------------
 */

/* The pin in KVM's IOAPIC: level, to a vector of the only vCPU. */
static void program_ioapic(struct pin *pin)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };
	int vm = cleat_guest_vm(pin->rig.guest);

	ATF_REQUIRE_EQ(0, ioctl(vm, KVM_GET_IRQCHIP, &chip));
	chip.chip.ioapic.redirtbl[PIN].bits = VECTOR | LEVEL;
	ATF_REQUIRE_EQ(0, ioctl(vm, KVM_SET_IRQCHIP, &chip));
}

CLEAT_TC(kernel__resampled)
{
	struct kvm_irq_routing *table = new_table();
	struct cleat_kvm_config config;
	struct pin pin = { .line = false };
	uint64_t messages;

	config = config_of(&pin, table);
	table->nr = PINS;
	for (unsigned i = 0; i < PINS; i++)
		table->entries[i] = (struct kvm_irq_routing_entry){
			.gsi = i,
			.type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = { KVM_IRQCHIP_IOAPIC, i },
		};
	rig_open(&pin.rig, tc, GUEST_IRQCHIP_KERNEL, 1, &config);
	set_routes(&pin, table);
	program_ioapic(&pin);
	plug(&pin, NULL);
	take_all(&pin, true);
	/* Ends go from KVM to the server: no message tells of them. */
	messages = cleat_plug_messages(&pin.rig.plug);
	raise_pin(&pin);
	REQUIRE_SOON(taken(&pin) > 100);
	ATF_CHECK_EQ(messages + 1, cleat_plug_messages(&pin.rig.plug));
	lower_pin(&pin);
	rig_end(&pin.rig);
	free(table);
}

/* --- The IOAPIC in user space ----------------------------------------------
 */

static int split_line(void *opaque, uint32_t gsi, bool level)
{
	struct pin *pin = opaque;
	struct kvm_msi msi = {
		.address_lo = (uint32_t)cleat_guest_msi_address(0),
		.data = VECTOR | LEVEL | ASSERT,
	};

	pin->line = level;
	if (level && gsi == PIN &&
	    ioctl(cleat_guest_vm(pin->rig.guest), KVM_SIGNAL_MSI, &msi) < 0)
		return -errno;
	return 0;
}

/* If another of its functions were up, a VMM would raise it again here. */
static void split_eoi(void *opaque, unsigned cpu, unsigned vector)
{
	struct pin *pin = (struct pin *)((char *)opaque -
					 offsetof(struct pin, rig.machine));

	if (vector != VECTOR)
		return;
	pin->ends++;
	cleat_pci_intx_eoi(pin->rig.plug.pci);
}

CLEAT_TC(split__vmm_ends_it)
{
	struct kvm_irq_routing *table = new_table();
	struct cleat_kvm_config config;
	struct pin pin = { .line = false };

	config = config_of(&pin, table);
	config.line_set = split_line;
	/* From its routes KVM knows whose ends we want to hear of. */
	table->nr = 1;
	table->entries[0] = (struct kvm_irq_routing_entry){
		.gsi = PIN,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi.address_lo = (uint32_t)cleat_guest_msi_address(0),
		.u.msi.data = VECTOR | LEVEL | ASSERT,
	};
	rig_open(&pin.rig, tc, GUEST_IRQCHIP_SPLIT, 1, &config);
	set_routes(&pin, table);
	pin.rig.machine.hooks.eoi = split_eoi;
	plug(&pin, NULL);
	take_all(&pin, false);
	ATF_CHECK(!pin.line);
	rig_end(&pin.rig);
	free(table);
}

/* --- All in user space ------------------------------------------------------
 */

static int user_line(void *opaque, uint32_t gsi, bool level)
{
	struct pin *pin = opaque;

	pin->line = level;
	return 0;
}

/* The local APIC's only register that our guest knows, and the pin. */
static int user_access(void *opaque, unsigned cpu,
		       const struct guest_access *access)
{
	struct pin *pin = opaque;

	if (access->write && access->address == EOI_REGISTER) {
		pin->taken = false;
		pin->ends++;
		cleat_pci_intx_eoi(pin->rig.plug.pci);
		return 0;
	}
	/* Not inside the handler: only the program goes there. */
	if (access->address == STRAY && pin->line && !pin->taken) {
		pin->taken = true;
		if (cleat_guest_inject(pin->rig.guest, cpu, VECTOR))
			return -EIO;
	}
	return pin->hooks.access(pin->hooks.opaque, cpu, access);
}

CLEAT_TC(user__vmm_ends_it)
{
	struct cleat_kvm_config config;
	struct pin pin = { .line = false };

	config = config_of(&pin, NULL);
	config.line_set = user_line;
	rig_open(&pin.rig, tc, GUEST_IRQCHIP_NONE, 1, &config);
	pin.hooks = pin.rig.machine.hooks;
	pin.rig.machine.hooks = (struct guest_hooks){
		.access = user_access,
		.opaque = &pin,
	};
	plug(&pin, NULL);
	take_all(&pin, false);
	ATF_CHECK(!pin.line);
	ATF_CHECK_EQ(pin.ends, cleat_guest_interrupts(pin.rig.guest, VECTOR));
	rig_end(&pin.rig);
}

/* No INTx where the VMM has no way to raise a line. */
CLEAT_TC(user__no_line)
{
	struct cleat_kvm_config config;
	struct pin pin = { .line = false };

	config = config_of(&pin, NULL);
	rig_open(&pin.rig, tc, GUEST_IRQCHIP_NONE, 1, &config);
	plug(&pin, NULL);
	ATF_CHECK_EQ(0, cleat_pci_config_read(pin.rig.plug.pci,
					      PCI_INTERRUPT_PIN, 1));
	rig_end(&pin.rig);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, kernel__resampled);
	ATF_TP_ADD_TC(tp, split__vmm_ends_it);
	ATF_TP_ADD_TC(tp, user__vmm_ends_it);
	ATF_TP_ADD_TC(tp, user__no_line);
	return atf_no_error();
}
