/* SPDX-License-Identifier: BSD-2-Clause */
/* State moves between two servers that are processes of their own. */
#include "backends/probe/probe_regs.h"
#include "tests/migration/rig.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>

#define PROBE "backends/cleat-probe"

static const char *const v2[] = { "--migration=v2", "--state-size=2", NULL };
static const char *const v1[] = { "--migration=v1", "--state-size=2", NULL };
static const char *const small[] = { "--migration=v2", NULL };
static const char *const none[] = { "--migration=none", NULL };

static void set_marks(struct end *end)
{
	uint8_t pattern[256];

	end_set(end, PROBE_SCRATCH, 0x12345678);
	end_set(end, PROBE_SCRATCH64, 0x9abcdef0);
	end_set(end, PROBE_DMA_PATTERN, 77);
	for (unsigned i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i * 7);
	ATF_REQUIRE_EQ(0, cleat_region_write(end->dev, PROBE_BAR_PAGES, 0x9000,
					     pattern, sizeof(pattern)));
}

static void check_marks(struct end *end)
{
	uint8_t pattern[256];

	ATF_CHECK_EQ(0x12345678, end_get(end, PROBE_SCRATCH));
	ATF_CHECK_EQ(0x9abcdef0, end_get(end, PROBE_SCRATCH64));
	ATF_CHECK_EQ(77, end_get(end, PROBE_DMA_PATTERN));
	ATF_REQUIRE_EQ(0, cleat_region_read(end->dev, PROBE_BAR_PAGES, 0x9000,
					    pattern, sizeof(pattern)));
	for (unsigned i = 0; i < sizeof(pattern); i++)
		ATF_REQUIRE_EQ((uint8_t)(i * 7), pattern[i]);
}

static void move(const char *const options[], unsigned generation)
{
	struct cleat_migration_info info = { .size = sizeof(info) };
	struct cleat_error why = { .text = "" };
	struct end from, to;
	struct tape tape;
	uint32_t sum;

	tape_make(&tape);
	end_start(&from, PROBE, options);
	end_start(&to, PROBE, options);
	end_migration(&from, 0);
	end_migration(&to, 0);
	set_marks(&from);
	save_all(&from, &tape, 3);
	sum = end_get(&from, PROBE_STATE_SUM);
	ATF_REQUIRE_EQ(0, cleat_migration_info(from.mig, &info));
	ATF_CHECK_EQ(generation, info.generation);
	ATF_CHECK(info.flags & CLEAT_MIGRATION_INFO_PRE_COPY);
	ATF_CHECK_EQ(CLEAT_MIGRATION_STOP_COPY, end_state(&from));
	ATF_CHECK(info.bytes > 2 << 20);
	ATF_CHECK_EQ(tape.size, info.bytes + info.framing);
	ATF_CHECK(info.framing * 100 <= info.bytes);
	ATF_REQUIRE_MSG(!load_all(&to, &tape, &why), "%s", why.text);
	ATF_CHECK_EQ(tape.size, tape.at);
	if (generation == 2)
		ATF_CHECK_EQ(sum, end_get(&to, PROBE_STATE_SUM));
	ATF_REQUIRE_EQ(0, cleat_migration_run(to.mig, &why));
	ATF_CHECK_EQ(CLEAT_MIGRATION_RUNNING, end_state(&to));
	check_marks(&to);
	/* And it goes on there. */
	if (sum)
		REQUIRE_SOON(end_get(&to, PROBE_STATE_SUM) != sum);
	tape_free(&tape);
	end_stop(&from);
	end_stop(&to);
}

CLEAT_TC(move__second_generation)
{
	move(v2, 2);
}

CLEAT_TC(move__first_generation)
{
	move(v1, 1);
}

