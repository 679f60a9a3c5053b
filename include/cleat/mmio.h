/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CLEAT_MMIO_H
#define CLEAT_MMIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cleat/api.h>
#include <cleat/device.h>
#include <cleat/error.h>
#include <cleat/vm.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * struct cleat_mmio - the dispatch table of one VM
 *
 * Which device, region and segment a guest-physical address or port leads to.
 * Looked up by any number of vCPU threads without a lock.
 */
struct cleat_mmio;

/**
 * enum cleat_way - how an access to a segment travels
 * @CLEAT_WAY_TRAP:      a message and its reply
 * @CLEAT_WAY_MAP:       the server's own page: no exit where a slot covers it,
 *                       otherwise a load or store by the vCPU thread
 * @CLEAT_WAY_IOEVENTFD: KVM kicks the server's eventfd (writes only)
 * @CLEAT_WAY_SHADOW:    the vCPU thread stores the value to the server's page
 *                       and kicks its eventfd (writes only)
 * @CLEAT_WAY_EMULATED:  a handler in this process
 * @CLEAT_NUM_WAYS:      how many there are
 */
enum cleat_way {
	CLEAT_WAY_TRAP = 0,
	CLEAT_WAY_MAP = 1,
	CLEAT_WAY_IOEVENTFD = 2,
	CLEAT_WAY_SHADOW = 3,
	CLEAT_WAY_EMULATED = 4,
	CLEAT_NUM_WAYS = 5,
};

/**
 * struct cleat_kick - one eventfd of a segment
 *
 * With IOEVENTFD, a write kicks that begins where the segment does. When
 * several match, the one with a value goes before the one with a length, and
 * that before the one without; KVM has no two for the same write, so that the
 * wide ones beside narrow ones are kicked by the vCPU thread.
 *
 * @length:    bytes of a write that kicks; 0: any
 * @match:     only writes of @datamatch
 * @datamatch: the value, with @match
 * @fd:        the eventfd; borrowed
 */
struct cleat_kick {
	uint32_t length;
	bool match;
	uint64_t datamatch;
	int fd;
};

/**
 * struct cleat_segment - a run of a region and the ways into it
 * @offset:    in the region, bytes
 * @length:    bytes
 * @read_way:  how loads travel
 * @write_way: how stores travel
 * @other_way: with write_way IOEVENTFD: how a store that matches no kick does
 * @installed: where a way needs the VM (a slot, an ioeventfd): it is in place.
 *             While it is not, the same is done by the vCPU thread, or by
 *             message if the pages behind MAP can go away (no F_SEAL_SHRINK, or
 *             huge pages).
 * @fd:        file behind MAP and SHADOW; borrowed, -1 otherwise
 * @fd_offset: where in the file
 * @kicks:     with IOEVENTFD and SHADOW; borrowed
 * @num_kicks: how many
 * @why:       one line: why it is not a better way; may be NULL
 */
struct cleat_segment {
	uint64_t offset;
	uint64_t length;
	enum cleat_way read_way;
	enum cleat_way write_way;
	enum cleat_way other_way;
	bool installed;
	int fd;
	uint64_t fd_offset;
	const struct cleat_kick *kicks;
	unsigned num_kicks;
	const char *why;
};

/**
 * cleat_mmio_create() - an empty dispatch table
 * @ret_mmio: written on success
 *
 * Context: control. Does not sleep.
 * Return: 0 or -ENOMEM.
 * Ownership: the caller's one reference; cleat_mmio_unref().
 */
CLEAT_API int cleat_mmio_create(struct cleat_mmio **ret_mmio);

/**
 * cleat_mmio_unref() - give the table back
 * @mmio: may be NULL
 *
 * Bindings hold the table; it is freed with the last of them.
 *
 * Context: control. Sleeps.
 * Return: NULL.
 */
CLEAT_API struct cleat_mmio *cleat_mmio_unref(struct cleat_mmio *mmio);

/**
 * cleat_mmio_reserve() - say that addresses are not for devices of the library
 * @mmio:   the table
 * @space:  memory or ports
 * @start:  guest address
 * @length: bytes
 *
 * The guest's RAM and the VMM's own devices. A region that the guest places
 * over any part of it is not reachable while it is there.
 *
 * Context: control. Sleeps (a grace period).
 * Return: 0, -ERANGE, -ENOMEM.
 */
