/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The reply to VERSION, as the handshake takes it: a first byte that says which
 * descriptors come along, then the payload. A device without regions follows,
 * so that what was agreed on can be looked at.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cleat/cleat.h>

#include "fuzz/fuzz.h"
#include "wire/wire.h"

/* Ids are the slot's number below and a generation above; both requests are
 * alone on their way and take the first slot. */
#define FIRST_ID 0x200
#define SECOND_ID 0x400
#define MOST 32768

struct message {
	struct cleat_header header;
	uint8_t payload[MOST];
};

static void add_fds(struct cleat_fds *fds, uint8_t how)
{
	int pair[2];

	fds->num = 0;
	for (unsigned i = 0; i < (how & 3u); i++)
		fds->fd[fds->num++] = eventfd(0, EFD_CLOEXEC);
	if (how & 4 && !socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0,
				   pair)) {
		fds->fd[fds->num++] = pair[0];
		fds->fd[fds->num++] = pair[1];
	}
	if (how & 8 &&
	    !socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair)) {
		fds->fd[fds->num++] = pair[0];
		close(pair[1]);
	}
}

static void send_message(int fd, const struct message *message,
			 struct cleat_fds *fds)
{
	struct iovec iov = { (void *)message, message->header.size };

	if (cleat_wire_send(fd, &iov, 1, fds->fd, fds->num, MSG_DONTWAIT) !=
	    (ssize_t)iov.iov_len)
		abort();
	cleat_fds_close(fds);
}

static void send_version(int fd, const uint8_t *data, size_t size)
{
	static struct message message = {
		.header = { .id = FIRST_ID,
			    .command = VFIO_USER_VERSION,
			    .flags = CLEAT_HEADER_REPLY },
	};
	struct cleat_fds fds;

	add_fds(&fds, data[0]);
	message.header.size = (uint32_t)(sizeof(message.header) + size - 1);
	memcpy(message.payload, data + 1, size - 1);
	send_message(fd, &message, &fds);
}

static void send_info(int fd)
{
	struct cleat_wire_device_info info = { .argsz = sizeof(info) };
	static struct message message = {
		.header = { .id = SECOND_ID,
			    .command = VFIO_USER_DEVICE_GET_INFO,
			    .size = sizeof(message.header) + sizeof(info),
			    .flags = CLEAT_HEADER_REPLY },
	};
	struct cleat_fds none = { 0 };

	memcpy(message.payload, &info, sizeof(info));
	send_message(fd, &message, &none);
}

static void check(struct cleat_device *dev)
{
	struct cleat_device_info info = { .size = sizeof(info) };

	if (cleat_device_info(dev, &info) || info.major ||
	    !info.max_transfer || info.max_transfer > CLEAT_MAX_TRANSFER ||
	    info.max_msg_fds > CLEAT_MAX_FDS || !info.page_sizes)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cleat_device_config config = {
		.size = sizeof(config),
		.flags = CLEAT_DEVICE_OWN_LOOP,
		.control_ms = 1000,
	};
	struct cleat_device *dev;
	struct cleat_error why;
	int ends[2];

	if (size < 1 || size > MOST)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		abort();
	send_version(ends[1], data, size);
	send_info(ends[1]);
	shutdown(ends[1], SHUT_WR);
	config.fd = ends[0];
	if (!cleat_device_open(&config, &dev, &why)) {
		check(dev);
		cleat_device_unref(dev);
	} else if (!why.text[0] || why.code >= 0) {
		abort();
	}
	close(ends[0]);
	close(ends[1]);
	return 0;
}
