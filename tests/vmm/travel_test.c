/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A machine moves with its device, to another server; and whatever becomes of
 * it on the way, the source runs on with a device that can move again.
 */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/support/support.h"
#include "tests/vmm/moving.h"

static void start_probe(struct child *probe, const char *name,
			const char *how, const char *more)
{
	char path[32], option[64];
	const char *argv[] = { program("backends/cleat-probe"), option, how,
			       more, NULL };

	snprintf(path, sizeof(path), "%s.probe", name);
	snprintf(option, sizeof(option), "--socket-path=%s", path);
	child_start(probe, path, argv);
	REQUIRE_SOON(!access(path, F_OK) || child_ended(probe));
}

struct scene {
	struct child here, there; /* servers */
	struct child source;
	int control;
};

/* Servers of the same kind on both sides, and a machine that runs. */
static void begin(const atf_tc_t *tc, struct scene *scene, const char *how,
		  const char *more)
{
	close(kvm_open(tc));
	start_probe(&scene->here, "here", how, more);
	start_probe(&scene->there, "there", how, more);
	start_source(&scene->source, "here.probe");
	scene->control = control_connect("source.sock");
}

/* The device was left as it was: the machine can go. */
static void end(struct scene *scene)
{
	arrive(&scene->source, scene->control, "there.probe");
	child_end(&scene->here);
	child_end(&scene->there);
}

CLEAT_TC(migrate__second_generation)
{
	struct scene scene;

	begin(tc, &scene, "--migration=v2", NULL);
	end(&scene);
}

CLEAT_TC(migrate__first_generation)
{
	struct scene scene;

	begin(tc, &scene, "--migration=v1", NULL);
	end(&scene);
}

/* Megabytes that change while they are read: in the lab faster than that. */
CLEAT_TC(migrate__large_state)
{
	struct scene scene;

	if (getenv("CLEAT_LAB"))
		atf_tc_skip("emulation reads more slowly than it changes");
	begin(tc, &scene, "--migration=v2", "--state-size=8");
	end(&scene);
}

/* It runs on after a snapshot, and from the snapshot. */
CLEAT_TC(snapshot__file)
{
	struct child target;
	struct scene scene;
	int control;

	begin(tc, &scene, "--migration=v2", NULL);
	migrate(scene.control, "file:snap", "resume");
	await_status(scene.control, "\"phase\":\"done\"");
	require_runs_on("source");
	start_target(&target, "file:snap", "there.probe");
	control = control_connect("target.sock");
	require_runs_on("target");
	quit(&target, control);
	quit(&scene.source, scene.control);
	child_end(&scene.here);
	child_end(&scene.there);
}

/* ---- Refused ---- */

CLEAT_TC(refused__server_cannot)
{
	struct scene scene;

	begin(tc, &scene, "--migration=none", NULL);
	fail_to(scene.control, "file:snap", "--device here.probe: ");
	ATF_REQUIRE(access("snap", F_OK));
	ATF_REQUIRE(access("snap.partial", F_OK));
	quit(&scene.source, scene.control);
	child_end(&scene.here);
	child_end(&scene.there);
}

/* The target says no, and the source says what it said. */
static void refuse(struct scene *scene, const char *device, const char *words)
{
	struct child target;

	start_target(&target, "unix:move.sock", device);
	REQUIRE_SOON(!access("move.sock", F_OK) || child_ended(&target));
	fail_to(scene->control, "unix:move.sock", words);
	ATF_REQUIRE(strstr(said("source.err"), "the machine runs on here"));
	ATF_REQUIRE_EQ(1, finish_vmm(&target));
	ATF_REQUIRE(strstr(said("target.err"), "--incoming unix:move.sock: "));
}

CLEAT_TC(refused__by_target)
{
	struct child other;
	struct scene scene;

	begin(tc, &scene, "--migration=v2", NULL);
	refuse(&scene, NULL, "the other side: ");
	start_probe(&other, "other", "--migration=v1", NULL);
	refuse(&scene, "other.probe", "the other side: --device other.probe");
	child_end(&other);
	start_probe(&other, "vectors", "--vectors=3", NULL);
	refuse(&scene, "vectors.probe", "the other side: --device vectors");
	child_end(&other);
	start_probe(&other, "none", "--migration=none", NULL);
	refuse(&scene, "none.probe", "the other side: --device none.probe");
	child_end(&other);
	end(&scene);
}

/* ---- Dead ---- */

CLEAT_TC(dies__target_server)
{
	struct child other;
	struct child target;
	struct scene scene;

	begin(tc, &scene, "--migration=v2", NULL);
	start_probe(&other, "other", "--migration=v2", NULL);
	start_target(&target, "unix:move.sock", "other.probe");
	REQUIRE_SOON(!access("move.sock", F_OK) || child_ended(&target));
	child_end(&other);
	fail_to(scene.control, "unix:move.sock", "the other side: --device");
	ATF_REQUIRE_EQ(1, finish_vmm(&target));
	end(&scene);
}

/* It does not even hang up before it is gone. */
CLEAT_TC(dies__target)
{
	struct child target;
	struct scene scene;

	begin(tc, &scene, "--migration=v2", NULL);
	start_target(&target, "unix:move.sock", "there.probe");
	REQUIRE_SOON(!access("move.sock", F_OK) || child_ended(&target));
	ATF_REQUIRE_EQ(0, kill(target.pid, SIGSTOP));
	migrate(scene.control, "unix:move.sock", "");
	await_status(scene.control, "\"phase\":\"copying\"");
	ATF_REQUIRE_EQ(0, kill(target.pid, SIGKILL));
	child_wait(&target, PATIENCE_MS);
	await_status(scene.control, "\"phase\":\"failed\"");
	require_runs_on("source");
	unlink("move.sock");
	unlink("target.sock");
	end(&scene);
}

