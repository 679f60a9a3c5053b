/* SPDX-License-Identifier: BSD-2-Clause */
/* Vectors of a real device, delivered by a real KVM. */
#include <dirent.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "tests/fast/rig.h"

#define TABLE (PLACE + PLUG_REGS + PROBE_MSIX_TABLE)
#define PBA (PLACE + PLUG_REGS + PROBE_MSIX_PBA)
#define ENTRY(vector) (TABLE + 16 * (vector))
#define DATA 8
#define CONTROL 12

static void program_vector(struct rig *rig, unsigned vector, unsigned to,
			   bool masked)
{
	cleat_plug_vector(&rig->plug, vector, cleat_guest_msi_address(0),
			  cleat_guest_msi_data(to), masked);
}

/* The interrupt is on its way when this returns. */
static void fire(struct rig *rig, unsigned vector, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		cleat_plug_set(&rig->plug, PROBE_IRQ_RAISE,
			       PROBE_IRQ_MSIX | vector);
}

static uint64_t taken(struct rig *rig, unsigned vector)
{
	rig_linger(rig);
	return cleat_guest_interrupts(rig->guest, vector);
}

static struct cleat_pci_stats stats_of(struct rig *rig)
{
	struct cleat_pci_stats stats = { .size = sizeof(stats) };

	ATF_REQUIRE_EQ(0, cleat_pci_stats(rig->plug.pci, &stats));
	return stats;
}

static void deliver(const atf_tc_t *tc, enum guest_irqchip irqchip)
{
	struct rig rig;

	rig_open(&rig, tc, irqchip, 1, NULL);
	rig_plug(&rig, &rig.plug, NULL, 1 << 3);
	cleat_plug_place(&rig.plug, PLACE, PORT);
	cleat_plug_msix(&rig.plug, true, false);
	for (unsigned v = 0; v < 4; v++)
		program_vector(&rig, v, VECTOR + v, false);
	ATF_CHECK_EQ(4, stats_of(&rig).irqfds);
	for (unsigned n = 1; n <= 20; n++) {
		for (unsigned v = 0; v < 4; v++)
			fire(&rig, v, 1);
		for (unsigned v = 0; v < 4; v++)
			rig_wait(&rig, VECTOR + v, n);
	}
	for (unsigned v = 0; v < 4; v++)
		ATF_CHECK_EQ(20, taken(&rig, VECTOR + v));
	ATF_CHECK_EQ(0, stats_of(&rig).injected);
	rig_end(&rig);
}

CLEAT_TC(deliver__kernel_irqchip)
{
	deliver(tc, GUEST_IRQCHIP_KERNEL);
}

CLEAT_TC(deliver__split_irqchip)
{
	deliver(tc, GUEST_IRQCHIP_SPLIT);
}

/* What came while it was masked is delivered once. */
CLEAT_TC(mask__delivered_once)
{
	struct rig rig;

	rig_start(&rig, tc, NULL, NULL);
	cleat_plug_msix(&rig.plug, true, false);
	program_vector(&rig, 2, VECTOR, false);
	fire(&rig, 2, 1);
	rig_wait(&rig, VECTOR, 1);
	rig_store(&rig, ENTRY(2) + CONTROL, 1);
	ATF_CHECK_EQ(0, rig_load(&rig, PBA));
	fire(&rig, 2, 5);
	ATF_CHECK_EQ(1 << 2, rig_load(&rig, PBA));
	ATF_CHECK_EQ(1, taken(&rig, VECTOR));
	rig_store(&rig, ENTRY(2) + CONTROL, 0);
	rig_wait(&rig, VECTOR, 2);
	ATF_CHECK_EQ(2, taken(&rig, VECTOR));
	ATF_CHECK_EQ(0, rig_load(&rig, PBA));
	fire(&rig, 2, 1);
	rig_wait(&rig, VECTOR, 3);
	ATF_CHECK_EQ(3, taken(&rig, VECTOR));
	rig_end(&rig);
}

