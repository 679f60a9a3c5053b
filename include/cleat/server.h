/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cleat/server.h: serve one PCI device to one client at a time over
 * vfio-user (libcleat-server, pkg-config cleat-server).
 *
 * How the parts fit together:
 *
 *	cleat_server_create()		the device's ops are given here
 *	cleat_server_add_region()	BARs, ROM, device-specific regions
 *	cleat_server_add_irqs()		INTx, MSI, MSI-X, ... and their counts
 *	cleat_server_pci_create()	configuration space (optional; a device
 *					may serve that region by itself)
 *	cleat_server_watch()		the device's own descriptors: doorbell
 *					eventfds, timers, completions
 *	cleat_server_listen() or cleat_server_adopt()
 *	cleat_server_run()		until cleat_server_stop()
 *	cleat_server_destroy()
 *
 * One thread drives it all: every callback runs inside cleat_server_run() or
 * cleat_server_step(), on the thread that called it, and every function here
 * is called on that thread, callbacks included, unless its Context: line says
 * otherwise. Nothing is locked.
 *
 * The client is not trusted. The library checks each length, count, offset,
 * flag and descriptor of a message before a callback sees it; region accesses
 * reach the device only inside the region and with at most max_data_xfer
 * bytes. The data itself is the guest's, and for the device to judge.
 *
 * When the client goes, the device loses all guest memory and all interrupt
 * eventfds and keeps everything else; the next client is then accepted.
 */
#ifndef CLEAT_SERVER_H
#define CLEAT_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <cleat/api.h>
#include <cleat/error.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cleat_server;
struct cleat_server_pci;

/* ------------------------------------------------------------------ */
/* The device                                                          */

/**
 * struct cleat_server_ops - what the library calls in a device
 * @size:                sizeof(struct cleat_server_ops)
 * @region_read:         fill @buf with @count bytes from @offset of region
 *                       @index; 0 or -errno, which becomes the error reply
 * @region_write:        the other way. A register that is also covered by a
 *                       mapped area or an IO descriptor is written this way
 *                       too, whenever the client likes to: both must work
 * @reset:               function-level reset, by DEVICE_RESET or by the PCI
 *                       Express capability; replied to when it returns. May
 *                       be NULL: the device is then said to have no reset
 * @dma_mapped:          guest memory [@iova, @iova + @length) can be used now
 * @dma_unmapping:       guest memory is about to go. When this returns,
 *                       no I/O of the device's uses it and no pointer from
 *                       cleat_server_dma_map() into it is left; the library
 *                       unmaps it and only then replies to the client. Also
 *                       called for each range when the client goes
 * @irqs_changed:        the client set, cleared, masked or unmasked
 *                       interrupts of @index
 * @client_connected:    after VERSION has been agreed on
 * @client_disconnected: after its memory and interrupts are gone
 * @poll:                called in every turn of the loop, for devices whose
 *                       doorbells are mapped memory. Return 1 when there was
 *                       work, 0 when there was none, -1 when there is nothing
 *                       to poll until a callback changes that. See
 *                       poll_busy_us and poll_sleep_us
 *
 * Any member may be NULL: accesses to a region without a callback fail with
 * EINVAL, the other events are not told.
 *
 * While the device waits inside cleat_server_dma_read() or _write() for the
 * client's answer, region_read, region_write, dma_mapped and irqs_changed may
 * be called (a client may be unable to answer before its own access is
 * served); dma_unmapping, reset, client_connected, client_disconnected, poll
 * and watches are not.
 */
struct cleat_server_ops {
	uint32_t size;
	int (*region_read)(void *opaque, uint32_t index, uint64_t offset,
			   void *buf, size_t count);
	int (*region_write)(void *opaque, uint32_t index, uint64_t offset,
			    const void *buf, size_t count);
	int (*reset)(void *opaque);
	void (*dma_mapped)(void *opaque, uint64_t iova, uint64_t length);
	void (*dma_unmapping)(void *opaque, uint64_t iova, uint64_t length);
	void (*irqs_changed)(void *opaque, uint32_t index);
	void (*client_connected)(void *opaque);
	void (*client_disconnected)(void *opaque);
	int (*poll)(void *opaque);
};

