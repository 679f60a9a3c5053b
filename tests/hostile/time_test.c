/* SPDX-License-Identifier: BSD-2-Clause */
/* Servers that take their time: every wait ends. */
#include <poll.h>
#include <stdatomic.h>

#include <cleat/cancel.h>

#include "tests/hostile/scene.h"

static int no_answer(struct model *model, const struct peer_message *m)
{
	return scene_is_read(m);
}

CLEAT_TC(read__never_answered)
{
	struct deadline spent;
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = no_answer;
	scene_open(&scene);
	spent = deadline_in(PATIENCE_MS);
	ATF_CHECK_EQ(-ETIMEDOUT, scene_read(&scene));
	ATF_CHECK(deadline_spent(&spent) >= SHORT_MS);
	scene_stands(&scene);
	scene_end(&scene);
}

struct waiter {
	struct cleat_device *dev;
	struct cleat_cancel *cancel;
	int result;
	unsigned spent_ms;
};

static int wait_for_reply(void *arg)
{
	struct waiter *waiter = arg;
	struct deadline spent = deadline_in(PATIENCE_MS);
	uint32_t value;

	cleat_cancel_enter(waiter->cancel);
	waiter->result = cleat_region_read(waiter->dev, 0, 0, &value, 4);
	cleat_cancel_enter(NULL);
	waiter->spent_ms = deadline_spent(&spent);
	return 0;
}

#define THREADS 16

static void start_waiters(struct waiter *waiters, struct script *scripts,
			  struct scene *scene)
{
	for (unsigned i = 0; i < THREADS; i++) {
		waiters[i] = (struct waiter){ .dev = scene->dev };
		script_start(&scripts[i], wait_for_reply, &waiters[i]);
	}
	REQUIRE_SOON(model_count(&scene->bad, VFIO_USER_REGION_READ) ==
		     THREADS);
}

CLEAT_TC(read__many_threads_never_answered)
{
	struct waiter waiters[THREADS];
	struct script scripts[THREADS];
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = no_answer;
	scene_open(&scene);
	start_waiters(waiters, scripts, &scene);
	for (unsigned i = 0; i < THREADS; i++) {
		script_end(&scripts[i]);
		ATF_CHECK_EQ(-ETIMEDOUT, waiters[i].result);
		ATF_CHECK(waiters[i].spent_ms < SHORT_MS + SLACK_MS);
	}
	scene_end(&scene);
}

/* The device is given up while threads wait inside it. */
CLEAT_TC(close__while_many_wait)
{
	struct waiter waiters[THREADS];
	struct script scripts[THREADS];
	struct deadline spent;
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = no_answer;
	scene.config.access_ms = 60000;
	scene_open(&scene);
	start_waiters(waiters, scripts, &scene);
	spent = deadline_in(PATIENCE_MS);
	cleat_device_fail(scene.dev, -EIO, "given up by the case");
	for (unsigned i = 0; i < THREADS; i++) {
		script_end(&scripts[i]);
		ATF_CHECK_EQ(-ENOTCONN, waiters[i].result);
	}
	ATF_CHECK(deadline_spent(&spent) < SLACK_MS);
	scene_end(&scene);
}

CLEAT_TC(cancel__while_never_answered)
{
	struct waiter waiter = { .result = 1 };
	struct script script;
	struct deadline spent;
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = no_answer;
	scene.config.access_ms = 60000;
	scene_open(&scene);
	waiter.dev = scene.dev;
	ATF_REQUIRE_EQ(0, cleat_cancel_create(&waiter.cancel));
	script_start(&script, wait_for_reply, &waiter);
	REQUIRE_SOON(model_count(&scene.bad, VFIO_USER_REGION_READ) == 1);
	spent = deadline_in(PATIENCE_MS);
	cleat_cancel_set(waiter.cancel);
	script_end(&script);
	ATF_CHECK_EQ(-ECANCELED, waiter.result);
	ATF_CHECK(deadline_spent(&spent) < 1000);
	cleat_cancel_destroy(waiter.cancel);
	scene_end(&scene);
}

CLEAT_TC(reset__never_answered)
{
	uint16_t command = VFIO_USER_DEVICE_RESET;
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = scene_silent;
	scene.bad.arg = &command;
	scene_open(&scene);
	ATF_CHECK_EQ(-ETIMEDOUT, cleat_device_reset(scene.dev));
	scene_lost(&scene, -ETIMEDOUT,
		   "DEVICE_RESET was not answered in time: its outcome is");
	scene_end(&scene);
}

/* Every slot waits for a reply that nobody wants any more. */
#define CALLS 511

