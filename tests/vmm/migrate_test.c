/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A machine moves. Its guest checks its own memory: it counts up a word in each
 * of 512 pages, all of which must be as it left them, and prints the count; so
 * a page that is lost is a triple fault, and what two programs printed, one
 * after the other, must be every number once.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/support/support.h"
#include "tests/vmm/guest.h"

/*
 *	   mov $0x3f8, %dx; xor %eax, %eax
 *	1: mov $0x800000, %ebx
 *	2: cmp %eax, (%rbx); jne 3f; incl (%rbx)
 *	   add $0x1000, %ebx; cmp $0xa00000, %ebx; jne 2b
 *	   inc %eax; out %al, %dx; jmp 1b
 *	3: ud2
 */
#define COUNT_PAGES                                                            \
	0x66, 0xba, 0xf8, 0x03, 0x31, 0xc0, 0xbb, 0x00, 0x00, 0x80, 0x00,     \
		0x39, 0x03, 0x75, 0x15, 0xff, 0x03, 0x81, 0xc3, 0x00, 0x10,   \
		0x00, 0x00, 0x81, 0xfb, 0x00, 0x00, 0xa0, 0x00, 0x75, 0xec,   \
		0xff, 0xc0, 0xee, 0xeb, 0xe2, 0x0f, 0x0b

#define QUIT "{\"command\":\"quit\"}"
#define STATUS "{\"command\":\"status\"}"
#define OK "{\"ok\":true}"

static size_t printed(const char *name)
{
	char path[32];
	struct stat st;

	snprintf(path, sizeof(path), "%s.out", name);
	return stat(path, &st) ? 0 : (size_t)st.st_size;
}

static size_t append(const char *name, uint8_t *to, size_t room)
{
	char path[32];
	FILE *stream;
	size_t n;

	snprintf(path, sizeof(path), "%s.out", name);
	stream = fopen(path, "re");
	ATF_REQUIRE(stream);
	n = fread(to, 1, room, stream);
	ATF_REQUIRE(n && n < room);
	fclose(stream);
	return n;
}

/* Every number once, whoever printed it. */
static void require_all_counted(const char *one, const char *two)
{
	static uint8_t bytes[1 << 20];
	size_t n = append(one, bytes, sizeof(bytes)), i;

	n += append(two, bytes + n, sizeof(bytes) - n);
	for (i = 0; i < n; i++)
		ATF_REQUIRE_EQ_MSG((uint8_t)(i + 1), bytes[i],
				   "%#x after %zu bytes", bytes[i], i);
}

static void start_source(struct child *vmm)
{
	GUEST("kernel", COUNT_PAGES);
	start_vmm_as(vmm, "source",
		     (const char *const[]){ "--kernel", "kernel", "--memory",
					    "64", "--control", "source.sock",
					    NULL });
	REQUIRE_SOON(printed("source") > 3 || child_ended(vmm));
}

static void start_target(struct child *vmm, const char *from)
{
	start_vmm_as(vmm, "target",
		     (const char *const[]){ "--incoming", from, "--memory",
					    "64", "--control", "target.sock",
					    NULL });
}

static void migrate(int control, const char *to, const char *then)
{
	char line[256];

	snprintf(line, sizeof(line),
		 "{\"command\":\"migrate\",\"to\":\"%s\",\"then\":\"%s\"}", to,
		 then);
	require_answer(control, line, OK);
}

static const char *ask(int control, const char *line)
{
	ATF_REQUIRE_EQ((ssize_t)strlen(line),
		       send(control, line, strlen(line), MSG_NOSIGNAL));
	ATF_REQUIRE_EQ(1, send(control, "\n", 1, MSG_NOSIGNAL));
	return control_answer(control);
}

static void quit(struct child *vmm, int control)
{
	require_answer(control, QUIT, OK);
	ATF_REQUIRE_EQ(5, finish_vmm(vmm));
	close(control);
}

/* It runs, and all that it printed is right. */
static void require_runs_on(const char *name)
{
	size_t before = printed(name);

	REQUIRE_SOON(printed(name) > before + 3);
}

static void finish_target(struct child *target)
{
	int control = control_connect("target.sock");

	require_runs_on("target");
	quit(target, control);
	require_all_counted("source", "target");
}

CLEAT_TC(migrate__socket)
{
	struct child source, target;
	int control;

	close(kvm_open(tc));
	start_source(&source);
	control = control_connect("source.sock");
	start_target(&target, "unix:move.sock");
	REQUIRE_SOON(!access("move.sock", F_OK) || child_ended(&target));
	migrate(control, "unix:move.sock", "");
	ATF_REQUIRE_EQ(6, finish_vmm(&source));
	ATF_REQUIRE(strstr(said("source.err"), "migration: done: "));
	finish_target(&target);
	ATF_REQUIRE_STREQ("", said("target.err"));
	ATF_REQUIRE(access("move.sock", F_OK));
	close(control);
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
	start_source(&source);
	start_target(&target, name[1]);
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

	start_source(&source);
	control = control_connect("source.sock");
	migrate(control, to, "resume");
	REQUIRE_SOON(strstr(ask(control, STATUS), "\"phase\":\"done\""));
	require_runs_on("source");
	quit(&source, control);
	start_target(&target, from);
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
	start_source(&source);
	control = control_connect("source.sock");
	require_answer(control, "{\"command\":\"pause\"}", OK);
	migrate(control, "file:snap", "");
	ATF_REQUIRE_EQ(6, finish_vmm(&source));
	close(control);
	start_target(&target, "file:snap");
	control = control_connect("target.sock");
	REQUIRE_SOON(strstr(ask(control, STATUS), "\"paused\""));
	ATF_REQUIRE_EQ(0, printed("target"));
	require_answer(control, "{\"command\":\"resume\"}", OK);
	close(control);
	finish_target(&target);
}

