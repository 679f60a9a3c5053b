/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * KVM's ring of coalesced writes: a page of the VM's that each vCPU's
 * descriptor maps. KVM puts entries in at @last, under a lock of its own and
 * before the vCPU goes on; we take them out at @first, which nobody else
 * writes. A full ring makes the write exit.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvm/private.h"

#define MOST_BYTES 8

/* --- Zones ------------------------------------------------------------------- */

static int set_zone(struct cleat_kvm *kvm, unsigned long request,
		    const struct cleat_kvm_zone *zone)
{
	struct kvm_coalesced_mmio_zone arg = {
		.addr = zone->address,
		.size = (uint32_t)zone->length,
		.pio = zone->space == CLEAT_PORTS,
	};

	return cleat_kvm_ioctl(kvm, request, &arg);
}

static int check_zone(struct cleat_kvm *kvm, const struct cleat_kvm_zone *zone)
{
	uint64_t last = zone->address + (zone->length - 1);

	if (!zone->length || zone->length > UINT32_MAX || last < zone->address)
		return -EINVAL;
	if (zone->space == CLEAT_PORTS && last > 0xffff)
		return -EINVAL;
	if (zone->space == CLEAT_PORTS && !kvm->ring.ports)
		return -EOPNOTSUPP;
	return __atomic_load_n(&kvm->ring.page, __ATOMIC_ACQUIRE) ?
		       0 :
		       -EOPNOTSUPP;
}

static int coalesce_add(void *opaque, enum cleat_space space, uint64_t address,
			uint64_t length)
{
	struct cleat_kvm *kvm = opaque;
	struct cleat_kvm_zone *zone = malloc(sizeof(*zone));
	int err;

	if (!zone)
		return -ENOMEM;
	*zone = (struct cleat_kvm_zone){ NULL, space, address, length };
	err = check_zone(kvm, zone);
	if (!err)
		err = set_zone(kvm, KVM_REGISTER_COALESCED_MMIO, zone);
	if (err) {
		free(zone);
		return err;
	}
	pthread_mutex_lock(&kvm->lock);
	zone->next = kvm->ring.zones;
	kvm->ring.zones = zone;
	pthread_mutex_unlock(&kvm->lock);
	return 0;
}

static struct cleat_kvm_zone *forget(struct cleat_kvm *kvm,
				     enum cleat_space space, uint64_t address,
				     uint64_t length)
{
	struct cleat_kvm_zone **link, *found;

	pthread_mutex_lock(&kvm->lock);
	for (link = &kvm->ring.zones; (found = *link); link = &found->next)
		if (found->space == space && found->address == address &&
		    found->length == length)
			break;
	if (found)
		*link = found->next;
	pthread_mutex_unlock(&kvm->lock);
	return found;
}

static int coalesce_remove(void *opaque, enum cleat_space space,
			   uint64_t address, uint64_t length)
{
	struct cleat_kvm *kvm = opaque;
	struct cleat_kvm_zone *zone = forget(kvm, space, address, length);
	int err;

	if (!zone)
		return -ENOENT;
	err = set_zone(kvm, KVM_UNREGISTER_COALESCED_MMIO, zone);
	free(zone);
	return err;
}

/* --- Entries ----------------------------------------------------------------- */

/* How many are in it; @room if the indices make no sense. */
static unsigned count(const struct kvm_coalesced_mmio_ring *ring, unsigned room)
{
	/* Acquire: the entries before @last are whole. */
	uint32_t last = __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE);
	uint32_t first = __atomic_load_n(&ring->first, __ATOMIC_ACQUIRE);

	if (first >= room || last >= room)
		return room;
	return (last + room - first) % room;
}

static struct cleat_coalesced copy(const struct kvm_coalesced_mmio *from)
{
	struct cleat_coalesced to = {
		.address = from->phys_addr,
		.space = from->pio ? CLEAT_PORTS : CLEAT_MEMORY,
		.length = from->len,
	};

	memcpy(to.data, from->data, MOST_BYTES);
	return to;
}