/* The guest runs on without it. */
CLEAT_TC(dies__source_server)
{
	struct taker taker;
	struct scene scene;

	begin(tc, &scene, "--migration=v2", NULL);
	taker_start(&taker, SIZE_MAX, false);
	migrate(scene.control, "unix:move.sock", "");
	/* All has been sent, and it waits for a word. */
	REQUIRE_SOON(!strstr(await_status(scene.control, "\"stopped\""),
			     "\"device_state\":0,"));
	child_end(&scene.here);
	await_status(scene.control, "\"lost\":true");
	require_answer(scene.control, CANCEL, OK);
	await_status(scene.control, "\"phase\":\"cancelled\"");
	taker_end(&taker);
	require_runs_on("source");
	ATF_REQUIRE(strstr(said("source.err"), "the machine runs on here"));
	fail_to(scene.control, "file:snap", "--device here.probe: ");
	quit(&scene.source, scene.control);
	child_end(&scene.there);
}

/* ---- Called off ---- */

static void cancel_after(struct scene *scene, size_t count)
{
	struct taker taker;
	struct deadline deadline = deadline_in(3 * PATIENCE_MS);
	const char *answer = "";

	taker_start(&taker, count, true);
	migrate(scene->control, "unix:move.sock", "");
	while (!atomic_load(&taker.full) && !strstr(answer, "\"stopped\"")) {
		ATF_REQUIRE(deadline_left(&deadline));
		answer = await_status(scene->control, "phase");
	}
	require_answer(scene->control, CANCEL, OK);
	answer = await_status(scene->control, "\"phase\":\"cancelled\"");
	ATF_REQUIRE_MSG(strstr(answer, "\"error\":\"") &&
				strstr(answer, "\"state\":\"running\""),
			"%s", answer);
	taker_end(&taker);
	require_runs_on("source");
}

/* The last of them is more than there is. */
static void cancel_everywhere(struct scene *scene)
{
	static const size_t counts[] = { 0,	  40,	   5000,    300000,
					 1000000, 1800000, 2000000, 2200000,
					 2500000, SIZE_MAX };
	size_t i;

	for (i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		cancel_after(scene, counts[i]);
	ATF_REQUIRE(strstr(said("source.err"), "called off"));
}

CLEAT_TC(cancel__second_generation)
{
	struct scene scene;

	begin(tc, &scene, "--migration=v2", NULL);
	cancel_everywhere(&scene);
	end(&scene);
}

CLEAT_TC(cancel__first_generation)
{
	struct scene scene;

	begin(tc, &scene, "--migration=v1", NULL);
	cancel_everywhere(&scene);
	end(&scene);
}

/* ---- No room ---- */

CLEAT_TC(snapshot__disk_full)
{
	struct scene scene;

	program("vmm/cleat-vmm");
	if (unshare(CLONE_NEWNS) ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		atf_tc_skip("only root can make a small file system");
	ATF_REQUIRE_EQ(0, mkdir("small", 0700));
	ATF_REQUIRE_EQ(0, mount("none", "small", "tmpfs", 0, "size=64k"));
	begin(tc, &scene, "--migration=v2", NULL);
	fail_to(scene.control, "file:small/snap", "No space left");
	ATF_REQUIRE(access("small/snap", F_OK));
	ATF_REQUIRE(access("small/snap.partial", F_OK));
	end(&scene);
	ATF_REQUIRE_EQ(0, umount("small"));
}

CLEAT_TC(snapshot__file_limit)
{
	struct rlimit limit, low;
	struct scene scene;

	ATF_REQUIRE_EQ(0, getrlimit(RLIMIT_FSIZE, &limit));
	low = limit;
	low.rlim_cur = 1 << 20;
	begin(tc, &scene, "--migration=v2", NULL);
	ATF_REQUIRE_EQ(0, prlimit(scene.source.pid, RLIMIT_FSIZE, &low, NULL));
	fail_to(scene.control, "file:snap", "File too large");
	ATF_REQUIRE(access("snap.partial", F_OK));
	ATF_REQUIRE_EQ(0,
		       prlimit(scene.source.pid, RLIMIT_FSIZE, &limit, NULL));
	end(&scene);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, migrate__second_generation);
	ATF_TP_ADD_TC(tp, migrate__first_generation);
	ATF_TP_ADD_TC(tp, migrate__large_state);
	ATF_TP_ADD_TC(tp, snapshot__file);
	ATF_TP_ADD_TC(tp, refused__server_cannot);
	ATF_TP_ADD_TC(tp, refused__by_target);
	ATF_TP_ADD_TC(tp, dies__target_server);
	ATF_TP_ADD_TC(tp, dies__target);
	ATF_TP_ADD_TC(tp, dies__source_server);
	ATF_TP_ADD_TC(tp, cancel__second_generation);
	ATF_TP_ADD_TC(tp, cancel__first_generation);
	ATF_TP_ADD_TC(tp, snapshot__disk_full);
	ATF_TP_ADD_TC(tp, snapshot__file_limit);
	return atf_no_error();
}
