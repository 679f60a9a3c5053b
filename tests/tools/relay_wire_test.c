/* SPDX-License-Identifier: BSD-2-Clause */
/* cleatctl relay between two peers of which every byte is the test's. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "tests/tools/ctl.h"
#include "wire/wire.h"

#define LARGE (3u << 20)

/* A client and a server, and the relay between them. */
struct ends {
	struct child relay;
	int listener;
	int client;
	int server;
};

static void join(struct ends *ends)
{
	ends->client = peer_connect("r.sock");
	ends->server = peer_accept(ends->listener);
	ATF_REQUIRE(ends->server >= 0);
}

static void start(struct ends *ends, const char *option, const char *value)
{
	ends->listener = peer_listen("s.sock");
	start_ctl(&ends->relay, "relay", "relay", "r.sock", "s.sock", option,
		  option ? value : NULL, NULL);
	REQUIRE_SOON(out_has("relay", "listening"));
	join(ends);
}

static void part(struct ends *ends)
{
	close(ends->client);
	close(ends->server);
}

/* The relay has to be well at the end, whatever went through it. */
static void stop(struct ends *ends)
{
	struct peer_message message;

	part(ends);
	join(ends);
	ATF_REQUIRE_EQ(0, peer_command(ends->client, 7, 13, NULL, 0, NULL, 0));
	ATF_REQUIRE_EQ(0, peer_expect(ends->server, 13, &message));
	ATF_REQUIRE_EQ(0, peer_reply(ends->server, &message, "x", 1, NULL, 0));
	peer_message_end(&message);
	ATF_REQUIRE_EQ(0, peer_expect(ends->client, 13, &message));
	peer_message_end(&message);
	part(ends);
	kill(ends->relay.pid, SIGTERM);
	ATF_REQUIRE_EQ(0, child_wait(&ends->relay, PATIENCE_MS));
	close(ends->listener);
}

/* What one recvmsg brings once something is there. */
static ssize_t receive_once(int fd, void *buf, size_t size,
			    struct cleat_fds *fds)
{
	struct iovec iov = { buf, size };

	if (!wait_fd(fd, POLLIN, PATIENCE_MS))
		return -ETIMEDOUT;
	return cleat_wire_recv(fd, &iov, 1, fds, MSG_DONTWAIT);
}

static void fill(uint8_t *buf, uint16_t id, uint16_t command, uint32_t size)
{
	struct cleat_header header = { .id = id, .command = command,
				       .size = size };

	for (uint32_t i = sizeof(header); i < size; i++)
		buf[i] = (uint8_t)(i * 5 + i / 256 + id);
	memcpy(buf, &header, sizeof(header));
}

/* A byte at a time in, whole out: real servers read a header in one go. */
CLEAT_TC(boundaries__dribbled)
{
	uint8_t in[100], out[200];
	struct cleat_fds fds;
	struct ends ends;

	start(&ends, NULL, NULL);
	fill(in, 1, 77, sizeof(in));
	for (unsigned i = 0; i < sizeof(in); i++)
		ATF_REQUIRE_EQ(1, write(ends.client, in + i, 1));
	ATF_CHECK_EQ(100, receive_once(ends.server, out, 200, &fds));
	ATF_CHECK_EQ(0, memcmp(in, out, 100));
	stop(&ends);
	ATF_CHECK(out_has("relay", "#0001 command 77 data="));
}

/*
 * Five messages in one piece, the second and the fourth with descriptors: each
 * has to come with its own. Sent in three pieces, because a sendmsg has room
 * for those of one.
 */
CLEAT_TC(boundaries__many_at_once)
{
	int one = eventfd(1, EFD_CLOEXEC), two[2];
	struct peer_message message;
	uint8_t in[5 * 40];
	struct ends ends;

	two[0] = two[1] = eventfd(2, EFD_CLOEXEC);
	for (unsigned i = 0; i < 5; i++)
		fill(in + 40 * i, (uint16_t)i, 60, 40);
	start(&ends, NULL, NULL);
	ATF_REQUIRE_EQ(40, write(ends.client, in, 40));
	ATF_REQUIRE_EQ(0, peer_send_raw(ends.client, in + 40, 80, &one, 1));
	ATF_REQUIRE_EQ(0, peer_send_raw(ends.client, in + 120, 80, two, 2));
	for (unsigned i = 0; i < 5; i++) {
		ATF_REQUIRE_EQ(0, peer_receive(ends.server, &message));
		ATF_CHECK_EQ(i, message.header.id);
		ATF_CHECK_EQ(0, memcmp(in + 40 * i + 16, message.body, 24));
		ATF_CHECK_EQ(i == 1 ? 1 : i == 3 ? 2 : 0, message.nr_fds);
		if (message.nr_fds)
			ATF_CHECK_EQ(i == 1 ? 1 : 2,
				     wait_eventfd(message.fds[0],
						  PATIENCE_MS));
		peer_message_end(&message);
	}
	close(one);
	close(two[0]);
	stop(&ends);
	ATF_CHECK(out_has("relay", "fds=[eventfd eventfd]"));
}

