/* SPDX-License-Identifier: BSD-2-Clause */
#include <linux/vfio.h>
#include <poll.h>
#include <sys/eventfd.h>

#include "tests/server/rig.h"

#define NONE VFIO_IRQ_SET_DATA_NONE
#define BOOL VFIO_IRQ_SET_DATA_BOOL
#define EVENTFD VFIO_IRQ_SET_DATA_EVENTFD
#define MASK VFIO_IRQ_SET_ACTION_MASK
#define UNMASK VFIO_IRQ_SET_ACTION_UNMASK
#define TRIGGER VFIO_IRQ_SET_ACTION_TRIGGER

/* What raise_irq() does in the server's thread. */
static uint32_t raise_index, raise_vector;

static void raise_irq(struct rig *rig)
{
	rig->action_result = cleat_server_irq_raise(rig->srv, raise_index,
						    raise_vector);
}

static void lower_irq(struct rig *rig)
{
	cleat_server_irq_lower(rig->srv, raise_index, raise_vector);
}

static int64_t act(struct rig *rig, void (*action)(struct rig *rig),
		   uint32_t index, uint32_t vector)
{
	rig->action = action;
	raise_index = index;
	raise_vector = vector;
	ATF_REQUIRE_EQ(0, rig_write32(rig, RIG_ACTION_NOW, 1));
	return rig->action_result;
}

static uint64_t count(int fd)
{
	return wait_eventfd(fd, 0);
}

static void make_eventfds(int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		fds[i] = eventfd(0, EFD_NONBLOCK);
}

static void close_all(int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		close(fds[i]);
}

CLEAT_TC(raise__by_vector)
{
	struct rig rig;
	int fds[8];

	rig_start(&rig);
	make_eventfds(fds, 8);
	ATF_REQUIRE_EQ(-ENOENT, act(&rig, raise_irq, CLEAT_IRQ_MSIX, 3));
	ATF_REQUIRE_EQ(0, rig_set_irqs(&rig, EVENTFD | TRIGGER, CLEAT_IRQ_MSIX,
				       0, 4, fds, 4));
	ATF_REQUIRE_EQ(0, rig_set_irqs(&rig, EVENTFD | TRIGGER, CLEAT_IRQ_MSIX,
				       4, 4, fds + 4, 4));
	for (uint32_t i = 0; i < 8; i++) {
		ATF_REQUIRE_EQ(0, act(&rig, raise_irq, CLEAT_IRQ_MSIX, i));
		for (uint32_t k = 0; k < 8; k++)
			ATF_REQUIRE_EQ(i == k, count(fds[k]));
	}
	ATF_REQUIRE_EQ(-EINVAL, act(&rig, raise_irq, CLEAT_IRQ_MSIX, 8));
	ATF_REQUIRE_EQ(-EINVAL, act(&rig, raise_irq, 77, 0));
	/* One taken away in the middle, the others stay. */
	ATF_REQUIRE_EQ(0, rig_set_irqs(&rig, EVENTFD | TRIGGER, CLEAT_IRQ_MSIX,
				       2, 1, NULL, 0));
	ATF_REQUIRE_EQ(-ENOENT, act(&rig, raise_irq, CLEAT_IRQ_MSIX, 2));
	ATF_REQUIRE_EQ(0, act(&rig, raise_irq, CLEAT_IRQ_MSIX, 3));
	/* And the whole type. */
	ATF_REQUIRE_EQ(0, rig_set_irqs(&rig, NONE | TRIGGER, CLEAT_IRQ_MSIX, 0,
				       0, NULL, 0));
	ATF_REQUIRE_EQ(-ENOENT, act(&rig, raise_irq, CLEAT_IRQ_MSIX, 3));
	ATF_REQUIRE_EQ(0, rig_set_irqs(&rig, NONE | TRIGGER, CLEAT_IRQ_ERR, 0,
				       0, NULL, 0));
	rig_end(&rig);
	close_all(fds, 8);
}

CLEAT_TC(mask__remembers_one)
{
	struct rig rig;
	int fd;

	rig_start(&rig);
	make_eventfds(&fd, 1);
	ATF_REQUIRE_EQ(0, rig_set_irqs(&rig, EVENTFD | TRIGGER, CLEAT_IRQ_MSI,
				       1, 1, &fd, 1));
	ATF_REQUIRE_EQ(0, rig_set_irqs(&rig, NONE | MASK, CLEAT_IRQ_MSI, 1, 1,
				       NULL, 0));
	ATF_REQUIRE_EQ(0, act(&rig, raise_irq, CLEAT_IRQ_MSI, 1));
	ATF_REQUIRE_EQ(0, act(&rig, raise_irq, CLEAT_IRQ_MSI, 1));
	ATF_REQUIRE_EQ(0, count(fd));
	ATF_REQUIRE_EQ(0, rig_set_irqs(&rig, NONE | UNMASK, CLEAT_IRQ_MSI, 1, 1,
				       NULL, 0));
	ATF_REQUIRE_EQ(1, count(fd));
	ATF_REQUIRE_EQ(0, rig_set_irqs(&rig, NONE | UNMASK, CLEAT_IRQ_MSI, 1, 1,
				       NULL, 0));
	ATF_REQUIRE_EQ(0, count(fd));
	rig_end(&rig);
	close(fd);
}

