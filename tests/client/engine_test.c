/* SPDX-License-Identifier: BSD-2-Clause */
/* Many threads, deadlines, cancels, the loss of a connection. */
#include <poll.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cleat/cancel.h>

#include "client/client.h"
#include "tests/support/model.h"

#define RW (CLEAT_REGION_READ | CLEAT_REGION_WRITE)
#define THREADS 8
/* A cancel is promised to be heard in 100; the rest is for a busy machine. */
#define SOON_MS (on_valgrind() ? 1000 : 400)

static struct model small_model(void)
{
	return (struct model){
		.num_regions = 1,
		.regions = { [0] = { 65536, RW } },
	};
}

struct reader {
	struct cleat_device *dev;
	unsigned number;
	unsigned rounds;
	size_t bytes;
};

static int read_mine(void *arg)
{
	struct reader *reader = arg;
	uint8_t *buf = malloc(reader->bytes);
	int err = 0;

	for (unsigned i = 0; i < reader->rounds && !err; i++) {
		size_t n = i % 4 ? 8 : reader->bytes;

		memset(buf, 0xee, n);
		err = cleat_region_read(reader->dev, 0, reader->number * 8192,
					buf, n);
		for (size_t j = 0; j < n && !err; j++)
			if (buf[j] != reader->number + 1)
				err = -EBADMSG;
	}
	free(buf);
	return err;
}

static void read_in_threads(struct cleat_device *dev, struct model *model,
			    size_t bytes, unsigned rounds)
{
	struct reader readers[THREADS];
	struct script scripts[THREADS];

	for (unsigned i = 0; i < THREADS; i++) {
		model_fill(model, 0, i * 8192, (int)i + 1, 8192);
		readers[i] = (struct reader){ dev, i, rounds, bytes };
	}
	for (unsigned i = 0; i < THREADS; i++)
		script_start(&scripts[i], read_mine, &readers[i]);
	for (unsigned i = 0; i < THREADS; i++)
		script_end(&scripts[i]);
}

CLEAT_TC(read__many_threads)
{
	struct model model = small_model();
	struct cleat_device *dev = model_open(&model, NULL);

	read_in_threads(dev, &model, 64, 400);
	ATF_REQUIRE_EQ(THREADS * 400,
		       model_count(&model, VFIO_USER_REGION_READ));
	cleat_device_unref(dev);
	model_end(&model);
}

CLEAT_TC(read__many_threads_large)
{
	struct model model = small_model();
	struct cleat_device *dev = model_open(&model, NULL);

	read_in_threads(dev, &model, 8000, 100);
	cleat_device_unref(dev);
	model_end(&model);
}

/* Keeps replies back until there are as many requests as threads, and answers
 * the last first. */
struct backwards {
	unsigned num;
	struct peer_message kept[THREADS];
};

static int answer_backwards(struct model *model, const struct peer_message *m)
{
	struct backwards *b = model->arg;
	int err = 0;

	if (m->header.command != VFIO_USER_REGION_READ)
		return 0;
	b->kept[b->num] = *m;
	b->kept[b->num].body = memcpy(malloc(m->length), m->body, m->length);
	if (++b->num < THREADS)
		return 1;
	while (b->num && !err) {
		err = model_answer(model, &b->kept[--b->num]);
		free(b->kept[b->num].body);
	}
	return err ? err : 1;
}

CLEAT_TC(read__replies_in_another_order)
{
	struct backwards backwards = { 0 };
	struct model model = small_model();
	struct cleat_device *dev;

	model.on = answer_backwards;
	model.arg = &backwards;
	dev = model_open(&model, NULL);
	read_in_threads(dev, &model, 8, 20);
	cleat_device_unref(dev);
	model_end(&model);
}

/* Answers everything but reads at offset 0. */
static int swallow_reads(struct model *model, const struct peer_message *m)
{
	struct cleat_wire_access access;

	if (m->header.command != VFIO_USER_REGION_READ)
		return 0;
	memcpy(&access, m->body, sizeof(access));
	return access.offset == 0;
}