/* All that the kernel takes with one message. */
CLEAT_TC(boundaries__most_descriptors)
{
	int fds[CLEAT_MAX_FDS];
	struct cleat_fds got;
	struct ends ends;
	uint8_t buf[32];

	start(&ends, NULL, NULL);
	fds[0] = eventfd(0, EFD_CLOEXEC);
	for (unsigned i = 1; i < CLEAT_MAX_FDS; i++)
		fds[i] = fds[0];
	fill(buf, 1, 8, sizeof(buf));
	ATF_REQUIRE_EQ(32, cleat_wire_send(ends.client,
					   &(struct iovec){ buf, 32 }, 1, fds,
					   CLEAT_MAX_FDS, 0));
	ATF_CHECK_EQ(32, receive_once(ends.server, buf, 32, &got));
	ATF_CHECK_EQ(CLEAT_MAX_FDS, got.num);
	cleat_fds_close(&got);
	close(fds[0]);
	stop(&ends);
}

struct bulk {
	int fd;
	uint8_t *data;
	size_t size;
};

static int send_bulk(void *arg)
{
	struct bulk *bulk = arg;

	return peer_send_raw(bulk->fd, bulk->data, bulk->size, NULL, 0);
}

/* Larger than anybody of ours would take: it goes through in pieces. */
static void pass_bulk(struct ends *ends, size_t size)
{
	uint8_t *in = malloc(size), *out = malloc(size);
	struct bulk bulk = { ends->client, in, size };
	struct script script;
	size_t got = 0;

	fill(in, 3, 18, (uint32_t)size);
	script_start(&script, send_bulk, &bulk);
	while (got < size) {
		ssize_t n;

		ATF_REQUIRE(wait_fd(ends->server, POLLIN, PATIENCE_MS));
		n = read(ends->server, out + got, size - got);
		ATF_REQUIRE(n > 0);
		got += (size_t)n;
	}
	script_end(&script);
	ATF_CHECK_EQ(0, memcmp(in, out, size));
	free(in);
	free(out);
}

CLEAT_TC(large__at_and_above_the_most)
{
	struct peer_message message;
	struct ends ends;

	start(&ends, NULL, NULL);
	pass_bulk(&ends, 200000);
	pass_bulk(&ends, CLEAT_MAX_MESSAGE);
	pass_bulk(&ends, CLEAT_MAX_MESSAGE + 1);
	pass_bulk(&ends, LARGE);
	/* And where the next one begins is still known. */
	ATF_REQUIRE_EQ(0, peer_command(ends.client, 9, 4, "abcd", 4, NULL, 0));
	ATF_REQUIRE_EQ(0, peer_expect(ends.server, 4, &message));
	ATF_CHECK_EQ(9, message.header.id);
	peer_message_end(&message);
	stop(&ends);
	ATF_CHECK(out_has("relay", "more of it: size=65536"));
	ATF_CHECK(!out_has("relay", "not a message"));
}

/* The server reads nothing; what it sends gets through all the same. */
CLEAT_TC(directions__one_blocked)
{
	struct peer_message message;
	uint8_t buf[4096];
	struct ends ends;
	ssize_t n = 0;

	start(&ends, NULL, NULL);
	fill(buf, 5, 10, sizeof(buf));
	while (n >= 0)
		n = send(ends.client, buf, sizeof(buf), MSG_DONTWAIT);
	for (unsigned i = 0; i < 100; i++) {
		ATF_REQUIRE_EQ(0, peer_command(ends.server, 1, 11, buf, 16,
					       NULL, 0));
		ATF_REQUIRE_EQ(0, peer_expect(ends.client, 11, &message));
		peer_message_end(&message);
	}
	/* The other way opens again. */
	for (unsigned i = 0; i < 20; i++) {
		ATF_REQUIRE_EQ(0, peer_expect(ends.server, 10, &message));
		ATF_CHECK_EQ(0, memcmp(buf + 16, message.body, 4080));
		peer_message_end(&message);
	}
	stop(&ends);
}

