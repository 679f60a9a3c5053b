/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A vCPU's state, as KVM gives and takes it: blocks of which nothing here
 * looks inside. The order is that of restoring: the APIC base lies in the
 * special registers and is needed before the APIC, registers clear pending
 * events, the deadline timer needs TSC and APIC.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/vmm.h"

#define MSR_TSC_DEADLINE 0x6e0u
#define MSRS_MAX 1024
#define XSAVE_MAX (64u << 10)
#define BLOCK_MSRS 100
#define BLOCK_END 101

static const struct block {
	const char *name;
	int capability; /* 0: every KVM has it */
	unsigned long get;
	unsigned long set;
	size_t size; /* 0: KVM says */
} blocks[] = {
	{ "special registers", 0, KVM_GET_SREGS, KVM_SET_SREGS,
	  sizeof(struct kvm_sregs) },
	{ "registers", 0, KVM_GET_REGS, KVM_SET_REGS, sizeof(struct kvm_regs) },
	{ "XCRs", KVM_CAP_XCRS, KVM_GET_XCRS, KVM_SET_XCRS,
	  sizeof(struct kvm_xcrs) },
	{ "XSAVE", KVM_CAP_XSAVE2, KVM_GET_XSAVE2, KVM_SET_XSAVE, 0 },
	{ "APIC", 0, KVM_GET_LAPIC, KVM_SET_LAPIC,
	  sizeof(struct kvm_lapic_state) },
	{ "MSRs", 0, 0, 0, 0 },
	{ "debug registers", KVM_CAP_DEBUGREGS, KVM_GET_DEBUGREGS,
	  KVM_SET_DEBUGREGS, sizeof(struct kvm_debugregs) },
	{ "events", KVM_CAP_VCPU_EVENTS, KVM_GET_VCPU_EVENTS,
	  KVM_SET_VCPU_EVENTS, sizeof(struct kvm_vcpu_events) },
	{ "run state", KVM_CAP_MP_STATE, KVM_GET_MP_STATE, KVM_SET_MP_STATE,
	  sizeof(struct kvm_mp_state) },
};

#define BLOCKS (sizeof(blocks) / sizeof(blocks[0]))

static int fail(struct stream *stream, const struct vcpu *vcpu, int err,
		const char *what)
{
	errno = -err;
	return cleat_vmm_stream_fail(stream, err, "CPU %u: %s: %m", vcpu->id,
				     what);
}

/* 0: this KVM does not give it. */
static size_t block_size(const struct vcpu *vcpu, const struct block *block)
{
	int size = 1;

	if (block->capability)
		size = ioctl(vcpu->vm->machine.vm, KVM_CHECK_EXTENSION,
			     block->capability);
	if (size <= 0)
		return 0;
	if (block->size)
		return block->size;
	return (size_t)size > XSAVE_MAX ? 0 : (size_t)size;
}

/* ---- MSRs ---- */

/* The deadline timer last: it is relative to what the others set. */
static int list_msrs(const struct vcpu *vcpu, struct kvm_msrs *ret)
{
	struct kvm_msr_list *list;
	uint32_t i;

	list = calloc(1, sizeof(*list) + MSRS_MAX * sizeof(list->indices[0]));
	if (!list)
		return -ENOMEM;
	list->nmsrs = MSRS_MAX - 1;
	if (ioctl(vcpu->vm->machine.kvm, KVM_GET_MSR_INDEX_LIST, list)) {
		int err = -errno;

		free(list);
		return err;
	}
	ret->nmsrs = 0;
	for (i = 0; i < list->nmsrs; i++)
		if (list->indices[i] != MSR_TSC_DEADLINE)
			ret->entries[ret->nmsrs++].index = list->indices[i];
	ret->entries[ret->nmsrs++].index = MSR_TSC_DEADLINE;
	free(list);
	return 0;
}

static struct kvm_msrs *alloc_msrs(void)
{
	return calloc(1, sizeof(struct kvm_msrs) +
				 MSRS_MAX * sizeof(struct kvm_msr_entry));
}

/*
 * KVM stops at the first MSR that this guest does not have; those are left
 * out.
 */
static int get_msrs(const struct vcpu *vcpu, struct kvm_msrs *msrs)
{
	struct kvm_msrs *some = alloc_msrs();
	uint32_t from = 0, kept = 0;
	int got = 0;

	if (!some)
		return -ENOMEM;
	while (from < msrs->nmsrs) {
		some->nmsrs = msrs->nmsrs - from;
		memcpy(some->entries, msrs->entries + from,
		       some->nmsrs * sizeof(some->entries[0]));
		got = ioctl(vcpu->fd, KVM_GET_MSRS, some);
		if (got < 0)
			break;
		memcpy(msrs->entries + kept, some->entries,
		       (size_t)got * sizeof(some->entries[0]));
		kept += (uint32_t)got;
		from += (uint32_t)got + 1;
	}
	got = got < 0 ? -errno : 0;
	msrs->nmsrs = kept;
	free(some);
	return got;
}

