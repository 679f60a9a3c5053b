/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/irq/server.h"

static const char takes_8[] = "{\"capabilities\":{\"max_msg_fds\":8}}";

CLEAT_TC(enable__refused)
{
	struct server s = {.json = takes_8, .refuse = 1};
	unsigned fds;

	server_open(&s);
	fds = count_fds();
	ATF_CHECK_EQ(-EPERM, cleat_irqs_enable(s.irqs, MSIX, 20));
	ATF_CHECK_EQ(1, server_sets(&s));
	ATF_CHECK_EQ(-1, cleat_irqs_enabled(s.irqs));
	ATF_CHECK_EQ(-1, cleat_irqs_fd(s.irqs, MSIX, 0));
	ATF_CHECK_EQ(fds, count_fds());
	ATF_CHECK_EQ(0, cleat_irqs_enable(s.irqs, MSIX, 20));
	server_close(&s);
}

/* Half a type is taken back. */
CLEAT_TC(enable__second_piece_refused)
{
	struct server s = {.json = takes_8, .refuse = 2};
	unsigned fds;

	server_open(&s);
	fds = count_fds();
	ATF_CHECK_EQ(-EPERM, cleat_irqs_enable(s.irqs, MSIX, 20));
	ATF_CHECK_EQ(3, server_sets(&s));
	server_check(&s, 2, DISABLE, MSIX, 0, 0);
	ATF_CHECK_EQ(-1, cleat_irqs_enabled(s.irqs));
	ATF_CHECK_EQ(fds, count_fds());
	server_close(&s);
}

CLEAT_TC(arm__refused_later)
{
	struct server s = {.json = takes_8, .refuse = 3};

	server_open(&s);
	ATF_REQUIRE_EQ(0, cleat_irqs_arm(s.irqs, MSIX, 0, 2));
	ATF_CHECK_EQ(-EPERM, cleat_irqs_arm(s.irqs, MSIX, 2, 10));
	ATF_CHECK_EQ(MSIX, cleat_irqs_enabled(s.irqs));
	ATF_CHECK(cleat_irqs_fd(s.irqs, MSIX, 1) >= 0);
	ATF_CHECK(cleat_irqs_fd(s.irqs, MSIX, 9) >= 0);
	ATF_CHECK_EQ(-1, cleat_irqs_fd(s.irqs, MSIX, 10));
	ATF_CHECK(server_fire(&s, 1));
	ATF_CHECK(cleat_irqs_take(s.irqs, MSIX, 1));
	server_close(&s);
}

/* Refused, a type is still the server's: it goes off before another goes on. */
CLEAT_TC(disable__refused)
{
	struct server s = {.json = takes_8, .refuse = 2};

	server_open(&s);
	ATF_REQUIRE_EQ(0, cleat_irqs_enable(s.irqs, MSI, 4));
	ATF_CHECK_EQ(-EPERM, cleat_irqs_disable(s.irqs, MSI));
	ATF_CHECK_EQ(-1, cleat_irqs_fd(s.irqs, MSI, 0));
	ATF_CHECK_EQ(MSI, cleat_irqs_enabled(s.irqs));
	ATF_REQUIRE_EQ(0, cleat_irqs_enable(s.irqs, MSIX, 4));
	server_check(&s, 2, DISABLE, MSI, 0, 0);
	server_check(&s, 3, ARM, MSIX, 0, 4);
	server_close(&s);
}

CLEAT_TC(enable__way_not_made)
{
	struct server s = {.json = takes_8, .refuse = 2};

	server_open(&s);
	ATF_REQUIRE_EQ(0, cleat_irqs_enable(s.irqs, INTX, 1));
	ATF_CHECK_EQ(-EPERM, cleat_irqs_enable(s.irqs, MSIX, 4));
	ATF_CHECK_EQ(2, server_sets(&s));
	ATF_CHECK_EQ(-1, cleat_irqs_fd(s.irqs, MSIX, 0));
	ATF_CHECK_EQ(0, cleat_irqs_enable(s.irqs, MSIX, 4));
	ATF_CHECK_EQ(MSIX, cleat_irqs_enabled(s.irqs));
	server_close(&s);
}

