/* SPDX-License-Identifier: BSD-2-Clause */
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tests/server/rig.h"

static const struct cleat_server_ops no_ops = { .size = sizeof(no_ops) };

static struct cleat_server *create(const struct cleat_server_ops *ops,
				   uint32_t flags)
{
	const struct cleat_server_config config = { .size = sizeof(config),
						    .flags = flags };
	struct cleat_server *srv;

	ATF_REQUIRE_EQ(0, cleat_server_create(&config, ops, NULL, &srv, NULL));
	return srv;
}

static int run(void *arg)
{
	return cleat_server_run(arg);
}

static void agree(int fd)
{
	struct peer_message reply;

	ATF_REQUIRE_EQ(0, peer_command(fd, 1, VFIO_USER_VERSION, "\0\0\1\0", 4,
				       NULL, 0));
	ATF_REQUIRE_EQ(0, peer_expect(fd, VFIO_USER_VERSION, &reply));
	ATF_REQUIRE_EQ(PEER_REPLY, reply.header.flags);
	peer_message_end(&reply);
}

CLEAT_TC(listen__client_after_client)
{
	struct cleat_server *srv = create(&no_ops, 0);
	struct script script;
	struct stat st;
	int fd, next;

	ATF_REQUIRE_EQ(0, cleat_server_listen(srv, "sock", NULL));
	script_start(&script, run, srv);
	fd = peer_connect("sock");
	agree(fd);
	/* The second waits in the queue until the first has gone. */
	next = peer_connect("sock");
	ATF_REQUIRE_EQ(0, peer_command(next, 1, VFIO_USER_VERSION, "\0\0\1\0",
				       4, NULL, 0));
	ATF_REQUIRE(!wait_fd(next, 1 /* POLLIN */, 50));
	close(fd);
	ATF_REQUIRE(wait_fd(next, 1, PATIENCE_MS));
	close(next);
	cleat_server_stop(srv);
	script_end(&script);
	cleat_server_destroy(srv);
	ATF_REQUIRE(stat("sock", &st));
}

/* An abstract name is the kernel's: no file, and any length after the NUL. */
static int connect_abstract(const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(address.sun_path + 1, name);
	ATF_REQUIRE_EQ(0, connect(fd, (struct sockaddr *)&address,
				  (socklen_t)(sizeof(sa_family_t) + 1 +
					      strlen(name))));
	return fd;
}

CLEAT_TC(listen__abstract_once)
{
	struct cleat_server *srv = create(&no_ops, CLEAT_SERVER_ONCE);
	struct script script;
	char name[32];
	int fd;

	snprintf(name, sizeof(name), "@cleat-%d", (int)getpid());
	ATF_REQUIRE_EQ(0, cleat_server_listen(srv, name, NULL));
	script_start(&script, run, srv);
	fd = connect_abstract(name + 1);
	agree(fd);
	close(fd);
	script_end(&script);
	cleat_server_destroy(srv);
}

CLEAT_TC(listen__stale_and_taken)
{
	struct cleat_server *first = create(&no_ops, 0);
	struct cleat_server *second = create(&no_ops, 0);
	struct cleat_error why;
	struct stat st;
	FILE *file;

	/* A socket file whose owner has died. */
	close(peer_listen("sock"));
	ATF_REQUIRE_EQ(0, cleat_server_listen(first, "sock", NULL));
	ATF_REQUIRE_EQ(-EADDRINUSE, cleat_server_listen(second, "sock", &why));
	ATF_REQUIRE(strstr(why.text, "sock"));
	ATF_REQUIRE_EQ(-EBUSY, cleat_server_listen(first, "other", &why));
	file = fopen("plain", "w");
	fclose(file);
	ATF_REQUIRE_EQ(-EADDRINUSE, cleat_server_listen(second, "plain", &why));
	ATF_REQUIRE_EQ(0, stat("plain", &st));
	ATF_REQUIRE_EQ(-ENOENT, cleat_server_listen(second, "no/such", &why));
	ATF_REQUIRE_EQ(-ENAMETOOLONG, cleat_server_listen(second, "", &why));
	ATF_REQUIRE_EQ(-ENOTCONN, cleat_server_run(second));
	cleat_server_destroy(second);
	/* Somebody else's file by now: it stays. */
	ATF_REQUIRE_EQ(0, unlink("sock"));
	ATF_REQUIRE_EQ(0, rename("plain", "sock"));
	cleat_server_destroy(first);
	ATF_REQUIRE_EQ(0, stat("sock", &st));
}