/* ---- What goes wrong: the machine runs on ---- */

static void fail_to(int control, const char *to, const char *words)
{
	const char *answer;

	migrate(control, to, "");
	REQUIRE_SOON(strstr(ask(control, STATUS), "\"phase\":\"failed\""));
	answer = ask(control, STATUS);
	ATF_REQUIRE_MSG(strstr(answer, words), "no %s in: %s", words, answer);
	ATF_REQUIRE(strstr(answer, "\"state\":\"running\""));
	require_runs_on("source");
}

CLEAT_TC(failure__no_target)
{
	struct child source;
	int control, fd;

	close(kvm_open(tc));
	start_source(&source);
	control = control_connect("source.sock");
	fail_to(control, "unix:nowhere", "No such file");
	fail_to(control, "file:no/where", "No such file");
	fail_to(control, "fd:999", "Bad file descriptor");
	fail_to(control, "fd:x", "not the number");
	fail_to(control, "exec:exit 3", "");
	fail_to(control, "exec:cat >/dev/full", "");
	fail_to(control, "exec:cat >/dev/null; exit 1", "the command failed");
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

/* The target takes some of it, and dies. */
static int take_some(void *arg)
{
	static char bytes[4096];
	size_t *count = arg, n = 0;
	int listener = peer_listen("move.sock"), fd;

	if (listener < 0)
		return -errno;
	fd = peer_accept(listener);
	while (fd >= 0 && n < *count) {
		size_t some = *count - n;
		ssize_t got;

		if (some > sizeof(bytes))
			some = sizeof(bytes);
		got = recv(fd, bytes, some, 0);
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	close(fd);
	close(listener);
	unlink("move.sock");
	return 0;
}

CLEAT_TC(failure__target_dies)
{
	static const size_t counts[] = { 0, 10, 100, 10000, 100000, 2000000 };
	struct child source;
	struct script script;
	size_t i, count;
	int control;

	close(kvm_open(tc));
	start_source(&source);
	control = control_connect("source.sock");
	for (i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		count = counts[i];
		script_start(&script, take_some, &count);
		REQUIRE_SOON(!access("move.sock", F_OK));
		fail_to(control, "unix:move.sock", "");
		script_end(&script);
	}
	quit(&source, control);
}

/* It takes all of it and never says that it has. */
static int swallow(void *arg)
{
	size_t all = SIZE_MAX;

	return take_some(&all);
}

CLEAT_TC(cancel__target_silent)
{
	struct child source;
	struct script script;
	int control;

	close(kvm_open(tc));
	start_source(&source);
	control = control_connect("source.sock");
	require_answer(control, "{\"command\":\"cancel\"}", "no migration");
	script_start(&script, swallow, NULL);
	REQUIRE_SOON(!access("move.sock", F_OK));
	migrate(control, "unix:move.sock", "");
	require_answer(control, "{\"command\":\"migrate\",\"to\":\"file:x\"}",
		       "on its way already");
	REQUIRE_SOON(strstr(ask(control, STATUS), "\"phase\":\"stopped\""));
	require_answer(control, "{\"command\":\"cancel\"}", OK);
	REQUIRE_SOON(strstr(ask(control, STATUS), "\"phase\":\"cancelled\""));
	script_end(&script);
	require_runs_on("source");
	/* It is no worse for it. */
	migrate(control, "file:snap", "resume");
	REQUIRE_SOON(strstr(ask(control, STATUS), "\"phase\":\"done\""));
	require_runs_on("source");
	quit(&source, control);
}

CLEAT_TC(command__bad)
{
	struct child source;
	int control;

	close(kvm_open(tc));
	start_source(&source);
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

/* ---- What arrives is not to be believed ---- */

static void take_snapshot(void)
{
	struct child source;
	int control;

	start_source(&source);
	control = control_connect("source.sock");
	migrate(control, "file:snap", "");
	ATF_REQUIRE_EQ(6, finish_vmm(&source));
	close(control);
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

CLEAT_TC(incoming__damaged)
{
	const unsigned tries = 24;
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
	ATF_TP_ADD_TC(tp, command__bad);
	ATF_TP_ADD_TC(tp, incoming__another_machine);
	ATF_TP_ADD_TC(tp, incoming__damaged);
	return atf_no_error();
}
