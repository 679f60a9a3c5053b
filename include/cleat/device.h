/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CLEAT_DEVICE_H
#define CLEAT_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cleat/api.h>
#include <cleat/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * struct cleat_device - one connection to one vfio-user server: one device
 *
 * Any number of threads may use one device at once. When the connection is
 * lost, for whatever reason, the first cause is kept, every waiting thread ends
 * at once, and every later call fails with -ENOTCONN.
 */
struct cleat_device;

/* Flags of struct cleat_device_config. */

/*
 * The caller watches cleat_device_fd() and calls cleat_device_dispatch();
 * without it a thread of the library's (one per process) does.
 */
#define CLEAT_DEVICE_OWN_LOOP (1u << 0)
/* Do not ask for a twin socket. */
#define CLEAT_DEVICE_NO_TWIN (1u << 1)
/*
 * Secure mode: no descriptor of guest memory is ever given to this server. All
 * its DMA goes by message, inside the ranges and rights of the memory the
 * device is attached to (docs/security.md).
 */
#define CLEAT_DEVICE_SECURE (1u << 2)

/**
 * struct cleat_device_config - how to reach a server
 * @size:       sizeof(struct cleat_device_config)
 * @flags:      CLEAT_DEVICE_*
 * @path:       AF_UNIX socket path; a first '@' means the abstract namespace
 * @argv:       with @path NULL: the program to run, NULL-terminated; it gets
 *              "--fd=N" as a last argument and lives as long as the device
 * @fd:         with @path and @argv NULL: a connected stream socket; the
 *              library duplicates it, the caller keeps his
 * @access_ms:  time limit of one region access; 0 means 5000
 * @control_ms: time limit of the handshake (whole, connect included) and of
 *              commands that do not wait for the device; 0 means 5000
 * @quiesce_ms: time limit of commands for which the server has to bring its
 *              device to rest (DMA_UNMAP, RESET, state changes); 0 means 60000
 * @lost:       called once when the connection is lost, never after the last
 *              cleat_device_unref() has returned; may be NULL.
 *              Context: events.
 * @opaque:     handed to @lost
 * @peer:       which server this is, where the caller knows and the server has
 *              faults that can be lived with only if they are known (see
 *              docs/protocol.md, "Quirks"); NULL: no such word
 * @spin_us:    how long a thread that waits for a reply looks for it before it
 *              sleeps, at most 40000; 0: as the library finds it pays, at most
 *              50 us; CLEAT_SPIN_NEVER
 */
struct cleat_device_config {
	uint32_t size;
	uint32_t flags;
	const char *path;
	const char *const *argv;
	int fd;
	uint32_t access_ms;
	uint32_t control_ms;
	uint32_t quiesce_ms;
	void (*lost)(void *opaque, const struct cleat_error *why);
	void *opaque;
	const char *peer;
	uint32_t spin_us;
};

#define CLEAT_SPIN_NEVER UINT32_MAX

/**
 * cleat_device_open() - connect to a server and get to know its device
 * @config:     how to reach it
 * @ret_device: written on success
 * @reterr:     why it failed; may be NULL
 *
 * Connects, negotiates VERSION, asks GET_INFO, GET_REGION_INFO of every region
 * (again with the size the server asks for, if need be) and GET_IRQ_INFO of
 * every index.
 *
 * Context: control. Sleeps, at most @control_ms.
 * Return: 0; -EINVAL, -ENOMEM, -ENOENT, -ECONNREFUSED and what else connect()
 * and spawning give; -ETIMEDOUT; -ECONNRESET if the server closed; -EPROTO if
 * it broke the protocol or described an impossible device; -ECANCELED.
 * Ownership: the caller's one reference; cleat_device_unref().
 */
CLEAT_API int cleat_device_open(const struct cleat_device_config *config,
				struct cleat_device **ret_device,
				struct cleat_error *reterr);

/**
 * cleat_device_ref() - take one more reference
 * @dev: a device of which the caller holds a reference
 *
 * Context: any thread. Does not sleep.
 * Return: @dev.
 */
CLEAT_API struct cleat_device *cleat_device_ref(struct cleat_device *dev);

