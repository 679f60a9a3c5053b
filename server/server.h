/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * server: serve a device over vfio-user. Users see <cleat/server.h>; this is
 * what the files of this room share.
 *
 *	loop.c		epoll, watches, poll callback, stop
 *	socket.c	listen, adopt, accept
 *	conn.c		framing: bytes in, messages out, nobody waits here
 *	command.c	which handler a command has, replies, deferral
 *	version.c	the handshake
 *	info.c		GET_INFO, IRQ_INFO
 *	region.c	regions, REGION_INFO
 *	io_fds.c	IO descriptors, GET_REGION_IO_FDS
 *	access.c	REGION_READ, REGION_WRITE, REGION_WRITE_MULTI
 *	irq.c		SET_IRQS, raising
 *	dma.c		the table of guest memory, DMA_MAP, DMA_UNMAP
 *	transfer.c	copying in and out, DMA_READ and DMA_WRITE messages
 *	dirty.c		dirty-page logging, DEVICE_FEATURE
 *	migrate.c	migration: states, MIG_DATA_READ and _WRITE
 *	mig_region.c	the first generation's region for it
 *	records.c	a device's state as checked records
 *	guard.c		SIGBUS
 *	pci.c		configuration space; caps.c, msix.c: parts of it
 */
#ifndef CLEAT_SERVER_SERVER_H
#define CLEAT_SERVER_SERVER_H

#include <linux/vfio.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cleat/server.h>

#include "wire/wire.h"

#define CLEAT_SRV_REGIONS 256
#define CLEAT_SRV_IRQ_TYPES 16
#define CLEAT_SRV_VECTORS 2048
#define CLEAT_SRV_AREAS 64
#define CLEAT_SRV_IO_FDS 4096

/* ---- loop.c ------------------------------------------------------- */

struct cleat_srv_watch {
	struct cleat_srv_watch *next;
	int fd;
	bool internal;
	uint32_t events;
	void (*func)(void *opaque, int fd, uint32_t events);
	void *opaque;
};

uint64_t cleat_srv_now(void);
int cleat_srv_watch_internal(struct cleat_server *srv, int fd, uint32_t events,
			     void (*func)(void *opaque, int fd,
					  uint32_t events),
			     void *opaque);
int cleat_srv_watch_change(struct cleat_server *srv, int fd, uint32_t events);
void cleat_srv_watch_end(struct cleat_server *srv);
/* A device at rest: no poll, and no watches but our own. */
void cleat_srv_pause(struct cleat_server *srv, bool pause);

/* ---- socket.c ----------------------------------------------------- */

void cleat_srv_listen_pause(struct cleat_server *srv, bool pause);
void cleat_srv_listen_end(struct cleat_server *srv);

/* ---- conn.c ------------------------------------------------------- */

/*
 * One message, from the first byte after its header; valid during its
 * handler. Descriptors that a handler does not take are closed after it.
 */
struct cleat_srv_msg {
	struct cleat_header header;
	const uint8_t *body;
	size_t length;
	struct cleat_fds *fds;
};

/* Descriptors of the message that begins at @at of the input buffer. */
struct cleat_srv_fds {
	size_t at;
	struct cleat_fds fds;
};

/*
 * Bytes head..tail have come and are not consumed. @pinned: a handler still
 * uses a message in it, so it may neither move nor go.
 */
struct cleat_srv_input {
	size_t size, head, tail;
	bool pinned;
	uint8_t data[];
};

struct cleat_srv_output {
	struct cleat_srv_output *next;
	size_t length, sent;
	unsigned n_fds;
	int fds[CLEAT_MAX_FDS];
	uint8_t data[];
};

struct cleat_srv_deferred {
	struct cleat_srv_deferred *next;
	struct cleat_srv_msg msg;
	struct cleat_fds fds;
	uint8_t body[];
};

/* The answer that a message DMA waits for. */
struct cleat_srv_wait {
	bool active, done;
	uint16_t id, command;
	uint64_t address, count;
	void *buf;		/* DMA_READ: where to */
	int64_t result;		/* bytes, or -errno */
};

struct cleat_srv_conn {
	int fd, twin;
	bool ready;		/* a version has been agreed on */
	bool pass_fds;		/* an AF_UNIX socket */
	/* Ends at the next return to the loop; set by the SIGBUS handler. */
	volatile sig_atomic_t broken;
	uint64_t since;		/* connected at, ns */
	uint32_t peer_fds;	/* how many fds the client takes */
	uint32_t peer_xfer;	/* and how many bytes */

