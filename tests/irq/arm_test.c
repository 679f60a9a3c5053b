/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>

#include "tests/irq/server.h"

static const char takes_8[] = "{\"capabilities\":{\"max_msg_fds\":8}}";

/* Every vector of [first, end) leads to its own place and nowhere else. */
static void check_vectors(struct server *s, unsigned index, unsigned first,
			  unsigned end)
{
	for (unsigned i = first; i < end; i++) {
		ATF_CHECK(!cleat_irqs_pending(s->irqs, index, i));
		ATF_CHECK(server_fire(s, i));
		ATF_CHECK(server_fire(s, i));
		for (unsigned k = first; k < end; k++)
			ATF_CHECK_EQ(k == i,
				     cleat_irqs_pending(s->irqs, index, k));
		ATF_CHECK(cleat_irqs_take(s->irqs, index, i));
		ATF_CHECK(!cleat_irqs_take(s->irqs, index, i));
	}
}

CLEAT_TC(create__costs_nothing)
{
	struct server s = {.json = takes_8};
	unsigned fds;

	server_open(&s);
	fds = count_fds();
	ATF_CHECK_EQ(-1, cleat_irqs_enabled(s.irqs));
	ATF_CHECK_EQ(VECTORS, cleat_irqs_count(s.irqs, MSIX));
	ATF_CHECK_EQ(VFIO_IRQ_INFO_EVENTFD, cleat_irqs_flags(s.irqs, MSIX));
	ATF_CHECK_EQ(0, cleat_irqs_count(s.irqs, REQ));
	ATF_CHECK_EQ(0, cleat_irqs_count(s.irqs, 77));
	ATF_CHECK_EQ(-1, cleat_irqs_fd(s.irqs, MSIX, 0));
	ATF_CHECK(!cleat_irqs_pending(s.irqs, MSIX, 0));
	ATF_CHECK(!cleat_irqs_take(s.irqs, MSIX, 0));
	/* One vector of many: two descriptors, one of them the server's. */
	ATF_CHECK_EQ(0, cleat_irqs_arm(s.irqs, MSIX, 200, 1));
	ATF_CHECK_EQ(fds + 2, count_fds());
	ATF_CHECK_EQ(1, server_sets(&s));
	server_close(&s);
}

CLEAT_TC(enable__in_pieces)
{
	struct server s = {.json = takes_8};

	server_open(&s);
	ATF_REQUIRE_EQ(0, cleat_irqs_enable(s.irqs, MSIX, 20));
	ATF_CHECK_EQ(MSIX, cleat_irqs_enabled(s.irqs));
	ATF_CHECK_EQ(3, server_sets(&s));
	server_check(&s, 0, ARM, MSIX, 0, 8);
	server_check(&s, 1, ARM, MSIX, 8, 8);
	server_check(&s, 2, ARM, MSIX, 16, 4);
	check_vectors(&s, MSIX, 0, 20);
	ATF_CHECK_EQ(-1, cleat_irqs_fd(s.irqs, MSIX, 20));
	server_close(&s);
}

/* Peers that say nothing take one descriptor. */
CLEAT_TC(enable__one_by_one)
{
	struct server s = {0};

	server_open(&s);
	ATF_REQUIRE_EQ(0, cleat_irqs_enable(s.irqs, MSI, 4));
	ATF_CHECK_EQ(4, server_sets(&s));
	for (unsigned i = 0; i < 4; i++)
		server_check(&s, i, ARM, MSI, i, 1);
	check_vectors(&s, MSI, 0, 4);
	server_close(&s);
}

CLEAT_TC(enable__all_in_few)
{
	struct server s = {
		.json = "{\"capabilities\":{\"max_msg_fds\":64}}",
		.echo = true,
	};

	server_open(&s);
	ATF_REQUIRE_EQ(0, cleat_irqs_enable(s.irqs, MSIX, VECTORS));
	ATF_CHECK_EQ(5, server_sets(&s));
	ATF_CHECK(server_fire(&s, VECTORS - 1));
	ATF_CHECK(cleat_irqs_take(s.irqs, MSIX, VECTORS - 1));
	/* Again, and there is nothing left to say. */
	ATF_CHECK_EQ(0, cleat_irqs_enable(s.irqs, MSIX, VECTORS));
	ATF_CHECK_EQ(5, server_sets(&s));
	server_close(&s);
}

