/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Many threads with requests in flight to a real server that is stopped, goes
 * on, dies, drops the connection or lets them hang, while they are called back.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>

#include <cleat/cleat.h>

#include "backends/probe/probe_regs.h"
#include "tests/support/support.h"

#define THREADS 4
#define SECONDS 3
/* Its own of each thread, in the part of the pages that goes by message. */
#define PLACE(thread) (0x3000u + 0x1000u * (thread))

struct storm;

struct worker {
	struct storm *storm;
	pthread_t thread;
	struct cleat_cancel *cancel;
	unsigned number;
	uint64_t value;
	bool sure; /* that @value is what the device has */
	const char *wrong;
};

struct storm {
	struct cleat_device *dev;
	struct worker workers[THREADS];
	atomic_bool over;
	atomic_ulong done;
	atomic_ulong called_back;
	unsigned long lives[5];
};

/* While it is to stay away, every call of the thread's ends at once. */
static bool is_allowed(struct worker *worker, int err)
{
	if (err == -ECANCELED) {
		atomic_fetch_add(&worker->storm->called_back, 1);
		usleep(100);
	}
	return !err || err == -ECANCELED || err == -ENOTCONN ||
	       err == -ETIMEDOUT;
}

/* After a write that may or may not have been done either value is right. */
static const char *write_once(struct worker *worker)
{
	uint64_t value = worker->value + 1;
	int err = cleat_region_write(worker->storm->dev, PROBE_BAR_PAGES,
				     PLACE(worker->number), &value,
				     sizeof(value));

	if (!err) {
		worker->value = value;
		worker->sure = true;
		return NULL;
	}
	worker->sure = false;
	return is_allowed(worker, err) ? NULL : "a write's error";
}

static const char *read_once(struct worker *worker)
{
	uint64_t value = 0;
	int err =
		cleat_region_read(worker->storm->dev, PROBE_BAR_PAGES,
				  PLACE(worker->number), &value, sizeof(value));

	if (err)
		return is_allowed(worker, err) ? NULL : "a read's error";
	atomic_fetch_add(&worker->storm->done, 1);
	if (worker->sure && value != worker->value)
		return "what was read is not what was written";
	if (value != worker->value && value != worker->value + 1)
		return "what was read was never written";
	worker->value = value;
	worker->sure = true;
	return NULL;
}

static void *work(void *arg)
{
	struct worker *worker = arg;
	struct storm *storm = worker->storm;

	cleat_cancel_enter(worker->cancel);
	while (!worker->wrong && !atomic_load(&storm->over) &&
	       !cleat_device_failure(storm->dev, NULL)) {
		worker->wrong = write_once(worker);
		if (!worker->wrong)
			worker->wrong = read_once(worker);
	}
	cleat_cancel_enter(NULL);
	return NULL;
}

/* --- One server's life -------------------------------------------------------
 */

static void start(struct storm *storm, const char *option)
{
	const char *const argv[] = { program("backends/cleat-probe"), option,
				     NULL };
	struct cleat_device_config config = {
		.size = sizeof(config),
		.argv = argv,
		.access_ms = PATIENCE_MS,
	};
	struct cleat_error why = { .text = "" };

	atomic_store(&storm->over, false);
	ATF_REQUIRE_EQ_MSG(0, cleat_device_open(&config, &storm->dev, &why),
			   "%s", why.text);
	for (unsigned i = 0; i < THREADS; i++) {
		struct worker *worker = &storm->workers[i];

		*worker = (struct worker){ .storm = storm,
					   .number = i,
					   .sure = true };
		ATF_REQUIRE_EQ(0, cleat_cancel_create(&worker->cancel));
		ATF_REQUIRE_EQ(
			0, pthread_create(&worker->thread, NULL, work, worker));
	}
}

static void finish(struct storm *storm)
{
	atomic_store(&storm->over, true);
	for (unsigned i = 0; i < THREADS; i++) {
		struct worker *worker = &storm->workers[i];

		pthread_join(worker->thread, NULL);
		ATF_CHECK_MSG(!worker->wrong, "%s", worker->wrong);
		cleat_cancel_destroy(worker->cancel);
	}
	storm->dev = cleat_device_unref(storm->dev);
}

static void call_back_all(struct storm *storm)
{
	for (unsigned i = 0; i < THREADS; i++)
		cleat_cancel_set(storm->workers[i].cancel);
	usleep(200);
	for (unsigned i = 0; i < THREADS; i++)
		cleat_cancel_clear(storm->workers[i].cancel);
}

static void wait_for(struct storm *storm, unsigned long more)
{
	unsigned long before = atomic_load(&storm->done);

	REQUIRE_SOON(atomic_load(&storm->done) >= before + more ||
		     cleat_device_failure(storm->dev, NULL));
}

/* Hung: only being called back ends a wait, and that it does. */
static void stop_and_go(struct storm *storm, pid_t server)
{
	for (unsigned i = 0; i < 5; i++) {
		wait_for(storm, 20);
		kill(server, SIGSTOP);
		call_back_all(storm);
		kill(server, SIGCONT);
	}
}

static void live(struct storm *storm, unsigned how)
{
	static const char *const options[] = { NULL, NULL,
					       "--fault=die-after=500",
					       "--fault=drop-after=500",
					       "--no-twin" };
	pid_t server;

	start(storm, options[how]);
	server = cleat_device_pid(storm->dev);
	if (how == 0)
		stop_and_go(storm, server);
	wait_for(storm, 20);
	call_back_all(storm);
	if (how == 1)
		kill(server, SIGKILL);
	if (how == 4)
		kill(server, SIGTERM);
	if (how == 1 || how == 4)
		REQUIRE_SOON(cleat_device_failure(storm->dev, NULL));
	if (how == 2 || how == 3)
		wait_for(storm, 1000);
	finish(storm);
	storm->lives[how]++;
}

CLEAT_TC(storm__servers)
{
	static struct storm storm;
	struct deadline enough;
	long seconds = atf_tc_get_config_var_as_long_wd(tc, "seconds", SECONDS);

	enough = deadline_in((unsigned)seconds * 1000);
	for (unsigned n = 0; n < 5 || deadline_left(&enough); n++)
		live(&storm, n % 5);
	printf("total: requests-checked %lu\n", storm.done);
	printf("total: requests-called-back %lu\n", storm.called_back);
	printf("total: servers-stopped %lu\n", storm.lives[0]);
	printf("total: servers-killed %lu\n", storm.lives[1] + storm.lives[2]);
	printf("total: connections-dropped %lu\n", storm.lives[3]);
	ATF_CHECK(storm.done > 100);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, storm__servers);
	return atf_no_error();
}
