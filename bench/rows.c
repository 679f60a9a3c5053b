/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The rows without the library: what the same accesses cost with nothing in
 * between. Their doorbells are the device's own descriptors, so that the same
 * server is woken.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "backends/probe/probe_regs.h"
#include "bench/measure.h"

#define BATCH 1000

static int ram(struct bench *bench, enum guest_op_kind kind,
	       struct bench_result *ret)
{
	struct guest_op op = {
		.kind = kind,
		.size = 4,
		.address = bench->ram,
	};

	return cleat_bench_measure(bench, op, ret);
}

static int ram_write(struct bench *bench, struct bench_result *ret)
{
	return ram(bench, GUEST_STORE, ret);
}

static int ram_read(struct bench *bench, struct bench_result *ret)
{
	return ram(bench, GUEST_LOAD, ret);
}

static int exits(struct bench *bench, enum guest_op_kind kind,
		 struct bench_result *ret)
{
	struct guest_op op = {
		.kind = kind,
		.size = 4,
		.address = BENCH_WINDOW,
	};

	return cleat_bench_measure(bench, op, ret);
}

static int exit_write(struct bench *bench, struct bench_result *ret)
{
	return exits(bench, GUEST_STORE, ret);
}

static int exit_read(struct bench *bench, struct bench_result *ret)
{
	return exits(bench, GUEST_LOAD, ret);
}

/* --- Kicks --------------------------------------------------------------- */

static const struct cleat_io_fd *find(struct bench *bench, uint64_t offset)
{
	for (unsigned i = 0; i < bench->kicks.num; i++)
		if (bench->kicks.entries[i].offset == offset)
			return &bench->kicks.entries[i];
	return NULL;
}

static int ioeventfd(struct bench *bench, struct kvm_ioeventfd kick,
		     bool remove)
{
	if (remove)
		kick.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
	return ioctl(cleat_guest_vm(bench->guest), KVM_IOEVENTFD, &kick)
		       ? -errno
		       : 0;
}

static int measure_kick(struct bench *bench, struct kvm_ioeventfd kick,
			struct guest_op op, struct bench_result *ret)
{
	int err = ioeventfd(bench, kick, false);

	if (err)
		return err;
	err = cleat_bench_measure(bench, op, ret);
	ioeventfd(bench, kick, true);
	return err;
}

/* A doorbell of the device's, wired by hand. */
static int kick_of(struct bench *bench, uint64_t offset, unsigned doorbell,
		   struct bench_result *ret)
{
	const struct cleat_io_fd *io = find(bench, offset);
	struct kvm_ioeventfd kick = { .addr = BENCH_WINDOW };
	struct guest_op op = {
		.kind = GUEST_STORE,
		.size = 4,
		.address = BENCH_WINDOW,
	};

	if (!io)
		return -EOPNOTSUPP;
	kick.fd = io->fd;
	kick.len = (uint32_t)io->length;
	if (io->match) {
		kick.flags = KVM_IOEVENTFD_FLAG_DATAMATCH;
		kick.datamatch = io->datamatch;
		op.value = io->datamatch;
	}
	cleat_bench_count_events(bench, PROBE_EVENTS(doorbell));
	return measure_kick(bench, kick, op, ret);
}

static int kick(struct bench *bench, struct bench_result *ret)
{
	return kick_of(bench, PROBE_AT_4, PROBE_DB_4, ret);
}

static int kick_any(struct bench *bench, struct bench_result *ret)
{
	return kick_of(bench, PROBE_AT_ANY, PROBE_DB_ANY, ret);
}

static int kick_match(struct bench *bench, struct bench_result *ret)
{
	return kick_of(bench, PROBE_AT_MATCH, PROBE_DB_MATCH(0), ret);
}

/* --- There and back ------------------------------------------------------ */

static int64_t count_interrupts(void *opaque)
{
	return (int64_t)cleat_guest_interrupts(opaque, BENCH_BARE_VECTOR);
}

static int irqfd(struct bench *bench, uint32_t flags)
{
	struct kvm_irqfd irqfd = {
		.fd = (uint32_t)bench->echo.irq,
		.gsi = BENCH_BARE_GSI,
		.flags = flags,
	};

	return ioctl(cleat_guest_vm(bench->guest), KVM_IRQFD, &irqfd) ? -errno
								      : 0;
}

static int echo_stamps(struct bench *bench, uint64_t *ret)
{
	memcpy(ret, bench->echo.shared->stamps,
	       sizeof(bench->echo.shared->stamps));
	return 0;
}

static int with_echo(struct bench *bench, bool stamped,
		     struct bench_result *ret)
{
	struct kvm_ioeventfd kick = {
		.addr = BENCH_WINDOW,
		.len = 4,
		.fd = bench->echo.kick,
	};
	struct guest_op op = {
		.kind = GUEST_STORE,
		.size = 4,
		.address = BENCH_WINDOW,
		.wait_at = cleat_guest_counter(BENCH_BARE_VECTOR),
	};
	int err = irqfd(bench, 0);

	if (err)
		return err;
	err = ioeventfd(bench, kick, false);
	bench->events = count_interrupts;
	bench->opaque = bench->guest;
	bench->echo.shared->nr = 0;
	if (!err && stamped)
		err = cleat_bench_interrupt(bench, op, echo_stamps, ret);
	else if (!err)
		err = cleat_bench_measure(bench, op, ret);
	ioeventfd(bench, kick, true);
	irqfd(bench, KVM_IRQFD_FLAG_DEASSIGN);
	return err;
}

static int there_and_back(struct bench *bench, struct bench_result *ret)
{
	return with_echo(bench, false, ret);
}

static int interrupt(struct bench *bench, struct bench_result *ret)
{
	return with_echo(bench, true, ret);
}

const struct bench_row cleat_bench_bare_rows[] = {
	{ "ram-write", "guest memory, store", ram_write, .batch = BATCH },
	{ "ram-read", "guest memory, load", ram_read, .batch = BATCH },
	{ "bare-kick", "bare KVM_IOEVENTFD of 4 bytes", kick,
	  .colour = "#67a9cf", .dashed = true },
	{ "bare-kick-any", "bare KVM_IOEVENTFD of any length", kick_any },
	{ "bare-kick-match", "bare KVM_IOEVENTFD with datamatch", kick_match },
	{ "bare-exit-write", "exit to user space and nothing, store",
	  exit_write, .colour = "#999", .dashed = true },
	{ "bare-exit-read", "exit to user space and nothing, load", exit_read },
	{ "bare-interrupt", "bare irqfd, from another process", interrupt },
	{ "bare-there-and-back", "bare kick, another process, bare irqfd",
	  there_and_back },
};

const unsigned cleat_bench_num_bare_rows =
	sizeof(cleat_bench_bare_rows) / sizeof(*cleat_bench_bare_rows);