CLEAT_TC(enable__old_type_off_first)
{
	struct server s = {.json = takes_8};
	unsigned fds;

	server_open(&s);
	fds = count_fds();
	ATF_REQUIRE_EQ(0, cleat_irqs_enable(s.irqs, INTX, 1));
	ATF_REQUIRE_EQ(0, cleat_irqs_enable(s.irqs, MSIX, 2));
	server_check(&s, 0, ARM, INTX, 0, 1);
	server_check(&s, 1, DISABLE, INTX, 0, 0);
	server_check(&s, 2, ARM, MSIX, 0, 2);
	ATF_CHECK_EQ(MSIX, cleat_irqs_enabled(s.irqs));
	ATF_CHECK_EQ(-1, cleat_irqs_fd(s.irqs, INTX, 0));
	check_vectors(&s, MSIX, 0, 2);
	ATF_REQUIRE_EQ(0, cleat_irqs_enable(s.irqs, MSI, 1));
	server_check(&s, 3, DISABLE, MSIX, 0, 0);
	server_check(&s, 4, ARM, MSI, 0, 1);
	ATF_CHECK_EQ(0, cleat_irqs_disable(s.irqs, MSI));
	ATF_CHECK_EQ(-1, cleat_irqs_enabled(s.irqs));
	ATF_CHECK_EQ(fds, count_fds());
	server_close(&s);
}

/* Error reports are no type that takes another's place. */
CLEAT_TC(enable__beside_errors)
{
	struct server s = {.json = takes_8};

	server_open(&s);
	ATF_REQUIRE_EQ(0, cleat_irqs_enable(s.irqs, ERR, 1));
	ATF_CHECK_EQ(-1, cleat_irqs_enabled(s.irqs));
	ATF_REQUIRE_EQ(0, cleat_irqs_enable(s.irqs, MSI, 1));
	ATF_CHECK_EQ(2, server_sets(&s));
	ATF_CHECK(cleat_irqs_fd(s.irqs, ERR, 0) >= 0);
	ATF_CHECK_EQ(0, cleat_irqs_disable(s.irqs, ERR));
	ATF_CHECK_EQ(MSI, cleat_irqs_enabled(s.irqs));
	check_vectors(&s, MSI, 0, 1);
	server_close(&s);
}

CLEAT_TC(enable__not_there)
{
	struct server s = {.json = takes_8};

	server_open(&s);
	ATF_CHECK_EQ(-EINVAL, cleat_irqs_enable(s.irqs, REQ, 1));
	ATF_CHECK_EQ(-EINVAL, cleat_irqs_enable(s.irqs, 99, 1));
	ATF_CHECK_EQ(-EINVAL, cleat_irqs_enable(s.irqs, MSI, 0));
	ATF_CHECK_EQ(-EINVAL, cleat_irqs_enable(s.irqs, MSI, 33));
	ATF_CHECK_EQ(-EINVAL, cleat_irqs_arm(s.irqs, MSI, 32, 1));
	ATF_CHECK_EQ(-EINVAL, cleat_irqs_arm(s.irqs, MSI, UINT32_MAX, 2));
	ATF_CHECK_EQ(0, cleat_irqs_disable(s.irqs, REQ));
	ATF_CHECK_EQ(0, cleat_irqs_disable(s.irqs, MSIX));
	ATF_CHECK_EQ(0, cleat_irqs_disable(s.irqs, 99));
	ATF_CHECK_EQ(0, server_sets(&s));
	server_close(&s);
}

CLEAT_TC(arm__what_is_missing)
{
	struct server s = {.json = takes_8};
	int fd;

	server_open(&s);
	ATF_REQUIRE_EQ(0, cleat_irqs_arm(s.irqs, MSIX, 5, 1));
	ATF_REQUIRE_EQ(0, cleat_irqs_arm(s.irqs, MSIX, 6, 2));
	fd = cleat_irqs_fd(s.irqs, MSIX, 6);
	ATF_CHECK(server_fire(&s, 6));
	ATF_REQUIRE_EQ(0, cleat_irqs_arm(s.irqs, MSIX, 0, 10));
	ATF_CHECK_EQ(4, server_sets(&s));
	server_check(&s, 1, ARM, MSIX, 6, 2);
	server_check(&s, 2, ARM, MSIX, 0, 5);
	server_check(&s, 3, ARM, MSIX, 8, 2);
	ATF_CHECK_EQ(fd, cleat_irqs_fd(s.irqs, MSIX, 6));
	ATF_CHECK(cleat_irqs_take(s.irqs, MSIX, 6));
	check_vectors(&s, MSIX, 0, 10);
	server_close(&s);
}

