/* SPDX-License-Identifier: BSD-2-Clause */
/* The program as people use it: what it says, and how it ends. */
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/support/support.h"
#include "tests/vmm/guest.h"

CLEAT_TC(help__shown)
{
	ATF_REQUIRE_EQ(0, RUN("--help"));
	ATF_REQUIRE(strstr(said("vmm.out"), "usage: cleat-vmm --kernel"));
	ATF_REQUIRE_EQ(0, RUN("--version"));
	ATF_REQUIRE(!strncmp(said("vmm.out"), "cleat-vmm ", 10));
	ATF_REQUIRE_STREQ("", said("vmm.err"));
}

CLEAT_TC(options__bad)
{
	ATF_REQUIRE_EQ(2, RUN("--memory", "64"));
	require_complaint("--kernel: a kernel must be named");
	ATF_REQUIRE_EQ(2, RUN("--kernel", "k", "--cpus", "none"));
	require_complaint("--cpus none: give a number from 1 to");
	ATF_REQUIRE_EQ(2, RUN("--kernel", "k", "--colour"));
	require_complaint("--colour: unknown option");
	ATF_REQUIRE_EQ(2, RUN("--kernel"));
	require_complaint("--kernel: needs a value");
}

CLEAT_TC(kernel__bad)
{
	close(kvm_open(tc));
	ATF_REQUIRE_EQ(1, RUN("--kernel", "nowhere"));
	require_complaint("--kernel nowhere: No such file");
	ATF_REQUIRE_EQ(1, RUN("--kernel", "."));
	require_complaint("not a regular file");
	ATF_REQUIRE_EQ(1, RUN("--kernel", program("vmm/cleat-vmm")));
	require_complaint("not a Linux bzImage");
	GUEST("kernel", POWER_OFF);
	ATF_REQUIRE_EQ(0, truncate("kernel", 1500));
	ATF_REQUIRE_EQ(1, RUN("--kernel", "kernel"));
	require_complaint("truncated");
	ATF_REQUIRE_EQ(0, truncate("kernel", 0));
	ATF_REQUIRE_EQ(1, RUN("--kernel", "kernel"));
	require_complaint("too short");
}

CLEAT_TC(files__bad)
{
	static char line[3000];

	close(kvm_open(tc));
	GUEST("kernel", POWER_OFF);
	ATF_REQUIRE_EQ(1, RUN("--kernel", "kernel", "--initrd", "nowhere"));
	require_complaint("--initrd nowhere: No such file");
	memset(line, 'x', sizeof(line) - 1);
	ATF_REQUIRE_EQ(1, RUN("--kernel", "kernel", "--append", line));
	require_complaint("--append: 2999 bytes, the kernel takes 2047");
	ATF_REQUIRE_EQ(1, RUN("--kernel", "kernel", "--stats", "no/where"));
	require_complaint("--stats no/where: No such file");
	ATF_REQUIRE_EQ(1, RUN("--kernel", "kernel", "--device", "nowhere"));
	require_complaint("--device nowhere: ");
	require_complaint("start its server first");
}

