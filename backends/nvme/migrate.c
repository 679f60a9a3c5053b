/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The controller's state, one record for itself and one for each pair of
 * queues. What comes in is checked whole before any of it is taken over: it is
 * as little to be trusted as a guest.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/nvme/private.h"

#define KIND_CONTROLLER 1
#define KIND_QUEUES 2
#define FEATURES 9
#define SERIAL 21

struct saved_controller {
	uint32_t kind;
	uint32_t queues;
	uint64_t disk_size;
	uint32_t block_size;
	uint32_t doorbells;
	char serial[24];
	unsigned char uuid[16];
	uint32_t cc, csts, aqa, intms;
	uint64_t asq, acq;
	uint32_t page_bits;
	uint32_t features[FEATURES];
	uint32_t dbbuf_on;
	uint32_t warnings;
	uint64_t dbbuf_doorbells, dbbuf_eventidx;
	uint64_t n_errors;
	struct nvme_events events;
	struct nvme_health health;
	struct nvme_work work;
	struct nvme_error_entry errors[NVME_ERRORS_MAX];
};

struct saved_queues {
	uint32_t kind;
	uint32_t id;
	uint32_t sq_live, sq_size, sq_head, sq_tail, sq_cq;
	uint32_t cq_live, cq_size, cq_head, cq_tail;
	uint32_t cq_ien, cq_vector, cq_phase, cq_fresh;
	uint32_t vector_feature;
	uint32_t bells[2]; /* in the page, where there is one */
	uint64_t sq_base, cq_base;
};

struct cleat_nvme_incoming {
	bool controller;
	struct saved_controller saved;
	uint32_t have; /* pairs of queues */
	struct saved_queues queues[];
};

static uint32_t *feature(struct nvme_features *f, unsigned i)
{
	uint32_t *const all[FEATURES] = {
		&f->arbitration,       &f->power,	   &f->over_temperature,
		&f->under_temperature, &f->error_recovery, &f->write_cache,
		&f->coalescing,	       &f->atomicity,	   &f->events,
	};

	return all[i];
}

static int save_controller(struct cleat_nvme *n, void *buf)
{
	struct saved_controller saved = {
		.kind = KIND_CONTROLLER,
		.queues = n->queues,
		.disk_size = n->disk->size,
		.block_size = n->disk->block_size,
		.doorbells = n->doorbells,
		.cc = n->cc,
		.csts = n->csts,
		.aqa = n->aqa,
		.intms = n->intms,
		.asq = n->asq,
		.acq = n->acq,
		.page_bits = n->page_bits,
		.dbbuf_on = n->dbbuf.on,
		.warnings = n->warnings,
		.dbbuf_doorbells = n->dbbuf.doorbells,
		.dbbuf_eventidx = n->dbbuf.eventidx,
		.n_errors = n->n_errors,
		.events = n->events,
		.health = n->health,
		.work = cleat_nvme_work(n),
	};

	memcpy(saved.serial, n->serial, SERIAL);
	memcpy(saved.uuid, n->uuid, sizeof(saved.uuid));
	memcpy(saved.errors, n->errors, sizeof(saved.errors));
	for (unsigned i = 0; i < FEATURES; i++)
		saved.features[i] = *feature(&n->features, i);
	memcpy(buf, &saved, sizeof(saved));
	return sizeof(saved);
}

static int save_queues(struct cleat_nvme *n, unsigned id, void *buf)
{
	const struct nvme_sq *sq = &n->sqs[id];
	const struct nvme_cq *cq = &n->cqs[id];
	struct saved_queues saved = {
		.kind = KIND_QUEUES,
		.id = id,
		.sq_live = sq->live,
		.sq_size = sq->size,
		.sq_head = sq->head,
		.sq_tail = sq->tail,
		.sq_cq = sq->live ? sq->cq->id : 0,
		.cq_live = cq->live,
		.cq_size = cq->size,
		.cq_head = cq->head,
		.cq_tail = cq->tail,
		.cq_ien = cq->ien,
		.cq_vector = cq->vector,
		.cq_phase = cq->phase,
		.cq_fresh = cq->fresh,
		.vector_feature = n->features.vectors[id],
		.sq_base = sq->base,
		.cq_base = cq->base,
	};

	for (unsigned i = 0; n->page && i < 2; i++)
		saved.bells[i] = __atomic_load_n(&n->page[2 * id + i],
						 __ATOMIC_ACQUIRE);
	memcpy(buf, &saved, sizeof(saved));
	return sizeof(saved);
}