CLEAT_TC(read__deadline)
{
	struct cleat_device_config config = { .size = sizeof(config),
					      .access_ms = 150 };
	struct model model = small_model();
	struct cleat_device_stats stats = { .size = sizeof(stats) };
	struct cleat_device *dev;
	struct deadline spent;
	uint32_t value;

	model.on = swallow_reads;
	dev = model_open(&model, &config);
	spent = deadline_in(PATIENCE_MS);
	ATF_REQUIRE_EQ(-ETIMEDOUT, cleat_region_read(dev, 0, 0, &value, 4));
	ATF_REQUIRE(deadline_spent(&spent) >= 150);
	/* One unanswered read is no loss of the device. */
	ATF_REQUIRE_EQ(0, cleat_region_read(dev, 0, 8, &value, 4));
	ATF_REQUIRE_EQ(0, cleat_device_stats(dev, &stats));
	ATF_REQUIRE_EQ(1, stats.timeouts);
	cleat_device_unref(dev);
	model_end(&model);
}

/* Answers the read at offset 0 only when the next one comes, before that. */
struct late {
	struct peer_message kept;
};

static int answer_late(struct model *model, const struct peer_message *m)
{
	struct late *late = model->arg;

	if (m->header.command != VFIO_USER_REGION_READ)
		return 0;
	if (!late->kept.body) {
		late->kept = *m;
		late->kept.body = memcpy(malloc(m->length), m->body, m->length);
		return 1;
	}
	return model_answer(model, &late->kept);
}

CLEAT_TC(read__late_reply_is_drained)
{
	struct cleat_device_config config = { .size = sizeof(config),
					      .access_ms = 100 };
	struct late late = { 0 };
	struct model model = small_model();
	struct cleat_device *dev;
	uint32_t value = 0;

	model.on = answer_late;
	model.arg = &late;
	dev = model_open(&model, &config);
	model_fill(&model, 0, 0, 0x11, 4);
	model_fill(&model, 0, 8, 0x22, 4);
	ATF_REQUIRE_EQ(-ETIMEDOUT, cleat_region_read(dev, 0, 0, &value, 4));
	ATF_REQUIRE_EQ(0, cleat_region_read(dev, 0, 8, &value, 4));
	ATF_REQUIRE_EQ(0x22222222, value);
	cleat_device_unref(dev);
	/* (the model answered the second read's message twice) */
	model_end(&model);
	free(late.kept.body);
}

CLEAT_TC(reset__after_the_end)
{
	struct model model = small_model();
	struct cleat_device *dev = model_open(&model, NULL);
	struct cleat_error why;
	uint32_t value;

	ATF_REQUIRE_EQ(0, cleat_device_reset(dev));
	cleat_device_fail(dev, -EIO, "by the test");
	ATF_REQUIRE_EQ(-ENOTCONN, cleat_device_reset(dev));
	ATF_REQUIRE_EQ(-ENOTCONN, cleat_region_read(dev, 0, 0, &value, 4));
	ATF_REQUIRE_EQ(-ENOTCONN, cleat_device_failure(dev, &why));
	ATF_REQUIRE_STREQ("by the test", why.text);
	cleat_device_unref(dev);
	model_end(&model);
}

static int swallow_reset(struct model *model, const struct peer_message *m)
{
	return m->header.command == VFIO_USER_DEVICE_RESET;
}

CLEAT_TC(reset__unknown_outcome)
{
	struct cleat_device_config config = { .size = sizeof(config),
					      .quiesce_ms = 100 };
	struct model model = small_model();
	struct cleat_device *dev;
	struct cleat_error why;

	model.on = swallow_reset;
	dev = model_open(&model, &config);
	ATF_REQUIRE_EQ(-ETIMEDOUT, cleat_device_reset(dev));
	ATF_REQUIRE_EQ(-ENOTCONN, cleat_device_failure(dev, &why));
	ATF_REQUIRE_MATCH("RESET.*its outcome is unknown", why.text);
	cleat_device_unref(dev);
	model_end(&model);
}

struct waiter {
	struct cleat_device *dev;
	struct cleat_cancel *cancel;
	atomic_int started;
	int expect;
};

static int wait_for_nothing(void *arg)
{
	struct waiter *waiter = arg;
	uint32_t value;
	int err;

	cleat_cancel_enter(waiter->cancel);
	atomic_store(&waiter->started, 1);
	err = cleat_region_read(waiter->dev, 0, 0, &value, 4);
	cleat_cancel_enter(NULL);
	return err == waiter->expect ? 0 : err ? err : -EBADMSG;
}

