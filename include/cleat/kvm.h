/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CLEAT_KVM_H
#define CLEAT_KVM_H

#include <stdbool.h>
#include <stdint.h>

#include <cleat/api.h>
#include <cleat/error.h>
#include <cleat/vm.h>

#ifdef __cplusplus
extern "C" {
#endif

struct kvm_irq_routing;

/**
 * struct cleat_kvm - ready-made struct cleat_vm_ops on a KVM virtual machine
 */
struct cleat_kvm;

/**
 * struct cleat_kvm_config - what of the VM the library may use
 * @size:        sizeof(struct cleat_kvm_config)
 * @first_slot:  first memory slot number that is the library's
 * @slots:       how many; 0: no slots, mapped areas are trapped
 * @first_gsi:   first GSI that is the library's
 * @gsis:        how many; 0: no irqfd for MSI
 * @base_routes: the VMM's own routes, written with the library's each time the
 *               table is set (KVM sets it whole); copied. NULL and no
 *               @commit_routes: no irqfd for MSI.
 * @commit_routes: instead of @base_routes: the VMM sets the table itself, with
 *               these entries of the library's added (and none that earlier
 *               calls added). Called under a lock of the operations': it may
 *               wait for nobody who might be inside the library. Return: 0 or
 *               -errno; on an error the table must be as it was.
 * @intx_gsi:    as in struct cleat_vm_ops; NULL: no INTx
 * @log:         as in struct cleat_vm_ops
 * @opaque:      handed to @commit_routes, @intx_gsi, @log and @line_set
 * @line_set:    for a VMM with an IOAPIC or PIC of its own: as in struct
 *               cleat_vm_ops. NULL: KVM's, where they are in the kernel.
 */
struct cleat_kvm_config {
	uint32_t size;
	uint32_t first_slot;
	uint32_t slots;
	uint32_t first_gsi;
	uint32_t gsis;
	const struct kvm_irq_routing *base_routes;
	int (*commit_routes)(void *opaque,
			     const struct kvm_irq_routing *library_routes);
	int (*intx_gsi)(void *opaque, uint32_t requester, unsigned pin,
			uint32_t *ret_gsi);
	void (*log)(void *opaque, const char *text);
	void *opaque;
	int (*line_set)(void *opaque, uint32_t gsi, bool level);
};

/**
 * cleat_kvm_create() - make operations for a VM
 * @vm_fd:   the VM's descriptor; duplicated, the caller keeps his. Its
 *           interrupt controllers, if it is to have any, are made already.
 * @config:  what the library may use
 * @ret_kvm: written on success
 * @reterr:  why it failed; may be NULL
 *
 * What the kernel lacks is left out of the operations, so that the library
 * takes the next best way.
 *
 * Context: control. Does not sleep.
 * Return: 0, -EINVAL (a size, a range of slots or GSIs that the kernel does not
 * have, a base route of a GSI that is the library's, @vm_fd is no VM), -ENOMEM,
 * -EMFILE.
 * Ownership: the caller's; cleat_kvm_destroy() after the last object that uses
 * the operations.
 */
CLEAT_API int cleat_kvm_create(int vm_fd, const struct cleat_kvm_config *config,
			       struct cleat_kvm **ret_kvm,
			       struct cleat_error *reterr);

/**
 * cleat_kvm_map_ring() - use KVM's ring of coalesced writes
 * @kvm:     from cleat_kvm_create()
 * @vcpu_fd: any vCPU of the VM; the caller keeps it
 * @reterr:  why it failed; may be NULL
 *
 * What cleat_mmio_coalesce() needs so that posted writes do not exit. There is
 * one ring for the whole VM, and from now on it is the library's: a VMM that
 * has zones of its own in it gives the three operations itself, and hands on
 * what is not its own. May be called again; later calls do nothing.
 *
 * Context: control. Does not sleep.
 * Return: 0, -EOPNOTSUPP (KVM has no such ring), -EINVAL (@vcpu_fd is no vCPU),
 * or what mmap() gives.
 */
CLEAT_API int cleat_kvm_map_ring(struct cleat_kvm *kvm, int vcpu_fd,
				 struct cleat_error *reterr);

/**
 * cleat_kvm_destroy() - free it; what was not taken away is taken away
 * @kvm: may be NULL
 *
 * Slots, ioeventfds, irqfds and routes; of those with an eventfd that is closed
 * already, KVM keeps them until the last process has closed it.
 *
 * Context: control. Sleeps.
 * Return: NULL.
 */
CLEAT_API struct cleat_kvm *cleat_kvm_destroy(struct cleat_kvm *kvm);

/**
 * cleat_kvm_ops() - the operations
 * @kvm: from cleat_kvm_create()
 *
 * Context: any thread. Does not sleep.
 * Return: the operations, valid until cleat_kvm_destroy().
 */
CLEAT_API const struct cleat_vm_ops *cleat_kvm_ops(struct cleat_kvm *kvm);

#ifdef __cplusplus
}
#endif

#endif
