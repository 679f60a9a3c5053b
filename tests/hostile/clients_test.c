/* SPDX-License-Identifier: BSD-2-Clause */
/* The other way round: clients that are wrong, against the server library. What
 * tests/server/hostile_test.c has not. */
#include <poll.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <linux/vfio.h>

#include "tests/hostile/fuse.h"
#include "tests/server/rig.h"

/* --- A header that nobody has looked at yet ------------------------------------------ */

/* What is asked for and never touched would go unseen. */
static _Atomic size_t largest;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

void *__wrap_malloc(size_t size)
{
	size_t before = atomic_load(&largest);

	while (size > before &&
	       !atomic_compare_exchange_weak(&largest, &before, size))
		;
	return __real_malloc(size);
}

static size_t largest_allocation(void)
{
	return atomic_load(&largest);
}

static void read_guest(struct rig *rig)
{
	rig->action_result = cleat_server_dma_read(rig->srv, 0x1000,
						   rig->scratch, 8);
	/* This one reads on, before anybody has looked at what came behind. */
	cleat_server_dma_read(rig->srv, 0x1000, rig->scratch, 8);
}

/* Behind the reply that the server waits for comes half a command of 4 GiB. */
CLEAT_TC(size__behind_a_reply)
{
	struct {
		struct peer_header header;
		struct cleat_wire_dma dma;
		uint64_t data;
		struct peer_header next;
	} reply = { { 0, VFIO_USER_DMA_READ, 40, PEER_REPLY },
		    { 0x1000, 8 }, 0x4242,
		    { 9, VFIO_USER_REGION_WRITE, UINT32_MAX - 100 } };
	struct peer_message ask;
	struct rig rig;

	rig_start(&rig);
	rig.action = read_guest;
	ATF_REQUIRE_EQ(0, rig_map(&rig, 0x1000, 0x1000, 3, -1, 0));
	rig_post32(&rig, RIG_ACTION, 1, 50);
	ATF_REQUIRE_EQ(0, peer_expect(rig.fd, VFIO_USER_REGION_WRITE, &ask));
	peer_message_end(&ask);
	ATF_REQUIRE_EQ(0, peer_expect(rig.fd, VFIO_USER_DMA_READ, &ask));
	reply.header.id = ask.header.id;
	peer_message_end(&ask);
	ATF_REQUIRE_EQ(0, peer_send_raw(rig.fd, &reply, sizeof(reply), NULL,
					0));
	ATF_REQUIRE_EQ(0, peer_expect(rig.fd, VFIO_USER_DMA_READ, &ask));
	peer_message_end(&ask);
	rig_expect_end(&rig);
	ATF_CHECK_EQ(0, rig.action_result);
	ATF_CHECK_MSG(largest_allocation() < 1u << 20, "%zu bytes were asked "
		      "for at once", largest_allocation());
	rig_end(&rig);
}

/* --- Descriptors -------------------------------------------------------------------- */

static int set_trigger(struct rig *rig, int fd)
{
	return rig_set_irqs(rig,
			    VFIO_IRQ_SET_DATA_EVENTFD |
				    VFIO_IRQ_SET_ACTION_TRIGGER,
			    CLEAT_IRQ_MSIX, 0, 1, &fd, 1);
}

/* Where an eventfd belongs and where nothing does; closing it is not waited
 * for. */
CLEAT_TC(fds__on_fuse)
{
	struct deadline spent;
	struct fuse fuse;
	int fd = fuse_start(&fuse);
	struct rig rig;
	uint32_t value;

	rig_start(&rig);
	spent = deadline_in(PATIENCE_MS);
	ATF_CHECK_EQ(-EINVAL, set_trigger(&rig, fd));
	ATF_CHECK_EQ(0, rig_call_fd(&rig, VFIO_USER_DEVICE_RESET, NULL, 0,
				    fd));
	ATF_CHECK_EQ(0, rig_read(&rig, 0, 0, &value, 4));
	rig_end(&rig);
	ATF_CHECK(deadline_spent(&spent) < 3000);
	fuse_end(&fuse);
	close(fd);
}

/* The client is let go, and the next one is served. */
CLEAT_TC(fds__more_than_the_server_may_have)
{
	struct rlimit old, limit;
	struct peer_message reply;
	int fds[16];
	struct rig rig;
	uint32_t value;

	skip_on_valgrind("it keeps limits on descriptors itself");
	rig_start(&rig);
	for (unsigned i = 0; i < 16; i++)
		fds[i] = eventfd(0, EFD_CLOEXEC);
	ATF_REQUIRE_EQ(0, getrlimit(RLIMIT_NOFILE, &old));
	limit = old;
	limit.rlim_cur = count_fds() + 4;
	ATF_REQUIRE_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	ATF_REQUIRE_EQ(0, peer_command(rig.fd, 7, VFIO_USER_DEVICE_RESET, NULL,
				       0, fds, 16));
	rig_expect_end(&rig);
	ATF_REQUIRE_EQ(0, setrlimit(RLIMIT_NOFILE, &old));
	for (unsigned i = 0; i < 16; i++)
		close(fds[i]);
	close(rig.fd);
	rig_run(&rig);
	rig_version(&rig, NULL, &reply);
	peer_message_end(&reply);
	ATF_CHECK_EQ(0, rig_read(&rig, 0, 0, &value, 4));
	rig_end(&rig);
}

/* --- Silence ------------------------------------------------------------------------ */

/* Who connects and does not get on with it keeps nobody out for long: 10 s. */
CLEAT_TC(silence__inside_version)
{
	struct peer_header header = { 1, VFIO_USER_VERSION, 100 };
	struct peer_message reply;
	int listener, silent;
	struct rig rig;
	uint32_t value;

	rig_create(&rig, NULL);
	listener = peer_listen("socket");
	ATF_REQUIRE_EQ(0, cleat_server_adopt(rig.srv, listener, NULL));
	silent = peer_connect("socket");
	ATF_REQUIRE_EQ(0, peer_send_raw(silent, &header, sizeof(header), NULL,
					0));
	rig.fd = peer_connect("socket");
	rig_serve(&rig);
	ATF_CHECK(wait_fd(silent, POLLIN, 2 * PATIENCE_MS));
	rig_version(&rig, NULL, &reply);
	peer_message_end(&reply);
	ATF_CHECK_EQ(0, rig_read(&rig, 0, 0, &value, 4));
	ATF_CHECK_EQ(0, peer_expect_close(silent));
	close(silent);
	rig_end(&rig);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, size__behind_a_reply);
	ATF_TP_ADD_TC(tp, fds__on_fuse);
	ATF_TP_ADD_TC(tp, fds__more_than_the_server_may_have);
	ATF_TP_ADD_TC(tp, silence__inside_version);
	return atf_no_error();
}
