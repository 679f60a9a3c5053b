/* SPDX-License-Identifier: BSD-2-Clause */
/* Sections on their way: what is not as it was sent is refused. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "tests/support/support.h"
#include "vmm/vmm.h"

static atomic_bool cancelled;

static void send_two(struct stream *stream)
{
	cleat_vmm_stream_begin(stream, SECTION_OWN);
	cleat_vmm_stream_add(stream, "first words", 11);
	ATF_REQUIRE_EQ(0, cleat_vmm_stream_send(stream));
	cleat_vmm_stream_begin(stream, SECTION_END);
	cleat_vmm_stream_add(stream, "last", 4);
	ATF_REQUIRE_EQ(0, cleat_vmm_stream_send(stream));
}

/* The bytes of two sections; how many. */
static size_t record(uint8_t *ret, size_t room)
{
	int fd = memfd_create("stream", MFD_CLOEXEC);
	struct stream stream;
	ssize_t n;

	ATF_REQUIRE(fd >= 0);
	ATF_REQUIRE_EQ(0, cleat_vmm_stream_open(&stream, fd, &cancelled));
	send_two(&stream);
	n = pread(fd, ret, room, 0);
	ATF_REQUIRE(n > 0 && (size_t)n < room);
	ATF_REQUIRE_EQ((uint64_t)n, stream.bytes);
	cleat_vmm_stream_close(&stream);
	close(fd);
	return (size_t)n;
}

/* What receiving two sections from these bytes gives. */
static int play(const uint8_t *bytes, size_t length)
{
	int fd = memfd_create("stream", MFD_CLOEXEC), err;
	struct section section;
	struct stream stream;

	ATF_REQUIRE_EQ((ssize_t)length, pwrite(fd, bytes, length, 0));
	ATF_REQUIRE_EQ(0, cleat_vmm_stream_open(&stream, fd, &cancelled));
	err = cleat_vmm_stream_receive(&stream, &section);
	if (!err) {
		ATF_REQUIRE_EQ(SECTION_OWN, section.type);
		ATF_REQUIRE_EQ(11, section.left);
		ATF_REQUIRE(!memcmp(section.data, "first words", 11));
		err = cleat_vmm_stream_receive(&stream, &section);
	}
	ATF_REQUIRE(err == 0 || stream.why[0]);
	cleat_vmm_stream_close(&stream);
	close(fd);
	return err;
}

CLEAT_TC(receive__whole)
{
	uint8_t bytes[256];
	size_t length = record(bytes, sizeof(bytes));

	ATF_REQUIRE_EQ(0, play(bytes, length));
}

CLEAT_TC(receive__every_bit_damaged)
{
	uint8_t bytes[256];
	size_t length = record(bytes, sizeof(bytes)), i;
	int err;

	for (i = 0; i < length * 8; i++) {
		bytes[i / 8] ^= (uint8_t)(1 << i % 8);
		err = play(bytes, length);
		ATF_REQUIRE_MSG(err == -EBADMSG || err == -EPROTONOSUPPORT,
				"bit %zu: %d", i, err);
		bytes[i / 8] ^= (uint8_t)(1 << i % 8);
	}
}

CLEAT_TC(receive__cut_off)
{
	uint8_t bytes[256];
	size_t length = record(bytes, sizeof(bytes)), i;

	for (i = 0; i < length; i++)
		ATF_REQUIRE_EQ(-ENODATA, play(bytes, i));
}

/* Whole sections that come twice, or in another order. */
CLEAT_TC(receive__another_order)
{
	uint8_t bytes[256], other[512];
	size_t length = record(bytes, sizeof(bytes));
	size_t first;

	/* Headers are alike in size, the words are 11 and 4 bytes. */
	first = (length - 15) / 2 + 11;
	memcpy(other, bytes, first);
	memcpy(other + first, bytes, first);
	ATF_REQUIRE_EQ(-EBADMSG, play(other, 2 * first));
	memcpy(other, bytes + first, length - first);
	memcpy(other + length - first, bytes, first);
	ATF_REQUIRE_EQ(-EBADMSG, play(other, length));
}