CLEAT_TC(slots__all_given_up)
{
	static struct cleat_call calls[CALLS];
	static struct cleat_wire_access asked = { 0, 0, 4 };
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = no_answer;
	scene_open(&scene);
	for (unsigned i = 0; i < CALLS; i++) {
		calls[i] = (struct cleat_call){
			.command = VFIO_USER_REGION_READ,
			.deadline_class = CLEAT_CALL_ACCESS,
			.head = &asked,
			.head_size = sizeof(asked),
		};
		ATF_REQUIRE_EQ(0, cleat_call_start(scene.dev, &calls[i]));
	}
	for (unsigned i = 0; i < CALLS; i++)
		ATF_CHECK_EQ(-ETIMEDOUT,
			     cleat_call_finish(scene.dev, &calls[i]));
	ATF_CHECK_EQ(-ETIMEDOUT, scene_read(&scene));
	scene_end(&scene);
}

/* --- A reply that somebody has stopped waiting for ----------------------------- */

#define BODY 8000

/* One byte now and then, until the case says: the rest. */
struct dripper {
	atomic_bool hurry;
	atomic_uint sent;
};

static int drip_body(struct model *model, const struct peer_message *m)
{
	struct dripper *dripper = model->arg;
	struct {
		struct peer_header header;
		struct cleat_wire_access access;
		uint8_t data[BODY];
	} reply = { scene_header(m, 16 + BODY), { 0, 0, BODY }, { 0 } };

	if (!scene_is_read(m))
		return 0;
	memset(reply.data, 0x77, BODY);
	for (size_t i = 0; i < sizeof(reply); i++) {
		if (!atomic_load(&dripper->hurry))
			usleep(20000);
		if (peer_send_raw(model->fd, (char *)&reply + i, 1, NULL, 0))
			return -EPIPE;
		atomic_fetch_add(&dripper->sent, 1);
	}
	return 1;
}

static void drip_into(uint8_t *data, struct scene *scene,
		      struct dripper *dripper)
{
	uint32_t value;

	ATF_CHECK_EQ(-ETIMEDOUT,
		     cleat_region_read(scene->dev, 0, 0, data, BODY));
	memset(data, 0xee, BODY);
	/* Others wait behind it, and no longer than they may. */
	ATF_CHECK_EQ(-ETIMEDOUT, cleat_region_read(scene->dev, 0, 8, &value,
						   4));
	ATF_CHECK(atomic_load(&dripper->sent) < BODY);
}

CLEAT_TC(reply__drips_to_nobody)
{
	struct dripper dripper = { false };
	uint8_t *data = malloc(BODY);
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = drip_body;
	scene.bad.arg = &dripper;
	scene_open(&scene);
	drip_into(data, &scene, &dripper);
	atomic_store(&dripper.hurry, true);
	REQUIRE_SOON(!cleat_region_read(scene.dev, 0, 8, &(uint32_t){ 0 }, 4));
	/* What came of it after its reader had gone is nowhere. */
	for (size_t i = 0; i < BODY; i++)
		ATF_REQUIRE_EQ(0xee, data[i]);
	scene_stands(&scene);
	scene_end(&scene);
	free(data);
}

/* The same, and the device goes in the midst of it. */
CLEAT_TC(reply__drips_into_a_closed_device)
{
	struct dripper dripper = { false };
	uint8_t *data = malloc(BODY);
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = drip_body;
	scene.bad.arg = &dripper;
	scene_open(&scene);
	drip_into(data, &scene, &dripper);
	scene_end(&scene);
	for (size_t i = 0; i < BODY; i++)
		ATF_REQUIRE_EQ(0xee, data[i]);
	free(data);
}

/* --- A request that never gets room in the socket -------------------------------- */

static int stop_reading(struct model *model, const struct peer_message *m)
{
	atomic_bool *stop = model->arg;

	while (atomic_load(stop))
		usleep(1000);
	return 0;
}

static void begin_deaf(struct scene *scene, atomic_bool *stop)
{
	scene_begin(scene);
	scene->bad.on = stop_reading;
	scene->bad.arg = stop;
	scene_open(scene);
	atomic_store(stop, true);
}

static void end_deaf(struct scene *scene, atomic_bool *stop)
{
	scene_check_friend(scene);
	atomic_store(stop, false);
	scene_end(scene);
}