int cleat_nvme_save(struct cleat_nvme *n, unsigned record, void *buf)
{
	if (!record)
		return save_controller(n, buf);
	return record - 1 <= n->queues ? save_queues(n, record - 1, buf) : 0;
}

/* ---- In ----------------------------------------------------------- */

void cleat_nvme_load_end(struct cleat_nvme *n)
{
	free(n->incoming);
	n->incoming = NULL;
}

int cleat_nvme_load_begin(struct cleat_nvme *n)
{
	cleat_nvme_load_end(n);
	n->incoming = calloc(1, sizeof(*n->incoming) +
					(n->queues + 1) *
						sizeof(struct saved_queues));
	return n->incoming ? 0 : -ENOMEM;
}

static int load_queues(struct cleat_nvme *n, const void *buf)
{
	struct cleat_nvme_incoming *in = n->incoming;
	struct saved_queues saved;

	memcpy(&saved, buf, sizeof(saved));
	if (saved.kind != KIND_QUEUES || saved.id > n->queues ||
	    saved.id != in->have)
		return -EBADMSG;
	in->queues[in->have++] = saved;
	return 0;
}

int cleat_nvme_load(struct cleat_nvme *n, const void *buf, size_t count)
{
	struct cleat_nvme_incoming *in = n->incoming;

	if (!in)
		return -EINVAL;
	if (count == sizeof(struct saved_queues))
		return load_queues(n, buf);
	if (count != sizeof(in->saved) || in->controller)
		return -EBADMSG;
	memcpy(&in->saved, buf, sizeof(in->saved));
	in->controller = true;
	return in->saved.kind == KIND_CONTROLLER ? 0 : -EBADMSG;
}

static bool is_serial(const char *serial)
{
	if (serial[SERIAL - 1])
		return false;
	for (; *serial; serial++)
		if (*serial < ' ' || *serial > '~')
			return false;
	return true;
}

/* A type is a bit's number to whoever delivers them. */
static bool are_events(const struct nvme_events *events)
{
	if (events->n_cids > NVME_AERS_MAX ||
	    events->n_pending > NVME_EVENTS_MAX)
		return false;
	for (unsigned i = 0; i < events->n_pending; i++)
		if (events->pending[i].type > NVME_EVENT_HEALTH)
			return false;
	return true;
}

/* Another disk, or another shape of controller, is another device. */
static int check_controller(const struct cleat_nvme *n,
			    const struct saved_controller *saved)
{
	const uint32_t csts = NVME_CSTS_RDY | NVME_CSTS_CFS | NVME_CSTS_SHST;

	if (saved->queues != n->queues || saved->disk_size != n->disk->size ||
	    saved->block_size != n->disk->block_size ||
	    saved->doorbells != n->doorbells)
		return -EXDEV;
	if (saved->cc & ~NVME_CC_FIELDS || saved->csts & ~csts ||
	    !is_serial(saved->serial) || saved->dbbuf_on > 1 ||
	    !are_events(&saved->events))
		return -EBADMSG;
	if (saved->csts & NVME_CSTS_RDY &&
	    (saved->page_bits < 12 || saved->page_bits > 12 + NVME_MPS_MAX))
		return -EBADMSG;
	return 0;
}

static bool is_queue(uint32_t live, uint32_t size, uint32_t head, uint32_t tail)
{
	if (!live)
		return true;
	return live == 1 && size >= 2 && size <= NVME_QUEUE_ENTRIES &&
	       head < size && tail < size;
}

