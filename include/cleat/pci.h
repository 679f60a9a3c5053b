/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CLEAT_PCI_H
#define CLEAT_PCI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cleat/api.h>
#include <cleat/device.h>
#include <cleat/error.h>
#include <cleat/mmio.h>
#include <cleat/vm.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * struct cleat_pci - one PCI function built on one device
 *
 * Config space as the guest sees it, BARs placed as the guest programs them,
 * MSI and MSI-X with their table and PBA, INTx. docs/pci.md says field by field
 * who does what. As with any PCI function, no MSI reaches the guest while it
 * has bus mastering off (command bit 2): what comes meanwhile is kept.
 */
struct cleat_pci;

/**
 * struct cleat_pci_config - the function to build
 * @size:     sizeof(struct cleat_pci_config)
 * @device:   the device behind it
 * @mmio:     where its BARs are placed
 * @ops:      what the VMM offers; NULL: everything traps, no interrupts
 * @function: bus << 8 | device << 3 | function; also the order among BARs
 */
struct cleat_pci_config {
	uint32_t size;
	struct cleat_device *device;
	struct cleat_mmio *mmio;
	const struct cleat_vm_ops *ops;
	uint32_t function;
};

/**
 * cleat_pci_create() - build a function
 * @config:  on what
 * @ret_pci: written on success
 * @reterr:  why it failed; may be NULL
 *
 * Reads the device's config space, checks it (BAR sizes, capability chains,
 * MSI-X table and PBA inside their BARs) and binds its regions.
 *
 * Context: control. Sleeps.
 * Return: 0, -EINVAL, -ENODEV (no PCI device), -EPROTO (an impossible one), or
 * as cleat_region_read().
 * Ownership: the caller's; cleat_pci_unref() before cleat_device_unref() or
 * after it.
 */
CLEAT_API int cleat_pci_create(const struct cleat_pci_config *config,
			       struct cleat_pci **ret_pci,
			       struct cleat_error *reterr);

/**
 * cleat_pci_unref() - take the function away
 * @pci: may be NULL
 *
 * Context: control. Sleeps.
 * Return: NULL.
 */
CLEAT_API struct cleat_pci *cleat_pci_unref(struct cleat_pci *pci);

/**
 * cleat_pci_config_access() - the guest reads or writes config space
 * @pci:    the function
 * @offset: 0 to 4095
 * @value:  read for writes, written for reads when 0 is returned
 * @length: 1, 2 or 4, aligned; anything else reads ones and is not written
 * @write:  the guest writes
 *
 * As cleat_pci_config_read() and cleat_pci_config_write(), for a vCPU thread
 * that has to come back when it is called (<cleat/cancel.h>). An access that
 * was called back has been done in part or not at all; the guest must not go on
 * before it was called again with the same arguments and has returned 0. A
 * write may then reach the server twice.
 *
 * Context: any thread. Sleeps.
 * Return: 0, or -EINTR: called back.
 */
CLEAT_API int cleat_pci_config_access(struct cleat_pci *pci, unsigned offset,
				      uint32_t *value, unsigned length,
				      bool write);

/**
 * cleat_pci_config_read() - the guest reads config space
 * @pci:    the function
 * @offset: 0 to 4095
 * @length: 1, 2 or 4, aligned
 *
 * Cannot be called back: a server that does not answer keeps it for the time
 * limit of an access.
 *
 * Context: any thread. Sleeps where the server has the register.
 * Return: the value; all ones for what cannot be read.
 */
CLEAT_API uint32_t cleat_pci_config_read(struct cleat_pci *pci, unsigned offset,
					 unsigned length);

/**
 * cleat_pci_config_write() - the guest writes config space
 * @pci:    the function
 * @offset: 0 to 4095
 * @value:  what
 * @length: 1, 2 or 4, aligned; anything else is dropped
 *
 * Places and unplaces BARs, enables and disables interrupts as the guest says.
 * Cannot be called back, as cleat_pci_config_read().
 *
 * Context: any thread; calls for one function are serialised inside. Sleeps.
 */
CLEAT_API void cleat_pci_config_write(struct cleat_pci *pci, unsigned offset,
				      uint32_t value, unsigned length);

/**
 * cleat_pci_reset() - reset the function, as a bus reset does
 * @pci: the function
 *
 * Context: control. Sleeps.
 * Return: 0 or as cleat_device_reset().
 */
CLEAT_API int cleat_pci_reset(struct cleat_pci *pci);

/**
 * cleat_pci_intx_eoi() - the guest has ended the function's INTx
 * @pci: the function
 *
 * For VMMs whose irqchip is not wholly in the kernel (no resample irqfd).
 *
 * Context: any thread. May sleep.
 */
CLEAT_API void cleat_pci_intx_eoi(struct cleat_pci *pci);

/**
 * cleat_pci_intx_rerouted() - the GSI that intx_gsi gives has changed
 * @pci: the function
 *
 * Context: control. Sleeps.
 */
CLEAT_API void cleat_pci_intx_rerouted(struct cleat_pci *pci);

