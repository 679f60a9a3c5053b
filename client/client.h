/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * client: one connection to one server. What the rooms above may use of it:
 * requests, region descriptions with their descriptors, hooks for what they
 * have to do when a device is lost or shut down, handlers for the server's own
 * requests, and the events thread.
 *
 * The rooms above register here and are never called by name, so that client
 * needs no room above it.
 */
#ifndef CLEAT_CLIENT_H
#define CLEAT_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cleat/cancel.h>
#include <cleat/device.h>
#include <cleat/irq.h>

#include "wire/wire.h"

/* --- Requests ----------------------------------------------------------- */

/* Which deadline a request has. */
enum cleat_call_class {
	CLEAT_CALL_ACCESS,
	CLEAT_CALL_CONTROL,
	CLEAT_CALL_QUIESCE,
};

/*
 * The command changes state at the server: when its reply does not come, nobody
 * knows whether it was done, and the connection is lost rather than guessed at.
 */
#define CLEAT_CALL_STATE (1u << 0)
/* No reply is asked for; the call is over when it is sent. */
#define CLEAT_CALL_POSTED (1u << 1)
/*
 * A cancel ends the wait for the reply with -EINTR and leaves the request in
 * flight (@slot is not NULL): finish it again, or cleat_call_abandon() it. The
 * struct and its buffers must then outlive the thread's stack frame.
 */
#define CLEAT_CALL_PARK (1u << 2)
/*
 * The descriptors that come with the reply will be kept: they count against
 * what one device may make us hold until cleat_device_drop_fds().
 */
#define CLEAT_CALL_KEEPS_FDS (1u << 3)
/*
 * @head and @data stay as they are until cleat_call_finish() returns anything
 * but -EINTR, or cleat_call_abandon(): then another thread may send it.
 */
#define CLEAT_CALL_KEPT (1u << 4)

struct cleat_slot;

/**
 * struct cleat_call - one request and the place for its reply
 * @command:    VFIO_USER_*
 * @deadline_class: enum cleat_call_class
 * @flags:      CLEAT_CALL_*
 * @head:       fixed part of the request's payload
 * @head_size:  bytes
 * @data:       what follows it; may be NULL
 * @data_size:  bytes
 * @fds:        descriptors to send; the caller keeps them
 * @num_fds:    how many; more than the peer takes is -EINVAL
 * @reply:      where the reply's payload goes first
 * @reply_min:  a reply with less payload is -EPROTO
 * @reply_size: bytes of room at @reply
 * @reply_data: where the payload beyond @reply_size goes; may be NULL
 * @reply_data_size: bytes of room there; payload beyond both is -EPROTO
 * @reply_fds:  where received descriptors go, the caller's on success; NULL:
 *              they are closed
 * @max_reply_fds: room there; more are closed
 *
 * @got:        out: bytes of reply payload
 * @got_fds:    out: descriptors put into @reply_fds
 *
 * The members below are the engine's.
 */
struct cleat_call {
	uint16_t command;
	uint8_t deadline_class;
	uint8_t flags;
	const void *head;
	size_t head_size;
	const void *data;
	size_t data_size;
	const int *fds;
	unsigned num_fds;
	void *reply;
	size_t reply_min;
	size_t reply_size;
	void *reply_data;
	size_t reply_data_size;
	int *reply_fds;
	unsigned max_reply_fds;

	size_t got;
	unsigned got_fds;

	struct cleat_slot *slot;
	uint64_t deadline_ns;
	bool expired;
};

/**
 * cleat_call() - send a request and wait for its reply
 * @dev:    the device
 * @call:   in and out
 * @reterr: why it failed; may be NULL (the access path passes NULL)
 *
 * Return: 0; the server's -errno (1..4095; -EIO if it gave none, -EPROTO if it
 * gave nonsense, -EREMOTEIO if it gave one of those that follow); -ENOTCONN,
 * -ESHUTDOWN; -ETIMEDOUT; -ECANCELED, or -EINTR with CLEAT_CALL_PARK; -EPROTO
 * for a reply of the wrong shape, which ends the connection.
 */
