/* SPDX-License-Identifier: BSD-2-Clause */
/* The second generation: a feature for the state, two commands for the data. */
#include <errno.h>
#include <linux/vfio.h>

#include "migration/migration.h"

static int get_state(struct cleat_migration *mig, unsigned *ret_state)
{
	struct cleat_wire_mig_state state = { 0 };
	size_t got = 0;
	int err = cleat_device_feature(mig->dev,
				       VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
				       CLEAT_FEATURE_GET, &state, 0,
				       sizeof(state), &got);

	if (err)
		return err;
	if (got < sizeof(state.state) || state.state == 5 ||
	    state.state >= CLEAT_MIGRATION_STATES)
		return -EPROTO;
	*ret_state = state.state;
	return 0;
}

static int set_state(struct cleat_migration *mig, unsigned state)
{
	struct cleat_wire_mig_state body = { .state = state };

	return cleat_device_feature(mig->dev,
				    VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
				    CLEAT_FEATURE_SET, &body, sizeof(body),
				    sizeof(body), NULL);
}

/*
 * Some servers reply with as many bytes as were asked for, and say in the head
 * how many of them are meant.
 */
static int read_data(struct cleat_migration *mig, void *buf, size_t room,
		     size_t *ret_got, bool *ret_last)
{
	struct cleat_wire_mig_data head = {
		.argsz = (uint32_t)(sizeof(head) + room),
		.size = (uint32_t)room,
	}, reply;
	struct cleat_call call = {
		.command = VFIO_USER_MIG_DATA_READ,
		.deadline_class = CLEAT_CALL_QUIESCE,
		.head = &head,
		.head_size = sizeof(head),
		.reply = &reply,
		.reply_min = sizeof(reply),
		.reply_size = sizeof(reply),
		.reply_data = buf,
		.reply_data_size = room,
	};
	int err = cleat_call(mig->dev, &call, NULL);

	if (err)
		return err;
	if (reply.size > room || reply.size > call.got - sizeof(reply))
		return -EPROTO;
	*ret_got = reply.size;
	*ret_last = false;
	return 0;
}

static int write_data(struct cleat_migration *mig, const void *buf, size_t size,
		      bool last)
{
	struct cleat_wire_mig_data head = {
		.argsz = (uint32_t)(sizeof(head) + size),
		.size = (uint32_t)size,
	}, echo;
	struct cleat_call call = {
		.command = VFIO_USER_MIG_DATA_WRITE,
		.deadline_class = CLEAT_CALL_QUIESCE,
		.head = &head,
		.head_size = sizeof(head),
		.data = buf,
		.data_size = size,
		.reply = &echo,
		.reply_size = sizeof(echo),
	};

	return cleat_call(mig->dev, &call, NULL);
}

static int left(struct cleat_migration *mig, uint64_t *ret_bytes)
{
	uint64_t size = 0;
	size_t got = 0;
	int err = cleat_device_feature(mig->dev, CLEAT_FEATURE_MIG_DATA_SIZE,
				       CLEAT_FEATURE_GET, &size, 0,
				       sizeof(size), &got);

	if (err || got < sizeof(size))
		return -ENODATA;
	*ret_bytes = size;
	return 0;
}

static const struct cleat_migration_way way = {
	.generation = 2,
	.get_state = get_state,
	.set_state = set_state,
	.read = read_data,
	.write = write_data,
	.left = left,
};

int cleat_migration_find_v2(struct cleat_migration *mig)
{
	uint64_t flags = 0;
	size_t got = 0;
	int err = cleat_device_feature(mig->dev, VFIO_DEVICE_FEATURE_MIGRATION,
				       CLEAT_FEATURE_GET, &flags, 0,
				       sizeof(flags), &got);

	if (err == -ENOTCONN || err == -ETIMEDOUT || err == -ECANCELED ||
	    err == -ESHUTDOWN || err == -ENOMEM)
		return err;
	/* Servers that do not know the command answer it in many ways. */
	if (err || got < sizeof(flags) || !(flags & CLEAT_MIG_STOP_COPY))
		return -EOPNOTSUPP;
	mig->pre_copy = flags & CLEAT_MIG_PRE_COPY;
	mig->way = &way;
	return 0;
}