CLEAT_TC(enable__lost)
{
	struct server s = {.json = takes_8, .die = 2};
	struct deadline spent;

	server_open(&s);
	ATF_CHECK_EQ(-ENOTCONN, cleat_irqs_enable(s.irqs, MSIX, 20));
	ATF_CHECK(cleat_device_is_lost(s.dev));
	ATF_CHECK_EQ(-1, cleat_irqs_enabled(s.irqs));
	ATF_CHECK_EQ(-1, cleat_irqs_fd(s.irqs, MSIX, 0));
	spent = deadline_in(PATIENCE_MS);
	ATF_CHECK_EQ(-ENOTCONN, cleat_irqs_enable(s.irqs, MSI, 1));
	ATF_CHECK_EQ(-ENOTCONN, cleat_irqs_unmask(s.irqs, INTX, 0, 1));
	ATF_CHECK_EQ(0, cleat_irqs_disable(s.irqs, MSIX));
	ATF_CHECK(deadline_spent(&spent) < 1000);
	server_close(&s);
}

/* The eventfds of a type that was on when the server went still close. */
CLEAT_TC(disable__lost)
{
	struct server s = {.json = takes_8, .die = 2};

	server_open(&s);
	ATF_REQUIRE_EQ(0, cleat_irqs_enable(s.irqs, MSIX, 4));
	ATF_CHECK_EQ(-ENOTCONN, cleat_irqs_disable(s.irqs, MSIX));
	ATF_CHECK_EQ(-1, cleat_irqs_fd(s.irqs, MSIX, 0));
	ATF_CHECK_EQ(-1, cleat_irqs_enabled(s.irqs));
	server_close(&s);
}

/* Nobody knows where the interrupts of such a device lead. */
CLEAT_TC(enable__never_answered)
{
	struct server s = {.json = takes_8, .mute = 1, .control_ms = 200};

	server_open(&s);
	ATF_CHECK_EQ(-ETIMEDOUT, cleat_irqs_enable(s.irqs, MSIX, 4));
	ATF_CHECK(cleat_device_is_lost(s.dev));
	ATF_CHECK_EQ(-1, cleat_irqs_enabled(s.irqs));
	server_close(&s);
}

/* This can be said again. */
CLEAT_TC(unmask__never_answered)
{
	struct server s = {.json = takes_8, .mute = 2, .control_ms = 200};

	server_open(&s);
	ATF_REQUIRE_EQ(0, cleat_irqs_enable(s.irqs, INTX, 1));
	ATF_CHECK_EQ(-ETIMEDOUT, cleat_irqs_unmask(s.irqs, INTX, 0, 1));
	ATF_CHECK(!cleat_device_is_lost(s.dev));
	ATF_CHECK_EQ(0, cleat_irqs_unmask(s.irqs, INTX, 0, 1));
	server_close(&s);
}

CLEAT_TC(act__as_asked)
{
	const uint32_t none = VFIO_IRQ_SET_DATA_NONE;
	struct server s = {.json = takes_8};

	server_open(&s);
	ATF_REQUIRE_EQ(0, cleat_irqs_enable(s.irqs, MSIX, 4));
	ATF_CHECK_EQ(0, cleat_irqs_mask(s.irqs, MSIX, 1, 2));
	ATF_CHECK_EQ(0, cleat_irqs_unmask(s.irqs, MSIX, 1, 1));
	ATF_CHECK_EQ(0, cleat_irqs_trigger(s.irqs, MSIX, 3, 1));
	server_check(&s, 1, none | VFIO_IRQ_SET_ACTION_MASK, MSIX, 1, 2);
	server_check(&s, 2, none | VFIO_IRQ_SET_ACTION_UNMASK, MSIX, 1, 1);
	server_check(&s, 3, none | VFIO_IRQ_SET_ACTION_TRIGGER, MSIX, 3, 1);
	/* None at all would mean: disable. */
	ATF_CHECK_EQ(-EINVAL, cleat_irqs_trigger(s.irqs, MSIX, 0, 0));
	ATF_CHECK_EQ(-EINVAL, cleat_irqs_mask(s.irqs, REQ, 0, 1));
	ATF_CHECK_EQ(-EINVAL, cleat_irqs_unmask(s.irqs, MSIX, VECTORS, 1));
	ATF_CHECK_EQ(4, server_sets(&s));
	server_close(&s);
}

