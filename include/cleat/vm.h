/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CLEAT_VM_H
#define CLEAT_VM_H

#include <stdbool.h>
#include <stdint.h>

#include <cleat/api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Flags of slot_add. */
#define CLEAT_SLOT_READONLY (1u << 0)

/**
 * struct cleat_msi - a message-signalled interrupt
 * @address:   as the guest programmed it
 * @data:      as the guest programmed it
 * @requester: bus, device, function of the function that sends it
 */
struct cleat_msi {
	uint64_t address;
	uint32_t data;
	uint32_t requester;
};

/**
 * struct cleat_ioeventfd - a guest write that becomes a kick
 * @space:     memory or ports
 * @address:   guest address
 * @length:    1, 2, 4 or 8 bytes; 0: any
 * @match:     only writes of @datamatch
 * @datamatch: the value, with @match
 * @fd:        the eventfd; borrowed for the call
 */
struct cleat_ioeventfd {
	enum cleat_space space;
	uint64_t address;
	uint32_t length;
	bool match;
	uint64_t datamatch;
	int fd;
};

/**
 * struct cleat_coalesced - a guest's write that was kept back
 * @address: guest address
 * @space:   memory or ports
 * @length:  1 to 8 bytes
 * @data:    little-endian
 */
struct cleat_coalesced {
	uint64_t address;
	enum cleat_space space;
	uint32_t length;
	uint8_t data[8];
};

/**
 * struct cleat_vm_ops - what the library needs of a VMM
 * @size:   sizeof(struct cleat_vm_ops)
 * @opaque: handed to every member
 *
 * Every member may be NULL; what then happens is said with it. No member may
 * call back into the object that calls it. All may be called by several threads
 * at once.
 *
 * @slot_add:    put @length bytes at @host under the guest address @guest
 *               without exits, flags CLEAT_SLOT_*; give a number by which
 *               slot_remove knows it. NULL or an error: that part is trapped.
 * @slot_remove: and take it away; when it returns 0, no vCPU reaches @host. An
 *               error: the guest may go on reaching it. The same number comes
 *               again when the region is placed or unplaced the next time, and
 *               when it is unbound; after that @host stays mapped for good.
 * @ioeventfd_add: register a kick. NULL or an error: the write exits, and the
 *               vCPU's thread kicks the eventfd; no message either.
 * @ioeventfd_remove: and take it away; the same struct as added.
 *
 * @gsi_alloc: take a GSI for an MSI route. NULL or -ENOSPC: that vector is read
 *             from its eventfd by the library and injected with @msi_signal.
 * @gsi_free:  give it back, its route with it (takes effect at the commit).
 * @msi_route: what the GSI sends; takes effect at the commit.
 * @routes_begin, @routes_commit: around any number of @msi_route and @gsi_free;
 *             pairs nest within a thread, whose outermost commit writes the
 *             table once, if anything has changed. When it returns 0 its
 *             thread's routes are in effect, whatever other threads have begun.
 *             On failure those routes are in effect that can be; a GSI whose
 *             new route was refused keeps the one before, and its next
 *             @msi_route and commit alone tell which that was.
 * @irqfd_add: let the eventfd @fd raise @gsi; @resample_fd is -1 or an eventfd
 *             written when the guest ends the interrupt. A route of the GSI's
 *             that is not in effect yet is put into effect first, and what @fd
 *             holds already is delivered. -EOPNOTSUPP where resampling is not
 *             there. Both are borrowed, and must stay open until the removal.
 * @irqfd_remove: and no longer; when it returns nothing more is injected, and
 *             what comes now stays in @fd.
 * @msi_signal: inject a message once.
 * @intx_gsi:  the GSI that the pin (0 to 3 for INTA to INTD) of the function
 *             @requester is routed to. NULL: the function has no INTx. An
 *             error: nothing is raised until cleat_pci_intx_rerouted().
 * @line_set:  set the level of a GSI's line. NULL (and no @irqfd_add with
 *             resample): the function has no INTx.
 * @log:       one line for the log. NULL: nothing is said.
 *
 * @coalesce_add: writes of the guest inside [@address, @address + @length) need
 *             not exit: they may be kept back, in their order, for
 *             @coalesced_take. NULL or an error: they exit, which is no error.
 * @coalesce_remove: and are not any more; the same range as added. What was
 *             kept back before is still to be taken.
 * @coalesced_take: take up to @num of the writes kept back, oldest first, all
 *             of the VM's in one queue; their number. With @num 0: about how
 *             many there are, which is asked often and takes no lock.
 */
struct cleat_vm_ops {
	uint32_t size;
	void *opaque;

	int (*slot_add)(void *opaque, uint64_t guest, uint64_t length,
			void *host, uint32_t flags, uint32_t *ret_slot);
	int (*slot_remove)(void *opaque, uint32_t slot);
	int (*ioeventfd_add)(void *opaque, const struct cleat_ioeventfd *kick);
	int (*ioeventfd_remove)(void *opaque,
				const struct cleat_ioeventfd *kick);

	int (*gsi_alloc)(void *opaque, uint32_t *ret_gsi);
	void (*gsi_free)(void *opaque, uint32_t gsi);
	int (*msi_route)(void *opaque, uint32_t gsi,
			 const struct cleat_msi *msi);
	void (*routes_begin)(void *opaque);
	int (*routes_commit)(void *opaque);
	int (*irqfd_add)(void *opaque, uint32_t gsi, int fd, int resample_fd);
	int (*irqfd_remove)(void *opaque, uint32_t gsi, int fd);
	int (*msi_signal)(void *opaque, const struct cleat_msi *msi);
	int (*intx_gsi)(void *opaque, uint32_t requester, unsigned pin,
			uint32_t *ret_gsi);
	int (*line_set)(void *opaque, uint32_t gsi, bool level);
	void (*log)(void *opaque, const char *text);

	int (*coalesce_add)(void *opaque, enum cleat_space space,
			    uint64_t address, uint64_t length);
	int (*coalesce_remove)(void *opaque, enum cleat_space space,
			       uint64_t address, uint64_t length);
	unsigned (*coalesced_take)(void *opaque,
				   struct cleat_coalesced *entries,
				   unsigned num);
};

#ifdef __cplusplus
}
#endif

#endif
