/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The first generation: registers at the beginning of a region, and behind them
 * an area, which may be mapped, for one piece of state at a time.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "server/server.h"

#define LENGTH (CLEAT_SRV_MIG_HEAD + CLEAT_SRV_MIG_AREA)
#define REG(name) offsetof(struct cleat_wire_mig_region, name)

static const uint32_t bits_of[] = {
	[0] = CLEAT_MIG_V1_ERROR,
	[CLEAT_SERVER_STOPPED] = CLEAT_MIG_V1_STOP,
	[CLEAT_SERVER_RUNNING] = CLEAT_MIG_V1_RUNNING,
	[CLEAT_SERVER_SAVING] = CLEAT_MIG_V1_SAVING,
	[CLEAT_SERVER_LOADING] = CLEAT_MIG_V1_RESUMING,
	[5] = UINT32_MAX,
	[CLEAT_SERVER_PRE_SAVING] = CLEAT_MIG_V1_SAVING | CLEAT_MIG_V1_RUNNING,
};

/* Sealed, so that a client may trust it not to shrink. */
static int make_area(struct cleat_srv_migration *mig)
{
	void *map;

	mig->fd = memfd_create("cleat-migration",
			       MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (mig->fd < 0 || ftruncate(mig->fd, LENGTH) ||
	    fcntl(mig->fd, F_ADD_SEALS,
		  F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return -errno;
	map = mmap(NULL, CLEAT_SRV_MIG_AREA, PROT_READ | PROT_WRITE, MAP_SHARED,
		   mig->fd, CLEAT_SRV_MIG_HEAD);
	if (map == MAP_FAILED)
		return -errno;
	mig->area = map;
	return 0;
}

int cleat_srv_mig_region_add(struct cleat_server *srv,
			     struct cleat_error *reterr)
{
	int err = make_area(srv->mig);
	const struct cleat_server_area area = {
		.offset = CLEAT_SRV_MIG_HEAD,
		.length = CLEAT_SRV_MIG_AREA,
		.fd = srv->mig->fd,
		.fd_offset = CLEAT_SRV_MIG_HEAD,
	};
	const struct cleat_server_region region = {
		.size = sizeof(region),
		.index = CLEAT_SRV_MIG_REGION,
		.flags = CLEAT_REGION_READ | CLEAT_REGION_WRITE,
		.length = LENGTH,
		.areas = &area,
		.n_areas = 1,
		.type = CLEAT_MIG_REGION_TYPE,
		.subtype = CLEAT_MIG_REGION_SUBTYPE,
	};

	if (err)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
				  "migration region: %s", strerror(-err));
	return cleat_server_add_region(srv, &region, reterr);
}

/*
 * Asked again after the piece was looked at: it has been taken. Asked before,
 * somebody only wants to know how much there is.
 */
static int read_pending(struct cleat_server *srv, uint64_t *ret)
{
	struct cleat_srv_migration *mig = srv->mig;
	int64_t n;

	*ret = 0;
	if (mig->state != CLEAT_SERVER_SAVING &&
	    mig->state != CLEAT_SERVER_PRE_SAVING)
		return 0;
	if (mig->seen)
		mig->piece = 0;
	mig->seen = false;
	if (!mig->piece) {
		n = cleat_srv_records_out(srv, mig->area, CLEAT_SRV_MIG_AREA);
		if (n < 0)
			return (int)n;
		mig->piece = (uint64_t)n;
	}
	*ret = mig->piece;
	if (mig->piece)
		*ret += cleat_srv_records_left(srv);
	return 0;
}

static int read_register(struct cleat_server *srv, uint64_t offset,
			 uint64_t *ret)
{
	struct cleat_srv_migration *mig = srv->mig;

	*ret = 0;
	switch (offset) {
	case REG(state):
		*ret = bits_of[mig->state];
		break;
	case REG(pending_bytes):
		return read_pending(srv, ret);
	case REG(data_offset):
		*ret = CLEAT_SRV_MIG_HEAD;
		break;
	case REG(data_size):
		*ret = mig->piece;
		mig->seen = true;
		break;
	}
	return 0;
}

int cleat_srv_mig_region_read(struct cleat_server *srv, uint64_t offset,
			      void *buf, size_t count)
{
	uint64_t value;
	int err;

	if (offset >= CLEAT_SRV_MIG_HEAD) {
		memcpy(buf, srv->mig->area + (offset - CLEAT_SRV_MIG_HEAD),
		       count);
		return 0;
	}
	if (count > sizeof(value) || offset % 4)
		return -EINVAL;
	err = read_register(srv, offset, &value);
	if (!err)
		memcpy(buf, &value, count);
	return err;
}

static int write_state(struct cleat_server *srv, uint32_t bits)
{
	for (unsigned i = 1; i <= CLEAT_SERVER_PRE_SAVING; i++)
		if (bits_of[i] == bits && i != 5)
			return cleat_srv_mig_set(srv, i);
	return -EINVAL;
}

static int write_size(struct cleat_server *srv, uint64_t size)
{
	if (srv->mig->state != CLEAT_SERVER_LOADING ||
	    size > CLEAT_SRV_MIG_AREA)
		return -EINVAL;
	return cleat_srv_records_in(srv, srv->mig->area, size);
}

int cleat_srv_mig_region_write(struct cleat_server *srv, uint64_t offset,
			       const void *buf, size_t count)
{
	uint64_t value = 0;

	if (offset >= CLEAT_SRV_MIG_HEAD) {
		memcpy(srv->mig->area + (offset - CLEAT_SRV_MIG_HEAD), buf,
		       count);
		return 0;
	}
	if (count > sizeof(value))
		return -EINVAL;
	memcpy(&value, buf, count);
	if (offset == REG(state) && count == 4)
		return write_state(srv, (uint32_t)value);
	if (offset == REG(data_size) && count == 8)
		return write_size(srv, value);
	return -EINVAL;
}
