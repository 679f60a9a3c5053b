/* SPDX-License-Identifier: BSD-2-Clause */
/* What an access may cost: system calls, messages, allocations. Never times. */
#include <stdatomic.h>
#include <sys/syscall.h>

#include "client/client.h"
#include "tests/client/allocations.h"
#include "tests/support/model.h"
#include "tests/support/syscalls.h"

#define RW (CLEAT_REGION_READ | CLEAT_REGION_WRITE)
#define MULTI_JSON "{\"capabilities\":{\"write_multiple\":true}}"
#define N 200

static struct model plain_model(void)
{
	return (struct model){
		.json = MULTI_JSON,
		.num_regions = 1,
		.regions = { { 65536, RW } },
	};
}

/* One that looks for replies would be counted for each look. */
static struct cleat_device *open_sleeper(struct model *model)
{
	struct cleat_device_config config = { .size = sizeof(config),
					      .spin_us = CLEAT_SPIN_NEVER };

	return model_open(model, &config);
}

/* --- System calls ----------------------------------------------------------- */

static unsigned sends(void)
{
	return syscalls_counted(SYS_sendto) + syscalls_counted(SYS_sendmsg);
}

static void check_calls(unsigned most_receives)
{
	static const long expected[] = { SYS_sendto, SYS_sendmsg, SYS_recvmsg };

	ATF_CHECK_EQ(N, sends());
	ATF_CHECK(syscalls_counted(SYS_recvmsg) <= most_receives);
	ATF_CHECK_EQ_MSG(-1, syscalls_other(expected, 3),
			 "system call %ld was made",
			 syscalls_other(expected, 3));
}

/*
 * The filter stays on for good, so that each case has a process to itself, and
 * the case ends in it: nothing is asserted about what comes after.
 */
static void read_and_count(size_t size, unsigned receives_each)
{
	static uint8_t buf[65536];
	struct model model = plain_model();
	struct cleat_device *dev = open_sleeper(&model);

	ATF_REQUIRE_EQ(0, cleat_region_read(dev, 0, 0, buf, size));
	if (!syscalls_watch())
		atf_tc_skip("system calls cannot be counted here");
	syscalls_forget();
	for (unsigned i = 0; i < N; i++)
		if (cleat_region_read(dev, 0, 0, buf, size))
			break;
	check_calls(receives_each * N);
	cleat_device_unref(dev);
	model_end(&model);
}

CLEAT_TC(calls__read_4)
{
	read_and_count(4, 1);
}

CLEAT_TC(calls__read_4096)
{
	read_and_count(4096, 1);
}

/* The kernel may hand it over in two pieces. */
CLEAT_TC(calls__read_32768)
{
	read_and_count(32768, 2);
}

CLEAT_TC(calls__write_4)
{
	struct model model = plain_model();
	struct cleat_device *dev = open_sleeper(&model);
	uint32_t value = 0;

	ATF_REQUIRE_EQ(0, cleat_region_write(dev, 0, 0, &value, 4));
	if (!syscalls_watch())
		atf_tc_skip("system calls cannot be counted here");
	syscalls_forget();
	for (unsigned i = 0; i < N; i++)
		if (cleat_region_write(dev, 0, 0, &value, 4))
			break;
	check_calls(N);
	cleat_device_unref(dev);
	model_end(&model);
}

/* No more than fit the socket, or it would have to wait for room. */
CLEAT_TC(calls__post_4)
{
	struct model model = plain_model();
	struct cleat_device *dev = open_sleeper(&model);
	uint32_t value = 0;

	ATF_REQUIRE_EQ(0, cleat_region_post(dev, 0, 0, &value, 4));
	if (!syscalls_watch())
		atf_tc_skip("system calls cannot be counted here");
	syscalls_forget();
	for (unsigned i = 0; i < N; i++)
		if (cleat_region_post(dev, 0, 0, &value, 4))
			break;
	check_calls(0);
	cleat_device_unref(dev);
	model_end(&model);
}

#define THREADS 8

struct crowd {
	struct cleat_device *dev;
	pthread_barrier_t step;
	atomic_uint unwatched;
	atomic_uint failed;
};

static void *read_watched(void *arg)
{
	struct crowd *crowd = arg;
	uint32_t value;

	if (!syscalls_watch())
		atomic_fetch_add(&crowd->unwatched, 1);
	pthread_barrier_wait(&crowd->step);
	for (unsigned i = 0; i < N; i++)
		if (cleat_region_read(crowd->dev, 0, 0, &value, 4))
			atomic_fetch_add(&crowd->failed, 1);
	pthread_barrier_wait(&crowd->step);
	while (!crowd->unwatched)
		pause();
	return NULL;
}

/*
 * Nobody is woken but for a reply or to lead: a herd that is woken for each
 * reply would make several times as many calls. (Not looked at for leaks:
 * watched threads stay.)
 */
ATF_TC_WITHOUT_HEAD(calls__eight_threads);
ATF_TC_BODY(calls__eight_threads, tc)
{
	struct model model = plain_model();
	struct crowd crowd = { .dev = open_sleeper(&model) };
	pthread_t threads[THREADS];

	pthread_barrier_init(&crowd.step, NULL, THREADS + 1);
	for (unsigned i = 0; i < THREADS; i++)
		ATF_REQUIRE_EQ(0, pthread_create(&threads[i], NULL,
						 read_watched, &crowd));
	pthread_barrier_wait(&crowd.step);
	pthread_barrier_wait(&crowd.step);
	cleat_device_unref(crowd.dev);
	model_end(&model);
	ATF_CHECK_EQ(0, crowd.failed);
	for (unsigned i = 0; i < crowd.unwatched; i++)
		pthread_join(threads[i], NULL);
	if (crowd.unwatched)
		atf_tc_skip("system calls cannot be counted here");
	ATF_CHECK(sends() <= N * THREADS);
	ATF_CHECK(syscalls_counted(SYS_recvmsg) <= N * THREADS);
	ATF_CHECK(syscalls_counted(SYS_futex) <= 3 * N * THREADS);
}

