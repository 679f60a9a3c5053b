/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Clients that are wrong, slow or hostile. Each case shows that the server
 * still serves its next client, or this one, and CLEAT_TC that nothing leaked.
 */
#include <linux/vfio.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "tests/server/rig.h"

static void header_ends_it(struct peer_header header)
{
	struct rig rig;

	rig_start(&rig);
	ATF_REQUIRE_EQ(0, peer_send_raw(rig.fd, &header, sizeof(header), NULL,
					0));
	rig_expect_end(&rig);
	ATF_REQUIRE_EQ(1, rig.disconnected);
	rig_end(&rig);
}

CLEAT_TC(header__size_zero)
{
	header_ends_it((struct peer_header){ 1, VFIO_USER_DEVICE_RESET, 0 });
}

CLEAT_TC(header__size_below_itself)
{
	header_ends_it((struct peer_header){ 1, VFIO_USER_DEVICE_RESET, 15 });
}

CLEAT_TC(header__size_4_gib)
{
	header_ends_it((struct peer_header){ 1, VFIO_USER_REGION_WRITE,
					     UINT32_MAX });
}

CLEAT_TC(header__unknown_type)
{
	header_ends_it((struct peer_header){ 1, VFIO_USER_DEVICE_RESET, 16, 2 });
}

CLEAT_TC(reply__nobody_asked)
{
	header_ends_it((struct peer_header){ 1, VFIO_USER_DMA_READ, 16,
					     PEER_REPLY });
}

CLEAT_TC(command__unknown)
{
	static const uint16_t numbers[] = { 0, 11, 12, 14, 17, 18, 19, 1000,
					    UINT16_MAX };
	struct rig rig;

	rig_start(&rig);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		ATF_CHECK_EQ(-EINVAL, rig_call(&rig, numbers[i], NULL, 0));
		ATF_CHECK_EQ(-EINVAL, rig_call(&rig, numbers[i], "abcdefgh", 8));
	}
	rig_end(&rig);
}

/* Every command, with every length up to more than it has. */
CLEAT_TC(length__every)
{
	uint8_t body[96];
	struct rig rig;

	rig_start(&rig);
	memset(body, 0, sizeof(body));
	for (uint16_t command = 2; command < 20; command++)
		for (size_t length = 0; length <= sizeof(body); length++)
			rig_call(&rig, command, body, length);
	memset(body, 0xff, sizeof(body));
	for (uint16_t command = 2; command < 20; command++)
		for (size_t length = 0; length <= sizeof(body); length++)
			ATF_CHECK(rig_call(&rig, command, body, length) ||
				  command == VFIO_USER_DEVICE_RESET ||
				  command == VFIO_USER_DEVICE_GET_INFO);
	rig_end(&rig);
}

/* Descriptors where none belong are closed; CLEAT_TC counts them. */
CLEAT_TC(fds__unwanted)
{
	int fds[16];
	struct peer_message reply;
	struct rig rig;

	rig_start(&rig);
	for (unsigned i = 0; i < 16; i++)
		fds[i] = eventfd(0, 0);
	for (uint16_t command = 1; command < 20; command++) {
		uint8_t body[64] = { 0 };

		rig_call_fds(&rig, command, body, 32, fds, 16, &reply);
		peer_message_end(&reply);
	}
	for (unsigned i = 0; i < 16; i++)
		close(fds[i]);
	rig_end(&rig);
}

/* Messages cut into single bytes are messages. */
CLEAT_TC(stream__byte_by_byte)
{
	struct {
		struct peer_header header;
		struct cleat_wire_access access;
	} read = { { 77, VFIO_USER_REGION_READ, 32 }, { 0, 0, 4 } };
	struct peer_message reply;
	struct rig rig;

	rig_start(&rig);
	for (size_t i = 0; i < sizeof(read); i++)
		ATF_REQUIRE_EQ(0, peer_send_raw(rig.fd, (char *)&read + i, 1,
						NULL, 0));
	ATF_REQUIRE_EQ(0, peer_expect(rig.fd, VFIO_USER_REGION_READ, &reply));
	ATF_REQUIRE_EQ(77, reply.header.id);
	ATF_REQUIRE_EQ(0, reply.header.error);
	peer_message_end(&reply);
	rig_end(&rig);
}