int cleat_call(struct cleat_device *dev, struct cleat_call *call,
	       struct cleat_error *reterr);

/* Whether a result of cleat_call() or of what is made of it can be the server's
 * own: not if nothing came in time, the thread was called back, or the
 * connection is gone. 0 is. */
bool cleat_is_answer(int err);

/**
 * cleat_call_start() - send a request
 *
 * Any number may be in flight, also of one thread: pipelining is starting many
 * and finishing them in order. When the library's window is full this waits
 * for replies, receiving them meanwhile.
 *
 * Return: 0, then cleat_call_finish() must follow; or as cleat_call().
 */
int cleat_call_start(struct cleat_device *dev, struct cleat_call *call);

/* Wait for the reply of a started request. Return: as cleat_call(). */
int cleat_call_finish(struct cleat_device *dev, struct cleat_call *call);

/*
 * Give up a started request whose reply nobody wants any more. When this
 * returns the engine no longer touches the struct or its buffers.
 */
void cleat_call_abandon(struct cleat_device *dev, struct cleat_call *call);

/*
 * From another thread: the time limit of a request is over now, begun or not,
 * and whoever waits for its reply leaves with -ETIMEDOUT. The caller sees to it
 * that the struct stays where it is meanwhile. Does not sleep.
 */
void cleat_call_expire(struct cleat_device *dev, struct cleat_call *call);

/* Close descriptors that came with CLEAT_CALL_KEEPS_FDS. */
void cleat_device_drop_fds(struct cleat_device *dev, int *fds, unsigned num);

/* --- The cancel handle of the calling thread ---------------------------- */

/* The handle that the calling thread has entered, or NULL. */
struct cleat_cancel *cleat_cancel_current(void);

/* Whether it is set; NULL never is. For waits that are not the engine's. */
bool cleat_cancel_is_set(struct cleat_cancel *cancel);

/*
 * One thing that the room mmio keeps with a handle: the access that was called
 * back. @drop is called by cleat_cancel_destroy().
 */
struct cleat_parked {
	void (*drop)(struct cleat_parked *parked);
};
struct cleat_parked *cleat_cancel_parked(struct cleat_cancel *cancel);
void cleat_cancel_park(struct cleat_cancel *cancel,
		       struct cleat_parked *parked);

/* --- The device --------------------------------------------------------- */

/*
 * Pins are for memory only: a pinned device may be lost or shut down, and
 * dropping a pin never tears anything down.
 */
void cleat_device_pin(struct cleat_device *dev);
void cleat_device_unpin(struct cleat_device *dev);

/* True once the connection is lost or shut down: one relaxed load. */
bool cleat_device_is_lost(struct cleat_device *dev);

/* CLEAT_DEVICE_* as it was opened with. */
uint32_t cleat_device_flags(struct cleat_device *dev);

/* What is done differently for a server with known faults; see quirks.c. */
#define CLEAT_QUIRK_SPLIT_8 (1u << 0) /* 8-byte accesses as two of 4 */
#define CLEAT_QUIRK_NO_UNMAP (1u << 1) /* DMA_UNMAP ends the server */
#define CLEAT_QUIRK_NO_RESET (1u << 2) /* DEVICE_RESET ends the server */
#define CLEAT_QUIRK_MORE_FDS (1u << 3) /* takes 16 fds, announces 1 */
/* DMA_UNMAP tells what is dirty, whichever generation's log is on. */
#define CLEAT_QUIRK_UNMAP_TELLS (1u << 4)
bool cleat_device_has_quirk(struct cleat_device *dev, uint32_t quirk);

/* End the connection: the first cause is kept. Any context, does not sleep. */
void cleat_device_fail(struct cleat_device *dev, int code, const char *format,
		       ...) __attribute__((format(printf, 3, 4)));

/* A region as the server described it, checked; valid as long as the device. */
struct cleat_region {
	uint32_t flags;
	uint64_t length;
	uint32_t type;
	uint32_t subtype;
	unsigned num_areas;
	struct cleat_region_area *areas; /* in order, without overlap */
	unsigned num_fds;
	int *fds; /* each once; areas borrow from here */
};

