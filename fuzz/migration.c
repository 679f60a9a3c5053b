/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Device state from a hostile server, and a hostile stream of it:
 *
 *	u8: bit 0: load, otherwise save; bit 1: the first generation only
 *	u16 bytes of stream, and these: pieces of
 *		u8 type of a frame; bit 7: its checksum is wrong, bit 6: no frame
 *		   but the bytes alone
 *		u16 bytes, and these
 *	then the server's answers
 *
 * Behind a head that fits the device, since its checksum would keep out all
 * but that.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/answers.h"
#include "fuzz/fuzz.h"
#include "migration/migration.h"

#define MOST (1u << 18)

/* The stream, written or to be read. */
struct stream {
	uint8_t data[MOST];
	size_t size;
	size_t at;
};

static int put(void *opaque, const void *buf, size_t count)
{
	struct stream *stream = opaque;

	if (count > MOST - stream->size)
		return -ENOSPC;
	memcpy(stream->data + stream->size, buf, count);
	stream->size += count;
	return 0;
}

static int get(void *opaque, void *buf, size_t count)
{
	struct stream *stream = opaque;

	if (count > stream->size - stream->at)
		return -ENODATA;
	memcpy(buf, stream->data + stream->at, count);
	stream->at += count;
	return 0;
}

static void put_piece(struct stream *stream, uint32_t number, uint8_t type,
		      const uint8_t *data, uint32_t length)
{
	struct cleat_stream_frame frame;

	cleat_stream_make_frame(&frame, type & 0x3f, number, data, length);
	if (type & 0x80)
		frame.crc ^= 1;
	if (!(type & 0x40))
		put(stream, &frame, sizeof(frame));
	put(stream, data, length);
}

static void make_stream(struct stream *stream, struct cleat_device *dev,
			unsigned generation, const uint8_t *data, size_t size)
{
	struct cleat_stream_identity identity;
	struct cleat_stream_head head;

	stream->size = stream->at = 0;
	if (cleat_migration_identify(dev, &identity, NULL))
		return;
	cleat_stream_make_head(&head, generation, &identity);
	put(stream, &head, sizeof(head));
	for (uint32_t number = 0; size > 3; number++) {
		size_t length = (size_t)data[1] | (size_t)data[2] << 8;
		uint8_t type = data[0];

		data += 3;
		size -= 3;
		if (length > size)
			length = size;
		put_piece(stream, number, type, data, (uint32_t)length);
		data += length;
		size -= length;
	}
}

static void save(struct cleat_migration *mig,
		 const struct cleat_migration_io *io)
{
	cleat_migration_start(mig, NULL);
	cleat_migration_save(mig, io, 1000, NULL);
	if (!cleat_migration_stop(mig, NULL))
		cleat_migration_save(mig, io, UINT64_MAX, NULL);
	cleat_migration_run(mig, NULL);
}

static void load(struct cleat_migration *mig,
		 const struct cleat_migration_io *io)
{
	bool done = false;

	for (int i = 0; i < 4 && !done; i++)
		if (cleat_migration_load(mig, io, &done, NULL))
			break;
	cleat_migration_run(mig, NULL);
}

static void use_device(struct cleat_device *dev, uint8_t how,
		       const uint8_t *data, size_t size)
{
	static struct stream stream;
	struct cleat_migration_io io = { .size = sizeof(io),
					 .opaque = &stream,
					 .write = put,
					 .read = get };
	struct cleat_migration *mig;
	uint64_t bytes;

	stream.size = stream.at = 0;
	if (cleat_migration_create(dev, how & 2 ? CLEAT_MIGRATION_ONLY_V1 : 0,
				   &mig, NULL))
		return;
	cleat_migration_estimate(mig, &bytes);
	if (how & 1) {
		struct cleat_migration_info info = { .size = sizeof(info) };

		cleat_migration_info(mig, &info);
		make_stream(&stream, dev, info.generation, data, size);
		load(mig, &io);
	} else {
		save(mig, &io);
	}
	cleat_migration_unref(mig);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_answers answers;
	struct cleat_device *dev;
	size_t stream;

	if (size < 3)
		return 0;
	stream = (size_t)data[1] | (size_t)data[2] << 8;
	if (stream > size - 3)
		stream = size - 3;
	dev = cleat_fuzz_open(&answers, data + 3 + stream, size - 3 - stream);
	use_device(dev, data[0], data + 3, stream);
	cleat_device_unref(dev);
	cleat_fuzz_close(&answers);
	return 0;
}