/* --- Bytes that are no messages ------------------------------------------- */

/* What a hostile client sends is what the server gets, to its end. */
static void pass_raw(struct ends *ends, const void *bytes, size_t size)
{
	uint8_t out[4096];
	size_t got = 0;

	ATF_REQUIRE_EQ(0, peer_send_raw(ends->client, bytes, size, NULL, 0));
	shutdown(ends->client, SHUT_WR);
	for (;;) {
		ssize_t n;

		ATF_REQUIRE(wait_fd(ends->server, POLLIN, PATIENCE_MS));
		n = read(ends->server, out + got, sizeof(out) - got);
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	ATF_CHECK_EQ(size, got);
	ATF_CHECK_EQ(0, memcmp(bytes, out, size));
	part(ends);
	join(ends);
}

CLEAT_TC(hostile__headers)
{
	static const uint32_t sizes[] = { 0, 1, 15, 17, 0xffffffff, 0x80000000,
					  CLEAT_MAX_MESSAGE + 1, 2000 };
	struct ends ends;
	uint8_t buf[100];

	start(&ends, "-x", NULL);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct cleat_header header = { .id = 1, .command = 0xffff,
					       .size = sizes[i],
					       .flags = 0xffffffff,
					       .error = 0xffffffff };

		memset(buf, 0xa5, sizeof(buf));
		memcpy(buf, &header, sizeof(header));
		pass_raw(&ends, buf, sizeof(buf));
	}
	pass_raw(&ends, "x", 1);
	pass_raw(&ends, "fifteen bytes..", 15);
	pass_raw(&ends, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 35);
	stop(&ends);
	ATF_CHECK(out_has("relay", "not a message: size=16"));
	ATF_CHECK(out_has("relay", "not a message: size=15"));
	ATF_CHECK(out_has("relay", "held=100"));
}

/* Each command with each payload that is too short for it, and nonsense. */
CLEAT_TC(hostile__payloads)
{
	struct peer_message message;
	static uint8_t body[256];
	struct ends ends;

	start(&ends, "--json", NULL);
	for (unsigned command = 0; command < 24; command++) {
		for (unsigned size = 0; size < 64; size += 3) {
			struct peer_message in = {
				.header = { .id = (uint16_t)size,
					    .command = (uint16_t)command,
					    .size = 16 + size,
					    .flags = size & 1 ? 1 : 0x20 },
				.body = body,
				.length = size,
			};

			memset(body, size & 2 ? 0xff : 0x01, sizeof(body));
			ATF_REQUIRE_EQ(0, peer_send(ends.server, &in));
			ATF_REQUIRE_EQ(0, peer_receive(ends.client, &message));
			ATF_CHECK_EQ(size, message.length);
			peer_message_end(&message);
		}
	}
	stop(&ends);
	ATF_CHECK(out_has("relay", "\"cut_short\":true"));
	ATF_CHECK(out_has("relay", "\"unasked\":true"));
}

/* A terminal must not do what a server tells it. */
CLEAT_TC(hostile__text)
{
	static const char json[] = "\0\0\0\0{\"\033[2J\xff\n\"}";
	struct ends ends;
	static char text[CTL_TEXT];

	start(&ends, NULL, NULL);
	ATF_REQUIRE_EQ(0, peer_command(ends.client, 1, 1, json, sizeof(json),
				       NULL, 0));
	stop(&ends);
	read_out("relay", text, sizeof(text));
	ATF_CHECK(strstr(text, "json={\".[2J..\"}"));
	ATF_CHECK(!strchr(text, '\033'));
}

/* VERSION replies that name a twin socket they do not bring, or bring another
 * thing. */
CLEAT_TC(hostile__twins)
{
	static const char *const replies[] = {
		"{\"capabilities\":{\"twin_socket\":{\"supported\":true,"
		"\"fd_index\":5}}}",
		"{\"capabilities\":{\"twin_socket\":{\"supported\":true}}}",
		"{\"capabilities\":{\"twin_socket\":{\"supported\":true,"
		"\"fd_index\":0}}}",
		"{\"capabilities",
	};
	struct peer_message message;
	struct ends ends;
	char body[200] = { 0 };
	int fd = eventfd(0, EFD_CLOEXEC);

	start(&ends, NULL, NULL);
	for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
		ATF_REQUIRE_EQ(0, peer_command(ends.client, 1, 1, body, 4,
					       NULL, 0));
		ATF_REQUIRE_EQ(0, peer_expect(ends.server, 1, &message));
		strcpy(body + 4, replies[i]);
		ATF_REQUIRE_EQ(0, peer_reply(ends.server, &message, body,
					     5 + strlen(replies[i]), &fd, 1));
		peer_message_end(&message);
		ATF_REQUIRE_EQ(0, peer_expect(ends.client, 1, &message));
		ATF_CHECK_EQ(1, message.nr_fds);
		ATF_CHECK(cleat_is_eventfd(message.fds[0]));
		peer_message_end(&message);
		part(&ends);
		join(&ends);
	}
	close(fd);
	stop(&ends);
	ATF_CHECK(out_has("relay", "note the twin socket is no stream"));
}

