/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "kvm/private.h"

/* A slot number, from where the last one was found; -ENOSPC. */
static int slot_take(struct cleat_kvm *kvm, uint32_t *ret)
{
	int err = -ENOSPC;

	pthread_mutex_lock(&kvm->lock);
	for (uint32_t i = 0; i < kvm->config.slots; i++) {
		uint32_t slot = (kvm->next_slot + i) % kvm->config.slots;

		if (kvm->slots[slot])
			continue;
		kvm->slots[slot] = true;
		kvm->next_slot = slot + 1;
		*ret = slot;
		err = 0;
		break;
	}
	pthread_mutex_unlock(&kvm->lock);
	return err;
}

static void slot_give(struct cleat_kvm *kvm, uint32_t slot)
{
	pthread_mutex_lock(&kvm->lock);
	kvm->slots[slot] = false;
	pthread_mutex_unlock(&kvm->lock);
}

static int set_slot(struct cleat_kvm *kvm, uint32_t slot, uint64_t guest,
		    uint64_t length, const void *host, uint32_t flags)
{
	struct kvm_userspace_memory_region region = {
		.slot = kvm->config.first_slot + slot,
		.flags = flags & CLEAT_SLOT_READONLY ? KVM_MEM_READONLY : 0,
		.guest_phys_addr = guest,
		.memory_size = length,
		.userspace_addr = (uintptr_t)host,
	};

	return cleat_kvm_ioctl(kvm, KVM_SET_USER_MEMORY_REGION, &region);
}

static int slot_add(void *opaque, uint64_t guest, uint64_t length, void *host,
		    uint32_t flags, uint32_t *ret_slot)
{
	uint64_t mask = (uint64_t)getpagesize() - 1;
	struct cleat_kvm *kvm = opaque;
	uint32_t slot;
	int err;

	/* To KVM a length of 0 would mean: delete. */
	if (!length || ((guest | length | (uintptr_t)host) & mask) ||
	    flags & ~CLEAT_SLOT_READONLY)
		return -EINVAL;
	if (flags & CLEAT_SLOT_READONLY && !kvm->readonly_slots)
		return -EOPNOTSUPP;
	err = slot_take(kvm, &slot);
	if (err)
		return err;
	/* KVM refuses what overlaps with any other slot: -EEXIST. */
	err = set_slot(kvm, slot, guest, length, host, flags);
	if (err)
		slot_give(kvm, slot);
	else
		*ret_slot = kvm->config.first_slot + slot;
	return err;
}

static bool slot_is_ours(struct cleat_kvm *kvm, uint32_t slot)
{
	bool ours;

	if (slot >= kvm->config.slots)
		return false;
	pthread_mutex_lock(&kvm->lock);
	ours = kvm->slots[slot];
	pthread_mutex_unlock(&kvm->lock);
	return ours;
}

static int slot_remove(void *opaque, uint32_t number)
{
	struct cleat_kvm *kvm = opaque;
	uint32_t slot = number - kvm->config.first_slot;
	int err;

	if (!slot_is_ours(kvm, slot))
		return -EINVAL;
	err = set_slot(kvm, slot, 0, 0, NULL, 0);
	/* The number is free only now: its next user's add must not be deleted
	 * by this. */
	if (!err)
		slot_give(kvm, slot);
	return err;
}

int cleat_kvm_slots_init(struct cleat_kvm *kvm, struct cleat_error *reterr)
{
	unsigned max = cleat_kvm_extension(kvm, KVM_CAP_NR_MEMSLOTS);
	uint32_t first = kvm->config.first_slot, slots = kvm->config.slots;

	if (!slots)
		return 0;
	if (slots > max || first > max - slots)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "memory slots %u to %llu: KVM has %u", first,
				  (unsigned long long)first + slots - 1, max);
	kvm->slots = calloc(slots, sizeof(*kvm->slots));
	if (!kvm->slots)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ENOMEM,
				  "no memory for %u slots", slots);
	kvm->readonly_slots = cleat_kvm_extension(kvm, KVM_CAP_READONLY_MEM);
	kvm->ops.slot_add = slot_add;
	kvm->ops.slot_remove = slot_remove;
	return 0;
}

void cleat_kvm_slots_end(struct cleat_kvm *kvm)
{
	for (uint32_t i = 0; kvm->slots && i < kvm->config.slots; i++)
		if (kvm->slots[i])
			set_slot(kvm, i, 0, 0, NULL, 0);
	free(kvm->slots);
}
