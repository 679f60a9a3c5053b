/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest, a device and its server, without an operating system: what a run
 * does when the server dies or falls silent under the guest.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "tests/support/support.h"
#include "tests/vmm/guest.h"

/*
 * Finds the function in slot 1, puts its BAR 0 to 0xc0000000, and says whether
 * it is there by 'y':
 *
 *	mov $0xfc008000, %ebx
 *	movl $0xc0000000, 0x10(%rbx)
 *	movl $0, 0x14(%rbx)
 *	movl $2, 4(%rbx)
 *	mov $0xc0000000, %ecx
 */
#define PLACE_BAR                                                              \
	0xbb, 0x00, 0x80, 0x00, 0xfc, 0xc7, 0x43, 0x10, 0x00, 0x00, 0x00,     \
		0xc0, 0xc7, 0x43, 0x14, 0x00, 0x00, 0x00, 0x00, 0xc7, 0x43,   \
		0x04, 0x02, 0x00, 0x00, 0x00, 0xb9, 0x00, 0x00, 0x00, 0xc0
/* 1: mov (%rcx), %eax; cmp $-1, %eax; je 1b */
#define UNTIL_THERE 0x8b, 0x01, 0x83, 0xf8, 0xff, 0x74, 0xf9
/* 1: mov (%rcx), %eax; cmp $-1, %eax; jne 1b */
#define UNTIL_GONE 0x8b, 0x01, 0x83, 0xf8, 0xff, 0x75, 0xf9
/* 1: mov (%rcx), %eax; jmp 1b */
#define READ_FOR_EVER 0x8b, 0x01, 0xeb, 0xfc

static void start_probe(struct child *probe)
{
	static const char *const words[] = { "--socket-path", "probe.sock",
					     NULL };
	const char *argv[] = { program("backends/cleat-probe"), words[0],
			       words[1], NULL };

	child_start(probe, "probe", argv);
	REQUIRE_SOON(!access("probe.sock", F_OK) || child_ended(probe));
}

static void start_guest(struct child *vmm)
{
	start_vmm(vmm, (const char *const[]){ "--kernel", "kernel", "--device",
					      "probe.sock", "--stats", "stats",
					      NULL });
}

CLEAT_TC(device__there)
{
	struct child probe, vmm;

	close(kvm_open(tc));
	start_probe(&probe);
	GUEST("kernel", PLACE_BAR, UNTIL_THERE, PRINT('y'), POWER_OFF);
	start_guest(&vmm);
	ATF_REQUIRE_EQ(0, finish_vmm(&vmm));
	ATF_REQUIRE_STREQ("y", said("vmm.out"));
	ATF_REQUIRE_STREQ("", said("vmm.err"));
	ATF_REQUIRE(strstr(said("stats"), "\"socket\": \"probe.sock\""));
	child_end(&probe);
}

CLEAT_TC(device__server_dies)
{
	struct child probe, vmm;

	close(kvm_open(tc));
	start_probe(&probe);
	GUEST("kernel", PLACE_BAR, UNTIL_THERE, PRINT('y'), UNTIL_GONE,
	      PRINT('n'), POWER_OFF);
	start_guest(&vmm);
	REQUIRE_SOON(!strcmp(said("vmm.out"), "y"));
	child_end(&probe);
	/* The guest sees ones, goes on, and ends as it likes. */
	ATF_REQUIRE_EQ(0, finish_vmm(&vmm));
	ATF_REQUIRE_STREQ("yn", said("vmm.out"));
	require_complaint("--device probe.sock: lost");
	ATF_REQUIRE(strstr(said("stats"), "\"lost\": true"));
}

/*
 * The vCPU waits for an answer that would be given up after 5 s. It is out long
 * before: statistics are written when all of them have ended.
 */
CLEAT_TC(device__server_silent)
{
	struct child probe, vmm;
	struct deadline deadline;

	close(kvm_open(tc));
	start_probe(&probe);
	GUEST("kernel", PLACE_BAR, UNTIL_THERE, PRINT('y'), READ_FOR_EVER);
	start_guest(&vmm);
	REQUIRE_SOON(!strcmp(said("vmm.out"), "y"));
	ATF_REQUIRE_EQ(0, kill(probe.pid, SIGSTOP));
	deadline = deadline_in(PATIENCE_MS);
	ATF_REQUIRE_EQ(0, kill(vmm.pid, SIGTERM));
	REQUIRE_SOON(strstr(said("stats"), "\"outcome\": \"stopped\""));
	ATF_REQUIRE_MSG(deadline_spent(&deadline) < 2000, "%u ms",
			deadline_spent(&deadline));
	ATF_REQUIRE_EQ(5, finish_vmm(&vmm));
	child_end(&probe);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, device__there);
	ATF_TP_ADD_TC(tp, device__server_dies);
	ATF_TP_ADD_TC(tp, device__server_silent);
	return atf_no_error();
}
