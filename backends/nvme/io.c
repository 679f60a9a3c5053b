/* SPDX-License-Identifier: BSD-2-Clause */
/* The NVM command set. */
#include <errno.h>
#include <string.h>

#include "backends/nvme/private.h"

#define COMPARE_CHUNK 4096u

static uint64_t blocks(const struct cleat_nvme *n)
{
	return n->disk->size / n->disk->block_size;
}

static unsigned check_range(const struct cleat_nvme *n,
			    struct nvme_request *req, uint64_t slba,
			    uint64_t count)
{
	req->lba = slba;
	if (slba > blocks(n) || count > blocks(n) - slba)
		return NVME_LBA_RANGE;
	return NVME_SUCCESS;
}

static uint64_t slba_of(const struct nvme_command *cmd)
{
	return (uint64_t)cmd->cdw11 << 32 | cmd->cdw10;
}

static uint32_t nlb_of(const struct nvme_command *cmd)
{
	return (cmd->cdw12 & 0xffff) + 1;
}

/* A lost write that was never told again: the disk is not to be trusted. */
static void tell_sync_error(struct cleat_nvme *n)
{
	if (!n->disk->sync_error || n->warnings & NVME_WARN_RELIABILITY)
		return;
	cleat_nvme_warning(n, NVME_WARN_RELIABILITY, NVME_HEALTH_RELIABILITY);
	/* Once, whatever other lines there were. */
	n->ops.warn(n->opaque, "data did not reach the disk: flushes fail "
			       "from now on");
}

static unsigned write_status(struct cleat_nvme *n, int err)
{
	switch (err) {
	case 0:
		return NVME_SUCCESS;
	case -ENOSPC:
	case -EDQUOT:
	case -EFBIG:
		tell_sync_error(n);
		return NVME_CAPACITY;
	case -EFAULT:
		return NVME_DATA_TRANSFER;
	}
	n->health.media_errors[0]++;
	tell_sync_error(n);
	return NVME_WRITE_FAULT;
}

static unsigned read_status(struct cleat_nvme *n, int err)
{
	if (!err)
		return NVME_SUCCESS;
	if (err == -EFAULT)
		return NVME_DATA_TRANSFER;
	n->health.media_errors[0]++;
	return NVME_READ_ERROR;
}

static bool adjoins(const struct iovec *first, const struct iovec *next)
{
	return (char *)first->iov_base + first->iov_len == next->iov_base;
}

/* Takes @got new entries at @used in, joined with the last if they adjoin. */
static unsigned merge(struct iovec *iov, unsigned used, unsigned got)
{
	if (!used || !adjoins(&iov[used - 1], &iov[used]))
		return used + got;
	iov[used - 1].iov_len += iov[used].iov_len;
	memmove(&iov[used], &iov[used + 1], (got - 1) * sizeof(*iov));
	return used + got - 1;
}

/* The host's addresses of all the data, or 0 if some is to be copied. */
static unsigned map_data(struct cleat_nvme *n, const struct nvme_data *data,
			 uint32_t rights, struct iovec *iov)
{
	unsigned used = 0;

	for (unsigned i = 0; i < data->n && used < NVME_IOV_MAX; i++) {
		int got = n->ops.map(n->opaque, data->ranges[i].addr,
				     data->ranges[i].length, rights,
				     iov + used, NVME_IOV_MAX - used);

		if (got <= 0)
			return 0;
		used = merge(iov, used, (unsigned)got);
	}
	return used;
}

static void dirty_data(struct cleat_nvme *n, const struct nvme_data *data)
{
	for (unsigned i = 0; i < data->n; i++)
		n->ops.dirty(n->opaque, data->ranges[i].addr,
			     data->ranges[i].length);
}

static unsigned read_copying(struct cleat_nvme *n, struct nvme_request *req,
			     uint32_t length, uint64_t offset)
{
	struct iovec iov = { n->bounce, length };
	unsigned status =
		read_status(n, cleat_nvme_disk_read(n->disk, &iov, 1, offset));

	if (status)
		return status;
	return cleat_nvme_data_out(n, req, n->bounce, length);
}