CLEAT_TC(send__too_large)
{
	static uint8_t large[SECTION_MAX];
	int fd = memfd_create("stream", MFD_CLOEXEC);
	struct stream stream;

	ATF_REQUIRE_EQ(0, cleat_vmm_stream_open(&stream, fd, &cancelled));
	cleat_vmm_stream_begin(&stream, SECTION_OWN);
	cleat_vmm_stream_add(&stream, large, sizeof(large));
	ATF_REQUIRE_EQ(0, cleat_vmm_stream_send(&stream));
	cleat_vmm_stream_begin(&stream, SECTION_OWN);
	cleat_vmm_stream_add(&stream, large, sizeof(large));
	cleat_vmm_stream_add(&stream, large, 1);
	ATF_REQUIRE_EQ(-EFBIG, cleat_vmm_stream_send(&stream));
	cleat_vmm_stream_close(&stream);
	close(fd);
}

static int cancel_soon(void *arg)
{
	usleep(20000);
	atomic_store(&cancelled, true);
	return 0;
}

/* Nobody says anything, nobody takes anything: neither is waited for. */
CLEAT_TC(wait__cancelled)
{
	struct script script;
	struct section section;
	struct stream stream;
	int ends[2];

	peer_pair(ends);
	ATF_REQUIRE_EQ(0, cleat_vmm_stream_open(&stream, ends[0], &cancelled));
	script_start(&script, cancel_soon, NULL);
	ATF_REQUIRE_EQ(-ECANCELED, cleat_vmm_stream_receive(&stream, &section));
	script_end(&script);
	atomic_store(&cancelled, false);
	script_start(&script, cancel_soon, NULL);
	do {
		cleat_vmm_stream_begin(&stream, SECTION_OWN);
		cleat_vmm_stream_room(&stream, 100000);
	} while (!cleat_vmm_stream_send(&stream));
	ATF_REQUIRE_STREQ("called off", stream.why);
	script_end(&script);
	cleat_vmm_stream_close(&stream);
	close(ends[0]);
	close(ends[1]);
}

/* No longer than allowed; but as long as the other side's devices may take. */
CLEAT_TC(wait__silence)
{
	struct section section;
	struct stream stream;
	unsigned most;
	int ends[2];

	peer_pair(ends);
	ATF_REQUIRE_EQ(0, cleat_vmm_stream_open(&stream, ends[0], &cancelled));
	most = stream.idle_ms;
	cleat_vmm_stream_allow(&stream, 2);
	ATF_REQUIRE(stream.idle_ms >= most + 2 * 3 * 60000);
	stream.idle_ms = 2000;
	ATF_REQUIRE_EQ(-ETIMEDOUT, cleat_vmm_stream_receive(&stream, &section));
	ATF_REQUIRE_STREQ("the other side has been silent for 2 s", stream.why);
	cleat_vmm_stream_close(&stream);
	close(ends[0]);
	close(ends[1]);
}

CLEAT_TC(take__too_much)
{
	const uint8_t bytes[4] = { 1, 2, 3, 4 };
	struct section section = { .left = 4, .data = bytes };
	uint8_t got[4];

	ATF_REQUIRE_EQ(0, cleat_vmm_section_take(&section, got, 3));
	ATF_REQUIRE_EQ(-EBADMSG, cleat_vmm_section_take(&section, got, 2));
	ATF_REQUIRE_EQ(-EBADMSG,
		       cleat_vmm_section_take(&section, got, SIZE_MAX));
	ATF_REQUIRE_EQ(0, cleat_vmm_section_take(&section, got, 1));
	ATF_REQUIRE_EQ(4, got[0]);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, receive__whole);
	ATF_TP_ADD_TC(tp, receive__every_bit_damaged);
	ATF_TP_ADD_TC(tp, receive__cut_off);
	ATF_TP_ADD_TC(tp, receive__another_order);
	ATF_TP_ADD_TC(tp, send__too_large);
	ATF_TP_ADD_TC(tp, wait__cancelled);
	ATF_TP_ADD_TC(tp, wait__silence);
	ATF_TP_ADD_TC(tp, take__too_much);
	return atf_no_error();
}
