/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A model server: a device described by a struct, served by a thread, for
 * tests of the client side. It does what a good server does; a test that wants
 * something else gives @on, which sees each message first.
 */
#ifndef TESTS_MODEL_H
#define TESTS_MODEL_H

#include "tests/support/support.h"
#include "wire/wire.h"

#include <cleat/device.h>

#define MODEL_REGIONS 9
#define MODEL_IRQS 5
#define MODEL_BYTES 65536

/**
 * struct model
 * @json:     capabilities of the VERSION reply; NULL: none
 * @regions:  length and flags; the first MODEL_BYTES of a region are memory
 * @num_regions: how many it tells of
 * @irqs:     vectors of each type
 * @on:       sees each message first. Return: 0: go on as usual; 1: it has been
 *            dealt with; negative: end the connection
 * @arg:      for @on
 * @messages: received so far, by command
 */
struct model {
	const char *json;
	struct {
		uint64_t length;
		uint32_t flags;
	} regions[MODEL_REGIONS];
	uint32_t num_regions;
	uint32_t irqs[MODEL_IRQS];
	int (*on)(struct model *model, const struct peer_message *message);
	void *arg;
	unsigned messages[32];

	int fd;
	pthread_mutex_t lock; /* for @memory */
	uint8_t *memory[MODEL_REGIONS];
	struct script script;
};

/* Start serving one end of a socket pair; the other end is the test's. */
int model_start(struct model *model);
/* Wait until the client has gone, and free. */
void model_end(struct model *model);
/* Start, and open a device on it. @config's fd is filled in; NULL: defaults. */
struct cleat_device *model_open(struct model *model,
				struct cleat_device_config *config);
/* Fill the model's memory, also while it serves. */
void model_fill(struct model *model, unsigned region, size_t offset, int byte,
		size_t count);
/* How many messages of a command have come so far. */
unsigned model_count(struct model *model, unsigned command);
/* Answer a message in the usual way. */
int model_answer(struct model *model, const struct peer_message *message);

#endif
