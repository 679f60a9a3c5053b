/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>

#include "kvm/private.h"

static bool is_length(uint32_t length)
{
	return !length || length == 1 || length == 2 || length == 4 ||
	       length == 8;
}

static int check(struct cleat_kvm *kvm, const struct cleat_ioeventfd *kick)
{
	uint64_t last = kick->length ? kick->length - 1 : 0;

	if (!is_length(kick->length) || kick->address + last < kick->address)
		return -EINVAL;
	if (kick->space == CLEAT_PORTS &&
	    (kick->address + last > 0xffff || kick->length == 8))
		return -EINVAL;
	if (kick->match && !kick->length)
		return -EINVAL;
	/* No write of that length has this value. */
	if (kick->match && kick->length < 8 &&
	    kick->datamatch >> (8 * kick->length))
		return -EINVAL;
	/*
	 * Before KVM_CAP_IOEVENTFD_ANY_LENGTH a length of 0 was seen on one of
	 * KVM's two ways to a write only; the other went to the VMM.
	 */
	if (!kick->length && !kvm->any_length)
		return -EOPNOTSUPP;
	return 0;
}

static int set_kick(struct cleat_kvm *kvm, const struct cleat_ioeventfd *kick,
		    uint32_t flags)
{
	struct kvm_ioeventfd arg = {
		.datamatch = kick->datamatch,
		.addr = kick->address,
		.len = kick->length,
		.fd = kick->fd,
		.flags = flags,
	};

	if (kick->match)
		arg.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
	if (kick->space == CLEAT_PORTS)
		arg.flags |= KVM_IOEVENTFD_FLAG_PIO;
	return cleat_kvm_ioctl(kvm, KVM_IOEVENTFD, &arg);
}

static bool is_same(const struct cleat_ioeventfd *a,
		    const struct cleat_ioeventfd *b)
{
	return a->space == b->space && a->address == b->address &&
	       a->length == b->length && a->match == b->match &&
	       a->fd == b->fd && (!a->match || a->datamatch == b->datamatch);
}

static bool forget(struct cleat_kvm *kvm, const struct cleat_ioeventfd *kick)
{
	struct cleat_kvm_kick **link, *found;

	pthread_mutex_lock(&kvm->lock);
	for (link = &kvm->kicks; (found = *link); link = &found->next)
		if (is_same(&found->kick, kick))
			break;
	if (found)
		*link = found->next;
	pthread_mutex_unlock(&kvm->lock);
	free(found);
	return found;
}

static int ioeventfd_add(void *opaque, const struct cleat_ioeventfd *kick)
{
	struct cleat_kvm *kvm = opaque;
	struct cleat_kvm_kick *entry;
	int err = check(kvm, kick);

	if (err)
		return err;
	entry = malloc(sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	/* KVM refuses what another one already takes: -EEXIST. */
	err = set_kick(kvm, kick, 0);
	if (err) {
		free(entry);
		return err;
	}
	entry->kick = *kick;
	pthread_mutex_lock(&kvm->lock);
	entry->next = kvm->kicks;
	kvm->kicks = entry;
	pthread_mutex_unlock(&kvm->lock);
	return 0;
}

static int ioeventfd_remove(void *opaque, const struct cleat_ioeventfd *kick)
{
	struct cleat_kvm *kvm = opaque;

	if (!forget(kvm, kick))
		return -ENOENT;
	return set_kick(kvm, kick, KVM_IOEVENTFD_FLAG_DEASSIGN);
}

int cleat_kvm_kicks_init(struct cleat_kvm *kvm, struct cleat_error *reterr)
{
	if (!cleat_kvm_extension(kvm, KVM_CAP_IOEVENTFD))
		return 0;
	kvm->any_length =
		cleat_kvm_extension(kvm, KVM_CAP_IOEVENTFD_ANY_LENGTH);
	kvm->ops.ioeventfd_add = ioeventfd_add;
	kvm->ops.ioeventfd_remove = ioeventfd_remove;
	return 0;
}

void cleat_kvm_kicks_end(struct cleat_kvm *kvm)
{
	while (kvm->kicks) {
		struct cleat_kvm_kick *entry = kvm->kicks;

		kvm->kicks = entry->next;
		set_kick(kvm, &entry->kick, KVM_IOEVENTFD_FLAG_DEASSIGN);
		free(entry);
	}
}
