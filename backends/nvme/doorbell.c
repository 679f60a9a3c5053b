/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Doorbells: where their values come from in each mode, and what is wrong with
 * them. Doorbell 2q is the tail of submission queue q, 2q + 1 the head of
 * completion queue q.
 *
 * Only noting happens here: no command runs and no event is delivered, so a
 * message may come in while a command waits for the client.
 */
#include "backends/nvme/private.h"

static void bad_value(struct cleat_nvme *n, uint32_t *bad, uint32_t value)
{
	if (*bad == value)
		return;
	*bad = value;
	n->stats.doorbells_bad++;
	cleat_nvme_event(n, NVME_EVENT_ERROR, NVME_ERROR_DOORBELL_VALUE,
			 NVME_LOG_ERROR);
}

static void bad_register(struct cleat_nvme *n)
{
	n->stats.doorbells_bad++;
	cleat_nvme_event(n, NVME_EVENT_ERROR, NVME_ERROR_DOORBELL_REGISTER,
			 NVME_LOG_ERROR);
}

static void count_mapped(struct cleat_nvme *n)
{
	if (n->doorbells == NVME_MAPPED)
		n->stats.doorbells[NVME_BY_MAPPED]++;
}

/* Whether the value was another one, and fine. */
static bool set_tail(struct cleat_nvme *n, struct nvme_sq *sq, uint32_t value)
{
	if (value == sq->tail)
		return false;
	if (value >= sq->size) {
		bad_value(n, &sq->bad, value);
		return false;
	}
	sq->bad = UINT32_MAX;
	/* Out of marks: the newest count as seen with those before them. */
	if (sq->n_marks < NVME_MARKS)
		sq->marks[sq->n_marks++].ns = cleat_nvme_now_ns();
	sq->marks[sq->n_marks - 1].tail = value;
	sq->tail = value;
	return true;
}

static bool set_head(struct cleat_nvme *n, struct nvme_cq *cq, uint32_t value)
{
	uint32_t used = (cq->tail + cq->size - cq->head) % cq->size;

	if (value == cq->head)
		return false;
	/* Nothing that was not posted can have been consumed. */
	if (value >= cq->size ||
	    (value + cq->size - cq->head) % cq->size > used) {
		bad_value(n, &cq->bad, value);
		return false;
	}
	cq->bad = UINT32_MAX;
	cq->head = value;
	cq->blocked = false;
	cleat_nvme_irq_update_pin(n);
	return true;
}

static bool live(const struct cleat_nvme *n, unsigned index)
{
	unsigned id = index / 2;

	if (id > n->queues)
		return false;
	return index % 2 ? n->cqs[id].live : n->sqs[id].live;
}

static bool by_dbbuf(const struct cleat_nvme *n, unsigned index)
{
	return n->dbbuf.on && index >= 2;
}

void cleat_nvme_doorbell_message(struct cleat_nvme *n, unsigned index,
				 uint32_t value)
{
	n->stats.doorbells[NVME_BY_MESSAGE]++;
	if (!(n->csts & NVME_CSTS_RDY))
		return;
	if (!live(n, index)) {
		bad_register(n);
		return;
	}
	/* The buffer in guest memory has this value, or already a later one. */
	if (by_dbbuf(n, index))
		return;
	if (n->page)
		__atomic_store_n(&n->page[index], value, __ATOMIC_RELAXED);
	if (index % 2)
		set_head(n, &n->cqs[index / 2], value);
	else
		set_tail(n, &n->sqs[index / 2], value);
}

/* A queue begins at 0, whatever an earlier one left. */
void cleat_nvme_doorbell_clear(struct cleat_nvme *n, unsigned index)
{
	if (n->page)
		__atomic_store_n(&n->page[index], 0, __ATOMIC_RELAXED);
	if (by_dbbuf(n, index))
		cleat_nvme_store32(n, n->dbbuf.doorbells + 4 * index, 0);
}

/*
 * The acquire orders this load before those of the queue entries: without it
 * a processor could give us an entry as it was before the guest filled it.
 */
static bool load(struct cleat_nvme *n, unsigned index, uint32_t *ret)
{
	if (n->page) {
		*ret = __atomic_load_n(&n->page[index], __ATOMIC_ACQUIRE);
		return true;
	}
	if (!by_dbbuf(n, index))
		return false;
	if (cleat_nvme_load32(n, n->dbbuf.doorbells + 4 * index, ret)) {
		cleat_nvme_fatal(n, "the guest's doorbell buffer cannot be "
				    "read");
		return false;
	}
	return true;
}

