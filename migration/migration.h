/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * migration: the state of a device, out of one server and into another.
 *
 *	states.c	the two state machines, as tables
 *	v1.c, v2.c	what either generation says on the wire
 *	identity.c	which device it is
 *	stream.c	the framing: bytes only
 *	io.c		a stream over a descriptor
 *	save.c, load.c	sections of a stream
 *	migration.c	the object, its states and their changes
 *
 * Users see <cleat/migration.h>; this is what the room's own files share, and
 * what its tests and fuzz targets drive directly.
 */
#ifndef CLEAT_MIGRATION_ROOM_H
#define CLEAT_MIGRATION_ROOM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cleat/migration.h>

#include "client/client.h"
#include "wire/wire.h"

/* --- states.c ------------------------------------------------------------ */

#define CLEAT_MIGRATION_STATES 7

/*
 * The first step on the way from one state to another, which is that other
 * where it can be gone to at once; -1: there is no way. @generation 1 or 2;
 * any numbers for the states.
 */
int cleat_migration_step(unsigned generation, unsigned from, unsigned to);

/* --- stream.c ------------------------------------------------------------ */

/*
 * A stream is a head and frames. Each frame has a checksum over itself and its
 * number in the stream, so that none can be changed, left out, doubled or moved
 * without notice. Checksums are CRC-32C: against accidents, not against an
 * adversary, who could as well send a whole stream of his own.
 */
#define CLEAT_STREAM_MAGIC "CLEATMIG"
#define CLEAT_STREAM_VERSION 1u
/* Of one frame's payload: all that is ever held in memory. */
#define CLEAT_STREAM_FRAME (128u * 1024)
#define CLEAT_STREAM_MOST (UINT64_C(1) << 40)

enum cleat_stream_type {
	CLEAT_STREAM_DATA = 1, /* state */
	CLEAT_STREAM_LAST = 2, /* state that ends where a piece of the first
				* generation ended at the source */
	CLEAT_STREAM_SECTION = 3, /* nothing more for now */
	CLEAT_STREAM_END = 4, /* struct cleat_stream_end, nothing more at all */
};

/* Lengths of BARs, ROM and config space; counts of INTx, MSI, MSI-X. */
#define CLEAT_STREAM_REGIONS 8
#define CLEAT_STREAM_IRQS 3

struct cleat_stream_identity {
	uint16_t vendor, device, subvendor, subdevice;
	uint32_t class_revision;
	uint32_t irqs[CLEAT_STREAM_IRQS];
	uint64_t regions[CLEAT_STREAM_REGIONS];
};

/* All integers are little-endian. */
struct cleat_stream_head {
	char magic[8];
	uint32_t version;
	uint32_t size; /* of the head */
	uint32_t generation;
	uint32_t crc; /* of the head, this being 0 */
	struct cleat_stream_identity identity;
};
/* A newer head still begins with this much. */
#define CLEAT_STREAM_PREFIX 16

struct cleat_stream_frame {
	uint32_t type;
	uint32_t length;
	uint32_t number;
	uint32_t crc; /* of the frame and its payload, this being left out */
};

struct cleat_stream_end {
	uint64_t bytes; /* of state */
};

void cleat_stream_make_head(struct cleat_stream_head *head,
			    unsigned generation,
			    const struct cleat_stream_identity *identity);
/* The prefix alone: 0, -EBADMSG, -EPROTONOSUPPORT. */
int cleat_stream_check_prefix(const struct cleat_stream_head *head,
			      struct cleat_error *reterr);
/* All of it, and that it is about this device. -EXDEV: another one. */
int cleat_stream_check_head(const struct cleat_stream_head *head,
			    unsigned generation,
			    const struct cleat_stream_identity *identity,
			    struct cleat_error *reterr);
void cleat_stream_make_frame(struct cleat_stream_frame *frame, uint32_t type,
			     uint32_t number, const void *payload,
			     uint32_t length);
/* Before its payload is read: 0 or -EBADMSG. */
int cleat_stream_check_frame(const struct cleat_stream_frame *frame,
			     uint32_t number, struct cleat_error *reterr);
int cleat_stream_check_payload(const struct cleat_stream_frame *frame,
			       const void *payload,
			       struct cleat_error *reterr);

