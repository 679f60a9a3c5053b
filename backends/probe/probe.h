/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cleat-probe: a device that does what a test tells it to, and counts.
 *
 *	options.c	the command line
 *	device.c	regions, descriptors, configuration space
 *	access.c	what arrives as a message, by region
 *	registers.c	the registers
 *	doorbell.c	what arrives by descriptor or by a mapped page
 *	irq.c		trains of interrupts, echoes
 *	dma.c		the DMA engine
 *	fault.c		going wrong on purpose
 *	migrate.c	moving to another process
 *	stats.c		the counters as JSON
 */
#ifndef BACKENDS_PROBE_PROBE_H
#define BACKENDS_PROBE_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include <cleat/server.h>

#include "backends/probe/probe_regs.h"
#include "backends/program.h"

/* What is wrong with this device, on purpose. */
struct probe_faults {
	bool hang_read, hang_write;
	unsigned slow_ms;
	unsigned error;
	uint64_t die_after, drop_after; /* accesses; 0: never */
};

struct probe_options {
	const char *socket_path;
	int fd;
	const char *stats;
	uint32_t features; /* PROBE_HAS_* */
	unsigned msix_vectors, msi_vectors;
	bool bar_32;
	enum cleat_program_migration migration;
	uint32_t state_mib;
	struct probe_faults faults;
	struct cleat_server_config server;
};

struct probe_counters {
	uint64_t reads[8], writes[8]; /* messages, by region */
	uint64_t wakeups, shadow_kicks, irqs, irqs_lost, dma_bytes;
	uint64_t resets, clients, polls;
	uint64_t events[PROBE_DOORBELLS];
	uint64_t messages[PROBE_DOORBELLS];
	uint64_t values[PROBE_DOORBELLS];
};

/* What a reset clears. */
struct probe_registers {
	uint32_t scratch, io_scratch;
	uint64_t scratch64;
	uint32_t irq_raise, irq_count, irq_delay_us, irq_left;
	uint32_t echo;
	uint32_t slow_us;
	uint64_t dma_source, dma_target;
	uint32_t dma_length, dma_go, dma_status, dma_sum, dma_pattern, dma_way;
	uint32_t poll, stamp, stamps;
};

struct probe {
	struct cleat_server *srv;
	struct cleat_server_pci *pci;
	struct probe_options options;
	struct probe_registers regs;
	struct probe_counters counters;
	uint64_t accesses;
	volatile int stopping; /* set by signals: ends a hang */

	int pages_fd, shadow_fd;
	uint8_t *pages, *shadow;
	int kicks[PROBE_DOORBELLS]; /* eventfds, -1 none */
	int shadow_kick;
	int work, timer; /* for the DMA engine and for trains */
	uint32_t mapped_seen;

	/* Migration: the state that keeps changing, and how much of it a
	 * client has not seen yet. */
	enum cleat_server_phase phase;
	uint8_t *state, *state_dirty;
	uint64_t random;
	int tick;
	uint32_t saved_parts;
	struct probe_incoming *incoming;

	uint8_t buffer[64 * 1024];
};

/* -1: go on; else the exit status. */
int cleat_probe_options(struct probe_options *options, int argc, char **argv);

int cleat_probe_create(struct probe *probe, const struct probe_options *options,
		       struct cleat_error *reterr);
void cleat_probe_destroy(struct probe *probe);

int cleat_probe_region_read(void *opaque, uint32_t index, uint64_t offset,
			    void *buf, size_t count);
int cleat_probe_region_write(void *opaque, uint32_t index, uint64_t offset,
			     const void *buf, size_t count);
int cleat_probe_reset(void *opaque);

/* The 8 bytes at a multiple of 8. */
uint64_t cleat_probe_register(const struct probe *probe, uint32_t offset);
/* 4 bytes at a multiple of 4. */
void cleat_probe_set_register(struct probe *probe, uint32_t offset,
			      uint32_t value);

/* A doorbell's write that came as a message. */
void cleat_probe_doorbell(struct probe *probe, uint64_t offset, uint64_t value,
			  size_t count);
void cleat_probe_io_doorbell(struct probe *probe, uint64_t offset,
			     uint32_t value);
int cleat_probe_add_doorbells(struct probe *probe);
int cleat_probe_poll(void *opaque);

void cleat_probe_raise(struct probe *probe, uint32_t command);
void cleat_probe_start_irqs(struct probe *probe, uint32_t command);
void cleat_probe_lower(struct probe *probe);
/* Doorbell @n of those that echo was rung. */
void cleat_probe_echo(struct probe *probe, unsigned n);
void cleat_probe_arm_timer(struct probe *probe);
void cleat_probe_on_timer(void *opaque, int fd, uint32_t events);

void cleat_probe_start_dma(struct probe *probe, uint32_t command);
void cleat_probe_on_work(void *opaque, int fd, uint32_t events);

/* Before an access by message is served: 0, or the error to give. */
int cleat_probe_fault(struct probe *probe, bool write);
void cleat_probe_fault_now(struct probe *probe, uint32_t what);
void cleat_probe_sleep_us(struct probe *probe, uint32_t us);

int cleat_probe_add_migration(struct probe *probe, struct cleat_error *reterr);
void cleat_probe_end_migration(struct probe *probe);
uint32_t cleat_probe_state_sum(const struct probe *probe);

int cleat_probe_write_stats(const struct probe *probe, int fd);

#endif
