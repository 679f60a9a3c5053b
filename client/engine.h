/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Private to client: a connection, its threads' meeting place.
 *
 * A request takes a slot, is sent by its own thread (or by the leader, if that
 * is awake), and its reply is read by whichever of the waiting threads holds
 * the role of the leader; there is no reader thread. The leader reads for
 * everybody until its own reply has come, then hands the role to a sleeper. Who
 * holds the role is decided under @lock, under which sleepers also enqueue: so
 * either a leaver sees the sleeper, or the would-be sleeper sees that there is
 * no leader. A thread that finds the role free when it takes its slot has it
 * from then on: alone, it takes the lock twice for an access.
 *
 * Locks, outer first: send_lock of a stream, conn lock, cancel lock. The leader
 * role is not a lock: nobody blocks on it while holding one.
 */
#ifndef CLEAT_ENGINE_H
#define CLEAT_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/client.h"

/* How often a thread that sits in the kernel looks at its deadline and at its
 * cancel handle; a kicked vCPU is out within two of these. */
#define CLEAT_TICK_MS 40

#define CLEAT_RX_BYTES 4096

/* Ids: the slot's index below, a generation above, so that a reply to an
 * earlier user of the slot is told apart. 0xffff is that of posted requests. */
#define CLEAT_SLOT_BITS 9
#define CLEAT_MAX_SLOTS ((1u << CLEAT_SLOT_BITS) - 1)
#define CLEAT_SLOT_CHUNK 16
#define CLEAT_POSTED_ID 0xffffu

/* Replies to the server's own requests that wait for room in the socket. When
 * there are more nothing more is served, and the server has to read first: so
 * there are never more than these and one more. */
#define CLEAT_OUTBOX_BYTES (2u * CLEAT_MAX_MESSAGE)

/* Descriptors of the server's that one device keeps, those of regions and of
 * sub-regions together. The process has a limit of its own, for all devices. */
#define CLEAT_MAX_DEVICE_FDS 512u

enum cleat_slot_state {
	CLEAT_SLOT_FREE,
	CLEAT_SLOT_FLYING, /* its reply is awaited */
	CLEAT_SLOT_DONE, /* result and reply are there */
	CLEAT_SLOT_DEAD, /* nobody waits any more; its late reply is drained */
};

/**
 * struct cleat_slot - a request in flight
 * @word:   what its thread sleeps on: 0 asleep, 1 look again. Written under the
 *          conn lock, or by a cancel.
 * @asleep: in the list of sleepers
 * @gathered: in the list of those whose request is not out yet
 * @woken:  with its result, and on its way to take it
 * @arriving: a large reply to it has begun to come in, and the stream names it:
 *          until that is over the slot is nobody else's
 * @body:   a reply too large for the connection's buffer, for its thread to
 *          copy
 *
 * Under the conn lock, but for @word.
 */
struct cleat_slot {
	_Atomic uint32_t word;
	uint16_t id;
	uint16_t command;
	uint8_t state;
	bool asleep;
	bool gathered;
	bool woken;
	bool arriving;
	int result;
	struct cleat_call *call;
	uint8_t *body;
	struct cleat_slot *next_gathered;
	struct cleat_slot *next;
	struct cleat_slot *prev;
};

/* Descriptors received, of the message that begins at @at in the buffer. */
struct cleat_rx_fds {
	struct cleat_rx_fds *next;
	size_t at;
	struct cleat_fds fds;
};

/* A reply of ours that waits for room. */
struct cleat_packet {
	struct cleat_packet *next;
	size_t size;
	size_t sent;
	uint8_t data[];
};

/* Where the body of a message that does not fit the buffer goes. */
enum cleat_body_mode {
	CLEAT_BODY_NONE,
	CLEAT_BODY_ALLOCATED,
	CLEAT_BODY_DIRECT, /* the leader's own reply, into its own buffers */
	CLEAT_BODY_DRAIN,
};

/*
 * A lock that is waited for a tick at a time: 0 free, 1 held, 2 held and waited
 * for. (pthread's wait for a monotonic deadline is unknown to the sanitizers.)
 */
struct cleat_gate {
	_Atomic uint32_t word;
};

