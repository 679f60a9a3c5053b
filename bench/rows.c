/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The rows without a device: what the same accesses cost where no library and
 * no server is. Those with one are held against them.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bench/measure.h"

#define GSI 24

static int ram_write(struct bench *bench, struct bench_result *ret)
{
	struct guest_op op = {
		.kind = GUEST_STORE,
		.size = 4,
		.address = cleat_guest_alloc(bench->guest, 4096),
	};

	return op.address ? cleat_bench_measure(bench, op, ret) : -ENOMEM;
}

static int ram_read(struct bench *bench, struct bench_result *ret)
{
	struct guest_op op = {
		.kind = GUEST_LOAD,
		.size = 4,
		.address = cleat_guest_alloc(bench->guest, 4096),
	};

	return op.address ? cleat_bench_measure(bench, op, ret) : -ENOMEM;
}

static int exit_write(struct bench *bench, struct bench_result *ret)
{
	struct guest_op op = {
		.kind = GUEST_STORE,
		.size = 4,
		.address = BENCH_WINDOW,
	};

	return cleat_bench_measure(bench, op, ret);
}

static int exit_read(struct bench *bench, struct bench_result *ret)
{
	struct guest_op op = {
		.kind = GUEST_LOAD,
		.size = 4,
		.address = BENCH_WINDOW,
	};

	return cleat_bench_measure(bench, op, ret);
}

/* --- Kicks --------------------------------------------------------------- */

/* What an eventfd has been signalled in all; nobody else reads it. */
struct counter {
	int fd;
	int64_t total;
};

static int64_t count_kicks(void *opaque)
{
	struct counter *counter = opaque;
	uint64_t more;

	if (read(counter->fd, &more, sizeof(more)) == sizeof(more))
		counter->total += (int64_t)more;
	return counter->total;
}

static int set_kick(struct bench *bench, int fd, uint32_t length,
		    uint32_t flags)
{
	struct kvm_ioeventfd kick = {
		.addr = BENCH_WINDOW,
		.len = length,
		.fd = fd,
		.flags = flags,
	};

	return ioctl(cleat_guest_vm(bench->guest), KVM_IOEVENTFD, &kick)
		       ? -errno
		       : 0;
}

static int measure_kick(struct bench *bench, struct bench_result *ret,
			uint32_t length)
{
	struct counter counter = {eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), 0};
	struct guest_op op = {
		.kind = GUEST_STORE,
		.size = 4,
		.address = BENCH_WINDOW,
	};
	int err;

	if (counter.fd < 0)
		return -errno;
	bench->events = count_kicks;
	bench->opaque = &counter;
	err = set_kick(bench, counter.fd, length, 0);
	if (!err) {
		err = cleat_bench_measure(bench, op, ret);
		set_kick(bench, counter.fd, length,
			 KVM_IOEVENTFD_FLAG_DEASSIGN);
	}
	bench->events = NULL;
	close(counter.fd);
	return err;
}

static int kick(struct bench *bench, struct bench_result *ret)
{
	return measure_kick(bench, ret, 4);
}

static int kick_any(struct bench *bench, struct bench_result *ret)
{
	return measure_kick(bench, ret, 0);
}

/* --- There and back ------------------------------------------------------ */

/* The other end: for each kick one interrupt, in a thread of its own. */
struct echo {
	pthread_t thread;
	int kick;
	int irq;
	int stop;
};

static void *echo_thread(void *opaque)
{
	struct echo *echo = opaque;
	struct pollfd fds[2] = {
		{.fd = echo->kick, .events = POLLIN},
		{.fd = echo->stop, .events = POLLIN},
	};
	uint64_t count, one = 1;

	while (poll(fds, 2, -1) > 0 && !fds[1].revents) {
		if (read(echo->kick, &count, sizeof(count)) != sizeof(count))
			continue;
		if (write(echo->irq, &one, sizeof(one)) != sizeof(one))
			break;
	}
	return NULL;
}

