/* SPDX-License-Identifier: BSD-2-Clause */
/* A machine without devices moves, is kept in a file, or does not get away. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/support/support.h"
#include "tests/vmm/moving.h"

static void finish_target(struct child *target)
{
	int control = control_connect("target.sock");

	require_runs_on("target");
	quit(target, control);
	require_all_counted("source", "target");
}

CLEAT_TC(migrate__socket)
{
	struct child source;

	close(kvm_open(tc));
	start_source(&source, NULL);
	arrive(&source, control_connect("source.sock"), NULL);
}

/* Both ends of a socket that they inherit. */
CLEAT_TC(migrate__descriptor)
{
	struct child source, target;
	char name[2][16];
	int ends[2], control;

	close(kvm_open(tc));
	ATF_REQUIRE_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
	snprintf(name[0], sizeof(name[0]), "fd:%d", ends[0]);
	snprintf(name[1], sizeof(name[1]), "fd:%d", ends[1]);
	start_source(&source, NULL);
	start_target(&target, name[1], NULL);
	close(ends[0]);
	close(ends[1]);
	control = control_connect("source.sock");
	migrate(control, name[0], "quit");
	ATF_REQUIRE_EQ(6, finish_vmm(&source));
	finish_target(&target);
	close(control);
}

/* A snapshot is taken, the machine runs on, and goes on from it again. */
static void snapshot(const char *to, const char *from)
{
	static uint8_t bytes[1 << 20];
	struct child source, target;
	size_t i, n, first;
	int control;

	start_source(&source, NULL);
	control = control_connect("source.sock");
	migrate(control, to, "resume");
	await_status(control, "\"phase\":\"done\"");
	require_runs_on("source");
	quit(&source, control);
	start_target(&target, from, NULL);
	control = control_connect("target.sock");
	require_runs_on("target");
	quit(&target, control);
	n = append("source", bytes, sizeof(bytes));
	for (i = 0; i < n; i++)
		ATF_REQUIRE_EQ((uint8_t)(i + 1), bytes[i]);
	n = append("target", bytes, sizeof(bytes));
	for (i = 0, first = bytes[0]; i < n; i++)
		ATF_REQUIRE_EQ((uint8_t)(first + i), bytes[i]);
}

CLEAT_TC(snapshot__file)
{
	struct stat st;

	close(kvm_open(tc));
	snapshot("file:snap", "file:snap");
	ATF_REQUIRE_EQ(0, stat("snap", &st));
	ATF_REQUIRE_EQ(0600, st.st_mode & 0777);
	ATF_REQUIRE(access("snap.partial", F_OK));
}

CLEAT_TC(snapshot__command)
{
	close(kvm_open(tc));
	snapshot("exec:cat >snap", "exec:cat snap");
}

/* A machine that stands still arrives standing still. */
CLEAT_TC(migrate__paused)
{
	struct child source, target;
	int control;

	close(kvm_open(tc));
	start_source(&source, NULL);
	control = control_connect("source.sock");
	require_answer(control, "{\"command\":\"pause\"}", OK);
	migrate(control, "file:snap", "");
	ATF_REQUIRE_EQ(6, finish_vmm(&source));
	close(control);
	start_target(&target, "file:snap", NULL);
	control = control_connect("target.sock");
	await_status(control, "\"paused\"");
	ATF_REQUIRE_EQ(0, printed("target"));
	require_answer(control, "{\"command\":\"resume\"}", OK);
	close(control);
	finish_target(&target);
}

/* ---- What goes wrong: the machine runs on ---- */