/**
 * struct cleat_stream - one socket: the main one or the twin
 * @send_lock: one message at a time; held until a message is out whole
 * @out:       waiting replies, under the conn lock
 * @rx:        bytes received and not yet looked at: [@start, @end) of @rx_bytes,
 *             which are CLEAT_RX_BYTES but for a moment
 * @backlog:   there are whole messages among them, which wait until replies of
 *             ours have gone
 * @received:  bytes of whole messages
 * @fds:       descriptors received, in the order of their messages
 * @body...:   the large message under way, beyond its header
 *
 * From @rx on it belongs to who holds the leader role (of the main socket) or
 * to the events context (of the twin).
 */
struct cleat_stream {
	int fd;
	struct cleat_gate send_lock;
	struct cleat_packet *out;
	struct cleat_packet **out_tail;
	size_t out_bytes;

	uint8_t *rx;
	size_t rx_bytes;
	size_t start;
	size_t end;
	bool backlog;
	uint64_t sent; /* by who holds the send side */
	uint64_t received;
	struct cleat_rx_fds *fds;

	enum cleat_body_mode body_mode;
	struct cleat_header body_header;
	struct cleat_slot *body_slot;
	uint8_t *body;
	size_t body_got;
	size_t body_size;
};

/**
 * struct cleat_spin - whether the leader looks again and again before it sleeps
 * @limit_ns: how long; 0: never
 * @wait_ns:  what a reply has taken lately, [0] asleep and [1] looking
 * @on:       the better of the two
 * @trial:    rounds left of trying the other
 * @in_vain: of these, looks that ran to the limit
 * @next_trial: rounds until then
 * @interval: between trials: the longer, the more often the other lost
 * @crowded: rounds left of not looking because others were waiting
 *
 * The leader's.
 */
struct cleat_spin {
	uint32_t limit_ns;
	uint32_t wait_ns[2];
	bool on;
	uint32_t trial;
	uint32_t in_vain;
	uint32_t next_trial;
	uint32_t interval;
	uint32_t crowded;
};

struct cleat_served {
	cleat_inbound_handler *handler;
	void *opaque;
};

struct cleat_device {
	atomic_uint refs;
	atomic_uint pins;
	unsigned fork_count;

	/* Set before anybody else sees the device. */
	uint32_t flags;
	uint64_t limit_ns[3]; /* by enum cleat_call_class */
	uint64_t open_deadline_ns; /* of the handshake; 0 when it is over */
	struct cleat_device_info info;
	struct cleat_capabilities peer;
	uint32_t max_write;
	const char *quirk_row;
	uint32_t quirks;
	struct cleat_region *regions;
	struct cleat_irq_info *irqs;
	void (*on_lost)(void *opaque, const struct cleat_error *why);
	void *on_lost_opaque;
	int epoll_fd;
	struct cleat_watch *watch;
	int server_pidfd;
	pid_t server_pid;
	bool spawned;

	struct cleat_stream main;
	struct cleat_stream twin;
	uint32_t twin_interest; /* as @interest; the events context's */
	unsigned twin_runs;

	pthread_mutex_t lock;
	pthread_cond_t left; /* with @inside */
	bool leader;
	bool gatherer; /* the leader is a caller, and sends what is gathered */
	bool gathers; /* and it is awake: do so */
	uint32_t interest; /* what the epoll fd tells of the main socket */
	bool serves; /* a handler is registered */
	atomic_bool lost;
	bool told; /* of the loss: the hooks and the caller */
	struct cleat_error why;
	unsigned inside; /* threads that may touch the descriptors */
	unsigned kept_fds;
	struct cleat_slot *chunks[(CLEAT_MAX_SLOTS + CLEAT_SLOT_CHUNK) /
				  CLEAT_SLOT_CHUNK];
	unsigned num_slots;
	struct cleat_slot *free_slots;
	struct cleat_slot *sleepers; /* first is woken first */
	struct cleat_slot *last_sleeper;
	unsigned num_woken;
	struct cleat_slot *gathered; /* in the order they go out */
	struct cleat_slot *last_gathered;
	unsigned num_gathered;
	struct cleat_device_stats stats;
	struct cleat_spin spin;

	pthread_mutex_t serve_lock; /* held while a handler runs */
	struct cleat_served served[VFIO_USER_MIG_DATA_WRITE + 1];
	bool no_master; /* the gate is closed; serve_lock */

	pthread_mutex_t hook_lock;
	pthread_cond_t hook_done;
	struct cleat_device_hook *hooks[CLEAT_NUM_HOOK_RANKS];
	struct cleat_device_hook *running_hook;
	pthread_t hook_thread;
	bool shutting;
};

