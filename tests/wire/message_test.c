/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "tests/support/support.h"
#include "wire/wire.h"

static int check(uint32_t size, uint32_t flags)
{
	struct cleat_header header = { .size = size, .flags = flags };

	return cleat_header_check(&header);
}

CLEAT_TC(header__possible_or_not)
{
	ATF_CHECK_EQ(0, check(16, CLEAT_HEADER_REPLY));
	ATF_CHECK_EQ(0, check(16, CLEAT_HEADER_COMMAND));
	ATF_CHECK_EQ(0, check(CLEAT_MAX_MESSAGE, CLEAT_HEADER_REPLY));
	/* What old servers answer errors with. */
	ATF_CHECK_EQ(0, check(16, CLEAT_HEADER_ERROR));
	ATF_CHECK_EQ(-EPROTO, check(15, CLEAT_HEADER_REPLY));
	ATF_CHECK_EQ(-EPROTO, check(0, CLEAT_HEADER_REPLY));
	ATF_CHECK_EQ(-EPROTO, check(CLEAT_MAX_MESSAGE + 1, CLEAT_HEADER_REPLY));
	ATF_CHECK_EQ(-EPROTO, check(UINT32_MAX, CLEAT_HEADER_REPLY));
	ATF_CHECK_EQ(-EPROTO, check(16, 2));
}

static int error_of(uint32_t flags, uint32_t error)
{
	struct cleat_header header = { .flags = flags, .error = error };

	return cleat_header_error(&header);
}

CLEAT_TC(header__error_number)
{
	ATF_CHECK_EQ(0, error_of(CLEAT_HEADER_REPLY, EINVAL));
	ATF_CHECK_EQ(-EINVAL, error_of(CLEAT_HEADER_ERROR, EINVAL));
	ATF_CHECK_EQ(-EIO, error_of(CLEAT_HEADER_ERROR, 0));
	ATF_CHECK_EQ(-EPROTO, error_of(CLEAT_HEADER_ERROR, 4096));
	ATF_CHECK_EQ(-EPROTO, error_of(CLEAT_HEADER_ERROR, (uint32_t)-EINVAL));
	ATF_CHECK_EQ(-4095, error_of(CLEAT_HEADER_ERROR, 4095));
}

CLEAT_TC(send__descriptors_arrive)
{
	int ends[2], fds[3];
	struct iovec out = { (char[]){ "hello" }, 5 };
	char buf[16];
	struct iovec in = { buf, sizeof(buf) };
	struct cleat_fds got;

	peer_pair(ends);
	for (int i = 0; i < 3; i++)
		fds[i] = eventfd(0, EFD_CLOEXEC);
	ATF_REQUIRE_EQ(5, cleat_wire_send(ends[0], &out, 1, fds, 3, 0));
	ATF_REQUIRE_EQ(5, cleat_wire_recv(ends[1], &in, 1, &got, 0));
	ATF_REQUIRE_EQ(3, got.num);
	for (unsigned i = 0; i < 3; i++) {
		ATF_CHECK(fcntl(got.fd[i], F_GETFD) & FD_CLOEXEC);
		ATF_CHECK(cleat_is_eventfd(got.fd[i]));
		close(fds[i]);
	}
	ATF_CHECK_EQ(-1, cleat_fds_take(&got, 3));
	fds[0] = cleat_fds_take(&got, 1);
	ATF_CHECK(fds[0] >= 0);
	ATF_CHECK_EQ(-1, cleat_fds_take(&got, 1));
	close(fds[0]);
	cleat_fds_close(&got);
	close(ends[0]);
	close(ends[1]);
}

CLEAT_TC(send__peer_is_gone)
{
	struct iovec out = { (char[]){ "x" }, 1 };
	struct cleat_fds fds;
	int ends[2];

	peer_pair(ends);
	close(ends[1]);
	/* No SIGPIPE either: the case would die of it. */
	ATF_REQUIRE_EQ(-ENOTCONN,
		       cleat_wire_send(ends[0], &out, 1, NULL, 0, 0));
	ATF_REQUIRE_EQ(-ENOTCONN, cleat_wire_recv(ends[0], &out, 1, &fds, 0));
	ATF_REQUIRE_EQ(0, fds.num);
	close(ends[0]);
}

/* The process has room for one more descriptor, and five come. */
CLEAT_TC(recv__no_room_for_descriptors)
{
	struct rlimit limit, old;
	struct iovec iov = { (char[1]){ 0 }, 1 };
	struct cleat_fds fds;
	int ends[2], many[5], next;

	skip_on_valgrind("it keeps limits on descriptors itself");
	peer_pair(ends);
	for (int i = 0; i < 5; i++)
		many[i] = ends[0];
	ATF_REQUIRE_EQ(1, cleat_wire_send(ends[0], &iov, 1, many, 5, 0));
	next = dup(0);
	close(next);
	getrlimit(RLIMIT_NOFILE, &old);
	limit = old;
	limit.rlim_cur = (rlim_t)next + 1;
	setrlimit(RLIMIT_NOFILE, &limit);
	ATF_CHECK_EQ(-EMFILE, cleat_wire_recv(ends[1], &iov, 1, &fds, 0));
	setrlimit(RLIMIT_NOFILE, &old);
	ATF_CHECK_EQ(0, fds.num);
	close(ends[0]);
	close(ends[1]);
}

CLEAT_TC(iov__advance)
{
	char a[4], b[4];
	struct iovec iov[2] = { { a, 4 }, { b, 4 } }, *rest = iov;

	ATF_REQUIRE_EQ(2, cleat_iov_advance(&rest, 2, 3));
	ATF_REQUIRE_EQ(1, rest[0].iov_len);
	ATF_REQUIRE_EQ(1, cleat_iov_advance(&rest, 2, 2));
	ATF_REQUIRE_EQ(3, rest[0].iov_len);
	ATF_REQUIRE_EQ((void *)(b + 1), rest[0].iov_base);
	ATF_REQUIRE_EQ(0, cleat_iov_advance(&rest, 1, 3));
}

CLEAT_TC(eventfd__told_from_others)
{
	int fd = eventfd(0, EFD_CLOEXEC), ends[2];

	ATF_REQUIRE_EQ(0, pipe(ends));
	ATF_CHECK(cleat_is_eventfd(fd));
	ATF_CHECK(!cleat_is_eventfd(ends[1]));
	ATF_CHECK(!cleat_is_eventfd(-1));
	close(fd);
	ATF_CHECK(!cleat_is_eventfd(fd));
	close(ends[0]);
	close(ends[1]);
}

CLEAT_TC(command__names)
{
	ATF_CHECK_STREQ("VERSION", cleat_command_name(1));
	ATF_CHECK_STREQ("MIG_DATA_WRITE", cleat_command_name(18));
	ATF_CHECK_EQ(NULL, cleat_command_name(0));
	ATF_CHECK_EQ(NULL, cleat_command_name(19));
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, header__possible_or_not);
	ATF_TP_ADD_TC(tp, header__error_number);
	ATF_TP_ADD_TC(tp, send__descriptors_arrive);
	ATF_TP_ADD_TC(tp, send__peer_is_gone);
	ATF_TP_ADD_TC(tp, recv__no_room_for_descriptors);
	ATF_TP_ADD_TC(tp, iov__advance);
	ATF_TP_ADD_TC(tp, eventfd__told_from_others);
	ATF_TP_ADD_TC(tp, command__names);
	return atf_no_error();
}