/* Several threads wait for replies that do not come, one of them leads; each
 * is called back on its own, the leader first or last. */
static void cancel_waiters(bool first_first)
{
	struct model model = small_model();
	struct waiter waiters[4] = { 0 };
	struct script scripts[4];
	struct cleat_device *dev;

	model.on = swallow_reads;
	dev = model_open(&model, NULL);
	for (unsigned i = 0; i < 4; i++) {
		waiters[i].dev = dev;
		waiters[i].expect = -ECANCELED;
		cleat_cancel_create(&waiters[i].cancel);
		script_start(&scripts[i], wait_for_nothing, &waiters[i]);
		REQUIRE_SOON(model_count(&model, VFIO_USER_REGION_READ) ==
			     i + 1);
	}
	for (unsigned i = 0; i < 4; i++) {
		unsigned n = first_first ? i : 3 - i;
		struct deadline spent = deadline_in(PATIENCE_MS);

		cleat_cancel_set(waiters[n].cancel);
		script_end(&scripts[n]);
		ATF_CHECK(deadline_spent(&spent) < SOON_MS);
		cleat_cancel_destroy(waiters[n].cancel);
	}
	cleat_device_unref(dev);
	model_end(&model);
}

CLEAT_TC(cancel__leader_first)
{
	cancel_waiters(true);
}

CLEAT_TC(cancel__leader_last)
{
	cancel_waiters(false);
}

/* Who looks for its reply without sleeping hears of it as soon. */
CLEAT_TC(cancel__leader_looks)
{
	struct cleat_device_config config = { .size = sizeof(config),
					      .spin_us = 1000000 };
	struct model model = small_model();
	struct waiter waiter = { .expect = -ECANCELED };
	struct deadline spent;
	struct script script;
	uint32_t value;

	model.on = swallow_reads;
	waiter.dev = model_open(&model, &config);
	cleat_cancel_create(&waiter.cancel);
	/* Until it has found that looking pays. */
	for (unsigned i = 0; i < 1000; i++)
		ATF_REQUIRE_EQ(0,
			       cleat_region_read(waiter.dev, 0, 8, &value, 4));
	script_start(&script, wait_for_nothing, &waiter);
	REQUIRE_SOON(model_count(&model, VFIO_USER_REGION_READ) == 1001);
	spent = deadline_in(PATIENCE_MS);
	cleat_cancel_set(waiter.cancel);
	script_end(&script);
	ATF_CHECK(deadline_spent(&spent) < SOON_MS);
	cleat_cancel_destroy(waiter.cancel);
	cleat_device_unref(waiter.dev);
	model_end(&model);
}

CLEAT_TC(cancel__before_the_wait)
{
	struct model model = small_model();
	struct cleat_device *dev = model_open(&model, NULL);
	struct cleat_cancel *cancel;
	uint32_t value;

	cleat_cancel_create(&cancel);
	cleat_cancel_enter(cancel);
	cleat_cancel_set(cancel);
	ATF_REQUIRE_EQ(-ECANCELED, cleat_region_read(dev, 0, 0, &value, 4));
	cleat_cancel_clear(cancel);
	ATF_REQUIRE_EQ(0, cleat_region_read(dev, 0, 0, &value, 4));
	cleat_cancel_enter(NULL);
	cleat_cancel_destroy(cancel);
	cleat_device_unref(dev);
	model_end(&model);
}

/* Parks a read, sees its reply after the second call, sends one message. */
CLEAT_TC(park__finished_later)
{
	struct cleat_wire_access asked = { 8, 0, 4 }, reply;
	uint32_t value = 0;
	struct cleat_call call = {
		.command = VFIO_USER_REGION_READ,
		.flags = CLEAT_CALL_PARK,
		.head = &asked,
		.head_size = sizeof(asked),
		.reply = &reply,
		.reply_min = sizeof(reply),
		.reply_size = sizeof(reply),
		.reply_data = &value,
		.reply_data_size = 4,
	};
	struct model model = small_model();
	struct cleat_device *dev = model_open(&model, NULL);
	struct cleat_cancel *cancel;

	model_fill(&model, 0, 8, 0x33, 4);
	cleat_cancel_create(&cancel);
	cleat_cancel_enter(cancel);
	ATF_REQUIRE_EQ(0, cleat_call_start(dev, &call));
	cleat_cancel_set(cancel);
	ATF_REQUIRE_EQ(-EINTR, cleat_call_finish(dev, &call));
	cleat_cancel_clear(cancel);
	ATF_REQUIRE_EQ(0, cleat_call_finish(dev, &call));
	ATF_REQUIRE_EQ(0x33333333, value);
	ATF_REQUIRE_EQ(1, model_count(&model, VFIO_USER_REGION_READ));
	cleat_cancel_enter(NULL);
	cleat_cancel_destroy(cancel);
	cleat_device_unref(dev);
	model_end(&model);
}