static unsigned read_blocks(struct cleat_nvme *n, struct nvme_request *req,
			    uint32_t length, uint64_t offset)
{
	struct iovec iov[NVME_IOV_MAX];
	struct nvme_data data;
	unsigned used, status = cleat_nvme_prps(n, &req->cmd, length, &data);

	if (status)
		return status;
	/* What is still in a cache is to be read from the medium. */
	if (req->cmd.cdw12 & NVME_RW_FUA)
		status = write_status(n, cleat_nvme_disk_flush(n->disk));
	if (status)
		return status;
	used = map_data(n, &data, CLEAT_WRITE, iov);
	if (!used)
		return read_copying(n, req, length, offset);
	status = read_status(
		n, cleat_nvme_disk_read(n->disk, iov, used, offset));
	dirty_data(n, &data);
	return status;
}

static bool durable(const struct cleat_nvme *n, const struct nvme_command *cmd)
{
	return cmd->cdw12 & NVME_RW_FUA || !n->features.write_cache;
}

static unsigned write_blocks(struct cleat_nvme *n, struct nvme_request *req,
			     uint32_t length, uint64_t offset)
{
	struct iovec iov[NVME_IOV_MAX];
	struct nvme_data data;
	unsigned used, status = cleat_nvme_prps(n, &req->cmd, length, &data);

	if (status)
		return status;
	used = map_data(n, &data, CLEAT_READ, iov);
	if (!used) {
		status = cleat_nvme_data_in(n, req, n->bounce, length);
		iov[0] = (struct iovec){ n->bounce, length };
		used = 1;
	}
	if (status)
		return status;
	return write_status(n, cleat_nvme_disk_write(n->disk, iov, used, offset,
						     durable(n, &req->cmd)));
}

static unsigned compare_range(struct cleat_nvme *n, struct nvme_range *range,
			      uint64_t offset)
{
	char disk[COMPARE_CHUNK], guest[COMPARE_CHUNK];

	while (range->length) {
		uint32_t chunk = range->length < COMPARE_CHUNK ? range->length :
								 COMPARE_CHUNK;
		struct iovec iov = { disk, chunk };
		int err = cleat_nvme_disk_read(n->disk, &iov, 1, offset);

		if (err)
			return read_status(n, err);
		if (cleat_nvme_copy_in(n, range->addr, guest, chunk))
			return NVME_DATA_TRANSFER;
		if (memcmp(disk, guest, chunk))
			return NVME_COMPARE_FAILURE;
		range->addr += chunk;
		range->length -= chunk;
		offset += chunk;
	}
	return NVME_SUCCESS;
}

static unsigned compare_blocks(struct cleat_nvme *n, struct nvme_request *req,
			       uint32_t length, uint64_t offset)
{
	struct nvme_data data;
	unsigned status = cleat_nvme_prps(n, &req->cmd, length, &data);

	for (unsigned i = 0; !status && i < data.n; i++) {
		uint32_t step = data.ranges[i].length;

		status = compare_range(n, &data.ranges[i], offset);
		offset += step;
	}
	return status;
}

typedef unsigned transfer(struct cleat_nvme *n, struct nvme_request *req,
			  uint32_t length, uint64_t offset);

/* What Read, Write and Compare have in common. */
static unsigned do_transfer(struct cleat_nvme *n, struct nvme_request *req,
			    transfer *transfer_blocks, uint64_t *bytes)
{
	uint64_t slba = slba_of(&req->cmd);
	uint64_t length = (uint64_t)nlb_of(&req->cmd) * n->disk->block_size;
	unsigned status;

	if (length > NVME_MDTS_BYTES)
		return NVME_INVALID_FIELD;
	status = check_range(n, req, slba, nlb_of(&req->cmd));
	if (!status)
		status = transfer_blocks(n, req, (uint32_t)length,
					 slba * n->disk->block_size);
	if (!status)
		*bytes += length;
	return status;
}

