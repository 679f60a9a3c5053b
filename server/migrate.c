/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Migration: in which state the device is, how it comes into another, and the
 * second generation's commands.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "server/server.h"

#define STATES 7
#define BIT(state) (1u << (state))
#define STOP BIT(CLEAT_SERVER_STOPPED)
#define RUN BIT(CLEAT_SERVER_RUNNING)
#define SAVE BIT(CLEAT_SERVER_SAVING)
#define LOAD BIT(CLEAT_SERVER_LOADING)
#define PRE BIT(CLEAT_SERVER_PRE_SAVING)

/* Where one step leads, by state. */
static const uint32_t second_steps[STATES] = {
	[CLEAT_SERVER_STOPPED] = RUN | SAVE | LOAD,
	[CLEAT_SERVER_RUNNING] = STOP | PRE,
	[CLEAT_SERVER_SAVING] = STOP,
	[CLEAT_SERVER_LOADING] = STOP,
	[CLEAT_SERVER_PRE_SAVING] = RUN | SAVE,
};

static const uint32_t first_steps[STATES] = {
	[CLEAT_SERVER_STOPPED] = RUN,
	[CLEAT_SERVER_RUNNING] = STOP | SAVE | LOAD | PRE,
	[CLEAT_SERVER_SAVING] = STOP,
	[CLEAT_SERVER_LOADING] = RUN,
	[CLEAT_SERVER_PRE_SAVING] = RUN | SAVE,
};

bool cleat_srv_mig_v1(const struct cleat_server *srv)
{
	return srv->mig && srv->mig->ops.flags & CLEAT_SERVER_MIGRATE_V1;
}

static bool can_step(const struct cleat_server *srv, unsigned from, unsigned to)
{
	const uint32_t *steps =
		cleat_srv_mig_v1(srv) ? first_steps : second_steps;

	if (to == CLEAT_SERVER_PRE_SAVING &&
	    !(srv->mig->ops.flags & CLEAT_SERVER_MIGRATE_PRE_COPY))
		return false;
	return steps[from] & BIT(to);
}

/*
 * The first step of the shortest way to @to, over STOPPED and RUNNING only; 0
 * if there is none. Two of them are the most that can lie between.
 */
static unsigned find_step(const struct cleat_server *srv, unsigned from,
			  unsigned to)
{
	const unsigned by[] = { CLEAT_SERVER_STOPPED, CLEAT_SERVER_RUNNING };

	if (can_step(srv, from, to))
		return to;
	if (cleat_srv_mig_v1(srv) || (from == CLEAT_SERVER_SAVING &&
				      to == CLEAT_SERVER_PRE_SAVING))
		return 0;
	for (unsigned i = 0; i < 2; i++)
		if (can_step(srv, from, by[i]) && can_step(srv, by[i], to))
			return by[i];
	for (unsigned i = 0; i < 2; i++)
		if (can_step(srv, from, by[i]) &&
		    can_step(srv, by[i], by[!i]) && can_step(srv, by[!i], to))
			return by[i];
	return 0;
}

static bool at_rest(unsigned state)
{
	return state != CLEAT_SERVER_RUNNING &&
	       state != CLEAT_SERVER_PRE_SAVING;
}

static int step(struct cleat_server *srv, unsigned to)
{
	struct cleat_srv_migration *mig = srv->mig;
	unsigned from = mig->state;
	int err = 0;

	if (from == CLEAT_SERVER_LOADING)
		err = cleat_srv_records_done(srv);
	if (err)
		return err;
	if (at_rest(to))
		cleat_srv_pause(srv, true);
	if (mig->ops.change)
		err = mig->ops.change(srv->opaque, from, to);
	cleat_srv_pause(srv, at_rest(err ? from : to));
	if (err)
		return err;
	mig->state = to;
	mig->piece = 0;
	if (to == CLEAT_SERVER_LOADING)
		cleat_srv_records_begin(&mig->in);
	if (to == CLEAT_SERVER_PRE_SAVING ||
	    (to == CLEAT_SERVER_SAVING && from != CLEAT_SERVER_PRE_SAVING))
		cleat_srv_records_begin(&mig->out);
	return 0;
}

