/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "migration/migration.h"

/* No way is longer; a server that lies cannot lead us in a circle. */
#define MOST_STEPS 4

static int find_way(struct cleat_migration *mig, uint32_t flags)
{
	int err = -EOPNOTSUPP;

	if (!(flags & CLEAT_MIGRATION_ONLY_V1))
		err = cleat_migration_find_v2(mig);
	if (err == -EOPNOTSUPP && !(flags & CLEAT_MIGRATION_ONLY_V2))
		err = cleat_migration_find_v1(mig);
	return err;
}

static int look(struct cleat_migration *mig, uint32_t flags,
		struct cleat_error *reterr)
{
	int err = find_way(mig, flags);

	if (err == -EOPNOTSUPP)
		return cleat_fail(reterr, CLEAT_ORIGIN_DEVICE, err,
				  "the server does not migrate");
	if (err)
		return cleat_fail(reterr, CLEAT_ORIGIN_DEVICE, err,
				  "asking the server about migration: %s",
				  strerror(-err));
	err = cleat_migration_identify(mig->dev, &mig->identity, reterr);
	return err ? err : cleat_migration_ask(mig, reterr);
}

static struct cleat_migration *make(struct cleat_device *dev)
{
	struct cleat_device_info info = { .size = sizeof(info) };
	struct cleat_migration *mig = calloc(1, sizeof(*mig));

	if (!mig)
		return NULL;
	mig->buf = malloc(CLEAT_STREAM_FRAME);
	if (!mig->buf) {
		free(mig);
		return NULL;
	}
	pthread_mutex_init(&mig->lock, NULL);
	atomic_init(&mig->fd, -1);
	mig->section = UINT64_MAX;
	mig->max_piece = CLEAT_STREAM_FRAME;
	if (!cleat_device_info(dev, &info) && info.max_transfer &&
	    info.max_transfer < mig->max_piece)
		mig->max_piece = info.max_transfer;
	mig->dev = dev;
	cleat_device_pin(dev);
	return mig;
}

int cleat_migration_create(struct cleat_device *dev, uint32_t flags,
			   struct cleat_migration **ret_mig,
			   struct cleat_error *reterr)
{
	const uint32_t both = CLEAT_MIGRATION_ONLY_V1 | CLEAT_MIGRATION_ONLY_V2;
	struct cleat_migration *mig;
	int err;

	if (flags & ~both || flags == both)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "migration: flags %#x", flags);
	mig = make(dev);
	if (!mig)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ENOMEM,
				  "migration: no memory");
	err = look(mig, flags, reterr);
	if (err) {
		cleat_migration_unref(mig);
		return err;
	}
	*ret_mig = mig;
	return 0;
}

struct cleat_migration *cleat_migration_unref(struct cleat_migration *mig)
{
	if (!mig)
		return NULL;
	cleat_device_unpin(mig->dev);
	pthread_mutex_destroy(&mig->lock);
	free(mig->buf);
	free(mig);
	return NULL;
}

/* --- States -------------------------------------------------------------- */

int cleat_migration_ask(struct cleat_migration *mig, struct cleat_error *reterr)
{
	unsigned state = 0;
	int err = mig->way->get_state(mig, &state);

	if (err)
		return cleat_fail(reterr, CLEAT_ORIGIN_DEVICE, err,
				  "the device's migration state cannot be "
				  "read: %s", strerror(-err));
	atomic_store(&mig->state, state);
	return 0;
}

static int no_way(struct cleat_migration *mig, unsigned to,
		  struct cleat_error *reterr)
{
	unsigned state = mig->state;
	int err = state == CLEAT_MIGRATION_ERROR ? -EIO : -EINVAL;

	return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
			  "the device is in %s, from where no way leads to %s",
			  cleat_migration_state_name(state),
			  cleat_migration_state_name(to));
}

/*
 * The thread's cancel handle does not reach this far: it would end the
 * connection, and with it a device that could have gone on.
 */
static int set_state(struct cleat_migration *mig, unsigned to)
{
	struct cleat_cancel *cancel = cleat_cancel_current();
	int err;

	cleat_cancel_enter(NULL);
	err = mig->way->set_state(mig, to);
	cleat_cancel_enter(cancel);
	return err;
}

/* What a device is in after a failure only it knows. */
static int step(struct cleat_migration *mig, unsigned to,
		struct cleat_error *reterr)
{
	unsigned from = mig->state;
	int err = set_state(mig, to);

	if (!err) {
		atomic_store(&mig->state, to);
		return 0;
	}
	if (cleat_migration_ask(mig, NULL))
		return cleat_fail(reterr, CLEAT_ORIGIN_DEVICE, err,
				  "the device did not go from %s to %s: %s; "
				  "what it is in now is not known",
				  cleat_migration_state_name(from),
				  cleat_migration_state_name(to),
				  strerror(-err));
	return cleat_fail(reterr, CLEAT_ORIGIN_DEVICE, err,
			  "the device did not go from %s to %s: %s; it is in "
			  "%s now", cleat_migration_state_name(from),
			  cleat_migration_state_name(to), strerror(-err),
			  cleat_migration_state_name(mig->state));
}

int cleat_migration_walk(struct cleat_migration *mig, unsigned to,
			 struct cleat_error *reterr)
{
	int err = 0;

