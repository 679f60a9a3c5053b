/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/kvm/fixture.h"

#define N 1000
#define PORT 0x5658

static int add(struct machine *m, const struct cleat_ioeventfd *kick)
{
	return m->ops->ioeventfd_add(m->ops->opaque, kick);
}

static int take(struct machine *m, const struct cleat_ioeventfd *kick)
{
	return m->ops->ioeventfd_remove(m->ops->opaque, kick);
}

/* What N writes of one value cost. */
static uint64_t writes(struct machine *m, enum guest_op_kind kind,
		       uint64_t address, unsigned size, uint64_t value)
{
	return machine_cost(m, (struct guest_op){.kind = kind,
						 .size = size,
						 .address = address,
						 .value = value,
						 .count = N});
}

CLEAT_TC(kick__plain)
{
	struct cleat_ioeventfd kick = {.address = WINDOW + 4, .length = 4};
	struct machine m;

	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	kick.fd = make_eventfd();
	ATF_CHECK_EQ(N, writes(&m, GUEST_STORE, WINDOW + 4, 4, 1));
	ATF_REQUIRE_EQ(0, add(&m, &kick));
	ATF_CHECK_EQ(0, writes(&m, GUEST_STORE, WINDOW + 4, 4, 1));
	ATF_CHECK_EQ(N, eventfd_count(kick.fd));
	/* Another length, another place, and reads are not its. */
	ATF_CHECK_EQ(N, writes(&m, GUEST_STORE, WINDOW + 4, 2, 1));
	ATF_CHECK_EQ(N, writes(&m, GUEST_STORE, WINDOW + 8, 4, 1));
	ATF_CHECK_EQ(N, writes(&m, GUEST_LOAD, WINDOW + 4, 4, 0));
	ATF_CHECK_EQ(0, eventfd_count(kick.fd));
	machine_end(&m);
	close(kick.fd);
}

CLEAT_TC(kick__datamatch)
{
	struct cleat_ioeventfd kicks[8];
	struct machine m;

	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	for (unsigned i = 0; i < 8; i++) {
		kicks[i] = (struct cleat_ioeventfd){.address = WINDOW,
						    .length = 2,
						    .match = true,
						    .datamatch = i,
						    .fd = make_eventfd()};
		ATF_REQUIRE_EQ(0, add(&m, &kicks[i]));
	}
	ATF_CHECK_EQ(0, writes(&m, GUEST_STORE, WINDOW, 2, 5));
	ATF_CHECK_EQ(0, writes(&m, GUEST_STORE, WINDOW, 2, 0));
	ATF_CHECK_EQ(N, writes(&m, GUEST_STORE, WINDOW, 2, 8));
	for (unsigned i = 0; i < 8; i++) {
		ATF_CHECK_EQ(i == 0 || i == 5 ? N : 0,
			     eventfd_count(kicks[i].fd));
		ATF_CHECK_EQ(0, take(&m, &kicks[i]));
		close(kicks[i].fd);
	}
	ATF_CHECK_EQ(N, writes(&m, GUEST_STORE, WINDOW, 2, 5));
	machine_end(&m);
}

CLEAT_TC(kick__any_length)
{
	struct cleat_ioeventfd kick = {.address = WINDOW + 8};
	struct machine m;

	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	kick.fd = make_eventfd();
	ATF_REQUIRE_EQ(0, add(&m, &kick));
	for (unsigned size = 1; size <= 8; size *= 2) {
		ATF_CHECK_EQ(0, writes(&m, GUEST_STORE, WINDOW + 8, size, 3));
		ATF_CHECK_EQ(N, eventfd_count(kick.fd));
	}
	ATF_CHECK_EQ(N, writes(&m, GUEST_STORE, WINDOW + 9, 1, 3));
	machine_end(&m);
	close(kick.fd);
}

CLEAT_TC(kick__port)
{
	struct cleat_ioeventfd plain = {
		.space = CLEAT_PORTS, .address = PORT, .length = 2};
	struct cleat_ioeventfd match = {.space = CLEAT_PORTS,
					.address = PORT + 4,
					.length = 1,
					.match = true,
					.datamatch = 0x42};
	struct machine m;

	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	plain.fd = make_eventfd();
	match.fd = make_eventfd();
	ATF_CHECK_EQ(N, writes(&m, GUEST_OUT, PORT, 2, 1));
	ATF_REQUIRE_EQ(0, add(&m, &plain));
	ATF_REQUIRE_EQ(0, add(&m, &match));
	ATF_CHECK_EQ(0, writes(&m, GUEST_OUT, PORT, 2, 1));
	ATF_CHECK_EQ(0, writes(&m, GUEST_OUT, PORT + 4, 1, 0x42));
	ATF_CHECK_EQ(N, writes(&m, GUEST_OUT, PORT + 4, 1, 0x43));
	ATF_CHECK_EQ(N, writes(&m, GUEST_IN, PORT, 2, 0));
	ATF_CHECK_EQ(N, eventfd_count(plain.fd));
	ATF_CHECK_EQ(N, eventfd_count(match.fd));
	ATF_CHECK_EQ(0, take(&m, &plain));
	ATF_CHECK_EQ(N, writes(&m, GUEST_OUT, PORT, 2, 1));
	machine_end(&m);
	close(plain.fd);
	close(match.fd);
}

