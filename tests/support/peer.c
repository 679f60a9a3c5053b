/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/support/support.h"

enum { COMMAND_VERSION = 1 };

void peer_pair(int ends[2])
{
	ATF_REQUIRE_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0,
				     ends));
}

static int unix_address(const char *path, struct sockaddr_un *address)
{
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(address->sun_path))
		return -ENAMETOOLONG;
	strcpy(address->sun_path, path);
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

int peer_listen(const char *path)
{
	struct sockaddr_un address;
	int fd = unix_address(path, &address);

	ATF_REQUIRE(fd >= 0);
	ATF_REQUIRE_EQ(0, bind(fd, (void *)&address, sizeof(address)));
	ATF_REQUIRE_EQ(0, listen(fd, 8));
	return fd;
}

int peer_accept(int listener)
{
	int fd;

	if (!wait_fd(listener, POLLIN, PATIENCE_MS))
		return -ETIMEDOUT;
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int peer_connect(const char *path)
{
	struct deadline limit = deadline_in(PATIENCE_MS);
	struct sockaddr_un address;
	int fd = unix_address(path, &address);

	ATF_REQUIRE(fd >= 0);
	while (connect(fd, (void *)&address, sizeof(address))) {
		/* A server that is just starting: no file yet, or no listen. */
		ATF_REQUIRE_MSG((errno == ENOENT || errno == ECONNREFUSED) &&
					deadline_left(&limit),
				"%s: %s", path, strerror(errno));
		usleep(1000);
	}
	return fd;
}

static void attach_fds(struct msghdr *msg, void *control, const int *fds,
		       unsigned nr_fds)
{
	struct cmsghdr *cmsg;

	msg->msg_control = control;
	msg->msg_controllen = CMSG_SPACE(nr_fds * sizeof(int));
	cmsg = CMSG_FIRSTHDR(msg);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(nr_fds * sizeof(int));
	memcpy(CMSG_DATA(cmsg), fds, nr_fds * sizeof(int));
}

static int send_rest(int fd, const char *data, size_t length)
{
	while (length) {
		ssize_t sent;

		if (!wait_fd(fd, POLLOUT, PATIENCE_MS))
			return -ETIMEDOUT;
		sent = send(fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		if (sent > 0) {
			data += sent;
			length -= (size_t)sent;
		}
	}
	return 0;
}

int peer_send_raw(int fd, const void *data, size_t length, const int *fds,
		  unsigned nr_fds)
{
	_Alignas(struct cmsghdr) char
		control[CMSG_SPACE(sizeof(int) * 2 * PEER_FDS_MAX)] = { 0 };
	struct iovec iov = { (void *)data, length };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t sent;

	if (!nr_fds)
		return send_rest(fd, data, length);
	if (nr_fds > 2 * PEER_FDS_MAX)
		return -E2BIG;
	attach_fds(&msg, control, fds, nr_fds);
	do {
		sent = sendmsg(fd, &msg, MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return -errno;
	return send_rest(fd, (const char *)data + sent,
			 length - (size_t)sent);
}

int peer_send(int fd, const struct peer_message *message)
{
	size_t length = sizeof(message->header) + message->length;
	char *wire = malloc(length);
	int err;

	if (!wire)
		return -ENOMEM;
	memcpy(wire, &message->header, sizeof(message->header));
	if (message->length)
		memcpy(wire + sizeof(message->header), message->body,
		       message->length);
	err = peer_send_raw(fd, wire, length, message->fds, message->nr_fds);
	free(wire);
	return err;
}

static int send_with(int fd, struct peer_header header, const void *body,
		     size_t length, const int *fds, unsigned nr_fds)
{
	struct peer_message message = {
		.header = header,
		.body = (void *)body,
		.length = length,
		.nr_fds = nr_fds,
	};

	if (nr_fds > PEER_FDS_MAX)
		return -E2BIG;
	if (nr_fds)
		memcpy(message.fds, fds, nr_fds * sizeof(*fds));
	message.header.size = (uint32_t)(sizeof(header) + length);
	return peer_send(fd, &message);
}

int peer_command(int fd, uint16_t id, uint16_t command, const void *body,
		 size_t length, const int *fds, unsigned nr_fds)
{
	struct peer_header header = { .id = id, .command = command };

	return send_with(fd, header, body, length, fds, nr_fds);
}

int peer_reply(int fd, const struct peer_message *request, const void *body,
	       size_t length, const int *fds, unsigned nr_fds)
{
	struct peer_header header = {
		.id = request->header.id,
		.command = request->header.command,
		.flags = PEER_REPLY,
	};

	return send_with(fd, header, body, length, fds, nr_fds);
}

int peer_reply_error(int fd, const struct peer_message *request, int error)
{
	struct peer_header header = {
		.id = request->header.id,
		.command = request->header.command,
		.flags = PEER_REPLY | PEER_ERROR,
		.error = (uint32_t)error,
	};

	return send_with(fd, header, NULL, 0, NULL, 0);
}

static void take_fds(struct msghdr *msg, struct peer_message *message)
{
	struct cmsghdr *cmsg;

	for (cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
		size_t count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		int *fds = (int *)CMSG_DATA(cmsg);

		for (size_t i = 0; i < count; i++) {
			if (message->nr_fds < PEER_FDS_MAX)
				message->fds[message->nr_fds++] = fds[i];
			else
				close(fds[i]);
		}
	}
}

/* Exactly @length bytes, and the descriptors that come with any of them. */
static int receive_exactly(int fd, char *data, size_t length,
			   struct peer_message *message)
{
	_Alignas(struct cmsghdr) char
		control[CMSG_SPACE(sizeof(int) * PEER_FDS_MAX)];

	while (length) {
		struct iovec iov = { data, length };
		struct msghdr msg = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control,
			.msg_controllen = sizeof(control),
		};
		ssize_t got;

		if (!wait_fd(fd, POLLIN, PATIENCE_MS))
			return -ETIMEDOUT;
		got = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
		if (got < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		if (got == 0)
			return -EPIPE;
		if (got < 0)
			continue;
		take_fds(&msg, message);
		data += got;
		length -= (size_t)got;
	}
	return 0;
}

static int receive_body(int fd, struct peer_message *message)
{
	uint32_t size = message->header.size;

	if (size < sizeof(message->header) || size > PEER_BODY_MAX)
		return -EMSGSIZE;
	message->length = size - sizeof(message->header);
	if (!message->length)
		return 0;
	message->body = malloc(message->length);
	if (!message->body)
		return -ENOMEM;
	return receive_exactly(fd, message->body, message->length, message);
}

int peer_receive(int fd, struct peer_message *message)
{
	int err;

	memset(message, 0, sizeof(*message));
	err = receive_exactly(fd, (char *)&message->header,
			      sizeof(message->header), message);
	if (!err)
		err = receive_body(fd, message);
	if (err)
		peer_message_end(message);
	return err;
}

int peer_expect(int fd, uint16_t command, struct peer_message *message)
{
	int err = peer_receive(fd, message);

	if (err || message->header.command == command)
		return err;
	fprintf(stderr, "peer: command %u came where %u was expected\n",
		message->header.command, command);
	peer_message_end(message);
	return -EBADMSG;
}

void peer_message_end(struct peer_message *message)
{
	while (message->nr_fds)
		close(message->fds[--message->nr_fds]);
	free(message->body);
	message->body = NULL;
}

int peer_expect_close(int fd)
{
	char byte;
	ssize_t got;

	if (!wait_fd(fd, POLLIN, PATIENCE_MS))
		return -ETIMEDOUT;
	got = recv(fd, &byte, 1, MSG_DONTWAIT);
	/* Closing with unread bytes of ours in it resets the connection. */
	if (got == 0 || (got < 0 && errno == ECONNRESET))
		return 0;
	return got < 0 ? -errno : -EBADMSG;
}

int peer_serve_version(int fd, uint16_t major, uint16_t minor,
		       const char *json)
{
	struct peer_message request;
	char body[4096] = { 0 };
	size_t length = 2 * sizeof(uint16_t);
	int err;

	if (json && strlen(json) + 1 > sizeof(body) - length)
		return -E2BIG;
	err = peer_expect(fd, COMMAND_VERSION, &request);
	if (err)
		return err;
	memcpy(body, &major, sizeof(major));
	memcpy(body + sizeof(major), &minor, sizeof(minor));
	if (json) {
		strcpy(body + length, json);
		length += strlen(json) + 1;
	}
	err = peer_reply(fd, &request, body, length, NULL, 0);
	peer_message_end(&request);
	return err;
}

static void *script_thread(void *arg)
{
	struct script *script = arg;

	script->result = script->run(script->arg);
	return NULL;
}

void script_start(struct script *script, int (*run)(void *arg), void *arg)
{
	script->run = run;
	script->arg = arg;
	script->result = 0;
	ATF_REQUIRE_EQ(0, pthread_create(&script->thread, NULL, script_thread,
					 script));
}

void script_end(struct script *script)
{
	ATF_REQUIRE_EQ(0, pthread_join(script->thread, NULL));
	ATF_REQUIRE_EQ_MSG(0, script->result, "the script ended with %d (%s)",
			   script->result, strerror(abs(script->result)));
}