	for (int i = 0; !err && mig->state != to && i < MOST_STEPS; i++) {
		int next = cleat_migration_step(mig->way->generation,
						mig->state, to);

		if (next < 0)
			return no_way(mig, to, reterr);
		err = step(mig, (unsigned)next, reterr);
	}
	return err;
}

int cleat_migration_state(struct cleat_migration *mig,
			  enum cleat_migration_state *ret_state)
{
	int err;

	pthread_mutex_lock(&mig->lock);
	err = cleat_migration_ask(mig, NULL);
	if (!err)
		*ret_state = mig->state;
	pthread_mutex_unlock(&mig->lock);
	return err;
}

void cleat_migration_new_stream(struct cleat_migration *mig,
				enum cleat_migration_stream stream)
{
	mig->stream = stream;
	mig->head_done = false;
	mig->number = 0;
	mig->section = UINT64_MAX;
	mig->v1.open = false;
	atomic_store(&mig->bytes, 0);
	atomic_store(&mig->framing, 0);
}

/* The first generation does not say beforehand that it has no PRE_COPY. */
static int go_pre_copy(struct cleat_migration *mig, struct cleat_error *reterr)
{
	int err = cleat_migration_walk(mig, CLEAT_MIGRATION_PRE_COPY, reterr);

	if (!err || mig->way->generation == 2 ||
	    mig->state != CLEAT_MIGRATION_RUNNING ||
	    cleat_device_is_lost(mig->dev))
		return err;
	mig->pre_copy = false;
	return 0;
}

static int start(struct cleat_migration *mig, struct cleat_error *reterr)
{
	int err = cleat_migration_ask(mig, reterr);

	if (err)
		return err;
	if (mig->state != CLEAT_MIGRATION_RUNNING)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "the device is in %s, not in RUNNING",
				  cleat_migration_state_name(mig->state));
	cleat_migration_new_stream(mig, CLEAT_MIGRATION_SAVING);
	atomic_store(&mig->cancelled, false);
	return mig->pre_copy ? go_pre_copy(mig, reterr) : 0;
}

int cleat_migration_start(struct cleat_migration *mig,
			  struct cleat_error *reterr)
{
	int err;

	pthread_mutex_lock(&mig->lock);
	err = start(mig, reterr);
	pthread_mutex_unlock(&mig->lock);
	return err;
}

int cleat_migration_stop(struct cleat_migration *mig,
			 struct cleat_error *reterr)
{
	int err;

	pthread_mutex_lock(&mig->lock);
	if (mig->stream != CLEAT_MIGRATION_SAVING)
		err = cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				 "no stream has been started");
	else
		err = cleat_migration_walk(mig, CLEAT_MIGRATION_STOP_COPY,
					   reterr);
	pthread_mutex_unlock(&mig->lock);
	return err;
}

static int run(struct cleat_migration *mig, struct cleat_error *reterr)
{
	int err = cleat_migration_ask(mig, reterr);

	if (err)
		return err;
	if (mig->state == CLEAT_MIGRATION_RESUMING &&
	    mig->stream != CLEAT_MIGRATION_COMPLETE)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "the device has half a state: reset it");
	err = cleat_migration_walk(mig, CLEAT_MIGRATION_RUNNING, reterr);
	if (!err)
		mig->stream = CLEAT_MIGRATION_NO_STREAM;
	return err;
}

int cleat_migration_run(struct cleat_migration *mig, struct cleat_error *reterr)
{
	int err;

	pthread_mutex_lock(&mig->lock);
	err = run(mig, reterr);
	pthread_mutex_unlock(&mig->lock);
	return err;
}

/* --- Looking on ---------------------------------------------------------- */

int cleat_migration_info(struct cleat_migration *mig,
			 struct cleat_migration_info *info)
{
	if (info->size != sizeof(*info))
		return -EINVAL;
	info->flags = mig->pre_copy ? CLEAT_MIGRATION_INFO_PRE_COPY : 0;
	info->generation = mig->way->generation;
	info->state = atomic_load(&mig->state);
	info->bytes = atomic_load(&mig->bytes);
	info->framing = atomic_load(&mig->framing);
	return 0;
}

int cleat_migration_left(struct cleat_migration *mig, uint64_t *ret_bytes)
{
	int err = mig->way->left(mig, ret_bytes);

	if (err != -ENODATA)
		return err;
	if (mig->section == UINT64_MAX)
		return -ENODATA;
	*ret_bytes = mig->section;
	return 0;
}

int cleat_migration_estimate(struct cleat_migration *mig, uint64_t *ret_bytes)
{
	int err;

	pthread_mutex_lock(&mig->lock);
	err = cleat_migration_left(mig, ret_bytes);
	pthread_mutex_unlock(&mig->lock);
	return err;
}

void cleat_migration_cancel(struct cleat_migration *mig)
{
	atomic_store(&mig->cancelled, true);
}

int cleat_migration_check(struct cleat_migration *mig,
			  struct cleat_error *reterr)
{
	if (!atomic_load(&mig->cancelled))
		return 0;
	return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ECANCELED,
			  "device state: called off");
}

int cleat_migration_tell(struct cleat_migration *mig,
			 const struct cleat_migration_io *io, uint64_t left,
			 bool final)
{
	const struct cleat_migration_progress progress = {
		.bytes = atomic_load(&mig->bytes),
		.left = left,
		.final = final,
	};

	if (!io->progress || !io->progress(io->opaque, &progress))
		return 0;
	cleat_migration_cancel(mig);
	return -ECANCELED;
}