/* NULL if there is no such region. */
const struct cleat_region *cleat_device_region(struct cleat_device *dev,
					       unsigned index);

/* GET_IRQ_INFO of an index, asked once at open. Return: 0 or -ENOENT. */
int cleat_device_irq_info(struct cleat_device *dev, unsigned index,
			  struct cleat_irq_info *ret);

/* --- Hooks -------------------------------------------------------------- */

/* Who is told first. */
enum cleat_hook_rank {
	CLEAT_HOOK_MMIO,
	CLEAT_HOOK_PCI,
	CLEAT_HOOK_IRQ,
	CLEAT_HOOK_MEMORY,
	CLEAT_NUM_HOOK_RANKS,
};

/**
 * struct cleat_device_hook - what a room above does at a turn of a device
 * @rank:     order among hooks
 * @lost:     the connection is lost. Events thread, once, no library lock held;
 *            may not call control functions of the device. May be NULL.
 * @shutdown: the caller gave his last reference back: take the device out of
 *            whatever it is in. In that caller's thread, once, before anything
 *            is freed; the hook is not registered any more. May be NULL.
 *
 * @next and @told are the client's.
 */
struct cleat_device_hook {
	enum cleat_hook_rank rank;
	void (*lost)(struct cleat_device_hook *hook);
	void (*shutdown)(struct cleat_device_hook *hook);
	struct cleat_device_hook *next;
	bool told;
};

/*
 * -ESHUTDOWN if the device is being shut down. A hook added after the loss is
 * told at once, by the events thread.
 */
int cleat_device_hook_add(struct cleat_device *dev,
			  struct cleat_device_hook *hook);
/*
 * When it returns, the hook is not running and will not be called; from inside
 * the hook it may be called too. Nothing happens if it is not there.
 */
void cleat_device_hook_remove(struct cleat_device *dev,
			      struct cleat_device_hook *hook);

/* --- The server's own requests ------------------------------------------ */

/**
 * struct cleat_inbound - a request of the server's
 * @command:    VFIO_USER_*
 * @payload:    its payload
 * @size:       bytes of it
 * @reply:      room for the reply's payload
 * @reply_room: bytes of it
 * @reply_size: out: bytes used
 */
struct cleat_inbound {
	uint16_t command;
	const uint8_t *payload;
	size_t size;
	uint8_t *reply;
	size_t reply_room;
	size_t reply_size;
};

/*
 * Serve one request; 0 or a -errno that goes to the server. Runs in the thread
 * that happens to read the socket, maybe a vCPU: it may not wait for the server
 * nor take a lock that is held over such a wait.
 */
typedef int cleat_inbound_handler(void *opaque, struct cleat_inbound *in);

/*
 * Who serves a command. @handler NULL: nobody, the server gets -EINVAL (on the
 * main socket, with no command served at all, only when we next use it). When
 * it returns, the handler before it is not running.
 */
void cleat_device_serve(struct cleat_device *dev, uint16_t command,
			cleat_inbound_handler *handler, void *opaque);

/*
 * The bus-master gate: while the guest has the function's bus mastering off,
 * DMA by message is answered with -ENODEV. Open until somebody closes it: a
 * device need not be a PCI function's. When it returns with the gate closed, no
 * handler is running.
 */
void cleat_device_set_master(struct cleat_device *dev, bool on);

/* --- The events thread -------------------------------------------------- */

/*
 * One thread per process, started by the first use. Watches descriptors and
 * runs callbacks with no lock held.
 */
struct cleat_watch;
typedef void cleat_watch_handler(void *opaque, uint32_t epoll_events);

/* Level-triggered. @fd is borrowed and must stay open while watched. */
int cleat_watch_add(int fd, uint32_t epoll_events, cleat_watch_handler *handler,
		    void *opaque, struct cleat_watch **ret_watch);
/*
 * When it returns, the handler is not running and will not be called; called
 * from inside the handler it does not wait. NULL is fine.
 */
void cleat_watch_remove(struct cleat_watch *watch);

#endif
