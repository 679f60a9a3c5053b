/* SPDX-License-Identifier: BSD-2-Clause */
/* Queues, doorbells in each mode, interrupts. */
#include "tests/backends/nvme_guest.h"

static struct nvme_command flush(uint16_t cid)
{
	return (struct nvme_command){
		.opcode = NVME_IO_FLUSH,
		.cid = cid,
		.nsid = 1,
	};
}

static const struct cleat_nvme_stats *stats(struct guest *g)
{
	return cleat_nvme_get_stats(g->nvme);
}

/* A few times around, with a batch size that does not divide the queue. */
static void go_round(struct guest *g)
{
	struct nvme_completion done;
	uint16_t cid = 0, next = 0;

	for (unsigned i = 0; i < 30; i++) {
		for (unsigned k = 0; k < 7; k++) {
			struct nvme_command cmd = flush(cid++);

			guest_put(g, 1, &cmd);
		}
		guest_ring(g, 1);
		guest_run(g);
		for (unsigned k = 0; k < 7; k++) {
			ATF_REQUIRE(guest_take(g, 1, &done));
			ATF_REQUIRE_EQ(NVME_SUCCESS, STATUS(done));
			ATF_REQUIRE_EQ(next++, done.cid);
			ATF_REQUIRE_EQ(1, done.sq_id);
		}
		ATF_REQUIRE_EQ(g->queues[1].tail, done.sq_head);
		ATF_REQUIRE(!guest_take(g, 1, &done));
		guest_ring_head(g, 1);
	}
	ATF_REQUIRE_EQ(210, stats(g)->io[NVME_IO_FLUSH]);
}

CLEAT_TC(run__trapped)
{
	struct guest g = { .doorbells = NVME_TRAPPED };

	guest_start_io(&g);
	go_round(&g);
	ATF_REQUIRE_EQ(0, stats(&g)->doorbells[NVME_BY_MAPPED]);
	ATF_REQUIRE_EQ(0, stats(&g)->doorbells[NVME_BY_EVENTFD]);
	ATF_REQUIRE(stats(&g)->doorbells[NVME_BY_MESSAGE] >= 60);
	/* One interrupt for each batch. */
	ATF_REQUIRE_EQ(30, g.raised[1]);
	ATF_REQUIRE_EQ(30, stats(&g)->interrupts[1]);
	ATF_REQUIRE_EQ(212, stats(&g)->latency_count);
	guest_end(&g);
}

CLEAT_TC(run__mapped)
{
	struct guest g = { .doorbells = NVME_MAPPED };

	guest_start_io(&g);
	go_round(&g);
	/* Heads are looked at when a queue is full. */
	ATF_REQUIRE(stats(&g)->doorbells[NVME_BY_MAPPED] >= 30);
	ATF_REQUIRE_EQ(0, stats(&g)->doorbells[NVME_BY_MESSAGE]);
	/* Idle, but to be polled. */
	ATF_REQUIRE_EQ(0, cleat_nvme_poll(g.nvme));
	guest_end(&g);
}

CLEAT_TC(run__mapped_by_message)
{
	struct guest g = { .doorbells = NVME_MAPPED };

	guest_start_io(&g);
	/* The client may write through the socket what it could map. */
	g.doorbells = NVME_TRAPPED;
	go_round(&g);
	ATF_REQUIRE_EQ(g.queues[1].tail, g.page[2]);
	guest_end(&g);
}

CLEAT_TC(run__shadow)
{
	struct guest g = { .doorbells = NVME_SHADOW };

	guest_start_io(&g);
	go_round(&g);
	ATF_REQUIRE(stats(&g)->doorbells[NVME_BY_EVENTFD] >= 60);
	ATF_REQUIRE_EQ(0, stats(&g)->doorbells[NVME_BY_MESSAGE]);
	ATF_REQUIRE_EQ(-1, cleat_nvme_poll(g.nvme));
	guest_end(&g);
}

static void set_dbbuf(struct guest *g)
{
	struct nvme_command cmd = {
		.opcode = NVME_ADMIN_DBBUF,
		.prp1 = GUEST_DBBUF,
		.prp2 = GUEST_EVENTIDX,
	};

	ATF_REQUIRE_EQ(NVME_SUCCESS, guest_admin(g, cmd));
}