/*
 * More descriptors than the relay may have: that connection ends, and the next
 * one is served when there is room again.
 */
CLEAT_TC(hostile__out_of_descriptors)
{
	struct rlimit few = { 24, 4096 }, many = { 4096, 4096 };
	int fds[PEER_FDS_MAX];
	struct ends ends;
	int waiting;

	start(&ends, NULL, NULL);
	fds[0] = eventfd(0, EFD_CLOEXEC);
	for (unsigned i = 1; i < PEER_FDS_MAX; i++)
		fds[i] = fds[0];
	ATF_REQUIRE_EQ(0, prlimit(ends.relay.pid, RLIMIT_NOFILE, &few, NULL));
	ATF_REQUIRE_EQ(0, peer_command(ends.client, 1, 8, NULL, 0, fds,
				       PEER_FDS_MAX));
	ATF_CHECK_EQ(0, peer_expect_close(ends.server));
	REQUIRE_SOON(out_has("relay", "close Too many open files"));
	few.rlim_cur = 3;
	ATF_REQUIRE_EQ(0, prlimit(ends.relay.pid, RLIMIT_NOFILE, &few, NULL));
	waiting = peer_connect("r.sock");
	ATF_CHECK(!wait_fd(ends.listener, POLLIN, 200));
	ATF_REQUIRE_EQ(0, prlimit(ends.relay.pid, RLIMIT_NOFILE, &many, NULL));
	part(&ends);
	ends.client = waiting;
	ends.server = peer_accept(ends.listener);
	ATF_REQUIRE(ends.server >= 0);
	close(fds[0]);
	stop(&ends);
}

/* --- Ends ----------------------------------------------------------------- */

/* Each side's end is the other's, and what was said before it arrives. */
CLEAT_TC(end__halves)
{
	struct peer_message message;
	struct ends ends;

	start(&ends, NULL, NULL);
	ATF_REQUIRE_EQ(0, peer_command(ends.client, 1, 4, "last", 4, NULL, 0));
	shutdown(ends.client, SHUT_WR);
	ATF_REQUIRE_EQ(0, peer_expect(ends.server, 4, &message));
	ATF_REQUIRE_EQ(0, peer_expect_close(ends.server));
	ATF_REQUIRE_EQ(0, peer_reply(ends.server, &message, "word", 4, NULL,
				     0));
	peer_message_end(&message);
	close(ends.server);
	ATF_REQUIRE_EQ(0, peer_expect(ends.client, 4, &message));
	ATF_CHECK_EQ(0, memcmp("word", message.body, 4));
	peer_message_end(&message);
	ATF_REQUIRE_EQ(0, peer_expect_close(ends.client));
	close(ends.client);
	join(&ends);
	/* A server that goes with all it has said. */
	ATF_REQUIRE_EQ(0, peer_command(ends.server, 1, 4, "bye", 3, NULL, 0));
	close(ends.server);
	ATF_REQUIRE_EQ(0, peer_expect(ends.client, 4, &message));
	peer_message_end(&message);
	ATF_REQUIRE_EQ(0, peer_expect_close(ends.client));
	close(ends.client);
	join(&ends);
	stop(&ends);
}

/* The server does not end when the client does: it gets EPIPE, not silence. */
CLEAT_TC(end__server_stays)
{
	struct deadline deadline = deadline_in(PATIENCE_MS);
	struct ends ends;
	int err = 0;

	start(&ends, NULL, NULL);
	close(ends.client);
	ATF_REQUIRE_EQ(0, peer_expect_close(ends.server));
	while (!err && deadline_left(&deadline))
		err = peer_command(ends.server, 1, 11, "x", 1, NULL, 0);
	ATF_CHECK_EQ(-EPIPE, err);
	close(ends.server);
	join(&ends);
	stop(&ends);
}

#define MOST_CLIENTS 16