/* cleat_server_config.flags */
/* cleat_server_run() returns 0 when the first client has gone. */
#define CLEAT_SERVER_ONCE (1u << 0)
/* REGION_IO_FDS entries of 40 bytes, as version 0.9.1 prints them; shadow
 * doorbells do not fit in there and are left out. Without it: 48 bytes. */
#define CLEAT_SERVER_IO_FDS_40 (1u << 1)
/*
 * Survive a client that shrinks a file of guest memory under the server:
 * installs a SIGBUS handler that puts zeroes where the pages were and ends
 * that client's connection. Without it such a client kills the process.
 * Process-wide, so for programs of which the server is the main part. System
 * calls given such memory return -EFAULT either way.
 */
#define CLEAT_SERVER_SIGBUS (1u << 2)
/* Never offer the twin socket, even when the client asks. */
#define CLEAT_SERVER_NO_TWIN (1u << 3)

/**
 * struct cleat_server_config - one server; 0 or NULL chooses the default
 * @size:           sizeof(struct cleat_server_config)
 * @flags:          CLEAT_SERVER_*
 * @max_msg_fds:    descriptors taken in one message, 1 to 253; by default what
 *                  the client says it takes itself, and at least 8
 * @max_data_xfer:  largest region access in bytes; default and at most
 *                  1 MiB
 * @max_dma_maps:   ranges of guest memory at once; default 32768 (each is a
 *                  mapping, of which Linux gives a process 65530)
 * @dma_timeout_ms: how long a DMA by message may take; default 5000
 * @spin_us:        how long the loop looks at the socket without sleeping
 *                  after each message, for latency; default 0: sleep at once
 * @poll_busy_us:   with a poll callback: how long the loop goes on without
 *                  sleeping after the last work was found; default 50
 * @poll_sleep_us:  with a poll callback: longest sleep between two polls of an
 *                  idle device; default 1000
 */
struct cleat_server_config {
	uint32_t size;
	uint32_t flags;
	uint32_t max_msg_fds;
	uint32_t max_data_xfer;
	uint32_t max_dma_maps;
	uint32_t dma_timeout_ms;
	uint32_t spin_us;
	uint32_t poll_busy_us;
	uint32_t poll_sleep_us;
};

/**
 * cleat_server_create() - make a server without regions and without a client
 * @config:  may be NULL: all defaults
 * @ops:     copied; members past its size count as NULL
 * @opaque:  first argument of every op
 * @ret_srv: written on success
 * @reterr:  written on failure, may be NULL
 *
 * Context: does not sleep.
 * Ownership: the caller ends the server with cleat_server_destroy().
 * Return: 0, -EINVAL, -ENOMEM, -EMFILE.
 */
CLEAT_API int cleat_server_create(const struct cleat_server_config *config,
				  const struct cleat_server_ops *ops,
				  void *opaque, struct cleat_server **ret_srv,
				  struct cleat_error *reterr);

/**
 * cleat_server_destroy() - end a server
 * @srv: may be NULL
 *
 * Disconnects the client (dma_unmapping and client_disconnected are called),
 * removes the socket file that cleat_server_listen() made, closes what the
 * library opened and frees everything, configuration space included. Not from
 * a callback.
 *
 * Context: the server's thread, outside callbacks. Calls ops.
 */
CLEAT_API void cleat_server_destroy(struct cleat_server *srv);

/* ------------------------------------------------------------------ */
/* Regions                                                             */

/**
 * struct cleat_server_area - a part of a region that the client may map
 * @offset:    byte offset in the region, page-aligned
 * @length:    in bytes, a multiple of the page size
 * @fd:        a file of at least @fd_offset + @length bytes, best a memfd
 *             sealed with F_SEAL_SHRINK (clients refuse others)
 * @fd_offset: where the area is in the file, page-aligned
 *
 * The device maps the file itself and is told nothing of what the guest
 * stores there.
 */
struct cleat_server_area {
	uint64_t offset;
	uint64_t length;
	int fd;
	uint64_t fd_offset;
};

/* cleat_server_io_fd.flags; the numbers are KVM's */
#define CLEAT_IO_FD_DATAMATCH (1u << 0)
#define CLEAT_IO_FD_PIO (1u << 1)