static int64_t count_interrupts(void *opaque)
{
	return (int64_t)cleat_guest_interrupts(opaque, BENCH_VECTOR);
}

/* This machine's only route: rows without a library share no table with it. */
static int set_route(struct bench *bench)
{
	uint64_t room[(sizeof(struct kvm_irq_routing) +
		       sizeof(struct kvm_irq_routing_entry)) /
		      sizeof(uint64_t)] = {0};
	struct kvm_irq_routing *table = (void *)room;

	table->nr = 1;
	table->entries[0] = (struct kvm_irq_routing_entry){
		.gsi = GSI,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi.address_lo = (uint32_t)cleat_guest_msi_address(0),
		.u.msi.data = cleat_guest_msi_data(BENCH_VECTOR),
	};
	return ioctl(cleat_guest_vm(bench->guest), KVM_SET_GSI_ROUTING, table)
		       ? -errno
		       : 0;
}

static int set_irqfd(struct bench *bench, int fd, uint32_t flags)
{
	struct kvm_irqfd irqfd = {
		.fd = (uint32_t)fd,
		.gsi = GSI,
		.flags = flags,
	};

	return ioctl(cleat_guest_vm(bench->guest), KVM_IRQFD, &irqfd) ? -errno
								      : 0;
}

static int measure_echo(struct bench *bench, struct echo *echo,
			struct bench_result *ret)
{
	struct guest_op op = {
		.kind = GUEST_STORE,
		.size = 4,
		.address = BENCH_WINDOW,
		.wait_at = cleat_guest_counter(BENCH_VECTOR),
	};
	uint64_t one = 1;
	int err = -pthread_create(&echo->thread, NULL, echo_thread, echo);

	if (err)
		return err;
	bench->events = count_interrupts;
	bench->opaque = bench->guest;
	err = cleat_bench_measure(bench, op, ret);
	bench->events = NULL;
	if (write(echo->stop, &one, sizeof(one)) != sizeof(one) && !err)
		err = -errno;
	pthread_join(echo->thread, NULL);
	return err;
}

static int wire_echo(struct bench *bench, struct echo *echo,
		     struct bench_result *ret)
{
	int err = set_route(bench);

	if (!err)
		err = set_kick(bench, echo->kick, 4, 0);
	if (err)
		return err;
	err = set_irqfd(bench, echo->irq, 0);
	if (!err) {
		err = measure_echo(bench, echo, ret);
		set_irqfd(bench, echo->irq, KVM_IRQFD_FLAG_DEASSIGN);
	}
	set_kick(bench, echo->kick, 4, KVM_IOEVENTFD_FLAG_DEASSIGN);
	return err;
}

static int there_and_back(struct bench *bench, struct bench_result *ret)
{
	struct echo echo = {
		.kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC),
		.irq = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC),
		.stop = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC),
	};
	int err = -EMFILE;

	if (echo.kick >= 0 && echo.irq >= 0 && echo.stop >= 0)
		err = wire_echo(bench, &echo, ret);
	if (echo.kick >= 0)
		close(echo.kick);
	if (echo.irq >= 0)
		close(echo.irq);
	if (echo.stop >= 0)
		close(echo.stop);
	return err;
}

const struct bench_row cleat_bench_rows[] = {
	{"ram-write", "guest memory, store", ram_write},
	{"ram-read", "guest memory, load", ram_read},
	{"bare-kick", "bare KVM_IOEVENTFD of 4 bytes", kick},
	{"bare-kick-any", "bare KVM_IOEVENTFD of any length", kick_any},
	{"bare-exit-write", "exit to user space and nothing, store",
	 exit_write},
	{"bare-exit-read", "exit to user space and nothing, load", exit_read},
	{"bare-there-and-back", "bare kick, a thread, bare irqfd",
	 there_and_back},
};

const unsigned cleat_bench_num_rows =
	sizeof(cleat_bench_rows) / sizeof(*cleat_bench_rows);
