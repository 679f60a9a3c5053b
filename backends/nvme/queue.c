/* SPDX-License-Identifier: BSD-2-Clause */
/* Queues: fetching commands, posting completions, and the turn of the loop. */
#include <string.h>

#include "backends/nvme/private.h"

void cleat_nvme_cq_start(struct cleat_nvme *n, uint16_t id, uint64_t base,
			 uint32_t size)
{
	n->cqs[id] = (struct nvme_cq){
		.live = true,
		.id = id,
		.phase = 1,
		.size = size,
		.bad = UINT32_MAX,
		.armed = UINT32_MAX,
		.base = base,
	};
	cleat_nvme_doorbell_clear(n, 2u * id + 1);
}

void cleat_nvme_sq_start(struct cleat_nvme *n, uint16_t id, uint64_t base,
			 uint32_t size, struct nvme_cq *cq)
{
	n->sqs[id] = (struct nvme_sq){
		.live = true,
		.id = id,
		.size = size,
		.bad = UINT32_MAX,
		.armed = UINT32_MAX,
		.base = base,
		.cq = cq,
	};
	cq->users++;
	cleat_nvme_doorbell_clear(n, 2u * id);
}

void cleat_nvme_sq_stop(struct cleat_nvme *n, struct nvme_sq *sq)
{
	if (!sq->live)
		return;
	sq->cq->users--;
	/* Whoever was blocked says so again. */
	sq->cq->blocked = false;
	memset(sq, 0, sizeof(*sq));
}

void cleat_nvme_cq_stop(struct cleat_nvme *n, struct nvme_cq *cq)
{
	memset(cq, 0, sizeof(*cq));
	cleat_nvme_irq_update_pin(n);
}

static bool full(const struct nvme_cq *cq)
{
	return (cq->tail + 1) % cq->size == cq->head;
}

bool cleat_nvme_cq_room(struct cleat_nvme *n, struct nvme_cq *cq)
{
	if (!full(cq))
		return true;
	cleat_nvme_refresh_cq(n, cq);
	if (!full(cq))
		return true;
	n->stats.cq_full += !cq->blocked;
	cq->blocked = true;
	return false;
}

/* The last word holds the phase: the guest takes the entry by it. */
static int post(struct cleat_nvme *n, uint64_t addr,
		const struct nvme_completion *entry)
{
	char *there = cleat_nvme_map_word(n, addr, sizeof(*entry), CLEAT_WRITE);
	uint32_t last;
	int err;

	memcpy(&last, &entry->cid, 4);
	if (!there) {
		err = n->ops.write(n->opaque, addr, entry, 12);
		return err ? err : n->ops.write(n->opaque, addr + 12, &last, 4);
	}
	memcpy(there, entry, 12);
	/* Release: the entry's other words are seen before its phase. */
	__atomic_store_n((uint32_t *)(there + 12), last, __ATOMIC_RELEASE);
	n->ops.dirty(n->opaque, addr, sizeof(*entry));
	return 0;
}

void cleat_nvme_complete(struct cleat_nvme *n, struct nvme_sq *sq,
			 uint16_t cid, unsigned status, uint32_t result)
{
	struct nvme_cq *cq = sq->cq;
	struct nvme_completion entry = {
		.dw0 = result,
		.sq_head = (uint16_t)sq->head,
		.sq_id = sq->id,
		.cid = cid,
		.status = (uint16_t)(status << 1 | cq->phase),
	};

	if (post(n, cq->base + cq->tail * sizeof(entry), &entry)) {
		cleat_nvme_fatal(n, "a completion queue cannot be written");
		return;
	}
	cq->tail = (cq->tail + 1) % cq->size;
	if (!cq->tail)
		cq->phase ^= 1;
	cq->fresh++;
}

static unsigned execute(struct cleat_nvme *n, struct nvme_request *req)
{
	if (req->cmd.flags & (NVME_FLAGS_FUSE | NVME_FLAGS_PSDT))
		return NVME_INVALID_FIELD;
	if (req->sq_id)
		return cleat_nvme_io(n, req);
	return cleat_nvme_admin(n, req);
}