/* clock.c */
uint64_t cleat_now_ns(void);
/*
 * The time as of the kernel's last tick, some milliseconds ago at most, for a
 * tenth of the price: what deadlines are looked at with.
 */
uint64_t cleat_coarse_now_ns(void);
/* A deadline of that clock that is not before @limit_ns from now. */
uint64_t cleat_deadline_ns(uint64_t limit_ns);
/* Milliseconds until @deadline, at most a tick, at least 0. */
int cleat_tick_until(uint64_t deadline_ns);
/* Forks of this process so far: a device made before the last is the parent's
 */
unsigned cleat_fork_count(void);

/* cancel.c */
bool cleat_cancel_is_set(struct cleat_cancel *cancel);
/* Sleep on @word while it is @value, until @deadline or until the calling
 * thread is called back. Spurious returns are fine. */
void cleat_futex_sleep(_Atomic uint32_t *word, uint32_t value,
		       uint64_t deadline_ns);
void cleat_futex_wake(_Atomic uint32_t *word);

/* gate.c */
bool cleat_gate_try(struct cleat_gate *gate);
/* False when it is not ours within a tick. */
bool cleat_gate_wait(struct cleat_gate *gate);
void cleat_gate_leave(struct cleat_gate *gate);

/* slots.c: conn lock held */
struct cleat_slot *cleat_slot_take(struct cleat_device *dev);
/* The one whose reply this can be; NULL: nobody has asked, or not yet. */
struct cleat_slot *cleat_slot_of(struct cleat_device *dev, uint16_t id);
void cleat_slot_release(struct cleat_device *dev, struct cleat_slot *slot);
void cleat_sleepers_add(struct cleat_device *dev, struct cleat_slot *slot);
void cleat_sleepers_remove(struct cleat_device *dev, struct cleat_slot *slot);
/*
 * Choose one that may lead; none if somebody leads, or is awake with his result
 * and comes by here when he takes it. The word it sleeps on, for
 * cleat_wake_up() when the lock is let go: woken under it, a thread would only
 * run into it.
 */
_Atomic uint32_t *cleat_pass_lead(struct cleat_device *dev);
void cleat_wake_up(_Atomic uint32_t *word);

/* gather.c: conn lock held, but for cleat_has_gathered() */
/* Requests are at most so large that wait for the leader to send them; so much
 * goes out at once; and so many do not wait any longer. */
#define CLEAT_GATHER_MOST 128
#define CLEAT_GATHER_BYTES 2048
#define CLEAT_GATHER_NUM 3
bool cleat_may_gather(const struct cleat_call *call);
/* True: they are so many that the caller is to send them, lest the server has
 * nothing to do until the leader sleeps. */
bool cleat_gather(struct cleat_device *dev, struct cleat_slot *slot);
/* It is not to go out any more. */
void cleat_ungather(struct cleat_device *dev, struct cleat_slot *slot);
bool cleat_has_gathered(struct cleat_device *dev);
/* A request as it goes out, CLEAT_GATHER_MOST bytes at most. Without the lock
 * only by its own thread. */
size_t cleat_write_request(const struct cleat_slot *slot, uint8_t *to);
/* Messages for who holds the send side to send; 0: there are none left. */
size_t cleat_gathered_take(struct cleat_device *dev, uint8_t *buf, size_t room);

/* stream.c */
int cleat_stream_init(struct cleat_stream *stream, int fd);
void cleat_stream_destroy(struct cleat_stream *stream);
/*
 * One recvmsg and what it completes. By the leader (main) or the events context
 * (twin), no lock held. @self: the leader's slot, whose large reply may go
 * straight to its buffers; may be NULL. Return: 0; -EAGAIN: nothing came within
 * a tick (at once with MSG_DONTWAIT) or a signal did; otherwise the connection
 * has failed.
 */
int cleat_stream_receive(struct cleat_device *dev, struct cleat_stream *stream,
			 struct cleat_slot *self, int flags);
/* The leader leaves: what goes on must not touch its buffers. */
void cleat_stream_leave(struct cleat_device *dev, struct cleat_stream *stream,
			struct cleat_slot *self);

/* deliver.c: a message is there, whole; @self as with cleat_stream_receive() */
void cleat_deliver(struct cleat_device *dev, struct cleat_stream *stream,
		   struct cleat_slot *self, const struct cleat_header *header,
		   const uint8_t *payload, struct cleat_fds *fds);