/**
 * struct cleat_server_io_fd - writes that may arrive by a descriptor
 * @offset:        byte offset in the region
 * @length:        1, 2, 4, 8, or 0 for a write of any width
 * @type:          CLEAT_IO_FD_IOEVENTFD, _IOREGIONFD or _SHADOW
 * @flags:         CLEAT_IO_FD_DATAMATCH, CLEAT_IO_FD_PIO (an I/O BAR)
 * @fd:            eventfd that is written instead of a message; may be that of
 *                 other entries as well
 * @shadow_fd:     CLEAT_IO_FD_SHADOW: the file in which the value written is
 *                 stored before the eventfd is
 * @shadow_offset: where in that file the word for this entry is
 * @datamatch:     with CLEAT_IO_FD_DATAMATCH: only this value
 */
struct cleat_server_io_fd {
	uint64_t offset;
	uint64_t length;
	uint32_t type;
	uint32_t flags;
	int fd;
	int shadow_fd;
	uint64_t shadow_offset;
	uint64_t datamatch;
};

/* cleat_server_region.flags; the numbers are VFIO's */
#define CLEAT_REGION_READ (1u << 0)
#define CLEAT_REGION_WRITE (1u << 1)

/**
 * struct cleat_server_region - one region
 * @size:    sizeof(struct cleat_server_region)
 * @index:   0-5 BARs, 6 expansion ROM, 7 configuration space (left to
 *           cleat_server_pci_create()), 8 VGA, up to 255 the device's own
 * @flags:   CLEAT_REGION_READ, CLEAT_REGION_WRITE
 * @length:  in bytes; for a BAR or ROM a power of two
 * @areas:   what the client may map, in ascending order, without overlap
 * @n_areas: how many, at most 64
 * @type:    of the device's own regions: number for the type capability, or 0
 * @subtype: goes with @type
 *
 * A region never added has length 0. One area that covers the whole region is
 * offered as such. Others go out as one descriptor when all lie in one file,
 * or as one per area when each has its own; that needs @fd_offset - @offset to
 * be the same for all of them and not negative: lay the file out like the
 * region. Whatever else it is goes out as capability 16 (SPARSE_MMAP_FDS),
 * which few clients know.
 */
struct cleat_server_region {
	uint32_t size;
	uint32_t index;
	uint32_t flags;
	uint64_t length;
	const struct cleat_server_area *areas;
	unsigned n_areas;
	uint32_t type;
	uint32_t subtype;
};

/**
 * cleat_server_add_region() - tell of a region
 * @srv:    a server without a client yet
 * @region: copied; its descriptors are duplicated
 * @reterr: written on failure, may be NULL
 *
 * Context: before there is a client. Does not sleep.
 * Return: 0, -EINVAL, -EEXIST, -ENOMEM, -EMFILE, -EBUSY with a client.
 */
CLEAT_API int cleat_server_add_region(struct cleat_server *srv,
				      const struct cleat_server_region *region,
				      struct cleat_error *reterr);

/**
 * cleat_server_set_io_fds() - tell which writes may come by a descriptor
 * @srv:     a server
 * @index:   an added region
 * @entries: copied, descriptors duplicated; replaces what was set before
 * @count:   0 to 4096
 *
 * Any time: a client sees the change when it asks again. The device watches
 * the eventfds itself, with cleat_server_watch(). When there are more
 * descriptors than the client takes in one message, the last entries are not
 * shown to it, and those writes keep coming as messages.
 *
 * Context: the server's thread. Does not sleep.
 * Return: 0, -EINVAL, -ENOENT, -ENOMEM, -EMFILE; on failure nothing changed.
 */
CLEAT_API int cleat_server_set_io_fds(struct cleat_server *srv, uint32_t index,
				      const struct cleat_server_io_fd *entries,
				      unsigned count);

/* ------------------------------------------------------------------ */
/* Connection and loop                                                 */

/**
 * cleat_server_listen() - make a socket and wait for clients on it
 * @srv:    a server
 * @path:   of the socket (--socket-path). A socket file that nobody listens on
 *          is replaced, anything else is left alone and -EADDRINUSE.
 *          A leading '@' means an abstract name
 * @reterr: written on failure, may be NULL
 *
 * Context: before cleat_server_run(). Does not sleep.
 * Return: 0, or -errno of socket, bind or listen.
 */
CLEAT_API int cleat_server_listen(struct cleat_server *srv, const char *path,
				  struct cleat_error *reterr);

