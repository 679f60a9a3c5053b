/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cleat-bench-messages: what goes over the socket, held against the bare
 * socket.
 *
 * A row runs its ways by turns, so that what else the machine does hits them
 * alike, and compares them within each turn: a result is the median of those
 * ratios. All values are costs: lower is better, and so is a lower ratio.
 */
#ifndef BENCH_MESSAGES_H
#define BENCH_MESSAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include <cleat/cleat.h>
#include <cleat/device.h>
#include <cleat/memory.h>

#define BENCH_MOST_ROUNDS 99
#define BENCH_MOST_WAYS 10

/* Where our side and the peer run. */
enum bench_pinning { BENCH_ONE_CORE, BENCH_TWO_CORES, BENCH_FREE };

/* Of one turn; @p99 is what a row says where single operations were not timed. */
struct bench_sample {
	double value;
	double p99;
};

struct bench_messages;

/**
 * struct bench_way - one of the things that a row measures
 * @name:  what it is
 * @run:   one turn; 0 or -errno
 * @fd:    of a bare socket
 * @dev:   of a device
 * @memory: that the device may be attached to
 * @size:  bytes of data in each operation
 * @send, @receive: bytes of each message of a bare ping-pong
 * @num:   operations, threads or ranges
 * @flags: the row's own
 */
struct bench_way {
	const char *name;
	int (*run)(const struct bench_messages *bench, struct bench_way *way,
		   struct bench_sample *ret);
	int fd;
	struct cleat_device *dev;
	struct cleat_memory *memory;
	void *opaque;
	size_t size;
	size_t send;
	size_t receive;
	unsigned num;
	unsigned flags;
	struct bench_sample samples[BENCH_MOST_ROUNDS];
};

/**
 * struct bench_figure - a line of the table
 * @limit:  what it is held against, 0 if nothing
 * @ratio:  to that
 * @target: what the ratio, or without @limit the value, is to be at most; 0:
 *          no such wish
 */
struct bench_figure {
	char name[56];
	const char *pinning;
	const char *unit;
	const char *against;
	double value;
	double p99;
	double limit;
	double ratio;
	double target;
};

/**
 * struct bench_messages - the whole run
 * @rounds: turns
 * @count:  operations in a turn
 * @peer:   a server that somebody else runs: its socket, or NULL
 */
struct bench_messages {
	unsigned rounds;
	unsigned count;
	const char *peer;
	struct bench_figure *figures;
	unsigned num_figures;
};

struct bench_messages_row {
	const char *name;
	const char *what;
	int (*run)(struct bench_messages *bench);
};

extern const struct bench_messages_row cleat_bench_messages_rows[];
extern const unsigned cleat_bench_messages_num_rows;

/* messages.c */
uint64_t cleat_bench_now_ns(void);
void cleat_bench_pin_us(enum bench_pinning pinning);
const char *cleat_bench_pinning_name(enum bench_pinning pinning);
/* Run all by turns, @num <= BENCH_MOST_WAYS. */
int cleat_bench_by_turns(const struct bench_messages *bench,
			 struct bench_way *ways, unsigned num);
/* The median and the 99th percentile; sorts. */
struct bench_sample cleat_bench_summary(uint64_t *ns, unsigned num);
/* A figure with everything but @name, @pinning, @unit and @target empty;
 * valid until the next. NULL: no memory. */
struct bench_figure *cleat_bench_figure(struct bench_messages *bench,
					const char *name,
					enum bench_pinning pinning,
					const char *unit, double target);
/* @way held against @limit, which may be NULL. */
int cleat_bench_compare(struct bench_messages *bench, const char *name,
			enum bench_pinning pinning, const char *unit,
			const struct bench_way *way,
			const struct bench_way *limit, double target);

/* messages-report.c */
void cleat_bench_messages_print(FILE *out, const struct bench_messages *bench);
int cleat_bench_messages_json(FILE *out, const struct bench_messages *bench);
/* messages-svg.c: those that have a limit. */
int cleat_bench_messages_svg(FILE *out, const struct bench_messages *bench);
/* How many figures of @after are worse than in @before by more than
 * @percent; they are told of on stdout. -1: not readable, told on stderr. */
int cleat_bench_messages_regressions(const char *before, const char *after,
				     unsigned percent);

/* --- Peers: messages-peer.c ------------------------------------------------ */

