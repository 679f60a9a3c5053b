/* SPDX-License-Identifier: BSD-2-Clause */
#include <limits.h>
#include <sys/resource.h>

#include "tests/pci/rig.h"
#include "wire/wire.h"

static struct rig *at_work(struct rig *rig)
{
	rig_start(rig);
	rig_enable(rig);
	rig_enable_msix(rig);
	rig_entry(rig, 0, 0x41, false);
	rig_forget(rig);
	return rig;
}

static bool is_back(struct rig *rig)
{
	return rig_read(rig, PCI_VENDOR_ID, 4) == 0x00101b36;
}

static void is_as_new(struct rig *rig)
{
	ATF_CHECK_EQ(0, rig_read(rig, PCI_COMMAND, 2));
	ATF_CHECK_EQ(4, rig_read(rig, PCI_BASE_ADDRESS_0, 4));
	ATF_CHECK_EQ(7, rig_read(rig, RIG_MSIX + 2, 2));
	ATF_CHECK_EQ(0, rig_stats(rig).type);
	ATF_CHECK_EQ(RIG_NOBODY, rig_load(rig, RIG_BAR0));
	rig_enable(rig);
	ATF_CHECK_EQ(0, rig_load(rig, RIG_TABLE));
	ATF_CHECK_EQ(1, rig_load(rig, RIG_TABLE + 12));
}

CLEAT_TC(flr__answered_at_once)
{
	struct rig *rig = at_work(rig_new());

	rig_hold(rig, VFIO_USER_DEVICE_RESET);
	/* Were it done here, it would wait for ever. */
	rig_write(rig, RIG_EXPRESS + PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_BCR_FLR, 2);
	ATF_CHECK_EQ(~0u, rig_read(rig, PCI_VENDOR_ID, 4));
	rig_write(rig, PCI_COMMAND, 7, 2);
	REQUIRE_SOON(atomic_load(&rig->server.waiting));
	ATF_CHECK_EQ(~0u, rig_read(rig, PCI_VENDOR_ID, 4));
	ATF_CHECK_EQ(RIG_NOBODY, rig_load(rig, RIG_BAR0));
	rig_release(rig);
	REQUIRE_SOON(is_back(rig));
	rig_expect(rig, "irqfd- 100; off 2; free 100; commit; reset; "
			"config 4 0; config 72 7");
	is_as_new(rig);
	rig_end(rig);
}

CLEAT_TC(flr__server_without_reset)
{
	struct rig *rig = rig_new();

	rig->server.no_reset = true;
	at_work(rig);
	rig_write(rig, RIG_EXPRESS + PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_BCR_FLR, 2);
	REQUIRE_SOON(is_back(rig));
	ATF_CHECK(rig_has_said(rig, "config 88 8000"));
	is_as_new(rig);
	rig_end(rig);
}

CLEAT_TC(flr__not_offered)
{
	struct rig *rig = rig_new();

	rig->server.config[RIG_EXPRESS + PCI_EXP_DEVCAP + 3] = 0;
	at_work(rig);
	rig_write(rig, RIG_EXPRESS + PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_BCR_FLR, 2);
	rig_expect(rig, "config 88 0");
	ATF_CHECK(is_back(rig));
	rig_end(rig);
}

CLEAT_TC(flr__advanced_features)
{
	static const uint8_t af[] = { PCI_CAP_ID_AF, 0, 6, 3, 0, 0 };
	struct rig *rig = rig_new();

	rig->server.config[RIG_EXPRESS + 1] = 0xc0;
	memcpy(rig->server.config + 0xc0, af, sizeof(af));
	at_work(rig);
	rig_write(rig, 0xc4, PCI_AF_CTRL_FLR, 1);
	REQUIRE_SOON(is_back(rig));
	ATF_CHECK_EQ(1, rig_count(rig, "reset"));
	is_as_new(rig);
	rig_end(rig);
}