CLEAT_TC(move__framing_of_a_small_state)
{
	struct cleat_migration_info info = { .size = sizeof(info) };
	struct cleat_error why;
	struct end from, to;
	struct tape tape;

	tape_make(&tape);
	end_start(&from, PROBE, small);
	end_start(&to, PROBE, small);
	end_migration(&from, 0);
	end_migration(&to, CLEAT_MIGRATION_ONLY_V2);
	save_all(&from, &tape, 5);
	ATF_REQUIRE_EQ(0, cleat_migration_info(from.mig, &info));
	ATF_CHECK(info.bytes < 1 << 20);
	ATF_CHECK_MSG(info.framing <= 512, "%u", (unsigned)info.framing);
	ATF_REQUIRE_EQ(0, load_all(&to, &tape, &why));
	tape_free(&tape);
	end_stop(&from);
	end_stop(&to);
}

/* --- What cannot be ------------------------------------------------------- */

CLEAT_TC(create__no_migration)
{
	struct cleat_migration *mig;
	struct cleat_error why;
	struct end end;

	end_start(&end, PROBE, none);
	ATF_CHECK_EQ(-EOPNOTSUPP,
		     cleat_migration_create(end.dev, 0, &mig, &why));
	ATF_CHECK_EQ(-EINVAL, cleat_migration_create(end.dev, 3, &mig, &why));
	end_stop(&end);
}

CLEAT_TC(create__only_the_other_generation)
{
	struct cleat_migration *mig;
	struct end one, two;

	end_start(&one, PROBE, v1);
	end_start(&two, PROBE, v2);
	ATF_CHECK_EQ(-EOPNOTSUPP,
		     cleat_migration_create(one.dev, CLEAT_MIGRATION_ONLY_V2,
					    &mig, NULL));
	ATF_CHECK_EQ(-EOPNOTSUPP,
		     cleat_migration_create(two.dev, CLEAT_MIGRATION_ONLY_V1,
					    &mig, NULL));
	end_stop(&one);
	end_stop(&two);
}

static void refused(const char *const from_options[],
		    const char *const to_options[], int code)
{
	struct cleat_error why = { .text = "" };
	struct end from, to;
	struct tape tape;

	tape_make(&tape);
	end_start(&from, PROBE, from_options);
	end_start(&to, PROBE, to_options);
	end_migration(&from, 0);
	end_migration(&to, 0);
	set_marks(&to);
	save_all(&from, &tape, 1);
	ATF_CHECK_EQ_MSG(code, load_all(&to, &tape, &why), "%s", why.text);
	ATF_CHECK(strlen(why.text) > 10);
	ATF_CHECK_EQ(CLEAT_MIGRATION_RUNNING, end_state(&to));
	tape_free(&tape);
	end_stop(&from);
	end_stop(&to);
}

CLEAT_TC(load__other_generation)
{
	refused(v1, v2, -EXDEV);
}

CLEAT_TC(load__other_vectors)
{
	static const char *const other[] = { "--vectors=8", NULL };

	refused(small, other, -EXDEV);
}

CLEAT_TC(load__refused_by_the_device)
{
	/* The same to look at, and another state inside. */
	refused(v2, small, -EXDEV);
}

CLEAT_TC(save__in_no_stream)
{
	struct cleat_error why;
	struct end end;
	struct tape tape;

	tape_make(&tape);
	end_start(&end, PROBE, v2);
	end_migration(&end, 0);
	ATF_CHECK_EQ(-EINVAL, cleat_migration_save(end.mig, &tape.io, 0, &why));
	ATF_CHECK_EQ(-EINVAL, cleat_migration_stop(end.mig, &why));
	ATF_REQUIRE_EQ(0, cleat_migration_start(end.mig, &why));
	ATF_CHECK_EQ(-EINVAL, cleat_migration_start(end.mig, &why));
	ATF_CHECK_EQ(CLEAT_MIGRATION_PRE_COPY, end_state(&end));
	tape_free(&tape);
	end_stop(&end);
}

/* --- Calling it off ------------------------------------------------------- */