struct lost {
	atomic_int times;
	struct cleat_error why;
};

static void count_loss(void *opaque, const struct cleat_error *why)
{
	struct lost *lost = opaque;

	lost->why = *why;
	atomic_fetch_add(&lost->times, 1);
}

/* Ends the connection when all are waiting. */
static int close_at_last(struct model *model, const struct peer_message *m)
{
	unsigned *left = model->arg;

	if (m->header.command != VFIO_USER_REGION_READ)
		return 0;
	return --*left ? 1 : -EPIPE;
}

CLEAT_TC(loss__wakes_everybody)
{
	struct lost lost = { 0 };
	struct cleat_device_config config = { .size = sizeof(config),
					      .lost = count_loss,
					      .opaque = &lost };
	struct model model = small_model();
	struct waiter waiters[THREADS] = { 0 };
	struct script scripts[THREADS];
	struct deadline spent;
	unsigned left = THREADS;
	struct cleat_device *dev;

	model.on = close_at_last;
	model.arg = &left;
	dev = model_open(&model, &config);
	spent = deadline_in(PATIENCE_MS);
	for (unsigned i = 0; i < THREADS; i++) {
		waiters[i].dev = dev;
		waiters[i].expect = -ENOTCONN;
		script_start(&scripts[i], wait_for_nothing, &waiters[i]);
	}
	for (unsigned i = 0; i < THREADS; i++)
		script_end(&scripts[i]);
	ATF_CHECK(deadline_spent(&spent) < 2000);
	REQUIRE_SOON(atomic_load(&lost.times) == 1);
	ATF_REQUIRE_MATCH("closed the connection", lost.why.text);
	cleat_device_unref(dev);
	ATF_REQUIRE_EQ(1, atomic_load(&lost.times));
	model_end(&model);
}

CLEAT_TC(loss__noticed_while_idle)
{
	struct lost lost = { 0 };
	struct cleat_device_config config = { .size = sizeof(config),
					      .lost = count_loss,
					      .opaque = &lost };
	struct model model = small_model();
	struct cleat_device *dev = model_open(&model, &config);

	shutdown(model.fd, SHUT_RDWR);
	REQUIRE_SOON(atomic_load(&lost.times) == 1);
	cleat_device_unref(dev);
	model_end(&model);
}

CLEAT_TC(loss__own_loop)
{
	struct lost lost = { 0 };
	struct cleat_device_config config = { .size = sizeof(config),
					      .flags = CLEAT_DEVICE_OWN_LOOP,
					      .lost = count_loss,
					      .opaque = &lost };
	struct model model = small_model();
	struct cleat_device *dev = model_open(&model, &config);

	ATF_REQUIRE_EQ(0, cleat_device_dispatch(dev));
	shutdown(model.fd, SHUT_RDWR);
	ATF_REQUIRE(wait_fd(cleat_device_fd(dev), POLLIN, PATIENCE_MS));
	ATF_REQUIRE_EQ(-ENOTCONN, cleat_device_dispatch(dev));
	ATF_REQUIRE_EQ(1, atomic_load(&lost.times));
	ATF_REQUIRE(!wait_fd(cleat_device_fd(dev), POLLIN, 0));
	cleat_device_unref(dev);
	model_end(&model);
}

/* --- The server's own requests -------------------------------------------- */

#define BURST 600