CLEAT_TC(adopt__listening)
{
	struct cleat_server *srv = create(&no_ops, CLEAT_SERVER_ONCE);
	struct script script;
	int fd;

	ATF_REQUIRE_EQ(0, cleat_server_adopt(srv, peer_listen("sock"), NULL));
	script_start(&script, run, srv);
	fd = peer_connect("sock");
	agree(fd);
	close(fd);
	script_end(&script);
	cleat_server_destroy(srv);
}

CLEAT_TC(adopt__not_a_socket)
{
	struct cleat_server *srv = create(&no_ops, 0);
	int fd = memfd(1, 0), ends[2];

	ATF_REQUIRE_EQ(-ENOTSOCK, cleat_server_adopt(srv, fd, NULL));
	close(fd);
	ATF_REQUIRE_EQ(-EBADF, cleat_server_adopt(srv, fd, NULL));
	ATF_REQUIRE_EQ(0, socketpair(AF_UNIX, SOCK_DGRAM, 0, ends));
	ATF_REQUIRE_EQ(-EINVAL, cleat_server_adopt(srv, ends[0], NULL));
	close(ends[0]);
	close(ends[1]);
	cleat_server_destroy(srv);
}

/* ---- Watches ------------------------------------------------------ */

struct watcher {
	struct cleat_server *srv;
	int fds[3];
	unsigned calls;
};

static void drain(int fd)
{
	uint64_t count;

	ATF_REQUIRE_EQ(8, read(fd, &count, 8));
}

/* Takes the other two away, whose events are in the same turn. */
static void on_any(void *opaque, int fd, uint32_t events)
{
	struct watcher *watcher = opaque;

	watcher->calls++;
	for (unsigned i = 0; i < 3; i++)
		if (watcher->fds[i] != fd)
			cleat_server_unwatch(watcher->srv, watcher->fds[i]);
	drain(fd);
}

CLEAT_TC(watch__unwatched_in_the_same_turn)
{
	struct watcher watcher = { .srv = create(&no_ops, 0) };

	ATF_REQUIRE_EQ(0, cleat_server_listen(watcher.srv, "sock", NULL));
	for (unsigned i = 0; i < 3; i++) {
		watcher.fds[i] = eventfd(1, 0);
		ATF_REQUIRE_EQ(0, cleat_server_watch(watcher.srv,
						     watcher.fds[i], EPOLLIN,
						     on_any, &watcher));
	}
	ATF_REQUIRE_EQ(-EEXIST, cleat_server_watch(watcher.srv, watcher.fds[0],
						   EPOLLIN, on_any, NULL));
	ATF_REQUIRE_EQ(-EBADF, cleat_server_watch(watcher.srv, 999, EPOLLIN,
						  on_any, NULL));
	ATF_REQUIRE_EQ(1, cleat_server_step(watcher.srv, 0));
	ATF_REQUIRE_EQ(1, cleat_server_step(watcher.srv, 0));
	ATF_REQUIRE_EQ(1, watcher.calls);
	cleat_server_unwatch(watcher.srv, 999);
	cleat_server_destroy(watcher.srv);
	for (unsigned i = 0; i < 3; i++)
		close(watcher.fds[i]);
}

/* ---- Polling ------------------------------------------------------ */

static unsigned polls;
static int poll_answer;

static int on_poll(void *opaque)
{
	polls++;
	return poll_answer;
}

CLEAT_TC(poll__busy_then_idle)
{
	const struct cleat_server_ops ops = { .size = sizeof(ops),
					      .poll = on_poll };
	const struct cleat_server_config config = { .size = sizeof(config),
						    .poll_busy_us = 1,
						    .poll_sleep_us = 20000 };
	struct cleat_server_stats stats = { .size = sizeof(stats) };
	struct cleat_server *srv;
	unsigned steps = 0;
	uint64_t before;

	ATF_REQUIRE_EQ(0, cleat_server_create(&config, &ops, NULL, &srv, NULL));
	ATF_REQUIRE_EQ(0, cleat_server_listen(srv, "sock", NULL));
	poll_answer = 1;
	for (unsigned i = 0; i < 5; i++)
		ATF_REQUIRE_EQ(1, cleat_server_step(srv, -1));
	ATF_REQUIRE_EQ(5, polls);
	/* Idle: it sleeps longer and longer, but no longer than it may. */
	poll_answer = 0;
	for (before = now_ns(); now_ns() - before < 200000000; steps++)
		ATF_REQUIRE_EQ(1, cleat_server_step(srv, -1));
	ATF_REQUIRE(steps >= 5);
	ATF_REQUIRE(steps < 1000);
	/* Nothing to poll: only an event, or the caller's time, ends it. */
	poll_answer = -1;
	before = now_ns();
	ATF_REQUIRE_EQ(1, cleat_server_step(srv, 200000));
	ATF_CHECK(now_ns() - before >= 200000000);
	cleat_server_stop(srv);
	ATF_REQUIRE_EQ(0, cleat_server_step(srv, -1));
	cleat_server_get_stats(srv, &stats);
	ATF_REQUIRE_EQ(5, stats.polls);
	cleat_server_destroy(srv);
}