/**
 * cleat_device_unref() - give a reference back
 * @dev: may be NULL
 *
 * The last one shuts the device down: it is taken out of every dispatch table
 * and memory it is in, and no thread uses the connection any more when this
 * returns. Calls in flight end with -ESHUTDOWN; the memory goes when the last
 * of them has left. (A call that is begun later needs a reference.) Nothing is
 * asked of the server any more: a silent one is not waited for. A server that
 * the library started is told to end (SIGTERM, after 2 s SIGKILL) and waited
 * for, at most 2 s more.
 *
 * In a child of fork() the connection is the parent's and goes on: only the
 * child's own descriptors of it are closed.
 *
 * Context: control; not from a callback. Sleeps.
 * Return: NULL.
 */
CLEAT_API struct cleat_device *cleat_device_unref(struct cleat_device *dev);

/**
 * cleat_device_quirks() - the faults of this server that are lived with
 * @dev: an open device
 *
 * Context: any thread. Does not sleep.
 * Return: the name of the row of the table that was taken (docs/protocol.md,
 * "Quirks"), or NULL for none. Valid as long as the library.
 */
CLEAT_API const char *cleat_device_quirks(struct cleat_device *dev);

/* Flags of struct cleat_device_info. */
#define CLEAT_DEVICE_INFO_RESET (1u << 0)	/* DEVICE_RESET is understood */
#define CLEAT_DEVICE_INFO_PCI (1u << 1)		/* it is a PCI device */
#define CLEAT_DEVICE_INFO_TWIN (1u << 2)	/* twin socket in use */
#define CLEAT_DEVICE_INFO_WRITE_MULTI (1u << 3) /* REGION_WRITE_MULTI */

/**
 * struct cleat_device_info - what the handshake and GET_INFO told
 * @size:         sizeof(struct cleat_device_info), set by the caller
 * @flags:        CLEAT_DEVICE_INFO_*
 * @num_regions:  regions are 0 to @num_regions - 1
 * @num_irqs:     interrupt types (indexes, not vectors)
 * @major, @minor: protocol version agreed on
 * @max_msg_fds:  descriptors the server takes with one message
 * @max_transfer: bytes of data that one message to this server carries at most,
 *                as used, not as announced
 * @max_dma_maps: DMA windows the server takes
 * @page_sizes:   page sizes it takes in DMA, or'ed
 */
struct cleat_device_info {
	uint32_t size;
	uint32_t flags;
	uint32_t num_regions;
	uint32_t num_irqs;
	uint16_t major;
	uint16_t minor;
	uint32_t max_msg_fds;
	uint32_t max_transfer;
	uint32_t max_dma_maps;
	uint64_t page_sizes;
};

/**
 * cleat_device_info() - what is known of a device
 * @dev:  an open device
 * @info: @info->size set by the caller; no more than that is written
 *
 * Context: any thread. Does not sleep.
 * Return: 0, or -EINVAL for a size that is no version's of the struct.
 */
CLEAT_API int cleat_device_info(struct cleat_device *dev,
				struct cleat_device_info *info);

/* Flags of struct cleat_region_info, as in <linux/vfio.h>. */
#define CLEAT_REGION_READ (1u << 0)
#define CLEAT_REGION_WRITE (1u << 1)
#define CLEAT_REGION_MMAP (1u << 2)
#define CLEAT_REGION_CAPS (1u << 3)

/**
 * struct cleat_region_info - one region
 * @size:      sizeof(struct cleat_region_info), set by the caller
 * @flags:     CLEAT_REGION_*
 * @length:    bytes; 0: the region is not there
 * @num_areas: parts that can be mapped
 * @type, @subtype: of a device-specific region, otherwise 0
 */
struct cleat_region_info {
	uint32_t size;
	uint32_t flags;
	uint64_t length;
	uint32_t num_areas;
	uint32_t type;
	uint32_t subtype;
};

/**
 * cleat_region_info() - what is known of a region
 * @dev:   an open device
 * @index: region number, as VFIO_PCI_BAR0_REGION_INDEX and friends
 * @info:  @info->size set by the caller
 *
 * Context: any thread. Does not sleep.
 * Return: 0, -ENOENT if there is no such region, -EINVAL.
 */