CLEAT_TC(arm__all_or_none)
{
	struct server s = {
		.json = takes_8,
		.flags = {[MSI] = VFIO_IRQ_INFO_NORESIZE},
	};

	server_open(&s);
	ATF_REQUIRE_EQ(0, cleat_irqs_arm(s.irqs, MSI, 3, 1));
	ATF_CHECK_EQ(4, server_sets(&s));
	check_vectors(&s, MSI, 0, 32);
	ATF_CHECK_EQ(0, cleat_irqs_arm(s.irqs, MSI, 7, 2));
	ATF_CHECK_EQ(4, server_sets(&s));
	server_close(&s);
}

/* What was pending does not come up in the next life of a type. */
CLEAT_TC(disable__drops_what_is_pending)
{
	struct server s = {.json = takes_8};
	unsigned fds;

	server_open(&s);
	fds = count_fds();
	ATF_REQUIRE_EQ(0, cleat_irqs_enable(s.irqs, MSIX, 3));
	ATF_CHECK(server_fire(&s, 1));
	ATF_REQUIRE_EQ(0, cleat_irqs_disable(s.irqs, MSIX));
	ATF_CHECK_EQ(fds, count_fds());
	ATF_CHECK(!cleat_irqs_pending(s.irqs, MSIX, 1));
	ATF_CHECK_EQ(0, cleat_irqs_disable(s.irqs, MSIX));
	ATF_CHECK_EQ(2, server_sets(&s));
	ATF_REQUIRE_EQ(0, cleat_irqs_enable(s.irqs, MSIX, 3));
	ATF_CHECK(!cleat_irqs_pending(s.irqs, MSIX, 1));
	server_close(&s);
}

/* The server has the same open file: its flags are no promise to us. */
CLEAT_TC(take__flag_cleared_by_the_server)
{
	struct server s = {.json = takes_8};

	server_open(&s);
	ATF_REQUIRE_EQ(0, cleat_irqs_enable(s.irqs, MSI, 1));
	pthread_mutex_lock(&s.lock);
	ATF_REQUIRE_EQ(0, fcntl(s.fds[0], F_SETFL, 0));
	pthread_mutex_unlock(&s.lock);
	ATF_CHECK(!cleat_irqs_take(s.irqs, MSI, 0));
	ATF_CHECK(server_fire(&s, 0));
	ATF_CHECK(cleat_irqs_take(s.irqs, MSI, 0));
	server_close(&s);
}

struct reader {
	struct cleat_irqs *irqs;
	bool stop;
};

static int read_all(void *arg)
{
	struct reader *reader = arg;
	int seen = 0;

	while (!__atomic_load_n(&reader->stop, __ATOMIC_RELAXED)) {
		for (unsigned i = 0; i < 4; i++)
			seen += cleat_irqs_pending(reader->irqs, MSIX, i);
		seen += cleat_irqs_enabled(reader->irqs) == MSI;
	}
	return seen;
}

/* PBA reads come from vCPUs while the type goes on and off. */
CLEAT_TC(pending__while_switched)
{
	struct server s = {.json = takes_8};
	struct reader reader = {0};
	struct script script;

	server_open(&s);
	reader.irqs = s.irqs;
	script_start(&script, read_all, &reader);
	for (unsigned i = 0; i < 200; i++) {
		ATF_REQUIRE_EQ(0, cleat_irqs_enable(s.irqs, MSIX, 4));
		ATF_REQUIRE_EQ(0, cleat_irqs_disable(s.irqs, MSIX));
	}
	__atomic_store_n(&reader.stop, true, __ATOMIC_RELAXED);
	script_end(&script);
	server_close(&s);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, create__costs_nothing);
	ATF_TP_ADD_TC(tp, enable__in_pieces);
	ATF_TP_ADD_TC(tp, enable__one_by_one);
	ATF_TP_ADD_TC(tp, enable__all_in_few);
	ATF_TP_ADD_TC(tp, enable__old_type_off_first);
	ATF_TP_ADD_TC(tp, enable__beside_errors);
	ATF_TP_ADD_TC(tp, enable__not_there);
	ATF_TP_ADD_TC(tp, arm__what_is_missing);
	ATF_TP_ADD_TC(tp, arm__all_or_none);
	ATF_TP_ADD_TC(tp, disable__drops_what_is_pending);
	ATF_TP_ADD_TC(tp, take__flag_cleared_by_the_server);
	ATF_TP_ADD_TC(tp, pending__while_switched);
	return atf_no_error();
}