/* It is begun, and nobody can send any more. */
CLEAT_TC(room__large_write)
{
	uint8_t *data = calloc(1, 65536);
	atomic_bool stop = false;
	struct deadline spent;
	struct scene scene;
	int err = 0;

	begin_deaf(&scene, &stop);
	for (unsigned i = 0; i < 100 && !err; i++) {
		spent = deadline_in(PATIENCE_MS);
		err = cleat_region_post(scene.dev, 0, 0, data, 65536);
		ATF_CHECK(deadline_spent(&spent) < 2 * SHORT_MS + SLACK_MS);
	}
	ATF_CHECK_EQ(-ETIMEDOUT, err);
	err = cleat_region_post(scene.dev, 0, 0, data, 4);
	ATF_CHECK(err == -ETIMEDOUT || err == -ENOTCONN);
	end_deaf(&scene, &stop);
	free(data);
}

CLEAT_TC(room__many_small_writes)
{
	struct deadline spent = { 0 };
	atomic_bool stop = false;
	struct scene scene;
	int err = 0;

	begin_deaf(&scene, &stop);
	for (unsigned i = 0; i < 100000 && !err; i++) {
		spent = deadline_in(PATIENCE_MS);
		err = cleat_region_post(scene.dev, 0, 0, "abcd", 4);
	}
	ATF_CHECK_EQ(-ETIMEDOUT, err);
	ATF_CHECK(deadline_spent(&spent) < SHORT_MS + SLACK_MS);
	/* Not a byte of it was sent: when there is room again it goes on. */
	scene_stands(&scene);
	atomic_store(&stop, false);
	REQUIRE_SOON(!cleat_region_post(scene.dev, 0, 0, "abcd", 4));
	end_deaf(&scene, &stop);
}

/* Others want to send meanwhile: each has its own deadline. */
static int post_until_full(void *arg)
{
	struct waiter *waiter = arg;
	struct deadline spent = { 0 };

	for (unsigned i = 0; i < 100000 && !waiter->result; i++) {
		spent = deadline_in(PATIENCE_MS);
		waiter->result = cleat_region_post(waiter->dev, 0, 0, "abcd",
						   4);
	}
	waiter->spent_ms = deadline_spent(&spent);
	return 0;
}

CLEAT_TC(room__many_threads)
{
	struct waiter waiters[THREADS] = { 0 };
	struct script scripts[THREADS];
	atomic_bool stop = false;
	struct scene scene;

	begin_deaf(&scene, &stop);
	for (unsigned i = 0; i < THREADS; i++) {
		waiters[i].dev = scene.dev;
		script_start(&scripts[i], post_until_full, &waiters[i]);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		script_end(&scripts[i]);
		ATF_CHECK_EQ(-ETIMEDOUT, waiters[i].result);
		ATF_CHECK(waiters[i].spent_ms < SHORT_MS + SLACK_MS);
	}
	end_deaf(&scene, &stop);
}

/* --- A guest's accesses --------------------------------------------------------- */

CLEAT_TC(guest__reads_ones_in_time)
{
	struct bound bound;
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = no_answer;
	scene_open(&scene);
	bound_begin(&bound, scene.dev);
	ATF_CHECK_EQ(UINT32_MAX, bound_load(&bound, 0, 4));
	bound_end(&bound);
	scene_end(&scene);
}

static int say_interrupted(struct model *model, const struct peer_message *m)
{
	if (!scene_is_read(m))
		return 0;
	return peer_reply_error(model->fd, m, EINTR) ? -EPIPE : 1;
}

/* Not "call again": the access is over. */
CLEAT_TC(guest__server_says_interrupted)
{
	struct bound bound;
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = say_interrupted;
	scene_open(&scene);
	bound_begin(&bound, scene.dev);
	ATF_CHECK_EQ(UINT32_MAX, bound_load(&bound, 0, 4));
	ATF_CHECK_EQ(1, model_count(&scene.bad, VFIO_USER_REGION_READ));
	bound_end(&bound);
	scene_end(&scene);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, read__never_answered);
	ATF_TP_ADD_TC(tp, read__many_threads_never_answered);
	ATF_TP_ADD_TC(tp, close__while_many_wait);
	ATF_TP_ADD_TC(tp, cancel__while_never_answered);
	ATF_TP_ADD_TC(tp, reset__never_answered);
	ATF_TP_ADD_TC(tp, slots__all_given_up);
	ATF_TP_ADD_TC(tp, reply__drips_to_nobody);
	ATF_TP_ADD_TC(tp, reply__drips_into_a_closed_device);
	ATF_TP_ADD_TC(tp, room__large_write);
	ATF_TP_ADD_TC(tp, room__many_small_writes);
	ATF_TP_ADD_TC(tp, room__many_threads);
	ATF_TP_ADD_TC(tp, guest__reads_ones_in_time);
	ATF_TP_ADD_TC(tp, guest__server_says_interrupted);
	return atf_no_error();
}