CLEAT_TC(run__ioeventfd)
{
	struct guest g = { .doorbells = NVME_IOEVENTFD };

	guest_start_io(&g);
	set_dbbuf(&g);
	go_round(&g);
	ATF_REQUIRE(stats(&g)->doorbells[NVME_BY_EVENTFD] >= 60);
	ATF_REQUIRE_EQ(0, g.warnings);
	guest_end(&g);
}

CLEAT_TC(run__ioeventfd_with_messages)
{
	struct guest g = { .doorbells = NVME_IOEVENTFD, .by_message = true };
	uint32_t *buffer;
	struct nvme_completion done;
	struct nvme_command cmd = flush(5);

	guest_start_io(&g);
	set_dbbuf(&g);
	buffer = (uint32_t *)(g.ram + GUEST_DBBUF);
	/* A client without ioeventfds: the message is the kick. */
	guest_put(&g, 1, &cmd);
	buffer[2] = g.queues[1].tail;
	guest_write32(&g, NVME_DOORBELLS + 8, g.queues[1].tail);
	guest_run(&g);
	ATF_REQUIRE(guest_take(&g, 1, &done));
	ATF_REQUIRE_EQ(5, done.cid);
	guest_end(&g);
}

/* Whether the driver's rule makes it ring when going from @old to @now. */
static bool must_ring(struct guest *g, unsigned index, uint16_t old,
		      uint16_t now)
{
	uint32_t *eventidx = (uint32_t *)(g->ram + GUEST_EVENTIDX);
	uint16_t event = (uint16_t)eventidx[index];

	return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

CLEAT_TC(dbbuf__asks_for_the_next_ring)
{
	struct guest g = { .doorbells = NVME_IOEVENTFD };
	struct nvme_completion done;

	guest_start_io(&g);
	set_dbbuf(&g);
	for (uint16_t i = 0; i < 3 * GUEST_ENTRIES; i++) {
		uint16_t old = (uint16_t)g.queues[1].tail;
		struct nvme_command cmd = flush(i);

		guest_put(&g, 1, &cmd);
		ATF_REQUIRE(must_ring(&g, 2, old,
				      (uint16_t)g.queues[1].tail));
		guest_ring(&g, 1);
		guest_run(&g);
		ATF_REQUIRE(guest_take(&g, 1, &done));
		guest_ring_head(&g, 1);
	}
	guest_end(&g);
}

CLEAT_TC(dbbuf__value_found_without_a_ring)
{
	struct guest g = { .doorbells = NVME_IOEVENTFD };
	struct nvme_command cmd = flush(9);
	struct nvme_completion done;
	uint32_t *buffer;

	guest_start_io(&g);
	set_dbbuf(&g);
	buffer = (uint32_t *)(g.ram + GUEST_DBBUF);
	guest_put(&g, 1, &cmd);
	buffer[2] = g.queues[1].tail;
	/* Any turn of the loop finds it, as the rearming one would. */
	guest_run(&g);
	ATF_REQUIRE(guest_take(&g, 1, &done));
	guest_end(&g);
}

/* As a guest that has looked at the event index a moment too early. */
static void submit_without_ring(struct guest *g)
{
	struct nvme_command cmd = flush(10);

	guest_put(g, 1, &cmd);
	memcpy(g->ram + GUEST_DBBUF + 8, &g->queues[1].tail, 4);
}

static void skip_completion(struct guest *g)
{
	g->in_write = submit_without_ring;
}

static void skip_first_part(struct guest *g)
{
	g->in_write = skip_completion;
}

CLEAT_TC(dbbuf__value_comes_while_rearming)
{
	struct guest g = { .doorbells = NVME_IOEVENTFD, .by_message = true };
	struct nvme_command cmd = flush(9);
	struct nvme_completion done;

	guest_start_io(&g);
	set_dbbuf(&g);
	guest_put(&g, 1, &cmd);
	guest_ring(&g, 1);
	/* Two writes of the completion, then that of the event index. */
	g.in_write = skip_first_part;
	guest_run(&g);
	ATF_REQUIRE(!g.in_write);
	ATF_REQUIRE(guest_take(&g, 1, &done));
	ATF_REQUIRE_EQ(9, done.cid);
	ATF_REQUIRE(guest_take(&g, 1, &done));
	ATF_REQUIRE_EQ(10, done.cid);
	guest_end(&g);
}

CLEAT_TC(dbbuf__refused)
{
	struct guest g = { .doorbells = NVME_IOEVENTFD };
	struct guest h = { .doorbells = NVME_MAPPED };
	struct nvme_command cmd = {
		.opcode = NVME_ADMIN_DBBUF,
		.prp1 = GUEST_DBBUF + 8,
		.prp2 = GUEST_EVENTIDX,
	};

	guest_start_io(&g);
	ATF_REQUIRE_EQ(NVME_INVALID_FIELD, guest_admin(&g, cmd));
	cmd.prp1 = GUEST_DBBUF;
	cmd.prp2 = GUEST_EVENTIDX + 4;
	ATF_REQUIRE_EQ(NVME_INVALID_FIELD, guest_admin(&g, cmd));
	guest_end(&g);
	guest_start_io(&h);
	cmd.prp2 = GUEST_EVENTIDX;
	ATF_REQUIRE_EQ(NVME_INVALID_OPCODE, guest_admin(&h, cmd));
	guest_end(&h);
}

CLEAT_TC(dbbuf__out_of_memory)
{
	struct guest g = { .doorbells = NVME_IOEVENTFD };
	struct nvme_command cmd = {
		.opcode = NVME_ADMIN_DBBUF,
		.prp1 = 0x100000000ull,
		.prp2 = 0x100001000ull,
	};

	guest_start_io(&g);
	guest_put(&g, 0, &cmd);
	guest_ring(&g, 0);
	guest_run(&g);
	ATF_REQUIRE(guest_read32(&g, NVME_REG_CSTS) & NVME_CSTS_CFS);
	guest_disable(&g);
	guest_enable(&g);
	guest_end(&g);
}

CLEAT_TC(kick__before_dbbuf)
{
	struct guest g = { .doorbells = NVME_IOEVENTFD };
	struct nvme_command cmd = flush(3);
	struct nvme_completion done;

	guest_start_io(&g);
	/* As Linux may after a reset: stored and rung, then the buffer set. */
	guest_put(&g, 1, &cmd);
	guest_ring(&g, 1);
	guest_run(&g);
	ATF_REQUIRE(!guest_take(&g, 1, &done));
	ATF_REQUIRE(cleat_nvme_misses_value(g.nvme));
	set_dbbuf(&g);
	ATF_REQUIRE(!cleat_nvme_misses_value(g.nvme));
	ATF_REQUIRE(guest_take(&g, 1, &done));
	ATF_REQUIRE_EQ(3, done.cid);
	cleat_nvme_give_up_value(g.nvme);
	ATF_REQUIRE_EQ(NVME_CSTS_RDY, guest_read32(&g, NVME_REG_CSTS));
	guest_end(&g);
}

CLEAT_TC(kick__without_dbbuf)
{
	struct guest g = { .doorbells = NVME_IOEVENTFD };

	guest_start(&g);
	guest_enable(&g);
	/* Of no queue at all: an event, no more. */
	cleat_nvme_kicked(g.nvme, 1);
	ATF_REQUIRE(!cleat_nvme_misses_value(g.nvme));
	guest_create_queues(&g, 1, GUEST_ENTRIES);
	cleat_nvme_kicked(g.nvme, 1);
	ATF_REQUIRE(cleat_nvme_misses_value(g.nvme));
	/* The value is lost: better a dead controller than a silent one. */
	cleat_nvme_give_up_value(g.nvme);
	ATF_REQUIRE(guest_read32(&g, NVME_REG_CSTS) & NVME_CSTS_CFS);
	ATF_REQUIRE_EQ(1, g.warnings);
	guest_disable(&g);
	cleat_nvme_kicked(g.nvme, 1);
	ATF_REQUIRE(!cleat_nvme_misses_value(g.nvme));
	ATF_REQUIRE_EQ(0, guest_read32(&g, NVME_REG_CSTS));
	guest_end(&g);
}

static void fill_cq(struct guest *g)
{
	struct nvme_completion done;

	/* More than fit: the queue holds one less than it has entries. */
	for (unsigned i = 0; i < GUEST_ENTRIES - 1; i++) {
		struct nvme_command cmd = flush((uint16_t)i);

		guest_put(g, 1, &cmd);
	}
	guest_ring(g, 1);
	guest_run(g);
	for (unsigned i = 0; i < GUEST_ENTRIES - 1; i++) {
		struct nvme_command cmd = flush((uint16_t)(100 + i));

		guest_put(g, 1, &cmd);
	}
	guest_ring(g, 1);
	guest_run(g);
	ATF_REQUIRE_EQ(GUEST_ENTRIES - 1, stats(g)->io[NVME_IO_FLUSH]);
	ATF_REQUIRE_EQ(1, stats(g)->cq_full);
	ATF_REQUIRE(cleat_nvme_wants_heads(g->nvme));
	for (unsigned i = 0; i < GUEST_ENTRIES - 1; i++)
		ATF_REQUIRE(guest_take(g, 1, &done));
	ATF_REQUIRE(!guest_take(g, 1, &done));
}

static void require_back_pressure(enum cleat_nvme_doorbells doorbells)
{
	struct guest g = { .doorbells = doorbells };
	struct nvme_completion done;

	guest_start_io(&g);
	if (doorbells == NVME_IOEVENTFD)
		set_dbbuf(&g);
	fill_cq(&g);
	if (doorbells == NVME_IOEVENTFD)
		ATF_REQUIRE(must_ring(&g, 3, 0, (uint16_t)g.queues[1].head));
	guest_ring_head(&g, 1);
	guest_run(&g);
	for (unsigned i = 0; i < GUEST_ENTRIES - 1; i++) {
		ATF_REQUIRE(guest_take(&g, 1, &done));
		ATF_REQUIRE_EQ(100 + i, done.cid);
	}
	ATF_REQUIRE(!cleat_nvme_wants_heads(g.nvme));
	guest_end(&g);
}

CLEAT_TC(complete__queue_full)
{
	require_back_pressure(NVME_TRAPPED);
	require_back_pressure(NVME_MAPPED);
	require_back_pressure(NVME_SHADOW);
	require_back_pressure(NVME_IOEVENTFD);
}

CLEAT_TC(complete__two_queues_into_one)
{
	struct guest g = { 0 };
	struct nvme_command sq = {
		.opcode = NVME_ADMIN_CREATE_SQ,
		.prp1 = GUEST_SQ(2),
		.cdw10 = (GUEST_ENTRIES - 1) << 16 | 2,
		.cdw11 = 1u << 16 | 1,
	};
	struct nvme_command cmd = flush(77);
	struct nvme_completion done;

	guest_start_io(&g);
	ATF_REQUIRE_EQ(NVME_SUCCESS, guest_admin(&g, sq));
	g.queues[2].entries = GUEST_ENTRIES;
	guest_put(&g, 2, &cmd);
	guest_ring(&g, 2);
	guest_run(&g);
	ATF_REQUIRE(guest_take(&g, 1, &done));
	ATF_REQUIRE_EQ(2, done.sq_id);
	ATF_REQUIRE_EQ(1, done.sq_head);
	guest_end(&g);
}

CLEAT_TC(queue__largest)
{
	struct guest g = { .doorbells = NVME_MAPPED };
	struct nvme_completion done;

	guest_start(&g);
	guest_enable(&g);
	guest_create_queues(&g, 1, NVME_QUEUE_ENTRIES);
	for (unsigned i = 0; i < NVME_QUEUE_ENTRIES - 1; i++) {
		struct nvme_command cmd = flush((uint16_t)i);

		guest_put(&g, 1, &cmd);
	}
	guest_ring(&g, 1);
	/* A turn is bounded: the socket gets its share. */
	ATF_REQUIRE_EQ(1, cleat_nvme_poll(g.nvme));
	ATF_REQUIRE(stats(&g)->io[NVME_IO_FLUSH] <= 64);
	guest_run(&g);
	for (unsigned i = 0; i < NVME_QUEUE_ENTRIES - 1; i++) {
		ATF_REQUIRE(guest_take(&g, 1, &done));
		ATF_REQUIRE_EQ(i, done.cid);
	}
	guest_end(&g);
}

/* The pending event, by way of a request for it. */
static uint32_t next_event(struct guest *g)
{
	struct nvme_command cmd = { .opcode = NVME_ADMIN_ASYNC_EVENT };
	struct nvme_completion done;

	guest_put(g, 0, &cmd);
	guest_ring(g, 0);
	guest_run(g);
	if (!guest_take(g, 0, &done))
		return UINT32_MAX;
	guest_ring_head(g, 0);
	return done.dw0;
}

CLEAT_TC(doorbell__bad_value)
{
	static const enum cleat_nvme_doorbells modes[] = {
		NVME_TRAPPED, NVME_MAPPED, NVME_SHADOW };

	for (unsigned i = 0; i < 3; i++) {
		struct guest g = { .doorbells = modes[i] };

		guest_start_io(&g);
		g.queues[1].tail = GUEST_ENTRIES;
		guest_ring(&g, 1);
		guest_run(&g);
		guest_run(&g);
		ATF_REQUIRE_EQ(1, stats(&g)->doorbells_bad);
		/* Error, invalid value, error log. */
		ATF_REQUIRE_EQ(0x00010100, next_event(&g));
		g.queues[1].tail = 0;
		guest_ring(&g, 1);
		ATF_REQUIRE_EQ(NVME_SUCCESS,
			       guest_command(&g, 1, flush(0), NULL));
		guest_end(&g);
	}
}

CLEAT_TC(doorbell__head_past_the_tail)
{
	struct guest g = { 0 };

	guest_start_io(&g);
	ATF_REQUIRE_EQ(NVME_SUCCESS, guest_command(&g, 1, flush(0), NULL));
	g.queues[1].head = 5;
	guest_ring_head(&g, 1);
	ATF_REQUIRE_EQ(1, stats(&g)->doorbells_bad);
	ATF_REQUIRE_EQ(0x00010100, next_event(&g));
	guest_end(&g);
}

CLEAT_TC(doorbell__of_no_queue)
{
	struct guest g = { 0 }, h = { .doorbells = NVME_MAPPED };

	guest_start_io(&g);
	guest_write32(&g, NVME_DOORBELLS + 8 * 2, 1);
	guest_write32(&g, NVME_DOORBELLS + 8 * 500 + 4, 1);
	ATF_REQUIRE_EQ(2, stats(&g)->doorbells_bad);
	ATF_REQUIRE_EQ(0x00010000, next_event(&g));
	guest_end(&g);
	guest_start_io(&h);
	h.page[1023] = 4;
	for (unsigned i = 0; i < 1100; i++)
		cleat_nvme_poll(h.nvme);
	ATF_REQUIRE_EQ(0, h.page[1023]);
	ATF_REQUIRE_EQ(0x00010000, next_event(&h));
	guest_end(&h);
}

CLEAT_TC(doorbell__left_over_from_before)
{
	struct guest g = { .doorbells = NVME_MAPPED };
	struct nvme_completion done;
	struct nvme_command sq = {
		.opcode = NVME_ADMIN_CREATE_SQ,
		.prp1 = GUEST_SQ(2),
		.cdw10 = (GUEST_ENTRIES - 1) << 16 | 2,
		.cdw11 = 1u << 16 | 1,
	};

	guest_start_io(&g);
	guest_put(&g, 0, &sq);
	guest_ring(&g, 0);
	/* Stored before there is a queue 2: the queue starts at 0. */
	g.page[4] = 3;
	guest_run(&g);
	ATF_REQUIRE(guest_take(&g, 0, &done));
	ATF_REQUIRE_EQ(NVME_SUCCESS, STATUS(done));
	ATF_REQUIRE(!guest_take(&g, 1, &done));
	ATF_REQUIRE_EQ(0, stats(&g)->io[NVME_IO_FLUSH]);
	guest_end(&g);
}

CLEAT_TC(doorbell__while_disabled)
{
	struct guest g = { 0 };

	guest_start(&g);
	for (unsigned i = 0; i < 1024; i++)
		guest_write32(&g, NVME_DOORBELLS + 4 * i, ~0u);
	guest_run(&g);
	guest_enable(&g);
	guest_run(&g);
	ATF_REQUIRE_EQ(0, stats(&g)->doorbells_bad);
	guest_end(&g);
}

CLEAT_TC(irq__pin)
{
	struct guest g = { 0 };
	struct nvme_command cmd = flush(1);
	struct nvme_completion done;

	guest_start_io(&g);
	cleat_nvme_set_irq_mode(g.nvme, NVME_IRQ_PIN);
	ATF_REQUIRE(!g.pin);
	guest_put(&g, 1, &cmd);
	guest_ring(&g, 1);
	guest_run(&g);
	ATF_REQUIRE(g.pin);
	/* Masked and unmasked */
	guest_write32(&g, NVME_REG_INTMS, 1);
	ATF_REQUIRE_EQ(1, guest_read32(&g, NVME_REG_INTMC));
	ATF_REQUIRE(!g.pin);
	guest_write32(&g, NVME_REG_INTMC, 1);
	ATF_REQUIRE(g.pin);
	/* Consumed */
	ATF_REQUIRE(guest_take(&g, 1, &done));
	guest_ring_head(&g, 1);
	ATF_REQUIRE(!g.pin);
	ATF_REQUIRE_EQ(4, g.pin_edges);
	guest_end(&g);
}

CLEAT_TC(irq__pin_with_mapped_heads)
{
	struct guest g = { .doorbells = NVME_MAPPED };
	struct nvme_command cmd = flush(1);
	struct nvme_completion done;

	guest_start_io(&g);
	cleat_nvme_set_irq_mode(g.nvme, NVME_IRQ_PIN);
	guest_put(&g, 1, &cmd);
	guest_ring(&g, 1);
	guest_run(&g);
	ATF_REQUIRE(g.pin && guest_take(&g, 1, &done));
	guest_ring_head(&g, 1);
	guest_run(&g);
	ATF_REQUIRE(!g.pin);
	guest_end(&g);
}

CLEAT_TC(irq__msi_masked)
{
	struct guest g = { 0 };
	struct nvme_command cmd = flush(1);

	guest_start_io(&g);
	cleat_nvme_set_irq_mode(g.nvme, NVME_IRQ_MSI);
	guest_write32(&g, NVME_REG_INTMS, 1u << 1);
	guest_put(&g, 1, &cmd);
	guest_ring(&g, 1);
	guest_run(&g);
	ATF_REQUIRE_EQ(0, g.raised[1]);
	guest_write32(&g, NVME_REG_INTMC, 1u << 1);
	ATF_REQUIRE_EQ(1, g.raised[1]);
	guest_end(&g);
}

CLEAT_TC(latency__quantiles)
{
	static struct cleat_nvme_stats s;

	ATF_REQUIRE_EQ(0, cleat_nvme_stats_quantile(&s, 500));
	for (uint64_t i = 1; i <= 1000; i++)
		cleat_nvme_stats_latency(&s, i * 1000);
	ATF_REQUIRE(cleat_nvme_stats_quantile(&s, 500) >= 500000);
	ATF_REQUIRE(cleat_nvme_stats_quantile(&s, 500) <= 532000);
	ATF_REQUIRE(cleat_nvme_stats_quantile(&s, 990) >= 990000);
	ATF_REQUIRE_EQ(1000000, cleat_nvme_stats_quantile(&s, 1000));
	cleat_nvme_stats_latency(&s, UINT64_MAX);
	ATF_REQUIRE_EQ(UINT64_MAX, s.latency_worst_ns);
	cleat_nvme_stats_latency(&s, 0);
	ATF_REQUIRE_EQ(1002, s.latency_count);
}

static atf_error_t add_doorbell_cases(atf_tp_t *tp)
{
	ATF_TP_ADD_TC(tp, dbbuf__asks_for_the_next_ring);
	ATF_TP_ADD_TC(tp, dbbuf__value_found_without_a_ring);
	ATF_TP_ADD_TC(tp, dbbuf__value_comes_while_rearming);
	ATF_TP_ADD_TC(tp, dbbuf__refused);
	ATF_TP_ADD_TC(tp, dbbuf__out_of_memory);
	ATF_TP_ADD_TC(tp, kick__before_dbbuf);
	ATF_TP_ADD_TC(tp, kick__without_dbbuf);
	ATF_TP_ADD_TC(tp, doorbell__bad_value);
	ATF_TP_ADD_TC(tp, doorbell__head_past_the_tail);
	ATF_TP_ADD_TC(tp, doorbell__of_no_queue);
	ATF_TP_ADD_TC(tp, doorbell__left_over_from_before);
	ATF_TP_ADD_TC(tp, doorbell__while_disabled);
	return atf_no_error();
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, run__trapped);
	ATF_TP_ADD_TC(tp, run__mapped);
	ATF_TP_ADD_TC(tp, run__mapped_by_message);
	ATF_TP_ADD_TC(tp, run__shadow);
	ATF_TP_ADD_TC(tp, run__ioeventfd);
	ATF_TP_ADD_TC(tp, run__ioeventfd_with_messages);
	add_doorbell_cases(tp);
	ATF_TP_ADD_TC(tp, complete__queue_full);
	ATF_TP_ADD_TC(tp, complete__two_queues_into_one);
	ATF_TP_ADD_TC(tp, queue__largest);
	ATF_TP_ADD_TC(tp, irq__pin);
	ATF_TP_ADD_TC(tp, irq__pin_with_mapped_heads);
	ATF_TP_ADD_TC(tp, irq__msi_masked);
	ATF_TP_ADD_TC(tp, latency__quantiles);
	return atf_no_error();
}