int cleat_srv_mig_set(struct cleat_server *srv, unsigned state)
{
	int err = 0;

	/* The device waits for the client in the middle of something. */
	if (srv->nested)
		return -EBUSY;
	if (state >= STATES)
		return -EINVAL;
	while (!err && srv->mig->state != state) {
		unsigned next = find_step(srv, srv->mig->state, state);

		err = next ? step(srv, next) : -EINVAL;
	}
	return err;
}

void cleat_srv_mig_reset(struct cleat_server *srv)
{
	if (!srv->mig)
		return;
	if (srv->mig->state && srv->mig->state != CLEAT_SERVER_RUNNING &&
	    srv->mig->ops.change)
		srv->mig->ops.change(srv->opaque, srv->mig->state,
				     CLEAT_SERVER_RUNNING);
	srv->mig->state = CLEAT_SERVER_RUNNING;
	srv->mig->piece = 0;
	cleat_srv_records_begin(&srv->mig->in);
	cleat_srv_records_begin(&srv->mig->out);
	cleat_srv_pause(srv, false);
}

/* ---- The second generation ---------------------------------------- */

static int reply_feature(struct cleat_server *srv, struct cleat_srv_msg *msg,
			 const void *data, size_t length)
{
	struct cleat_wire_feature feature;
	struct iovec payload[2] = { { &feature, sizeof(feature) },
				    { (void *)data, length } };

	memcpy(&feature, msg->body, sizeof(feature));
	if (feature.argsz < sizeof(feature) + length)
		return -EINVAL;
	feature.argsz = (uint32_t)(sizeof(feature) + length);
	return cleat_srv_reply_full(srv, msg, payload, NULL, 0);
}

static int set_feature(struct cleat_server *srv, struct cleat_srv_msg *msg)
{
	struct cleat_wire_mig_state state;
	size_t head = sizeof(struct cleat_wire_feature);
	int err;

	if (msg->length < head + sizeof(state))
		return -EINVAL;
	memcpy(&state, msg->body + head, sizeof(state));
	err = cleat_srv_mig_set(srv, state.state);
	return err ? err : cleat_srv_reply(srv, msg, msg->body, msg->length);
}

int cleat_srv_mig_feature(struct cleat_server *srv, struct cleat_srv_msg *msg,
			  uint32_t number, uint32_t way)
{
	struct cleat_wire_mig_state state = { 0 };
	uint64_t value;
	bool set = number == VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE &&
		   way & VFIO_DEVICE_FEATURE_SET;

	if (!srv->mig)
		return -EINVAL;
	if (way & VFIO_DEVICE_FEATURE_PROBE)
		return way & VFIO_DEVICE_FEATURE_SET && !set ?
			       -EINVAL :
			       cleat_srv_reply(srv, msg, msg->body,
					       msg->length);
	if (set)
		return set_feature(srv, msg);
	if (way != VFIO_DEVICE_FEATURE_GET)
		return -EINVAL;
	state.state = srv->mig->state;
	if (number == VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE)
		return reply_feature(srv, msg, &state, sizeof(state));
	value = CLEAT_MIG_STOP_COPY;
	if (srv->mig->ops.flags & CLEAT_SERVER_MIGRATE_PRE_COPY)
		value |= CLEAT_MIG_PRE_COPY;
	if (number == CLEAT_FEATURE_MIG_DATA_SIZE)
		value = cleat_srv_records_left(srv);
	return reply_feature(srv, msg, &value, sizeof(value));
}

