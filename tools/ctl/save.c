/* SPDX-License-Identifier: BSD-2-Clause */
/* What goes through, kept: one file for each client, as tools/stream.h has it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "tools/ctl/relay.h"

/* No pipe and no terminal: those can make us wait. */
static int open_plain(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC |
				    O_NONBLOCK, 0600);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (!fstat(fd, &st) && S_ISREG(st.st_mode))
		return fd;
	close(fd);
	return -EINVAL;
}

int cleat_ctl_save_open(const char *path, unsigned number,
			struct ctl_save *save)
{
	char name[4096];
	FILE *file;
	int fd, err;

	if (snprintf(name, sizeof(name), number > 1 ? "%s.%u" : "%s", path,
		     number) >= (int)sizeof(name))
		return -ENAMETOOLONG;
	fd = open_plain(name);
	if (fd < 0)
		return fd;
	file = fdopen(fd, "w");
	if (!file) {
		close(fd);
		return -ENOMEM;
	}
	err = cleat_stream_begin(file);
	if (err)
		fclose(file);
	else
		*save = (struct ctl_save){ .file = file };
	return err;
}

int cleat_ctl_save_close(struct ctl_save *save)
{
	int err = save->file && fclose(save->file) ? -errno : 0;

	save->file = NULL;
	return err;
}

/* What the format has no place for is said to who reads the file. */
static void put_remark(FILE *file, const struct ctl_event *event)
{
	char text[200];

	if (event->kind <= CTL_EVENT_RAW) {
		fprintf(file, "# %" PRIu32 " bytes from the %s that are no "
			      "whole message\n",
			event->size, event->from_server ? "server" : "client");
		return;
	}
	cleat_ctl_printable(text, sizeof(text), (const char *)event->data,
			    event->size);
	if (*text)
		fprintf(file, "# %s\n", text);
}

static struct cleat_stream_fd convert_fd(const struct ctl_fd *fd)
{
	static const enum cleat_stream_kind kinds[CTL_NUM_FD_KINDS] = {
		[CTL_FD_EVENTFD] = CLEAT_STREAM_EVENTFD,
		[CTL_FD_MEMFD] = CLEAT_STREAM_MEMFD,
		[CTL_FD_FILE] = CLEAT_STREAM_FILE,
		[CTL_FD_SOCKET] = CLEAT_STREAM_SOCKET,
		[CTL_FD_PIPE] = CLEAT_STREAM_PIPE,
	};

	return (struct cleat_stream_fd){ kinds[fd->kind], fd->size };
}

static bool is_whole(const struct ctl_event *event)
{
	struct cleat_header header;

	if (event->kind != CTL_EVENT_MESSAGE || event->size < sizeof(header))
		return false;
	memcpy(&header, event->data, sizeof(header));
	return header.size == event->size;
}

static int put_message(struct ctl_save *save, const struct ctl_event *event)
{
	static struct cleat_stream_message message;

	if (!save->begun)
		save->first_ns = event->time_ns;
	save->begun = true;
	message.from_server = event->from_server;
	message.twin = event->twin;
	message.time_us = (event->time_ns - save->first_ns) / 1000;
	message.num_fds = event->num_fds;
	for (unsigned i = 0; i < event->num_fds; i++)
		message.fds[i] = convert_fd(&event->fds[i]);
	message.bytes = (uint8_t *)event->data;
	message.length = event->size;
	return cleat_stream_write(save->file, &message);
}

int cleat_ctl_save(struct ctl_save *save, const struct ctl_event *event)
{
	int err = 0;

	if (is_whole(event))
		err = put_message(save, event);
	else
		put_remark(save->file, event);
	if (err || fflush(save->file))
		return err ? err : -errno;
	return ferror(save->file) ? -EIO : 0;
}