/* --- Allocations and messages ------------------------------------------------ */

struct outcome {
	struct cleat_device *dev;
	unsigned allocations;
	int err;
};

/* Every kind of access that a vCPU makes, once. */
static int access_all(struct cleat_device *dev)
{
	struct cleat_region_store stores[64];
	static _Thread_local uint8_t buf[32768];
	int err = 0;

	for (unsigned i = 0; i < 64; i++)
		stores[i] = (struct cleat_region_store){ .offset = 4 * i,
							 .count = 4 };
	for (size_t size = 1; size <= 32768 && !err; size *= 8) {
		err = cleat_region_read(dev, 0, 0, buf, size);
		if (!err)
			err = cleat_region_write(dev, 0, 0, buf, size);
	}
	if (!err)
		err = cleat_region_post(dev, 0, 0, buf, 4);
	return err ? err : cleat_region_write_batch(dev, stores, 64, false);
}

static void *access_often(void *arg)
{
	struct outcome *outcome = arg;
	unsigned before;

	outcome->err = access_all(outcome->dev);
	before = allocations_here();
	for (unsigned i = 0; i < N && !outcome->err; i++)
		outcome->err = access_all(outcome->dev);
	outcome->allocations = allocations_here() - before;
	return NULL;
}

static int take_multi(struct model *model, const struct peer_message *m)
{
	return m->header.command == VFIO_USER_REGION_WRITE_MULTI;
}

CLEAT_TC(allocations__one_thread)
{
	struct model model = plain_model();
	struct outcome outcome = { 0 };

	model.on = take_multi;
	outcome.dev = model_open(&model, NULL);
	/* Those of opening it: it is us whom the library asks. */
	ATF_REQUIRE(allocations_here());
	access_often(&outcome);
	ATF_CHECK_EQ(0, outcome.err);
	ATF_CHECK_EQ(0, outcome.allocations);
	cleat_device_unref(outcome.dev);
	model_end(&model);
}

static void *read_small(void *arg)
{
	struct outcome *outcome = arg;
	unsigned before = allocations_here();
	uint64_t value;

	for (unsigned i = 0; i < N && !outcome->err; i++) {
		outcome->err = cleat_region_read(outcome->dev, 0, 8, &value, 8);
		if (!outcome->err)
			outcome->err = cleat_region_write(outcome->dev, 0, 8,
							  &value, 8);
	}
	outcome->allocations = allocations_here() - before;
	return NULL;
}

/* Of registers: a body too large for the buffer that another thread reads has
 * to be kept somewhere. */
CLEAT_TC(allocations__eight_threads)
{
	struct model model = plain_model();
	struct cleat_device *dev = model_open(&model, NULL);
	struct outcome outcomes[8];
	pthread_t threads[8];

	for (unsigned i = 0; i < 8; i++) {
		outcomes[i] = (struct outcome){ .dev = dev };
		ATF_REQUIRE_EQ(0, pthread_create(&threads[i], NULL, read_small,
						 &outcomes[i]));
	}
	for (unsigned i = 0; i < 8; i++) {
		ATF_REQUIRE_EQ(0, pthread_join(threads[i], NULL));
		ATF_CHECK_EQ(0, outcomes[i].err);
		ATF_CHECK_EQ(0, outcomes[i].allocations);
	}
	cleat_device_unref(dev);
	model_end(&model);
}

CLEAT_TC(messages__of_each_access)
{
	struct model model = plain_model();
	struct cleat_device_stats stats = { .size = sizeof(stats) };
	struct cleat_device *dev;
	uint64_t before;
	uint8_t last;

	model.on = take_multi;
	dev = model_open(&model, NULL);
	ATF_REQUIRE_EQ(0, cleat_device_stats(dev, &stats));
	before = stats.requests;
	for (unsigned i = 0; i < N; i++)
		ATF_REQUIRE_EQ(0, access_all(dev));
	ATF_REQUIRE_EQ(0, cleat_region_read(dev, 0, 0, &last, 1));
	ATF_REQUIRE_EQ(0, cleat_device_stats(dev, &stats));
	/* 1, 8, 64, 512, 4096 and 32768 bytes. */
	ATF_CHECK_EQ(14 * N + 1, stats.requests - before);
	ATF_CHECK_EQ(2 * N, stats.posted);
	ATF_CHECK_EQ(6 * N + 1, model_count(&model, VFIO_USER_REGION_READ));
	ATF_CHECK_EQ(7 * N, model_count(&model, VFIO_USER_REGION_WRITE));
	ATF_CHECK_EQ(N, model_count(&model, VFIO_USER_REGION_WRITE_MULTI));
	cleat_device_unref(dev);
	model_end(&model);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, calls__read_4);
	ATF_TP_ADD_TC(tp, calls__read_4096);
	ATF_TP_ADD_TC(tp, calls__read_32768);
	ATF_TP_ADD_TC(tp, calls__write_4);
	ATF_TP_ADD_TC(tp, calls__post_4);
	ATF_TP_ADD_TC(tp, calls__eight_threads);
	ATF_TP_ADD_TC(tp, allocations__one_thread);
	ATF_TP_ADD_TC(tp, allocations__eight_threads);
	ATF_TP_ADD_TC(tp, messages__of_each_access);
	return atf_no_error();
}