static int save_msrs(struct stream *stream, const struct vcpu *vcpu)
{
	struct kvm_msrs *msrs = alloc_msrs();
	uint32_t head[2] = { BLOCK_MSRS };
	int err = msrs ? list_msrs(vcpu, msrs) : -ENOMEM;

	if (!err)
		err = get_msrs(vcpu, msrs);
	if (!err) {
		head[1] = msrs->nmsrs * (uint32_t)sizeof(msrs->entries[0]);
		cleat_vmm_stream_add(stream, head, sizeof(head));
		cleat_vmm_stream_add(stream, msrs->entries, head[1]);
	}
	free(msrs);
	return err ? fail(stream, vcpu, err, "MSRs") : 0;
}

/* Some cannot be written, and have the right value already. */
static int set_msr(struct stream *stream, const struct vcpu *vcpu,
		   const struct kvm_msr_entry *entry)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} one = { .head.nmsrs = 1, .entry = *entry };

	if (ioctl(vcpu->fd, KVM_SET_MSRS, &one) == 1)
		return 0;
	if (ioctl(vcpu->fd, KVM_GET_MSRS, &one) == 1 &&
	    one.entry.data == entry->data)
		return 0;
	return cleat_vmm_stream_fail(stream, -EINVAL,
				     "CPU %u: this host's KVM does not take MSR %#x = %#llx",
				     vcpu->id, entry->index,
				     (unsigned long long)entry->data);
}

static int load_msrs(struct stream *stream, const struct vcpu *vcpu,
		     struct section *section, size_t size)
{
	struct kvm_msr_entry entry;
	int err = 0;

	if (size % sizeof(entry))
		return -EBADMSG;
	for (; !err && size; size -= sizeof(entry)) {
		err = cleat_vmm_section_take(section, &entry, sizeof(entry));
		if (!err)
			err = set_msr(stream, vcpu, &entry);
	}
	return err;
}

/* ---- Blocks ---- */

static int save_block(struct stream *stream, const struct vcpu *vcpu,
		      const struct block *block)
{
	uint32_t head[2] = { (uint32_t)(block - blocks) };
	void *room;

	if (!block->get)
		return save_msrs(stream, vcpu);
	head[1] = (uint32_t)block_size(vcpu, block);
	if (!head[1])
		return fail(stream, vcpu, -ENOSYS, block->name);
	cleat_vmm_stream_add(stream, head, sizeof(head));
	room = cleat_vmm_stream_room(stream, head[1]);
	if (!room || ioctl(vcpu->fd, block->get, room))
		return fail(stream, vcpu, -errno, block->name);
	return 0;
}

int cleat_vmm_cpu_save(struct stream *stream, const struct vcpu *vcpu)
{
	uint32_t end[2] = { BLOCK_END };
	int err = 0;
	size_t i;

	cleat_vmm_stream_begin(stream, SECTION_CPU);
	cleat_vmm_stream_add(stream, &vcpu->id, sizeof(vcpu->id));
	for (i = 0; !err && i < BLOCKS; i++)
		err = save_block(stream, vcpu, &blocks[i]);
	cleat_vmm_stream_add(stream, end, sizeof(end));
	return err ? err : cleat_vmm_stream_send(stream);
}

/* A buffer that KVM reads whole, so it has to have the size KVM knows. */
static int load_block(struct stream *stream, const struct vcpu *vcpu,
		      const struct block *block, struct section *section,
		      size_t size)
{
	void *copy;
	int err;

	if (!block->get)
		return -EBADMSG;
	if (size != block_size(vcpu, block))
		return cleat_vmm_stream_fail(stream, -EINVAL,
					     "CPU %u: this host has another size of %s",
					     vcpu->id, block->name);
	copy = malloc(size);
	if (!copy)
		return -ENOMEM;
	err = cleat_vmm_section_take(section, copy, size);
	if (!err && ioctl(vcpu->fd, block->set, copy))
		err = fail(stream, vcpu, -errno, block->name);
	free(copy);
	return err;
}

int cleat_vmm_cpu_load(struct stream *stream, struct vm *vm,
		       struct section *section)
{
	const struct vcpu *vcpu;
	uint32_t id, head[2];
	int err = cleat_vmm_section_take(section, &id, sizeof(id));

	if (err || id >= vm->vcpu_count)
		return -EBADMSG;
	vcpu = &vm->vcpus[id];
	while (!err) {
		err = cleat_vmm_section_take(section, head, sizeof(head));
		if (err || head[0] == BLOCK_END)
			break;
		if (head[0] == BLOCK_MSRS)
			err = load_msrs(stream, vcpu, section, head[1]);
		else if (head[0] < BLOCKS)
			err = load_block(stream, vcpu, &blocks[head[0]],
					 section, head[1]);
		else
			err = -EBADMSG;
	}
	return err;
}
