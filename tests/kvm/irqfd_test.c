/* SPDX-License-Identifier: BSD-2-Clause */
#include <poll.h>
#include <sys/ioctl.h>

#include "tests/kvm/fixture.h"

#define N 500
#define VECTOR 0x61

static int add(struct machine *m, uint32_t gsi, int fd, int resample)
{
	return m->ops->irqfd_add(m->ops->opaque, gsi, fd, resample);
}

static int take(struct machine *m, uint32_t gsi, int fd)
{
	return m->ops->irqfd_remove(m->ops->opaque, gsi, fd);
}

/* vCPU 0 spins until it has taken @count of @vector. */
static void spin(struct machine *m, struct guest_op *op, unsigned vector,
		 uint64_t count)
{
	*op = (struct guest_op){.kind = GUEST_WAIT,
				.address = cleat_guest_counter(vector),
				.value = count,
				.count = 1};
	ATF_REQUIRE_EQ(0, cleat_guest_start(m->guest, 0, op, 1, NULL, RUN_MS));
}

static void spun(struct machine *m)
{
	ATF_REQUIRE_EQ(0, cleat_guest_wait(m->guest, 0));
}

static bool is_taken(struct machine *m, unsigned vector, uint64_t count)
{
	return cleat_guest_interrupts(m->guest, vector) >= count;
}

/* One after the other: those that come while one is pending are one. */
static void fire(struct machine *m, int fd, unsigned vector, unsigned count)
{
	uint64_t before = cleat_guest_interrupts(m->guest, vector);

	for (unsigned i = 1; i <= count; i++) {
		signal_eventfd(fd);
		REQUIRE_SOON(is_taken(m, vector, before + i));
	}
}

static void deliver_all(const atf_tc_t *tc, enum guest_irqchip irqchip)
{
	struct guest_op op;
	struct machine m;
	uint64_t returned;
	uint32_t gsi;
	int fd;

	machine_start(&m, tc, irqchip, NULL);
	fd = make_eventfd();
	gsi = route_to(&m, VECTOR);
	ATF_REQUIRE_EQ(0, add(&m, gsi, fd, -1));
	returned = cleat_guest_returned(m.guest, 0);
	spin(&m, &op, VECTOR, N);
	fire(&m, fd, VECTOR, N);
	spun(&m);
	ATF_CHECK_EQ(N, cleat_guest_interrupts(m.guest, VECTOR));
	ATF_CHECK_EQ(returned, cleat_guest_returned(m.guest, 0));
	ATF_CHECK_EQ(0, take(&m, gsi, fd));
	machine_end(&m);
	close(fd);
}

CLEAT_TC(deliver__kernel_irqchip)
{
	deliver_all(tc, GUEST_IRQCHIP_KERNEL);
}

CLEAT_TC(deliver__split_irqchip)
{
	deliver_all(tc, GUEST_IRQCHIP_SPLIT);
}

CLEAT_TC(reroute__one_table)
{
	struct cleat_kvm_config config = {0};
	struct cleat_msi message = message_to(VECTOR + 1);
	struct guest_op op;
	struct machine m;
	uint32_t gsi;
	int fd;

	machine_count_commits(&m, &config);
	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, &config);
	fd = make_eventfd();
	gsi = route_to(&m, VECTOR);
	ATF_REQUIRE_EQ(0, add(&m, gsi, fd, -1));
	spin(&m, &op, VECTOR + 1, 10);
	fire(&m, fd, VECTOR, 10);
	ATF_CHECK_EQ(1, m.commits);
	/* The irqfd stays where it is. */
	ATF_REQUIRE_EQ(0, m.ops->msi_route(m.ops->opaque, gsi, &message));
	ATF_REQUIRE_EQ(0, m.ops->routes_commit(m.ops->opaque));
	ATF_CHECK_EQ(2, m.commits);
	fire(&m, fd, VECTOR + 1, 10);
	spun(&m);
	ATF_CHECK_EQ(10, cleat_guest_interrupts(m.guest, VECTOR));
	machine_end(&m);
	close(fd);
}

