/* SPDX-License-Identifier: BSD-2-Clause */
/* The file of a recorded connection: written, read, and written wrongly. */
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "tests/support/support.h"
#include "tools/stream.h"

#define HEADER "01000d00100000000000000000000000"

static void fill(struct cleat_stream_message *message, uint8_t *bytes,
		 size_t length)
{
	struct cleat_header header = { .id = 7,
				       .command = VFIO_USER_REGION_READ,
				       .size = (uint32_t)length };

	for (size_t i = 0; i < length; i++)
		bytes[i] = i < length / 2 ? 0x55 : (uint8_t)i;
	memcpy(bytes, &header, sizeof(header));
	message->bytes = bytes;
	message->length = length;
}

static void require_same(const struct cleat_stream_message *a,
			 const struct cleat_stream_message *b)
{
	ATF_REQUIRE_EQ(a->from_server, b->from_server);
	ATF_REQUIRE_EQ(a->twin, b->twin);
	ATF_REQUIRE_EQ(a->time_us, b->time_us);
	ATF_REQUIRE_EQ(a->num_fds, b->num_fds);
	for (unsigned i = 0; i < a->num_fds; i++) {
		ATF_REQUIRE_EQ(a->fds[i].kind, b->fds[i].kind);
		ATF_REQUIRE_EQ(a->fds[i].size, b->fds[i].size);
	}
	ATF_REQUIRE_EQ(a->length, b->length);
	ATF_REQUIRE(!memcmp(a->bytes, b->bytes, a->length));
}

CLEAT_TC(read__what_was_written)
{
	static uint8_t bytes[2][4096];
	static struct cleat_stream_message out[2] = {
		{ .time_us = 0 },
		{ .from_server = true,
		  .twin = true,
		  .time_us = 123456789,
		  .num_fds = 4,
		  .fds = { { CLEAT_STREAM_MEMFD, 1u << 30 },
			   { CLEAT_STREAM_EVENTFD, 0 },
			   { CLEAT_STREAM_FILE, 0 },
			   { CLEAT_STREAM_OTHER, 0 } } },
	}, in;
	FILE *file = fopen("stream", "w+");
	unsigned line = 0;

	fill(&out[0], bytes[0], sizeof(struct cleat_header));
	fill(&out[1], bytes[1], sizeof(bytes[1]));
	ATF_REQUIRE_EQ(0, cleat_stream_begin(file));
	for (unsigned i = 0; i < 2; i++)
		ATF_REQUIRE_EQ(0, cleat_stream_write(file, &out[i]));
	rewind(file);
	for (unsigned i = 0; i < 2; i++) {
		ATF_REQUIRE_EQ(1, cleat_stream_read(file, &line, &in));
		require_same(&out[i], &in);
		cleat_stream_free(&in);
	}
	ATF_REQUIRE_EQ(0, cleat_stream_read(file, &line, &in));
	fclose(file);
}

static int read_text(const char *text, unsigned *line)
{
	static struct cleat_stream_message message;
	FILE *file = fmemopen((void *)text, strlen(text), "r");
	int ret;

	*line = 0;
	do {
		ret = cleat_stream_read(file, line, &message);
		cleat_stream_free(&message);
	} while (ret == 1);
	fclose(file);
	return ret;
}

CLEAT_TC(read__by_hand)
{
	unsigned line;

	ATF_REQUIRE_EQ(0, read_text("cleat-stream 1\n", &line));
	ATF_REQUIRE_EQ(0, read_text("cleat-stream 1\n"
				    "# a note\n\n"
				    "> 0 # another\n"
				    " 0100 0d00 10000000 # one more\n"
				    "# and one\n"
				    " 00*8\n"
				    "<< 12 fds=socket,memfd:4096,pipe\n"
				    " " HEADER "\n",
				    &line));
	ATF_REQUIRE_EQ(9, line);
}