CLEAT_TC(flr__unref_meanwhile)
{
	struct rig *rig = at_work(rig_new());
	struct deadline time;

	rig_hold(rig, VFIO_USER_DEVICE_RESET);
	rig_write(rig, RIG_EXPRESS + PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_BCR_FLR, 2);
	REQUIRE_SOON(atomic_load(&rig->server.waiting));
	time = deadline_in(PATIENCE_MS);
	rig->pci = cleat_pci_unref(rig->pci);
	ATF_CHECK(deadline_spent(&time) < PATIENCE_MS / 2);
	rig_end(rig);
}

CLEAT_TC(flr__device_lost_meanwhile)
{
	struct rig *rig = at_work(rig_new());

	rig_hold(rig, VFIO_USER_DEVICE_RESET);
	rig_write(rig, RIG_EXPRESS + PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_BCR_FLR, 2);
	REQUIRE_SOON(atomic_load(&rig->server.waiting));
	shutdown(rig->server.fd, SHUT_RDWR);
	ATF_CHECK_EQ(-ENOTCONN, cleat_pci_reset(rig->pci));
	ATF_CHECK_EQ(~0u, rig_read(rig, PCI_VENDOR_ID, 4));
	rig_end(rig);
}

/* Wrapped: so many threads more cannot be had. */
static atomic_uint no_threads;

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
			  void *(*start)(void *), void *opaque);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
			  void *(*start)(void *), void *opaque);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
			  void *(*start)(void *), void *opaque)
{
	if (atomic_load(&no_threads)) {
		atomic_fetch_sub(&no_threads, 1);
		return EAGAIN;
	}
	return __real_pthread_create(thread, attr, start, opaque);
}

/* Not at work: its worker has never been there. */
static struct rig *reset_without_thread(unsigned times)
{
	struct rig *rig = rig_new();

	rig_start(rig);
	rig_enable(rig);
	rig_forget(rig);
	atomic_store(&no_threads, times);
	rig_write(rig, RIG_EXPRESS + PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_BCR_FLR, 2);
	ATF_CHECK(atomic_load(&no_threads) < times);
	return rig;
}

CLEAT_TC(flr__no_thread_at_first)
{
	struct rig *rig = reset_without_thread(4);

	/* Nobody looks meanwhile. */
	REQUIRE_SOON(rig_has_said(rig, "reset"));
	REQUIRE_SOON(is_back(rig));
	is_as_new(rig);
	rig_end(rig);
}

CLEAT_TC(flr__no_thread_and_no_timer)
{
	struct rlimit before, none;
	struct rig *rig;
	int next;

	skip_on_valgrind("it has descriptors of its own");
	rig = rig_new();
	rig_start(rig);
	rig_forget(rig);
	ATF_REQUIRE_EQ(0, getrlimit(RLIMIT_NOFILE, &before));
	next = dup(0);
	close(next);
	none = before;
	none.rlim_cur = (rlim_t)next;
	atomic_store(&no_threads, 1);
	ATF_REQUIRE_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	rig_write(rig, RIG_EXPRESS + PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_BCR_FLR, 2);
	ATF_REQUIRE_EQ(0, setrlimit(RLIMIT_NOFILE, &before));
	ATF_CHECK_EQ(0, atomic_load(&no_threads));
	/* The guest looks whether it is done. */
	REQUIRE_SOON(is_back(rig));
	ATF_CHECK_EQ(1, rig_count(rig, "reset"));
	rig_end(rig);
}

CLEAT_TC(flr__no_thread_and_unref)
{
	struct rig *rig = reset_without_thread(UINT_MAX);
	struct deadline time = deadline_in(PATIENCE_MS);

	rig->pci = cleat_pci_unref(rig->pci);
	ATF_CHECK(deadline_spent(&time) < PATIENCE_MS / 2);
	rig_end(rig);
}

