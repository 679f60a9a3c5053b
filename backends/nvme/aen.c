/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Asynchronous events. An event waits until the guest has given a request for
 * it; after it was reported, others of its type wait until the guest has read
 * the log page that goes with it.
 */
#include <string.h>

#include "backends/nvme/private.h"

/* Only notes the event, and each kind once: a guest cannot pile them up. */
void cleat_nvme_event(struct cleat_nvme *n, unsigned type, unsigned info,
		      unsigned log)
{
	struct nvme_events *events = &n->events;

	for (unsigned i = 0; i < events->n_pending; i++)
		if (events->pending[i].type == type &&
		    events->pending[i].info == info)
			return;
	if (events->n_pending == NVME_EVENTS_MAX)
		return;
	events->pending[events->n_pending++] = (struct nvme_event){
		.type = (uint8_t)type,
		.info = (uint8_t)info,
		.log = (uint8_t)log,
	};
}

static bool take_event(struct nvme_events *events, struct nvme_event *ret)
{
	for (unsigned i = 0; i < events->n_pending; i++) {
		struct nvme_event *event = &events->pending[i];

		if (events->masked >> event->type & 1)
			continue;
		*ret = *event;
		events->n_pending--;
		memmove(event, event + 1,
			(events->n_pending - i) * sizeof(*event));
		return true;
	}
	return false;
}

static uint16_t take_cid(struct nvme_events *events, unsigned i)
{
	uint16_t cid = events->cids[i];

	events->n_cids--;
	memmove(&events->cids[i], &events->cids[i + 1],
		(events->n_cids - i) * sizeof(cid));
	return cid;
}

void cleat_nvme_events_deliver(struct cleat_nvme *n)
{
	struct nvme_events *events = &n->events;
	struct nvme_sq *sq = &n->sqs[0];
	struct nvme_event event;

	while (events->n_cids && events->n_pending && cleat_nvme_running(n) &&
	       cleat_nvme_cq_room(n, sq->cq) && take_event(events, &event)) {
		events->masked |= 1u << event.type;
		cleat_nvme_complete(n, sq, take_cid(events, 0), NVME_SUCCESS,
				    event.type | (uint32_t)event.info << 8 |
					    (uint32_t)event.log << 16);
	}
	if (sq->live)
		cleat_nvme_irq_flush(n, sq->cq);
}

void cleat_nvme_events_unmask(struct cleat_nvme *n, unsigned type)
{
	n->events.masked &= ~(1u << type);
}

unsigned cleat_nvme_async_event(struct cleat_nvme *n, struct nvme_request *req)
{
	struct nvme_events *events = &n->events;

	for (unsigned i = 0; i < events->n_cids; i++)
		if (events->cids[i] == req->cmd.cid)
			return NVME_CID_CONFLICT;
	if (events->n_cids == NVME_AERS_MAX)
		return NVME_AER_LIMIT;
	events->cids[events->n_cids++] = req->cmd.cid;
	return NVME_NO_COMPLETION;
}

/*
 * The aborted request completes first, as the specification wants; the Abort
 * command itself has room in the queue as well, or else aborts nothing.
 */
bool cleat_nvme_event_abort(struct cleat_nvme *n, uint16_t cid)
{
	struct nvme_events *events = &n->events;
	struct nvme_cq *cq = &n->cqs[0];
	uint32_t used = (cq->tail + cq->size - cq->head) % cq->size;

	if (cq->size - 1 - used < 2)
		return false;
	for (unsigned i = 0; i < events->n_cids; i++) {
		if (events->cids[i] != cid)
			continue;
		cleat_nvme_complete(n, &n->sqs[0], take_cid(events, i),
				    NVME_ABORT_REQUESTED, 0);
		return true;
	}
	return false;
}