CLEAT_TC(failure__no_target)
{
	struct child source;
	int control, fd;

	close(kvm_open(tc));
	start_source(&source, NULL);
	control = control_connect("source.sock");
	fail_to(control, "unix:nowhere", "No such file");
	fail_to(control, "file:no/where", "No such file");
	fail_to(control, "fd:999", "Bad file descriptor");
	fail_to(control, "fd:x", "not the number");
	fail_to(control, "fd:1", "the guest's console");
	fail_to(control, "exec:exit 3", "");
	fail_to(control, "exec:cat >/dev/full", "");
	fail_to(control, "exec:head -c 1000 >/dev/null", "Broken pipe");
	ATF_REQUIRE(strstr(said("source.err"), "the machine runs on here"));
	/* An older snapshot is not lost by trying. */
	fd = open("snap", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	ATF_REQUIRE_EQ(0, close(fd));
	ATF_REQUIRE_EQ(0, mkdir("snap.partial", 0700));
	fail_to(control, "file:snap", "Is a directory");
	ATF_REQUIRE_EQ(0, access("snap", F_OK));
	quit(&source, control);
}

CLEAT_TC(failure__target_dies)
{
	static const size_t counts[] = { 0, 10, 100, 10000, 100000, 2000000 };
	struct child source;
	struct taker taker;
	size_t i;
	int control;

	close(kvm_open(tc));
	start_source(&source, NULL);
	control = control_connect("source.sock");
	for (i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		taker_start(&taker, counts[i], false);
		fail_to(control, "unix:move.sock", "");
		taker_end(&taker);
	}
	quit(&source, control);
}

/* It takes all of it and never says that it has. */
CLEAT_TC(cancel__target_silent)
{
	struct taker taker;
	struct child source;
	int control;

	close(kvm_open(tc));
	start_source(&source, NULL);
	control = control_connect("source.sock");
	require_answer(control, "{\"command\":\"cancel\"}", "no migration");
	taker_start(&taker, SIZE_MAX, false);
	migrate(control, "unix:move.sock", "");
	require_answer(control, "{\"command\":\"migrate\",\"to\":\"file:x\"}",
		       "on its way already");
	await_status(control, "\"phase\":\"stopped\"");
	require_answer(control, "{\"command\":\"cancel\"}", OK);
	await_status(control, "\"phase\":\"cancelled\"");
	taker_end(&taker);
	require_runs_on("source");
	/* It is no worse for it. */
	migrate(control, "file:snap", "resume");
	await_status(control, "\"phase\":\"done\"");
	require_runs_on("source");
	quit(&source, control);
}

/* There is no event to wait for, but no wait without an end either. */
CLEAT_TC(cancel__not_taken_in)
{
	const int listener = peer_listen("move.sock");
	struct child source;
	int control, queued;

	close(kvm_open(tc));
	ATF_REQUIRE_EQ(0, listen(listener, 0));
	start_source(&source, NULL);
	control = control_connect("source.sock");
	queued = control_try("move.sock"); /* and with that it is full */
	migrate(control, "unix:move.sock", "");
	await_status(control, "\"connecting\"");
	require_answer(control, CANCEL, OK);
	await_status(control, "\"phase\":\"cancelled\"");
	require_runs_on("source");
	migrate(control, "unix:move.sock", "");
	quit(&source, control);
	close(queued);
	close(listener);
}

/* There is no machine that could run on. */
CLEAT_TC(cancel__incoming)
{
	struct child target;
	int control;

	close(kvm_open(tc));
	start_target(&target, "unix:move.sock", NULL);
	control = control_connect("target.sock");
	require_answer(control, CANCEL, OK);
	ATF_REQUIRE_EQ(1, finish_vmm(&target));
	ATF_REQUIRE(strstr(said("target.err"), "called off"));
	close(control);
}

CLEAT_TC(command__bad)
{
	struct child source;
	int control;

	close(kvm_open(tc));
	start_source(&source, NULL);
	control = control_connect("source.sock");
	require_answer(control, "{\"command\":\"migrate\"}", "\\\"to\\\" is not");
	require_answer(control, "{\"command\":\"migrate\",\"to\":\"tcp:x\"}",
		       "\\\"to\\\" is not");
	require_answer(control,
		       "{\"command\":\"migrate\",\"to\":\"file:x\",\"then\":\"fly\"}",
		       "quit or resume");
	require_answer(control,
		       "{\"command\":\"migrate\",\"to\":\"unix:x\",\"then\":\"resume\"}",
		       "is for file: and exec:");
	quit(&source, control);
	ATF_REQUIRE_EQ(2, RUN("--incoming", "tcp:1"));
	require_complaint("--incoming: not unix:");
}

/* ---- Commands that had all of it ---- */

/* It may have started a machine: only the user knows whether it has. */
CLEAT_TC(command__failed)
{
	struct child source;
	const char *answer;
	int control;

	close(kvm_open(tc));
	start_source(&source, NULL);
	control = control_connect("source.sock");
	migrate(control, "exec:cat >/dev/null; exit 1", "");
	answer = await_status(control, "the command failed");
	ATF_REQUIRE_MSG(strstr(answer, "\"paused\""), "%s", answer);
	ATF_REQUIRE(strstr(said("source.err"), "does not run there"));
	require_answer(control, "{\"command\":\"resume\"}", OK);
	require_runs_on("source");
	/* A snapshot starts nothing. */
	migrate(control, "exec:cat >/dev/null; exit 1", "resume");
	answer = await_status(control, "\"phase\":\"failed\"");
	ATF_REQUIRE(strstr(answer, "\"running\""));
	require_runs_on("source");
	quit(&source, control);
}

/* Nobody who wants to end waits for it; and it may be what runs the guest. */
CLEAT_TC(command__does_not_end)
{
	struct deadline deadline;
	struct child source;
	int control, hold;

	close(kvm_open(tc));
	ATF_REQUIRE_EQ(0, mkfifo("hold", 0600));
	start_source(&source, NULL);
	control = control_connect("source.sock");
	migrate(control, "exec:cat >/dev/null; cat hold; touch ended", "");
	REQUIRE_SOON(!strstr(await_status(control, "\"stopped\""),
			     "\"device_state\":0,"));
	require_answer(control, CANCEL, "too late");
	deadline = deadline_in(PATIENCE_MS);
	quit(&source, control);
	ATF_REQUIRE(deadline_left(&deadline));
	ATF_REQUIRE(access("ended", F_OK));
	REQUIRE_SOON((hold = open("hold", O_WRONLY | O_NONBLOCK |
						  O_CLOEXEC)) >= 0);
	close(hold);
	REQUIRE_SOON(!access("ended", F_OK));
}

/* ---- What arrives is not to be believed ---- */

static void take_snapshot(void)
{
	struct child source;
	int control;

	start_source(&source, NULL);
	control = control_connect("source.sock");
	migrate(control, "file:snap", "");
	ATF_REQUIRE_EQ(6, finish_vmm(&source));
	close(control);
}

static void arrive_by_shell(const char *before, const char *from)
{
	struct child target;
	char line[4096];

	snprintf(line, sizeof(line),
		 "%s %s --memory 64 --control target.sock --incoming %s",
		 before, program("vmm/cleat-vmm"), from);
	child_start(&target, "target", (const char *const[]){
		"/bin/sh", "-c", line, NULL });
	finish_target(&target);
}

/* What comes by standard input is the machine's or the guest's, never both. */
CLEAT_TC(incoming__standard_input)
{
	close(kvm_open(tc));
	take_snapshot();
	arrive_by_shell("exec", "fd:0 <snap");
	arrive_by_shell("echo typed |", "'exec:cat >stolen; cat snap'");
	ATF_REQUIRE_EQ(0, access("stolen", F_OK));
	ATF_REQUIRE_STREQ("", said("stolen"));
	ATF_REQUIRE_EQ(1, RUN("--incoming", "fd:1", "--memory", "64"));
	require_complaint("the guest's console");
}

CLEAT_TC(incoming__another_machine)
{
	close(kvm_open(tc));
	take_snapshot();
	ATF_REQUIRE_EQ(1, RUN("--incoming", "file:snap", "--memory", "128"));
	require_complaint("give --memory 64 --cpus 1 and 0 times --device");
	ATF_REQUIRE_EQ(1, RUN("--incoming", "file:snap", "--memory", "64",
			      "--cpus", "2"));
	require_complaint("give --memory 64 --cpus 1 and 0 times --device");
	ATF_REQUIRE_EQ(1, RUN("--incoming", "file:kernel", "--memory", "64"));
	require_complaint("this is no machine");
	ATF_REQUIRE_EQ(1, RUN("--incoming", "file:nowhere"));
	require_complaint("No such file");
}

/* Nobody may ever write to it; whoever does has all the time there is. */
CLEAT_TC(incoming__fifo)
{
	struct child target, writer;
	int control;

	close(kvm_open(tc));
	take_snapshot();
	ATF_REQUIRE_EQ(0, mkfifo("fifo", 0600));
	start_target(&target, "file:fifo", NULL);
	control = control_connect("target.sock");
	await_status(control, "\"waiting\"");
	quit(&target, control);
	start_target(&target, "file:fifo", NULL);
	control = control_connect("target.sock");
	child_start(&writer, "writer", (const char *const[]){
		"/bin/sh", "-c", "cat snap >fifo", NULL });
	ATF_REQUIRE_EQ(0, child_wait(&writer, PATIENCE_MS));
	close(control);
	finish_target(&target);
}

/* In the lab dozens of machines in a row brought its own kernel to a stop. */
CLEAT_TC(incoming__damaged)
{
	const unsigned tries = getenv("CLEAT_LAB") ? 4 : 24;
	struct stat st;
	unsigned i;
	int fd;

	close(kvm_open(tc));
	take_snapshot();
	fd = open("snap", O_RDWR | O_CLOEXEC);
	ATF_REQUIRE(fd >= 0);
	ATF_REQUIRE_EQ(0, fstat(fd, &st));
	for (i = 0; i < tries; i++) {
		off_t at = st.st_size / tries * i + i;
		uint8_t byte, other;

		ATF_REQUIRE_EQ(1, pread(fd, &byte, 1, at));
		other = byte ^ 0x10;
		ATF_REQUIRE_EQ(1, pwrite(fd, &other, 1, at));
		ATF_REQUIRE_EQ(1, RUN("--incoming", "file:snap", "--memory",
				      "64"));
		require_complaint("--incoming file:snap: ");
		ATF_REQUIRE_STREQ("", said("vmm.out"));
		ATF_REQUIRE_EQ(1, pwrite(fd, &byte, 1, at));
	}
	for (i = tries; i-- > 0;) {
		ATF_REQUIRE_EQ(0, ftruncate(fd, st.st_size / tries * i + i));
		ATF_REQUIRE_EQ(1, RUN("--incoming", "file:snap", "--memory",
				      "64"));
		require_complaint("it ends too early");
	}
	close(fd);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, migrate__socket);
	ATF_TP_ADD_TC(tp, migrate__descriptor);
	ATF_TP_ADD_TC(tp, snapshot__file);
	ATF_TP_ADD_TC(tp, snapshot__command);
	ATF_TP_ADD_TC(tp, migrate__paused);
	ATF_TP_ADD_TC(tp, failure__no_target);
	ATF_TP_ADD_TC(tp, failure__target_dies);
	ATF_TP_ADD_TC(tp, cancel__target_silent);
	ATF_TP_ADD_TC(tp, cancel__not_taken_in);
	ATF_TP_ADD_TC(tp, cancel__incoming);
	ATF_TP_ADD_TC(tp, command__bad);
	ATF_TP_ADD_TC(tp, command__failed);
	ATF_TP_ADD_TC(tp, command__does_not_end);
	ATF_TP_ADD_TC(tp, incoming__standard_input);
	ATF_TP_ADD_TC(tp, incoming__another_machine);
	ATF_TP_ADD_TC(tp, incoming__fifo);
	ATF_TP_ADD_TC(tp, incoming__damaged);
	return atf_no_error();
}