static unsigned flush_if_durable(struct cleat_nvme *n,
				 const struct nvme_command *cmd)
{
	if (!durable(n, cmd))
		return NVME_SUCCESS;
	return write_status(n, cleat_nvme_disk_flush(n->disk));
}

static unsigned write_zeroes(struct cleat_nvme *n, struct nvme_request *req)
{
	uint64_t slba = slba_of(&req->cmd), count = nlb_of(&req->cmd);
	unsigned status = check_range(n, req, slba, count);

	if (status)
		return status;
	status = write_status(
		n, cleat_nvme_disk_zero(n->disk, slba * n->disk->block_size,
					count * n->disk->block_size,
					req->cmd.cdw12 & NVME_WZ_DEAC));
	return status ? status : flush_if_durable(n, &req->cmd);
}

static unsigned discard(struct cleat_nvme *n,
			const struct nvme_dsm_range *range)
{
	uint64_t size = n->disk->block_size;

	if (!range->length)
		return NVME_SUCCESS;
	return write_status(n, cleat_nvme_disk_discard(n->disk,
						       range->slba * size,
						       range->length * size));
}

/* Deallocation is done, the other attributes are hints and are not taken. */
static unsigned dataset_management(struct cleat_nvme *n,
				   struct nvme_request *req)
{
	struct nvme_dsm_range ranges[NVME_DSM_RANGES];
	unsigned count = (req->cmd.cdw10 & 0xff) + 1;
	unsigned status = cleat_nvme_data_in(n, req, ranges,
					     count * sizeof(ranges[0]));

	for (unsigned i = 0; !status && i < count; i++)
		status = check_range(n, req, ranges[i].slba, ranges[i].length);
	if (!(req->cmd.cdw11 & NVME_DSM_AD))
		return status;
	for (unsigned i = 0; !status && i < count; i++)
		status = discard(n, &ranges[i]);
	return status;
}

static bool modifies(const struct nvme_command *cmd)
{
	switch (cmd->opcode) {
	case NVME_IO_WRITE:
	case NVME_IO_WRITE_ZEROES:
		return true;
	case NVME_IO_DSM:
		return cmd->cdw11 & NVME_DSM_AD;
	}
	return false;
}

static bool known(unsigned opcode)
{
	switch (opcode) {
	case NVME_IO_FLUSH:
	case NVME_IO_WRITE:
	case NVME_IO_READ:
	case NVME_IO_COMPARE:
	case NVME_IO_WRITE_ZEROES:
	case NVME_IO_DSM:
		return true;
	}
	return false;
}

static unsigned check(const struct cleat_nvme *n,
		      const struct nvme_command *cmd)
{
	bool broadcast = cmd->opcode == NVME_IO_FLUSH &&
			 cmd->nsid == 0xffffffff;

	if (!known(cmd->opcode))
		return NVME_INVALID_OPCODE;
	if (cmd->nsid != 1 && !broadcast)
		return NVME_INVALID_NSID;
	if (n->disk->read_only && modifies(cmd))
		return NVME_WRITE_PROTECTED;
	return NVME_SUCCESS;
}

unsigned cleat_nvme_io(struct cleat_nvme *n, struct nvme_request *req)
{
	struct cleat_nvme_stats *stats = &n->stats;
	unsigned status = check(n, &req->cmd);

	if (status)
		return status;
	switch (req->cmd.opcode) {
	case NVME_IO_FLUSH:
		return write_status(n, cleat_nvme_disk_flush(n->disk));
	case NVME_IO_WRITE:
		return do_transfer(n, req, write_blocks, &stats->bytes_written);
	case NVME_IO_READ:
		return do_transfer(n, req, read_blocks, &stats->bytes_read);
	case NVME_IO_COMPARE:
		return do_transfer(n, req, compare_blocks, &stats->bytes_read);
	case NVME_IO_WRITE_ZEROES:
		return write_zeroes(n, req);
	}
	return dataset_management(n, req);
}