/**
 * cleat_server_adopt() - use a socket that somebody else made (--fd)
 * @srv:    a server
 * @fd:     a listening stream socket, or a connected one: with the latter,
 *          cleat_server_run() returns 0 when that client has gone
 * @reterr: written on failure, may be NULL
 *
 * Context: before cleat_server_run(). Does not sleep.
 * Ownership: on success the library owns @fd, an exception to the rule
 * that descriptors are duplicated: a client must see the end of its
 * connection when the library closes it.
 * Return: 0, -EBADF, -ENOTSOCK, -EINVAL, -EBUSY when there is one already.
 */
CLEAT_API int cleat_server_adopt(struct cleat_server *srv, int fd,
				 struct cleat_error *reterr);

/**
 * cleat_server_run() - serve
 * @srv: a server that listens or has a client
 *
 * Context: sleeps.
 * Return: 0 after cleat_server_stop(), or when the only client there could be
 * has gone; -errno when the loop cannot go on. Never because of a client.
 */
CLEAT_API int cleat_server_run(struct cleat_server *srv);

/**
 * cleat_server_step() - one turn of the loop, for programs with their own
 * @srv:        a server
 * @timeout_us: longest sleep in microseconds; 0 does not sleep, -1 sleeps
 *              until there is something to do
 *
 * Context: the server's thread, outside callbacks. Sleeps.
 * Return: 1 go on, 0 where cleat_server_run() would return 0, -errno.
 */
CLEAT_API int cleat_server_step(struct cleat_server *srv, int64_t timeout_us);

/**
 * cleat_server_stop() - end cleat_server_run()
 * @srv: a server
 *
 * Context: any thread, and signal handlers. Does not sleep.
 */
CLEAT_API void cleat_server_stop(struct cleat_server *srv);

/**
 * cleat_server_disconnect() - end the client's connection
 * @srv: a server
 *
 * Takes effect when the callback that calls it has returned to the loop.
 *
 * Context: the server's thread. Does not sleep.
 */
CLEAT_API void cleat_server_disconnect(struct cleat_server *srv);

/**
 * cleat_server_connected() - is there a client that has agreed on a version?
 * @srv: a server
 *
 * Context: the server's thread. Does not sleep.
 * Return: true or false.
 */
CLEAT_API bool cleat_server_connected(const struct cleat_server *srv);

/**
 * cleat_server_watch() - call back when a descriptor of the device's is ready
 * @srv:    a server
 * @fd:     not watched yet
 * @events: EPOLLIN, EPOLLOUT, ... of <sys/epoll.h>, level-triggered
 * @func:   reads the descriptor until nothing is left; may watch and unwatch
 *          any descriptor, its own included
 * @opaque: first argument of @func
 *
 * Context: the server's thread. Does not sleep.
 * Ownership: the caller keeps @fd, and unwatches it before closing it.
 * Return: 0, -EEXIST, -ENOMEM, or -errno of epoll_ctl.
 */
CLEAT_API int cleat_server_watch(struct cleat_server *srv, int fd,
				 uint32_t events,
				 void (*func)(void *opaque, int fd,
					      uint32_t events),
				 void *opaque);

/**
 * cleat_server_unwatch() - stop watching
 * @srv: a server
 * @fd:  watched or not; no callback runs for it after this
 *
 * Context: the server's thread. Does not sleep.
 */
CLEAT_API void cleat_server_unwatch(struct cleat_server *srv, int fd);

/* ------------------------------------------------------------------ */
/* Guest memory                                                        */

/**
 * cleat_server_dma_map() - where guest memory is in this process
 * @srv:    a server
 * @iova:   guest address
 * @length: in bytes, not 0; may run over several adjoining ranges
 * @rights: CLEAT_READ (the device reads), CLEAT_WRITE, or both
 * @iov:    filled on success only
 * @n_iov:  entries that @iov has room for
 *
 * Another process, and the guest, change this memory at any time: read
 * what is to be checked once, into a local variable.
 *
 * The pointers hold until dma_unmapping has returned for their range. What is
 * behind them can be taken away by a client that shrinks its file; see
 * CLEAT_SERVER_SIGBUS.
 *
 * Context: does not sleep.
 * Return: number of entries filled; -ENOENT when any part is not mapped by the
 * client, -EACCES without the rights, -EOPNOTSUPP when any part came without a
 * descriptor (then cleat_server_dma_read() and _write() work), -E2BIG when
 * @n_iov is too small, -EINVAL for length 0 or a range past 2^64.
 */
