/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "tests/interop/replay.h"

struct cleat_header replay_header(const struct replay *replay, unsigned i)
{
	struct cleat_header header;

	memcpy(&header, replay->messages[i].bytes, sizeof(header));
	return header;
}

bool replay_is_command(const struct replay *replay, unsigned i)
{
	return (replay_header(replay, i).flags & CLEAT_HEADER_TYPE) ==
	       CLEAT_HEADER_COMMAND;
}

bool replay_is_request(const struct replay *replay, unsigned i)
{
	return replay_is_command(replay, i) && !replay->messages[i].from_server;
}

const void *replay_payload(const struct replay *replay, unsigned i,
			   size_t *ret_length)
{
	const struct cleat_stream_message *message = &replay->messages[i];
	size_t length = message->length - sizeof(struct cleat_header);

	if (ret_length)
		*ret_length = length;
	return length ? message->bytes + sizeof(struct cleat_header) : NULL;
}

static bool answers(const struct replay *replay, unsigned reply,
		    unsigned command)
{
	struct cleat_header a = replay_header(replay, reply);
	struct cleat_header b = replay_header(replay, command);

	return replay->messages[reply].from_server !=
		       replay->messages[command].from_server &&
	       replay->partner[command] < 0 && a.id == b.id &&
	       a.command == b.command && replay_is_command(replay, command);
}

/* Commands are answered in order: the first that fits is the one. */
static void find_partner(struct replay *replay, unsigned reply)
{
	for (unsigned i = 0; i < reply; i++) {
		if (!answers(replay, reply, i))
			continue;
		replay->partner[i] = (int)reply;
		replay->partner[reply] = (int)i;
		return;
	}
	atf_tc_fail("message %u is a reply to nothing", reply);
}

void replay_load(struct replay *replay, const char *name)
{
	struct cleat_stream_message message;
	unsigned line = 0;
	char path[128];
	FILE *file;
	int ret;

	*replay = (struct replay){ 0 };
	snprintf(path, sizeof(path), "tests/data/streams/%s.stream", name);
	file = fopen(source_file(path), "r");
	ATF_REQUIRE(file);
	while ((ret = cleat_stream_read(file, &line, &message)) == 1) {
		replay->messages = realloc(replay->messages,
					   (replay->num + 1) * sizeof(message));
		ATF_REQUIRE(replay->messages);
		replay->messages[replay->num++] = message;
	}
	fclose(file);
	ATF_REQUIRE_EQ_MSG(0, ret, "%s:%u: %s", path, line, strerror(-ret));
	replay->partner = malloc(replay->num * sizeof(*replay->partner));
	for (unsigned i = 0; i < replay->num; i++)
		replay->partner[i] = -1;
	for (unsigned i = 0; i < replay->num; i++)
		if (!replay_is_command(replay, i))
			find_partner(replay, i);
}

void replay_free(struct replay *replay)
{
	for (unsigned i = 0; i < replay->num; i++)
		cleat_stream_free(&replay->messages[i]);
	free(replay->messages);
	free(replay->partner);
}

static int plain_file(uint64_t size)
{
	int fd = open("stand-in", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ATF_REQUIRE_EQ(0, ftruncate(fd, (off_t)size));
	unlink("stand-in");
	return fd;
}

static int one_end(int ends[2])
{
	close(ends[1]);
	return ends[0];
}

static int stand_in(const struct cleat_stream_fd *fd)
{
	int ends[2];

	switch (fd->kind) {
	case CLEAT_STREAM_EVENTFD:
		return eventfd(0, EFD_CLOEXEC);
	case CLEAT_STREAM_SOCKET:
		peer_pair(ends);
		return one_end(ends);
	case CLEAT_STREAM_PIPE:
		ATF_REQUIRE_EQ(0, pipe2(ends, O_CLOEXEC));
		return one_end(ends);
	case CLEAT_STREAM_MEMFD:
		return memfd(fd->size, 0);
	case CLEAT_STREAM_FILE:
		return plain_file(fd->size);
	default:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	}
}

void replay_stand_in(const struct replay *replay, unsigned i, int *ret_fds)
{
	const struct cleat_stream_message *message = &replay->messages[i];

	for (unsigned k = 0; k < message->num_fds; k++) {
		ret_fds[k] = stand_in(&message->fds[k]);
		ATF_REQUIRE(ret_fds[k] >= 0);
	}
}
