/* SPDX-License-Identifier: BSD-2-Clause */
/* Two ends of a move: servers as processes, and a stream held in memory. */
#ifndef TESTS_MIGRATION_RIG_H
#define TESTS_MIGRATION_RIG_H

#include <cleat/cleat.h>

#include "tests/support/support.h"

#define RAM_SIZE (4u << 20)

struct end {
	struct child child;
	struct cleat_device *dev;
	struct cleat_memory *memory;
	struct cleat_migration *mig;
	int ram_fd;
	uint8_t *ram;
};

/* Starts @name with @extra (NULL-terminated), and maps RAM for it. */
void end_start(struct end *end, const char *name, const char *const extra[]);
/* The same with flags of cleat_device_open()'s. */
void end_start_with(struct end *end, const char *name,
		    const char *const extra[], uint32_t flags);
void end_migration(struct end *end, uint32_t flags);
void end_stop(struct end *end);

uint32_t end_get(struct end *end, uint64_t offset);
void end_set(struct end *end, uint64_t offset, uint32_t value);
enum cleat_migration_state end_state(struct end *end);

/**
 * struct tape - a stream in memory
 * @limit: writing fails there; reading ends at @size
 * @stop_at: progress calls it off once as many bytes have gone; 0: never
 */
struct tape {
	uint8_t *data;
	size_t size;
	size_t at;
	size_t room;
	size_t limit;
	uint64_t stop_at;
	unsigned told;
	struct cleat_migration_io io;
};

void tape_make(struct tape *tape);
void tape_free(struct tape *tape);

/* The whole way: PRE_COPY, @rounds sections, STOP_COPY, the rest. */
void save_all(struct end *end, struct tape *tape, unsigned rounds);
/* All sections: 0 or the first failure. */
int load_all(struct end *end, struct tape *tape, struct cleat_error *why);

#endif