CLEAT_TC(reset__no_thread)
{
	struct rig *rig = rig_new();

	rig_start(rig);
	atomic_store(&no_threads, UINT_MAX);
	ATF_CHECK_EQ(0, cleat_pci_reset(rig->pci));
	ATF_CHECK_EQ(1, rig_count(rig, "reset"));
	rig_enable(rig);
	rig_enable_msix(rig);
	rig_entry(rig, 0, 0x41, false);
	ATF_CHECK_EQ(1, rig_stats(rig).irqfds);
	rig_end(rig);
}

CLEAT_TC(reset__by_bus)
{
	struct rig *rig = at_work(rig_new());

	ATF_CHECK_EQ(0, cleat_pci_reset(rig->pci));
	ATF_CHECK_EQ(1, rig_count(rig, "reset"));
	is_as_new(rig);
	rig_end(rig);
}

CLEAT_TC(reset__refused)
{
	struct rig *rig = at_work(rig_new());

	atomic_store(&rig->server.refused, 1u << VFIO_USER_DEVICE_RESET);
	ATF_CHECK_EQ(-EINVAL, cleat_pci_reset(rig->pci));
	ATF_CHECK(is_back(rig));
	rig_end(rig);
}

CLEAT_TC(power__asleep)
{
	struct rig *rig = rig_new();

	rig->server.config[RIG_PM + PCI_PM_CTRL] = PCI_PM_CTRL_NO_SOFT_RESET;
	at_work(rig);
	rig_write(rig, RIG_PM + PCI_PM_CTRL, 3, 2);
	rig_expect(rig, "irqfd- 100; config 44 3");
	ATF_CHECK_EQ(0xb, rig_read(rig, RIG_PM + PCI_PM_CTRL, 2));
	ATF_CHECK_EQ(RIG_NOBODY, rig_load(rig, RIG_BAR0));
	rig_fire(rig, 2, 0);
	rig_write(rig, RIG_PM + PCI_PM_CTRL, 0, 2);
	rig_pump(rig);
	rig_expect(rig, "config 44 0; irqfd+ 100; inject 41");
	ATF_CHECK_EQ(0x10101010, rig_load(rig, RIG_BAR0));
	rig_end(rig);
}

CLEAT_TC(power__soft_reset)
{
	struct rig *rig = at_work(rig_new());

	rig_write(rig, RIG_PM + PCI_PM_CTRL, 3, 2);
	rig_write(rig, RIG_PM + PCI_PM_CTRL, 0, 2);
	REQUIRE_SOON(is_back(rig));
	ATF_CHECK_EQ(1, rig_count(rig, "reset"));
	is_as_new(rig);
	rig_end(rig);
}

CLEAT_TC(power__no_such_state)
{
	struct rig *rig = at_work(rig_new());

	rig_write(rig, RIG_PM + PCI_PM_CTRL, 2, 2);
	rig_expect(rig, "config 44 0");
	ATF_CHECK_EQ(0x10101010, rig_load(rig, RIG_BAR0));
	rig_end(rig);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, flr__answered_at_once);
	ATF_TP_ADD_TC(tp, flr__server_without_reset);
	ATF_TP_ADD_TC(tp, flr__not_offered);
	ATF_TP_ADD_TC(tp, flr__advanced_features);
	ATF_TP_ADD_TC(tp, flr__unref_meanwhile);
	ATF_TP_ADD_TC(tp, flr__device_lost_meanwhile);
	ATF_TP_ADD_TC(tp, flr__no_thread_at_first);
	ATF_TP_ADD_TC(tp, flr__no_thread_and_no_timer);
	ATF_TP_ADD_TC(tp, flr__no_thread_and_unref);
	ATF_TP_ADD_TC(tp, reset__no_thread);
	ATF_TP_ADD_TC(tp, reset__by_bus);
	ATF_TP_ADD_TC(tp, reset__refused);
	ATF_TP_ADD_TC(tp, power__asleep);
	ATF_TP_ADD_TC(tp, power__soft_reset);
	ATF_TP_ADD_TC(tp, power__no_such_state);
	return atf_no_error();
}
