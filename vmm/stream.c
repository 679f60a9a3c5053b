/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The stream a machine travels in: numbered sections, each with a checksum of
 * its header and one of what it holds. Nothing is believed before its checksum
 * was right, and no length makes us allocate: one buffer holds any section.
 *
 * Every wait ends: with the data, with a cancel, or after a time without any
 * that allows for the other side's devices.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/vmm.h"

#define MAGIC 0x4d564c43u /* "CLVM" */
#define VERSION 1
#define IDLE_MS 30000
/*
 * While a device comes to rest, or runs again, nothing is said: by way of three
 * states at most, each of which the library waits a minute for.
 */
#define DEVICE_MS (3 * 60000)
#define TICK_MS 50

/* Little-endian, as all of it is: the guest's CPU is ours. */
struct header {
	uint32_t magic;
	uint16_t version;
	uint16_t type;
	uint32_t number; /* of the section, from 0 on */
	uint32_t length;
	uint64_t data_sum;
	uint64_t sum; /* of all before it */
};

#define ROOM (sizeof(struct header) + SECTION_MAX)

/*
 * Each step is one-to-one in the sum and in the word, so whatever changes
 * inside one word changes the sum; the rest is a matter of 2^64.
 */
static uint64_t checksum(const void *data, size_t length)
{
	const uint8_t *bytes = data;
	uint64_t sum = length, word;

	for (; length >= 8; length -= 8, bytes += 8) {
		memcpy(&word, bytes, 8);
		sum = (sum ^ word) * 0x9e3779b97f4a7c15ull;
		sum = sum << 31 | sum >> 33;
	}
	if (!length)
		return sum;
	word = 0;
	memcpy(&word, bytes, length);
	sum = (sum ^ word) * 0x9e3779b97f4a7c15ull;
	return sum << 31 | sum >> 33;
}

int cleat_vmm_stream_open(struct stream *stream, int fd,
			  const atomic_bool *cancelled)
{
	int flags = fcntl(fd, F_GETFL);

	*stream = (struct stream){
		.fd = fd,
		.cancelled = cancelled,
		.idle_ms = IDLE_MS,
	};
	stream->in = malloc(ROOM);
	stream->out = malloc(ROOM);
	if (!stream->in || !stream->out)
		return cleat_vmm_stream_fail(stream, -ENOMEM, "no memory");
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK))
		return cleat_vmm_stream_fail(stream, -errno, "%m");
	return 0;
}

void cleat_vmm_stream_allow(struct stream *stream, unsigned devices)
{
	stream->idle_ms = IDLE_MS + devices * DEVICE_MS;
}

void cleat_vmm_stream_close(struct stream *stream)
{
	free(stream->in);
	free(stream->out);
	stream->in = stream->out = NULL;
}

int cleat_vmm_stream_fail(struct stream *stream, int code, const char *format,
			  ...)
{
	va_list args;

	va_start(args, format);
	/* What went wrong first is why. */
	if (!stream->why[0])
		vsnprintf(stream->why, sizeof(stream->why), format, args);
	va_end(args);
	return code;
}

/* Return: 0 when @events are there. */
static int await(struct stream *stream, short events)
{
	struct pollfd poll_fd = { .fd = stream->fd, .events = events };
	unsigned waited;

	for (waited = 0; waited < stream->idle_ms; waited += TICK_MS) {
		int n;

		if (atomic_load(stream->cancelled))
			return cleat_vmm_stream_fail(stream, -ECANCELED,
						     "called off");
		n = poll(&poll_fd, 1, TICK_MS);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return cleat_vmm_stream_fail(stream, -errno, "%m");
	}
	return cleat_vmm_stream_fail(stream, -ETIMEDOUT,
				     "the other side has been silent for %u s",
				     stream->idle_ms / 1000);
}