CLEAT_TC(remove__traps_again)
{
	struct cleat_ioeventfd kick = {.address = WINDOW, .length = 4};
	struct cleat_ioeventfd other;
	struct machine m;

	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	kick.fd = make_eventfd();
	other = kick;
	other.length = 2;
	ATF_REQUIRE_EQ(0, add(&m, &kick));
	ATF_CHECK_EQ(-ENOENT, take(&m, &other));
	ATF_CHECK_EQ(0, take(&m, &kick));
	ATF_CHECK_EQ(-ENOENT, take(&m, &kick));
	ATF_CHECK_EQ(N, writes(&m, GUEST_STORE, WINDOW, 4, 1));
	ATF_CHECK_EQ(0, eventfd_count(kick.fd));
	ATF_CHECK_EQ(0, add(&m, &kick));
	ATF_CHECK_EQ(0, writes(&m, GUEST_STORE, WINDOW, 4, 1));
	machine_end(&m);
	close(kick.fd);
}

CLEAT_TC(add__taken)
{
	struct cleat_ioeventfd kick = {.address = WINDOW, .length = 4};
	struct cleat_ioeventfd match;
	struct machine m;

	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	kick.fd = make_eventfd();
	match = kick;
	match.match = true;
	match.datamatch = 1;
	ATF_REQUIRE_EQ(0, add(&m, &kick));
	ATF_CHECK_EQ(-EEXIST, add(&m, &kick));
	ATF_CHECK_EQ(-EEXIST, add(&m, &match));
	/* What was refused is not remembered: this takes the first away. */
	ATF_CHECK_EQ(0, take(&m, &kick));
	ATF_CHECK_EQ(-ENOENT, take(&m, &kick));
	ATF_CHECK_EQ(0, add(&m, &match));
	ATF_CHECK_EQ(-EEXIST, add(&m, &kick));
	machine_end(&m);
	close(kick.fd);
}

CLEAT_TC(add__impossible)
{
	const struct cleat_ioeventfd kicks[] = {
		{.address = WINDOW, .length = 3},
		{.address = WINDOW, .length = 16},
		{.address = WINDOW, .match = true, .datamatch = 1},
		{.address = WINDOW,
		 .length = 1,
		 .match = true,
		 .datamatch = 256},
		{.address = UINT64_MAX, .length = 2},
		{.space = CLEAT_PORTS, .address = 0xffff, .length = 2},
		{.space = CLEAT_PORTS, .address = 0x10000, .length = 1},
		{.space = CLEAT_PORTS, .address = 0x100, .length = 8},
	};
	struct cleat_ioeventfd closed = {
		.address = WINDOW, .length = 4, .fd = 900};
	struct cleat_ioeventfd kick;
	struct machine m;
	int fd;

	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	fd = make_eventfd();
	for (size_t i = 0; i < sizeof(kicks) / sizeof(*kicks); i++) {
		kick = kicks[i];
		kick.fd = fd;
		ATF_CHECK_EQ_MSG(-EINVAL, add(&m, &kick), "entry %zu", i);
	}
	ATF_CHECK_EQ(-EBADF, add(&m, &closed));
	ATF_CHECK_EQ(-ENOENT, take(&m, &closed));
	machine_end(&m);
	close(fd);
}

CLEAT_TC(destroy__kicks_left)
{
	struct cleat_ioeventfd kick = {.address = WINDOW, .length = 4};
	struct machine m;

	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	kick.fd = make_eventfd();
	ATF_REQUIRE_EQ(0, add(&m, &kick));
	kick.address += 4;
	ATF_REQUIRE_EQ(0, add(&m, &kick));
	m.kvm = cleat_kvm_destroy(m.kvm);
	ATF_CHECK_EQ(N, writes(&m, GUEST_STORE, WINDOW, 4, 1));
	ATF_CHECK_EQ(N, writes(&m, GUEST_STORE, WINDOW + 4, 4, 1));
	ATF_CHECK_EQ(0, eventfd_count(kick.fd));
	machine_end(&m);
	close(kick.fd);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, kick__plain);
	ATF_TP_ADD_TC(tp, kick__datamatch);
	ATF_TP_ADD_TC(tp, kick__any_length);
	ATF_TP_ADD_TC(tp, kick__port);
	ATF_TP_ADD_TC(tp, remove__traps_again);
	ATF_TP_ADD_TC(tp, add__taken);
	ATF_TP_ADD_TC(tp, add__impossible);
	ATF_TP_ADD_TC(tp, destroy__kicks_left);
	return atf_no_error();
}