/* Wherever it is, it comes back, and can begin anew. */
static void call_off(const char *const options[], uint64_t stop_at, bool stop)
{
	struct cleat_error why = { .text = "" };
	struct end end;
	struct tape tape;

	tape_make(&tape);
	end_start(&end, PROBE, options);
	end_migration(&end, 0);
	set_marks(&end);
	ATF_REQUIRE_EQ(0, cleat_migration_start(end.mig, &why));
	if (stop)
		ATF_REQUIRE_EQ(0, cleat_migration_stop(end.mig, &why));
	tape.stop_at = stop_at;
	if (stop_at)
		ATF_CHECK_EQ(-ECANCELED, cleat_migration_save(end.mig, &tape.io,
							      0, &why));
	ATF_CHECK_EQ_MSG(0, cleat_migration_run(end.mig, &why), "%s", why.text);
	ATF_CHECK_EQ(CLEAT_MIGRATION_RUNNING, end_state(&end));
	check_marks(&end);
	tape_free(&tape);
	tape_make(&tape);
	save_all(&end, &tape, 1);
	ATF_CHECK_EQ(0, cleat_migration_run(end.mig, &why));
	tape_free(&tape);
	end_stop(&end);
}

CLEAT_TC(cancel__anywhere)
{
	const char *const *const both[] = { v1, v2 };

	for (unsigned i = 0; i < 2; i++) {
		call_off(both[i], 0, false);
		call_off(both[i], 1, false);
		call_off(both[i], 1 << 20, false);
		call_off(both[i], 0, true);
		call_off(both[i], 1, true);
		call_off(both[i], 1 << 20, true);
	}
}

CLEAT_TC(save__disk_full)
{
	struct cleat_error why = { .text = "" };
	struct end end;
	struct tape tape;

	tape_make(&tape);
	tape.limit = 300000;
	end_start(&end, PROBE, v2);
	end_migration(&end, 0);
	ATF_REQUIRE_EQ(0, cleat_migration_start(end.mig, &why));
	ATF_CHECK_EQ(-ENOSPC, cleat_migration_save(end.mig, &tape.io, 0, &why));
	ATF_CHECK_EQ(-EINVAL, cleat_migration_save(end.mig, &tape.io, 0, &why));
	ATF_CHECK_EQ(0, cleat_migration_run(end.mig, &why));
	ATF_CHECK_EQ(CLEAT_MIGRATION_RUNNING, end_state(&end));
	tape_free(&tape);
	end_stop(&end);
}

/* --- At every step -------------------------------------------------------- */

enum blow { NOTHING, CALL_OFF, KILL };

/**
 * struct cutting - what happens at one of the steps of a stream
 * @tape: where it goes to or comes from
 * @step: at which
 * @steps: there have been
 */
struct cutting {
	struct end *end;
	struct tape tape;
	enum blow blow;
	unsigned step;
	unsigned steps;
};

static int cut_write(void *opaque, const void *buf, size_t count)
{
	struct cutting *cut = opaque;

	return cut->tape.io.write(&cut->tape, buf, count);
}

static int cut_read(void *opaque, void *buf, size_t count)
{
	struct cutting *cut = opaque;

	return cut->tape.io.read(&cut->tape, buf, count);
}

static int cut_progress(void *opaque,
			const struct cleat_migration_progress *progress)
{
	struct cutting *cut = opaque;

	if (++cut->steps != cut->step)
		return 0;
	if (cut->blow == KILL)
		kill(cut->end->child.pid, SIGKILL);
	return cut->blow == CALL_OFF;
}

/* A state change is a step too, of which nothing else tells. */
static int cut_here(struct cutting *cut, int err)
{
	if (err || ++cut->steps != cut->step)
		return err;
	if (cut->blow == KILL)
		kill(cut->end->child.pid, SIGKILL);
	return cut->blow == CALL_OFF ? -ECANCELED : 0;
}

static struct cleat_migration_io cut_io(struct cutting *cut)
{
	return (struct cleat_migration_io){
		.size = sizeof(struct cleat_migration_io),
		.opaque = cut,
		.write = cut_write,
		.read = cut_read,
		.progress = cut_progress,
	};
}