CLEAT_API int cleat_mmio_reserve(struct cleat_mmio *mmio,
				 enum cleat_space space, uint64_t start,
				 uint64_t length);

/**
 * cleat_mmio_unreserve() - take a reservation back
 * @mmio:   the table
 * @space:  as it was reserved
 * @start:  as it was reserved
 * @length: as it was reserved
 *
 * Context: control. Sleeps (a grace period).
 * Return: 0 or -ENOENT.
 */
CLEAT_API int cleat_mmio_unreserve(struct cleat_mmio *mmio,
				   enum cleat_space space, uint64_t start,
				   uint64_t length);

/**
 * cleat_mmio_access() - do what a vCPU has trapped for
 * @mmio:    the table
 * @space:   memory (KVM_EXIT_MMIO) or ports (KVM_EXIT_IO)
 * @address: guest address
 * @data:    written for reads on success, read for writes; little-endian,
 *           @length bytes
 * @length:  1 to 8
 * @write:   a store
 *
 * An access that runs over the end of a way is cut there, and its parts travel
 * each in its own; what is beyond the region's end reads as ones and is
 * dropped. A device that is lost reads as all ones and swallows writes, with
 * success, as PCI does for a device that is gone; so does an access that the
 * server answers with an error or not in time.
 *
 * Context: any thread, any number at once. Sleeps where the way is a message.
 * Return: 0; -ENOENT: the address is nobody's here, @data untouched; -EINTR:
 * called back by cleat_cancel_set(), call again with the same access when the
 * vCPU runs again (a request that is under way is then picked up, not sent
 * twice; any other access under the same handle gives it up); -EINVAL for a
 * length that no CPU has.
 */
CLEAT_API int cleat_mmio_access(struct cleat_mmio *mmio, enum cleat_space space,
				uint64_t address, void *data, unsigned length,
				bool write);

/* Flags of cleat_mmio_coalesce(). */

/* Although the device has mapped pages or doorbells that the guest writes to. */
#define CLEAT_COALESCE_ANYWAY (1u << 0)

/**
 * cleat_mmio_coalesce() - let a device's writes be posted and collected
 * @mmio:   the table
 * @dev:    the device
 * @region: its region number, bound in @mmio and never placed yet
 * @offset: in the region, bytes
 * @length: bytes
 * @flags:  CLEAT_COALESCE_*
 * @reterr: why it failed; may be NULL
 *
 * For registers that are programmed in bulk, by writes whose effect nobody
 * waits for. What the guest writes there by message is posted: no reply is
 * awaited, and an error of the device's is not told. Where the VM has
 * struct cleat_vm_ops' coalesce_add, most of these writes do not exit either,
 * and go out together (REGION_WRITE_MULTI where the server has it) at the next
 * access to the device or the next cleat_mmio_drain(), whichever is first.
 * Writes to one device stay in order, and a read goes after all of them. One
 * that the device refuses may take those with it that were sent together.
 *
 * Not for a device with a direct way for writes (mapped pages, ioeventfds,
 * shadow doorbells): those do not wait for what is collected. Not for a register
 * whose write is a kick either: it would stay where it is until the guest exits
 * for another reason. Parts with another way than a message are left out.
 *
 * Call it before the guest runs: cleat_pci_create() has bound the BARs then. A
 * server that is slow to read delays all that wait for the ring: see
 * docs/security.md.
 *
 * Context: control. Does not sleep.
 * Return: 0, -ENOENT (the region is not bound here), -ERANGE (not inside it),
 * -EBUSY (placed before), -EEXIST (overlaps with an earlier call's), -EOPNOTSUPP (a
 * direct way), -EINVAL (a flag; or another VM's ring in the same table),
 * -ENOMEM.
 */
CLEAT_API int cleat_mmio_coalesce(struct cleat_mmio *mmio,
				  struct cleat_device *dev, unsigned region,
				  uint64_t offset, uint64_t length,
				  uint32_t flags, struct cleat_error *reterr);