CLEAT_TC(memory__too_little)
{
	int fd;

	close(kvm_open(tc));
	GUEST("kernel", POWER_OFF);
	fd = open("initrd", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	ATF_REQUIRE(fd >= 0);
	ATF_REQUIRE_EQ(0, ftruncate(fd, 11 * MiB));
	close(fd);
	ATF_REQUIRE_EQ(1, RUN("--kernel", "kernel", "--initrd", "initrd",
			      "--memory", "16"));
	require_complaint("give more --memory");
	ATF_REQUIRE_EQ(0, RUN("--kernel", "kernel", "--initrd", "initrd",
			      "--memory", "32"));
}

CLEAT_TC(kvm__no_access)
{
	struct child child;

	if (geteuid() != 0)
		atf_tc_skip("not root: cannot become somebody else");
	close(kvm_open(tc));
	GUEST("kernel", POWER_OFF);
	ATF_REQUIRE_EQ(0, chmod("kernel", 0644));
	child_start(&child, "vmm", (const char *const[]){
		"/usr/bin/setpriv", "--reuid=65534", "--clear-groups",
		"--regid=65534", program("vmm/cleat-vmm"), "--kernel",
		"kernel", NULL });
	if (finish_vmm(&child) == 0)
		atf_tc_skip("/dev/kvm is open to everybody here");
	if (strstr(said("vmm.err"), "setpriv"))
		atf_tc_skip("the program cannot be run by others");
	require_complaint("/dev/kvm: no access: be root, or join the group");
}

CLEAT_TC(end__power_off)
{
	close(kvm_open(tc));
	GUEST("kernel", PRINT('h'), PRINT('i'), POWER_OFF);
	ATF_REQUIRE_EQ(0, RUN("--kernel", "kernel", "--stats", "stats"));
	ATF_REQUIRE_STREQ("hi", said("vmm.out"));
	ATF_REQUIRE_STREQ("", said("vmm.err"));
	ATF_REQUIRE(strstr(said("stats"), "\"outcome\": \"power-off\""));
	/* Two bytes and the power-off register. */
	ATF_REQUIRE(strstr(said("stats"), "\"io\": 3,"));
}

CLEAT_TC(end__reset)
{
	close(kvm_open(tc));
	GUEST("kernel", 0x66, 0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee);
	ATF_REQUIRE_EQ(3, RUN("--kernel", "kernel"));
}

CLEAT_TC(end__triple_fault)
{
	close(kvm_open(tc));
	GUEST("kernel", 0x0f, 0x0b); /* ud2, and no IDT */
	ATF_REQUIRE_EQ(4, RUN("--kernel", "kernel"));
}

static void stop_by(int signal, unsigned cpus)
{
	struct child child;
	char number[8];

	snprintf(number, sizeof(number), "%u", cpus);
	unlink("vmm.out");
	GUEST("kernel", PRINT('r'));
	start_vmm(&child, (const char *const[]){ "--kernel", "kernel", "--cpus",
					     number, "--stats", "stats",
					     NULL });
	REQUIRE_SOON(!strcmp(said("vmm.out"), "r"));
	ATF_REQUIRE_EQ(0, kill(child.pid, signal));
	ATF_REQUIRE_EQ(5, finish_vmm(&child));
	ATF_REQUIRE(strstr(said("stats"), "\"outcome\": \"stopped\""));
}

CLEAT_TC(end__signal)
{
	close(kvm_open(tc));
	stop_by(SIGTERM, 1);
	stop_by(SIGINT, 4);
}

/* The program with a terminal for its standard input and output. */
static int start_on_terminal(struct child *child)
{
	const char *path = program("vmm/cleat-vmm");
	int terminal;

	skip_on_valgrind("it knows no pidfds");
	child->pid = forkpty(&terminal, NULL, NULL, NULL);
	ATF_REQUIRE(child->pid >= 0);
	if (!child->pid) {
		execl(path, path, "--kernel", "kernel", NULL);
		_exit(127);
	}
	child->pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0);
	ATF_REQUIRE(child->pidfd >= 0);
	return terminal;
}

static void require_echo(int terminal, const char *sent, char expected)
{
	char back = 0;

	ATF_REQUIRE_EQ((ssize_t)strlen(sent),
		       write(terminal, sent, strlen(sent)));
	ATF_REQUIRE(wait_fd(terminal, POLLIN, PATIENCE_MS));
	ATF_REQUIRE_EQ(1, read(terminal, &back, 1));
	ATF_REQUIRE_EQ_MSG(expected, back, "got %#x", back);
}

/*
 * Waits for "data ready" at 0x3fd, then sends back what arrived at 0x3f8; an
 * 'r' comes first, when the terminal has long been set up.
 */
CLEAT_TC(console__terminal)
{
	struct termios settings;
	struct child child;
	int terminal;

	close(kvm_open(tc));
	GUEST("kernel", PRINT('r'), 0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01,
	      0x74, 0xf7, 0x66, 0xba, 0xf8, 0x03, 0xec, 0xee, 0xeb, 0xef);
	terminal = start_on_terminal(&child);
	require_echo(terminal, "", 'r');
	ATF_REQUIRE_EQ(0, tcgetattr(terminal, &settings));
	ATF_REQUIRE_EQ(0, settings.c_lflag & (ECHO | ICANON | ISIG));
	require_echo(terminal, "a", 'a');
	require_echo(terminal, "\003", 3); /* Ctrl-C is the guest's */
	require_echo(terminal, "\001\001", 1);
	require_echo(terminal, "x", 'x');
	ATF_REQUIRE_EQ(2, write(terminal, "\001x", 2));
	ATF_REQUIRE_EQ(5, finish_vmm(&child));
	ATF_REQUIRE_EQ(0, tcgetattr(terminal, &settings));
	ATF_REQUIRE_EQ(ECHO | ICANON | ISIG,
		       settings.c_lflag & (ECHO | ICANON | ISIG));
	close(terminal);
}

