/* SPDX-License-Identifier: BSD-2-Clause */
/* The control socket: what it answers, and that a pause is one. */
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/support/support.h"
#include "tests/vmm/guest.h"

/* Prints for ever: 1: out %al, %dx; jmp 1b */
#define PRINT_FOR_EVER PRINT('r'), 0xee, 0xeb, 0xfd

static off_t printed(void)
{
	struct stat st;

	return stat("vmm.out", &st) ? 0 : st.st_size;
}

static void start(struct child *vmm, const char *device)
{
	start_vmm(vmm, (const char *const[]){ "--kernel", "kernel", "--control",
					      "control", "--cpus", "2",
					      device ? "--device" : NULL,
					      device, NULL });
}

static void quit(struct child *vmm, int control)
{
	require_answer(control, "{\"command\":\"quit\"}", "{\"ok\":true}");
	ATF_REQUIRE_EQ(5, finish_vmm(vmm));
	ATF_REQUIRE(access("control", F_OK));
	close(control);
}

CLEAT_TC(status__shown)
{
	struct child vmm;
	int control;

	close(kvm_open(tc));
	GUEST("kernel", PRINT('r'));
	start(&vmm, NULL);
	control = control_connect("control");
	require_answer(control, "{\"command\":\"status\"}",
		       "{\"ok\":true,\"state\":\"running\",\"cpus\":2,"
		       "\"memory\":536870912,\"devices\":[]");
	quit(&vmm, control);
}

/* Nothing is printed while the machine is paused, though it would. */
CLEAT_TC(pause__resume)
{
	struct child vmm;
	off_t before;
	int control;

	close(kvm_open(tc));
	GUEST("kernel", PRINT_FOR_EVER);
	start(&vmm, NULL);
	control = control_connect("control");
	REQUIRE_SOON(printed() > 100);
	require_answer(control, "{\"command\":\"pause\"}", "{\"ok\":true}");
	before = printed();
	require_answer(control, "{\"command\":\"status\"}", "paused");
	require_answer(control, "{\"command\":\"pause\"}", "{\"ok\":true}");
	usleep(50000); /* what must not happen has no event */
	ATF_REQUIRE_EQ(before, printed());
	require_answer(control, "{\"command\":\"resume\"}", "{\"ok\":true}");
	REQUIRE_SOON(printed() > before + 100);
	require_answer(control, "{\"command\":\"status\"}", "running");
	require_answer(control, "{\"command\":\"pause\"}", "{\"ok\":true}");
	quit(&vmm, control);
}

/* A vCPU that is stuck in a write of ours pauses, and loses no byte. */
CLEAT_TC(pause__nobody_reads)
{
	static const char *const words[] = {
		"/bin/sh", "-c",
		"exec \"$0\" --kernel kernel --control control >fifo", NULL,
		NULL };
	const char *argv[5];
	struct child vmm;
	int control, fifo;
	char bytes[4096];
	ssize_t n, total = 0;

	close(kvm_open(tc));
	memcpy(argv, words, sizeof(words));
	argv[3] = program("vmm/cleat-vmm");
	argv[4] = NULL;
	/* 1: inc %eax; out %al, %dx; jmp 1b */
	GUEST("kernel", PRINT(0), 0xff, 0xc0, 0xee, 0xeb, 0xfb);
	ATF_REQUIRE_EQ(0, mkfifo("fifo", 0600));
	child_start(&vmm, "vmm", argv);
	fifo = open_fifo("fifo");
	control = control_connect("control");
	ATF_REQUIRE(wait_fd(fifo, POLLIN, PATIENCE_MS));
	require_answer(control, "{\"command\":\"pause\"}", "{\"ok\":true}");
	require_answer(control, "{\"command\":\"resume\"}", "{\"ok\":true}");
	for (; total < 120000; total += n) {
		ssize_t i;

		ATF_REQUIRE(wait_fd(fifo, POLLIN, PATIENCE_MS));
		n = read(fifo, bytes, sizeof(bytes));
		ATF_REQUIRE(n > 0);
		for (i = 0; i < n; i++)
			ATF_REQUIRE_EQ((char)(total + i), bytes[i]);
	}
	close(fifo);
	quit(&vmm, control);
}

/*
 * 1: mov (%rcx), %eax; cmp $-1, %eax; je the end; jmp 1b; the end prints 'n'.
 * The BAR is placed as device_test.c does it.
 */
#define READ_WHILE_THERE                                                       \
	0xbb, 0x00, 0x80, 0x00, 0xfc, 0xc7, 0x43, 0x10, 0x00, 0x00, 0x00,     \
		0xc0, 0xc7, 0x43, 0x14, 0x00, 0x00, 0x00, 0x00, 0xc7, 0x43,   \
		0x04, 0x02, 0x00, 0x00, 0x00, 0xb9, 0x00, 0x00, 0x00, 0xc0,   \
		PRINT('y'), 0x8b, 0x01, 0x83, 0xf8, 0xff, 0x74, 0x02, 0xeb,   \
		0xf7, PRINT('n')
/* 1: mov 0x40(%rbx), %eax in config space; jmp 1b */
#define CONFIG_FOR_EVER                                                        \
	0xbb, 0x00, 0x80, 0x00, 0xfc, PRINT('y'), 0x8b, 0x43, 0x40, 0xeb, 0xfb