static int cut_save(struct cutting *cut)
{
	const struct cleat_migration_io io = cut_io(cut);
	struct cleat_migration *mig = cut->end->mig;
	int err = cut_here(cut, cleat_migration_start(mig, NULL));

	for (unsigned round = 0; round < 2 && !err; round++)
		err = cleat_migration_save(mig, &io, 0, NULL);
	if (!err)
		err = cut_here(cut, cleat_migration_stop(mig, NULL));
	return err ? err : cleat_migration_save(mig, &io, 0, NULL);
}

static int cut_load(struct cutting *cut)
{
	const struct cleat_migration_io io = cut_io(cut);
	bool done = false;
	int err = 0;

	while (!err && !done)
		err = cleat_migration_load(cut->end->mig, &io, &done, NULL);
	if (!err)
		err = cut_here(cut, 0);
	return err ? err : cleat_migration_run(cut->end->mig, NULL);
}

/*
 * A server that dies is told of, whenever, and nothing hangs. (A state that
 * changes meanwhile may have a step less this time.)
 */
static void check_killed(struct cutting *cut, int err)
{
	if (cut->steps < cut->step)
		return;
	/* Nothing more was asked of it after the last step. */
	if (!err)
		err = cleat_migration_run(cut->end->mig, NULL);
	ATF_CHECK_EQ_MSG(-ENOTCONN, err, "step %u: %d", cut->step, err);
	ATF_REQUIRE(child_wait(&cut->end->child, PATIENCE_MS) != 0);
}

/* Wherever it is, it comes back, and is what it was. */
static void check_called_off(struct cutting *cut, int err)
{
	struct cleat_error why = { .text = "" };

	if (cut->steps < cut->step)
		return;
	ATF_CHECK_EQ_MSG(-ECANCELED, err, "step %u: %d", cut->step, err);
	ATF_CHECK_EQ_MSG(0, cleat_migration_run(cut->end->mig, &why),
			 "step %u: %s", cut->step, why.text);
	ATF_CHECK_EQ(CLEAT_MIGRATION_RUNNING, end_state(cut->end));
	check_marks(cut->end);
}

/* Each needs a process or two, which takes its time where all is slow. */
static unsigned stride(void)
{
	return is_slowed() ? 5 : 1;
}

/* How many steps there are, and one tape that has them all. */
static unsigned count_steps(const char *const options[], struct tape *tape,
			    int (*go)(struct cutting *cut))
{
	struct cutting cut = { .tape = *tape };
	struct end end;

	end_start(&end, PROBE, options);
	end_migration(&end, 0);
	set_marks(&end);
	cut.end = &end;
	ATF_REQUIRE_EQ(0, go(&cut));
	*tape = cut.tape;
	tape->at = 0;
	end_stop(&end);
	return cut.steps;
}

static void cut_source(const char *const options[], enum blow blow)
{
	struct tape tape;
	unsigned steps;

	skip_on_valgrind("a process for each step takes minutes");
	tape_make(&tape);
	steps = count_steps(options, &tape, cut_save);
	tape_free(&tape);
	ATF_REQUIRE(steps > 20);
	for (unsigned step = 1; step <= steps; step += stride()) {
		struct cutting cut = { .blow = blow, .step = step };
		struct end end;
		int err;

		tape_make(&cut.tape);
		end_start(&end, PROBE, options);
		end_migration(&end, 0);
		set_marks(&end);
		cut.end = &end;
		err = cut_save(&cut);
		if (blow == KILL)
			check_killed(&cut, err);
		else
			check_called_off(&cut, err);
		end_stop(&end);
		tape_free(&cut.tape);
	}
}

CLEAT_TC(cancel__source_at_every_step)
{
	cut_source(v1, CALL_OFF);
	cut_source(v2, CALL_OFF);
}

CLEAT_TC(kill__source_at_every_step)
{
	cut_source(v1, KILL);
	cut_source(v2, KILL);
}