	struct cleat_srv_input *in;
	struct cleat_srv_fds sets[2];
	unsigned n_sets;
	struct cleat_srv_output *out, **out_end;
	bool writing;		/* the watch is for EPOLLOUT */
	bool refused;		/* ends when the last reply has gone */

	struct cleat_srv_deferred *deferred, **deferred_end;
	size_t deferred_bytes;
	unsigned deferred_count, deferred_fds;

	struct cleat_srv_wait wait;
	uint16_t next_id;
	unsigned stale;		/* replies still to come for lost waits */
};

int cleat_srv_conn_begin(struct cleat_server *srv, int fd);
/* Calls ops, so not under a callback. */
void cleat_srv_conn_end(struct cleat_server *srv);
/* Reads once and handles what is complete; no news is -EAGAIN. */
int cleat_srv_conn_read(struct cleat_server *srv);
/* Handles what a callback left behind. */
void cleat_srv_conn_resume(struct cleat_server *srv);
/* Sends what is queued; handles what had to wait for that. */
void cleat_srv_conn_flush(struct cleat_server *srv);
/* One message; what the socket does not take now is queued. */
void cleat_srv_conn_send(struct cleat_server *srv, struct iovec *iov,
			 unsigned n_iov, const int *fds, unsigned n_fds);
/*
 * Further messages are about to be read while a handler still uses the bytes
 * of its own: give them another buffer.
 */
int cleat_srv_conn_fork_input(struct cleat_server *srv);

/* ---- command.c ---------------------------------------------------- */

void cleat_srv_message(struct cleat_server *srv, struct cleat_srv_msg *msg);
/* What had to wait for the end of a DMA by message. */
void cleat_srv_run_deferred(struct cleat_server *srv);
void cleat_srv_drop_deferred(struct cleat_server *srv);
bool cleat_srv_deferred_full(const struct cleat_server *srv);
/*
 * Sends the reply unless the client wants none; always 0, for a handler to
 * return. @head and @tail are its payload, in that order.
 */
int cleat_srv_reply(struct cleat_server *srv, const struct cleat_srv_msg *msg,
		    const void *head, size_t length);
int cleat_srv_reply_full(struct cleat_server *srv,
			 const struct cleat_srv_msg *msg,
			 const struct iovec payload[2], const int *fds,
			 unsigned n_fds);

/* Handlers: 0 when they have replied, or -errno for the error reply. */
int cleat_srv_version(struct cleat_server *srv, struct cleat_srv_msg *msg);
int cleat_srv_get_info(struct cleat_server *srv, struct cleat_srv_msg *msg);
int cleat_srv_irq_info(struct cleat_server *srv, struct cleat_srv_msg *msg);
int cleat_srv_region_info(struct cleat_server *srv, struct cleat_srv_msg *msg);
int cleat_srv_io_fds(struct cleat_server *srv, struct cleat_srv_msg *msg);
int cleat_srv_read(struct cleat_server *srv, struct cleat_srv_msg *msg);
int cleat_srv_write(struct cleat_server *srv, struct cleat_srv_msg *msg);
int cleat_srv_write_multi(struct cleat_server *srv, struct cleat_srv_msg *msg);
int cleat_srv_set_irqs(struct cleat_server *srv, struct cleat_srv_msg *msg);
int cleat_srv_dma_map(struct cleat_server *srv, struct cleat_srv_msg *msg);
int cleat_srv_dma_unmap(struct cleat_server *srv, struct cleat_srv_msg *msg);
int cleat_srv_reset(struct cleat_server *srv, struct cleat_srv_msg *msg);
int cleat_srv_feature(struct cleat_server *srv, struct cleat_srv_msg *msg);
int cleat_srv_dirty_pages(struct cleat_server *srv, struct cleat_srv_msg *msg);
int cleat_srv_mig_read(struct cleat_server *srv, struct cleat_srv_msg *msg);
int cleat_srv_mig_write(struct cleat_server *srv, struct cleat_srv_msg *msg);
/* A reply of the client's, to a DMA_READ or DMA_WRITE of ours. */
void cleat_srv_dma_reply(struct cleat_server *srv,
			 const struct cleat_srv_msg *msg);

/* ---- region.c, io_fds.c ------------------------------------------- */

struct cleat_srv_region {
	uint32_t flags;
	uint64_t length;
	uint32_t type, subtype;
	struct cleat_server_area areas[CLEAT_SRV_AREAS];
	unsigned n_areas;
	struct cleat_server_io_fd *io_fds;
	unsigned n_io_fds;
};