static void count(struct cleat_nvme *n, const struct nvme_request *req)
{
	if (req->sq_id)
		n->stats.io[req->cmd.opcode]++;
	else
		n->stats.admin[req->cmd.opcode]++;
}

/*
 * When the doorbell for the command at the head was seen. One that was rung in
 * another process, before a move, was seen by another clock.
 */
static uint64_t take_mark(struct nvme_sq *sq)
{
	uint64_t ns = sq->n_marks ? sq->marks[0].ns : cleat_nvme_now_ns();

	if (sq->n_marks && sq->head == sq->marks[0].tail) {
		sq->n_marks--;
		memmove(sq->marks, sq->marks + 1,
			sq->n_marks * sizeof(sq->marks[0]));
	}
	return ns;
}

/* Whether it was completed. */
static bool run_one(struct cleat_nvme *n, struct nvme_sq *sq, uint64_t *seen)
{
	struct nvme_request req = { .sq_id = sq->id, .lba = UINT64_MAX };
	uint64_t at = sq->base + sq->head * sizeof(req.cmd);
	unsigned status;

	if (cleat_nvme_copy_in(n, at, &req.cmd, sizeof(req.cmd))) {
		cleat_nvme_fatal(n, "a submission queue cannot be read");
		return false;
	}
	sq->head = (sq->head + 1) % sq->size;
	*seen = take_mark(sq);
	count(n, &req);
	status = execute(n, &req);
	if (status == NVME_NO_COMPLETION || n->reset_waits)
		return false;
	if (status) {
		n->stats.failed++;
		cleat_nvme_log_error(n, &req, status);
		status |= NVME_STATUS_MORE;
	}
	cleat_nvme_complete(n, sq, req.cmd.cid, status, req.result);
	return true;
}

static bool run_queue(struct cleat_nvme *n, struct nvme_sq *sq)
{
	struct nvme_cq *cq = sq->cq;
	uint64_t seen[NVME_BURST], now;
	unsigned ran = 0, done = 0;

	cleat_nvme_refresh_sq(n, sq);
	while (sq->head != sq->tail && ran < NVME_BURST &&
	       cleat_nvme_running(n) && cleat_nvme_cq_room(n, cq)) {
		done += run_one(n, sq, &seen[done]);
		ran++;
	}
	if (!ran)
		return false;
	cleat_nvme_irq_flush(n, cq);
	now = cleat_nvme_now_ns();
	for (unsigned i = 0; i < done; i++)
		cleat_nvme_stats_latency(&n->stats, now - seen[i]);
	return true;
}

static bool run_queues(struct cleat_nvme *n)
{
	bool work = false;

	for (unsigned i = 0; i <= n->queues && cleat_nvme_running(n); i++)
		if (n->sqs[i].live)
			work |= run_queue(n, &n->sqs[i]);
	return work;
}

/* With the pin, the level follows the heads. */
static void refresh_heads(struct cleat_nvme *n)
{
	for (unsigned i = 0; n->pin && i <= n->queues; i++)
		if (n->cqs[i].live)
			cleat_nvme_refresh_cq(n, &n->cqs[i]);
}

int cleat_nvme_poll(struct cleat_nvme *n)
{
	bool work;

	if (!cleat_nvme_running(n))
		return -1;
	n->busy = true;
	work = run_queues(n);
	refresh_heads(n);
	if (!work)
		cleat_nvme_scan_unused(n, n->doorbells == NVME_MAPPED ?
						  1 :
						  NVME_DOORBELL_BYTES / 4);
	if (!work && cleat_nvme_running(n))
		work = cleat_nvme_rearm(n);
	cleat_nvme_events_deliver(n);
	n->busy = false;
	cleat_nvme_apply_cc(n);
	if (work)
		return 1;
	return n->doorbells == NVME_MAPPED && cleat_nvme_running(n) ? 0 : -1;
}
