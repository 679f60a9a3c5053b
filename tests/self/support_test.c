/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/support/support.h"

CLEAT_TC(leaks__descriptor)
{
	struct leaks leaks;
	int fd;

	leaks_begin(&leaks);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ATF_REQUIRE_EQ(1, leaks_found(&leaks));
	close(fd);
	ATF_REQUIRE_EQ(0, leaks_found(&leaks));
}

CLEAT_TC(leaks__closed_anothers)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct leaks leaks;

	leaks_begin(&leaks);
	close(fd);
	ATF_REQUIRE_EQ(1, leaks_found(&leaks));
}

static void *until_hangup(void *arg)
{
	char byte;

	while (read(*(int *)arg, &byte, 1) > 0)
		;
	return NULL;
}

CLEAT_TC(leaks__thread)
{
	struct leaks leaks;
	pthread_t thread;
	int ends[2];

	peer_pair(ends);
	leaks_begin(&leaks);
	ATF_REQUIRE_EQ(0, pthread_create(&thread, NULL, until_hangup,
					 &ends[0]));
	ATF_REQUIRE_EQ(1, leaks_found(&leaks));
	close(ends[1]);
	pthread_join(thread, NULL);
	ends[1] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ATF_REQUIRE_EQ(0, leaks_found(&leaks));
	close(ends[0]);
	close(ends[1]);
}

static int echo(void *arg)
{
	struct peer_message message;
	int fd = *(int *)arg;
	int err = peer_expect(fd, 9, &message);

	if (err)
		return err;
	err = peer_reply(fd, &message, message.body, message.length,
			 message.fds, message.nr_fds);
	peer_message_end(&message);
	return err;
}

CLEAT_TC(peer__round_trip)
{
	struct peer_message reply;
	struct script script;
	int ends[2], passed = memfd(4096, 0);

	peer_pair(ends);
	script_start(&script, echo, &ends[1]);
	ATF_REQUIRE_EQ(0, peer_command(ends[0], 7, 9, "hello", 5, &passed, 1));
	ATF_REQUIRE_EQ(0, peer_receive(ends[0], &reply));
	ATF_REQUIRE_EQ(7, reply.header.id);
	ATF_REQUIRE_EQ(9, reply.header.command);
	ATF_REQUIRE_EQ(21, reply.header.size);
	ATF_REQUIRE_EQ(PEER_REPLY, reply.header.flags);
	ATF_REQUIRE_EQ(1, reply.nr_fds);
	ATF_REQUIRE(!memcmp(reply.body, "hello", 5));
	peer_message_end(&reply);
	script_end(&script);
	close(passed);
	close(ends[0]);
	ATF_REQUIRE_EQ(0, peer_expect_close(ends[1]));
	close(ends[1]);
}

CLEAT_TC(peer__named_socket)
{
	struct peer_message message;
	int listener = peer_listen("peer.sock");
	int client = peer_connect("peer.sock");
	int server = peer_accept(listener);

	ATF_REQUIRE(server >= 0);
	ATF_REQUIRE_EQ(0, peer_command(client, 1, 2, NULL, 0, NULL, 0));
	ATF_REQUIRE_EQ(-EBADMSG, peer_expect(server, 3, &message));
	close(client);
	ATF_REQUIRE_EQ(-EPIPE, peer_receive(server, &message));
	close(server);
	close(listener);
}

CLEAT_TC(child__killed_and_waited_for)
{
	static const char *const argv[] = { "/bin/sh", "-c",
					    "echo out; exit 3", NULL };
	static const char *const sleeper[] = { "/bin/sleep", "1000", NULL };
	struct child child;
	int status;

	child_start(&child, "shell", argv);
	status = child_wait(&child, PATIENCE_MS);
	ATF_REQUIRE(WIFEXITED(status));
	ATF_REQUIRE_EQ(3, WEXITSTATUS(status));
	ATF_REQUIRE(atf_utils_compare_file("shell.out", "out\n"));
	child_end(&child);

	child_start(&child, "sleeper", sleeper);
	ATF_REQUIRE(!child_ended(&child));
	ATF_REQUIRE_EQ(-ETIMEDOUT, child_wait(&child, 1));
	child_end(&child);
	ATF_REQUIRE(child_ended(&child));
}

CLEAT_TC(deadline__passes)
{
	struct deadline deadline = deadline_in(20);

	ATF_REQUIRE(deadline_left(&deadline) > 0);
	REQUIRE_SOON(!deadline_left(&deadline));
	ATF_REQUIRE(deadline_spent(&deadline) >= 20);
}

CLEAT_TC(kvm__opens)
{
	int kvm = kvm_open(tc);

	ATF_REQUIRE(kvm >= 0);
	close(kvm);
}

CLEAT_TC(kvm__opens_for_linux)
{
	int kvm = kvm_open_for_linux(tc);

	ATF_REQUIRE(kvm >= 0);
	close(kvm);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, leaks__descriptor);
	ATF_TP_ADD_TC(tp, leaks__closed_anothers);
	ATF_TP_ADD_TC(tp, leaks__thread);
	ATF_TP_ADD_TC(tp, peer__round_trip);
	ATF_TP_ADD_TC(tp, peer__named_socket);
	ATF_TP_ADD_TC(tp, child__killed_and_waited_for);
	ATF_TP_ADD_TC(tp, deadline__passes);
	ATF_TP_ADD_TC(tp, kvm__opens);
	ATF_TP_ADD_TC(tp, kvm__opens_for_linux);
	return atf_no_error();
}
