/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bench/guest-private.h"

/* --- Programs ----------------------------------------------------------- */

static unsigned log2_of(unsigned size)
{
	bool is_power = size && !(size & (size - 1));

	return is_power && size <= 8 ? (unsigned)__builtin_ctz(size) : 4;
}

/* The number of the guest's routine, or 0 if there is none. */
static unsigned code_of(const struct guest_op *op)
{
	unsigned size = log2_of(op->size);

	switch (op->kind) {
	case GUEST_STORE:
		return size < 4 ? GUEST_CODE_STORE + size : 0;
	case GUEST_LOAD:
		return size < 4 ? GUEST_CODE_LOAD + size : 0;
	case GUEST_OUT:
		return size < 3 ? GUEST_CODE_OUT + size : 0;
	case GUEST_IN:
		return size < 3 ? GUEST_CODE_IN + size : 0;
	case GUEST_WAIT:
		return GUEST_CODE_WAIT;
	}
	return 0;
}

static struct guest_code_op *program_of(struct guest *guest, unsigned cpu)
{
	return cleat_guest_ram(guest, GUEST_CPU_AREA + GUEST_PROGRAM +
					      (uint64_t)cpu * GUEST_CPU_STRIDE);
}

static int write_program(struct guest *guest, unsigned cpu,
			 const struct guest_op *ops, unsigned nr)
{
	struct guest_code_op *program = program_of(guest, cpu);

	if (cpu >= guest->nr_cpus || nr > GUEST_OPS_MAX)
		return -EINVAL;
	memset(program, 0, (nr + 1) * sizeof(*program));
	for (unsigned i = 0; i < nr; i++) {
		program[i] = (struct guest_code_op){
			.code = (uint16_t)code_of(&ops[i]),
			.stamp = ops[i].stamp,
			.batch = ops[i].batch,
			.address = ops[i].address,
			.value = ops[i].value,
			.step = ops[i].step,
			.count = ops[i].count,
			.wait_at = ops[i].wait_at,
			.record = ops[i].record,
		};
		if (!program[i].code)
			return -EINVAL;
	}
	return 0;
}

static void read_results(struct guest *guest, unsigned cpu,
			 struct guest_op *ops, unsigned nr)
{
	const struct guest_code_op *program = program_of(guest, cpu);

	for (unsigned i = 0; i < nr; i++)
		ops[i].result = program[i].result;
}

/* --- The way out of a guest that does not end --------------------------- */

#define KICK_SIGNAL SIGUSR2

static __thread volatile sig_atomic_t *kick_flag;
static __thread struct kvm_run *kick_run;

static void kick_handler(int signal)
{
	if (kick_flag) {
		*kick_flag = 1;
		kick_run->immediate_exit = 1;
	}
}

static int kick_arm(timer_t *ret_timer, unsigned ms)
{
	struct sigaction action = {.sa_handler = kick_handler};
	struct sigevent event = {
		.sigev_notify = SIGEV_THREAD_ID,
		.sigev_signo = KICK_SIGNAL,
	};
	struct itimerspec time = {
		.it_value = {ms / 1000, (long)(ms % 1000) * 1000000},
	};

	event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	sigaction(KICK_SIGNAL, &action, NULL);
	if (timer_create(CLOCK_MONOTONIC, &event, ret_timer))
		return -errno;
	timer_settime(*ret_timer, 0, &time, NULL);
	return 0;
}

/* --- Exits -------------------------------------------------------------- */

static int hand_over(struct guest_cpu *cpu, unsigned number,
		     const struct guest_hooks *hooks,
		     const struct guest_access *access)
{
	int err = 0;

	if (hooks && hooks->access) {
		do {
			err = hooks->access(hooks->opaque, number, access);
		} while (err == -EINTR);
	} else if (!access->write) {
		memset(access->data, 0xff, access->length);
	}
	return err;
}

static int exit_mmio(struct guest_cpu *cpu, unsigned number,
		     const struct guest_hooks *hooks)
{
	struct guest_access access = {
		.write = cpu->run->mmio.is_write,
		.address = cpu->run->mmio.phys_addr,
		.length = cpu->run->mmio.len,
		.data = cpu->run->mmio.data,
	};

	if (access.write)
		cpu->returns.writes++;
	else
		cpu->returns.reads++;
	return hand_over(cpu, number, hooks, &access);
}