CLEAT_TC(trigger__by_the_client)
{
	struct {
		struct cleat_wire_irq_set set;
		uint8_t bools[3];
	} body = { { 23, BOOL | TRIGGER, CLEAT_IRQ_MSI, 1, 3 }, { 1, 0, 1 } };
	struct rig rig;
	int fds[4];

	rig_start(&rig);
	make_eventfds(fds, 4);
	ATF_REQUIRE_EQ(0, rig_set_irqs(&rig, EVENTFD | TRIGGER, CLEAT_IRQ_MSI,
				       0, 4, fds, 4));
	ATF_REQUIRE_EQ(0, rig_call(&rig, VFIO_USER_DEVICE_SET_IRQS, &body, 23));
	ATF_REQUIRE_EQ(0, count(fds[0]));
	ATF_REQUIRE_EQ(1, count(fds[1]));
	ATF_REQUIRE_EQ(0, count(fds[2]));
	ATF_REQUIRE_EQ(1, count(fds[3]));
	ATF_REQUIRE_EQ(0, rig_set_irqs(&rig, NONE | TRIGGER, CLEAT_IRQ_MSI, 0,
				       2, NULL, 0));
	ATF_REQUIRE_EQ(1, count(fds[0]));
	ATF_REQUIRE_EQ(1, count(fds[1]));
	/* The bools end before they should. */
	ATF_REQUIRE_EQ(-EINVAL, rig_call(&rig, VFIO_USER_DEVICE_SET_IRQS, &body,
					 22));
	rig_end(&rig);
	close_all(fds, 4);
}

CLEAT_TC(intx__level_and_automask)
{
	struct rig rig;
	int fd;

	rig_start(&rig);
	make_eventfds(&fd, 1);
	/* Up before anybody listens: told when somebody does. */
	ATF_REQUIRE_EQ(-ENOENT, act(&rig, raise_irq, CLEAT_IRQ_INTX, 0));
	ATF_REQUIRE_EQ(0, rig_set_irqs(&rig, EVENTFD | TRIGGER, CLEAT_IRQ_INTX,
				       0, 1, &fd, 1));
	ATF_REQUIRE_EQ(1, count(fd));
	ATF_REQUIRE_EQ(0, act(&rig, raise_irq, CLEAT_IRQ_INTX, 0));
	ATF_REQUIRE_EQ(0, count(fd));
	/* Still up when the guest has finished: once more. */
	ATF_REQUIRE_EQ(0, rig_set_irqs(&rig, NONE | UNMASK, CLEAT_IRQ_INTX, 0,
				       1, NULL, 0));
	ATF_REQUIRE_EQ(1, count(fd));
	act(&rig, lower_irq, CLEAT_IRQ_INTX, 0);
	ATF_REQUIRE_EQ(0, rig_set_irqs(&rig, NONE | UNMASK, CLEAT_IRQ_INTX, 0,
				       1, NULL, 0));
	ATF_REQUIRE_EQ(0, count(fd));
	rig_end(&rig);
	close(fd);
}

/* As KVM's resampling does: an eventfd says that the guest has finished. */
CLEAT_TC(intx__unmask_eventfd)
{
	uint64_t one = 1;
	struct rig rig;
	int fds[2];

	rig_start(&rig);
	make_eventfds(fds, 2);
	ATF_REQUIRE_EQ(0, rig_set_irqs(&rig, EVENTFD | TRIGGER, CLEAT_IRQ_INTX,
				       0, 1, fds, 1));
	ATF_REQUIRE_EQ(0, rig_set_irqs(&rig, EVENTFD | UNMASK, CLEAT_IRQ_INTX,
				       0, 1, fds + 1, 1));
	ATF_REQUIRE_EQ(0, act(&rig, raise_irq, CLEAT_IRQ_INTX, 0));
	ATF_REQUIRE_EQ(1, count(fds[0]));
	for (unsigned i = 0; i < 3; i++) {
		ATF_REQUIRE_EQ(8, write(fds[1], &one, 8));
		ATF_REQUIRE_EQ(1, wait_eventfd(fds[0], PATIENCE_MS));
	}
	ATF_REQUIRE_EQ(0, rig_set_irqs(&rig, EVENTFD | UNMASK, CLEAT_IRQ_INTX,
				       0, 1, NULL, 0));
	rig_end(&rig);
	close_all(fds, 2);
}

CLEAT_TC(raise__counter_full)
{
	uint64_t full = UINT64_MAX - 1;
	struct rig rig;
	int fd = eventfd(0, 0);

	rig_start(&rig);
	ATF_REQUIRE_EQ(0, rig_set_irqs(&rig, EVENTFD | TRIGGER, CLEAT_IRQ_MSI,
				       0, 1, &fd, 1));
	ATF_REQUIRE_EQ(8, write(fd, &full, 8));
	/* It would block for ever: the reply shows that it did not. */
	ATF_REQUIRE_EQ(0, act(&rig, raise_irq, CLEAT_IRQ_MSI, 0));
	ATF_REQUIRE_EQ(full, wait_eventfd(fd, 0));
	rig_end(&rig);
	close(fd);
}