/* Many messages in one piece, with descriptors for the last of them only. */
CLEAT_TC(stream__many_at_once)
{
	struct {
		struct peer_header header;
		struct cleat_wire_access access;
	} reads[100];
	int fd = eventfd(0, EFD_NONBLOCK);
	struct peer_message reply;
	struct rig rig;

	rig_start(&rig);
	for (uint16_t i = 0; i < 100; i++) {
		reads[i].header = (struct peer_header){
			i, VFIO_USER_REGION_READ, 32, 0, 0 };
		reads[i].access = (struct cleat_wire_access){ 4u * i, 0, 4 };
	}
	ATF_REQUIRE_EQ(0, peer_send_raw(rig.fd, reads, sizeof(reads), NULL, 0));
	ATF_REQUIRE_EQ(0, peer_command(rig.fd, 100, VFIO_USER_DEVICE_SET_IRQS,
				       &(struct cleat_wire_irq_set){
					       20,
					       VFIO_IRQ_SET_DATA_EVENTFD |
						       VFIO_IRQ_SET_ACTION_TRIGGER,
					       1, 0, 1 },
				       20, &fd, 1));
	for (uint16_t i = 0; i <= 100; i++) {
		ATF_REQUIRE_EQ(0, peer_receive(rig.fd, &reply));
		ATF_REQUIRE_EQ(i, reply.header.id);
		ATF_REQUIRE_EQ(0, reply.header.error);
		peer_message_end(&reply);
	}
	ATF_REQUIRE_EQ(0, rig_set_irqs(&rig, VFIO_IRQ_SET_DATA_NONE |
						     VFIO_IRQ_SET_ACTION_TRIGGER,
				       1, 0, 1, NULL, 0));
	ATF_REQUIRE_EQ(1, wait_eventfd(fd, 0));
	rig_end(&rig);
	close(fd);
}

/* A handshake, a range with its file, and one command more. */
struct talk {
	struct peer_header version;
	char agreed[4];
	struct peer_header map;
	struct cleat_wire_dma_map dma;
	struct peer_header last;
} __attribute__((packed));

#define TALK_MAP offsetof(struct talk, map)
#define TALK_LAST offsetof(struct talk, last)

static const struct talk talk = {
	{ 1, VFIO_USER_VERSION, 20 },
	{ 0, 0, 1, 0 },
	{ 2, VFIO_USER_DMA_MAP, 48 },
	{ 32, 3, 0, 0, 4096 },
	{ 3, VFIO_USER_DEVICE_RESET, 16 },
};

static struct cleat_server *talked_to;
static unsigned mapped;

static void count_mapped(void *opaque, uint64_t iova, uint64_t length)
{
	struct iovec iov[1];

	mapped += cleat_server_dma_map(talked_to, iova, length, CLEAT_READ, iov,
				       1) == 1;
}

/* The descriptor is DMA_MAP's. */
static void send_until(int fd, size_t length, int file)
{
	static const size_t ends[] = { 0, TALK_MAP, TALK_LAST, sizeof(talk) };

	for (unsigned i = 0; i < 3 && ends[i] < length; i++) {
		size_t end = ends[i + 1] < length ? ends[i + 1] : length;

		ATF_REQUIRE_EQ(0, peer_send_raw(fd,
						(const char *)&talk + ends[i],
						end - ends[i], &file, i == 1));
	}
}

/* Closing after each byte of it, or saying no more, but listening. */
static void close_after(size_t length, bool listen)
{
	int ends[2], file = memfd(4096, 0);

	mapped = 0;
	peer_pair(ends);
	ATF_REQUIRE_EQ(0, cleat_server_adopt(talked_to, ends[0], NULL));
	send_until(ends[1], length, file);
	close(file);
	if (listen)
		shutdown(ends[1], SHUT_WR);
	else
		close(ends[1]);
	ATF_REQUIRE_EQ(0, cleat_server_run(talked_to));
	if (!listen)
		return;
	/* Who listens is served to the end. */
	ATF_CHECK_EQ(length >= TALK_LAST, mapped);
	close(ends[1]);
}

CLEAT_TC(stream__closed_at_every_byte)
{
	const struct cleat_server_ops ops = { .size = sizeof(ops),
					      .dma_mapped = count_mapped };

	ATF_REQUIRE_EQ(0, cleat_server_create(NULL, &ops, NULL, &talked_to,
					      NULL));
	for (size_t length = 0; length <= sizeof(talk); length++) {
		close_after(length, false);
		close_after(length, true);
	}
	cleat_server_destroy(talked_to);
}