CLEAT_API int cleat_server_dma_map(struct cleat_server *srv, uint64_t iova,
				   uint64_t length, uint32_t rights,
				   struct iovec *iov, unsigned n_iov);

/**
 * cleat_server_dma_read() - copy out of guest memory, whichever way there is
 * @srv:   a server
 * @iova:  guest address
 * @buf:   written; on failure with what had been read by then
 * @count: in bytes; 0 succeeds
 *
 * A memcpy where the client gave a descriptor; elsewhere DMA_READ messages, on
 * the twin socket when there is one. On the main socket other commands that
 * come in before the reply are served meanwhile (see struct cleat_server_ops).
 * QEMU answers no DMA while a region access of its own waits: do not call this
 * from region_read or region_write, but after those, from a watch.
 *
 * Context: sleeps up to dma_timeout_ms for each message.
 * Return: 0, -ENOENT, -EACCES, -EINVAL, -ENOTCONN, -ETIMEDOUT, -EBUSY when
 * called while another message DMA waits, or the client's own -errno.
 */
CLEAT_API int cleat_server_dma_read(struct cleat_server *srv, uint64_t iova,
				    void *buf, size_t count);

/**
 * cleat_server_dma_write() - copy into guest memory, whichever way there is
 * @srv:   a server
 * @iova:  guest address
 * @buf:   read
 * @count: in bytes; 0 succeeds
 *
 * As cleat_server_dma_read(). Returns after the client has confirmed: an
 * interrupt raised afterwards is seen by the guest after the data.
 *
 * Context: the server's thread. Sleeps up to dma_timeout_ms for each message.
 * Return: as cleat_server_dma_read().
 */
CLEAT_API int cleat_server_dma_write(struct cleat_server *srv, uint64_t iova,
				     const void *buf, size_t count);

/**
 * cleat_server_dma_dirty() - the device wrote through a mapped pointer
 * @srv:    a server
 * @iova:   guest address
 * @length: in bytes
 *
 * For dirty-page logging. Call it after the store and before telling
 * the guest; it costs a comparison when nobody logs. cleat_server_dma_write()
 * does it by itself.
 *
 * Context: the server's thread. Does not sleep.
 */
CLEAT_API void cleat_server_dma_dirty(struct cleat_server *srv, uint64_t iova,
				      uint64_t length);

/* ------------------------------------------------------------------ */
/* Interrupts                                                          */

/**
 * cleat_server_add_irqs() - tell of an interrupt type
 * @srv:    a server without a client yet
 * @index:  CLEAT_IRQ_*, or up to 15 one of the device's own
 * @count:  vectors, 0 to 2048; INTx has 1
 * @flags:  VFIO_IRQ_INFO_* of <linux/vfio.h>; 0 means EVENTFD and MASKABLE,
 *          for INTx AUTOMASKED too
 * @reterr: written on failure, may be NULL
 *
 * Types 0 to 4 exist with 0 vectors when never added.
 *
 * Context: before there is a client. Does not sleep.
 * Return: 0, -EINVAL, -EEXIST, -ENOMEM, -EBUSY with a client.
 */
CLEAT_API int cleat_server_add_irqs(struct cleat_server *srv, uint32_t index,
				    uint32_t count, uint32_t flags,
				    struct cleat_error *reterr);

/**
 * cleat_server_irq_raise() - fire a vector, or pull INTx up
 * @srv:    a server
 * @index:  CLEAT_IRQ_*
 * @vector: within the type
 *
 * MSI, MSI-X: writes the vector's eventfd; when the client masked the
 * vector, that is remembered and done once on unmasking. INTx is a level: it
 * stays up until cleat_server_irq_lower(); where the type is AUTOMASKED it
 * fires again after each unmasking while it is up.
 *
 * Context: does not sleep. With MSI or MSI-X the library stores nothing but
 * plain counters, yet it is not for other threads.
 * Return: 0; -EINVAL for no such vector; -ENOENT when the client has set no
 * eventfd for it (an INTx level is remembered all the same).
 */
CLEAT_API int cleat_server_irq_raise(struct cleat_server *srv, uint32_t index,
				     uint32_t vector);

