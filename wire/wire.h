/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * wire: bytes and descriptors. Message structs, header checks, sendmsg and
 * recvmsg with descriptors, the peers' capability JSON, owned-fd helpers.
 * No policy, and no thread but the one that closes what a peer may let nobody
 * close; both ends of a connection use it.
 *
 * All integers on the wire are little-endian, as is every machine this runs on
 * (asserted in message.c).
 */
#ifndef CLEAT_WIRE_H
#define CLEAT_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <cleat/error.h>

/* --- Errors ------------------------------------------------------------- */

/**
 * cleat_fail() - fill in a caller's struct cleat_error
 * @reterr: the caller's storage, or NULL
 * @origin: who is to blame
 * @code:   negative errno
 * @format: printf format of one line without a newline
 *
 * Return: @code, so that a failing function can end with
 * "return cleat_fail(...)".
 */
int cleat_fail(struct cleat_error *reterr, enum cleat_error_origin origin,
	       int code, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* --- Commands and the header -------------------------------------------- */

#define VFIO_USER_VERSION 1
#define VFIO_USER_DMA_MAP 2
#define VFIO_USER_DMA_UNMAP 3
#define VFIO_USER_DEVICE_GET_INFO 4
#define VFIO_USER_DEVICE_GET_REGION_INFO 5
#define VFIO_USER_DEVICE_GET_REGION_IO_FDS 6
#define VFIO_USER_DEVICE_GET_IRQ_INFO 7
#define VFIO_USER_DEVICE_SET_IRQS 8
#define VFIO_USER_REGION_READ 9
#define VFIO_USER_REGION_WRITE 10
#define VFIO_USER_DMA_READ 11
#define VFIO_USER_DMA_WRITE 12
#define VFIO_USER_DEVICE_RESET 13
#define VFIO_USER_DIRTY_PAGES 14
#define VFIO_USER_REGION_WRITE_MULTI 15
#define VFIO_USER_DEVICE_FEATURE 16
#define VFIO_USER_MIG_DATA_READ 17
#define VFIO_USER_MIG_DATA_WRITE 18

/* The command's name as in the specification, or "command N" in no words: NULL
 * if it is none. */
const char *cleat_command_name(uint16_t command);

/* Flags of the header. */
#define CLEAT_HEADER_TYPE 0xfu
#define CLEAT_HEADER_COMMAND 0x0u
#define CLEAT_HEADER_REPLY 0x1u
#define CLEAT_HEADER_NO_REPLY (1u << 4)
#define CLEAT_HEADER_ERROR (1u << 5)

/* Specification, "Header". */
struct cleat_header {
	uint16_t id;
	uint16_t command;
	uint32_t size; /* of the whole message, header included */
	uint32_t flags;
	uint32_t error;
};

/*
 * No message of either side is larger: what the largest transfer carries, and
 * room for its fixed part.
 */
#define CLEAT_MAX_TRANSFER (1024u * 1024)
#define CLEAT_MAX_MESSAGE (CLEAT_MAX_TRANSFER + 4096)

/* What peers must assume of one another that say nothing (specification,
 * "VFIO_USER_VERSION"). */
#define CLEAT_DEFAULT_MSG_FDS 1
#define CLEAT_DEFAULT_DMA_MAPS 65535
#define CLEAT_DEFAULT_PAGE_SIZES 4096

/* -EPROTO unless a message with this header can be: size, type, flags. */
int cleat_header_check(const struct cleat_header *header);

/* The -errno that an error reply stands for: -EIO where it gives none, -EPROTO
 * where it gives no errno. 0 if the reply is no error. */
int cleat_header_error(const struct cleat_header *header);

/* --- Payloads, as they are on the wire ----------------------------------- */

struct cleat_wire_version {
	uint16_t major;
	uint16_t minor;
	/* JSON, NUL-terminated; may be missing altogether */
};

#define CLEAT_DMA_READ (1u << 0)
#define CLEAT_DMA_WRITE (1u << 1)
#define CLEAT_DMA_MMAP (1u << 2)
#define CLEAT_DMA_FILE_IO (1u << 3)

struct cleat_wire_dma_map {
	uint32_t argsz;
	uint32_t flags;
	uint64_t offset;
	uint64_t address;
	uint64_t size;
};

#define CLEAT_UNMAP_DIRTY (1u << 0)
#define CLEAT_UNMAP_ALL (1u << 1)

struct cleat_wire_dma_unmap {
	uint32_t argsz;
	uint32_t flags;
	uint64_t address;
	uint64_t size;
};

struct cleat_wire_bitmap {
	uint64_t page_size;
	uint64_t size; /* bytes of bitmap */
};

struct cleat_wire_device_info {
	uint32_t argsz;
	uint32_t flags;
	uint32_t num_regions;
	uint32_t num_irqs;
};

struct cleat_wire_region_info {
	uint32_t argsz;
	uint32_t flags;
	uint32_t index;
	uint32_t cap_offset;
	uint64_t size;
	uint64_t offset;
};

struct cleat_wire_io_fds {
	uint32_t argsz;
	uint32_t flags;
	uint32_t index;
	uint32_t count;
};

/*
 * One sub-region as current peers send it. The specification's is 8 bytes
 * shorter: @shadow_offset is missing and @datamatch stands in its place.
 */
struct cleat_wire_io_fd {
	uint64_t offset;
	uint64_t size;
	uint32_t fd_index;
	uint32_t type;
	uint32_t flags;
	uint32_t shadow_fd_index;
	uint64_t shadow_offset;
	uint64_t datamatch;
};
#define CLEAT_WIRE_IO_FD_SHORT 40
#define CLEAT_WIRE_NO_FD 0xffffffffu
/* Flags of a sub-region; the values are KVM_IOEVENTFD_FLAG_*. */
#define CLEAT_WIRE_IO_FD_MATCH (1u << 0)
#define CLEAT_WIRE_IO_FD_PORTS (1u << 1)

struct cleat_wire_irq_info {
	uint32_t argsz;
	uint32_t flags;
	uint32_t index;
	uint32_t count;
};

struct cleat_wire_irq_set {
	uint32_t argsz;
	uint32_t flags;
	uint32_t index;
	uint32_t start;
	uint32_t count;
	/* bools, one byte each, with DATA_BOOL */
};

/* REGION_READ, REGION_WRITE and their replies. */
struct cleat_wire_access {
	uint64_t offset;
	uint32_t region;
	uint32_t count;
	/* data */
};

struct cleat_wire_write_multi {
	uint64_t count;
	/* struct cleat_wire_write */
};

struct cleat_wire_write {
	uint64_t offset;
	uint32_t region;
	uint32_t count; /* at most 8 */
	uint8_t data[8];
};

struct cleat_wire_feature {
	uint32_t argsz;
	uint32_t flags;
	/* data */
};

/* MIGRATION's flags. */
#define CLEAT_MIG_STOP_COPY (UINT64_C(1) << 0)
#define CLEAT_MIG_P2P (UINT64_C(1) << 1)
#define CLEAT_MIG_PRE_COPY (UINT64_C(1) << 2)

/* MIG_DEVICE_STATE. */
struct cleat_wire_mig_state {
	uint32_t state;
	uint32_t data_fd; /* nothing here */
};

/* MIG_DATA_SIZE: how much there is to read in STOP_COPY, an estimate. Known to
 * Linux; of the protocol's servers few have it. */
#define CLEAT_FEATURE_MIG_DATA_SIZE 9

/* DMA_LOGGING_START and its reply. */
struct cleat_wire_logging {
	uint64_t page_size;
	uint32_t num_ranges; /* 0: all */
	uint32_t reserved;
};

/* DMA_LOGGING_REPORT; in the reply the bitmap follows. */
struct cleat_wire_report {
	uint64_t iova;
	uint64_t length;
	uint64_t page_size;
};

/* The first generation's region begins with these registers. */
#define CLEAT_MIG_REGION_TYPE 3
#define CLEAT_MIG_REGION_SUBTYPE 1

struct cleat_wire_mig_region {
	uint32_t state; /* CLEAT_MIG_V1_* */
	uint32_t reserved;
	uint64_t pending_bytes;
	uint64_t data_offset;
	uint64_t data_size;
};

#define CLEAT_MIG_V1_STOP 0u
#define CLEAT_MIG_V1_RUNNING (1u << 0)
#define CLEAT_MIG_V1_SAVING (1u << 1)
#define CLEAT_MIG_V1_RESUMING (1u << 2)
#define CLEAT_MIG_V1_ERROR (CLEAT_MIG_V1_SAVING | CLEAT_MIG_V1_RESUMING)

/* MIG_DATA_READ, MIG_DATA_WRITE and the former's reply. */
struct cleat_wire_mig_data {
	uint32_t argsz;
	uint32_t size;
	/* data */
};

#define CLEAT_DIRTY_START (1u << 0)
#define CLEAT_DIRTY_STOP (1u << 1)
#define CLEAT_DIRTY_GET_BITMAP (1u << 2)

struct cleat_wire_dirty_pages {
	uint32_t argsz;
	uint32_t flags;
	/* struct cleat_wire_dirty_range with GET_BITMAP; in the reply the bitmap
	 * follows */
};

struct cleat_wire_dirty_range {
	uint64_t iova;
	uint64_t size;
	struct cleat_wire_bitmap bitmap;
};

/* DMA_READ, DMA_WRITE and their replies. */
struct cleat_wire_dma {
	uint64_t address;
	uint64_t count;
	/* data */
};

/* --- Checksums ----------------------------------------------------------- */

/* CRC-32C of @data, gone on with from @crc; 0 to begin. */
uint32_t cleat_crc32c(uint32_t crc, const void *data, size_t size);

/* --- Descriptors --------------------------------------------------------- */

/* What the kernel hands over with one message at most. */
#define CLEAT_MAX_FDS 253

/* Received descriptors; each is owned by the struct until it is taken. */
struct cleat_fds {
	unsigned num;
	int fd[CLEAT_MAX_FDS];
};

/*
 * Close a descriptor that came from a peer. Where close() may have to wait for
 * the peer (a file on a file system of its making), a thread does it and true
 * is returned: who lets a peer send such again and again will run out of
 * descriptors.
 */
bool cleat_close_foreign(int *fd);
/* Close what is left in that way; how many were left to the thread. */
unsigned cleat_fds_close(struct cleat_fds *fds);
/* Take descriptor @i: -1 if there is none or it was taken. */
int cleat_fds_take(struct cleat_fds *fds, unsigned i);
/* Close unless negative; leaves errno and -1 behind. */
void cleat_close(int *fd);
/* A close-on-exec duplicate, or -errno. */
int cleat_dup(int fd);
/* True if it is an eventfd. */
bool cleat_is_eventfd(int fd);
/*
 * Write an eventfd, unless its counter is full, which is a kick already. A peer
 * that has it too can fill it, and make it block, between the look and the
 * write, and the writer waits then: hold no lock that others need.
 */
void cleat_kick_fd(int fd);

/* --- Messages ------------------------------------------------------------ */

/**
 * cleat_wire_send() - one send or sendmsg
 * @fd:    the socket
 * @iov:   the message, or the rest of it
 * @num:   entries in @iov
 * @fds:   descriptors, on the first byte; NULL with none
 * @num_fds: how many
 * @flags: MSG_DONTWAIT or 0; MSG_NOSIGNAL is added
 *
 * Return: bytes sent, more than 0, or -errno; -ENOTCONN for every way in which
 * the peer can be gone.
 */
ssize_t cleat_wire_send(int fd, const struct iovec *iov, unsigned num,
			const int *fds, unsigned num_fds, int flags);

struct pollfd;
/* poll() of one descriptor; like the two above no cancellation point. */
int cleat_wire_poll(struct pollfd *pfd, int ms);

/* Drop @bytes from the front of an iovec; returns the entries left. */
unsigned cleat_iov_advance(struct iovec **iov, unsigned num, size_t bytes);

/**
 * cleat_wire_recv() - one recvmsg
 * @fd:    the socket
 * @iov:   where to
 * @num:   entries in @iov
 * @fds:   emptied, then filled with what came
 * @flags: MSG_DONTWAIT, MSG_PEEK or 0; MSG_CMSG_CLOEXEC is added
 *
 * The kernel installs descriptors before we can look at them: when this
 * returns, each is in @fds, or closed. When it could not install them all (the
 * process has no more) the rest is lost, and -EMFILE is returned.
 *
 * Return: bytes, more than 0; -ENOTCONN when the peer is gone; or -errno.
 */
ssize_t cleat_wire_recv(int fd, const struct iovec *iov, unsigned num,
			struct cleat_fds *fds, int flags);

/* --- VERSION's JSON ------------------------------------------------------ */

/**
 * struct cleat_capabilities - what a peer says of itself
 *
 * @has_migration: the object "migration" is there
 * @twin_fd_index: -1 if not given
 */
struct cleat_capabilities {
	uint32_t max_msg_fds;
	uint32_t max_data_xfer_size;
	uint32_t max_dma_maps;
	uint64_t page_sizes;
	bool twin_supported;
	int twin_fd_index;
	bool write_multiple;
	bool has_migration;
	uint64_t migration_pgsize;
	uint64_t max_bitmap_size;
};

/* What is assumed of a peer that says nothing. */
void cleat_capabilities_default(struct cleat_capabilities *caps);

/*
 * Read a peer's JSON: @size bytes, the last of them NUL; 0 bytes are fine.
 * Unknown keys are passed over; a wrong type, a number out of range, nesting
 * deeper than CLEAT_JSON_DEPTH, more than CLEAT_JSON_SIZE bytes and what is no
 * JSON in UTF-8 are -EPROTO with a reason. @caps is defaults plus what was
 * said, complete only on success.
 */
#define CLEAT_JSON_DEPTH 16
#define CLEAT_JSON_SIZE 65536
int cleat_capabilities_parse(const char *json, size_t size,
			     struct cleat_capabilities *caps,
			     struct cleat_error *reterr);

/*
 * Write ours. @request: the client's; a reply carries twin_socket's fd_index
 * where it is not negative. Returns the size with the NUL, or -ENOBUFS.
 */
ssize_t cleat_capabilities_print(const struct cleat_capabilities *caps,
				 bool request, char *buf, size_t size);

/* --- Replies of variable shape ------------------------------------------- */

/* Replies to GET_REGION_INFO and GET_REGION_IO_FDS are no larger than this. */
#define CLEAT_MAX_INFO (256u * 1024)
#define CLEAT_MAX_AREAS 1024
#define CLEAT_MAX_IO_FDS 4096

struct cleat_wire_area {
	uint64_t offset;
	uint64_t length;
	uint64_t fd_offset;
	unsigned fd_index;
};

struct cleat_wire_region {
	uint32_t flags;
	uint64_t length;
	uint64_t fd_offset;
	uint32_t type;
	uint32_t subtype;
	unsigned num_areas;
	struct cleat_wire_area *areas; /* by offset, no overlap */
};

/**
 * cleat_wire_parse_region() - a GET_REGION_INFO reply
 * @payload: the reply's payload, complete (argsz no larger than @size)
 * @size:    bytes
 * @index:   the region that was asked for
 * @num_fds: descriptors that came with it
 * @ret:     written on success; cleat_wire_region_free()
 * @reterr:  what is wrong with it; may be NULL
 *
 * Return: 0, -EPROTO or -ENOMEM.
 */
int cleat_wire_parse_region(const void *payload, size_t size, uint32_t index,
			    unsigned num_fds, struct cleat_wire_region *ret,
			    struct cleat_error *reterr);
void cleat_wire_region_free(struct cleat_wire_region *region);

/**
 * cleat_wire_parse_io_fds() - a GET_REGION_IO_FDS reply
 * @payload: the reply's payload, complete
 * @size:    bytes
 * @index:   the region that was asked for
 * @length:  the region's length; entries lie inside
 * @num_fds: descriptors that came with it
 * @ret_entries: written on success, in the current form whatever the peer sent;
 *           free()
 * @reterr:  what is wrong with it; may be NULL
 *
 * Return: how many entries, -EPROTO or -ENOMEM.
 */
int cleat_wire_parse_io_fds(const void *payload, size_t size, uint32_t index,
			    uint64_t length, unsigned num_fds,
			    struct cleat_wire_io_fd **ret_entries,
			    struct cleat_error *reterr);

#endif