/* A vCPU that is stuck in a write of ours is no reason not to end. */
CLEAT_TC(console__nobody_reads)
{
	struct child child;
	int terminal, now, before = -1;

	close(kvm_open(tc));
	GUEST("kernel", PRINT('r'), 0xee, 0xeb, 0xfd);
	terminal = start_on_terminal(&child);
	do {
		usleep(50000);
		now = before;
		ATF_REQUIRE_EQ(0, ioctl(terminal, FIONREAD, &before));
	} while (now != before || !before);
	ATF_REQUIRE_EQ(0, kill(child.pid, SIGTERM));
	ATF_REQUIRE_EQ(5, finish_vmm(&child));
	close(terminal);
}

CLEAT_TC(memory__no_huge_pages)
{
	close(kvm_open(tc));
	if (strtol(said("/proc/sys/vm/nr_hugepages"), NULL, 10) > 0)
		atf_tc_skip("there are huge pages here");
	GUEST("kernel", POWER_OFF);
	ATF_REQUIRE_EQ(1, RUN("--kernel", "kernel", "--hugetlb"));
	require_complaint("put at least 256 into /proc/sys/vm/nr_hugepages");
}

/* mov 0x228(%rsi), %ebx; then bytes until a zero one, to the serial port */
CLEAT_TC(boot__command_line)
{
	close(kvm_open(tc));
	GUEST("kernel", 0x8b, 0x9e, 0x28, 0x02, 0x00, 0x00, 0x66, 0xba, 0xf8,
	      0x03, 0x8a, 0x03, 0x84, 0xc0, 0x74, 0x06, 0xee, 0x48, 0xff, 0xc3,
	      0xeb, 0xf4, POWER_OFF);
	ATF_REQUIRE_EQ(0, RUN("--kernel", "kernel", "--append", "one two"));
	ATF_REQUIRE_STREQ("one two", said("vmm.out"));
	ATF_REQUIRE_EQ(0, RUN("--kernel", "kernel"));
	ATF_REQUIRE_STREQ("console=ttyS0", said("vmm.out"));
}

/* mov 0x218(%rsi), %ebx, the same from the initrd's address */
CLEAT_TC(boot__initrd)
{
	FILE *stream;

	close(kvm_open(tc));
	GUEST("kernel", 0x8b, 0x9e, 0x18, 0x02, 0x00, 0x00, 0x66, 0xba, 0xf8,
	      0x03, 0x8a, 0x03, 0x84, 0xc0, 0x74, 0x06, 0xee, 0x48, 0xff, 0xc3,
	      0xeb, 0xf4, POWER_OFF);
	stream = fopen("initrd", "we");
	ATF_REQUIRE(stream);
	fputs("first file", stream);
	fclose(stream);
	ATF_REQUIRE_EQ(0, RUN("--kernel", "kernel", "--initrd", "initrd"));
	ATF_REQUIRE_STREQ("first file", said("vmm.out"));
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, help__shown);
	ATF_TP_ADD_TC(tp, options__bad);
	ATF_TP_ADD_TC(tp, kernel__bad);
	ATF_TP_ADD_TC(tp, files__bad);
	ATF_TP_ADD_TC(tp, memory__too_little);
	ATF_TP_ADD_TC(tp, kvm__no_access);
	ATF_TP_ADD_TC(tp, end__power_off);
	ATF_TP_ADD_TC(tp, end__reset);
	ATF_TP_ADD_TC(tp, end__triple_fault);
	ATF_TP_ADD_TC(tp, end__signal);
	ATF_TP_ADD_TC(tp, console__terminal);
	ATF_TP_ADD_TC(tp, console__nobody_reads);
	ATF_TP_ADD_TC(tp, memory__no_huge_pages);
	ATF_TP_ADD_TC(tp, boot__command_line);
	ATF_TP_ADD_TC(tp, boot__initrd);
	return atf_no_error();
}
