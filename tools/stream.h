/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A recorded connection, as a text file that can be read, compared and cut by
 * hand:
 *
 *	cleat-stream 1
 *	# what follows a # is for people, to the end of the line
 *	> 0 # VERSION
 *	 0100 0100 9400 0000 0000*4 7b22
 *	< 112 fds=socket,memfd:65536
 *	 0100 ...
 *
 * A message begins with > (the client's), < (the server's), or with >> or << on
 * the twin socket, and the microseconds since the first one. The descriptors
 * that came with it follow, in order, by kind: eventfd, socket, pipe, or a file
 * with its size: memfd:SIZE, file:SIZE; what else there is is other. The
 * indented lines are the bytes of the whole message, header included, in hex;
 * *N behind a group says that the group is there N times.
 */
#ifndef TOOLS_STREAM_H
#define TOOLS_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "wire/wire.h"

enum cleat_stream_kind {
	CLEAT_STREAM_OTHER,
	CLEAT_STREAM_EVENTFD,
	CLEAT_STREAM_SOCKET,
	CLEAT_STREAM_PIPE,
	CLEAT_STREAM_MEMFD,
	CLEAT_STREAM_FILE,
};

/* A descriptor that was passed; @size is that of a file. */
struct cleat_stream_fd {
	enum cleat_stream_kind kind;
	uint64_t size;
};

/* One message, whole: @bytes has at least a header, and no more than
 * CLEAT_MAX_MESSAGE bytes. */
struct cleat_stream_message {
	bool from_server;
	bool twin;
	uint64_t time_us;
	unsigned num_fds;
	struct cleat_stream_fd fds[CLEAT_MAX_FDS];
	uint8_t *bytes;
	size_t length;
};

/* What kind of descriptor this is. */
struct cleat_stream_fd cleat_stream_fd(int fd);

/* The first line, then each message. Return: 0 or -errno. */
int cleat_stream_begin(FILE *file);
int cleat_stream_write(FILE *file, const struct cleat_stream_message *message);

/**
 * cleat_stream_read() - the next message of a file
 * @file:    read from its first line on
 * @line:    0 at first; counts lines
 * @message: written; cleat_stream_free()
 *
 * Checked: a message has a header whose size is its own, and is no longer than
 * one can be.
 *
 * Return: 1, 0 at the end, -EPROTO (@line tells where), -ENOMEM, -EIO.
 */
int cleat_stream_read(FILE *file, unsigned *line,
		      struct cleat_stream_message *message);
void cleat_stream_free(struct cleat_stream_message *message);

#endif
