/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest's driver for the controller alone: memory, queues and commands, with
 * the socket left out. Queue pairs have fixed places in the guest's memory.
 */
#ifndef TESTS_BACKENDS_NVME_GUEST_H
#define TESTS_BACKENDS_NVME_GUEST_H

#include "backends/nvme/nvme.h"
#include "backends/nvme/spec.h"
#include "tests/support/support.h"

#define GUEST_RAM (8u << 20)
#define GUEST_QUEUES 4
#define GUEST_DISK (4u << 20)
#define GUEST_ENTRIES 16u

/* Where things are. The first page is not mapped: no device may use it. */
#define GUEST_SQ(q) (0x100000u + (q) * 0x40000u)
#define GUEST_CQ(q) (0x300000u + (q) * 0x20000u)
#define GUEST_DATA 0x500000u
#define GUEST_LIST 0x400000u
#define GUEST_DBBUF 0x80000u
#define GUEST_EVENTIDX 0x81000u

struct guest_queue {
	uint32_t entries;
	uint32_t tail;
	uint32_t head;
	unsigned phase;
};

struct guest {
	/* Set before guest_start(); zero means the plain thing. */
	enum cleat_nvme_doorbells doorbells;
	bool by_message; /* no mapping of guest memory */
	bool read_only;
	uint32_t block_size;

	uint8_t *ram;
	uint32_t *page;
	struct cleat_nvme_disk disk;
	struct cleat_nvme *nvme;
	struct guest_queue queues[GUEST_QUEUES + 1];
	unsigned raised[GUEST_QUEUES + 1];
	unsigned pin_edges;
	bool pin;
	unsigned warnings;
	uint64_t dirty; /* bytes reported */
	/* Runs inside the next copying read or write, as a message would. */
	void (*in_read)(struct guest *guest);
	void (*in_write)(struct guest *guest);
};

void guest_start(struct guest *guest);
void guest_end(struct guest *guest);
/* The same with a disk that the case has opened. */
void guest_start_on(struct guest *guest, struct cleat_nvme_disk disk);

uint32_t guest_read32(struct guest *guest, unsigned offset);
void guest_write32(struct guest *guest, unsigned offset, uint32_t value);
/* Registers of the admin queues, and CC.EN; CSTS is the case's to look at. */
void guest_set_up(struct guest *guest);
void guest_enable(struct guest *guest);
void guest_disable(struct guest *guest);
/* Polls until nothing is left to do. */
void guest_run(struct guest *guest);

/* One pair of I/O queues, id @q, vector @q. */
void guest_create_queues(struct guest *guest, unsigned q, unsigned entries);
/* Enabled, with queue pair 1. */
void guest_start_io(struct guest *guest);

/* Puts a command into the queue without ringing; the ring is apart. */
void guest_put(struct guest *guest, unsigned q,
	       const struct nvme_command *cmd);
void guest_ring(struct guest *guest, unsigned q);
void guest_ring_head(struct guest *guest, unsigned q);
/* Takes the next completion if there is one; rings no doorbell. */
bool guest_take(struct guest *guest, unsigned q, struct nvme_completion *ret);
/* One command to its end. The status is without phase and MORE. */
unsigned guest_command(struct guest *guest, unsigned q,
		       struct nvme_command cmd, uint32_t *result);
unsigned guest_admin(struct guest *guest, struct nvme_command cmd);

struct nvme_command guest_rw(unsigned opcode, uint64_t slba, unsigned blocks);

#define STATUS(completion) (((completion).status >> 1) & ~NVME_STATUS_MORE)

#endif