/* On the first read: sends many requests of its own before the reply. */
static int burst_first(struct model *model, const struct peer_message *m)
{
	struct cleat_wire_dma dma = { 0x1000, 8 };

	if (m->header.command != VFIO_USER_REGION_READ)
		return m->header.command == VFIO_USER_DMA_READ;
	for (uint16_t i = 1; i <= BURST; i++)
		if (peer_command(model->fd, i, VFIO_USER_DMA_READ, &dma,
				 sizeof(dma), NULL, 0))
			return -EPIPE;
	return 0;
}

static int serve_dma(void *opaque, struct cleat_inbound *in)
{
	atomic_uint *served = opaque;

	if (in->size != sizeof(struct cleat_wire_dma) ||
	    in->reply_room != sizeof(struct cleat_wire_dma) + 8)
		return -EINVAL;
	memcpy(in->reply, in->payload, in->size);
	memset(in->reply + in->size, 0x44, 8);
	in->reply_size = in->size + 8;
	atomic_fetch_add(served, 1);
	return 0;
}

CLEAT_TC(serve__burst_before_a_reply)
{
	struct model model = small_model();
	struct cleat_device *dev;
	atomic_uint served = 0;
	uint32_t value;

	model.on = burst_first;
	dev = model_open(&model, NULL);
	cleat_device_serve(dev, VFIO_USER_DMA_READ, serve_dma, &served);
	ATF_REQUIRE_EQ(0, cleat_region_read(dev, 0, 0, &value, 4));
	/* In stream order: all of them before the reply was delivered. */
	ATF_REQUIRE_EQ(BURST, atomic_load(&served));
	REQUIRE_SOON(model_count(&model, VFIO_USER_DMA_READ) == BURST);
	cleat_device_serve(dev, VFIO_USER_DMA_READ, NULL, NULL);
	cleat_device_unref(dev);
	model_end(&model);
}

/* What the leader takes for the head of its large reply is many requests. */
CLEAT_TC(serve__burst_before_a_large_reply)
{
	struct model model = small_model();
	uint8_t *buf = malloc(60000);
	struct cleat_device *dev;
	atomic_uint served = 0;

	model.on = burst_first;
	dev = model_open(&model, NULL);
	model_fill(&model, 0, 0, 0x55, 60000);
	cleat_device_serve(dev, VFIO_USER_DMA_READ, serve_dma, &served);
	for (unsigned round = 1; round <= 5; round++) {
		memset(buf, 0, 60000);
		ATF_REQUIRE_EQ(0, cleat_region_read(dev, 0, 0, buf, 60000));
		ATF_REQUIRE_EQ(round * BURST, atomic_load(&served));
		for (unsigned i = 0; i < 60000; i++)
			ATF_REQUIRE_EQ_MSG(0x55, buf[i], "byte %u", i);
	}
	cleat_device_serve(dev, VFIO_USER_DMA_READ, NULL, NULL);
	cleat_device_unref(dev);
	model_end(&model);
	free(buf);
}

CLEAT_TC(serve__while_idle)
{
	struct cleat_wire_dma dma = { 0x1000, 8 };
	struct model model = small_model();
	struct cleat_device *dev;
	atomic_uint served = 0;

	model.on = burst_first; /* (takes the reply) */
	dev = model_open(&model, NULL);
	cleat_device_serve(dev, VFIO_USER_DMA_READ, serve_dma, &served);
	ATF_REQUIRE_EQ(0, peer_command(model.fd, 1, VFIO_USER_DMA_READ, &dma,
				       sizeof(dma), NULL, 0));
	REQUIRE_SOON(model_count(&model, VFIO_USER_DMA_READ) == 1);
	ATF_REQUIRE_EQ(1, atomic_load(&served));
	cleat_device_serve(dev, VFIO_USER_DMA_READ, NULL, NULL);
	cleat_device_unref(dev);
	model_end(&model);
}

/* --- The end under way ----------------------------------------------------
 */

static int read_until_the_end(void *arg)
{
	struct cleat_device *dev = arg;
	uint32_t value;
	int err = cleat_region_read(dev, 0, 0, &value, 4);

	return err == -ESHUTDOWN ? 0 : err ? err : -EBADMSG;
}

/* The last reference goes while threads wait for replies, one as the leader;
 * what they still touch is there until they have left. */