CLEAT_TC(set__no_eventfd)
{
	struct rig rig;
	int fds[2], ends[2];

	rig_start(&rig);
	ATF_REQUIRE_EQ(0, pipe(ends));
	fds[0] = eventfd(0, 0);
	fds[1] = ends[1];
	ATF_REQUIRE_EQ(-EINVAL, rig_set_irqs(&rig, EVENTFD | TRIGGER,
					     CLEAT_IRQ_MSI, 0, 2, fds, 2));
	/* Not half of it. */
	ATF_REQUIRE_EQ(-ENOENT, act(&rig, raise_irq, CLEAT_IRQ_MSI, 0));
	close(ends[0]);
	close(ends[1]);
	close(fds[0]);
	rig_end(&rig);
}

CLEAT_TC(set__nonsense)
{
	struct rig rig;
	int fds[8];
	static const struct {
		uint32_t flags, index, start, count, n_fds;
	} bad[] = {
		{ 0, 1, 0, 1, 0 },
		{ NONE, 1, 0, 1, 0 },
		{ TRIGGER, 1, 0, 1, 0 },
		{ NONE | BOOL | TRIGGER, 1, 0, 1, 0 },
		{ NONE | MASK | UNMASK, 1, 0, 1, 0 },
		{ NONE | TRIGGER | 64, 1, 0, 1, 0 },
		{ NONE | TRIGGER, 16, 0, 1, 0 },
		{ NONE | TRIGGER, 5, 0, 0, 0 },
		{ NONE | TRIGGER, UINT32_MAX, 0, 1, 0 },
		{ NONE | TRIGGER, 1, 4, 1, 0 },
		{ NONE | TRIGGER, 1, 5, 0, 0 },
		{ NONE | TRIGGER, 1, 0, 5, 0 },
		{ NONE | TRIGGER, 1, 2, UINT32_MAX, 0 },
		{ NONE | TRIGGER, 1, UINT32_MAX, 2, 0 },
		{ NONE | TRIGGER, 3, 0, 1, 0 },
		{ BOOL | TRIGGER, 1, 0, 1, 0 },
		{ EVENTFD | TRIGGER, 1, 0, 2, 1 },
		{ EVENTFD | TRIGGER, 1, 0, 2, 3 },
		{ EVENTFD | TRIGGER, 1, 0, 0, 1 },
		{ NONE | TRIGGER, 1, 0, 1, 1 },
	};

	rig_start(&rig);
	make_eventfds(fds, 8);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ATF_CHECK_EQ_MSG(-EINVAL,
				 rig_set_irqs(&rig, bad[i].flags, bad[i].index,
					      bad[i].start, bad[i].count, fds,
					      bad[i].n_fds),
				 "row %zu", i);
	ATF_REQUIRE_EQ(-EINVAL, rig_call(&rig, VFIO_USER_DEVICE_SET_IRQS, fds,
					 19));
	ATF_REQUIRE_EQ(0, rig.irqs_changed);
	rig_end(&rig);
	close_all(fds, 8);
}

CLEAT_TC(info__counts_and_flags)
{
	static const struct {
		uint32_t count, flags;
	} expected[5] = {
		{ 1, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE |
			     VFIO_IRQ_INFO_AUTOMASKED },
		{ 4, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE },
		{ 8, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE },
	};
	struct cleat_wire_irq_info info = { .argsz = sizeof(info) };
	struct peer_message reply;
	struct rig rig;

	rig_start(&rig);
	for (uint32_t i = 0; i < 5; i++) {
		info.index = i;
		rig_call_fds(&rig, VFIO_USER_DEVICE_GET_IRQ_INFO, &info,
			     sizeof(info), NULL, 0, &reply);
		memcpy(&info, reply.body, sizeof(info));
		peer_message_end(&reply);
		ATF_CHECK_EQ(i, info.index);
		ATF_CHECK_EQ(expected[i].count, info.count);
		ATF_CHECK_EQ(expected[i].flags, info.flags);
	}
	info.index = 5;
	ATF_CHECK_EQ(-EINVAL, rig_call(&rig, VFIO_USER_DEVICE_GET_IRQ_INFO,
				       &info, sizeof(info)));
	rig_end(&rig);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, raise__by_vector);
	ATF_TP_ADD_TC(tp, mask__remembers_one);
	ATF_TP_ADD_TC(tp, trigger__by_the_client);
	ATF_TP_ADD_TC(tp, intx__level_and_automask);
	ATF_TP_ADD_TC(tp, intx__unmask_eventfd);
	ATF_TP_ADD_TC(tp, raise__counter_full);
	ATF_TP_ADD_TC(tp, set__no_eventfd);
	ATF_TP_ADD_TC(tp, set__nonsense);
	ATF_TP_ADD_TC(tp, info__counts_and_flags);
	return atf_no_error();
}
