/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The first generation: a region of registers and data. State is read in
 * pieces: pending_bytes opens one, data_offset and data_size say where it is,
 * and asking for pending_bytes again says that it was taken. Writing goes the
 * same way round, data_size last.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "migration/migration.h"

#define REG(name) offsetof(struct cleat_wire_mig_region, name)

static const uint32_t bits_of[CLEAT_MIGRATION_STATES] = {
	[CLEAT_MIGRATION_ERROR] = CLEAT_MIG_V1_ERROR,
	[CLEAT_MIGRATION_STOP] = CLEAT_MIG_V1_STOP,
	[CLEAT_MIGRATION_RUNNING] = CLEAT_MIG_V1_RUNNING,
	[CLEAT_MIGRATION_STOP_COPY] = CLEAT_MIG_V1_SAVING,
	[CLEAT_MIGRATION_RESUMING] = CLEAT_MIG_V1_RESUMING,
	[5] = UINT32_MAX,
	[CLEAT_MIGRATION_PRE_COPY] = CLEAT_MIG_V1_SAVING | CLEAT_MIG_V1_RUNNING,
};

static int get(struct cleat_migration *mig, uint64_t offset, void *value,
	       size_t size)
{
	return cleat_region_read(mig->dev, mig->v1.index, offset, value, size);
}

static int get_state(struct cleat_migration *mig, unsigned *ret_state)
{
	uint32_t bits;
	int err = get(mig, REG(state), &bits, sizeof(bits));

	for (unsigned i = 0; !err && i < CLEAT_MIGRATION_STATES; i++)
		if (bits_of[i] == bits && i != 5) {
			*ret_state = i;
			return 0;
		}
	return err ? err : -EPROTO;
}

/* A write, and yet a state change: it may take as long as one. */
static int set_state(struct cleat_migration *mig, unsigned state)
{
	struct {
		struct cleat_wire_access access;
		uint32_t bits;
	} __attribute__((packed)) body = {
		{ REG(state), mig->v1.index, sizeof(body.bits) },
		bits_of[state],
	};
	struct cleat_wire_access echo;
	struct cleat_call call = {
		.command = VFIO_USER_REGION_WRITE,
		.deadline_class = CLEAT_CALL_QUIESCE,
		.flags = CLEAT_CALL_STATE,
		.head = &body,
		.head_size = sizeof(body),
		.reply = &echo,
		.reply_size = sizeof(echo),
	};

	mig->v1.open = false;
	return cleat_call(mig->dev, &call, NULL);
}

/* --- Data ---------------------------------------------------------------- */

/*
 * The file behind that part of the region, where it can be trusted not to keep
 * us for ever; NULL: by message. Read and written as a file: mapped, a server
 * that shrinks it would take us down.
 */
static const struct cleat_region_area *find_file(struct cleat_migration *mig,
						 uint64_t offset, size_t size)
{
	const struct cleat_region *region = mig->v1.region;
	struct statfs fs;

	for (unsigned i = 0; i < region->num_areas; i++) {
		const struct cleat_region_area *area = &region->areas[i];

		if (offset < area->offset ||
		    offset + size > area->offset + area->length)
			continue;
		/* (without seals it may be the server's own file system, which
		 * answers fstatfs() or not) */
		if (fcntl(area->fd, F_GET_SEALS) >= 0 &&
		    !fstatfs(area->fd, &fs) && fs.f_type == TMPFS_MAGIC)
			return area;
	}
	return NULL;
}

static int move(struct cleat_migration *mig, uint64_t offset, void *buf,
		size_t size, bool write)
{
	const struct cleat_region_area *area = find_file(mig, offset, size);
	off_t at;
	ssize_t n;

	if (!area && write)
		return cleat_region_write(mig->dev, mig->v1.index, offset, buf,
					  size);
	if (!area)
		return get(mig, offset, buf, size);
	at = (off_t)(area->fd_offset + (offset - area->offset));
	n = write ? pwrite(area->fd, buf, size, at) :
		    pread(area->fd, buf, size, at);
	if (n < 0)
		return -errno;
	/* Its file ends before the region does. */
	return (size_t)n == size ? 0 : -EPROTO;
}