/* --- identity.c ---------------------------------------------------------- */

int cleat_migration_identify(struct cleat_device *dev,
			     struct cleat_stream_identity *ret,
			     struct cleat_error *reterr);
/* What differs, in words; NULL: nothing. */
const char *
cleat_migration_differs(const struct cleat_stream_identity *a,
			const struct cleat_stream_identity *b);

/* --- v1.c, v2.c ---------------------------------------------------------- */

/**
 * struct cleat_migration_way - what a generation does on the wire
 * @get_state: what the server says; -EPROTO if that is no state
 * @set_state: one step
 * @read:      up to @room bytes of state; *@ret_got less than @room: no more at
 *             once. *@ret_last: a piece of the first generation ends here
 * @write:     state; @last: a piece ends here
 * @left:      how much there is to read; -ENODATA: not told
 */
struct cleat_migration_way {
	unsigned generation;
	int (*get_state)(struct cleat_migration *mig, unsigned *ret_state);
	int (*set_state)(struct cleat_migration *mig, unsigned state);
	int (*read)(struct cleat_migration *mig, void *buf, size_t room,
		    size_t *ret_got, bool *ret_last);
	int (*write)(struct cleat_migration *mig, const void *buf, size_t size,
		     bool last);
	int (*left)(struct cleat_migration *mig, uint64_t *ret_bytes);
};

/* Fills in mig->way if the server has it: 0, -EOPNOTSUPP or what went wrong. */
int cleat_migration_find_v1(struct cleat_migration *mig);
int cleat_migration_find_v2(struct cleat_migration *mig);

/**
 * struct cleat_migration_v1 - the region of the first generation
 * @index:  of the region
 * @offset: of the piece that is being read or written
 * @size:   of it, or the room for it
 * @done:   bytes of it
 * @open:   it has begun
 */
struct cleat_migration_v1 {
	unsigned index;
	const struct cleat_region *region;
	uint64_t offset;
	uint64_t size;
	uint64_t done;
	uint64_t pending;
	bool open;
};

/* --- migration.c --------------------------------------------------------- */

/* What the stream is good for. */
enum cleat_migration_stream {
	CLEAT_MIGRATION_NO_STREAM,
	CLEAT_MIGRATION_SAVING,
	CLEAT_MIGRATION_LOADING,
	CLEAT_MIGRATION_COMPLETE, /* loaded to its end */
	CLEAT_MIGRATION_BROKEN,
};

/**
 * struct cleat_migration - see <cleat/migration.h>
 * @lock:      over every call but info and cancel
 * @state:     as last heard of
 * @number:    of the next frame
 * @section:   bytes of the last section; UINT64_MAX: there was none
 * @buf:       CLEAT_STREAM_FRAME bytes
 * @max_piece: bytes that one message carries
 */
struct cleat_migration {
	struct cleat_device *dev;
	pthread_mutex_t lock;
	const struct cleat_migration_way *way;
	struct cleat_migration_v1 v1;
	struct cleat_stream_identity identity;
	bool pre_copy;
	size_t max_piece;
	atomic_uint state;
	atomic_bool cancelled;
	atomic_int fd;

	enum cleat_migration_stream stream;
	bool head_done;
	uint32_t number;
	uint64_t section;
	atomic_uint_fast64_t bytes;
	atomic_uint_fast64_t framing;
	uint8_t *buf;
};

/* All with the lock held. */

/* Step by step; says on failure where the device has come to. */
int cleat_migration_walk(struct cleat_migration *mig, unsigned to,
			 struct cleat_error *reterr);
int cleat_migration_ask(struct cleat_migration *mig,
			struct cleat_error *reterr);
/* -ECANCELED if it has been called off. */
int cleat_migration_check(struct cleat_migration *mig,
			  struct cleat_error *reterr);
int cleat_migration_tell(struct cleat_migration *mig,
			 const struct cleat_migration_io *io, uint64_t left,
			 bool final);
void cleat_migration_new_stream(struct cleat_migration *mig,
				enum cleat_migration_stream stream);
int cleat_migration_left(struct cleat_migration *mig, uint64_t *ret_bytes);

#endif
