/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CLEAT_DMA_PRIVATE_H
#define CLEAT_DMA_PRIVATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <cleat/memory.h>

#include "client/client.h"
#include "table/table.h"

/* The smallest page there is: what a range is made of. */
#define CLEAT_DMA_PAGE 4096u

/* What the caller added: a range, or a part of one. */
struct cleat_dma_part {
	uint64_t guest;
	uint64_t length;
	bool removed; /* by an update that is not done yet */
};

/**
 * struct cleat_dma_file - a file behind ranges, see files.c
 * @known: it is the same as another of the same @dev and @ino
 * @fd:    our own, read-only if not @writable
 */
struct cleat_dma_file {
	struct cleat_dma_file *next;
	unsigned refs;
	dev_t dev;
	ino_t ino;
	bool known;
	bool writable;
	int fd;
};

/**
 * struct cleat_dma_range - one range of a memory, as servers have it
 * @refs: one for being published, one for each copy under way; 0: it is dead
 * @dead: @refs has reached 0, under memory->idle_lock
 * @fd:   of @file; or -1
 * @parts, @num_parts: what it was put together from, in order; @own if it is
 *         what somebody added
 * @is_untold: some server refuses to say what it writes here
 * The last ones are update.c's.
 */
struct cleat_dma_range {
	struct cleat_dma_range *next;
	struct cleat_dma_range *prev;
	uint64_t guest;
	uint64_t length;
	uint64_t offset;
	char *host;
	uint32_t rights;
	int fd;
	unsigned refs;
	bool dead;
	struct cleat_dma_file *file;
	struct cleat_dma_part own;
	struct cleat_dma_part *parts;
	unsigned num_parts;
	bool is_untold;

	struct cleat_dma_range *next_broken;
	bool is_broken;
	bool is_kept;
	struct cleat_dma_part *next_parts;
	unsigned num_next_parts;
};

/* How a server logs what it writes. */
enum cleat_dma_logs {
	CLEAT_DMA_LOGS_NOT,
	CLEAT_DMA_LOGS_FEATURE,
	CLEAT_DMA_LOGS_V1,
};

/**
 * struct cleat_dma_attachment - a device that sees a memory
 * @hook: first, so that the hook's address is the attachment's
 * @log:  while the memory logs; with @log_page the size of its pages
 * @log_mute: its server will not tell with DMA_UNMAP what is dirty
 *
 * Belongs to whoever took it out of memory->attachments, under memory->lock.
 */
struct cleat_dma_attachment {
	struct cleat_device_hook hook;
	struct cleat_dma_attachment *next;
	struct cleat_dma_attachment *next_of_all;
	struct cleat_memory *memory;
	struct cleat_device *dev;
	enum cleat_dma_logs log;
	uint64_t log_page;
	bool log_mute;
};

struct cleat_dma_log;
struct cleat_dma_last;

/**
 * struct cleat_memory - see <cleat/memory.h>
 * @lock:       serialises control calls; held while servers are waited for
 * @ranges, @last_range: in the order in which they were added
 * @idle_lock:  guards every range's @dead
 * @log:        which pages are dirty; NULL: nobody asks. RCU
 */
struct cleat_memory {
	pthread_mutex_t lock;
	struct cleat_table *table;
	struct cleat_dma_range *ranges;
	struct cleat_dma_range *last_range;
	unsigned num_ranges;
	struct cleat_dma_attachment *attachments;
	struct cleat_dma_log *log;
	pthread_mutex_t idle_lock;
	pthread_cond_t idle;
};

/* files.c */
int cleat_dma_file_get(int fd, bool writable, struct cleat_dma_file **ret);
/* NULL is fine, also to give back. */
struct cleat_dma_file *cleat_dma_file_ref(struct cleat_dma_file *file);
void cleat_dma_file_put(struct cleat_dma_file *file);

/* range.c: what is checked of a caller's range, and its life. */
int cleat_dma_range_create(const struct cleat_memory_range *from,
			   struct cleat_dma_range **ret_range);
void cleat_dma_range_free(struct cleat_dma_range *range);
/* @length bytes at @guest, of the same memory as @from, which holds @guest. */
int cleat_dma_range_copy(const struct cleat_dma_range *from, uint64_t guest,
			 uint64_t length, struct cleat_dma_range **ret_range);
/* next_parts become the parts. */
void cleat_dma_range_use_next(struct cleat_dma_range *range);
/* False if it is dead. */
bool cleat_dma_range_get(struct cleat_dma_range *range);
void cleat_dma_range_put(struct cleat_memory *memory,
			 struct cleat_dma_range *range);
/* Drops the publisher's reference and waits for all others. */
void cleat_dma_range_kill(struct cleat_memory *memory,
			  struct cleat_dma_range *range);

