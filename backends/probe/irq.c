/* SPDX-License-Identifier: BSD-2-Clause */
/* Interrupts on command: one, or a train of them by the timer. */
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "backends/probe/probe.h"

#define TYPE_SHIFT 16
#define VECTOR_BITS 0xffffu

static int raise_by(struct probe *probe, uint32_t type, uint32_t vector)
{
	switch (type) {
	case PROBE_IRQ_INTX >> TYPE_SHIFT:
		return cleat_server_irq_raise(probe->srv, CLEAT_IRQ_INTX,
					      vector);
	case PROBE_IRQ_MSI >> TYPE_SHIFT:
		return cleat_server_irq_raise(probe->srv, CLEAT_IRQ_MSI,
					      vector);
	case PROBE_IRQ_MSIX >> TYPE_SHIFT:
		return cleat_server_irq_raise(probe->srv, CLEAT_IRQ_MSIX,
					      vector);
	}
	return cleat_server_pci_raise(probe->pci, vector);
}

/* The processor's counter where there is one: a guest has the same. */
static uint64_t clock_now(void)
{
#ifdef __x86_64__
	return __builtin_ia32_rdtsc();
#else
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
#endif
}

static void stamp(struct probe *probe)
{
	uint64_t *stamps = (uint64_t *)(probe->pages + PROBE_STAMPS);
	uint32_t n = probe->regs.stamps++ % PROBE_STAMPS_MAX;

	__atomic_store_n(&stamps[n], clock_now(), __ATOMIC_RELAXED);
}

void cleat_probe_raise(struct probe *probe, uint32_t command)
{
	if (probe->regs.stamp)
		stamp(probe);
	if (raise_by(probe, command >> TYPE_SHIFT & 3, command & VECTOR_BITS))
		probe->counters.irqs_lost++;
	else
		probe->counters.irqs++;
}

void cleat_probe_lower(struct probe *probe)
{
	cleat_server_pci_lower(probe->pci);
}

void cleat_probe_echo(struct probe *probe, unsigned n)
{
	if (probe->regs.echo & PROBE_ECHO_ON)
		cleat_probe_raise(probe, (probe->regs.echo & VECTOR_BITS) + n);
}

void cleat_probe_arm_timer(struct probe *probe)
{
	uint32_t us = probe->regs.irq_delay_us;
	struct itimerspec when = {
		.it_value = { us / 1000000, us % 1000000 * 1000L },
	};

	/* All zero would disarm it. */
	if (!us)
		when.it_value.tv_nsec = 1;
	timerfd_settime(probe->timer, 0, &when, NULL);
}

void cleat_probe_on_timer(void *opaque, int fd, uint32_t events)
{
	struct probe *probe = opaque;
	uint64_t expired;

	if (read(fd, &expired, sizeof(expired)) != sizeof(expired) ||
	    !probe->regs.irq_left)
		return;
	probe->regs.irq_left--;
	cleat_probe_raise(probe, probe->regs.irq_raise);
	if (probe->regs.irq_left)
		cleat_probe_arm_timer(probe);
}

/* A single one without delay is on its way before the write is answered. */
void cleat_probe_start_irqs(struct probe *probe, uint32_t command)
{
	struct probe_registers *regs = &probe->regs;

	regs->irq_raise = command;
	if (regs->irq_count == 1 && !regs->irq_delay_us) {
		cleat_probe_raise(probe, command);
		return;
	}
	regs->irq_left = regs->irq_count;
	if (regs->irq_left)
		cleat_probe_arm_timer(probe);
}