CLEAT_API int cleat_region_info(struct cleat_device *dev, unsigned index,
				struct cleat_region_info *info);

/**
 * struct cleat_region_area - a part of a region that can be mapped
 * @offset:    in the region, bytes
 * @length:    bytes
 * @fd:        the server's file; borrowed, valid as long as the device
 * @fd_offset: where in the file the area begins, bytes
 */
struct cleat_region_area {
	uint64_t offset;
	uint64_t length;
	uint64_t fd_offset;
	int fd;
};

/**
 * cleat_region_area() - one mappable area
 * @dev:   an open device
 * @index: region number
 * @area:  0 to num_areas - 1; areas are in order of their offset and do not
 *         overlap
 * @ret:   written on success
 *
 * Context: any thread. Does not sleep.
 * Return: 0 or -ENOENT.
 */
CLEAT_API int cleat_region_area(struct cleat_device *dev, unsigned index,
				unsigned area, struct cleat_region_area *ret);

/**
 * struct cleat_io_fd - writes that may go by a descriptor instead of a message
 * @offset:    in the region, bytes
 * @length:    of an ioeventfd the width of the write, or 0 for any (what is
 *             neither 1, 2, 4 nor 8 no kernel takes: these are messages); of an
 *             ioregionfd how far it reaches
 * @type:      CLEAT_IO_FD_IOEVENTFD, _IOREGIONFD or _SHADOW
 * @match:     only writes of @datamatch
 * @ports:     of a region of I/O ports
 * @datamatch: the value, with @match
 * @fd:        an eventfd, or what the server calls an ioregionfd, which no
 *             kernel takes: these accesses are messages; -1: none
 * @shadow_fd: of a shadow doorbell the file into which the value is stored
 *             before @fd is kicked; otherwise -1
 * @shadow_offset: where in that file
 */
struct cleat_io_fd {
	uint64_t offset;
	uint64_t length;
	uint32_t type;
	bool match;
	bool ports;
	uint64_t datamatch;
	int fd;
	int shadow_fd;
	uint64_t shadow_offset;
};

/**
 * struct cleat_io_fds - those of a region
 * @num:     how many @entries
 * @entries: checked: inside the region, with their descriptors, ioeventfds
 *           being eventfds
 * @num_fds: how many @fds
 * @fds:     every descriptor once; entries borrow from here
 */
struct cleat_io_fds {
	unsigned num;
	struct cleat_io_fd *entries;
	unsigned num_fds;
	int *fds;
};

/**
 * cleat_device_io_fds() - ask for the IO descriptors of a region
 * @dev:    an open device
 * @index:  region number
 * @ret:    written in any case; cleat_io_fds_free()
 * @reterr: why it failed; may be NULL
 *
 * Sends GET_REGION_IO_FDS, so that a later call may give more than the first.
 * cleat_mmio_bind() asks by itself. A server that does not know the command
 * has none.
 *
 * Context: control. Sleeps.
 * Return: 0, -ENOENT (no such region), -EPROTO, -ENOMEM, -ENOTCONN, -ETIMEDOUT,
 * -ECANCELED, -ESHUTDOWN.
 * Ownership: the caller's, until cleat_io_fds_free().
 */
CLEAT_API int cleat_device_io_fds(struct cleat_device *dev, unsigned index,
				  struct cleat_io_fds *ret,
				  struct cleat_error *reterr);

/**
 * cleat_io_fds_free() - close the descriptors and free the entries
 * @io_fds: as filled in by cleat_device_io_fds(); empty afterwards
 *
 * Context: any thread. Does not sleep.
 */
CLEAT_API void cleat_io_fds_free(struct cleat_io_fds *io_fds);

