/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A machine for cleat-nvme, the program: guest memory, interrupts and doorbells
 * by bare messages over a socketpair, and a driver of one I/O queue pair.
 */
#ifndef TESTS_BACKENDS_NVME_HOST_H
#define TESTS_BACKENDS_NVME_HOST_H

#include "backends/nvme/spec.h"
#include "tests/support/support.h"

#define HOST_RAM (4u << 20)
#define HOST_ENTRIES 32u
#define HOST_VECTORS 3
#define HOST_SQ(q) (0x10000u + (q) * 0x10000u)
#define HOST_CQ(q) (0x40000u + (q) * 0x10000u)
#define HOST_DATA 0x100000u
#define HOST_DBBUF 0x80000u
#define HOST_EVENTIDX 0x81000u

struct host {
	const char *doorbells; /* set before host_start() */
	bool by_message;       /* no descriptor for guest memory */
	bool no_dbbuf;	       /* a guest that does not know of it */
	struct child child;
	int fd;
	uint16_t id;
	int ram_fd;
	uint8_t *ram;
	int vectors[HOST_VECTORS];
	/* What the doorbells go through, when not messages */
	uint32_t *page;
	int kicks[2 * HOST_VECTORS];
	bool dbbuf;
	struct {
		uint32_t tail, head;
		unsigned phase;
	} queues[HOST_VECTORS];
	uint16_t cid;
};

/*
 * The program with "--fd" and @extra, a NULL-terminated list; --file and the
 * like are in there. Connected, with memory and MSI-X, but not enabled.
 */
void host_start(struct host *host, const char *const extra[]);
/* Closes what is the host's; the program has been waited for. */
void host_end(struct host *host);
/* SIGTERM, and its exit status. */
int host_stop(struct host *host);

/* One message and its reply, serving DMA meanwhile: 0 or -errno. */
int host_call(struct host *host, uint16_t command, const void *body,
	      size_t length, const int *fds, unsigned n_fds,
	      struct peer_message *reply);
uint32_t host_read32(struct host *host, uint32_t offset);
void host_write32(struct host *host, uint32_t offset, uint32_t value);
void host_config16(struct host *host, uint32_t offset, uint16_t value);
/* Enabled, with queue pair 1. */
void host_enable(struct host *host);

/* Puts a command, and rings. */
void host_put(struct host *host, unsigned q, struct nvme_command cmd);
void host_ring(struct host *host, unsigned q);
void host_ring_head(struct host *host, unsigned q);
void host_submit(struct host *host, unsigned q, struct nvme_command cmd);
/* Whether a completion is there already. */
bool host_done(struct host *host, unsigned q);
/* Waits for the interrupt and takes the completion; take rings no doorbell. */
struct nvme_completion host_take(struct host *host, unsigned q);
struct nvme_completion host_complete(struct host *host, unsigned q);
unsigned host_command(struct host *host, unsigned q, struct nvme_command cmd);
/* Blocks of 512 bytes at HOST_DATA. */
unsigned host_rw(struct host *host, unsigned opcode, uint64_t slba,
		 unsigned blocks);

#endif
