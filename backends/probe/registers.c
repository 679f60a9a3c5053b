/* SPDX-License-Identifier: BSD-2-Clause */
/* The registers, as docs/probe.md lists them. */
#include <string.h>

#include "backends/probe/probe.h"

static uint64_t two(uint32_t low, uint32_t high)
{
	return low | (uint64_t)high << 32;
}

static uint32_t status(const struct probe *probe)
{
	const struct probe_registers *regs = &probe->regs;
	uint32_t value = 0;

	if (regs->irq_left)
		value |= PROBE_STATUS_IRQS;
	if (regs->dma_status == PROBE_DMA_BUSY)
		value |= PROBE_STATUS_DMA;
	return value;
}

static uint64_t counter(const struct probe *probe, uint32_t offset)
{
	const struct probe_counters *c = &probe->counters;

	if (offset >= PROBE_VALUE(0))
		return c->values[(offset - PROBE_VALUE(0)) / 8];
	if (offset >= PROBE_MESSAGES(0))
		return c->messages[(offset - PROBE_MESSAGES(0)) / 8];
	if (offset >= PROBE_EVENTS(0))
		return c->events[(offset - PROBE_EVENTS(0)) / 8];
	if (offset < PROBE_MESSAGE_WRITES(0))
		return c->reads[(offset - PROBE_MESSAGE_READS(0)) / 8];
	if (offset < PROBE_WAKEUPS)
		return c->writes[(offset - PROBE_MESSAGE_WRITES(0)) / 8];
	switch (offset) {
	case PROBE_WAKEUPS:
		return c->wakeups;
	case PROBE_SHADOW_KICKS:
		return c->shadow_kicks;
	case PROBE_IRQS_RAISED:
		return c->irqs;
	case PROBE_IRQS_LOST:
		return c->irqs_lost;
	case PROBE_DMA_BYTES:
		return c->dma_bytes;
	case PROBE_RESETS:
		return c->resets;
	case PROBE_CLIENTS:
		return c->clients;
	case PROBE_POLLS:
		return c->polls;
	}
	return 0;
}

static uint64_t dma_register(const struct probe_registers *regs,
			     uint32_t offset)
{
	switch (offset) {
	case PROBE_DMA_SOURCE:
		return regs->dma_source;
	case PROBE_DMA_TARGET:
		return regs->dma_target;
	case PROBE_DMA_LENGTH:
		return two(regs->dma_length, regs->dma_go);
	case PROBE_DMA_STATUS:
		return two(regs->dma_status, regs->dma_sum);
	case PROBE_DMA_PATTERN:
		return two(regs->dma_pattern, regs->dma_way);
	}
	return 0;
}

uint64_t cleat_probe_register(const struct probe *probe, uint32_t offset)
{
	const struct probe_registers *regs = &probe->regs;

	if (offset >= PROBE_MESSAGE_READS(0))
		return offset < PROBE_VALUE(PROBE_DOORBELLS) ?
			       counter(probe, offset) :
			       0;
	switch (offset) {
	case PROBE_ID:
		return two(PROBE_MAGIC, PROBE_VERSION);
	case PROBE_FEATURES:
		return two(probe->options.features,
			   probe->options.msix_vectors);
	case PROBE_SCRATCH:
		return regs->scratch;
	case PROBE_SCRATCH64:
		return regs->scratch64;
	case PROBE_IRQ_RAISE:
		return two(regs->irq_raise, regs->irq_count);
	case PROBE_IRQ_DELAY_US:
		return two(regs->irq_delay_us, 0);
	case PROBE_ECHO:
		return two(regs->echo, status(probe));
	case PROBE_SLOW_US:
		cleat_probe_sleep_us((struct probe *)probe, regs->slow_us);
		return two(regs->slow_us, 0);
	case PROBE_POLL:
		return two(regs->poll, regs->stamp);
	case PROBE_STATE_SUM:
		return two(cleat_probe_state_sum(probe),
			   probe->options.state_mib);
	}
	return dma_register(regs, offset);
}

static void set_low(uint64_t *place, uint32_t value)
{
	*place = (*place & ~(uint64_t)UINT32_MAX) | value;
}

static void set_high(uint64_t *place, uint32_t value)
{
	*place = (*place & UINT32_MAX) | (uint64_t)value << 32;
}

static void set_dma_register(struct probe *probe, uint32_t offset,
			     uint32_t value)
{
	struct probe_registers *regs = &probe->regs;

	switch (offset) {
	case PROBE_DMA_SOURCE:
		set_low(&regs->dma_source, value);
		break;
	case PROBE_DMA_SOURCE + 4:
		set_high(&regs->dma_source, value);
		break;
	case PROBE_DMA_TARGET:
		set_low(&regs->dma_target, value);
		break;
	case PROBE_DMA_TARGET + 4:
		set_high(&regs->dma_target, value);
		break;
	case PROBE_DMA_LENGTH:
		regs->dma_length = value;
		break;
	case PROBE_DMA_GO:
		cleat_probe_start_dma(probe, value);
		break;
	case PROBE_DMA_PATTERN:
		regs->dma_pattern = value;
		break;
	}
}

static void set_irq_register(struct probe *probe, uint32_t offset,
			     uint32_t value)
{
	switch (offset) {
	case PROBE_IRQ_RAISE:
		cleat_probe_start_irqs(probe, value);
		break;
	case PROBE_IRQ_COUNT:
		probe->regs.irq_count = value;
		break;
	case PROBE_IRQ_DELAY_US:
		probe->regs.irq_delay_us = value;
		break;
	case PROBE_IRQ_LOWER:
		cleat_probe_lower(probe);
		break;
	case PROBE_ECHO:
		probe->regs.echo = value;
		break;
	}
}

static void clear_counters(struct probe *probe)
{
	memset(&probe->counters, 0, sizeof(probe->counters));
}

void cleat_probe_set_register(struct probe *probe, uint32_t offset,
			      uint32_t value)
{
	switch (offset) {
	case PROBE_SCRATCH:
		probe->regs.scratch = value;
		break;
	case PROBE_SCRATCH64:
		set_low(&probe->regs.scratch64, value);
		break;
	case PROBE_SCRATCH64 + 4:
		set_high(&probe->regs.scratch64, value);
		break;
	case PROBE_SLOW_US:
		probe->regs.slow_us = value;
		break;
	case PROBE_CLEAR:
		clear_counters(probe);
		break;
	case PROBE_FAULT:
		cleat_probe_fault_now(probe, value);
		break;
	case PROBE_POLL:
		probe->regs.poll = value;
		break;
	case PROBE_STAMP:
		probe->regs.stamp = value;
		probe->regs.stamps = 0;
		break;
	default:
		set_irq_register(probe, offset, value);
		set_dma_register(probe, offset, value);
	}
}

/* The counters stay: a test counts across resets. */
int cleat_probe_reset(void *opaque)
{
	struct probe *probe = opaque;

	cleat_probe_lower(probe);
	memset(&probe->regs, 0, sizeof(probe->regs));
	probe->regs.dma_status = PROBE_DMA_IDLE;
	probe->regs.irq_count = 1;
	probe->counters.resets++;
	return 0;
}