static void pass_one(int from, int to, uint16_t id)
{
	struct peer_message message;

	ATF_REQUIRE_EQ(0, peer_command(from, id, 4, NULL, 0, NULL, 0));
	ATF_REQUIRE_EQ(0, peer_expect(to, 4, &message));
	ATF_CHECK_EQ(id, message.header.id);
	peer_message_end(&message);
}

/* All that the relay takes at once, and one more, which waits for its turn. */
CLEAT_TC(clients__many)
{
	int clients[MOST_CLIENTS + 1], servers[MOST_CLIENTS + 1];
	struct ends ends;

	start(&ends, NULL, NULL);
	clients[0] = ends.client;
	servers[0] = ends.server;
	for (unsigned i = 1; i < MOST_CLIENTS; i++) {
		clients[i] = peer_connect("r.sock");
		servers[i] = peer_accept(ends.listener);
		ATF_REQUIRE(servers[i] >= 0);
	}
	clients[MOST_CLIENTS] = peer_connect("r.sock");
	for (uint16_t i = 0; i < MOST_CLIENTS; i++)
		pass_one(clients[i], servers[i], i);
	ATF_CHECK(!wait_fd(ends.listener, POLLIN, 0));
	close(clients[0]);
	close(servers[0]);
	servers[MOST_CLIENTS] = peer_accept(ends.listener);
	ATF_REQUIRE(servers[MOST_CLIENTS] >= 0);
	pass_one(clients[MOST_CLIENTS], servers[MOST_CLIENTS], MOST_CLIENTS);
	for (unsigned i = 1; i < MOST_CLIENTS; i++) {
		close(clients[i]);
		close(servers[i]);
	}
	ends.client = clients[MOST_CLIENTS];
	ends.server = servers[MOST_CLIENTS];
	stop(&ends);
}

/* Who reads what the relay prints has stopped: no device may stop for that. */
CLEAT_TC(output__nobody_reads)
{
	static uint8_t body[4096];
	struct peer_message message;
	struct ends ends;
	int fifo, null;

	ATF_REQUIRE_EQ(0, mkfifo("fifo", 0600));
	fifo = open("fifo", O_RDWR | O_CLOEXEC);
	ends.listener = peer_listen("s.sock");
	ATF_REQUIRE_EQ(0, symlink("fifo", "stuck.out"));
	child_start(&ends.relay, "stuck",
		    (const char *const[]){ program("tools/ctl/cleatctl"),
					   "relay", "r.sock", "s.sock", "-x",
					   NULL });
	ATF_REQUIRE(wait_fd(fifo, POLLIN, PATIENCE_MS));
	join(&ends);
	for (unsigned i = 0; i < 400; i++) {
		ATF_REQUIRE_EQ(0, peer_command(ends.client, 1, 10, body,
					       sizeof(body), NULL, 0));
		ATF_REQUIRE_EQ(0, peer_expect(ends.server, 10, &message));
		peer_message_end(&message);
	}
	/* It is read again: that lines were dropped is told. */
	null = open("text", O_RDWR | O_CREAT, 0600);
	fcntl(fifo, F_SETFL, O_NONBLOCK);
	part(&ends);
	while (!child_ended(&ends.relay)) {
		static char text[65536];
		ssize_t n;

		if (!wait_fd(fifo, POLLIN, 300)) {
			kill(ends.relay.pid, SIGTERM);
			continue;
		}
		n = read(fifo, text, sizeof(text));
		ATF_REQUIRE(n < 0 || write(null, text, (size_t)n) == n);
	}
	ATF_REQUIRE_EQ(0, child_wait(&ends.relay, PATIENCE_MS));
	ATF_CHECK_EQ(0, system("grep -q 'lines dropped' text"));
	close(null);
	close(fifo);
	close(ends.listener);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, boundaries__dribbled);
	ATF_TP_ADD_TC(tp, boundaries__many_at_once);
	ATF_TP_ADD_TC(tp, boundaries__most_descriptors);
	ATF_TP_ADD_TC(tp, large__at_and_above_the_most);
	ATF_TP_ADD_TC(tp, directions__one_blocked);
	ATF_TP_ADD_TC(tp, hostile__headers);
	ATF_TP_ADD_TC(tp, hostile__payloads);
	ATF_TP_ADD_TC(tp, hostile__text);
	ATF_TP_ADD_TC(tp, hostile__twins);
	ATF_TP_ADD_TC(tp, hostile__out_of_descriptors);
	ATF_TP_ADD_TC(tp, end__halves);
	ATF_TP_ADD_TC(tp, end__server_stays);
	ATF_TP_ADD_TC(tp, clients__many);
	ATF_TP_ADD_TC(tp, output__nobody_reads);
	return atf_no_error();
}
