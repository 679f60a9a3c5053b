/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A function on a device that the test plays itself: a server in a thread that
 * keeps config space as plain bytes, operations of a VMM that nobody runs, and
 * one log of what both were asked for, in order.
 */
#ifndef TESTS_PCI_RIG_H
#define TESTS_PCI_RIG_H

#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>

#include <cleat/cleat.h>

#include "tests/support/support.h"

#define RIG_VECTORS 2048
#define RIG_LOG 65536
#define RIG_FUNCTION 0x0118 /* 01:03.0 */

/* An irqfd, and what raises it. */
struct rig_irqfd {
	uint32_t gsi;
	int fd;
	int resample;
};

struct rig_server {
	int fd;
	pthread_t thread;
	unsigned config_length;
	/* Every byte of region i reads as mark + i. */
	uint8_t mark;
	uint8_t config[4096];
	uint64_t bar_length[7];
	uint32_t irq_count[5];
	uint32_t irq_flags[5];
	bool no_reset;
	/* Reads of more than a register are refused. */
	bool words_only;
	/* These commands wait until rig_release(); bit by number. */
	atomic_uint held;
	atomic_uint waiting;
	/* Answered with an error: bit by command. */
	atomic_uint refused;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	int vector_fd[5][RIG_VECTORS];
	int unmask_fd;
};

struct rig {
	struct rig_server server;
	struct cleat_vm_ops ops;
	struct cleat_device *dev;
	/* The time limit of an access; 0: longer than any takes. */
	unsigned access_ms;
	/* Made unless it is there: then it is another rig's. */
	struct cleat_mmio *mmio;
	uint32_t function;
	struct cleat_pci *pci;
	struct cleat_cancel *cancel;

	pthread_mutex_t lock;
	char log[RIG_LOG];
	size_t logged;
	uint32_t next_gsi;
	uint32_t gsis_left;
	bool commit_fails;
	int resample_error;
	/* So many irqfds more are refused. */
	unsigned irqfds_refused;
	struct cleat_msi routes[RIG_VECTORS];
	struct rig_irqfd irqfds[RIG_VECTORS];
	unsigned num_irqfds;
	uint32_t intx_gsi;
	int intx_error;
};

/* A device with BAR 0 (64 bits, 16 KiB), 2 (32 bits, 4 KiB), 3 (32 ports), a
 * ROM, PM, MSI (8 vectors, 64 bits, maskable), MSI-X (8 vectors, table at
 * 0x2000 and PBA at 0x3000 of BAR 0), PCI Express with FLR. */
struct rig *rig_new(void);
/* Offsets of its capabilities. */
#define RIG_PM 0x40
#define RIG_MSI 0x50
#define RIG_MSIX 0x70
#define RIG_EXPRESS 0x80
/* Serve it, open it, and make the function. */
void rig_start(struct rig *rig);
/* Only the device; rig_create() then gives cleat_pci_create()'s result. */
void rig_open(struct rig *rig);
int rig_create(struct rig *rig, struct cleat_error *why);
void rig_end(struct rig *rig);

/* server.c */
void rig_device(struct rig *rig);
void rig_serve(struct rig *rig);
void rig_unserve(struct rig *rig);

/* Add to the log; "; " is put in between. */
void rig_say(struct rig *rig, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* Compare the log with @text, then empty it. */
void rig_expect(struct rig *rig, const char *text);
void rig_forget(struct rig *rig);
bool rig_has_said(struct rig *rig, const char *text);
/* How often @word is in the log. */
unsigned rig_count(struct rig *rig, const char *word);

/* What KVM would do: raise what is waiting in irqfds; says "inject ...". */
void rig_pump(struct rig *rig);
/* The server fires a vector. */
void rig_fire(struct rig *rig, unsigned index, unsigned vector);
/* The guest ends INTx: writes the resample eventfds. */
void rig_end_intx(struct rig *rig);

/* Commands of these numbers wait, until released. */
void rig_hold(struct rig *rig, unsigned command);
void rig_release(struct rig *rig);

uint32_t rig_read(struct rig *rig, unsigned offset, unsigned length);
void rig_write(struct rig *rig, unsigned offset, uint32_t value,
	       unsigned length);
/* The guest's access to memory or ports: the value, or 0xdead0000 for none. */
uint32_t rig_load(struct rig *rig, uint64_t address);
void rig_store(struct rig *rig, uint64_t address, uint32_t value);
uint32_t rig_in(struct rig *rig, uint16_t port);
#define RIG_NOBODY 0xdead0000u

/* BAR 0 at 0xe0000000 and the command register on. */
#define RIG_BAR0 0xe0000000ull
#define RIG_TABLE (RIG_BAR0 + 0x2000)
#define RIG_PBA (RIG_BAR0 + 0x3000)
void rig_enable(struct rig *rig);
/* MSI-X on, and the entry programmed and unmasked. */
void rig_enable_msix(struct rig *rig);
void rig_entry(struct rig *rig, unsigned vector, uint32_t data, bool masked);
void rig_mask(struct rig *rig, unsigned vector, bool masked);

struct cleat_pci_stats rig_stats(struct rig *rig);

#endif