CLEAT_TC(read__wrong)
{
	static const char *const wrong[] = {
		"",
		"cleat-stream 2\n",
		"cleat-stream 1",
		"cleat-stream 1\nmore\n",
		"cleat-stream 1\n> 0\n",
		"cleat-stream 1\n> 0\n " HEADER "00\n",
		"cleat-stream 1\n> 0\n " HEADER,
		"cleat-stream 1\n> 0\n 01000d0011000000*2\n",
		"cleat-stream 1\n> 0\n 00*99999999999\n",
		"cleat-stream 1\n> 0\n 00*99999999999999999999999\n",
		"cleat-stream 1\n> 0\n 00*0\n",
		"cleat-stream 1\n> 0\n *4\n",
		"cleat-stream 1\n> 0\n 0\n",
		"cleat-stream 1\n> 0\n 0g\n",
		"cleat-stream 1\n> -1\n " HEADER "\n",
		"cleat-stream 1\n>0\n " HEADER "\n",
		"cleat-stream 1\n>> 0 fds=\n " HEADER "\n",
		"cleat-stream 1\n>> 0 fds=memfd\n " HEADER "\n",
		"cleat-stream 1\n>> 0 fds=event\n " HEADER "\n",
		"cleat-stream 1\n>> 0 fds=eventfd:1\n " HEADER "\n",
		"cleat-stream 1\n>> 0 fds=eventfd,\n " HEADER "\n",
		"cleat-stream 1\n= 0\n " HEADER "\n",
		"cleat-stream 1\n " HEADER "\n",
	};
	unsigned line;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		ATF_REQUIRE_EQ_MSG(-EPROTO, read_text(wrong[i], &line), "%s",
				   wrong[i]);
}

CLEAT_TC(read__too_long)
{
	static char text[300000], fds[8192];
	unsigned line;

	/* A message larger than one can be, in groups that are not. */
	strcpy(text, "cleat-stream 1\n> 0\n");
	while (strlen(text) < 20000)
		strcat(text, " 00*1000\n");
	for (unsigned i = 0; i < 3; i++)
		strcat(text, " 00*1000000\n");
	ATF_REQUIRE_EQ(-EPROTO, read_text(text, &line));
	/* More descriptors than the kernel passes. */
	for (unsigned i = 0; i < 300; i++)
		strcat(fds, i ? ",pipe" : "pipe");
	snprintf(text, sizeof(text),
		 "cleat-stream 1\n> 0 fds=%s\n " HEADER "\n", fds);
	ATF_REQUIRE_EQ(-EPROTO, read_text(text, &line));
	ATF_REQUIRE_EQ(2, line);
	/* A line without an end. */
	memset(text, ' ', sizeof(text) - 1);
	memcpy(text, "cleat-stream 1\n> 0\n", 19);
	ATF_REQUIRE_EQ(-EPROTO, read_text(text, &line));
}

CLEAT_TC(kind__each)
{
	int ends[2], pipes[2], event = eventfd(0, EFD_CLOEXEC);
	int memory = memfd(8192, 0);
	FILE *file = fopen("file", "w+");

	ATF_REQUIRE_EQ(0, pipe(pipes));
	peer_pair(ends);
	fputs("hello", file);
	fflush(file);
	ATF_REQUIRE_EQ(CLEAT_STREAM_EVENTFD, cleat_stream_fd(event).kind);
	ATF_REQUIRE_EQ(CLEAT_STREAM_SOCKET, cleat_stream_fd(ends[0]).kind);
	ATF_REQUIRE_EQ(CLEAT_STREAM_PIPE, cleat_stream_fd(pipes[1]).kind);
	ATF_REQUIRE_EQ(CLEAT_STREAM_MEMFD, cleat_stream_fd(memory).kind);
	ATF_REQUIRE_EQ(8192, cleat_stream_fd(memory).size);
	ATF_REQUIRE_EQ(CLEAT_STREAM_FILE, cleat_stream_fd(fileno(file)).kind);
	ATF_REQUIRE_EQ(5, cleat_stream_fd(fileno(file)).size);
	ATF_REQUIRE_EQ(CLEAT_STREAM_OTHER, cleat_stream_fd(-1).kind);
	close(event);
	close(memory);
	fclose(file);
	for (unsigned i = 0; i < 2; i++) {
		close(ends[i]);
		close(pipes[i]);
	}
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, read__what_was_written);
	ATF_TP_ADD_TC(tp, read__by_hand);
	ATF_TP_ADD_TC(tp, read__wrong);
	ATF_TP_ADD_TC(tp, read__too_long);
	ATF_TP_ADD_TC(tp, kind__each);
	return atf_no_error();
}