/**
 * cleat_mmio_drain() - send what was collected
 * @mmio: the table
 *
 * First of all whenever KVM_RUN has returned, if cleat_mmio_coalesce() is used,
 * whatever the exit is, and when the vCPUs have been stopped. Costs two loads
 * when there is nothing. What the guest wrote before the call has been sent
 * when it returns, by this thread or by another. Accesses to the devices
 * concerned do it by themselves.
 *
 * Context: any thread, any number at once, no lock held that an access of
 * another thread needs. May sleep, until the sockets have room.
 * Return: 0, or -EINTR: called back by cleat_cancel_set(), call again; nothing
 * is lost.
 */
CLEAT_API int cleat_mmio_drain(struct cleat_mmio *mmio);

/**
 * cleat_mmio_fault() - KVM_RUN has failed with EFAULT
 * @mmio: the table
 *
 * Looks for mapped segments whose file no longer has the pages, takes them out
 * of the guest and ends the connection to their servers. If there are none, the
 * pages may be back already, or be gone with their slot: then, unless such a
 * slot was taken out anyway since this thread asked last, all segments whose
 * pages can go away (no F_SEAL_SHRINK, or huge pages) are taken out, and go by
 * message until the region is placed the next time. So a VMM that has other
 * reasons for such faults looks for those first.
 *
 * Context: vCPU threads. Sleeps.
 * Return: 0: a slot was taken out that may have been the cause, by this or by
 * another thread, since this one asked last, run the vCPU again; -ENOENT: the
 * fault is not the library's.
 */
CLEAT_API int cleat_mmio_fault(struct cleat_mmio *mmio);

/**
 * struct cleat_emulated - a part of a region that is served in this process
 * @offset: in the region, bytes
 * @length: bytes
 * @access: do one access; @data as in cleat_mmio_access(), @offset relative to
 *          the part. Any vCPU thread, no lock held. Return: 0 or -EINTR.
 * @opaque: handed to @access
 *
 * It goes before everything the server offers for the same addresses, page by
 * page where the server offers pages.
 */
struct cleat_emulated {
	uint64_t offset;
	uint64_t length;
	int (*access)(void *opaque, uint64_t offset, void *data,
		      unsigned length, bool write);
	void *opaque;
};

/**
 * struct cleat_binding - one region of one device, ready to be placed
 */
struct cleat_binding;

/**
 * struct cleat_binding_config - which region, and what with
 * @size:         sizeof(struct cleat_binding_config)
 * @device:       the device
 * @region:       its region number
 * @space:        memory or ports
 * @order:        of two regions at one address the lower order keeps it
 * @ops:          where slots and ioeventfds are made; NULL: everything traps;
 *                copied
 * @emulated:     parts served in this process; copied
 * @num_emulated: how many
 */
struct cleat_binding_config {
	uint32_t size;
	struct cleat_device *device;
	unsigned region;
	enum cleat_space space;
	uint32_t order;
	const struct cleat_vm_ops *ops;
	const struct cleat_emulated *emulated;
	unsigned num_emulated;
};

/**
 * cleat_mmio_bind() - find the ways into a region
 * @mmio:        the table
 * @config:      which region
 * @ret_binding: written on success
 * @reterr:      why it failed; may be NULL
 *
 * Asks GET_REGION_IO_FDS, maps what can be mapped, and resolves the region into
 * segments. The region is not reachable before cleat_binding_place(). Areas and
 * descriptors that break the rules are left out (the segment says why): the
 * guest reaches those parts by message.
 *
 * Context: control. Sleeps.
 * Return: 0, -ENOENT (no such region, or it is empty), -EINVAL, -ENOMEM,
 * -ESHUTDOWN, -ECANCELED.
 * Ownership: the caller's; cleat_mmio_unbind().
 */
CLEAT_API int cleat_mmio_bind(struct cleat_mmio *mmio,
			      const struct cleat_binding_config *config,
			      struct cleat_binding **ret_binding,
			      struct cleat_error *reterr);

/**
 * cleat_mmio_unbind() - unplace a binding and free it
 * @binding: may be NULL
 *
 * No access is inside it when it returns: those that wait for the server are
 * called back (they read ones, as from a device that is gone), and one that
 * cannot even send its request waits for its time limit at most.
 *
 * Context: control. Sleeps.
 * Return: NULL.
 */
CLEAT_API struct cleat_binding *
cleat_mmio_unbind(struct cleat_binding *binding);

