/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest memory: one sealed file, so that servers can map it, shown to the
 * guest below LOW_RAM_END and, what is left, from HIGH_RAM_START on.
 */
#include <errno.h>
#include <inttypes.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/vmm.h"

static int allocate(struct ram *ram, const struct options *options)
{
	struct cleat_error why;
	void *host;
	int fd;

	fd = cleat_memory_alloc(options->memory,
				options->hugetlb ? CLEAT_MEMORY_HUGETLB : 0,
				&host, &why);
	if (fd < 0 && options->hugetlb)
		return cleat_vmm_fail(fd,
				      "--hugetlb: %s: put at least %" PRIu64 " into /proc/sys/vm/nr_hugepages",
				      why.text, options->memory / (2 * MiB));
	if (fd < 0)
		return cleat_vmm_fail(fd, "--memory: %s", why.text);
	ram->fd = fd;
	ram->host = host;
	ram->size = options->memory;
	ram->low = ram->size < LOW_RAM_END ? ram->size : LOW_RAM_END;
	ram->high = ram->size - ram->low;
	return 0;
}

/* Shows a part to the guest's CPUs and to its devices. */
static int add(struct ram *ram, const struct machine *machine, unsigned slot,
	       uint64_t guest, uint64_t offset, uint64_t length)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = guest,
		.memory_size = length,
		.userspace_addr = (uintptr_t)(ram->host + offset),
	};
	struct cleat_memory_range range = {
		.size = sizeof(range),
		.rights = CLEAT_READ | CLEAT_WRITE,
		.guest = guest,
		.length = length,
		.host = ram->host + offset,
		.fd = ram->fd,
		.offset = offset,
	};
	int err;

	if (!length)
		return 0;
	if (ioctl(machine->vm, KVM_SET_USER_MEMORY_REGION, &region))
		return cleat_vmm_fail(-errno, "KVM_SET_USER_MEMORY_REGION: %m");
	err = cleat_memory_add(ram->memory, &range);
	if (err) {
		errno = -err;
		return cleat_vmm_fail(err, "guest memory for devices: %m");
	}
	return 0;
}

int cleat_vmm_ram_create(struct ram *ram, const struct machine *machine,
			 const struct options *options)
{
	int err;

	*ram = (struct ram){ .fd = -1 };
	if (options->memory > LOW_RAM_END &&
	    HIGH_RAM_START + options->memory - LOW_RAM_END >
		    machine->window64_start)
		return cleat_vmm_fail(-EINVAL,
				      "--memory: too much for a CPU of %u address bits: give %" PRIu64 " MiB at most",
				      machine->address_bits,
				      (machine->window64_start - GiB) / MiB);
	err = cleat_memory_create(&ram->memory);
	if (err)
		return cleat_vmm_fail(err, "no memory");
	err = allocate(ram, options);
	if (!err)
		err = add(ram, machine, 0, 0, 0, ram->low);
	if (!err)
		err = add(ram, machine, 1, HIGH_RAM_START, ram->low, ram->high);
	return err;
}

void cleat_vmm_ram_destroy(struct ram *ram)
{
	cleat_memory_unref(ram->memory);
	if (ram->host)
		munmap(ram->host, ram->size);
	if (ram->fd >= 0)
		close(ram->fd);
}
