/* SPDX-License-Identifier: BSD-2-Clause */
#include <sys/eventfd.h>

#include "tests/pci/rig.h"
#include "wire/wire.h"

#define ON (PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER)
#define OFF (ON | PCI_COMMAND_INTX_DISABLE)

static struct rig *with_intx(struct rig *rig)
{
	rig_start(rig);
	rig_write(rig, PCI_COMMAND, ON, 2);
	return rig;
}

CLEAT_TC(intx__through_kvm_alone)
{
	struct rig *rig = with_intx(rig_new());

	rig_expect(rig,
		   "config 4 6; arm 0 0+1; unmask-fd 0; irqfd+ 16 resample");
	ATF_CHECK_EQ(1, rig_stats(rig).type);
	ATF_CHECK_EQ(1, rig_stats(rig).irqfds);
	rig_fire(rig, 0, 0);
	rig_pump(rig);
	rig_expect(rig, "raise 16");
	rig_end_intx(rig);
	/* The server has it, and nobody in between. */
	ATF_CHECK_EQ(1, wait_eventfd(rig->server.unmask_fd, PATIENCE_MS));
	rig_expect(rig, "");
	rig_end(rig);
}

CLEAT_TC(intx__end_relayed)
{
	struct rig *rig = rig_new();

	rig->server.irq_flags[0] = VFIO_IRQ_INFO_EVENTFD;
	with_intx(rig);
	rig_expect(rig, "config 4 6; arm 0 0+1; irqfd+ 16 resample");
	rig_end_intx(rig);
	REQUIRE_SOON(rig_has_said(rig, "unmask 0"));
	rig_end_intx(rig);
	REQUIRE_SOON(rig_count(rig, "unmask 0") == 2);
	rig_end(rig);
}

CLEAT_TC(intx__server_wants_no_end)
{
	struct cleat_device_stats stats = { .size = sizeof(stats) };
	struct rig *rig = rig_new();
	uint64_t before;

	rig->server.irq_flags[0] = VFIO_IRQ_INFO_EVENTFD;
	with_intx(rig);
	atomic_store(&rig->server.refused, 1u << VFIO_USER_DEVICE_SET_IRQS);
	cleat_device_stats(rig->dev, &stats);
	before = stats.replies;
	rig_end_intx(rig);
	REQUIRE_SOON(!cleat_device_stats(rig->dev, &stats) &&
		     stats.replies == before + 1);
	atomic_store(&rig->server.refused, 0);
	/* One refusal is enough. What this leaves to the worker comes before
	 * the reset, which is waited for. */
	cleat_pci_intx_rerouted(rig->pci);
	ATF_CHECK_EQ(0, cleat_pci_reset(rig->pci));
	ATF_CHECK(rig_has_said(rig, "reset"));
	ATF_CHECK_EQ(0, rig_count(rig, "unmask"));
	rig_end(rig);
}

CLEAT_TC(intx__command_bit)
{
	struct rig *rig = with_intx(rig_new());

	rig_forget(rig);
	rig_write(rig, PCI_COMMAND, OFF, 2);
	rig_expect(rig, "irqfd- 16; config 4 406");
	/* It may be in service: the server must not stay masked. */
	ATF_CHECK_EQ(1, wait_eventfd(rig->server.unmask_fd, PATIENCE_MS));
	rig_fire(rig, 0, 0);
	rig_write(rig, PCI_COMMAND, ON, 2);
	rig_pump(rig);
	rig_expect(rig, "config 4 6; irqfd+ 16 resample; raise 16");
	rig_end(rig);
}

CLEAT_TC(intx__never_on)
{
	struct rig *rig = rig_new();

	rig_start(rig);
	rig_write(rig, PCI_COMMAND, OFF, 2);
	rig_expect(rig, "config 4 406");
	rig_end(rig);
}

static void wait_and_expect(struct rig *rig, const char *word, const char *all)
{
	REQUIRE_SOON(rig_has_said(rig, word));
	rig_expect(rig, all);
}

CLEAT_TC(intx__line_by_vmm)
{
	struct rig *rig = rig_new();

	rig->resample_error = -EOPNOTSUPP;
	with_intx(rig);
	ATF_CHECK_EQ(0, rig_stats(rig).irqfds);
	ATF_CHECK_EQ(1, rig_stats(rig).vectors);
	rig_forget(rig);
	/* Not ours: another function on the line. */
	cleat_pci_intx_eoi(rig->pci);
	rig_expect(rig, "");
	rig_fire(rig, 0, 0);
	wait_and_expect(rig, "line", "line 16 1");
	ATF_CHECK_EQ(1, rig_stats(rig).injected);
	cleat_pci_intx_eoi(rig->pci);
	rig_expect(rig, "line 16 0");
	ATF_CHECK_EQ(1, wait_eventfd(rig->server.unmask_fd, PATIENCE_MS));
	rig_fire(rig, 0, 0);
	wait_and_expect(rig, "line", "line 16 1");
	/* A line that nobody would take down again. */
	rig_write(rig, PCI_COMMAND, OFF, 2);
	rig_expect(rig, "line 16 0; config 4 406");
	rig_end(rig);
}

