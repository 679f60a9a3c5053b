/* SPDX-License-Identifier: BSD-2-Clause */
/* A saved stream, shown again. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tools/ctl/relay.h"

static void print_line(void *opaque, const char *line, size_t size)
{
	fwrite(line, 1, size, stdout);
	putchar('\n');
}

static int complain(const char *path, unsigned line, int err)
{
	if (err == -EPROTO && line <= 1)
		return cleat_ctl_say(CTL_LOCAL,
				     "%s: not a file of cleatctl relay --save",
				     path);
	if (err == -EPROTO)
		return cleat_ctl_say(CTL_LOCAL, "%s:%u: not a message", path,
				     line);
	return cleat_ctl_say(CTL_LOCAL, "%s: %s", path, strerror(-err));
}

static struct ctl_fd convert_fd(const struct cleat_stream_fd *fd)
{
	static const enum ctl_fd_kind kinds[] = {
		[CLEAT_STREAM_OTHER] = CTL_FD_OTHER,
		[CLEAT_STREAM_EVENTFD] = CTL_FD_EVENTFD,
		[CLEAT_STREAM_SOCKET] = CTL_FD_SOCKET,
		[CLEAT_STREAM_PIPE] = CTL_FD_PIPE,
		[CLEAT_STREAM_MEMFD] = CTL_FD_MEMFD,
		[CLEAT_STREAM_FILE] = CTL_FD_FILE,
	};

	return (struct ctl_fd){ .kind = kinds[fd->kind],
				.size = fd->size,
				.only_size = true };
}

static void show_one(struct ctl_show *show,
		     const struct cleat_stream_message *message)
{
	static struct ctl_event event;

	event.kind = CTL_EVENT_MESSAGE;
	event.time_ns = message->time_us > UINT64_MAX / 1000 ?
				UINT64_MAX :
				message->time_us * 1000;
	event.client = 1;
	event.from_server = message->from_server;
	event.twin = message->twin;
	event.data = message->bytes;
	event.size = (uint32_t)message->length;
	event.num_fds = message->num_fds;
	for (unsigned i = 0; i < message->num_fds; i++)
		event.fds[i] = convert_fd(&message->fds[i]);
	cleat_ctl_show(show, &event);
}

static int show_all(FILE *file, struct ctl_show *show, unsigned *line)
{
	static struct cleat_stream_message message;
	int got = 1;

	while (got > 0 && !ferror(stdout)) {
		got = cleat_stream_read(file, line, &message);
		if (got <= 0)
			break;
		show_one(show, &message);
		cleat_stream_free(&message);
	}
	return got < 0 ? got : 0;
}

int cleat_ctl_replay(struct ctl *ctl)
{
	FILE *file = fopen(ctl->socket, "re");
	struct ctl_show *show;
	unsigned line = 0;
	int err;

	if (!file)
		return complain(ctl->socket, 0, -errno);
	show = cleat_ctl_show_create(ctl->json, ctl->given & CTL_HEX,
				     print_line, NULL);
	err = show ? show_all(file, show, &line) : -ENOMEM;
	cleat_ctl_show_destroy(show);
	fclose(file);
	return err ? complain(ctl->socket, line, err) : CTL_OK;
}