/* Give a slot a body that was allocated; takes it. */
void cleat_deliver_body(struct cleat_device *dev, struct cleat_slot *slot,
			const struct cleat_header *header, uint8_t *body,
			struct cleat_fds *fds);
/* Give the leader's slot a body that is in its buffers already. */
void cleat_deliver_direct(struct cleat_device *dev, struct cleat_slot *slot,
			  const struct cleat_header *header,
			  struct cleat_fds *fds);
/* End the connection over a reply. @err: -ENOENT: nobody asked for it, -EMFILE:
 * too many descriptors, else: its size. */
void cleat_refuse_reply(struct cleat_device *dev,
			const struct cleat_header *header, int err);

/* send.c */
/* A call's message, with its descriptors, in its time. */
int cleat_send_message(struct cleat_device *dev, const struct iovec *iov,
		       unsigned num, const struct cleat_call *call);
/*
 * The leader's own request, small and without descriptors: sent at once, or
 * left with what waits for room. If it cannot be sent the connection is lost.
 */
void cleat_send_own(struct cleat_device *dev, struct cleat_slot *self);
/* Queue a reply of ours (takes it) and send what can be sent. */
void cleat_send_reply(struct cleat_device *dev, struct cleat_stream *stream,
		      struct cleat_packet *packet);
/* Send waiting replies as far as there is room. */
void cleat_send_waiting(struct cleat_device *dev, struct cleat_stream *stream);
/* -1: none wait, 0: some do, 1: so many that nothing may be read. */
int cleat_outbox_state(struct cleat_device *dev, struct cleat_stream *stream);

/* spin.c */
void cleat_spin_init(struct cleat_spin *spin, uint32_t us);
/*
 * As cleat_stream_receive() of the main socket, with a look or many before the
 * thread sleeps. Others that wait have better use for the core: looking ends
 * with the first of them.
 */
int cleat_spin_receive(struct cleat_device *dev, struct cleat_slot *self);

/* call.c */
/* 0, or why the calling thread has to stop waiting. */
int cleat_must_stop(uint64_t deadline_ns);
/* The same by a call's deadline as it is now: another thread may have ended it
 * (cleat_call_expire()). */
int cleat_call_must_stop(const struct cleat_call *call);
/*
 * Wait at most a tick for room in the socket (@for_room), or for a reply of
 * anybody's; as the leader, if nobody is.
 */
void cleat_lead_round(struct cleat_device *dev, bool for_room);

/* events.c: what runs in the events context */
int cleat_events_open(struct cleat_device *dev);
void cleat_events_close(struct cleat_device *dev);
/*
 * Conn lock held. Arm when the last waiter leaves: what is left to do on the
 * main socket is then the events context's. Disarm when a thread begins to use
 * it.
 */
void cleat_events_arm(struct cleat_device *dev);
void cleat_events_disarm(struct cleat_device *dev);
int cleat_events_run(struct cleat_device *dev);
/* Let cleat_events_run() be called soon, though nothing came. */
void cleat_events_poke(struct cleat_device *dev);

/* hooks.c */
void cleat_hooks_init(struct cleat_device *dev);
void cleat_hooks_lost(struct cleat_device *dev);
/* No more hooks are taken, and none is told of the loss any more. */
void cleat_hooks_close(struct cleat_device *dev);
void cleat_hooks_shutdown(struct cleat_device *dev);

/* connect.c: a connected socket, or -errno */
int cleat_connect(const struct cleat_device_config *config,
		  uint64_t deadline_ns, struct cleat_device *dev,
		  struct cleat_error *reterr);
/* End a server we started. */
void cleat_disconnect(struct cleat_device *dev);

/* handshake.c */
int cleat_handshake(struct cleat_device *dev, struct cleat_error *reterr);
/* quirks.c: before the handshake, -EINVAL for a word nobody knows; after it */
int cleat_quirks_by_word(struct cleat_device *dev, const char *peer,
			 struct cleat_error *reterr);
void cleat_quirks_by_handshake(struct cleat_device *dev);
/* describe.c */
int cleat_describe(struct cleat_device *dev, struct cleat_error *reterr);
/* The descriptors go with the connection, the description with the memory:
 * who has the device pinned may still look at it. */
void cleat_describe_close(struct cleat_device *dev);
void cleat_describe_free(struct cleat_device *dev);

#endif