/*
 * A target that was called off has half a state: it is reset, and can be loaded
 * anew. The source has lost nothing.
 */
static void check_left(struct cutting *cut, int err)
{
	struct cleat_error why = { .text = "" };

	ATF_CHECK_EQ_MSG(-ECANCELED, err, "step %u: %d", cut->step, err);
	if (cleat_migration_run(cut->end->mig, NULL))
		ATF_REQUIRE_EQ(0, cleat_device_reset(cut->end->dev));
	ATF_CHECK_EQ(CLEAT_MIGRATION_RUNNING, end_state(cut->end));
	cleat_migration_unref(cut->end->mig);
	end_migration(cut->end, 0);
	cut->tape.at = 0;
	ATF_REQUIRE_MSG(!load_all(cut->end, &cut->tape, &why), "step %u: %s",
			cut->step, why.text);
	ATF_REQUIRE_EQ(0, cleat_migration_run(cut->end->mig, &why));
	check_marks(cut->end);
}

static void cut_target(const char *const options[], enum blow blow)
{
	struct tape tape;
	unsigned steps;

	skip_on_valgrind("a process for each step takes minutes");
	tape_make(&tape);
	count_steps(options, &tape, cut_save);
	steps = count_steps(options, &tape, cut_load);
	ATF_REQUIRE(steps > 20);
	for (unsigned step = 1; step <= steps; step += stride()) {
		struct cutting cut = { .tape = tape, .blow = blow,
				       .step = step };
		struct end end;
		int err;

		end_start(&end, PROBE, options);
		end_migration(&end, 0);
		cut.end = &end;
		cut.tape.io.opaque = &cut.tape;
		err = cut_load(&cut);
		if (blow == KILL)
			check_killed(&cut, err);
		else
			check_left(&cut, err);
		end_stop(&end);
	}
	tape_free(&tape);
}

CLEAT_TC(cancel__target_at_every_step)
{
	cut_target(v1, CALL_OFF);
	cut_target(v2, CALL_OFF);
}

CLEAT_TC(kill__target_at_every_step)
{
	cut_target(v1, KILL);
	cut_target(v2, KILL);
}

CLEAT_TC(kill__target)
{
	struct cleat_error why = { .text = "" };
	struct end from, to;
	struct tape tape;
	bool done;

	tape_make(&tape);
	end_start(&from, PROBE, v2);
	end_start(&to, PROBE, v2);
	end_migration(&from, 0);
	end_migration(&to, 0);
	save_all(&from, &tape, 1);
	ATF_REQUIRE_EQ(0, cleat_migration_load(to.mig, &tape.io, &done, &why));
	ATF_CHECK(!done);
	kill(to.child.pid, SIGKILL);
	ATF_CHECK_EQ(-ENOTCONN,
		     cleat_migration_load(to.mig, &tape.io, &done, &why));
	ATF_REQUIRE(child_wait(&to.child, PATIENCE_MS) != 0);
	/* The source has lost nothing. */
	ATF_CHECK_EQ(0, cleat_migration_run(from.mig, &why));
	tape_free(&tape);
	end_stop(&from);
	end_stop(&to);
}

/* --- Over a descriptor ---------------------------------------------------- */

struct sending {
	struct end *end;
	int fd;
};

static int send_all(void *arg)
{
	struct sending *sending = arg;
	struct cleat_migration *mig = sending->end->mig;
	struct cleat_migration_io io;
	int err;

	cleat_migration_io_fd(mig, sending->fd, &io);
	err = cleat_migration_start(mig, NULL);
	if (!err)
		err = cleat_migration_save(mig, &io, 0, NULL);
	if (!err)
		err = cleat_migration_stop(mig, NULL);
	if (!err)
		err = cleat_migration_save(mig, &io, 0, NULL);
	return err;
}

static void *send_thread(void *arg)
{
	return (void *)(intptr_t)send_all(arg);
}

