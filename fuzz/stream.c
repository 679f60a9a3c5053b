/* SPDX-License-Identifier: BSD-2-Clause */
/* A device-state stream from an enemy, down to the bytes that a device gets. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "migration/migration.h"

struct input {
	const uint8_t *data;
	size_t size;
};

static size_t written;

static int get_state(struct cleat_migration *mig, unsigned *ret_state)
{
	*ret_state = CLEAT_MIGRATION_RUNNING;
	return 0;
}

static int set_state(struct cleat_migration *mig, unsigned state)
{
	return 0;
}

static int write_state(struct cleat_migration *mig, const void *buf,
		       size_t size, bool last)
{
	if (!size || size > mig->max_piece)
		abort();
	written += size;
	return 0;
}

static const struct cleat_migration_way way = {
	.generation = 2,
	.get_state = get_state,
	.set_state = set_state,
	.write = write_state,
};

static int read_input(void *opaque, void *buf, size_t count)
{
	struct input *input = opaque;

	if (input->size < count)
		return -ENODATA;
	memcpy(buf, input->data, count);
	input->data += count;
	input->size -= count;
	return 0;
}

/*
 * Checksums are mended, so that what is behind them is reached: the first byte
 * says whether.
 */
static void mend(uint8_t *data, size_t size)
{
	struct cleat_stream_head *head = (void *)data;
	size_t at = sizeof(*head);
	struct cleat_stream_frame frame;

	if (size < sizeof(*head))
		return;
	head->crc = 0;
	head->crc = cleat_crc32c(0, head, sizeof(*head));
	for (uint32_t number = 0; size - at >= sizeof(frame); number++) {
		memcpy(&frame, data + at, sizeof(frame));
		if (frame.length > size - at - sizeof(frame))
			return;
		cleat_stream_make_frame(&frame, frame.type, number,
					data + at + sizeof(frame),
					frame.length);
		memcpy(data + at, &frame, sizeof(frame));
		at += sizeof(frame) + frame.length;
	}
}

static void load(const uint8_t *data, size_t size)
{
	struct input input = { data, size };
	struct cleat_migration mig = { .way = &way, .max_piece = 4096 };
	const struct cleat_migration_io io = {
		.size = sizeof(io),
		.opaque = &input,
		.read = read_input,
	};
	struct cleat_error why;
	bool done = false;
	int err = 0;

	mig.buf = malloc(CLEAT_STREAM_FRAME);
	pthread_mutex_init(&mig.lock, NULL);
	atomic_store(&mig.state, CLEAT_MIGRATION_RUNNING);
	written = 0;
	while (!err && !done)
		err = cleat_migration_load(&mig, &io, &done, &why);
	if (written > size || (err && err != why.code))
		abort();
	free(mig.buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy;

	if (size < 1)
		return 0;
	copy = malloc(size);
	memcpy(copy, data + 1, size - 1);
	if (data[0] & 1)
		mend(copy, size - 1);
	load(copy, size - 1);
	free(copy);
	return 0;
}