static int check_queues(const struct cleat_nvme *n,
			const struct cleat_nvme_incoming *in)
{
	for (unsigned i = 0; i <= n->queues; i++) {
		const struct saved_queues *q = &in->queues[i];

		if (!is_queue(q->sq_live, q->sq_size, q->sq_head, q->sq_tail) ||
		    !is_queue(q->cq_live, q->cq_size, q->cq_head, q->cq_tail))
			return -EBADMSG;
		if (q->sq_live && (q->sq_cq > n->queues ||
				   !in->queues[q->sq_cq].cq_live))
			return -EBADMSG;
		if (q->cq_live && (q->cq_ien > 1 || q->cq_phase > 1 ||
				   q->cq_vector > n->queues))
			return -EBADMSG;
	}
	/* Whoever is ready has its admin queues. */
	if (in->saved.csts & NVME_CSTS_RDY &&
	    (!in->queues[0].sq_live || !in->queues[0].cq_live ||
	     in->queues[0].sq_cq))
		return -EBADMSG;
	return 0;
}

static void take_controller(struct cleat_nvme *n,
			    const struct saved_controller *saved)
{
	memcpy(n->serial, saved->serial, SERIAL);
	memcpy(n->uuid, saved->uuid, sizeof(n->uuid));
	n->cc = saved->cc;
	n->aqa = saved->aqa;
	n->intms = saved->intms;
	n->asq = saved->asq;
	n->acq = saved->acq;
	n->page_bits = saved->page_bits;
	for (unsigned i = 0; i < FEATURES; i++)
		*feature(&n->features, i) = saved->features[i];
	n->dbbuf.on = saved->dbbuf_on;
	n->dbbuf.doorbells = saved->dbbuf_doorbells;
	n->dbbuf.eventidx = saved->dbbuf_eventidx;
	n->warnings = (uint8_t)saved->warnings;
	n->n_errors = saved->n_errors;
	n->events = saved->events;
	n->health = saved->health;
	cleat_nvme_set_work(n, &saved->work);
	memcpy(n->errors, saved->errors, sizeof(n->errors));
	n->csts = saved->csts;
}

static void take_cq(struct cleat_nvme *n, const struct saved_queues *q)
{
	n->features.vectors[q->id] = q->vector_feature;
	if (!q->cq_live)
		return;
	n->cqs[q->id] = (struct nvme_cq){
		.live = true,
		.ien = q->cq_ien,
		.id = (uint16_t)q->id,
		.vector = (uint16_t)q->cq_vector,
		.phase = (uint16_t)q->cq_phase,
		.size = q->cq_size,
		.head = q->cq_head,
		.tail = q->cq_tail,
		.bad = UINT32_MAX,
		.armed = UINT32_MAX,
		.base = q->cq_base,
		.fresh = q->cq_fresh,
	};
}

static void take_sq(struct cleat_nvme *n, const struct saved_queues *q)
{
	if (!q->sq_live)
		return;
	n->sqs[q->id] = (struct nvme_sq){
		.live = true,
		.id = (uint16_t)q->id,
		.size = q->sq_size,
		.head = q->sq_head,
		.tail = q->sq_tail,
		.bad = UINT32_MAX,
		.armed = UINT32_MAX,
		.base = q->sq_base,
		.cq = &n->cqs[q->sq_cq],
	};
	n->cqs[q->sq_cq].users++;
}

int cleat_nvme_loaded(struct cleat_nvme *n)
{
	struct cleat_nvme_incoming *in = n->incoming;
	int err;

	if (!in || !in->controller || in->have != n->queues + 1)
		return -EBADMSG;
	err = check_controller(n, &in->saved);
	if (!err)
		err = check_queues(n, in);
	if (err)
		return err;
	cleat_nvme_reset(n);
	for (unsigned i = 0; i <= n->queues; i++)
		take_cq(n, &in->queues[i]);
	for (unsigned i = 0; i <= n->queues; i++)
		take_sq(n, &in->queues[i]);
	for (unsigned i = 0; n->page && i <= n->queues; i++)
		for (unsigned k = 0; k < 2; k++)
			__atomic_store_n(&n->page[2 * i + k],
					 in->queues[i].bells[k],
					 __ATOMIC_RELEASE);
	take_controller(n, &in->saved);
	/* The client kicks every doorbell once, and means nothing by it. */
	n->spare_kick = true;
	cleat_nvme_irq_update_pin(n);
	return 0;
}
