/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Private to mmio: the dispatch table and what is placed in it.
 *
 * A vCPU thread finds a binding under RCU, counts itself into it, leaves the
 * read section, and only then touches anything of the server's. Who takes a
 * binding away unpublishes it, waits for a grace period, after which nobody can
 * come in, calls back those who wait for the server, and waits until the count
 * is down.
 *
 * The control lock of a table is held over changes of what is published and of
 * slots and ioeventfds, never over a grace period or a wait for a server. A
 * vCPU thread in an access does not take it.
 */
#ifndef MMIO_PRIVATE_H
#define MMIO_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include <cleat/mmio.h>

#include "client/client.h"
#include "mmio/resolve.h"
#include "table/table.h"
#include "wire/wire.h"

#define CLEAT_CACHE_LINE 64

/* What is counted; the frequent ones first, in the cache line of @inside. */
enum cleat_counter {
	CLEAT_COUNT_MAP_READ,
	CLEAT_COUNT_MAP_WRITE,
	CLEAT_COUNT_TRAP_READ,
	CLEAT_COUNT_TRAP_WRITE,
	CLEAT_COUNT_SHADOW_WRITE,
	CLEAT_COUNT_IOEVENTFD_WRITE,
	CLEAT_COUNT_EMULATED_READ,
	CLEAT_COUNT_EMULATED_WRITE,
	CLEAT_COUNT_FAILED,
	CLEAT_COUNT_CALLED_BACK,
	CLEAT_COUNT_COALESCED,
	CLEAT_NUM_COUNTERS,
};

/*
 * Counters of a binding. Most stripes are one thread's alone, which then counts
 * without a locked instruction: that would wait for all stores before it, and
 * so for each cache line that they miss. Threads beyond these share the others.
 */
struct cleat_stripe {
	_Alignas(CLEAT_CACHE_LINE) atomic_uint inside;
	atomic_ushort draining; /* who goes out is waited for */
	bool shared; /* does not change */
	_Atomic uint64_t counts[CLEAT_NUM_COUNTERS];
};

/*
 * Beside a binding's range in the table: where its first bytes are for a thread
 * of ours, so that one who loads or stores there need not look at the binding,
 * which with many regions is far away. Both ends are 0 where there is more to
 * it than that, and once there is: see cleat_binding_divert().
 */
struct cleat_direct {
	uint8_t *host;
	struct cleat_device *dev;
	atomic_uint load_end;
	atomic_uint store_end;
};

_Static_assert(sizeof(struct cleat_direct) == CLEAT_TABLE_ASIDE,
	       "what the table has room for");

/* A binding that is counted into, and what was found with it. */
struct cleat_found {
	struct cleat_binding *binding;
	struct cleat_stripe *stripe;
	uint64_t offset;
	uint8_t *host;
	struct cleat_device *dev;
	unsigned load_end;
	unsigned store_end;
};

/* A file of the server's, or a part of it, in our address space. */
struct cleat_file_map {
	int fd;
	uint64_t start; /* in the file */
	uint64_t length;
	uint8_t *host;
	bool writable;
	bool safe;
	const char *why; /* not mapped, or not safe: a constant string */
};

/* One request of the access path. */
struct cleat_flight {
	struct cleat_call call;
	struct cleat_wire_access asked;
	struct cleat_wire_access reply;
	uint8_t data[8];
	unsigned count;
	struct cleat_flight *next, *prev; /* in the binding, while waited for */
};

/*
 * A part of a region whose writes are posted; @in: and that the VM collects.
 * Sorted, apart from each other, all of it written by message otherwise.
 */
struct cleat_zone {
	uint64_t offset;
	uint64_t length;
	bool in;
};

enum cleat_placement {
	CLEAT_UNPLACED,
	CLEAT_WAITING, /* the address is another's */
	CLEAT_PLACED,
};

enum cleat_slot_state {
	CLEAT_SLOT_OUT,
	CLEAT_SLOT_IN, /* where its binding is */
	CLEAT_SLOT_STUCK, /* the VM did not let it go: where that was before */
};