/* By the function's mask, for two vectors at once. */
CLEAT_TC(mask__whole_function)
{
	struct rig rig;

	rig_start(&rig, tc, NULL, NULL);
	cleat_plug_msix(&rig.plug, true, false);
	program_vector(&rig, 0, VECTOR, false);
	program_vector(&rig, 1, VECTOR + 1, false);
	cleat_plug_msix(&rig.plug, true, true);
	fire(&rig, 0, 3);
	fire(&rig, 1, 3);
	ATF_CHECK_EQ(0, taken(&rig, VECTOR) + taken(&rig, VECTOR + 1));
	ATF_CHECK_EQ(3, rig_load(&rig, PBA));
	cleat_plug_msix(&rig.plug, true, false);
	rig_wait(&rig, VECTOR, 1);
	rig_wait(&rig, VECTOR + 1, 1);
	ATF_CHECK_EQ(1, taken(&rig, VECTOR));
	ATF_CHECK_EQ(1, taken(&rig, VECTOR + 1));
	rig_end(&rig);
}

/* --- Routes --------------------------------------------------------------- */

struct table {
	struct rig *rig;
	unsigned writes;
	unsigned entries;
};

static int write_table(void *opaque, const struct kvm_irq_routing *routes)
{
	struct table *table = opaque;

	table->writes++;
	table->entries = routes->nr;
	return ioctl(cleat_guest_vm(table->rig->guest), KVM_SET_GSI_ROUTING,
		     routes)
		       ? -errno
		       : 0;
}

/* The library's routes go through a table of ours, which counts. */
static void start_counted(struct rig *rig, struct table *table,
			  const atf_tc_t *tc, const char *const *options)
{
	struct cleat_kvm_config kvm = {
		.size = sizeof(kvm),
		.first_slot = MACHINE_FIRST_SLOT,
		.slots = MACHINE_SLOTS,
		.first_gsi = MACHINE_FIRST_GSI,
		.gsis = 1024,
		.commit_routes = write_table,
		.opaque = table,
	};

	*table = (struct table){ .rig = rig };
	rig_start(rig, tc, &kvm, options);
}

CLEAT_TC(reroute__one_table)
{
	struct table table;
	struct rig rig;

	start_counted(&rig, &table, tc, NULL);
	cleat_plug_msix(&rig.plug, true, false);
	program_vector(&rig, 0, VECTOR, false);
	fire(&rig, 0, 1);
	rig_wait(&rig, VECTOR, 1);
	ATF_CHECK_EQ(1, table.writes);
	rig_store(&rig, ENTRY(0) + DATA, cleat_guest_msi_data(VECTOR + 1));
	ATF_CHECK_EQ(2, table.writes);
	/* The same once more is no change. */
	rig_store(&rig, ENTRY(0) + DATA, cleat_guest_msi_data(VECTOR + 1));
	ATF_CHECK_EQ(2, table.writes);
	fire(&rig, 0, 1);
	rig_wait(&rig, VECTOR + 1, 1);
	ATF_CHECK_EQ(1, taken(&rig, VECTOR));
	/* Masking and unmasking write none. */
	rig_store(&rig, ENTRY(0) + CONTROL, 1);
	rig_store(&rig, ENTRY(0) + CONTROL, 0);
	ATF_CHECK_EQ(2, table.writes);
	fire(&rig, 0, 1);
	rig_wait(&rig, VECTOR + 1, 2);
	rig_end(&rig);
}

/* Programmed behind the function's mask, all go into one table. */
CLEAT_TC(enable__one_table)
{
	struct table table;
	struct rig rig;

	start_counted(&rig, &table, tc, NULL);
	cleat_plug_msix(&rig.plug, true, true);
	for (unsigned v = 0; v < 16; v++)
		program_vector(&rig, v, VECTOR + v, false);
	ATF_CHECK_EQ(0, table.writes);
	cleat_plug_msix(&rig.plug, true, false);
	ATF_CHECK_EQ(1, table.writes);
	ATF_CHECK_EQ(16, table.entries);
	ATF_CHECK_EQ(16, stats_of(&rig).irqfds);
	for (unsigned v = 0; v < 16; v++)
		fire(&rig, v, 1);
	for (unsigned v = 0; v < 16; v++)
		rig_wait(&rig, VECTOR + v, 1);
	cleat_plug_msix(&rig.plug, false, false);
	ATF_CHECK_EQ(0, table.entries);
	rig_end(&rig);
}

/* --- What is not used costs nothing ----------------------------------------
 */