static int open_to_read(struct cleat_migration *mig)
{
	struct cleat_migration_v1 *v1 = &mig->v1;
	int err = get(mig, REG(pending_bytes), &v1->pending,
		      sizeof(v1->pending));

	v1->size = 0;
	v1->done = 0;
	if (err || !v1->pending)
		return err;
	err = get(mig, REG(data_offset), &v1->offset, sizeof(v1->offset));
	if (!err)
		err = get(mig, REG(data_size), &v1->size, sizeof(v1->size));
	if (err)
		return err;
	if (v1->size && (v1->offset < sizeof(struct cleat_wire_mig_region) ||
			 v1->offset > v1->region->length ||
			 v1->size > v1->region->length - v1->offset))
		return -EPROTO;
	/* Stopped, and something pending, and nothing to be had: for ever. */
	if (!v1->size && mig->state == CLEAT_MIGRATION_STOP_COPY)
		return -EPROTO;
	v1->open = v1->size;
	return 0;
}

static int read_data(struct cleat_migration *mig, void *buf, size_t room,
		     size_t *ret_got, bool *ret_last)
{
	struct cleat_migration_v1 *v1 = &mig->v1;
	int err = v1->open ? 0 : open_to_read(mig);
	size_t size = room;

	if (err)
		return err;
	if (size > v1->size - v1->done)
		size = (size_t)(v1->size - v1->done);
	if (size)
		err = move(mig, v1->offset + v1->done, buf, size, false);
	if (err)
		return err;
	v1->done += size;
	v1->open = v1->done < v1->size;
	*ret_got = size;
	*ret_last = size && !v1->open;
	return 0;
}

static int open_to_write(struct cleat_migration *mig)
{
	struct cleat_migration_v1 *v1 = &mig->v1;
	int err = get(mig, REG(data_offset), &v1->offset, sizeof(v1->offset));

	if (err)
		return err;
	if (v1->offset < sizeof(struct cleat_wire_mig_region) ||
	    v1->offset >= v1->region->length)
		return -EPROTO;
	v1->size = v1->region->length - v1->offset;
	v1->done = 0;
	v1->open = true;
	return 0;
}

static int close_write(struct cleat_migration *mig)
{
	struct cleat_migration_v1 *v1 = &mig->v1;

	v1->open = false;
	return cleat_region_write(mig->dev, v1->index, REG(data_size),
				  &v1->done, sizeof(v1->done));
}

/* Pieces are as at the source, unless the room here is smaller. */
static int write_data(struct cleat_migration *mig, const void *buf, size_t size,
		      bool last)
{
	struct cleat_migration_v1 *v1 = &mig->v1;
	const uint8_t *at = buf;
	int err = 0;

	while (size && !err) {
		size_t part = size;

		err = v1->open ? 0 : open_to_write(mig);
		if (err)
			return err;
		if (part > v1->size - v1->done)
			part = (size_t)(v1->size - v1->done);
		err = move(mig, v1->offset + v1->done, (void *)at, part, true);
		if (err)
			return err;
		v1->done += part;
		at += part;
		size -= part;
		if (v1->done == v1->size || (!size && last))
			err = close_write(mig);
	}
	return err;
}

static int left(struct cleat_migration *mig, uint64_t *ret_bytes)
{
	struct cleat_migration_v1 *v1 = &mig->v1;

	if (mig->state != CLEAT_MIGRATION_PRE_COPY &&
	    mig->state != CLEAT_MIGRATION_STOP_COPY)
		return -ENODATA;
	/* In the middle of a piece, asking would say that it was taken. */
	if (v1->open) {
		*ret_bytes = v1->pending > v1->done ? v1->pending - v1->done :
						      0;
		return 0;
	}
	return get(mig, REG(pending_bytes), ret_bytes, sizeof(*ret_bytes));
}

static const struct cleat_migration_way way = {
	.generation = 1,
	.get_state = get_state,
	.set_state = set_state,
	.read = read_data,
	.write = write_data,
	.left = left,
};

static bool is_ours(const struct cleat_region *region)
{
	return region->type == CLEAT_MIG_REGION_TYPE &&
	       region->subtype == CLEAT_MIG_REGION_SUBTYPE &&
	       region->length > sizeof(struct cleat_wire_mig_region);
}

int cleat_migration_find_v1(struct cleat_migration *mig)
{
	struct cleat_device_info info = { .size = sizeof(info) };
	int err = cleat_device_info(mig->dev, &info);

	for (unsigned i = 0; !err && i < info.num_regions; i++) {
		const struct cleat_region *region =
			cleat_device_region(mig->dev, i);

		if (!region || !is_ours(region))
			continue;
		mig->v1.index = i;
		mig->v1.region = region;
		/* Nothing says so: a server that cannot refuses the state. */
		mig->pre_copy = true;
		mig->way = &way;
		return 0;
	}
	return err ? err : -EOPNOTSUPP;
}
