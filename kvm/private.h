/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Inside the room kvm. What takes part in what:
 *
 * @lock guards slot numbers and the two lists, for as long as it takes to
 * look at them; no ioctl is done under it. @routes_lock guards the routes and
 * is held while the table is written, so that an older table cannot overwrite a
 * newer one.
 */
#ifndef KVM_PRIVATE_H
#define KVM_PRIVATE_H

#include <linux/kvm.h>
#include <pthread.h>

#include <cleat/kvm.h>

#include "wire/wire.h"

#define CLEAT_KVM_BUCKETS 64

/* One GSI of the library's, as KVM has it and as it is to be. */
struct cleat_kvm_route {
	bool used;
	bool is_wanted;
	bool is_live;
	struct cleat_msi wanted;
	struct cleat_msi live;
};

struct cleat_kvm_irqfd {
	struct cleat_kvm_irqfd *next;
	uint32_t gsi;
	int fd;
};

struct cleat_kvm_kick {
	struct cleat_kvm_kick *next;
	struct cleat_ioeventfd kick;
};

struct cleat_kvm_zone {
	struct cleat_kvm_zone *next;
	enum cleat_space space;
	uint64_t address;
	uint64_t length;
};

/*
 * @offset: of the ring's page in a vCPU's descriptor, in pages; 0: there is none
 * @room:   entries of the page, one of which stays free
 * @lock:   one thread takes entries out at a time
 */
struct cleat_kvm_ring {
	unsigned offset;
	bool ports;
	unsigned room;
	size_t size;
	pthread_mutex_t lock;
	struct kvm_coalesced_mmio_ring *page;
	struct cleat_kvm_zone *zones; /* under the other lock */
};

struct cleat_kvm {
	int vm_fd;
	struct cleat_kvm_config config;
	struct cleat_vm_ops ops;
	bool any_length;
	bool readonly_slots;
	bool resample;

	pthread_mutex_t lock;
	bool *slots;
	uint32_t next_slot;
	struct cleat_kvm_kick *kicks;
	struct cleat_kvm_irqfd *irqfds[CLEAT_KVM_BUCKETS];

	struct cleat_kvm_ring ring;

	pthread_mutex_t routes_lock;
	pthread_key_t depth;
	bool changed;
	uint32_t next_gsi;
	uint32_t free_gsis;
	struct cleat_kvm_route *routes;
	struct kvm_irq_routing *base;
	struct kvm_irq_routing *table;
};

/* ioctl() on the VM; -errno on failure. */
int cleat_kvm_ioctl(struct cleat_kvm *kvm, unsigned long request, void *arg);
/* The capability's value, 0 without it. */
unsigned cleat_kvm_extension(struct cleat_kvm *kvm, unsigned capability);

/*
 * Each: what of the configuration is impossible is an error, what the kernel
 * lacks leaves its operations out. The _end functions take away what is left
 * and cope with a room that was never set up.
 */
int cleat_kvm_slots_init(struct cleat_kvm *kvm, struct cleat_error *reterr);
void cleat_kvm_slots_end(struct cleat_kvm *kvm);
int cleat_kvm_kicks_init(struct cleat_kvm *kvm, struct cleat_error *reterr);
void cleat_kvm_kicks_end(struct cleat_kvm *kvm);
int cleat_kvm_routes_init(struct cleat_kvm *kvm, struct cleat_error *reterr);
void cleat_kvm_routes_end(struct cleat_kvm *kvm);
int cleat_kvm_irqs_init(struct cleat_kvm *kvm, struct cleat_error *reterr);
void cleat_kvm_irqs_end(struct cleat_kvm *kvm);

void cleat_kvm_ring_init(struct cleat_kvm *kvm);
void cleat_kvm_ring_end(struct cleat_kvm *kvm);
/*
 * Up to @num entries of a ring of @room places; with @num 0 how many there are.
 * One of an impossible length is passed over; indices that are none: nothing,
 * for ever, and KVM lets every write exit then.
 */
unsigned cleat_kvm_ring_take(struct kvm_coalesced_mmio_ring *ring,
			     unsigned room, struct cleat_coalesced *entries,
			     unsigned num);

/*
 * Before an irqfd is added: let its route be in effect. 0 for a GSI that is
 * not the library's.
 */
int cleat_kvm_route_ready(struct cleat_kvm *kvm, uint32_t gsi);

#endif