/* Return: 0 to run on, 1 at the program's end, or -errno. */
static int exit_io(struct guest_cpu *cpu, unsigned number,
		   const struct guest_hooks *hooks)
{
	struct kvm_run *run = cpu->run;
	struct guest_access access = {
		.ports = true,
		.write = run->io.direction == KVM_EXIT_IO_OUT,
		.address = run->io.port,
		.length = run->io.size,
		.data = (uint8_t *)run + run->io.data_offset,
	};

	if (access.write && run->io.port == GUEST_PORT_DONE) {
		cpu->returns.done++;
		return 1;
	}
	if (access.write && run->io.port == GUEST_PORT_EXCEPTION) {
		struct kvm_regs regs = {0};

		ioctl(cpu->fd, KVM_GET_REGS, &regs);
		fprintf(stderr,
			"guest: exception %llu, stack %#llx %#llx, "
			"cr2 %#llx\n",
			regs.rax, regs.rdx, regs.rsi, regs.rcx);
		return -EIO;
	}
	if (access.write)
		cpu->returns.outs++;
	else
		cpu->returns.ins++;
	return hand_over(cpu, number, hooks, &access);
}

static int exit_error(struct guest_cpu *cpu, unsigned number,
		      const struct guest_hooks *hooks, int error)
{
	if (error == EINTR) {
		cpu->returns.interrupted++;
		return 0;
	}
	if (error == EFAULT) {
		cpu->returns.faults++;
		if (hooks && hooks->fault)
			return hooks->fault(hooks->opaque, number);
	}
	return -error;
}

/* The guest ended a level interrupt of a user-space IOAPIC's. */
static int exit_eoi(struct guest_cpu *cpu, unsigned number,
		    const struct guest_hooks *hooks)
{
	cpu->returns.other++;
	if (hooks && hooks->eoi)
		hooks->eoi(hooks->opaque, number, cpu->run->eoi.vector);
	return 0;
}

static int exit_other(struct guest_cpu *cpu)
{
	struct kvm_regs regs = {0};

	cpu->returns.other++;
	ioctl(cpu->fd, KVM_GET_REGS, &regs);
	fprintf(stderr, "guest: KVM exit %u (%u) at %#llx\n",
		cpu->run->exit_reason, cpu->run->internal.suberror, regs.rip);
	return -EIO;
}

static int run_once(struct guest_cpu *cpu, unsigned number,
		    const struct guest_hooks *hooks)
{
	if (ioctl(cpu->fd, KVM_RUN, 0))
		return exit_error(cpu, number, hooks, errno);
	switch (cpu->run->exit_reason) {
	case KVM_EXIT_MMIO:
		return exit_mmio(cpu, number, hooks);
	case KVM_EXIT_IO:
		return exit_io(cpu, number, hooks);
	case KVM_EXIT_IOAPIC_EOI:
		return exit_eoi(cpu, number, hooks);
	default:
		return exit_other(cpu);
	}
}

/* What a guest that does not end is at: its registers, and how often it came
 * back since @before. */
static void tell_late(struct guest_cpu *cpu, const struct guest_returns *before)
{
	const struct guest_returns *now = &cpu->returns;
	struct kvm_regs regs = {0};

	ioctl(cpu->fd, KVM_GET_REGS, &regs);
	fprintf(stderr,
		"guest: late at %#llx, last exit %u; since it was started "
		"%llu reads, %llu writes, %llu faults, %llu interrupted\n",
		regs.rip, cpu->run->exit_reason,
		(unsigned long long)(now->reads - before->reads),
		(unsigned long long)(now->writes - before->writes),
		(unsigned long long)(now->faults - before->faults),
		(unsigned long long)(now->interrupted - before->interrupted));
}