/* Wrapped: as if the server had filled the eventfd since it was polled. */
static _Thread_local bool is_full;
static atomic_bool is_stuck;
static int drained = -1;

void __real_cleat_kick_fd(int fd);
void __wrap_cleat_kick_fd(int fd);

void __wrap_cleat_kick_fd(int fd)
{
	if (is_full) {
		atomic_store(&is_stuck, true);
		wait_fd(drained, POLLIN, 2 * PATIENCE_MS);
	}
	__real_cleat_kick_fd(fd);
}

static void *end_stuck(void *opaque)
{
	is_full = true;
	cleat_pci_intx_eoi(opaque);
	return NULL;
}

CLEAT_TC(intx__end_that_waits)
{
	struct rig *rig = rig_new();
	uint64_t one = 1;
	pthread_t thread;

	drained = eventfd(0, EFD_CLOEXEC);
	rig->resample_error = -EOPNOTSUPP;
	with_intx(rig);
	rig_fire(rig, 0, 0);
	REQUIRE_SOON(rig_has_said(rig, "line 16 1"));
	rig_forget(rig);
	ATF_REQUIRE_EQ(0, pthread_create(&thread, NULL, end_stuck, rig->pci));
	REQUIRE_SOON(atomic_load(&is_stuck));
	/* Events go on. */
	rig_fire(rig, 0, 0);
	wait_and_expect(rig, "line 16 1", "line 16 0; line 16 1");
	ATF_REQUIRE_EQ(8, write(drained, &one, sizeof(one)));
	pthread_join(thread, NULL);
	ATF_CHECK_EQ(1, wait_eventfd(rig->server.unmask_fd, PATIENCE_MS));
	close(drained);
	rig_end(rig);
}

CLEAT_TC(intx__rerouted)
{
	struct rig *rig = with_intx(rig_new());

	rig_forget(rig);
	rig->intx_gsi = 20;
	cleat_pci_intx_rerouted(rig->pci);
	rig_expect(rig, "irqfd- 16; irqfd+ 20 resample");
	rig_end(rig);
}

/* No line is raised: neither the first there is, nor the one before. */
CLEAT_TC(intx__routed_nowhere)
{
	struct rig *rig = rig_new();

	rig->intx_error = -ENOENT;
	with_intx(rig);
	rig_expect(rig, "config 4 6; arm 0 0+1; unmask-fd 0");
	ATF_CHECK_EQ(0, rig_stats(rig).vectors);
	rig->intx_error = 0;
	cleat_pci_intx_rerouted(rig->pci);
	rig_expect(rig, "irqfd+ 16 resample");
	rig->intx_error = -ENOENT;
	cleat_pci_intx_rerouted(rig->pci);
	rig_fire(rig, 0, 0);
	rig_expect(rig, "irqfd- 16");
	ATF_CHECK_EQ(0, rig_stats(rig).vectors);
	rig->intx_error = 0;
	cleat_pci_intx_rerouted(rig->pci);
	rig_pump(rig);
	rig_expect(rig, "irqfd+ 16 resample; raise 16");
	rig_end(rig);
}

CLEAT_TC(intx__pin)
{
	struct rig *rig = rig_new();

	rig->server.config[PCI_INTERRUPT_PIN] = 3;
	with_intx(rig);
	ATF_CHECK(rig_has_said(rig, "irqfd+ 18 resample"));
	rig_end(rig);
}

CLEAT_TC(intx__impossible_pin)
{
	struct rig *rig = rig_new();

	rig->server.config[PCI_INTERRUPT_PIN] = 5;
	with_intx(rig);
	ATF_CHECK_EQ(0, rig_read(rig, PCI_INTERRUPT_PIN, 1));
	rig_expect(rig, "config 4 6");
	rig_end(rig);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, intx__through_kvm_alone);
	ATF_TP_ADD_TC(tp, intx__end_relayed);
	ATF_TP_ADD_TC(tp, intx__server_wants_no_end);
	ATF_TP_ADD_TC(tp, intx__command_bit);
	ATF_TP_ADD_TC(tp, intx__never_on);
	ATF_TP_ADD_TC(tp, intx__line_by_vmm);
	ATF_TP_ADD_TC(tp, intx__end_that_waits);
	ATF_TP_ADD_TC(tp, intx__rerouted);
	ATF_TP_ADD_TC(tp, intx__routed_nowhere);
	ATF_TP_ADD_TC(tp, intx__pin);
	ATF_TP_ADD_TC(tp, intx__impossible_pin);
	return atf_no_error();
}