/* The server is silent, the pause comes at once, and the access is not lost. */
static void pause_inside_access(void)
{
	struct deadline deadline;
	struct child probe, vmm;
	int control;

	child_start(&probe, "probe", (const char *const[]){
		program("backends/cleat-probe"), "--socket-path", "probe.sock",
		NULL });
	REQUIRE_SOON(!access("probe.sock", F_OK) || child_ended(&probe));
	start(&vmm, "probe.sock");
	control = control_connect("control");
	REQUIRE_SOON(!strcmp(said("vmm.out"), "y"));
	ATF_REQUIRE_EQ(0, kill(probe.pid, SIGSTOP));
	usleep(20000); /* for the vCPU to get into an access; likely enough */
	deadline = deadline_in(PATIENCE_MS);
	require_answer(control, "{\"command\":\"pause\"}", "{\"ok\":true}");
	ATF_REQUIRE_MSG(deadline_spent(&deadline) < 1500, "%u ms",
			deadline_spent(&deadline));
	/* Nobody waits busily. */
	require_idle(vmm.pid);
	ATF_REQUIRE_EQ(0, kill(probe.pid, SIGCONT));
	require_answer(control, "{\"command\":\"resume\"}", "{\"ok\":true}");
	usleep(20000);
	require_answer(control, "{\"command\":\"status\"}", "\"lost\":false");
	ATF_REQUIRE_STREQ("y", said("vmm.out"));
	quit(&vmm, control);
	child_end(&probe);
}

CLEAT_TC(pause__inside_access)
{
	close(kvm_open(tc));
	GUEST("kernel", READ_WHILE_THERE);
	pause_inside_access();
}

CLEAT_TC(pause__inside_config_access)
{
	close(kvm_open(tc));
	GUEST("kernel", CONFIG_FOR_EVER);
	pause_inside_access();
}

CLEAT_TC(command__bad)
{
	static char line[COMMAND_LINE_LENGTH + 1];
	struct child vmm;
	int control, i;

	close(kvm_open(tc));
	GUEST("kernel", PRINT('r'));
	start(&vmm, NULL);
	control = control_connect("control");
	require_answer(control, "hello", "\"error\":\"not a JSON object\"");
	require_answer(control, "{\"command\":\"fly\"}",
		       "{\"ok\":false,\"error\":\"unknown command\"}");
	require_answer(control, "", "not a JSON object");
	/* A line that never ends is the end of the connection. */
	memset(line, ' ', sizeof(line) - 1);
	ATF_REQUIRE_EQ((ssize_t)sizeof(line) - 1,
		       send(control, line, sizeof(line) - 1, 0));
	ATF_REQUIRE(strstr(control_answer(control), "too long"));
	ATF_REQUIRE_EQ(0, peer_expect_close(control));
	close(control);
	/* So is asking without listening; the machine does not mind. */
	control = control_connect("control");
	for (i = 0; i < 100000; i++)
		if (send(control, "{}\n", 3, MSG_NOSIGNAL) < 0)
			break;
	ATF_REQUIRE(i < 100000);
	close(control);
	control = control_connect("control");
	require_answer(control, "{\"command\":\"status\"}", "running");
	quit(&vmm, control);
}

/* More clients than places: all are served, one after the other. */
CLEAT_TC(clients__many)
{
	int clients[CONTROL_CLIENTS + 2];
	const int count = CONTROL_CLIENTS + 2;
	struct child vmm;
	int i;

	close(kvm_open(tc));
	GUEST("kernel", PRINT('r'));
	start(&vmm, NULL);
	for (i = 0; i < count; i++)
		clients[i] = control_connect("control");
	for (i = 0; i < count - 1; i++) {
		require_answer(clients[i], "{\"command\":\"status\"}", "true");
		close(clients[i]);
	}
	quit(&vmm, clients[count - 1]);
}

CLEAT_TC(socket__bad)
{
	struct child vmm;
	int control;

	close(kvm_open(tc));
	GUEST("kernel", PRINT('r'));
	ATF_REQUIRE_EQ(1, RUN("--kernel", "kernel", "--control", "no/where"));
	require_complaint("--control no/where: No such file");
	ATF_REQUIRE_EQ(1, RUN("--kernel", "kernel", "--control", "kernel"));
	require_complaint("--control kernel: Address already in use");
	start(&vmm, NULL);
	control = control_connect("control");
	ATF_REQUIRE_EQ(0, kill(vmm.pid, SIGKILL));
	ATF_REQUIRE(child_wait(&vmm, PATIENCE_MS) > 0);
	close(control);
	/* What a killed one left behind is in nobody's way. */
	start(&vmm, NULL);
	REQUIRE_SOON((control = control_try("control")) >= 0);
	quit(&vmm, control);
}

/* Names beside the path are the user's, whatever they look like. */
CLEAT_TC(socket__other_files)
{
	glob_t found;
	struct child vmm;
	int control, fd;

	close(kvm_open(tc));
	GUEST("kernel", PRINT('r'));
	fd = open("control~", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	ATF_REQUIRE_EQ(0, close(fd));
	start(&vmm, NULL);
	control = control_connect("control");
	ATF_REQUIRE_EQ(0, access("control~", F_OK));
	ATF_REQUIRE_EQ(0, glob("control~*", 0, NULL, &found));
	ATF_REQUIRE_EQ(1, found.gl_pathc);
	globfree(&found);
	quit(&vmm, control);
	ATF_REQUIRE_EQ(0, access("control~", F_OK));
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, status__shown);
	ATF_TP_ADD_TC(tp, pause__resume);
	ATF_TP_ADD_TC(tp, pause__nobody_reads);
	ATF_TP_ADD_TC(tp, pause__inside_access);
	ATF_TP_ADD_TC(tp, pause__inside_config_access);
	ATF_TP_ADD_TC(tp, command__bad);
	ATF_TP_ADD_TC(tp, clients__many);
	ATF_TP_ADD_TC(tp, socket__bad);
	ATF_TP_ADD_TC(tp, socket__other_files);
	return atf_no_error();
}
