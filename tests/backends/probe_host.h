/* SPDX-License-Identifier: BSD-2-Clause */
/* cleat-probe, the program, with a client that is bare messages. */
#ifndef TESTS_BACKENDS_PROBE_HOST_H
#define TESTS_BACKENDS_PROBE_HOST_H

#include "backends/probe/probe_regs.h"
#include "tests/support/support.h"
#include "wire/wire.h"

struct probe_host {
	struct child child;
	int fd;
	uint16_t id;
};

/* Starts it with "--fd" and @extra, NULL-terminated, and agrees on VERSION. */
void probe_start(struct probe_host *host, const char *const extra[]);
/* SIGTERM; it must end well. */
void probe_stop(struct probe_host *host);

/* A command and its reply: 0 or -errno; @reply may be NULL. */
int probe_call(struct probe_host *host, uint16_t command, const void *body,
	       size_t length, const int *fds, unsigned n_fds,
	       struct peer_message *reply);
/* Must succeed. */
uint64_t probe_read(struct probe_host *host, uint32_t region, uint64_t offset,
		    uint32_t count);
void probe_write(struct probe_host *host, uint32_t region, uint64_t offset,
		 uint32_t count, uint64_t value);
uint64_t probe_reg(struct probe_host *host, uint64_t offset);
void probe_set(struct probe_host *host, uint64_t offset, uint32_t value);
/* An 8-byte counter. */
uint64_t probe_counter(struct probe_host *host, uint64_t offset);
/* Gives eventfds for @count vectors of a type, from 0. */
void probe_arm(struct probe_host *host, uint32_t index, unsigned count,
	       int *fds);
int probe_map(struct probe_host *host, uint64_t iova, uint64_t size, int fd);
/* The descriptors of a region's mapped areas, and their description. */
void probe_region(struct probe_host *host, uint32_t index,
		  struct cleat_wire_region *region,
		  struct peer_message *reply);
unsigned probe_io_fds(struct probe_host *host, uint32_t index,
		      struct cleat_wire_io_fd **entries,
		      struct peer_message *reply);

#endif