struct cleat_binding {
	/*
	 * What every access looks at, in one cache line: with many regions,
	 * lines that are not in the cache are all that an access costs.
	 */
	_Alignas(CLEAT_CACHE_LINE) struct cleat_device *dev;
	uint64_t length;
	atomic_bool lost; /* reads ones, swallows writes */
	atomic_bool ordered; /* its device's writes are collected: after them */
	struct cleat_runs runs;

	/* Set by cleat_mmio_bind(). */
	struct cleat_mmio *mmio;
	unsigned region;
	enum cleat_space space;
	uint32_t order;
	uint64_t serial;
	struct cleat_vm_ops ops;
	bool readable;
	bool writable;
	struct cleat_emulated *windows;
	unsigned num_windows;
	struct cleat_io_fds io_fds;
	struct cleat_file_map *maps;
	unsigned num_maps;
	struct cleat_resolve_area *areas;
	unsigned num_areas;
	uint8_t **area_hosts;	/* first byte of each area, or NULL */
	uint8_t **shadow_hosts; /* first byte of each entry, or NULL */
	struct cleat_zone *zones; /* does not change once it was placed */
	unsigned num_zones;

	/* Under the control lock. */
	struct cleat_binding *next, *prev; /* of all */
	struct cleat_binding *next_waiting;
	struct cleat_binding *next_loser;
	enum cleat_placement placement;
	uint64_t address;
	bool seen; /* an access may have found it */
	bool no_memory; /* the last try to publish it failed for that */
	bool gone;	/* taken out for good */
	enum cleat_slot_state *slot_states;
	uint32_t *slots;
	bool *kick_in;

	struct cleat_device_hook hook;
	atomic_uint pins;
	atomic_uint drain_word;

	pthread_mutex_t flights_lock;
	struct cleat_flight *flights;
	bool recalled; /* under flights_lock: no flight may begin */

	_Atomic uint64_t wait_ns[CLEAT_MMIO_BUCKETS];
	_Atomic uint64_t wait_worst_ns;
	struct cleat_stripe stripes[];
};

struct cleat_reserved {
	uint64_t start;
	uint64_t length;
};

struct cleat_mmio_space {
	struct cleat_table *table;
	struct cleat_reserved *reserved;
	size_t num_reserved;
	struct cleat_binding *waiting; /* lowest order first */
};

/* Entries taken at once: what KVM's ring has on a page of 4 KiB. */
#define CLEAT_RING_BATCH 170

/*
 * How collected writes go out: see ring.c. @idle is waited for with @lock,
 * which guards @busy; whoever made that true has @kept to himself.
 */
struct cleat_ring {
	pthread_mutex_t lock;
	pthread_cond_t idle;
	bool busy;
	atomic_bool unfinished;
	atomic_bool there; /* @take can be called */
	unsigned (*take)(void *opaque, struct cleat_coalesced *entries,
			 unsigned num);
	void *opaque;
	unsigned num_kept;
	struct cleat_coalesced kept[CLEAT_RING_BATCH];
};

struct cleat_mmio {
	atomic_uint refs;
	pthread_mutex_t lock;
	struct cleat_mmio_space spaces[2];
	struct cleat_binding *bindings;
	uint64_t next_serial;
	uint64_t last_mend; /* 0: none; see cleat_mmio_mended() */
	struct cleat_ring ring;
};

/* host.c */
/* Natural pieces, each one atomic access; a store is seen after what the thread
 * stored before. */
void cleat_host_load(const uint8_t *from, void *to, unsigned length);
void cleat_host_store(uint8_t *to, const void *from, unsigned length);
/* The largest power of two that fits @length and @offset. */
unsigned cleat_natural(uint64_t offset, unsigned length);

/* files.c */
/*
 * A mapping of [@offset, @offset + @length) of @fd, made or found among those
 * of the binding. NULL: no memory. Otherwise see ->host and ->why, before the
 * next call: it may move.
 */
struct cleat_file_map *cleat_file_map(struct cleat_binding *binding, int fd,
				      uint64_t offset, uint64_t length,
				      bool write);