/**
 * cleat_server_irq_lower() - let a level go
 * @srv:    a server
 * @index:  CLEAT_IRQ_INTX
 * @vector: 0
 *
 * Context: the server's thread. Does not sleep.
 */
CLEAT_API void cleat_server_irq_lower(struct cleat_server *srv, uint32_t index,
				      uint32_t vector);

/**
 * cleat_server_irq_armed() - has the client set an eventfd for this vector?
 * @srv:    a server
 * @index:  CLEAT_IRQ_*
 * @vector: within the type
 *
 * Context: the server's thread. Does not sleep.
 * Return: true or false.
 */
CLEAT_API bool cleat_server_irq_armed(const struct cleat_server *srv,
				      uint32_t index, uint32_t vector);

/* ------------------------------------------------------------------ */
/* Configuration space                                                 */

/* cleat_server_pci_config.bars[].flags */
#define CLEAT_BAR_IO (1u << 0)
#define CLEAT_BAR_64 (1u << 1)
#define CLEAT_BAR_PREFETCH (1u << 2)

/**
 * struct cleat_server_pci_ops - what configuration space tells the device
 * @size:            sizeof(struct cleat_server_pci_ops)
 * @command_changed: the command register went from @old to @now
 *                   (PCI_COMMAND_* of <linux/pci_regs.h>)
 * @msi_changed:     MSI went on or off
 * @msix_changed:    MSI-X enable or function mask changed
 * @config_written:  after any write, with what the guest wrote; for
 *                   capabilities of the device's own
 *
 * Any member may be NULL. A function-level reset arrives as the server's
 * reset op.
 */
struct cleat_server_pci_ops {
	uint32_t size;
	void (*command_changed)(void *opaque, uint16_t old, uint16_t now);
	void (*msi_changed)(void *opaque, bool enabled);
	void (*msix_changed)(void *opaque, bool enabled, bool masked);
	void (*config_written)(void *opaque, uint32_t offset, size_t count);
};

/**
 * struct cleat_server_pci_config - what configuration space says
 * @size:          sizeof(struct cleat_server_pci_config)
 * @vendor, @device, @subvendor, @subdevice: identity
 * @class_code:    24 bits: class, subclass, programming interface
 * @revision:      revision
 * @interrupt_pin: 1 (A) to 4, or 0 for no INTx
 * @bars:          CLEAT_BAR_* of each; sizes are those of the added regions.
 *                 The register after a CLEAT_BAR_64 must have no region
 * @pm:            power management capability
 * @pcie:          PCI Express endpoint capability, with FLR when the
 *                 server has a reset op
 * @msi_vectors:   0 for no MSI, or 1, 2, 4, 8, 16, 32 (64-bit, maskable)
 * @msix_vectors:  0 for no MSI-X, to 2048
 * @msix_bar, @msix_table: where the table is; page-aligned is best
 * @msix_pba_bar, @msix_pba: where the pending bits are
 * @serial:        device serial number (extended capability), or 0
 *
 * The library serves message accesses to the MSI-X table and the pending bits
 * itself; they never reach the device's ops. It adds the interrupt types for
 * the pin and the vectors given here unless they have been added.
 */
struct cleat_server_pci_config {
	uint32_t size;
	uint16_t vendor, device, subvendor, subdevice;
	uint32_t class_code;
	uint8_t revision;
	uint8_t interrupt_pin;
	struct {
		uint32_t flags;
	} bars[6];
	bool pm;
	bool pcie;
	uint16_t msi_vectors;
	uint16_t msix_vectors;
	uint8_t msix_bar, msix_pba_bar;
	uint32_t msix_table, msix_pba;
	uint64_t serial;
};

/**
 * cleat_server_pci_create() - configuration space for the server's device
 * @srv:     a server without a client yet, whose BARs have been added
 * @config:  copied
 * @ops:     may be NULL; copied
 * @opaque:  first argument of the ops
 * @ret_pci: written on success
 * @reterr:  written on failure, may be NULL
 *
 * Adds region 7, 4096 bytes with @pcie, else 256.
 *
 * Context: before there is a client. Does not sleep.
 * Ownership: goes with the server.
 * Return: 0, -EINVAL, -EEXIST, -ENOMEM.
 */
CLEAT_API int
cleat_server_pci_create(struct cleat_server *srv,
			const struct cleat_server_pci_config *config,
			const struct cleat_server_pci_ops *ops, void *opaque,
			struct cleat_server_pci **ret_pci,
			struct cleat_error *reterr);