static unsigned fds_of(pid_t pid)
{
	unsigned count = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	ATF_REQUIRE(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

CLEAT_TC(vectors__512_cost_nothing)
{
	const char *const options[] = { "--vectors=512", NULL };
	struct table table;
	unsigned ours, its;
	struct rig rig;
	pid_t server;

	start_counted(&rig, &table, tc, options);
	server = cleat_device_pid(rig.plug.dev);
	ours = count_fds();
	its = fds_of(server);
	cleat_plug_msix(&rig.plug, true, false);
	/* As drivers find them: all masked, nothing in them. */
	for (unsigned v = 0; v < 512; v++)
		rig_store(&rig, ENTRY(v) + CONTROL, 1);
	ATF_CHECK_EQ(ours, count_fds());
	ATF_CHECK_EQ(its, fds_of(server));
	ATF_CHECK_EQ(0, table.writes);
	program_vector(&rig, 3, VECTOR, false);
	program_vector(&rig, 400, VECTOR + 1, false);
	ATF_CHECK_EQ(ours + 2, count_fds());
	ATF_CHECK_EQ(its + 2, fds_of(server));
	ATF_CHECK_EQ(2, table.entries);
	fire(&rig, 3, 1);
	fire(&rig, 400, 1);
	rig_wait(&rig, VECTOR, 1);
	rig_wait(&rig, VECTOR + 1, 1);
	cleat_plug_msix(&rig.plug, false, false);
	ATF_CHECK_EQ(ours, count_fds());
	ATF_CHECK_EQ(its, fds_of(server));
	rig_end(&rig);
}

CLEAT_TC(vectors__512_used)
{
	const char *const options[] = { "--vectors=512", NULL };
	struct table table;
	struct rig rig;
	uint64_t total = 0;

	start_counted(&rig, &table, tc, options);
	cleat_plug_msix(&rig.plug, true, true);
	for (unsigned v = 0; v < 512; v++)
		program_vector(&rig, v, VECTOR + v % 64, false);
	cleat_plug_msix(&rig.plug, true, false);
	ATF_CHECK_EQ(1, table.writes);
	ATF_CHECK_EQ(512, stats_of(&rig).irqfds);
	/* 64 at a time: one and the same vector twice is one. */
	for (unsigned v = 0; v < 512; v++) {
		fire(&rig, v, 1);
		if (v % 64 == 63)
			rig_linger(&rig);
	}
	for (unsigned i = 0; i < 64; i++)
		total += taken(&rig, VECTOR + i);
	ATF_CHECK_EQ(512, total);
	rig_end(&rig);
}

/* No GSI left: the library injects what KVM alone cannot. */
CLEAT_TC(gsis__too_few)
{
	static const struct kvm_irq_routing none;
	struct cleat_kvm_config kvm = {
		.size = sizeof(kvm),
		.first_gsi = MACHINE_FIRST_GSI,
		.gsis = 1,
		.base_routes = &none,
	};
	struct rig rig;

	rig_start(&rig, tc, &kvm, NULL);
	cleat_plug_msix(&rig.plug, true, false);
	program_vector(&rig, 0, VECTOR, false);
	program_vector(&rig, 1, VECTOR + 1, false);
	ATF_CHECK_EQ(1, stats_of(&rig).irqfds);
	ATF_CHECK_EQ(2, stats_of(&rig).vectors);
	for (unsigned n = 1; n <= 20; n++) {
		fire(&rig, 0, 1);
		fire(&rig, 1, 1);
		rig_wait(&rig, VECTOR, n);
		rig_wait(&rig, VECTOR + 1, n);
	}
	ATF_CHECK_EQ(20, stats_of(&rig).injected);
	rig_end(&rig);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, deliver__kernel_irqchip);
	ATF_TP_ADD_TC(tp, deliver__split_irqchip);
	ATF_TP_ADD_TC(tp, mask__delivered_once);
	ATF_TP_ADD_TC(tp, mask__whole_function);
	ATF_TP_ADD_TC(tp, reroute__one_table);
	ATF_TP_ADD_TC(tp, enable__one_table);
	ATF_TP_ADD_TC(tp, vectors__512_cost_nothing);
	ATF_TP_ADD_TC(tp, vectors__512_used);
	ATF_TP_ADD_TC(tp, gsis__too_few);
	return atf_no_error();
}