enum bench_peer_kind {
	BENCH_PEER_ECHO, /* @receive bytes are answered with @send */
	BENCH_PEER_CANNED, /* vfio-user, the least that can answer */
	BENCH_PEER_SERVER, /* our server library */
	BENCH_PEER_MANY, /* canned, to any number of clients; no socket */
};

/* What a peer process and we both see. */
struct bench_shared {
	_Atomic uint32_t done;
	uint32_t num;
	uint32_t size;
	uint32_t write;
	uint64_t address;
	uint64_t ns[];
};

/**
 * struct bench_peer - a process at the other end of a socket
 * @send, @receive: of an echo, as the client sees it
 * @spin_us:  look for so long before sleeping
 * @delay_us: of a canned one: sleep before each answer
 * @listener: of BENCH_PEER_MANY: closed here once it runs
 * @no_twin:  of a server
 * @shared:   of a server: room for times of DMA, or NULL
 * @fd:       our end
 */
struct bench_peer {
	enum bench_peer_kind kind;
	size_t send;
	size_t receive;
	unsigned spin_us;
	unsigned delay_us;
	int listener;
	bool no_twin;
	struct bench_shared *shared;
	int fd;
	pid_t pid;
};

/* recv(), looking for a while before it sleeps. */
ssize_t cleat_bench_receive(int fd, void *buf, size_t size, unsigned spin_us);
/* All of it, one piece over the other; false: the end. */
bool cleat_bench_take(int fd, void *buf, size_t size, unsigned spin_us);
bool cleat_bench_give(int fd, const void *buf, size_t size);

int cleat_bench_peer_start(struct bench_peer *peer,
			   enum bench_pinning pinning);
void cleat_bench_peer_end(struct bench_peer *peer);
/* A device on it. The peer's socket stays the peer's. */
int cleat_bench_peer_open(struct bench_peer *peer, uint32_t flags,
			  uint32_t spin_us, struct cleat_device **ret);

/* messages-canned.c, messages-server.c: run in the peer's process. */
void cleat_bench_serve_canned(const struct bench_peer *peer, int fd);
void cleat_bench_serve_many(const struct bench_peer *peer);
void cleat_bench_serve_server(const struct bench_peer *peer, int fd);

#define BENCH_REGION 0
#define BENCH_REGION_SIZE (1u << 20)
/* A write here lets the server begin with @shared's DMA. */
#define BENCH_GO (BENCH_REGION_SIZE - 8)

/* --- Ways: messages-ways.c -------------------------------------------------- */

#define BENCH_WAY_WRITE (1u << 0)
#define BENCH_WAY_SPIN (1u << 1)

int cleat_bench_run_bare(const struct bench_messages *bench,
			 struct bench_way *way, struct bench_sample *ret);
int cleat_bench_run_access(const struct bench_messages *bench,
			   struct bench_way *way, struct bench_sample *ret);
/* Bytes of the messages of an access. */
size_t cleat_bench_request_size(size_t size, bool write);
size_t cleat_bench_reply_size(size_t size, bool write);

/* --- Rows --------------------------------------------------------------------- */

int cleat_bench_row_sizes(struct bench_messages *bench);
int cleat_bench_row_server(struct bench_messages *bench);
int cleat_bench_row_spin(struct bench_messages *bench);
int cleat_bench_row_waste(struct bench_messages *bench);
int cleat_bench_row_threads(struct bench_messages *bench);
int cleat_bench_row_posted(struct bench_messages *bench);
int cleat_bench_row_maps(struct bench_messages *bench);
int cleat_bench_row_storms(struct bench_messages *bench);
int cleat_bench_row_dma(struct bench_messages *bench);
int cleat_bench_row_open(struct bench_messages *bench);
/* messages-open.c: BENCH_PEER_MANY, and a device on it. */
int cleat_bench_start_many(struct bench_peer *peer,
			   enum bench_pinning pinning);
int cleat_bench_open_many(struct cleat_device **ret);
/* messages-scale.c: a table of its own, on stdout. */
int cleat_bench_scale(void);
int cleat_bench_row_devices(struct bench_messages *bench);
int cleat_bench_row_qemu(struct bench_messages *bench);
int cleat_bench_row_libvfio_user(struct bench_messages *bench);
int cleat_bench_row_peer(struct bench_messages *bench);

#endif