struct cleat_srv_region *cleat_srv_region(const struct cleat_server *srv,
					  uint32_t index);
void cleat_srv_regions_end(struct cleat_server *srv);
void cleat_srv_io_fds_free(struct cleat_server_io_fd *entries, unsigned count);

/* ---- irq.c -------------------------------------------------------- */

struct cleat_srv_vector {
	int trigger, mask_fd, unmask_fd;
	bool masked, pending;
	bool level;	/* INTx: the line is up */
	bool inhibited; /* INTx: switched off in the command register */
};

struct cleat_srv_irqs {
	uint32_t count, flags;
	bool added;
	struct cleat_srv_vector *vectors;
};

/* The client has gone: forget its eventfds and masks, keep levels. */
void cleat_srv_irqs_forget(struct cleat_server *srv);
void cleat_srv_irqs_end(struct cleat_server *srv);
void cleat_srv_intx_inhibit(struct cleat_server *srv, bool inhibited);
bool cleat_srv_irq_pending(const struct cleat_server *srv, uint32_t index,
			   uint32_t vector);
/* A reset takes back what was pending and lets levels go. */
void cleat_srv_irqs_reset(struct cleat_server *srv);

/* ---- dma.c, guard.c, dirty.c -------------------------------------- */

struct cleat_srv_range {
	uint64_t iova, length;
	uint32_t rights;
	uint8_t *host;		/* NULL: by message */
	void *map;		/* what munmap() wants */
	size_t map_length;
	uint64_t *dirty;	/* while logging */
};

/*
 * By address, disjoint, with a gap: @gap of the @count ranges are before it, the
 * others at the end of @ranges, which has room for @size. The next one usually
 * comes and goes where the last one did, so that few have to be moved, however
 * many there are.
 */
struct cleat_srv_dma {
	struct cleat_srv_range *ranges;
	size_t count, size, gap, last;
	uint64_t log_page;	/* 0: no logging */
	uint64_t log_bytes;	/* of bitmaps */
};

/* Number @i by address, of @dma->count. */
struct cleat_srv_range *cleat_srv_range_at(const struct cleat_srv_dma *dma,
					   size_t i);
/* The range that holds @iova, or NULL. */
struct cleat_srv_range *cleat_srv_range(struct cleat_server *srv,
					uint64_t iova);
void cleat_srv_dma_forget(struct cleat_server *srv);
/* A new range while logging is on needs a bitmap. */
int cleat_srv_dirty_add(struct cleat_server *srv,
			struct cleat_srv_range *range);
void cleat_srv_dirty_free(struct cleat_server *srv,
			  struct cleat_srv_range *range);
/*
 * A bitmap of @bytes for @length from @iova on, asked for with @argsz of which
 * @head are no bitmap: 0 or -errno.
 */
struct cleat_srv_report {
	uint64_t iova;
	uint64_t length;
	uint64_t page_size;
};
int cleat_srv_dirty_check(const struct cleat_server *srv,
			  const struct cleat_srv_report *report, uint32_t argsz,
			  size_t head, uint64_t *ret_bytes);
/* Moves what is dirty of a range into it. */
void cleat_srv_dirty_move(struct cleat_server *srv,
			  struct cleat_srv_range *range,
			  const struct cleat_srv_report *report,
			  uint64_t *bitmap);
int cleat_srv_guard_begin(struct cleat_server *srv);
void cleat_srv_guard_end(struct cleat_server *srv);

/* ---- pci.c, caps.c, msix.c ---------------------------------------- */

struct cleat_server_pci {
	struct cleat_server *srv;
	struct cleat_server_pci_config config;
	struct cleat_server_pci_ops ops;
	void *opaque;
	uint32_t length;
	uint8_t data[4096];
	uint8_t writable[4096];
	uint8_t clearable[4096]; /* written ones clear */
	uint32_t cap_end, last_cap;	/* free byte; where to link from */
	uint32_t ext_end, last_ext;
	uint32_t pcie, msi, msix;	/* offsets, 0: none */
	uint8_t *table;			/* MSI-X entries, as the client wrote */
};

int cleat_srv_pci_access(struct cleat_server_pci *pci, uint64_t offset,
			 void *buf, size_t count, bool write);
void cleat_srv_pci_end(struct cleat_server_pci *pci);
int cleat_srv_pci_standard_caps(struct cleat_server_pci *pci);
/* 1 when the access was one to the MSI-X table or PBA and is done. */
int cleat_srv_msix_access(struct cleat_server_pci *pci, uint32_t index,
			  uint64_t offset, void *buf, size_t count,
			  bool write);