unsigned cleat_kvm_ring_take(struct kvm_coalesced_mmio_ring *ring,
			     unsigned room, struct cleat_coalesced *entries,
			     unsigned num)
{
	unsigned there = count(ring, room), taken = 0;
	uint32_t first;

	if (there == room || !num)
		return there == room ? 0 : there;
	first = ring->first;
	for (; there && taken < num; there--) {
		const struct kvm_coalesced_mmio *from =
			&ring->coalesced_mmio[first];

		first = (first + 1) % room;
		if (from->len && from->len <= MOST_BYTES)
			entries[taken++] = copy(from);
	}
	/* Release: KVM may use the places only when we have read them. */
	__atomic_store_n(&ring->first, first, __ATOMIC_RELEASE);
	return taken;
}

static unsigned coalesced_take(void *opaque, struct cleat_coalesced *entries,
			       unsigned num)
{
	struct cleat_kvm *kvm = opaque;
	struct kvm_coalesced_mmio_ring *ring =
		__atomic_load_n(&kvm->ring.page, __ATOMIC_ACQUIRE);
	unsigned taken;

	if (!ring)
		return 0;
	if (!num)
		return cleat_kvm_ring_take(ring, kvm->ring.room, NULL, 0);
	pthread_mutex_lock(&kvm->ring.lock);
	taken = cleat_kvm_ring_take(ring, kvm->ring.room, entries, num);
	pthread_mutex_unlock(&kvm->ring.lock);
	return taken;
}

/* --- The page ---------------------------------------------------------------- */

void cleat_kvm_ring_init(struct cleat_kvm *kvm)
{
	struct cleat_kvm_ring *ring = &kvm->ring;

	ring->offset = cleat_kvm_extension(kvm, KVM_CAP_COALESCED_MMIO);
	ring->ports = cleat_kvm_extension(kvm, KVM_CAP_COALESCED_PIO);
	if (!ring->offset)
		return;
	ring->size = (size_t)getpagesize();
	ring->room = (unsigned)((ring->size -
				 sizeof(struct kvm_coalesced_mmio_ring)) /
				sizeof(struct kvm_coalesced_mmio));
	kvm->ops.coalesce_add = coalesce_add;
	kvm->ops.coalesce_remove = coalesce_remove;
	kvm->ops.coalesced_take = coalesced_take;
}

void cleat_kvm_ring_end(struct cleat_kvm *kvm)
{
	while (kvm->ring.zones) {
		struct cleat_kvm_zone *zone = kvm->ring.zones;

		kvm->ring.zones = zone->next;
		set_zone(kvm, KVM_UNREGISTER_COALESCED_MMIO, zone);
		free(zone);
	}
	if (kvm->ring.page)
		munmap(kvm->ring.page, kvm->ring.size);
}

static int map_page(struct cleat_kvm_ring *ring, int vcpu_fd)
{
	void *page = mmap(NULL, ring->size, PROT_READ | PROT_WRITE, MAP_SHARED,
			  vcpu_fd, (off_t)(ring->offset * ring->size));

	if (page == MAP_FAILED)
		return errno == EBADF || errno == ENODEV ? -EINVAL : -errno;
	__atomic_store_n(&ring->page, page, __ATOMIC_RELEASE);
	return 0;
}

/* Another file would do for mmap(), and fault later. */
static bool is_vcpu(int fd)
{
	char path[32], to[32] = "";

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return readlink(path, to, sizeof(to) - 1) > 0 &&
	       strstr(to, "kvm-vcpu");
}

int cleat_kvm_map_ring(struct cleat_kvm *kvm, int vcpu_fd,
		       struct cleat_error *reterr)
{
	struct cleat_kvm_ring *ring = &kvm->ring;
	int err = 0;

	if (!ring->offset)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EOPNOTSUPP,
				  "KVM does not coalesce writes");
	pthread_mutex_lock(&ring->lock);
	if (!ring->page)
		err = is_vcpu(vcpu_fd) ? map_page(ring, vcpu_fd) : -EINVAL;
	pthread_mutex_unlock(&ring->lock);
	if (!err)
		return 0;
	return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
			  "KVM's ring of coalesced writes cannot be mapped: %s",
			  strerror(-err));
}