static int read_data(struct cleat_server *srv, struct cleat_srv_msg *msg,
		     size_t room)
{
	struct cleat_wire_mig_data head;
	struct iovec payload[2] = { { &head, sizeof(head) } };
	uint8_t *buf = malloc(room + 1);
	int64_t n;
	int err;

	if (!buf)
		return -ENOMEM;
	n = cleat_srv_records_out(srv, buf, room);
	if (n < 0) {
		free(buf);
		return (int)n;
	}
	head.size = (uint32_t)n;
	head.argsz = (uint32_t)(sizeof(head) + (size_t)n);
	payload[1] = (struct iovec){ buf, (size_t)n };
	err = cleat_srv_reply_full(srv, msg, payload, NULL, 0);
	free(buf);
	return err;
}

int cleat_srv_mig_read(struct cleat_server *srv, struct cleat_srv_msg *msg)
{
	struct cleat_wire_mig_data head;

	if (!srv->mig || cleat_srv_mig_v1(srv) || msg->length < sizeof(head))
		return -EINVAL;
	memcpy(&head, msg->body, sizeof(head));
	if ((srv->mig->state != CLEAT_SERVER_SAVING &&
	     srv->mig->state != CLEAT_SERVER_PRE_SAVING) ||
	    head.size > srv->config.max_data_xfer ||
	    head.argsz < sizeof(head) + head.size)
		return -EINVAL;
	return read_data(srv, msg, head.size);
}

int cleat_srv_mig_write(struct cleat_server *srv, struct cleat_srv_msg *msg)
{
	struct cleat_wire_mig_data head;
	int err;

	if (!srv->mig || cleat_srv_mig_v1(srv) || msg->length < sizeof(head))
		return -EINVAL;
	memcpy(&head, msg->body, sizeof(head));
	if (srv->mig->state != CLEAT_SERVER_LOADING ||
	    head.size > srv->config.max_data_xfer ||
	    msg->length - sizeof(head) != head.size)
		return -EINVAL;
	err = cleat_srv_records_in(srv, msg->body + sizeof(head), head.size);
	return err ? err : cleat_srv_reply(srv, msg, NULL, 0);
}

/* ---- Making it ---------------------------------------------------- */

static int check(const struct cleat_server *srv,
		 const struct cleat_server_migration *given)
{
	const uint32_t all =
		CLEAT_SERVER_MIGRATE_V1 | CLEAT_SERVER_MIGRATE_PRE_COPY;

	if (given->size < sizeof(*given) || given->flags & ~all ||
	    !given->name || strlen(given->name) >= sizeof(srv->mig->name) ||
	    !given->save || !given->load || !given->loaded)
		return -EINVAL;
	if (srv->mig)
		return -EEXIST;
	return srv->conn.fd >= 0 ? -EBUSY : 0;
}

int cleat_server_add_migration(struct cleat_server *srv,
			       const struct cleat_server_migration *given,
			       struct cleat_error *reterr)
{
	struct cleat_srv_migration *mig;
	int err = check(srv, given);

	if (err)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
				  "migration: %s", strerror(-err));
	mig = calloc(1, sizeof(*mig));
	if (mig) {
		mig->fd = -1;
		mig->config = calloc(1, 4096);
		mig->table = calloc(1, CLEAT_SERVER_RECORD);
	}
	if (!mig || !mig->config || !mig->table) {
		if (mig)
			free(mig->config);
		free(mig);
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ENOMEM,
				  "migration: no memory");
	}
	mig->ops = *given;
	strcpy(mig->name, given->name);
	srv->mig = mig;
	cleat_srv_mig_reset(srv);
	if (given->flags & CLEAT_SERVER_MIGRATE_V1)
		return cleat_srv_mig_region_add(srv, reterr);
	return 0;
}

void cleat_srv_mig_end(struct cleat_server *srv)
{
	struct cleat_srv_migration *mig = srv->mig;

	if (!mig)
		return;
	if (mig->area)
		munmap(mig->area, CLEAT_SRV_MIG_AREA);
	cleat_close(&mig->fd);
	free(mig->config);
	free(mig->table);
	free(mig);
	srv->mig = NULL;
}
