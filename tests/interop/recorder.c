/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * recorder LISTEN SERVER FILE: sits between one client and one server, passes
 * every message on with its descriptors, and writes them down. Ends when either
 * of them has gone. It judges nothing, so that what is recorded is theirs.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "tools/stream.h"

static struct {
	pthread_mutex_t lock;
	FILE *file;
	uint64_t start_us;
} record = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* One direction. */
struct way {
	int from;
	int to;
	bool from_server;
	uint8_t bytes[CLEAT_MAX_MESSAGE];
	struct cleat_fds fds;
};

static void die(const char *what)
{
	fprintf(stderr, "recorder: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* False when the peer has gone. Descriptors come with the first byte. */
static bool receive(struct way *way, size_t at, size_t end,
		    struct cleat_fds *fds)
{
	while (at < end) {
		struct iovec iov = { way->bytes + at, end - at };
		ssize_t n = cleat_wire_recv(way->from, &iov, 1, fds, 0);

		if (n <= 0)
			return false;
		at += (size_t)n;
		if (fds == &way->fds && fds->num)
			break;
	}
	return at == end;
}

static bool receive_message(struct way *way, struct cleat_header *header)
{
	struct cleat_fds none;

	if (!receive(way, 0, sizeof(*header), &way->fds))
		return false;
	memcpy(header, way->bytes, sizeof(*header));
	if (header->size < sizeof(*header) ||
	    header->size > sizeof(way->bytes)) {
		fprintf(stderr, "recorder: a message of %u bytes\n",
			header->size);
		return false;
	}
	return receive(way, sizeof(*header), header->size, &none);
}

/* Before it is passed on, so that a reply stands behind its request. */
static void write_down(const struct way *way, const struct cleat_header *header)
{
	struct cleat_stream_message message = {
		.from_server = way->from_server,
		.num_fds = way->fds.num,
		.bytes = (uint8_t *)way->bytes,
		.length = header->size,
	};

	for (unsigned i = 0; i < way->fds.num; i++)
		message.fds[i] = cleat_stream_fd(way->fds.fd[i]);
	pthread_mutex_lock(&record.lock);
	if (!record.start_us)
		record.start_us = now_us();
	message.time_us = now_us() - record.start_us;
	if (cleat_stream_write(record.file, &message) || fflush(record.file))
		die("writing");
	pthread_mutex_unlock(&record.lock);
}

static bool pass_on(struct way *way, size_t length)
{
	struct iovec iov = { way->bytes, length }, *rest = &iov;
	unsigned num = 1;

	while (num) {
		ssize_t n = cleat_wire_send(way->to, rest, num, way->fds.fd,
					    way->fds.num, 0);

		cleat_fds_close(&way->fds);
		if (n <= 0)
			return false;
		num = cleat_iov_advance(&rest, num, (size_t)n);
	}
	return true;
}

static void *carry(void *arg)
{
	struct cleat_header header;
	struct way *way = arg;

	while (receive_message(way, &header)) {
		write_down(way, &header);
		if (!pass_on(way, header.size))
			break;
	}
	cleat_fds_close(&way->fds);
	shutdown(way->to, SHUT_RDWR);
	shutdown(way->from, SHUT_RDWR);
	return NULL;
}

static int open_socket(const char *path, struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (fd < 0 || strlen(path) >= sizeof(address->sun_path))
		die(path);
	strcpy(address->sun_path, path);
	return fd;
}

static int accept_client(const char *path)
{
	struct sockaddr_un address;
	int listener = open_socket(path, &address), fd;

	unlink(path);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(listener, 1))
		die(path);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		die(path);
	close(listener);
	unlink(path);
	return fd;
}

static int connect_server(const char *path)
{
	struct sockaddr_un address;
	int fd = open_socket(path, &address);

	if (connect(fd, (struct sockaddr *)&address, sizeof(address)))
		die(path);
	return fd;
}

int main(int argc, char **argv)
{
	static struct way up, down = { .from_server = true };
	pthread_t thread;

	if (argc != 4) {
		fputs("usage: recorder LISTEN SERVER FILE\n", stderr);
		return 2;
	}
	record.file = fopen(argv[3], "w");
	if (!record.file || cleat_stream_begin(record.file))
		die(argv[3]);
	up.from = down.to = accept_client(argv[1]);
	down.from = up.to = connect_server(argv[2]);
	if (pthread_create(&thread, NULL, carry, &up))
		die("thread");
	carry(&down);
	pthread_join(thread, NULL);
	return fclose(record.file) ? 1 : 0;
}