static int write_all(struct stream *stream, const uint8_t *data, size_t length)
{
	while (length) {
		ssize_t n;
		int err = await(stream, POLLOUT);

		if (err)
			return err;
		n = write(stream->fd, data, length);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n < 0)
			return cleat_vmm_stream_fail(stream, -errno,
						     "writing: %m");
		data += n;
		length -= (size_t)n;
		stream->bytes += (uint64_t)n;
	}
	return 0;
}

static int read_all(struct stream *stream, uint8_t *data, size_t length)
{
	while (length) {
		ssize_t n;
		int err = await(stream, POLLIN);

		if (err)
			return err;
		n = read(stream->fd, data, length);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n < 0)
			return cleat_vmm_stream_fail(stream, -errno,
						     "reading: %m");
		if (!n)
			return cleat_vmm_stream_fail(stream, -ENODATA,
						     "it ends too early");
		data += n;
		length -= (size_t)n;
		stream->bytes += (uint64_t)n;
	}
	return 0;
}

/* ---- Writing ---- */

void cleat_vmm_stream_begin(struct stream *stream, enum section_type type)
{
	stream->type = type;
	stream->used = 0;
	stream->overflow = false;
}

void *cleat_vmm_stream_room(struct stream *stream, size_t length)
{
	uint8_t *room = stream->out + sizeof(struct header) + stream->used;

	if (length > SECTION_MAX - stream->used) {
		stream->overflow = true;
		return NULL;
	}
	stream->used += length;
	return room;
}

void cleat_vmm_stream_add(struct stream *stream, const void *data,
			  size_t length)
{
	void *room = cleat_vmm_stream_room(stream, length);

	if (room)
		memcpy(room, data, length);
}

int cleat_vmm_stream_send(struct stream *stream)
{
	struct header header = {
		.magic = MAGIC,
		.version = VERSION,
		.type = (uint16_t)stream->type,
		.number = stream->sent++,
		.length = (uint32_t)stream->used,
		.data_sum = checksum(stream->out + sizeof(header),
				     stream->used),
	};

	if (stream->overflow)
		return cleat_vmm_stream_fail(stream, -EFBIG,
					     "a section is too large");
	header.sum = checksum(&header, offsetof(struct header, sum));
	memcpy(stream->out, &header, sizeof(header));
	return write_all(stream, stream->out, sizeof(header) + stream->used);
}

/* ---- Reading ---- */

static int check(struct stream *stream, const struct header *header)
{
	if (header->magic != MAGIC)
		return cleat_vmm_stream_fail(stream, -EBADMSG,
					     "this is no machine");
	/* Later formats keep magic and version where they are. */
	if (header->version != VERSION)
		return cleat_vmm_stream_fail(stream, -EPROTONOSUPPORT,
					     "format %u, and this program reads %u: use the same version",
					     header->version, VERSION);
	if (header->sum != checksum(header, offsetof(struct header, sum)) ||
	    header->length > SECTION_MAX)
		return cleat_vmm_stream_fail(stream, -EBADMSG, "damaged");
	if (header->number != stream->received)
		return cleat_vmm_stream_fail(stream, -EBADMSG,
					     "damaged: section %u where %u should be",
					     header->number, stream->received);
	return 0;
}

int cleat_vmm_stream_receive(struct stream *stream, struct section *ret)
{
	struct header header;
	int err = read_all(stream, (uint8_t *)&header, sizeof(header));

	if (!err)
		err = check(stream, &header);
	if (!err)
		err = read_all(stream, stream->in, header.length);
	if (err)
		return err;
	if (header.data_sum != checksum(stream->in, header.length))
		return cleat_vmm_stream_fail(stream, -EBADMSG, "damaged");
	stream->received++;
	*ret = (struct section){
		.type = header.type,
		.left = header.length,
		.data = stream->in,
	};
	return 0;
}

int cleat_vmm_section_take(struct section *section, void *ret, size_t length)
{
	if (length > section->left)
		return -EBADMSG;
	memcpy(ret, section->data, length);
	section->data += length;
	section->left -= length;
	return 0;
}