CLEAT_TC(unref__threads_wait)
{
	struct model model = small_model();
	struct script scripts[4];
	struct cleat_device *dev;

	model.on = swallow_reads;
	dev = model_open(&model, NULL);
	for (unsigned i = 0; i < 4; i++)
		script_start(&scripts[i], read_until_the_end, dev);
	REQUIRE_SOON(model_count(&model, VFIO_USER_REGION_READ) == 4);
	cleat_device_unref(dev);
	for (unsigned i = 0; i < 4; i++)
		script_end(&scripts[i]);
	model_end(&model);
}

/* The connection is the parent's, and so is its end. */
CLEAT_TC(unref__in_a_child)
{
	struct model model = small_model();
	struct cleat_device *dev = model_open(&model, NULL);
	uint32_t value;
	pid_t child = fork();
	int status;

	if (!child) {
		unsigned fds = count_fds();

		if (cleat_region_read(dev, 0, 0, &value, 4) != -ECHILD)
			_exit(1);
		cleat_device_unref(dev);
		_exit(count_fds() < fds ? 0 : 2);
	}
	ATF_REQUIRE_EQ(child, waitpid(child, &status, 0));
	ATF_REQUIRE_EQ_MSG(0, status, "%#x", status);
	ATF_REQUIRE_EQ(0, cleat_region_read(dev, 0, 0, &value, 4));
	ATF_REQUIRE_EQ(0, cleat_device_failure(dev, NULL));
	cleat_device_unref(dev);
	model_end(&model);
}

/* --- Pipelining ------------------------------------------------------------
 */

#define PIPELINED 3000

/* More requests than slots and than fit the socket, before any is finished. */
CLEAT_TC(start__pipelined)
{
	static struct cleat_call calls[PIPELINED];
	static struct cleat_wire_dma_map maps[PIPELINED];
	struct model model = small_model();
	struct cleat_device *dev = model_open(&model, NULL);
	unsigned finished = 0;

	for (unsigned i = 0; i < PIPELINED; i++) {
		calls[i] = (struct cleat_call){
			.command = VFIO_USER_DMA_MAP,
			.deadline_class = CLEAT_CALL_CONTROL,
			.head = &maps[i],
			.head_size = sizeof(maps[i]),
		};
		/* All slots hold results that nobody has taken: take some. */
		while (i - finished >= 500)
			ATF_REQUIRE_EQ(
				0, cleat_call_finish(dev, &calls[finished++]));
		ATF_REQUIRE_EQ(0, cleat_call_start(dev, &calls[i]));
	}
	while (finished < PIPELINED)
		ATF_REQUIRE_EQ(0, cleat_call_finish(dev, &calls[finished++]));
	ATF_REQUIRE_EQ(PIPELINED, model_count(&model, VFIO_USER_DMA_MAP));
	cleat_device_unref(dev);
	model_end(&model);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, read__many_threads);
	ATF_TP_ADD_TC(tp, read__many_threads_large);
	ATF_TP_ADD_TC(tp, read__replies_in_another_order);
	ATF_TP_ADD_TC(tp, read__deadline);
	ATF_TP_ADD_TC(tp, read__late_reply_is_drained);
	ATF_TP_ADD_TC(tp, reset__after_the_end);
	ATF_TP_ADD_TC(tp, reset__unknown_outcome);
	ATF_TP_ADD_TC(tp, cancel__leader_first);
	ATF_TP_ADD_TC(tp, cancel__leader_last);
	ATF_TP_ADD_TC(tp, cancel__leader_looks);
	ATF_TP_ADD_TC(tp, cancel__before_the_wait);
	ATF_TP_ADD_TC(tp, park__finished_later);
	ATF_TP_ADD_TC(tp, loss__wakes_everybody);
	ATF_TP_ADD_TC(tp, loss__noticed_while_idle);
	ATF_TP_ADD_TC(tp, loss__own_loop);
	ATF_TP_ADD_TC(tp, serve__burst_before_a_reply);
	ATF_TP_ADD_TC(tp, serve__burst_before_a_large_reply);
	ATF_TP_ADD_TC(tp, serve__while_idle);
	ATF_TP_ADD_TC(tp, unref__threads_wait);
	ATF_TP_ADD_TC(tp, unref__in_a_child);
	ATF_TP_ADD_TC(tp, start__pipelined);
	return atf_no_error();
}