static void move_by_fd(int from_fd, int to_fd)
{
	struct cleat_error why = { .text = "" };
	struct cleat_migration_io io;
	struct script script;
	struct end from, to;
	struct sending sending = { &from, from_fd };
	bool done = false;

	end_start(&from, PROBE, v2);
	end_start(&to, PROBE, v2);
	end_migration(&from, 0);
	end_migration(&to, 0);
	set_marks(&from);
	script_start(&script, send_all, &sending);
	cleat_migration_io_fd(to.mig, to_fd, &io);
	while (!done)
		ATF_REQUIRE_MSG(!cleat_migration_load(to.mig, &io, &done, &why),
				"%s", why.text);
	script_end(&script);
	ATF_REQUIRE_EQ(0, cleat_migration_run(to.mig, &why));
	check_marks(&to);
	end_stop(&from);
	end_stop(&to);
	close(from_fd);
	close(to_fd);
}

CLEAT_TC(move__by_socket)
{
	int ends[2];

	peer_pair(ends);
	move_by_fd(ends[0], ends[1]);
}

CLEAT_TC(move__by_pipe)
{
	int ends[2];

	ATF_REQUIRE_EQ(0, pipe2(ends, O_CLOEXEC));
	move_by_fd(ends[1], ends[0]);
}

/* Nobody reads: the wait ends when it is called off, and SIGPIPE is not. */
CLEAT_TC(cancel__stuck_in_a_pipe)
{
	struct sending sending;
	struct deadline soon;
	struct end end;
	pthread_t thread;
	void *result;
	int ends[2];

	ATF_REQUIRE_EQ(0, pipe2(ends, O_CLOEXEC));
	end_start(&end, PROBE, v2);
	end_migration(&end, 0);
	sending = (struct sending){ &end, ends[1] };
	ATF_REQUIRE_EQ(0, pthread_create(&thread, NULL, send_thread, &sending));
	ATF_REQUIRE(wait_fd(ends[0], POLLIN, PATIENCE_MS));
	soon = deadline_in(PATIENCE_MS);
	cleat_migration_cancel(end.mig);
	pthread_join(thread, &result);
	ATF_CHECK_EQ(-ECANCELED, (int)(intptr_t)result);
	ATF_CHECK(deadline_spent(&soon) < 1000);
	ATF_CHECK_EQ(0, cleat_migration_run(end.mig, NULL));
	close(ends[0]);
	ATF_CHECK_EQ(-EPIPE, send_all(&sending));
	ATF_CHECK_EQ(0, cleat_migration_run(end.mig, NULL));
	close(ends[1]);
	end_stop(&end);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, move__second_generation);
	ATF_TP_ADD_TC(tp, move__first_generation);
	ATF_TP_ADD_TC(tp, move__framing_of_a_small_state);
	ATF_TP_ADD_TC(tp, create__no_migration);
	ATF_TP_ADD_TC(tp, create__only_the_other_generation);
	ATF_TP_ADD_TC(tp, load__other_generation);
	ATF_TP_ADD_TC(tp, load__other_vectors);
	ATF_TP_ADD_TC(tp, load__refused_by_the_device);
	ATF_TP_ADD_TC(tp, save__in_no_stream);
	ATF_TP_ADD_TC(tp, cancel__anywhere);
	ATF_TP_ADD_TC(tp, save__disk_full);
	ATF_TP_ADD_TC(tp, cancel__source_at_every_step);
	ATF_TP_ADD_TC(tp, cancel__target_at_every_step);
	ATF_TP_ADD_TC(tp, kill__source_at_every_step);
	ATF_TP_ADD_TC(tp, kill__target_at_every_step);
	ATF_TP_ADD_TC(tp, kill__target);
	ATF_TP_ADD_TC(tp, move__by_socket);
	ATF_TP_ADD_TC(tp, move__by_pipe);
	ATF_TP_ADD_TC(tp, cancel__stuck_in_a_pipe);
	return atf_no_error();
}