/* Masked, an eventfd keeps what comes; unmasked, that is delivered, once. */
CLEAT_TC(remove__replayed_once)
{
	struct guest_op op;
	struct machine m;
	uint32_t gsi;
	int fd;

	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	fd = make_eventfd();
	gsi = route_to(&m, VECTOR);
	ATF_REQUIRE_EQ(0, add(&m, gsi, fd, -1));
	spin(&m, &op, VECTOR, 7);
	fire(&m, fd, VECTOR, 1);
	ATF_REQUIRE_EQ(0, take(&m, gsi, fd));
	for (unsigned i = 0; i < 5; i++)
		signal_eventfd(fd);
	ATF_CHECK(wait_fd(fd, POLLIN, 0));
	ATF_CHECK_EQ(1, cleat_guest_interrupts(m.guest, VECTOR));
	ATF_REQUIRE_EQ(0, add(&m, gsi, fd, -1));
	REQUIRE_SOON(is_taken(&m, VECTOR, 2));
	/* Five more, one by one: were the five replayed, it would be more. */
	fire(&m, fd, VECTOR, 5);
	spun(&m);
	ATF_CHECK_EQ(7, cleat_guest_interrupts(m.guest, VECTOR));
	ATF_CHECK_EQ(0, take(&m, gsi, fd));
	ATF_CHECK_EQ(-ENOENT, take(&m, gsi, fd));
	machine_end(&m);
	close(fd);
}

/* In a batch that is not over, the irqfd's own route is written first. */
CLEAT_TC(add__route_not_committed)
{
	struct cleat_kvm_config config = {0};
	struct cleat_msi message = message_to(VECTOR);
	struct guest_op op;
	struct machine m;
	uint32_t gsi;
	int fd;

	machine_count_commits(&m, &config);
	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, &config);
	fd = make_eventfd();
	signal_eventfd(fd);
	ATF_REQUIRE_EQ(0, m.ops->gsi_alloc(m.ops->opaque, &gsi));
	ATF_CHECK_EQ(-EINVAL, add(&m, gsi, fd, -1));
	m.ops->routes_begin(m.ops->opaque);
	ATF_REQUIRE_EQ(0, m.ops->msi_route(m.ops->opaque, gsi, &message));
	ATF_REQUIRE_EQ(0, add(&m, gsi, fd, -1));
	ATF_CHECK_EQ(1, m.commits);
	ATF_CHECK_EQ(0, m.ops->routes_commit(m.ops->opaque));
	ATF_CHECK_EQ(1, m.commits);
	spin(&m, &op, VECTOR, 1);
	spun(&m);
	machine_end(&m);
	close(fd);
}

CLEAT_TC(add__bad_descriptor)
{
	struct machine m;
	uint32_t gsi;
	int fd;

	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	fd = make_eventfd();
	gsi = route_to(&m, VECTOR);
	ATF_CHECK_EQ(-EBADF, add(&m, gsi, 900, -1));
	ATF_CHECK_EQ(-ENOENT, take(&m, gsi, 900));
	ATF_CHECK_EQ(-EINVAL, add(&m, gsi, cleat_guest_ram_fd(m.guest), -1));
	ATF_REQUIRE_EQ(0, add(&m, gsi, fd, -1));
	ATF_CHECK_EQ(-EBUSY, add(&m, gsi, fd, -1));
	ATF_CHECK_EQ(0, take(&m, gsi, fd));
	machine_end(&m);
	close(fd);
}

CLEAT_TC(signal__message)
{
	struct cleat_msi message = message_to(VECTOR);
	struct guest_op op;
	struct machine m;

	machine_start(&m, tc, GUEST_IRQCHIP_SPLIT, NULL);
	spin(&m, &op, VECTOR, 20);
	for (unsigned i = 1; i <= 20; i++) {
		ATF_REQUIRE_EQ(0, m.ops->msi_signal(m.ops->opaque, &message));
		REQUIRE_SOON(is_taken(&m, VECTOR, i));
	}
	spun(&m);
	machine_end(&m);
}

/* A pin of the IOAPIC: level, to a vector of vCPU 0. */
static void program_pin(struct machine *m, unsigned pin, unsigned vector)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
	int vm = cleat_guest_vm(m->guest);

	ATF_REQUIRE_EQ(0, ioctl(vm, KVM_GET_IRQCHIP, &chip));
	chip.chip.ioapic.redirtbl[pin].bits = vector | 1u << 15;
	ATF_REQUIRE_EQ(0, ioctl(vm, KVM_SET_IRQCHIP, &chip));
}