/**
 * cleat_region_read() - read from a device region
 * @dev:    an open device
 * @index:  region number, as VFIO_PCI_BAR0_REGION_INDEX and friends
 * @offset: byte offset inside the region
 * @buf:    the bytes; undefined on failure
 * @count:  bytes; up to 8 go as one message, more is split at the
 *          connection's transfer size
 *
 * Sends REGION_READ (specification, "VFIO_USER_REGION_READ") and sleeps until
 * the reply, the access deadline, a cancel, or the end of the connection.
 *
 * Context: any thread, any number at once. Sleeps.
 * Return: 0, or -ENOTCONN, -ETIMEDOUT, -ECANCELED, -ESHUTDOWN, -EPROTO, -ERANGE
 * (not inside the region), -EACCES (not readable), or the server's own -errno;
 * on failure of a split read, how much was read is not told.
 */
CLEAT_API int cleat_region_read(struct cleat_device *dev, unsigned index,
				uint64_t offset, void *buf, size_t count);

/**
 * cleat_region_write() - write to a device region
 * @dev:    an open device
 * @index:  region number
 * @offset: byte offset inside the region
 * @buf:    what to write
 * @count:  bytes; split as cleat_region_read() does
 *
 * Sends REGION_WRITE (specification, "VFIO_USER_REGION_WRITE") and sleeps until
 * the server has acknowledged it. After -ETIMEDOUT or -ECANCELED the write may
 * or may not have been done, or be done later.
 *
 * Context: any thread, any number at once. Sleeps.
 * Return: as cleat_region_read().
 */
CLEAT_API int cleat_region_write(struct cleat_device *dev, unsigned index,
				 uint64_t offset, const void *buf,
				 size_t count);

/**
 * cleat_region_post() - write to a device region without waiting
 * @dev:    an open device
 * @index:  region number
 * @offset: byte offset inside the region
 * @buf:    what to write
 * @count:  bytes; split as cleat_region_read() does
 *
 * Sends REGION_WRITE with No_reply (specification, "Header"). The server does
 * what it receives in order, so any later replied command tells that this one
 * is done; a store to a mapped page or an ioeventfd does not wait for it. An
 * error of the device's is not told. When the socket has no room this waits for
 * some, until the access deadline.
 *
 * Context: any thread, any number at once. May sleep.
 * Return: 0 when all is sent, otherwise as cleat_region_write().
 */
CLEAT_API int cleat_region_post(struct cleat_device *dev, unsigned index,
				uint64_t offset, const void *buf,
				size_t count);

/**
 * struct cleat_region_store - one store of a batch
 * @offset: byte offset inside the region
 * @region: region number
 * @count:  1 to 8 bytes
 * @data:   little-endian
 */
struct cleat_region_store {
	uint64_t offset;
	uint32_t region;
	uint32_t count;
	uint8_t data[8];
};

/**
 * cleat_region_write_batch() - many small stores in order
 * @dev:    an open device
 * @stores: what to store
 * @num:    how many
 * @wait:   return when the server has done them all; otherwise when they are
 *          sent
 *
 * Sends REGION_WRITE_MULTI where the server has it (CLEAT_DEVICE_INFO_
 * WRITE_MULTI), posted REGION_WRITEs otherwise. Nothing is sent if one of them
 * is not inside its region.
 *
 * Context: any thread, any number at once. Sleeps.
 * Return: 0, -EINVAL (a @count of 0 or above 8), otherwise as
 * cleat_region_write(). An error of the device's is told only for the last of
 * them, and only with @wait.
 */
CLEAT_API int cleat_region_write_batch(struct cleat_device *dev,
				       const struct cleat_region_store *stores,
				       size_t num, bool wait);

/* What cleat_device_feature() does with a feature. */
#define CLEAT_FEATURE_GET (1u << 16)
#define CLEAT_FEATURE_SET (1u << 17)
#define CLEAT_FEATURE_PROBE (1u << 18)

