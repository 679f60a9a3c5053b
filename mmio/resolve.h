/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The resolver: from what a server offers for a region to the runs that cover
 * it. A pure function of its input; everything that has to be asked of the
 * kernel (what a file is, whether it could be mapped) has been asked before.
 */
#ifndef MMIO_RESOLVE_H
#define MMIO_RESOLVE_H

#include <cleat/mmio.h>

#include "client/client.h"

/**
 * struct cleat_resolve_area - a mappable area
 * @offset:    in the region; areas are in order and do not overlap
 * @length:    bytes
 * @fd:        the file
 * @fd_offset: where in it
 * @mapped:    this process has it mapped
 * @writable:  and may write
 * @safe:      its pages cannot go away: a thread of ours may touch them
 * @why:       why it is not @mapped, or not @safe; a constant string
 */
struct cleat_resolve_area {
	uint64_t offset;
	uint64_t length;
	int fd;
	uint64_t fd_offset;
	bool mapped;
	bool writable;
	bool safe;
	const char *why;
};

/* An IO descriptor; @safe and @why are of the shadow's file, as above. */
struct cleat_resolve_io {
	struct cleat_io_fd io;
	bool safe;
	const char *why;
};

/* A part that is served in this process; in order, no overlap. */
struct cleat_resolve_window {
	uint64_t offset;
	uint64_t length;
};

struct cleat_resolve_input {
	uint64_t length;
	uint64_t page;
	bool readable;
	bool writable;
	bool ports;
	bool slots; /* there is somebody who makes memory slots */
	const struct cleat_resolve_area *areas;
	unsigned num_areas;
	const struct cleat_resolve_io *io;
	unsigned num_io;
	const struct cleat_resolve_window *windows;
	unsigned num_windows;
};

/**
 * struct cleat_run - a segment, as this room knows it
 * @start:     where it begins in the region, as @seg.offset
 * @load_end:  loads go on in the same way up to here, over the ends of runs
 * @store_end: likewise
 * @load:      how the vCPU thread itself loads: TRAP, MAP or EMULATED
 * @store:     how it stores what matches no kick: the same, or SHADOW
 * @host:      its first byte, with @area; not the resolver's to fill in
 * @shadow_host: likewise, with @shadow
 * @seg:       what users see; its kicks and fd are filled in
 * @slot:      number of the memory slot that it is to be in, or -1
 * @area:      number of the area behind MAP, or -1
 * @shadow:    number of the IO descriptor behind SHADOW, or -1
 * @window:    number of the window behind EMULATED, or -1
 * @wanted:    one for each kick: KVM can have it. Where it cannot, because KVM
 *             takes no two that match the same write, the vCPU thread kicks.
 */
struct cleat_run {
	/* What an access looks at first, together in a cache line. */
	uint64_t start;
	uint64_t load_end;
	uint64_t store_end;
	enum cleat_way load;
	enum cleat_way store;
	uint8_t *host;
	uint8_t *shadow_host;
	const bool *wanted;

	struct cleat_segment seg;
	int slot;
	int area;
	int shadow;
	int window;
};

/* A memory slot to make: whole pages of one area. */
struct cleat_run_slot {
	uint64_t offset;
	uint64_t length;
	unsigned area;
	bool writable;
};

struct cleat_runs {
	unsigned num;
	struct cleat_run *runs;
	unsigned num_slots;
	struct cleat_run_slot *slots;
	struct cleat_kick *kicks;
	bool *wanted;
};

/*
 * The ladder: a mapped page with a memory slot, an ioeventfd, a mapped area
 * without a slot (the vCPU thread loads and stores), a shadow doorbell, a
 * message. What is served in this process goes before all of it, and takes the
 * slot from the pages it touches.
 *
 * Of several ioeventfds at one address the narrowest one that matches is
 * kicked: one with a value before one with a length before one without. KVM
 * takes the narrow ones; a wide one that KVM would refuse next to them (it
 * never has two for one write) is kicked by the vCPU thread, so that none is
 * lost. A wide one with the same eventfd as a narrow one replaces it, which
 * makes ioeventfds without length, the fastest, of most.
 *
 * Return: 0 or -ENOMEM. The runs are in order and cover the region exactly.
 */
int cleat_resolve(const struct cleat_resolve_input *input,
		  struct cleat_runs *ret_runs);
void cleat_runs_free(struct cleat_runs *runs);

/* The run that holds @offset, which is inside the region. */
struct cleat_run *cleat_runs_find(const struct cleat_runs *runs,
				  uint64_t offset);

#endif