/* Writes the table once, so that it is only the base routes given. */
static void use_base_routes(struct machine *m)
{
	uint32_t gsi = route_to(m, 0x30);

	m->ops->gsi_free(m->ops->opaque, gsi);
	ATF_REQUIRE_EQ(0, m->ops->routes_commit(m->ops->opaque));
}

CLEAT_TC(resample__end_of_interrupt)
{
	struct guest_op op;
	struct machine m;
	int fd, resample;

	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	fd = make_eventfd();
	resample = make_eventfd();
	use_base_routes(&m);
	program_pin(&m, 10, VECTOR);
	ATF_REQUIRE_EQ(0, add(&m, 10, fd, resample));
	spin(&m, &op, VECTOR, 50);
	for (unsigned i = 1; i <= 50; i++) {
		signal_eventfd(fd);
		ATF_CHECK_EQ(1, wait_eventfd(resample, PATIENCE_MS));
		REQUIRE_SOON(is_taken(&m, VECTOR, i));
	}
	spun(&m);
	/* One end for each, and each once. */
	ATF_CHECK_EQ(0, eventfd_count(resample));
	ATF_CHECK_EQ(50, cleat_guest_interrupts(m.guest, VECTOR));
	ATF_CHECK_EQ(0, take(&m, 10, fd));
	machine_end(&m);
	close(fd);
	close(resample);
}

CLEAT_TC(resample__split_irqchip)
{
	struct machine m;
	int fd, resample;

	machine_start(&m, tc, GUEST_IRQCHIP_SPLIT, NULL);
	fd = make_eventfd();
	resample = make_eventfd();
	ATF_CHECK_EQ(-EOPNOTSUPP, add(&m, 10, fd, resample));
	/* No IOAPIC in the kernel whose line could be set. */
	ATF_CHECK(!m.ops->line_set);
	ATF_CHECK(m.ops->msi_signal);
	machine_end(&m);
	close(fd);
	close(resample);
}

CLEAT_TC(line__level)
{
	struct guest_op op;
	struct machine m;

	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	use_base_routes(&m);
	program_pin(&m, 11, VECTOR);
	/* Held, it comes again at every end. */
	ATF_REQUIRE_EQ(0, m.ops->line_set(m.ops->opaque, 11, true));
	spin(&m, &op, VECTOR, 3);
	spun(&m);
	ATF_REQUIRE_EQ(0, m.ops->line_set(m.ops->opaque, 11, false));
	machine_end(&m);
}

/* Neither the irqfd nor the route outlives the operations. */
CLEAT_TC(destroy__irqfds_left)
{
	struct guest_op op;
	struct machine m;
	uint32_t gsi;
	int fd;

	machine_start(&m, tc, GUEST_IRQCHIP_KERNEL, NULL);
	fd = make_eventfd();
	gsi = route_to(&m, VECTOR);
	ATF_REQUIRE_EQ(0, add(&m, gsi, fd, -1));
	spin(&m, &op, VECTOR, 1);
	fire(&m, fd, VECTOR, 1);
	spun(&m);
	m.kvm = cleat_kvm_destroy(m.kvm);
	signal_eventfd(fd);
	/* An irqfd would have taken it at once, in the write itself. */
	ATF_CHECK_EQ(1, eventfd_count(fd));
	machine_end(&m);
	close(fd);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, deliver__kernel_irqchip);
	ATF_TP_ADD_TC(tp, deliver__split_irqchip);
	ATF_TP_ADD_TC(tp, reroute__one_table);
	ATF_TP_ADD_TC(tp, remove__replayed_once);
	ATF_TP_ADD_TC(tp, add__route_not_committed);
	ATF_TP_ADD_TC(tp, add__bad_descriptor);
	ATF_TP_ADD_TC(tp, signal__message);
	ATF_TP_ADD_TC(tp, resample__end_of_interrupt);
	ATF_TP_ADD_TC(tp, resample__split_irqchip);
	ATF_TP_ADD_TC(tp, line__level);
	ATF_TP_ADD_TC(tp, destroy__irqfds_left);
	return atf_no_error();
}