/**
 * cleat_device_feature() - get, set or probe a feature
 * @dev:      an open device
 * @feature:  number, as VFIO_DEVICE_FEATURE_* of <linux/vfio.h>
 * @flags:    CLEAT_FEATURE_GET or CLEAT_FEATURE_SET, either with
 *            CLEAT_FEATURE_PROBE: then nothing is done, and 0 tells that it
 *            could be
 * @data:     the feature's struct, sent with SET, and with GET what it begins
 *            with; overwritten by the answer
 * @size:     bytes to send
 * @room:     bytes of room at @data
 * @ret_size: bytes that the answer has, may be NULL
 *
 * Sends DEVICE_FEATURE. A SET whose reply does not come has an unknown outcome:
 * the connection is lost.
 *
 * Context: control. Sleeps, at most the quiesce limit.
 * Return: 0, -EINVAL, -ENOBUFS (the answer is larger than @room), -ENOTCONN,
 * -ETIMEDOUT, -ECANCELED, -ESHUTDOWN, or the server's own -errno.
 */
CLEAT_API int cleat_device_feature(struct cleat_device *dev, uint16_t feature,
				   uint32_t flags, void *data, size_t size,
				   size_t room, size_t *ret_size);

/**
 * cleat_device_reset() - reset the device
 * @dev: an open device
 *
 * Sends DEVICE_RESET. If it does not end within the quiesce limit, or is
 * cancelled, its outcome is unknown and the connection is lost.
 *
 * Context: control. Sleeps.
 * Return: 0, -EOPNOTSUPP if the device cannot be reset, -ENOTCONN, -ETIMEDOUT,
 * -ECANCELED, -ESHUTDOWN, or the server's own -errno.
 */
CLEAT_API int cleat_device_reset(struct cleat_device *dev);

/**
 * cleat_device_fd() - what the caller's event loop watches for input
 * @dev: a device opened with CLEAT_DEVICE_OWN_LOOP
 *
 * Context: any thread. Does not sleep.
 * Return: an epoll descriptor, or -EINVAL without CLEAT_DEVICE_OWN_LOOP.
 * Ownership: borrowed; valid as long as the device.
 */
CLEAT_API int cleat_device_fd(struct cleat_device *dev);

/**
 * cleat_device_dispatch() - do what cleat_device_fd() was readable for
 * @dev: a device opened with CLEAT_DEVICE_OWN_LOOP
 *
 * Serves the server's own requests and notices the end of the connection;
 * callbacks run inside.
 *
 * Context: events: the caller's loop, one thread at a time. Does not wait for
 * the server.
 * Return: 0, or -ENOTCONN when the connection is lost.
 */
CLEAT_API int cleat_device_dispatch(struct cleat_device *dev);

/**
 * cleat_device_failure() - why the connection was lost
 * @dev: an open device
 * @why: written if it was lost; may be NULL
 *
 * Context: any thread. Does not sleep.
 * Return: 0 while the connection stands, -ENOTCONN once it is lost.
 */
CLEAT_API int cleat_device_failure(struct cleat_device *dev,
				   struct cleat_error *why);

/**
 * cleat_device_pid() - the server's process
 * @dev: an open device
 *
 * Context: any thread. Does not sleep.
 * Return: the pid of the process that the library started or that was at the
 * other end of the AF_UNIX socket when it connected; 0 if not known.
 */
CLEAT_API pid_t cleat_device_pid(struct cleat_device *dev);

/**
 * struct cleat_device_stats - what has gone over a connection so far
 * @size:           sizeof(struct cleat_device_stats), set by the caller
 * @requests:       requests begun, sent or yet to be
 * @posted:         of these, sent without asking for a reply
 * @replies:        replies received
 * @server_requests: requests of the server's that were served
 * @timeouts:       requests given up at their deadline, not those called back
 * @bytes_sent, @bytes_received: headers and replies included
 */
struct cleat_device_stats {
	uint32_t size;
	uint64_t requests;
	uint64_t posted;
	uint64_t replies;
	uint64_t server_requests;
	uint64_t timeouts;
	uint64_t bytes_sent;
	uint64_t bytes_received;
};

/**
 * cleat_device_stats() - count what went over the connection
 * @dev:   an open device
 * @stats: @stats->size set by the caller
 *
 * The counts are not of one instant.
 *
 * Context: any thread. Does not sleep.
 * Return: 0 or -EINVAL.
 */
CLEAT_API int cleat_device_stats(struct cleat_device *dev,
				 struct cleat_device_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