void cleat_nvme_refresh_sq(struct cleat_nvme *n, struct nvme_sq *sq)
{
	uint32_t value;

	if (load(n, 2u * sq->id, &value) && set_tail(n, sq, value))
		count_mapped(n);
}

void cleat_nvme_refresh_cq(struct cleat_nvme *n, struct nvme_cq *cq)
{
	uint32_t value;

	if (load(n, 2u * cq->id + 1, &value) && set_head(n, cq, value))
		count_mapped(n);
}

static bool wants_head(const struct cleat_nvme *n, const struct nvme_cq *cq)
{
	return cq->live && (cq->blocked || n->pin);
}

bool cleat_nvme_wants_heads(const struct cleat_nvme *n)
{
	for (unsigned i = 0; i <= n->queues; i++)
		if (wants_head(n, &n->cqs[i]))
			return true;
	return false;
}

static bool has_work(const struct nvme_sq *sq)
{
	return sq->live && sq->head != sq->tail && !sq->cq->blocked;
}

static void ask_for_rings(struct cleat_nvme *n)
{
	for (unsigned i = 1; i <= n->queues; i++) {
		struct nvme_sq *sq = &n->sqs[i];
		struct nvme_cq *cq = &n->cqs[i];

		if (sq->live && sq->armed != sq->tail) {
			cleat_nvme_store32(n, n->dbbuf.eventidx + 8 * i,
					   sq->tail);
			sq->armed = sq->tail;
		}
		if (wants_head(n, cq) && cq->armed != cq->head) {
			cleat_nvme_store32(n, n->dbbuf.eventidx + 8 * i + 4,
					   cq->head);
			cq->armed = cq->head;
		}
	}
}

bool cleat_nvme_rearm(struct cleat_nvme *n)
{
	bool work = false;

	if (!n->dbbuf.on)
		return false;
	ask_for_rings(n);
	/*
	 * The guest stores its doorbell value, then loads the event index; we
	 * store the index, then load the value. Without a full barrier on
	 * both sides each could miss the other's store, and nobody rings.
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (unsigned i = 1; i <= n->queues; i++) {
		if (n->sqs[i].live)
			cleat_nvme_refresh_sq(n, &n->sqs[i]);
		if (wants_head(n, &n->cqs[i]))
			cleat_nvme_refresh_cq(n, &n->cqs[i]);
	}
	for (unsigned i = 1; i <= n->queues; i++)
		work |= has_work(&n->sqs[i]);
	return work;
}

/* A store to a doorbell of no queue, in the page, has no other witness. */
void cleat_nvme_scan_unused(struct cleat_nvme *n, unsigned count)
{
	for (unsigned i = 0; n->page && i < count; i++) {
		unsigned index = n->scan;

		n->scan = (n->scan + 1) % (NVME_DOORBELL_BYTES / 4);
		if (live(n, index) ||
		    !__atomic_load_n(&n->page[index], __ATOMIC_RELAXED))
			continue;
		__atomic_store_n(&n->page[index], 0, __ATOMIC_RELAXED);
		bad_register(n);
	}
}

void cleat_nvme_kicked(struct cleat_nvme *n, uint64_t count)
{
	bool spared = n->spare_kick;

	n->stats.doorbells[NVME_BY_EVENTFD] += count;
	n->spare_kick = false;
	if (spared && count == 1)
		return;
	if (n->doorbells != NVME_IOEVENTFD || n->dbbuf.on ||
	    !(n->csts & NVME_CSTS_RDY))
		return;
	if (cleat_nvme_io_queues_exist(n))
		n->value_missing = true;
	else
		bad_register(n);
}

bool cleat_nvme_misses_value(const struct cleat_nvme *n)
{
	return n->value_missing;
}

void cleat_nvme_give_up_value(struct cleat_nvme *n)
{
	if (!n->value_missing)
		return;
	n->value_missing = false;
	cleat_nvme_fatal(n, "the guest rings doorbells and sets no doorbell "
			    "buffer, so the values are lost: use "
			    "--doorbells=shadow or mapped for this guest");
}
