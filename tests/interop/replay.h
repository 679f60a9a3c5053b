/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Recorded connections (tests/data/streams), whole in memory, with each reply
 * found for its request.
 */
#ifndef TESTS_INTEROP_REPLAY_H
#define TESTS_INTEROP_REPLAY_H

#include "tests/support/support.h"
#include "tools/stream.h"

/**
 * struct replay
 * @messages: in the order in which they went by
 * @num:      how many
 * @partner:  of a command its reply, of a reply its command; -1: none
 */
struct replay {
	struct cleat_stream_message *messages;
	unsigned num;
	int *partner;
};

/* @name: such as "boot". */
void replay_load(struct replay *replay, const char *name);
void replay_free(struct replay *replay);

struct cleat_header replay_header(const struct replay *replay, unsigned i);
bool replay_is_command(const struct replay *replay, unsigned i);
/* A command of the client's. */
bool replay_is_request(const struct replay *replay, unsigned i);
/* What follows the header; NULL if nothing does. */
const void *replay_payload(const struct replay *replay, unsigned i,
			   size_t *ret_length);
/* Descriptors of the recorded kinds; the caller closes them. */
void replay_stand_in(const struct replay *replay, unsigned i, int *ret_fds);

#endif