/* ---- Stopping ----------------------------------------------------- */

static struct cleat_server *stopped_by_signal;

static void on_signal(int number)
{
	cleat_server_stop(stopped_by_signal);
}

/* With nobody to take leave of, it sleeps as before. */
CLEAT_TC(disconnect__no_client)
{
	struct cleat_server_stats stats = { .size = sizeof(stats) };
	struct cleat_server *srv = create(&no_ops, 0);
	struct script script;
	int fd;

	ATF_REQUIRE_EQ(0, cleat_server_listen(srv, "sock", NULL));
	cleat_server_disconnect(srv);
	ATF_REQUIRE_EQ(1, cleat_server_step(srv, 1000));
	cleat_server_get_stats(srv, &stats);
	ATF_CHECK_EQ(1, stats.wakeups);
	script_start(&script, run, srv);
	fd = peer_connect("sock");
	agree(fd);
	close(fd);
	cleat_server_stop(srv);
	script_end(&script);
	cleat_server_destroy(srv);
}

CLEAT_TC(stop__from_a_signal_handler)
{
	stopped_by_signal = create(&no_ops, 0);
	ATF_REQUIRE_EQ(0, cleat_server_listen(stopped_by_signal, "sock", NULL));
	signal(SIGALRM, on_signal);
	alarm(1);
	ATF_REQUIRE_EQ(0, cleat_server_run(stopped_by_signal));
	/* And it can go on. */
	cleat_server_stop(stopped_by_signal);
	ATF_REQUIRE_EQ(0, cleat_server_run(stopped_by_signal));
	signal(SIGALRM, SIG_DFL);
	cleat_server_destroy(stopped_by_signal);
}

CLEAT_TC(destroy__half_made)
{
	struct cleat_server_config config = { .size = sizeof(config),
					      .max_data_xfer = 2 << 20 };
	struct cleat_server *srv = NULL;
	struct cleat_error why;

	cleat_server_destroy(NULL);
	ATF_REQUIRE_EQ(-EINVAL, cleat_server_create(&config, &no_ops, NULL,
						    &srv, &why));
	config.max_data_xfer = 0;
	config.flags = 1u << 31;
	ATF_REQUIRE_EQ(-EINVAL, cleat_server_create(&config, &no_ops, NULL,
						    &srv, &why));
	ATF_REQUIRE(!srv);
}

CLEAT_TC(spin__serves_as_well)
{
	const struct cleat_server_config config = { .size = sizeof(config),
						    .spin_us = 200 };
	struct peer_message reply;
	struct rig rig;
	uint32_t value;

	rig_create(&rig, &config);
	rig_run(&rig);
	rig_version(&rig, NULL, &reply);
	peer_message_end(&reply);
	for (uint32_t i = 0; i < 500; i++) {
		ATF_REQUIRE_EQ(0, rig_write32(&rig, 8, i));
		ATF_REQUIRE_EQ(0, rig_read(&rig, 0, 8, &value, 4));
		ATF_REQUIRE_EQ(i, value);
	}
	rig_end(&rig);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, listen__client_after_client);
	ATF_TP_ADD_TC(tp, listen__abstract_once);
	ATF_TP_ADD_TC(tp, listen__stale_and_taken);
	ATF_TP_ADD_TC(tp, adopt__listening);
	ATF_TP_ADD_TC(tp, adopt__not_a_socket);
	ATF_TP_ADD_TC(tp, watch__unwatched_in_the_same_turn);
	ATF_TP_ADD_TC(tp, poll__busy_then_idle);
	ATF_TP_ADD_TC(tp, disconnect__no_client);
	ATF_TP_ADD_TC(tp, stop__from_a_signal_handler);
	ATF_TP_ADD_TC(tp, destroy__half_made);
	ATF_TP_ADD_TC(tp, spin__serves_as_well);
	return atf_no_error();
}