/**
 * cleat_server_pci_add_cap() - add a capability of the device's own
 * @pci:      configuration space, without a client yet
 * @id:       PCI_CAP_ID_*
 * @body:     what follows the two bytes of id and next
 * @writable: as long as @body, a set bit can be written; NULL: none
 * @length:   of the body in bytes
 *
 * Context: before there is a client. Does not sleep.
 * Return: offset of the capability, or -ENOSPC, -EINVAL.
 */
CLEAT_API int cleat_server_pci_add_cap(struct cleat_server_pci *pci, uint8_t id,
				       const void *body, const void *writable,
				       size_t length);

/**
 * cleat_server_pci_add_ext_cap() - add an extended capability
 * @pci:      configuration space with @pcie, without a client yet
 * @id:       PCI_EXT_CAP_ID_*
 * @version:  1 to 15
 * @body:     what follows the four bytes of the header
 * @writable: as long as @body, a set bit can be written; NULL: none
 * @length:   of the body in bytes
 *
 * Context: before there is a client. Does not sleep.
 * Return: offset of the capability, or -ENOSPC, -EINVAL.
 */
CLEAT_API int cleat_server_pci_add_ext_cap(struct cleat_server_pci *pci,
					   uint16_t id, uint8_t version,
					   const void *body,
					   const void *writable, size_t length);

/**
 * cleat_server_pci_get() - read configuration space
 * @pci:    configuration space
 * @offset: in bytes
 * @width:  1, 2 or 4
 *
 * Context: the server's thread. Does not sleep.
 * Return: the value; all ones outside.
 */
CLEAT_API uint32_t cleat_server_pci_get(const struct cleat_server_pci *pci,
					uint32_t offset, unsigned width);

/**
 * cleat_server_pci_set() - change configuration space from the device's side
 * @pci:    configuration space
 * @offset: in bytes
 * @width:  1, 2 or 4
 * @value:  stored as it is, writable or not; no op is called
 *
 * Context: the server's thread. Does not sleep.
 */
CLEAT_API void cleat_server_pci_set(struct cleat_server_pci *pci,
				    uint32_t offset, unsigned width,
				    uint32_t value);

/**
 * cleat_server_pci_raise() - interrupt by the type the guest has enabled
 * @pci:    configuration space
 * @vector: modulo the number of MSI vectors the guest allowed, with MSI;
 *          the pin with INTx
 *
 * Context: the server's thread. Does not sleep.
 * Return: as cleat_server_irq_raise(); -ENOENT when no type is enabled.
 */
CLEAT_API int cleat_server_pci_raise(struct cleat_server_pci *pci,
				     uint32_t vector);

/**
 * cleat_server_pci_lower() - the device needs no service: let INTx go
 * @pci: configuration space
 *
 * Context: the server's thread. Does not sleep.
 */
CLEAT_API void cleat_server_pci_lower(struct cleat_server_pci *pci);

/* ------------------------------------------------------------------ */
/* Migration                                                           */

/**
 * enum cleat_server_phase - what a migration asks of the device
 * @CLEAT_SERVER_STOPPED: at rest: nothing of its state changes
 * @CLEAT_SERVER_RUNNING: as usual
 * @CLEAT_SERVER_SAVING:  at rest, and asked for its state
 * @CLEAT_SERVER_LOADING: at rest, and given another state
 * @CLEAT_SERVER_PRE_SAVING: running, and asked for its state
 *
 * At rest the library calls neither poll nor the device's watches; what they
 * have missed is there when it runs again.
 */
enum cleat_server_phase {
	CLEAT_SERVER_STOPPED = 1,
	CLEAT_SERVER_RUNNING = 2,
	CLEAT_SERVER_SAVING = 3,
	CLEAT_SERVER_LOADING = 4,
	CLEAT_SERVER_PRE_SAVING = 6,
};

/* cleat_server_migration.flags */
/* The first generation of the protocol, a region; otherwise the second. */
#define CLEAT_SERVER_MIGRATE_V1 (1u << 0)
/* The device can be asked for its state while it runs. */
#define CLEAT_SERVER_MIGRATE_PRE_COPY (1u << 1)

/* One record of a device's state, in bytes. */
#define CLEAT_SERVER_RECORD 65536u

