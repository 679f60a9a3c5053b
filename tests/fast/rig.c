/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/fast/rig.h"

#define ARGS_MAX 16

void rig_skip_in_lab(void)
{
	if (getenv("CLEAT_LAB"))
		atf_tc_skip("the lab loses guests that run on several CPUs");
}

void rig_open(struct rig *rig, const atf_tc_t *tc, enum guest_irqchip irqchip,
	      unsigned vcpus, const struct cleat_kvm_config *kvm)
{
	struct machine_config config = {
		.guest = { .irqchip = irqchip, .cpus = vcpus },
		.kvm = kvm,
	};
	struct cleat_error why = { .text = "" };
	int fd = kvm_open(tc);

	memset(rig, 0, sizeof(*rig));
	ATF_REQUIRE_EQ_MSG(0,
			   cleat_machine_open(&rig->machine, fd, &config, &why),
			   "%s", why.text);
	close(fd);
	rig->guest = rig->machine.guest;
	ATF_REQUIRE_EQ(0, cleat_guest_window(rig->guest, PLACE, 1u << 20));
}

void rig_plug(struct rig *rig, struct plug *plug, const char *const *options,
	      uint32_t function)
{
	const char *argv[ARGS_MAX] = { program("backends/cleat-probe") };
	struct cleat_error why = { .text = "" };

	for (unsigned n = 1; options && *options && n < ARGS_MAX - 1; n++)
		argv[n] = *options++;
	ATF_REQUIRE_EQ_MSG(
		0, cleat_plug_in(plug, &rig->machine, argv, function, &why),
		"%s", why.text);
}

void rig_start(struct rig *rig, const atf_tc_t *tc,
	       const struct cleat_kvm_config *kvm, const char *const *options)
{
	rig_open(rig, tc, GUEST_IRQCHIP_KERNEL, 1, kvm);
	rig_plug(rig, &rig->plug, options, 1 << 3);
	cleat_plug_place(&rig->plug, PLACE, PORT);
}

void rig_end(struct rig *rig)
{
	cleat_plug_out(&rig->plug);
	cleat_machine_close(&rig->machine);
}

void rig_run(struct rig *rig, struct guest_op *ops, unsigned nr)
{
	int err = cleat_guest_run(rig->guest, 0, ops, nr, &rig->machine.hooks,
				  RUN_MS);

	ATF_REQUIRE_EQ_MSG(0, err, "the guest's run: %s", strerror(-err));
}

uint64_t rig_load(struct rig *rig, uint64_t address)
{
	struct guest_op op = {
		.kind = GUEST_LOAD, .size = 4, .address = address, .count = 1
	};

	rig_run(rig, &op, 1);
	return op.result;
}

void rig_store(struct rig *rig, uint64_t address, uint64_t value)
{
	struct guest_op op = { .kind = GUEST_STORE,
			       .size = 4,
			       .address = address,
			       .value = value,
			       .count = 1 };

	rig_run(rig, &op, 1);
}

void rig_wait(struct rig *rig, unsigned vector, uint64_t count)
{
	struct guest_op op = { .kind = GUEST_WAIT,
			       .address = cleat_guest_counter(vector),
			       .value = count,
			       .count = 1 };

	rig_run(rig, &op, 1);
}

void rig_linger(struct rig *rig)
{
	struct guest_op op = {
		.kind = GUEST_LOAD, .size = 4, .address = STRAY, .count = 10
	};

	rig_run(rig, &op, 1);
}

struct cost rig_cost(struct rig *rig, struct guest_op op)
{
	uint64_t returned = cleat_guest_returned(rig->guest, 0);
	uint64_t messages = cleat_plug_messages(&rig->plug);
	struct guest_stats before, after;
	struct cost cost;

	cleat_guest_stats(rig->guest, 0, &before);
	rig_run(rig, &op, 1);
	cleat_guest_stats(rig->guest, 0, &after);
	cost.returns = cleat_guest_returned(rig->guest, 0) - returned;
	cost.messages = cleat_plug_messages(&rig->plug) - messages;
	/* KVM's own count must not tell another story. */
	if (op.kind <= GUEST_LOAD)
		ATF_CHECK_EQ((int64_t)cost.returns,
			     after.mmio_exits - before.mmio_exits);
	return cost;
}