/* A client that asks and never reads: the server keeps one reply, no more. */
CLEAT_TC(flood__never_reads)
{
	struct {
		struct peer_header header;
		struct cleat_wire_access access;
	} read = { { 1, VFIO_USER_REGION_READ, 32 }, { 0, 0, RIG_BAR } };
	struct peer_message reply;
	unsigned sent = 0, answered;
	struct rig rig;

	rig_start(&rig);
	while (send(rig.fd, &read, sizeof(read),
		    MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(read) ||
	       wait_fd(rig.fd, POLLOUT, 100))
		sent++;
	/* And when it does read after all, everything is there. */
	for (answered = 0; answered < sent; answered++) {
		if (!wait_fd(rig.fd, POLLIN, 500))
			break;
		ATF_REQUIRE_EQ(0, peer_receive(rig.fd, &reply));
		ATF_REQUIRE_EQ(RIG_BAR + 16, reply.length);
		peer_message_end(&reply);
	}
	ATF_REQUIRE(answered > 100);
	ATF_REQUIRE(answered + 1 >= sent);
	rig_end(&rig);
}

/* The same client, gone without reading. */
CLEAT_TC(flood__never_reads_and_goes)
{
	struct {
		struct peer_header header;
		struct cleat_wire_access access;
	} read = { { 1, VFIO_USER_REGION_READ, 32 }, { 0, 0, RIG_BAR } };
	struct rig rig;

	rig_start(&rig);
	while (send(rig.fd, &read, sizeof(read),
		    MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(read))
		;
	close(rig.fd);
	rig.fd = -1;
	script_end(&rig.script);
	rig.running = false;
	rig_end(&rig);
}

/* Descriptors twice in one message: more than a client can mean. */
CLEAT_TC(fds__in_the_middle)
{
	struct peer_header header = { 1, VFIO_USER_DMA_MAP, 48 };
	int fd = memfd(4096, 0);
	struct rig rig;

	rig_start(&rig);
	ATF_REQUIRE_EQ(0, peer_send_raw(rig.fd, &header, 8, &fd, 1));
	ATF_REQUIRE_EQ(0, peer_send_raw(rig.fd, (char *)&header + 8, 8, &fd,
					1));
	rig_expect_end(&rig);
	rig_end(&rig);
	close(fd);
}

static uint32_t rand_state = 12345;

static uint32_t rnd(void)
{
	rand_state = rand_state * 1664525u + 1013904223u;
	return rand_state >> 8;
}

static void drop_replies(int fd)
{
	char buf[65536];

	while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
}

/* Well-formed headers over noise, small numbers more often than large. */
static void send_noise(int fd, const int *fds)
{
	uint32_t words[24];
	struct peer_header header = {
		.id = (uint16_t)rnd(),
		.command = (uint16_t)(rnd() % 19),
		.size = 16 + rnd() % sizeof(words),
		.flags = rnd() % 4 ? 0 : PEER_NO_REPLY,
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		words[i] = rnd() % 3 ? rnd() % 64 : rnd() << (rnd() % 24);
	peer_send_raw(fd, &header, sizeof(header), fds, rnd() % 3);
	peer_send_raw(fd, words, header.size - 16, NULL, 0);
	drop_replies(fd);
}

CLEAT_TC(noise__ten_thousand_messages)
{
	int fds[2] = { memfd(1 << 20, 0), eventfd(0, EFD_NONBLOCK) };
	uint32_t value;
	struct rig rig;

	rig_start(&rig);
	for (unsigned i = 0; i < 10000; i++)
		send_noise(rig.fd, fds);
	/* Still there: replies to the noise may come first. */
	rig_post32(&rig, 0, 1, 0xbeef);
	for (;;) {
		struct peer_message reply;

		ATF_REQUIRE_EQ(0, peer_receive(rig.fd, &reply));
		value = reply.header.id == 0xbeef &&
			reply.header.command == VFIO_USER_REGION_WRITE &&
			reply.length == 16;
		peer_message_end(&reply);
		if (value)
			break;
	}
	rig_end(&rig);
	close(fds[0]);
	close(fds[1]);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, header__size_zero);
	ATF_TP_ADD_TC(tp, header__size_below_itself);
	ATF_TP_ADD_TC(tp, header__size_4_gib);
	ATF_TP_ADD_TC(tp, header__unknown_type);
	ATF_TP_ADD_TC(tp, reply__nobody_asked);
	ATF_TP_ADD_TC(tp, command__unknown);
	ATF_TP_ADD_TC(tp, length__every);
	ATF_TP_ADD_TC(tp, fds__unwanted);
	ATF_TP_ADD_TC(tp, fds__in_the_middle);
	ATF_TP_ADD_TC(tp, stream__byte_by_byte);
	ATF_TP_ADD_TC(tp, stream__many_at_once);
	ATF_TP_ADD_TC(tp, stream__closed_at_every_byte);
	ATF_TP_ADD_TC(tp, flood__never_reads);
	ATF_TP_ADD_TC(tp, flood__never_reads_and_goes);
	ATF_TP_ADD_TC(tp, noise__ten_thousand_messages);
	return atf_no_error();
}