/**
 * struct cleat_server_migration - how the device's state is had
 * @size:    sizeof(struct cleat_server_migration)
 * @flags:   CLEAT_SERVER_MIGRATE_*
 * @name:    what its state is called, at most 31 bytes: another's is refused
 * @version: of its state: a higher one is refused
 * @change:  go from one phase to another; 0, or -errno: it stays in @old. When
 *           a state has been loaded, @loaded comes before. After DEVICE_RESET
 *           the device is in RUNNING whatever is returned; a function-level
 *           reset by the guest changes no phase. May be NULL
 * @save:    put the next record into @buf, at most @room (CLEAT_SERVER_RECORD)
 *           bytes: its length; 0: nothing for now, or, in SAVING, nothing more;
 *           -errno. It begins anew with each PRE_SAVING, and with SAVING when
 *           that follows on another phase
 * @load:    take the next record, which is one of @save's, unharmed
 * @loaded:  the last one has come: check the whole, and only then be it
 * @left:    an estimate of the bytes @save still has; may be NULL
 *
 * The library wraps the records, so that what is damaged, cut off, or another
 * device's never reaches @load or @loaded, and carries configuration space and
 * INTx's level by itself. The former is there before @loaded, which may look at
 * it, and is what it was again if that refuses; the line goes up afterwards.
 * After a refusal the device stays in LOADING until a reset.
 */
struct cleat_server_migration {
	uint32_t size;
	uint32_t flags;
	const char *name;
	uint32_t version;
	int (*change)(void *opaque, enum cleat_server_phase old,
		      enum cleat_server_phase now);
	int (*save)(void *opaque, void *buf, size_t room);
	int (*load)(void *opaque, uint32_t version, const void *buf,
		    size_t count);
	int (*loaded)(void *opaque);
	uint64_t (*left)(void *opaque);
};

/**
 * cleat_server_add_migration() - let the device migrate
 * @srv:       a server without a client yet; @opaque is that of its ops
 * @migration: copied; @save, @load and @loaded are needed
 * @reterr:    written on failure, may be NULL
 *
 * With CLEAT_SERVER_MIGRATE_V1 this adds region 9.
 *
 * Context: before there is a client. Does not sleep.
 * Return: 0, -EINVAL, -EEXIST, -EBUSY with a client, -ENOMEM, or what
 * cleat_server_add_region() returns.
 */
CLEAT_API int
cleat_server_add_migration(struct cleat_server *srv,
			   const struct cleat_server_migration *migration,
			   struct cleat_error *reterr);

/* ------------------------------------------------------------------ */
/* Statistics                                                          */

#define CLEAT_SERVER_COMMANDS 32

/**
 * struct cleat_server_stats - what happened since the server was made
 * @size:        sizeof(struct cleat_server_stats), set by the caller
 * @commands:    messages received, by command number
 * @unknown:     messages received with a command out of range
 * @errors:      commands that failed
 * @no_reply:    commands that wanted no reply
 * @clients:     connections that agreed on a version
 * @irqs:        eventfds written, by type
 * @irqs_lost:   raised without an eventfd
 * @dma_reads, @dma_writes: messages sent to the client
 * @wakeups:     returns from sleep
 * @watches:     watch callbacks run
 * @polls:       poll callbacks that found work
 */
struct cleat_server_stats {
	uint32_t size;
	uint64_t commands[CLEAT_SERVER_COMMANDS];
	uint64_t unknown;
	uint64_t errors;
	uint64_t no_reply;
	uint64_t clients;
	uint64_t irqs[16];
	uint64_t irqs_lost;
	uint64_t dma_reads, dma_writes;
	uint64_t wakeups;
	uint64_t watches;
	uint64_t polls;
};

/**
 * cleat_server_get_stats() - read the counters
 * @srv:   a server
 * @stats: size set by the caller; the rest is written
 *
 * Context: the server's thread. Does not sleep.
 */
CLEAT_API void cleat_server_get_stats(const struct cleat_server *srv,
				      struct cleat_server_stats *stats);

/**
 * cleat_server_command_name() - for statistics and messages
 * @command: number in the protocol
 *
 * Context: any thread. Does not sleep.
 * Return: such as "REGION_READ", or NULL.
 */
CLEAT_API const char *cleat_server_command_name(unsigned command);

#ifdef __cplusplus
}
#endif

#endif
