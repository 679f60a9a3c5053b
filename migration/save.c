/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>

#include "migration/migration.h"

#define SECTION_MOST (UINT64_C(64) << 20)

/**
 * struct section - one section on its way out
 * @max:   of state, where it does not have to be all
 * @bytes: of state, so far
 * @held:  of them in mig->buf
 */
struct section {
	struct cleat_migration *mig;
	const struct cleat_migration_io *io;
	struct cleat_error *reterr;
	bool final;
	uint64_t max;
	uint64_t bytes;
	uint64_t left;
	uint32_t held;
};

static int put(struct section *s, const void *data, size_t size)
{
	int err = s->io->write(s->io->opaque, data, size);

	if (err)
		return cleat_fail(s->reterr, CLEAT_ORIGIN_LOCAL, err,
				  "device state: writing the stream: %s",
				  strerror(-err));
	return 0;
}

static int put_head(struct section *s)
{
	struct cleat_migration *mig = s->mig;
	struct cleat_stream_head head;
	int err;

	if (mig->head_done)
		return 0;
	cleat_stream_make_head(&head, mig->way->generation, &mig->identity);
	err = put(s, &head, sizeof(head));
	mig->head_done = !err;
	atomic_fetch_add(&mig->framing, sizeof(head));
	return err;
}

static int put_frame(struct section *s, uint32_t type, const void *payload,
		     uint32_t length)
{
	struct cleat_migration *mig = s->mig;
	struct cleat_stream_frame frame;
	int err;

	cleat_stream_make_frame(&frame, type, mig->number++, payload, length);
	err = put(s, &frame, sizeof(frame));
	if (!err && length)
		err = put(s, payload, length);
	atomic_fetch_add(&mig->framing, sizeof(frame));
	return err;
}

/* What is held goes out, and whoever wants to know hears of it. */
static int flush(struct section *s, bool last)
{
	struct cleat_migration *mig = s->mig;
	int err = cleat_migration_check(mig, s->reterr);

	if (err || !s->held)
		return err;
	err = put_frame(s, last ? CLEAT_STREAM_LAST : CLEAT_STREAM_DATA,
			mig->buf, s->held);
	if (err)
		return err;
	atomic_fetch_add(&mig->bytes, s->held);
	if (s->left != UINT64_MAX)
		s->left -= s->left < s->held ? s->left : s->held;
	s->held = 0;
	if (atomic_load(&mig->bytes) > CLEAT_STREAM_MOST)
		return cleat_fail(s->reterr, CLEAT_ORIGIN_DEVICE, -EFBIG,
				  "device state: it does not end");
	err = cleat_migration_tell(mig, s->io, s->left, s->final);
	return err ? cleat_migration_check(mig, s->reterr) : 0;
}

/*
 * One message. *@ret_more: there may be more at once. Running devices say by a
 * short answer that there is no more; of one that is stopped only an empty
 * answer is the end.
 */
static int pull(struct section *s, bool *ret_more)
{
	struct cleat_migration *mig = s->mig;
	size_t room = CLEAT_STREAM_FRAME - s->held, got = 0;
	bool last = false;
	int err;

	if (room > mig->max_piece)
		room = mig->max_piece;
	err = mig->way->read(mig, mig->buf + s->held, room, &got, &last);
	if (err)
		return cleat_fail(s->reterr, CLEAT_ORIGIN_DEVICE, err,
				  "device state: reading it from the server: "
				  "%s", strerror(-err));
	s->held += (uint32_t)got;
	s->bytes += got;
	*ret_more = s->final || last ? got : got == room;
	/* Between two pieces of the first generation is a good place to end. */
	if (!s->final && s->bytes >= s->max &&
	    (last || mig->way->generation == 2))
		*ret_more = false;
	if (last || s->held == CLEAT_STREAM_FRAME)
		return flush(s, last);
	return cleat_migration_check(mig, s->reterr);
}

static int put_end(struct section *s)
{
	struct cleat_stream_end end = { atomic_load(&s->mig->bytes) };

	if (!s->final)
		return put_frame(s, CLEAT_STREAM_SECTION, NULL, 0);
	atomic_fetch_add(&s->mig->framing, sizeof(end));
	return put_frame(s, CLEAT_STREAM_END, &end, sizeof(end));
}

static int save_section(struct section *s)
{
	struct cleat_migration *mig = s->mig;
	bool more = mig->state != CLEAT_MIGRATION_RUNNING;
	int err = cleat_migration_check(mig, s->reterr);

	if (!err)
		err = put_head(s);
	if (cleat_migration_left(mig, &s->left))
		s->left = UINT64_MAX;
	while (!err && more)
		err = pull(s, &more);
	if (!err)
		err = flush(s, false);
	if (!err)
		err = put_end(s);
	mig->section = s->bytes;
	return err;
}

static int check_save(struct cleat_migration *mig,
		      const struct cleat_migration_io *io,
		      struct cleat_error *reterr)
{
	unsigned state = mig->state;

	if (io->size < sizeof(*io) || !io->write)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "device state: nowhere to write it to");
	if (mig->stream != CLEAT_MIGRATION_SAVING)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "device state: no stream has been started");
	if (state != CLEAT_MIGRATION_RUNNING &&
	    state != CLEAT_MIGRATION_PRE_COPY &&
	    state != CLEAT_MIGRATION_STOP_COPY)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "device state: cannot be read in %s",
				  cleat_migration_state_name(state));
	return 0;
}

int cleat_migration_save(struct cleat_migration *mig,
			 const struct cleat_migration_io *io, uint64_t max,
			 struct cleat_error *reterr)
{
	struct section s = {
		.mig = mig,
		.io = io,
		.reterr = reterr,
		.max = max ? max : SECTION_MOST,
	};
	int err;

	pthread_mutex_lock(&mig->lock);
	s.final = mig->state == CLEAT_MIGRATION_STOP_COPY;
	err = check_save(mig, io, reterr);
	if (!err) {
		err = save_section(&s);
		if (err)
			mig->stream = CLEAT_MIGRATION_BROKEN;
		else if (s.final)
			mig->stream = CLEAT_MIGRATION_NO_STREAM;
	}
	pthread_mutex_unlock(&mig->lock);
	return err;
}