int cleat_srv_msix_check(const struct cleat_server_pci *pci,
			 struct cleat_error *reterr);

/* What was saved of it; the device is told as if the guest had written. */
void cleat_srv_pci_restore(struct cleat_server_pci *pci, const uint8_t *data,
			   const uint8_t *table);

/* ---- migrate.c, mig_region.c, records.c --------------------------- */

#define CLEAT_SRV_MIG_REGION 9
#define CLEAT_SRV_MIG_HEAD 4096u
#define CLEAT_SRV_MIG_AREA (2 * CLEAT_SERVER_RECORD)

struct cleat_srv_record {
	uint32_t type;
	uint32_t length;
	uint32_t number;
	uint32_t crc; /* of what is before, and of the payload */
};

/* Records one after the other, out of the device or into it. */
struct cleat_srv_records {
	struct cleat_srv_record head;
	uint8_t body[CLEAT_SERVER_RECORD];
	size_t at;	 /* bytes of this record that are through */
	size_t length;	 /* of the one that goes out, its head included */
	uint32_t number; /* of the next one */
	uint32_t next;	 /* its type */
	uint32_t version; /* of the state that comes in */
	int err;	 /* what was wrong, for good */
};

struct cleat_srv_migration {
	struct cleat_server_migration ops;
	char name[32];
	unsigned state; /* as on the wire of the second generation */
	struct cleat_srv_records out, in;
	/* What our own record brought, until the device takes over. */
	uint8_t *config, *table;
	bool level;
	/* The region's data, and the piece of state in it. */
	int fd;
	uint8_t *area;
	uint64_t piece;
	bool seen;
};

int cleat_srv_mig_set(struct cleat_server *srv, unsigned state);
/* A reset, or another client. */
void cleat_srv_mig_reset(struct cleat_server *srv);
void cleat_srv_mig_end(struct cleat_server *srv);
int cleat_srv_mig_feature(struct cleat_server *srv, struct cleat_srv_msg *msg,
			  uint32_t number, uint32_t way);
/* The first generation, and nothing of the second. */
bool cleat_srv_mig_v1(const struct cleat_server *srv);

void cleat_srv_records_begin(struct cleat_srv_records *records);
/* Up to @room bytes: how many; less than @room: no more for now. */
int64_t cleat_srv_records_out(struct cleat_server *srv, uint8_t *buf,
			      size_t room);
int cleat_srv_records_in(struct cleat_server *srv, const uint8_t *data,
			 size_t count);
/* All of them have come: the device takes over. */
int cleat_srv_records_done(struct cleat_server *srv);
uint64_t cleat_srv_records_left(struct cleat_server *srv);

int cleat_srv_mig_region_add(struct cleat_server *srv,
			     struct cleat_error *reterr);
int cleat_srv_mig_region_read(struct cleat_server *srv, uint64_t offset,
			      void *buf, size_t count);
int cleat_srv_mig_region_write(struct cleat_server *srv, uint64_t offset,
			       const void *buf, size_t count);

/* ---- create.c ----------------------------------------------------- */

struct cleat_server {
	struct cleat_server_config config;
	struct cleat_server_ops ops;
	void *opaque;

	int epoll, stop;
	bool stopped, finished, stepping;
	struct cleat_srv_watch *watches, *graveyard;
	uint64_t spin_until; /* 0: no looking */
	uint64_t busy_until, sleep_ns;

	int listener;
	char *path;
	dev_t path_dev;
	ino_t path_ino;
	bool once;

	struct cleat_srv_conn conn;
	/* A DMA reply is being waited for: no state changes meanwhile. */
	bool nested;
	bool reset_wanted;	/* by the guest, while nested */

	struct cleat_srv_region *regions[CLEAT_SRV_REGIONS];
	struct cleat_srv_irqs irqs[CLEAT_SRV_IRQ_TYPES];
	struct cleat_srv_dma dma;
	struct cleat_server_pci *pci;
	struct cleat_srv_migration *mig;
	bool paused;
	struct cleat_server_stats stats;
};

/* srv->spin_until after a message: of when that was the loop asks the clock
 * when it next has a reason to. */
#define CLEAT_SRV_SPIN_ANEW UINT64_MAX

/* (asked around every message) */
static inline bool cleat_srv_has_deferred(const struct cleat_server *srv)
{
	return srv->reset_wanted || (srv->conn.fd >= 0 && srv->conn.deferred);
}

#endif
