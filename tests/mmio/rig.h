/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device of our own server library in a thread of this process, a client
 * device on it, and a VMM that writes down what it is asked for.
 */
#ifndef TESTS_MMIO_RIG_H
#define TESTS_MMIO_RIG_H

#include <cleat/cancel.h>
#include <cleat/device.h>
#include <cleat/mmio.h>
#include <cleat/server.h>
#include <stdatomic.h>

#include "tests/support/support.h"

#define BAR 0x4000u
#define PAGE 0x1000u

/**
 * struct rig - one device
 * @areas, @io, @flags, @length: what region 0 offers; set before rig_open()
 * @access_ms: time limit of accesses, 0 for the default
 * @refuse:    the server answers accesses with this error
 * @hang:      the server does not answer accesses while this is set
 * @hung:      accesses that wait in the server
 * @reads, @writes: accesses that reached the server
 * @last_offset, @last_count: of the last one
 * @offer:     with the next write the server offers @io anew
 * @regs:      what the server serves by message
 */
struct rig {
	struct cleat_server_area areas[2];
	unsigned num_areas;
	struct cleat_server_io_fd io[4];
	unsigned num_io;
	uint32_t flags;
	uint64_t length;
	uint32_t access_ms;

	atomic_int refuse;
	atomic_bool hang;
	atomic_uint hung;
	atomic_uint reads;
	atomic_uint writes;
	atomic_ullong last_offset;
	atomic_uint last_count;
	atomic_bool offer;
	uint8_t regs[BAR];

	struct cleat_server *srv;
	pthread_t thread;
	struct cleat_device *dev;
};

void rig_open(struct rig *rig);
/* In this order; either may be called twice. */
void rig_close_device(struct rig *rig);
void rig_close(struct rig *rig);
/* The server goes as if it had been killed. */
void rig_kill_server(struct rig *rig);
/* Messages on the socket so far. */
uint64_t rig_messages(struct rig *rig);

/* Region 0, memory. @vm may be NULL. */
struct vm;
struct cleat_binding *rig_bind(struct rig *rig, struct cleat_mmio *mmio,
			       struct vm *vm, uint32_t order);

/**
 * struct vm - a VMM that makes nothing and writes down everything
 * @mmio:   then each line also says whether the address was published
 * @text:   one word for each call: "+slot:ADDRESS:LENGTH", "-slot:ADDRESS",
 *          "+kick:ADDRESS:LENGTH[=VALUE]", "-kick:...", an "r" after "+slot" for
 *          a read-only one, a "!" at the end if the address was not published
 * @refuse: what every call is answered with that adds something
 * @keep:   what slot_remove is answered with
 * @host:   behind the last slot
 */
struct vm {
	struct cleat_vm_ops ops;
	struct cleat_mmio *mmio;
	pthread_mutex_t lock; /* of the text */
	char text[4096];
	int refuse;
	int keep;
	void *host;
	uint64_t slots[64];
	unsigned num_slots;
};

void vm_init(struct vm *vm, struct cleat_mmio *mmio);
/* What was asked for since the last call. */
const char *vm_said(struct vm *vm);

/* Accesses; all ones where nobody is. */
uint64_t load(struct cleat_mmio *mmio, uint64_t address, unsigned length);
void store(struct cleat_mmio *mmio, uint64_t address, uint64_t value,
	   unsigned length);
/* Whether anybody is there; the device need not answer. */
bool is_there(struct cleat_mmio *mmio, enum cleat_space space,
	      uint64_t address);

/* An access in a thread of its own, under a cancel handle. */
struct vcpu {
	struct cleat_mmio *mmio;
	struct cleat_cancel *cancel;
	uint64_t address;
	uint64_t value;
	unsigned length;
	bool write;
	int result;
	pthread_t thread;
};

void vcpu_start(struct vcpu *vcpu);
int vcpu_join(struct vcpu *vcpu);

#endif
