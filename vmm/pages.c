/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * RAM on its way. What vCPUs write, KVM logs; what devices write, the library
 * does; it keeps one bitmap of both. A page is taken from the bitmap before it
 * is copied, so whatever is written meanwhile is dirty again; and it is copied
 * before its checksum is made, because the guest runs on.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/vmm.h"

#define PAGE 4096u
#define RUN_MAX (1u << 20)

struct run {
	uint64_t guest;
	uint32_t length;
	uint32_t zero;
};

/* ---- KVM's log ---- */

static int set_slot(const struct vm *vm, unsigned slot, uint32_t flags)
{
	const struct ram *ram = &vm->ram;
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = slot ? HIGH_RAM_START : 0,
		.memory_size = slot ? ram->high : ram->low,
		.userspace_addr = (uintptr_t)(ram->host +
					      (slot ? ram->low : 0)),
	};

	if (!region.memory_size)
		return 0;
	return ioctl(vm->machine.vm, KVM_SET_USER_MEMORY_REGION, &region) ?
		       -errno : 0;
}

static int merge_slot(const struct vm *vm, unsigned slot)
{
	uint64_t length = slot ? vm->ram.high : vm->ram.low;
	struct kvm_dirty_log log = { .slot = slot };
	uint64_t *bitmap;
	int err = 0;

	if (!length)
		return 0;
	bitmap = calloc((length / PAGE + 63) / 64, sizeof(*bitmap));
	if (!bitmap)
		return -ENOMEM;
	log.dirty_bitmap = bitmap;
	if (ioctl(vm->machine.vm, KVM_GET_DIRTY_LOG, &log))
		err = -errno;
	else
		err = cleat_memory_log_merge(vm->ram.memory,
					     slot ? HIGH_RAM_START : 0, length,
					     PAGE, bitmap);
	free(bitmap);
	return err;
}

int cleat_vmm_pages_start(struct vm *vm)
{
	int err = cleat_memory_log_start(vm->ram.memory, CLEAT_MEMORY_LOG_ALL,
					 NULL);

	if (!err)
		err = set_slot(vm, 0, KVM_MEM_LOG_DIRTY_PAGES);
	if (!err)
		err = set_slot(vm, 1, KVM_MEM_LOG_DIRTY_PAGES);
	if (err)
		cleat_vmm_pages_stop(vm);
	return err;
}

void cleat_vmm_pages_stop(struct vm *vm)
{
	cleat_memory_log_stop(vm->ram.memory);
	set_slot(vm, 0, 0);
	set_slot(vm, 1, 0);
}

int cleat_vmm_pages_collect(struct vm *vm, bool final)
{
	int err = cleat_memory_log_fetch(vm->ram.memory,
					 final ? CLEAT_MEMORY_LOG_FINAL : 0);

	if (!err)
		err = merge_slot(vm, 0);
	if (!err)
		err = merge_slot(vm, 1);
	return err;
}

/* ---- Out ---- */

static uint8_t *host(const struct ram *ram, uint64_t guest)
{
	if (guest < ram->low)
		return ram->host + guest;
	return ram->host + ram->low + (guest - HIGH_RAM_START);
}

/* To read memory that nobody has written would allocate it. */
static bool is_hole(const struct ram *ram, const uint8_t *from, size_t length)
{
	off_t offset = from - ram->host;
	off_t data = lseek(ram->fd, offset, SEEK_DATA);

	if (data < 0)
		return errno == ENXIO;
	return data >= offset + (off_t)length;
}

static bool is_zero(const uint8_t *page, size_t length)
{
	return !page[0] && !memcmp(page, page + 1, length - 1);
}

/* The start of @length bytes that is of one kind. */
static uint32_t same_kind(const struct ram *ram, const uint8_t *from,
			  uint32_t length, bool *ret_zero)
{
	uint32_t n = PAGE;

	*ret_zero = true;
	if (is_hole(ram, from, length))
		return length;
	*ret_zero = is_zero(from, PAGE);
	while (n < length && is_zero(from + n, PAGE) == *ret_zero)
		n += PAGE;
	return n;
}

static int send_run(struct stream *stream, const struct ram *ram,
		    struct run *run)
{
	cleat_vmm_stream_begin(stream, SECTION_PAGES);
	cleat_vmm_stream_add(stream, run, sizeof(*run));
	if (!run->zero)
		cleat_vmm_stream_add(stream, host(ram, run->guest),
				     run->length);
	return cleat_vmm_stream_send(stream);
}

static int send_runs(struct stream *stream, const struct ram *ram,
		     uint64_t guest, uint64_t length)
{
	int err = 0;

	while (!err && length) {
		struct run run = { .guest = guest };
		bool zero;

		run.length = same_kind(ram, host(ram, guest), (uint32_t)length,
				       &zero);
		run.zero = zero;
		err = send_run(stream, ram, &run);
		guest += run.length;
		length -= run.length;
	}
	return err;
}

int cleat_vmm_pages_send(struct stream *stream, struct vm *vm,
			 atomic_ulong *pages)
{
	struct cleat_memory *memory = vm->ram.memory;
	uint64_t from = 0, length;
	int err;

	while ((err = cleat_memory_log_take(memory, from, RUN_MAX, &from,
					    &length)) > 0) {
		err = send_runs(stream, &vm->ram, from, length);
		if (err)
			return err;
		atomic_fetch_add(pages, length / PAGE);
		from += length;
	}
	return err;
}

/* ---- In ---- */

static bool inside(const struct ram *ram, const struct run *run)
{
	uint64_t base = run->guest < HIGH_RAM_START ? 0 : HIGH_RAM_START;
	uint64_t size = base ? ram->high : ram->low;
	uint64_t at = run->guest - base;

	return run->length && !(run->length % PAGE) && !(run->guest % PAGE) &&
	       at < size && run->length <= size - at;
}

int cleat_vmm_pages_receive(struct vm *vm, struct section *section)
{
	const struct ram *ram = &vm->ram;
	struct run run;
	uint8_t *to;
	int err = cleat_vmm_section_take(section, &run, sizeof(run));

	if (err || !inside(ram, &run) || run.length > RUN_MAX)
		return -EBADMSG;
	to = host(ram, run.guest);
	if (!run.zero)
		return cleat_vmm_section_take(section, to, run.length);
	if (!is_hole(ram, to, run.length) && !is_zero(to, run.length))
		memset(to, 0, run.length);
	return 0;
}