/**
 * cleat_binding_refresh() - ask a server once more for the ways into a region
 * @binding: replaced on success, where it is and with what it was made with;
 *           one that was got before, and its segments, are gone then
 * @reterr:  why it failed; may be NULL
 *
 * For servers that have more ioeventfds or shadows once they are at work. The
 * guest does not notice: its accesses take the old ways or the new ones.
 * Whatever was posted before is done when the first new way is there. Counts
 * begin anew. A store to a mapped page that the VMM still does costs a few
 * nanoseconds more until the region is placed again.
 *
 * Context: control; one thread per binding. Sleeps, until accesses in flight
 * have ended.
 * Return: 0, -EBUSY (cleat_mmio_coalesce() was called for any region of the
 * device, with whatever flags), or as cleat_mmio_bind(); then nothing has
 * changed.
 */
CLEAT_API int cleat_binding_refresh(struct cleat_binding **binding,
				    struct cleat_error *reterr);

/**
 * cleat_binding_place() - let the guest reach a region
 * @binding: the binding; moved if it is placed elsewhere
 * @address: guest address of the region's first byte
 *
 * Publishes the range, then makes slots and ioeventfds. Where any part of it is
 * another's (reserved, or of a lower order) the binding waits and takes the
 * place when it is free; that is no error. Neither is it one that the device is
 * lost or shut down.
 *
 * Context: control. Sleeps (a grace period).
 * Return: 0, -ERANGE (beyond the end of the space), -ENOMEM.
 */
CLEAT_API int cleat_binding_place(struct cleat_binding *binding,
				  uint64_t address);

/**
 * cleat_binding_unplace() - take a region away from the guest
 * @binding: the binding; nothing happens if it is not placed
 *
 * Takes slots and ioeventfds away, then the range. Accesses in flight complete.
 *
 * Context: control. Sleeps (a grace period).
 */
CLEAT_API void cleat_binding_unplace(struct cleat_binding *binding);

/**
 * cleat_binding_kick() - write every eventfd of a region once
 * @binding: the binding
 *
 * For a server that may have missed what was written to them: after a
 * migration, above all. It finds nothing new, or what it was to find.
 *
 * Context: any thread. Does not sleep.
 */
CLEAT_API void cleat_binding_kick(struct cleat_binding *binding);

/**
 * cleat_binding_segment() - one segment of a binding
 * @binding: the binding
 * @segment: from 0
 * @ret:     written on success; what it points to is valid until unbound
 *
 * Context: control.
 * Return: 0, or -ENOENT past the last one.
 */
CLEAT_API int cleat_binding_segment(struct cleat_binding *binding,
				    unsigned segment,
				    struct cleat_segment *ret);

/* Buckets of struct cleat_mmio_stats: bucket i counts waits of 2^i ns. */
#define CLEAT_MMIO_BUCKETS 40

/**
 * struct cleat_mmio_stats - which ways the VMM's share of accesses went
 * @size:     sizeof(struct cleat_mmio_stats), set by the caller
 * @reads:    loads that came through cleat_mmio_access(), by way
 * @writes:   stores, likewise
 * @failed:   accesses that read ones or were dropped
 * @called_back: accesses ended by -EINTR
 * @wait_ns:  histogram of how long a message took, reply included: bucket i
 *            counts those of at least 2^i and less than 2^(i+1) ns
 * @wait_worst_ns: the longest
 * @coalesced: stores that did not exit but were collected; among @writes too
 *
 * What takes no exit (a slot, an ioeventfd) is not seen here.
 */
struct cleat_mmio_stats {
	uint32_t size;
	uint64_t reads[CLEAT_NUM_WAYS];
	uint64_t writes[CLEAT_NUM_WAYS];
	uint64_t failed;
	uint64_t called_back;
	uint64_t wait_ns[CLEAT_MMIO_BUCKETS];
	uint64_t wait_worst_ns;
	uint64_t coalesced;
};

/**
 * cleat_binding_stats() - count the accesses to a binding
 * @binding: the binding
 * @stats:   @stats->size set by the caller
 *
 * Context: any thread. Does not sleep.
 * Return: 0 or -EINVAL.
 */
CLEAT_API int cleat_binding_stats(struct cleat_binding *binding,
				  struct cleat_mmio_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