/* memory.c: with memory->lock held. In the list, and out of it. */
void cleat_memory_append(struct cleat_memory *memory,
			 struct cleat_dma_range *range);
void cleat_memory_take_out(struct cleat_memory *memory,
			   struct cleat_dma_range *range);
/* Out of the table, and freed when no copy is under way any more. */
void cleat_memory_retire(struct cleat_memory *memory,
			 struct cleat_dma_range **set, size_t num);

/* update.c: cleat_memory_update() with memory->lock held. */
int cleat_dma_update(struct cleat_memory *memory,
		     const struct cleat_memory_change *changes, size_t num,
		     uint32_t flags);

/* map.c: what goes over the sockets. All with memory->lock held. */

/* Whether the device is given the range's file. */
bool cleat_dma_gives_fd(struct cleat_device *dev,
			const struct cleat_dma_range *range);
/* Whether @dev takes @range, as the last of @num. */
int cleat_dma_fits(struct cleat_device *dev,
		   const struct cleat_dma_range *range, unsigned num);
/* 0, or -EOPNOTSUPP: @dev's server has the file and no way to give it back. */
int cleat_dma_can_drop(struct cleat_device *dev,
		       const struct cleat_dma_range *range);
/* On every attached device, or on none. */
int cleat_dma_map_everywhere(struct cleat_memory *memory,
			     struct cleat_dma_range *range);
int cleat_dma_unmap_everywhere(struct cleat_memory *memory,
			       struct cleat_dma_range *range);
/* Each of a set on every device, pipelined; maps: or none of it anywhere. */
int cleat_dma_map_set(struct cleat_memory *memory,
		      struct cleat_dma_range **set, size_t num);
int cleat_dma_unmap_set(struct cleat_memory *memory,
			struct cleat_dma_range **set, size_t num);
/* Every range on one device, or none. */
int cleat_dma_map_all(struct cleat_memory *memory, struct cleat_device *dev);
int cleat_dma_unmap_all(struct cleat_memory *memory, struct cleat_device *dev);

/* serve.c: begin and end answering a device's DMA_READ and DMA_WRITE. */
void cleat_dma_serve(struct cleat_memory *memory, struct cleat_device *dev);
void cleat_dma_serve_no_more(struct cleat_device *dev);

/* log.c: all with memory->lock held. Nothing happens while nobody logs. */

/* A new range is logged too, and is dirty. */
int cleat_dma_log_cover(struct cleat_memory *memory,
			const struct cleat_dma_range *range);
/* Forgets the log. */
void cleat_dma_log_drop(struct cleat_memory *memory);

/* report.c: likewise. */
void cleat_dma_log_start_all(struct cleat_memory *memory);
void cleat_dma_log_stop_all(struct cleat_memory *memory);
/* A device that has come meanwhile. */
void cleat_dma_log_join(struct cleat_memory *memory,
			struct cleat_dma_attachment *at);
void cleat_dma_log_mark(struct cleat_memory *memory,
			const struct cleat_dma_range *range);
/* Everything that a server may have written without our seeing it. */
void cleat_dma_log_mark_hidden(struct cleat_memory *memory,
			       struct cleat_dma_attachment *at);

/* Whether the server writes the range without our seeing it. */
bool cleat_dma_log_hides(const struct cleat_dma_attachment *at,
			 const struct cleat_dma_range *range);
/* Bytes of a bitmap of @length at @page: whole words. */
uint64_t cleat_dma_log_bytes(uint64_t length, uint64_t page);
/*
 * A request must begin at the base of a DMA range and cover it whole, or
 * servers answer nothing: so what is too large for one reply takes larger pages
 * instead of several requests.
 */
#define CLEAT_DMA_MOST_BITMAP (512u * 1024)

/*
 * last.c: what a server logged of a range is asked for with the DMA_UNMAP that
 * takes it away. All with memory->lock held.
 */

/*
 * Changes @call, a DMA_UNMAP of @range that is not started. NULL, with @call as
 * it was: nothing is asked.
 */
struct cleat_dma_last *cleat_dma_last_ask(struct cleat_dma_attachment *at,
					  const struct cleat_dma_range *range,
					  struct cleat_call *call);
/* The server would not: not asked again. Frees @last. */
void cleat_dma_last_refused(struct cleat_dma_attachment *at,
			    struct cleat_dma_last *last);
/*
 * The range is gone, and the reply had @got bytes: what they say is dirty, or
 * all that the server may have written. Frees @last, which may be NULL.
 */
void cleat_dma_last_learn(struct cleat_memory *memory,
			  struct cleat_dma_attachment *at,
			  const struct cleat_dma_range *range,
			  struct cleat_dma_last *last, size_t got);

/* attach.c: lets go of every device without a word to its server. */
void cleat_dma_release_all(struct cleat_memory *memory);

#endif
