/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A server of this library in a thread of the test's, with a device that
 * records what reaches it, and a client of which every byte is the test's.
 *
 * The device is read and changed only while the server is known to be quiet:
 * after a reply to the last command sent, or before rig_run().
 */
#ifndef TESTS_SERVER_RIG_H
#define TESTS_SERVER_RIG_H

#include <cleat/server.h>

#include "tests/support/support.h"
#include "wire/wire.h"

#define RIG_BAR 0x4000
#define RIG_LOG 64

struct rig {
	struct cleat_server *srv;
	int fd; /* the client's end */
	struct script script;
	bool running;
	uint16_t next_id;

	/* The device. */
	uint8_t bar[RIG_BAR];
	unsigned reads, writes, resets, connected, disconnected;
	uint64_t last_offset;
	size_t last_count;
	int fail_with;
	unsigned mapped, unmapping, irqs_changed;
	uint64_t unmapped_iova;
	/* Called in the server's thread by a write at RIG_ACTION. */
	void (*action)(struct rig *rig);
	int64_t action_result;
	uint8_t scratch[8192];
};

/* A 4-byte write here runs action() from a watch, not from the write. */
#define RIG_ACTION 0x3ff8
/* And here from inside the write. */
#define RIG_ACTION_NOW 0x3ff0

/* A server with BAR 0 of RIG_BAR bytes, INTx, 4 MSI and 8 MSI-X vectors. */
void rig_create(struct rig *rig, const struct cleat_server_config *config);
/* Adopts one end of a socketpair and runs it. */
void rig_run(struct rig *rig);
/* Runs what was adopted already. */
void rig_serve(struct rig *rig);
/* All of the above, and a VERSION. */
void rig_start(struct rig *rig);
/* Stops and destroys; checks that the loop ended well. */
void rig_end(struct rig *rig);

/* Sends VERSION 0.1 with @json, or none; @reply is the test's to end. */
void rig_version(struct rig *rig, const char *json,
		 struct peer_message *reply);
/* A command and its reply. */
void rig_call_fds(struct rig *rig, uint16_t command, const void *body,
		  size_t length, const int *fds, unsigned n_fds,
		  struct peer_message *reply);
/* The same without descriptors, for the error alone: 0 or -errno. */
int rig_call(struct rig *rig, uint16_t command, const void *body,
	     size_t length);
int rig_call_fd(struct rig *rig, uint16_t command, const void *body,
		size_t length, int fd);
int rig_read(struct rig *rig, uint32_t region, uint64_t offset, void *buf,
	     uint32_t count);
int rig_write(struct rig *rig, uint32_t region, uint64_t offset,
	      const void *buf, uint32_t count);
int rig_write32(struct rig *rig, uint64_t offset, uint32_t value);
/* A REGION_WRITE that is not waited for. */
void rig_post32(struct rig *rig, uint64_t offset, uint32_t value,
		uint16_t id);
int rig_map(struct rig *rig, uint64_t iova, uint64_t size, uint32_t flags,
	    int fd, uint64_t offset);
int rig_unmap(struct rig *rig, uint64_t iova, uint64_t size, uint32_t flags);
int rig_set_irqs(struct rig *rig, uint32_t flags, uint32_t index,
		 uint32_t start, uint32_t count, const int *fds,
		 unsigned n_fds);
/* The connection has been ended by the server. */
void rig_expect_end(struct rig *rig);

#endif
