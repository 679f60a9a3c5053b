/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>

#include "migration/migration.h"

struct loading {
	struct cleat_migration *mig;
	const struct cleat_migration_io *io;
	struct cleat_error *reterr;
	struct cleat_stream_frame frame;
};

static int take(struct loading *l, void *data, size_t size)
{
	int err = l->io->read(l->io->opaque, data, size);

	if (err == -ENODATA)
		return cleat_fail(l->reterr, CLEAT_ORIGIN_LOCAL, err,
				  "device state: the stream ends in the "
				  "middle");
	if (err)
		return cleat_fail(l->reterr, CLEAT_ORIGIN_LOCAL, err,
				  "device state: reading the stream: %s",
				  strerror(-err));
	return 0;
}

/* The device has not been touched yet. */
static int take_head(struct loading *l)
{
	struct cleat_migration *mig = l->mig;
	struct cleat_stream_head head;
	int err = take(l, &head, CLEAT_STREAM_PREFIX);

	if (!err)
		err = cleat_stream_check_prefix(&head, l->reterr);
	if (!err)
		err = take(l, (char *)&head + CLEAT_STREAM_PREFIX,
			   sizeof(head) - CLEAT_STREAM_PREFIX);
	if (!err)
		err = cleat_stream_check_head(&head, mig->way->generation,
					      &mig->identity, l->reterr);
	atomic_fetch_add(&mig->framing, sizeof(head));
	return err;
}

static int take_frame(struct loading *l)
{
	struct cleat_migration *mig = l->mig;
	int err = cleat_migration_check(mig, l->reterr);

	if (!err)
		err = take(l, &l->frame, sizeof(l->frame));
	if (!err)
		err = cleat_stream_check_frame(&l->frame, mig->number,
					       l->reterr);
	if (!err && l->frame.length)
		err = take(l, mig->buf, l->frame.length);
	if (!err)
		err = cleat_stream_check_payload(&l->frame, mig->buf,
						 l->reterr);
	if (err)
		return err;
	mig->number++;
	atomic_fetch_add(&mig->framing, sizeof(l->frame));
	return 0;
}

static int give(struct loading *l)
{
	struct cleat_migration *mig = l->mig;
	bool last = l->frame.type == CLEAT_STREAM_LAST;
	uint32_t done = 0;
	int err = 0;

	while (!err && done < l->frame.length) {
		size_t part = l->frame.length - done;

		if (part > mig->max_piece)
			part = mig->max_piece;
		err = cleat_migration_check(mig, l->reterr);
		if (err)
			return err;
		err = mig->way->write(mig, mig->buf + done, part,
				      last && done + part == l->frame.length);
		done += (uint32_t)part;
	}
	if (err)
		return cleat_fail(l->reterr, CLEAT_ORIGIN_DEVICE, err,
				  "device state: the server does not take it: "
				  "%s", strerror(-err));
	atomic_fetch_add(&mig->bytes, done);
	err = cleat_migration_tell(mig, l->io, UINT64_MAX, false);
	return err ? cleat_migration_check(mig, l->reterr) : 0;
}

/*
 * The second generation takes the state over on the way to STOP, the first on
 * the way to RUNNING, which is cleat_migration_run()'s.
 */
static int finish(struct loading *l)
{
	struct cleat_migration *mig = l->mig;
	struct cleat_stream_end end;
	int err = 0;

	memcpy(&end, mig->buf, sizeof(end));
	atomic_fetch_add(&mig->framing, sizeof(end));
	if (end.bytes != atomic_load(&mig->bytes))
		return cleat_fail(l->reterr, CLEAT_ORIGIN_LOCAL, -EBADMSG,
				  "device state: %llu bytes, and it should be "
				  "%llu",
				  (unsigned long long)atomic_load(&mig->bytes),
				  (unsigned long long)end.bytes);
	if (mig->way->generation == 2)
		err = cleat_migration_walk(mig, CLEAT_MIGRATION_STOP,
					   l->reterr);
	if (!err)
		mig->stream = CLEAT_MIGRATION_COMPLETE;
	return err;
}

static int load_section(struct loading *l, bool *ret_done)
{
	for (;;) {
		int err = take_frame(l);

		if (err)
			return err;
		switch (l->frame.type) {
		case CLEAT_STREAM_SECTION:
			*ret_done = false;
			return 0;
		case CLEAT_STREAM_END:
			err = finish(l);
			if (!err)
				*ret_done = true;
			return err;
		default:
			err = give(l);
			if (err)
				return err;
		}
	}
}

/* A known state, as far as the server lets itself be brought into one. */
static void give_up(struct cleat_migration *mig)
{
	struct cleat_cancel *cancel = cleat_cancel_current();

	mig->stream = CLEAT_MIGRATION_BROKEN;
	/* Called back in the middle of a reset, the connection would be lost */
	cleat_cancel_enter(NULL);
	if (!cleat_migration_ask(mig, NULL) &&
	    mig->state != CLEAT_MIGRATION_RUNNING &&
	    !cleat_device_reset(mig->dev))
		cleat_migration_ask(mig, NULL);
	cleat_cancel_enter(cancel);
}

static int begin(struct loading *l)
{
	struct cleat_migration *mig = l->mig;
	int err = cleat_migration_ask(mig, l->reterr);

	if (err)
		return err;
	if (mig->state != CLEAT_MIGRATION_RUNNING &&
	    mig->state != CLEAT_MIGRATION_STOP &&
	    mig->state != CLEAT_MIGRATION_RESUMING)
		return cleat_fail(l->reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "device state: cannot be loaded in %s",
				  cleat_migration_state_name(mig->state));
	cleat_migration_new_stream(mig, CLEAT_MIGRATION_BROKEN);
	err = take_head(l);
	if (err)
		return err;
	/* Half a stream may be in there already. */
	if (mig->state == CLEAT_MIGRATION_RESUMING)
		give_up(mig);
	err = cleat_migration_walk(mig, CLEAT_MIGRATION_RESUMING, l->reterr);
	if (err) {
		/* It may have got as far as STOP. */
		give_up(mig);
		return err;
	}
	mig->stream = CLEAT_MIGRATION_LOADING;
	return 0;
}

static int load(struct loading *l, bool *ret_done)
{
	struct cleat_migration *mig = l->mig;
	int err = 0;

	if (l->io->size < sizeof(*l->io) || !l->io->read)
		return cleat_fail(l->reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "device state: nowhere to read it from");
	if (mig->stream == CLEAT_MIGRATION_COMPLETE ||
	    mig->stream == CLEAT_MIGRATION_SAVING)
		return cleat_fail(l->reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "device state: another stream is in use");
	if (mig->stream != CLEAT_MIGRATION_LOADING)
		err = begin(l);
	if (err)
		return err;
	err = load_section(l, ret_done);
	if (err)
		give_up(mig);
	return err;
}

int cleat_migration_load(struct cleat_migration *mig,
			 const struct cleat_migration_io *io, bool *ret_done,
			 struct cleat_error *reterr)
{
	struct loading l = { .mig = mig, .io = io, .reterr = reterr };
	int err;

	pthread_mutex_lock(&mig->lock);
	err = load(&l, ret_done);
	pthread_mutex_unlock(&mig->lock);
	return err;
}