CLEAT_TC(unmask_fd__automasked)
{
	struct server s = {
		.json = takes_8,
		.flags = {[INTX] = VFIO_IRQ_INFO_AUTOMASKED},
	};
	uint64_t one = 1;
	int fd = -1, again = -1;

	server_open(&s);
	ATF_CHECK_EQ(-EINVAL, cleat_irqs_unmask_fd(s.irqs, INTX, &fd));
	ATF_REQUIRE_EQ(0, cleat_irqs_enable(s.irqs, INTX, 1));
	ATF_REQUIRE_EQ(0, cleat_irqs_unmask_fd(s.irqs, INTX, &fd));
	server_check(&s, 1,
		     VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_UNMASK,
		     INTX, 0, 1);
	ATF_CHECK_EQ(0, cleat_irqs_unmask_fd(s.irqs, INTX, &again));
	ATF_CHECK_EQ(fd, again);
	ATF_CHECK_EQ(2, server_sets(&s));
	ATF_CHECK_EQ(sizeof(one), write(fd, &one, sizeof(one)));
	pthread_mutex_lock(&s.lock);
	ATF_CHECK_EQ(1, wait_eventfd(s.unmask_fd, PATIENCE_MS));
	pthread_mutex_unlock(&s.lock);
	ATF_CHECK_EQ(0, cleat_irqs_disable(s.irqs, INTX));
	ATF_CHECK_EQ(-EINVAL, cleat_irqs_unmask_fd(s.irqs, INTX, &fd));
	server_close(&s);
}

CLEAT_TC(unmask_fd__not_taken)
{
	struct server s = {
		.json = takes_8,
		.flags = {[INTX] = VFIO_IRQ_INFO_AUTOMASKED},
		.refuse = 2,
	};
	int fd = -1;

	server_open(&s);
	ATF_REQUIRE_EQ(0, cleat_irqs_enable(s.irqs, INTX, 1));
	ATF_CHECK_EQ(-EOPNOTSUPP, cleat_irqs_unmask_fd(s.irqs, INTX, &fd));
	ATF_CHECK_EQ(-EOPNOTSUPP, cleat_irqs_unmask_fd(s.irqs, INTX, &fd));
	ATF_CHECK_EQ(2, server_sets(&s));
	ATF_REQUIRE_EQ(0, cleat_irqs_enable(s.irqs, MSI, 1));
	/* It does not say that it masks by itself: not even asked. */
	ATF_CHECK_EQ(-EOPNOTSUPP, cleat_irqs_unmask_fd(s.irqs, MSI, &fd));
	ATF_CHECK_EQ(4, server_sets(&s));
	ATF_CHECK_EQ(-1, fd);
	server_close(&s);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, enable__refused);
	ATF_TP_ADD_TC(tp, enable__second_piece_refused);
	ATF_TP_ADD_TC(tp, arm__refused_later);
	ATF_TP_ADD_TC(tp, disable__refused);
	ATF_TP_ADD_TC(tp, enable__way_not_made);
	ATF_TP_ADD_TC(tp, enable__lost);
	ATF_TP_ADD_TC(tp, disable__lost);
	ATF_TP_ADD_TC(tp, enable__never_answered);
	ATF_TP_ADD_TC(tp, unmask__never_answered);
	ATF_TP_ADD_TC(tp, act__as_asked);
	ATF_TP_ADD_TC(tp, unmask_fd__automasked);
	ATF_TP_ADD_TC(tp, unmask_fd__not_taken);
	return atf_no_error();
}