int cleat_guest_run(struct guest *guest, unsigned cpu, struct guest_op *ops,
		    unsigned nr, const struct guest_hooks *hooks, unsigned ms)
{
	struct guest_returns before;
	volatile sig_atomic_t kicked = 0;
	timer_t timer;
	int err = write_program(guest, cpu, ops, nr);

	if (err)
		return err;
	before = guest->cpus[cpu].returns;
	kick_run = guest->cpus[cpu].run;
	kick_run->immediate_exit = 0;
	kick_flag = &kicked;
	err = kick_arm(&timer, ms);
	if (!err) {
		do {
			err = run_once(&guest->cpus[cpu], cpu, hooks);
		} while (!err && !kicked);
		timer_delete(timer);
	}
	kick_flag = NULL;
	read_results(guest, cpu, ops, nr);
	if (err == 1)
		return 0;
	if (!err)
		tell_late(&guest->cpus[cpu], &before);
	return err ? err : -ETIMEDOUT;
}

static void *run_job(void *arg)
{
	struct guest_job *job = arg;

	job->result = cleat_guest_run(job->guest, job->cpu, job->ops, job->nr,
				      job->hooks, job->ms);
	return NULL;
}

int cleat_guest_start(struct guest *guest, unsigned cpu, struct guest_op *ops,
		      unsigned nr, const struct guest_hooks *hooks, unsigned ms)
{
	struct guest_job *job;

	if (cpu >= guest->nr_cpus)
		return -EINVAL;
	job = &guest->cpus[cpu].job;
	*job = (struct guest_job){
		.guest = guest,
		.cpu = cpu,
		.ops = ops,
		.nr = nr,
		.hooks = hooks,
		.ms = ms,
	};
	return -pthread_create(&job->thread, NULL, run_job, job);
}

int cleat_guest_wait(struct guest *guest, unsigned cpu)
{
	struct guest_job *job = &guest->cpus[cpu].job;

	pthread_join(job->thread, NULL);
	return job->result;
}

int cleat_guest_inject(struct guest *guest, unsigned cpu, unsigned vector)
{
	struct kvm_interrupt interrupt = {.irq = vector};

	return ioctl(guest->cpus[cpu].fd, KVM_INTERRUPT, &interrupt) ? -errno
								     : 0;
}

/* --- Counts ------------------------------------------------------------- */

void cleat_guest_returns(struct guest *guest, unsigned cpu,
			 struct guest_returns *ret)
{
	*ret = guest->cpus[cpu].returns;
}

uint64_t cleat_guest_returned(struct guest *guest, unsigned cpu)
{
	const struct guest_returns *returns = &guest->cpus[cpu].returns;

	return returns->reads + returns->writes + returns->ins + returns->outs +
	       returns->faults + returns->interrupted + returns->other;
}

static void read_stat(int fd, const struct kvm_stats_header *header,
		      const struct kvm_stats_desc *desc,
		      struct guest_stats *ret)
{
	const struct {
		const char *name;
		int64_t *value;
	} wanted[] = {
		{"exits", &ret->exits},
		{"mmio_exits", &ret->mmio_exits},
		{"io_exits", &ret->io_exits},
		{"irq_injections", &ret->irq_injections},
	};

	for (unsigned i = 0; i < sizeof(wanted) / sizeof(*wanted); i++)
		if (!strncmp(desc->name, wanted[i].name, header->name_size) &&
		    pread(fd, wanted[i].value, sizeof(int64_t),
			  header->data_offset + desc->offset) < 0)
			*wanted[i].value = -1;
}

int cleat_guest_stats(struct guest *guest, unsigned cpu,
		      struct guest_stats *ret)
{
	int fd = guest->cpus[cpu].stats_fd;
	struct kvm_stats_header header;
	struct kvm_stats_desc *desc;
	size_t size;

	*ret = (struct guest_stats){-1, -1, -1, -1};
	if (fd < 0)
		return -EOPNOTSUPP;
	if (pread(fd, &header, sizeof(header), 0) != sizeof(header))
		return -EIO;
	size = sizeof(*desc) + header.name_size;
	desc = malloc(size);
	if (!desc)
		return -ENOMEM;
	for (uint32_t i = 0; i < header.num_desc; i++)
		if (pread(fd, desc, size,
			  header.desc_offset + (off_t)(i * size)) ==
		    (ssize_t)size)
			read_stat(fd, &header, desc, ret);
	free(desc);
	return 0;
}
