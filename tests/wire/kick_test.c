/* SPDX-License-Identifier: BSD-2-Clause */
/* Kicks of eventfds that somebody else has too. */
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

#include "tests/support/support.h"
#include "wire/wire.h"

#define KICKS 20000

struct peer {
	int fd;
	atomic_bool over;
};

CLEAT_TC(kick__counted)
{
	int fd = eventfd(0, EFD_CLOEXEC);
	eventfd_t count;

	for (unsigned i = 0; i < 3; i++)
		cleat_kick_fd(fd);
	ATF_REQUIRE_EQ(0, eventfd_read(fd, &count));
	ATF_CHECK_EQ(3, count);
	close(fd);
}

/* Sets and clears the flag that would keep a write from waiting. */
static int toggle(void *arg)
{
	struct peer *peer = arg;

	while (!atomic_load(&peer->over)) {
		fcntl(peer->fd, F_SETFL, O_NONBLOCK);
		fcntl(peer->fd, F_SETFL, 0);
	}
	return 0;
}

/* No kick of a full counter waits, whatever becomes of its flags. */
CLEAT_TC(kick__full_and_flag_toggled)
{
	struct peer peer = { .fd = eventfd(0, EFD_CLOEXEC) };
	struct script script;

	ATF_REQUIRE_EQ(0, eventfd_write(peer.fd, UINT64_MAX - 1));
	script_start(&script, toggle, &peer);
	for (unsigned i = 0; i < KICKS; i++)
		cleat_kick_fd(peer.fd);
	atomic_store(&peer.over, true);
	script_end(&script);
	close(peer.fd);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, kick__counted);
	ATF_TP_ADD_TC(tp, kick__full_and_flag_toggled);
	return atf_no_error();
}
