/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A server that knows nothing but what another one was recorded to answer: each
 * command is looked up in the recording, and the recorded reply goes back with
 * the id that was asked with. What the recorded server asked by itself is asked
 * again at the same point, and its answers must be the recorded ones.
 */
#ifndef TESTS_INTEROP_RECORDED_SERVER_H
#define TESTS_INTEROP_RECORDED_SERVER_H

#include <stdatomic.h>

#include "tests/interop/replay.h"

/**
 * struct recorded_server
 * @replay: the recording
 * @used:   of each message: it has been asked for, sent, or received
 * @fds:    of each of the server's messages: what comes with it
 * @at:     where in the recording the client is, by its own word: what it asks
 *          is looked for from there on
 * @why:    what went wrong, when script_end() fails
 */
struct recorded_server {
	struct replay *replay;
	atomic_bool *used;
	int **fds;
	atomic_uint at;
	int fd;
	const char *why;
	struct script script;
};

/* Returns the client's end. */
int recorded_server_start(struct recorded_server *server,
			  struct replay *replay);
/* Until what the recorded server asked before message @before is answered. */
void recorded_server_wait(struct recorded_server *server, unsigned before);
/* When the client has gone. */
void recorded_server_end(struct recorded_server *server);

#endif
