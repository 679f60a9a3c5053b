/* SPDX-License-Identifier: BSD-2-Clause */
/* The machine that all rows share. */
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "backends/probe/probe_regs.h"
#include "bench/guest-private.h"
#include "bench/measure.h"

#define TRIES 100

static int complain(const char *what, int err)
{
	if (err)
		fprintf(stderr, "cleat-bench: %s: %s\n", what, strerror(-err));
	return err;
}

/* The bare rows' route is the VMM's, and so beside the library's. */
static const struct kvm_irq_routing *bare_routes(void)
{
	static uint64_t room[(sizeof(struct kvm_irq_routing) +
			      sizeof(struct kvm_irq_routing_entry)) /
			     sizeof(uint64_t)];
	struct kvm_irq_routing *table = (void *)room;

	table->nr = 1;
	table->entries[0] = (struct kvm_irq_routing_entry){
		.gsi = BENCH_BARE_GSI,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi.address_lo = (uint32_t)cleat_guest_msi_address(0),
		.u.msi.data = cleat_guest_msi_data(BENCH_BARE_VECTOR),
	};
	return table;
}

static int open_machine(struct bench *bench, int kvm_fd)
{
	struct cleat_kvm_config kvm = {
		.size = sizeof(kvm),
		.first_slot = MACHINE_FIRST_SLOT,
		.slots = MACHINE_SLOTS,
		.first_gsi = MACHINE_FIRST_GSI,
		.gsis = 64,
		.base_routes = bare_routes(),
	};
	size_t times = (size_t)bench->per_round * sizeof(uint64_t);
	struct machine_config config = {
		.guest = { .irqchip = GUEST_IRQCHIP_KERNEL, .cpus = 1 },
		.kvm = &kvm,
	};
	struct cleat_error why = { .text = "" };
	int err;

	config.guest.ram_size = ((4u << 20) + times + 4095) & ~(size_t)4095;
	err = cleat_machine_open(&bench->machine, kvm_fd, &config, &why);
	if (err) {
		fprintf(stderr, "cleat-bench: the machine: %s\n", why.text);
		return err;
	}
	bench->guest = bench->machine.guest;
	bench->record = cleat_guest_alloc(bench->guest, times);
	bench->ram = cleat_guest_alloc(bench->guest, 4096);
	bench->tsc_khz = cleat_guest_tsc_khz(bench->guest);
	if (!bench->record || !bench->ram)
		return complain("the guest's memory", -ENOMEM);
	if (!bench->tsc_khz)
		return complain("the guest's clock", -EOPNOTSUPP);
	if (ioctl(cleat_guest_vm(bench->guest), KVM_SET_GSI_ROUTING,
		  kvm.base_routes))
		return complain("a route", -errno);
	return complain(
		"the guest's window",
		cleat_guest_window(bench->guest, BENCH_WINDOW, 1u << 20));
}

static int open_probe(struct bench *bench, const char *probe)
{
	const char *const argv[] = { probe, NULL };
	struct cleat_error why = { .text = "" };
	int err = cleat_plug_in(&bench->plug, &bench->machine, argv, 1 << 3,
				&why);

	if (!err)
		err = cleat_device_io_fds(bench->plug.dev, PROBE_BAR_DOORBELLS,
					  &bench->kicks, &why);
	if (err) {
		fprintf(stderr, "cleat-bench: %s: %s: see --probe\n", probe,
			why.text);
		return err;
	}
	cleat_plug_place(&bench->plug, BENCH_PLACE, BENCH_PORT);
	cleat_plug_msix(&bench->plug, true, false);
	cleat_plug_vector(&bench->plug, 0, cleat_guest_msi_address(0),
			  cleat_guest_msi_data(BENCH_VECTOR), false);
	return 0;
}

/* --- The guest's clock --------------------------------------------------- */

/* What KVM says it adds to the processor's. */
static int64_t said_offset(struct bench *bench)
{
	int64_t offset = 0;
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)&offset,
	};

	ioctl(bench->guest->cpus[0].fd, KVM_GET_DEVICE_ATTR, &attr);
	return offset;
}

/*
 * Processors that a guest runs on natively add nothing, whatever KVM says: so
 * the one is taken by which the guest's time is always between two of ours.
 */
static void compare_clocks(struct bench *bench)
{
	int64_t offsets[2] = { 0, said_offset(bench) };
	bool fits[2] = { true, true };
	const uint64_t *time = cleat_guest_ram(bench->guest, bench->record);

	for (unsigned i = 0; i < TRIES; i++) {
		struct guest_op op = { .kind = GUEST_STORE,
				       .size = 4,
				       .address = bench->ram,
				       .count = 1,
				       .record = bench->record,
				       .stamp = true };
		uint64_t before = cleat_bench_clock(), after, guest;

		if (cleat_guest_run(bench->guest, 0, &op, 1, NULL, 1000))
			return;
		after = cleat_bench_clock();
		for (unsigned o = 0; o < 2; o++) {
			guest = *time - (uint64_t)offsets[o];
			fits[o] &= before <= guest && guest <= after;
		}
	}
	bench->has_offset = fits[0] || fits[1];
	bench->tsc_offset = offsets[!fits[0]];
}

int cleat_bench_open(struct bench *bench, int kvm_fd, const char *probe)
{
	int err = complain("a process", cleat_echo_start(&bench->echo));

	if (!err)
		err = open_machine(bench, kvm_fd);
	if (!err)
		err = open_probe(bench, probe);
	if (err)
		cleat_bench_close(bench);
	else
		compare_clocks(bench);
	return err;
}

void cleat_bench_close(struct bench *bench)
{
	for (unsigned i = 0; i < BENCH_TURNS; i++)
		free(bench->turns[i]);
	cleat_io_fds_free(&bench->kicks);
	cleat_plug_out(&bench->plug);
	cleat_machine_close(&bench->machine);
	cleat_echo_stop(&bench->echo);
}