void cleat_files_unmap(struct cleat_binding *binding);
uint8_t *cleat_file_host(const struct cleat_file_map *map, uint64_t offset);
/* Never unmap the mapping that @host is in. */
void cleat_file_keep(struct cleat_binding *binding, const uint8_t *host);

/* refs.c */
/* The binding at an address, counted into; false if there is none. */
bool cleat_binding_find(struct cleat_mmio *mmio, enum cleat_space space,
			uint64_t address, struct cleat_found *found);
/* The same without the rest; NULL if there is none. */
struct cleat_binding *cleat_binding_get(struct cleat_mmio *mmio,
					enum cleat_space space,
					uint64_t address, uint64_t *ret_offset);
/* Of the thread that found it. */
void cleat_binding_put(struct cleat_binding *binding);
void cleat_stripe_count(struct cleat_stripe *stripe,
			enum cleat_counter counter);
void cleat_stripe_put(struct cleat_stripe *stripe,
		      struct cleat_binding *binding);
/* How many a binding has, and whether one of them is shared. */
unsigned cleat_num_stripes(void);
bool cleat_stripe_is_shared(unsigned number);
void cleat_binding_count(struct cleat_binding *binding,
			 enum cleat_counter counter);
/* Wait until nobody is inside. Unpublished, and a grace period ago. */
void cleat_binding_drain(struct cleat_binding *binding);
/* Memory only. */
void cleat_binding_pin(struct cleat_binding *binding);
void cleat_binding_unpin(struct cleat_binding *binding);

/* mmio.c */
/* 0, or -ERANGE for what is not inside the space. */
int cleat_mmio_check(enum cleat_space space, uint64_t start, uint64_t length);
/* Control lock held. */
bool cleat_mmio_is_reserved(const struct cleat_mmio_space *space,
			    uint64_t start, uint64_t length);

/* place.c: control lock held */
/* Make slots and ioeventfds where the binding is placed, or take them away. */
void cleat_binding_install(struct cleat_binding *binding);
void cleat_binding_uninstall(struct cleat_binding *binding);
/* Take those slots away whose pages the server can take away. */
void cleat_binding_remove_unsafe(struct cleat_binding *binding);
/* Out of the table and of the waiting; true if it had been in the table. */
bool cleat_binding_unpublish(struct cleat_binding *binding);
/*
 * Those who find it look at the binding from now on, whatever the table says
 * beside it: there is something in it that they have to see.
 */
void cleat_binding_divert(struct cleat_binding *binding);
/* Into the list of those who wait for their address. Not in the table. */
void cleat_binding_wait(struct cleat_binding *binding);
/* Place all who wait and can be placed now; true if others had to go. */
bool cleat_mmio_settle(struct cleat_mmio *mmio, enum cleat_space space);

/* flight.c */
/*
 * Send, and wait for, one request of @count bytes at @offset; @data is replaced
 * for reads. Return: 0; -EINTR, with @call->slot still set if it is under way
 * (@park); any other error is the access's failure.
 */
int cleat_flight_go(struct cleat_binding *binding, struct cleat_flight *flight,
		    uint64_t offset, void *data, unsigned count, bool write,
		    bool park);
/* Wait again for one that was parked. */
int cleat_flight_resume(struct cleat_device *dev, struct cleat_flight *flight,
			void *data);
/* Call back all who wait; none may begin to after that. */
void cleat_flights_recall(struct cleat_binding *binding);

/* ring.c */
void cleat_ring_init(struct cleat_ring *ring);
void cleat_ring_end(struct cleat_ring *ring);

/* zones.c */
/* Whether a write there is to be posted. */
bool cleat_binding_is_posted(const struct cleat_binding *binding,
			     uint64_t offset, unsigned length);
/* Control lock held: another binding of its device's is in the ring's order. */
bool cleat_binding_must_order(struct cleat_binding *binding);

/* lost.c */
int cleat_binding_hook(struct cleat_binding *binding);
/* Out of everything, nobody inside. May be called twice. */
void cleat_binding_withdraw(struct cleat_binding *binding);
/* A slot is gone through which a guest may have run into a hole. */
void cleat_mmio_mended(struct cleat_mmio *mmio);

#endif
