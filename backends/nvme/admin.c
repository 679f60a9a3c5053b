/* SPDX-License-Identifier: BSD-2-Clause */
/* Admin commands: which there are, and those about queues. */
#include "backends/nvme/private.h"

#define QUEUE_PC (1u << 0)
#define CQ_IEN (1u << 1)

/* Spans the whole queue memory? Then the address is page-aligned. */
static bool aligned(const struct cleat_nvme *n, uint64_t addr)
{
	return !(addr & ((1ull << n->page_bits) - 1));
}

static unsigned check_new_queue(const struct cleat_nvme *n,
				const struct nvme_command *cmd, unsigned entry)
{
	uint32_t size = (cmd->cdw10 >> 16) + 1;

	/* The entry size has to be set in CC first. */
	if (size < 2 || size > NVME_QUEUE_ENTRIES || !entry)
		return NVME_QUEUE_SIZE;
	/* CAP.CQR: contiguous, or not at all. */
	if (!(cmd->cdw11 & QUEUE_PC))
		return NVME_INVALID_FIELD;
	if (!aligned(n, cmd->prp1))
		return NVME_PRP_OFFSET;
	return NVME_SUCCESS;
}

static bool io_queue_id(const struct cleat_nvme *n, unsigned id)
{
	return id >= 1 && id <= n->queues;
}

unsigned cleat_nvme_create_cq(struct cleat_nvme *n, struct nvme_request *req)
{
	const struct nvme_command *cmd = &req->cmd;
	uint16_t id = (uint16_t)cmd->cdw10;
	unsigned vector = cmd->cdw11 >> 16;
	bool ien = cmd->cdw11 & CQ_IEN;
	unsigned status;

	if (!io_queue_id(n, id) || n->cqs[id].live)
		return NVME_QID_INVALID;
	status = check_new_queue(n, cmd, NVME_CC_IOCQES(n->cc) == 4);
	if (status)
		return status;
	if (ien && vector > n->queues)
		return NVME_INVALID_VECTOR;
	cleat_nvme_cq_start(n, id, cmd->prp1, (cmd->cdw10 >> 16) + 1);
	n->cqs[id].ien = ien;
	n->cqs[id].vector = ien ? (uint16_t)vector : 0;
	return NVME_SUCCESS;
}

unsigned cleat_nvme_create_sq(struct cleat_nvme *n, struct nvme_request *req)
{
	const struct nvme_command *cmd = &req->cmd;
	uint16_t id = (uint16_t)cmd->cdw10;
	unsigned cq = cmd->cdw11 >> 16;
	unsigned status;

	if (!io_queue_id(n, id) || n->sqs[id].live || !cq)
		return NVME_QID_INVALID;
	if (!io_queue_id(n, cq) || !n->cqs[cq].live)
		return NVME_CQ_INVALID;
	status = check_new_queue(n, cmd, NVME_CC_IOSQES(n->cc) == 6);
	if (status)
		return status;
	cleat_nvme_sq_start(n, id, cmd->prp1, (cmd->cdw10 >> 16) + 1,
			    &n->cqs[cq]);
	return NVME_SUCCESS;
}

/* Commands run to their end one at a time, so none is under way. */
unsigned cleat_nvme_delete_sq(struct cleat_nvme *n, struct nvme_request *req)
{
	uint16_t id = (uint16_t)req->cmd.cdw10;

	if (!io_queue_id(n, id) || !n->sqs[id].live)
		return NVME_QID_INVALID;
	cleat_nvme_sq_stop(n, &n->sqs[id]);
	return NVME_SUCCESS;
}

unsigned cleat_nvme_delete_cq(struct cleat_nvme *n, struct nvme_request *req)
{
	uint16_t id = (uint16_t)req->cmd.cdw10;

	if (!io_queue_id(n, id) || !n->cqs[id].live)
		return NVME_QID_INVALID;
	if (n->cqs[id].users)
		return NVME_QUEUE_DELETION;
	cleat_nvme_cq_stop(n, &n->cqs[id]);
	return NVME_SUCCESS;
}

bool cleat_nvme_io_queues_exist(const struct cleat_nvme *n)
{
	for (unsigned i = 1; i <= n->queues; i++)
		if (n->sqs[i].live || n->cqs[i].live)
			return true;
	return false;
}

/*
 * Only an asynchronous event request is ever outstanding when an Abort runs:
 * bit 0 of the result says that nothing was aborted.
 */
static unsigned abort_command(struct cleat_nvme *n, struct nvme_request *req)
{
	uint16_t sq_id = (uint16_t)req->cmd.cdw10;
	uint16_t cid = (uint16_t)(req->cmd.cdw10 >> 16);

	if (sq_id > n->queues || !n->sqs[sq_id].live)
		return NVME_INVALID_FIELD;
	req->result = sq_id || !cleat_nvme_event_abort(n, cid);
	return NVME_SUCCESS;
}

/*
 * Offered only where doorbells are rung without a value. The values in the
 * buffer count from here on, for queues that exist as well.
 */
unsigned cleat_nvme_dbbuf_config(struct cleat_nvme *n, struct nvme_request *req)
{
	if (n->doorbells != NVME_IOEVENTFD)
		return NVME_INVALID_OPCODE;
	if (!aligned(n, req->cmd.prp1) || !aligned(n, req->cmd.prp2))
		return NVME_INVALID_FIELD;
	n->dbbuf.doorbells = req->cmd.prp1;
	n->dbbuf.eventidx = req->cmd.prp2;
	n->dbbuf.on = true;
	n->value_missing = false;
	for (unsigned i = 1; i <= n->queues; i++) {
		n->sqs[i].armed = UINT32_MAX;
		n->cqs[i].armed = UINT32_MAX;
	}
	return NVME_SUCCESS;
}

unsigned cleat_nvme_admin(struct cleat_nvme *n, struct nvme_request *req)
{
	static nvme_handler *const handlers[256] = {
		[NVME_ADMIN_DELETE_SQ] = cleat_nvme_delete_sq,
		[NVME_ADMIN_CREATE_SQ] = cleat_nvme_create_sq,
		[NVME_ADMIN_GET_LOG] = cleat_nvme_get_log,
		[NVME_ADMIN_DELETE_CQ] = cleat_nvme_delete_cq,
		[NVME_ADMIN_CREATE_CQ] = cleat_nvme_create_cq,
		[NVME_ADMIN_IDENTIFY] = cleat_nvme_identify,
		[NVME_ADMIN_ABORT] = abort_command,
		[NVME_ADMIN_SET_FEATURES] = cleat_nvme_set_features,
		[NVME_ADMIN_GET_FEATURES] = cleat_nvme_get_features,
		[NVME_ADMIN_ASYNC_EVENT] = cleat_nvme_async_event,
		[NVME_ADMIN_DBBUF] = cleat_nvme_dbbuf_config,
	};
	nvme_handler *handler = handlers[req->cmd.opcode];

	return handler ? handler(n, req) : NVME_INVALID_OPCODE;
}
