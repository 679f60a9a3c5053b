/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A scripted server for the dma room: it takes DMA_MAP and DMA_UNMAP, keeps
 * what it was given, and misbehaves on demand. Its device has no regions.
 */
#ifndef TESTS_DMA_SERVER_H
#define TESTS_DMA_SERVER_H

#include <cleat/device.h>
#include <cleat/memory.h>

#include "tests/support/support.h"

#define SERVER_MAPS 1024

struct server_map {
	uint32_t flags;
	uint64_t offset;
	uint64_t address;
	uint64_t size;
	int fd; /* -1 if none came */
};

/**
 * struct server - one scripted server and our device on it
 * @json:         its capabilities, NULL for none
 * @refuse_map:   answer the DMA_MAP with this number (from 1) with -EPERM
 * @die_at_map:   close the connection instead of answering that DMA_MAP
 * @refuse_unmap: answer every DMA_UNMAP with -EBUSY
 * @mute_unmap:   do not answer any DMA_UNMAP
 * @bare_unmap:   answer it with a header only
 * @maps, @num_maps: what is mapped now
 * @mapped, @unmapped: how often it was asked to
 * @replied:      eventfd, one for each reply to the server's own commands
 * @reply:        the last of these
 */
struct server {
	const char *json;
	unsigned refuse_map;
	unsigned die_at_map;
	bool refuse_unmap;
	bool mute_unmap;
	bool bare_unmap;
	uint32_t quiesce_ms; /* our device's limit */

	int fd;
	struct script script;
	struct cleat_device *dev;
	pthread_mutex_t lock;
	struct server_map maps[SERVER_MAPS];
	unsigned num_maps;
	unsigned mapped;
	unsigned unmapped;
	int replied;
	struct peer_message reply;
};

/* The first seven members are the case's, set before; the rest is filled in. */
void server_open(struct server *server);
void server_close(struct server *server);
/* A counter of its, while its thread may be changing it. */
#define SERVER_GET(server, field)                                              \
	({                                                                     \
		typeof((server)->field) got_;                                  \
									       \
		pthread_mutex_lock(&(server)->lock);                           \
		got_ = (server)->field;                                        \
		pthread_mutex_unlock(&(server)->lock);                         \
		got_;                                                          \
	})
/* The map at @address, or NULL; until the next map or unmap. */
const struct server_map *server_find(struct server *server, uint64_t address);

/*
 * The server's own DMA_READ or DMA_WRITE with @data after the fixed part:
 * the errno of the reply, 0 if it is none.
 */
int server_dma(struct server *server, uint16_t command, uint64_t address,
	       uint64_t count, const void *data, size_t length);
/*
 * The same, when the device is attached to no memory: its socket may then be
 * read only when there is a reply to wait for, so a reset is sent after it.
 */
int server_dma_unserved(struct server *server, uint16_t command,
			uint64_t address, uint64_t count);
enum { SERVER_READ = 11, SERVER_WRITE = 12 };

/* A piece of guest memory. */
struct ram {
	int fd;
	size_t size;
	unsigned char *host;
};

/*
 * Filled with a pattern. Cases look at it through the file: that a socket
 * orders what two threads do is beyond ThreadSanitizer.
 */
void ram_make(struct ram *ram, size_t pages);
void ram_free(struct ram *ram);
bool ram_holds(const struct ram *ram, size_t offset, const void *data,
	       size_t length);
/* Pages of @ram from @first on, at @guest. */
struct cleat_memory_range ram_range(const struct ram *ram, uint64_t guest,
				    size_t first, size_t pages,
				    uint32_t rights);
#define PAGE 4096u
#define READ_WRITE (CLEAT_READ | CLEAT_WRITE)

#endif