/**
 * cleat_pci_save_size() - room that cleat_pci_save() needs
 * @pci: the function
 *
 * Context: any thread. Does not sleep.
 * Return: bytes, the same as long as the function lives; below 64 KiB.
 */
CLEAT_API size_t cleat_pci_save_size(const struct cleat_pci *pci);

/**
 * cleat_pci_save() - write down the function as the guest sees it
 * @pci:    its device stopped (cleat_migration_stop()), vCPUs too
 * @buf:    written on success; aligned to 8 bytes, as from malloc()
 * @room:   bytes, cleat_pci_save_size() at least
 * @reterr: why it failed; may be NULL
 *
 * Takes the function's interrupts from KVM first: what the device has raised
 * and KVM has not taken is saved as pending, like that of masked vectors. Save
 * the irqchip after this. Nothing is delivered until cleat_pci_resume(), which
 * is also how a migration that is called off goes on.
 *
 * Saved: config space, the server's registers in it too; BAR addresses; MSI,
 * the MSI-X table, masks and pending bits; INTx. Checksummed and versioned.
 *
 * Context: control. Sleeps.
 * Return: bytes written, -ENOBUFS, -ENOTCONN, -ETIMEDOUT or -ECANCELED; on
 * failure interrupts may have been taken already: cleat_pci_resume().
 */
CLEAT_API ssize_t cleat_pci_save(struct cleat_pci *pci, void *buf, size_t room,
				 struct cleat_error *reterr);

/**
 * cleat_pci_load() - make the function what it was elsewhere
 * @pci:    a function that no guest has used, its device in RUNNING or RESUMING
 * @buf:    as cleat_pci_save() wrote it; aligned to 8 bytes
 * @size:   bytes
 * @reterr: why it failed; may be NULL
 *
 * Checked before anything is touched: -EBADMSG for what is damaged, cut off or
 * no such thing, -EPROTONOSUPPORT for a newer one, -EXDEV for another function
 * (identity, BARs, capabilities). Then tells the server its registers, bus
 * master last, places the BARs and hands over the interrupts' eventfds.
 * Nothing is delivered until cleat_pci_resume().
 *
 * Context: control. Sleeps.
 * Return: 0, those above, -ENOTCONN, -ETIMEDOUT, -ECANCELED.
 */
CLEAT_API int cleat_pci_load(struct cleat_pci *pci, const void *buf,
			     size_t size, struct cleat_error *reterr);

/**
 * cleat_pci_resume() - go on after cleat_pci_save() or cleat_pci_load()
 * @pci: its device in RUNNING
 *
 * Wires the interrupts and delivers what was pending. After cleat_pci_load() it
 * also tells the server its registers once more (the device's state may have
 * brought others), kicks every doorbell that has an eventfd once, and fires
 * every enabled vector once, masked ones becoming pending: so nothing that was
 * on its way when the source stopped is lost. What drivers find without cause
 * they pass over, as with a shared interrupt. After cleat_pci_save() alone the
 * server is told that INTx has ended, since the guest's own end may have been
 * missed: with cause it fires again.
 *
 * Context: control. Sleeps.
 * Return: 0, -ENOTCONN, -ETIMEDOUT, -ECANCELED; then it can be called again.
 */
CLEAT_API int cleat_pci_resume(struct cleat_pci *pci);

/**
 * cleat_pci_refresh() - ask the server once more for the ways into each BAR
 * @pci:    the function
 * @reterr: why it failed; may be NULL
 *
 * cleat_binding_refresh() of every BAR. What cleat_pci_binding() gave before is
 * gone then.
 *
 * Context: control. Sleeps, until accesses in flight have ended.
 * Return: 0, -ECANCELED, or as cleat_binding_refresh() for the first BAR for
 * which it failed.
 */
CLEAT_API int cleat_pci_refresh(struct cleat_pci *pci,
				struct cleat_error *reterr);

/**
 * cleat_pci_binding() - a BAR's binding, to look at
 * @pci: the function
 * @bar: 0 to 5, 6 for the expansion ROM
 *
 * Context: control. Does not sleep.
 * Return: the binding, borrowed, or NULL if there is no such BAR.
 */
CLEAT_API struct cleat_binding *cleat_pci_binding(struct cleat_pci *pci,
						  unsigned bar);

/**
 * struct cleat_pci_stats - a function's interrupts
 * @size:     sizeof(struct cleat_pci_stats), set by the caller
 * @type:     0 none, 1 INTx, 2 MSI, 3 MSI-X: what is enabled now
 * @vectors:  vectors enabled and unmasked now
 * @irqfds:   of these, wired through KVM alone
 * @injected: interrupts that a thread of the library's had to inject
 * @placed:   times a BAR was placed
 */
struct cleat_pci_stats {
	uint32_t size;
	uint32_t type;
	uint32_t vectors;
	uint32_t irqfds;
	uint64_t injected;
	uint64_t placed;
};

/**
 * cleat_pci_stats() - look at a function's interrupts
 * @pci:   the function
 * @stats: @stats->size set by the caller
 *
 * Context: any thread. Does not sleep.
 * Return: 0 or -EINVAL.
 */
CLEAT_API int cleat_pci_stats(struct cleat_pci *pci,
			      struct cleat_pci_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
