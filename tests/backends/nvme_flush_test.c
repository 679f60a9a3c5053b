/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a completed Flush is worth. The program is traced: each of its system
 * calls stops it, so that the guest's view can be taken at the very moment when
 * it asks the kernel to write out, and the kernel's answer can be made a
 * failure.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "tests/backends/nvme_host.h"

static const char *const plain[] = { "--file=disk", "--size=4M",
				     "--stats=stats", NULL };

static struct nvme_command command(unsigned opcode, uint32_t cdw12)
{
	return (struct nvme_command){
		.opcode = (uint8_t)opcode,
		.nsid = 1,
		.prp1 = HOST_DATA,
		.prp2 = HOST_DATA + 4096,
		.cdw12 = cdw12,
	};
}

/* Doorbells of eventfds, so that neither side has to take part. */
static void start(struct host *host)
{
	host->doorbells = "shadow";
	host_start(host, plain);
	host_enable(host);
	memset(host->ram + HOST_DATA, 0xc3, 8192);
}

/* Runs the program to its next stop; whether that is at a system call. */
static bool stopped_at(pid_t pid, struct __ptrace_syscall_info *info)
{
	int status;

	ATF_REQUIRE_EQ(0, ptrace(PTRACE_SYSCALL, pid, NULL, NULL));
	ATF_REQUIRE_EQ(pid, waitpid(pid, &status, __WALL));
	if (!WIFSTOPPED(status) || WSTOPSIG(status) != (SIGTRAP | 0x80))
		return false;
	ATF_REQUIRE(ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(*info), info) >
		    0);
	return true;
}

/* To the entry of one of the calls in @wanted, which -1 ends. */
static void run_to_entry(pid_t pid, const long *wanted,
			 struct __ptrace_syscall_info *info)
{
	struct deadline deadline = deadline_in(PATIENCE_MS);

	while (deadline_left(&deadline)) {
		if (!stopped_at(pid, info) ||
		    info->op != PTRACE_SYSCALL_INFO_ENTRY)
			continue;
		for (unsigned i = 0; wanted[i] >= 0; i++)
			if ((long)info->entry.nr == wanted[i])
				return;
	}
	atf_tc_fail("none of the system calls was made");
}

static void trace(pid_t pid)
{
	int status;

	if (ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_TRACESYSGOOD) < 0)
		atf_tc_skip("no tracing here: %s", strerror(errno));
	ATF_REQUIRE_EQ(0, ptrace(PTRACE_INTERRUPT, pid, NULL, NULL));
	ATF_REQUIRE_EQ(pid, waitpid(pid, &status, __WALL));
}

static void untrace(pid_t pid)
{
	ATF_REQUIRE_EQ(0, ptrace(PTRACE_DETACH, pid, NULL, NULL));
}

/* Ends the call that was entered: as it would, or with @error instead. */
static void finish_call(pid_t pid, int error)
{
	struct __ptrace_syscall_info info = { 0 };
	struct user_regs_struct regs;

	if (error) {
		/* No such call: the kernel does nothing at all. */
		ATF_REQUIRE_EQ(0, ptrace(PTRACE_GETREGS, pid, NULL, &regs));
		regs.orig_rax = (unsigned long long)-1;
		ATF_REQUIRE_EQ(0, ptrace(PTRACE_SETREGS, pid, NULL, &regs));
	}
	ATF_REQUIRE(stopped_at(pid, &info));
	ATF_REQUIRE_EQ(PTRACE_SYSCALL_INFO_EXIT, info.op);
	if (error) {
		ATF_REQUIRE_EQ(0, ptrace(PTRACE_GETREGS, pid, NULL, &regs));
		regs.rax = (unsigned long long)-error;
		ATF_REQUIRE_EQ(0, ptrace(PTRACE_SETREGS, pid, NULL, &regs));
	} else {
		ATF_REQUIRE(!info.exit.is_error);
	}
}

static const long to_sync[] = { SYS_fdatasync, SYS_fsync, -1 };
static const long to_write[] = { SYS_pwritev2, SYS_pwritev, SYS_pwrite64, -1 };
static const long to_change[] = { SYS_fallocate, SYS_pwritev2, -1 };

CLEAT_TC(flush__completes_after_fdatasync)
{
	struct host host = { 0 };
	struct __ptrace_syscall_info info = { 0 };
	struct nvme_completion done;

	start(&host);
	ATF_REQUIRE_EQ(NVME_SUCCESS, host_rw(&host, NVME_IO_WRITE, 0, 8));
	trace(host.child.pid);
	host_submit(&host, 1, command(NVME_IO_FLUSH, 0));
	run_to_entry(host.child.pid, to_sync, &info);
	/* The kernel has not been asked yet, so the guest must not know. */
	ATF_REQUIRE(!host_done(&host, 1));
	finish_call(host.child.pid, 0);
	ATF_REQUIRE(!host_done(&host, 1));
	untrace(host.child.pid);
	done = host_complete(&host, 1);
	ATF_REQUIRE_EQ(NVME_SUCCESS, done.status >> 1);
	ATF_REQUIRE_EQ(0, host_stop(&host));
	host_end(&host);
}

CLEAT_TC(flush__fdatasync_fails)
{
	struct host host = { 0 };
	struct __ptrace_syscall_info info = { 0 };
	unsigned status;

	start(&host);
	ATF_REQUIRE_EQ(NVME_SUCCESS, host_rw(&host, NVME_IO_WRITE, 0, 8));
	trace(host.child.pid);
	host_submit(&host, 1, command(NVME_IO_FLUSH, 0));
	run_to_entry(host.child.pid, to_sync, &info);
	finish_call(host.child.pid, EIO);
	untrace(host.child.pid);
	status = host_complete(&host, 1).status >> 1 & ~NVME_STATUS_MORE;
	ATF_REQUIRE_EQ(NVME_WRITE_FAULT, status);
	/* The kernel would say yes now, about data that it has dropped. */
	ATF_REQUIRE_EQ(NVME_WRITE_FAULT,
		       host_command(&host, 1, command(NVME_IO_FLUSH, 0)));
	/* Reading goes on, and the end is not called a good one. */
	ATF_REQUIRE_EQ(NVME_SUCCESS, host_rw(&host, NVME_IO_READ, 0, 8));
	ATF_REQUIRE_EQ(1, host_stop(&host));
	host_end(&host);
}

CLEAT_TC(flush__interrupted)
{
	struct host host = { 0 };
	struct __ptrace_syscall_info info = { 0 };

	start(&host);
	trace(host.child.pid);
	host_submit(&host, 1, command(NVME_IO_FLUSH, 0));
	run_to_entry(host.child.pid, to_sync, &info);
	finish_call(host.child.pid, EINTR);
	/* Asked again */
	run_to_entry(host.child.pid, to_sync, &info);
	finish_call(host.child.pid, 0);
	untrace(host.child.pid);
	ATF_REQUIRE_EQ(NVME_SUCCESS, host_complete(&host, 1).status >> 1);
	ATF_REQUIRE_EQ(0, host_stop(&host));
	host_end(&host);
}

CLEAT_TC(write__fua_is_durable)
{
	struct host host = { 0 };
	struct __ptrace_syscall_info info = { 0 };

	start(&host);
	trace(host.child.pid);
	host_submit(&host, 1, command(NVME_IO_WRITE, 7 | NVME_RW_FUA));
	run_to_entry(host.child.pid, to_write, &info);
	/* Either the write itself is synchronous ... */
	if (info.entry.nr != SYS_pwritev2 ||
	    !(info.entry.args[5] & RWF_DSYNC)) {
		/* ... or a sync comes after it. */
		finish_call(host.child.pid, 0);
		run_to_entry(host.child.pid, to_sync, &info);
	}
	ATF_REQUIRE(!host_done(&host, 1));
	finish_call(host.child.pid, 0);
	ATF_REQUIRE(!host_done(&host, 1));
	untrace(host.child.pid);
	ATF_REQUIRE_EQ(NVME_SUCCESS, host_complete(&host, 1).status >> 1);
	ATF_REQUIRE_EQ(0, host_stop(&host));
	host_end(&host);
}

CLEAT_TC(write__fails_part_way)
{
	struct host host = { 0 };
	struct __ptrace_syscall_info info = { 0 };
	unsigned status;

	start(&host);
	trace(host.child.pid);
	host_submit(&host, 1, command(NVME_IO_WRITE, 7));
	run_to_entry(host.child.pid, to_write, &info);
	finish_call(host.child.pid, ENOSPC);
	untrace(host.child.pid);
	status = host_complete(&host, 1).status >> 1 & ~NVME_STATUS_MORE;
	ATF_REQUIRE_EQ(NVME_CAPACITY, status);
	/* Room was made: all is well again. */
	ATF_REQUIRE_EQ(NVME_SUCCESS, host_rw(&host, NVME_IO_WRITE, 0, 8));
	ATF_REQUIRE_EQ(NVME_SUCCESS,
		       host_command(&host, 1, command(NVME_IO_FLUSH, 0)));
	ATF_REQUIRE_EQ(0, host_stop(&host));
	host_end(&host);
}

CLEAT_TC(zeroes__where_fallocate_cannot)
{
	struct host host = { 0 };
	struct __ptrace_syscall_info info = { 0 };

	start(&host);
	ATF_REQUIRE_EQ(NVME_SUCCESS, host_rw(&host, NVME_IO_WRITE, 0, 16));
	trace(host.child.pid);
	host_submit(&host, 1, command(NVME_IO_WRITE_ZEROES, 7));
	/* Both ways of the file system's are refused: zeroes are written. */
	for (unsigned i = 0; i < 2; i++) {
		run_to_entry(host.child.pid, to_change, &info);
		ATF_REQUIRE_EQ(SYS_fallocate, info.entry.nr);
		finish_call(host.child.pid, EOPNOTSUPP);
	}
	run_to_entry(host.child.pid, to_change, &info);
	ATF_REQUIRE_EQ(SYS_pwritev2, info.entry.nr);
	untrace(host.child.pid);
	ATF_REQUIRE_EQ(NVME_SUCCESS, host_complete(&host, 1).status >> 1);
	ATF_REQUIRE_EQ(NVME_SUCCESS, host_rw(&host, NVME_IO_READ, 0, 16));
	ATF_REQUIRE_EQ(0, host.ram[HOST_DATA]);
	ATF_REQUIRE_EQ(0, host.ram[HOST_DATA + 4095]);
	ATF_REQUIRE_EQ(0xc3, host.ram[HOST_DATA + 4096]);
	ATF_REQUIRE_EQ(0, host_stop(&host));
	host_end(&host);
}

/* Killed without warning, right after what it said about the flush. */
CLEAT_TC(flush__survives_a_kill)
{
	struct host host = { 0 };
	uint8_t block[4096];
	int fd, status;

	start(&host);
	for (unsigned i = 0; i < 64; i++) {
		memset(host.ram + HOST_DATA, (int)i + 1, 4096);
		ATF_REQUIRE_EQ(NVME_SUCCESS,
			       host_rw(&host, NVME_IO_WRITE, 8 * i, 8));
	}
	ATF_REQUIRE_EQ(NVME_SUCCESS,
		       host_command(&host, 1, command(NVME_IO_FLUSH, 0)));
	ATF_REQUIRE_EQ(0, kill(host.child.pid, SIGKILL));
	status = child_wait(&host.child, PATIENCE_MS);
	ATF_REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	fd = open("disk", O_RDONLY);
	for (unsigned i = 0; i < 64; i++) {
		ATF_REQUIRE_EQ(4096, pread(fd, block, 4096, 4096 * i));
		for (unsigned k = 0; k < 4096; k++)
			ATF_REQUIRE_EQ(i + 1, block[k]);
	}
	close(fd);
	host_end(&host);
	/* The lock went with it: the next one serves the same data. */
	host = (struct host){ 0 };
	start(&host);
	ATF_REQUIRE_EQ(NVME_SUCCESS, host_rw(&host, NVME_IO_READ, 8 * 63, 8));
	ATF_REQUIRE_EQ(64, host.ram[HOST_DATA]);
	ATF_REQUIRE_EQ(0, host_stop(&host));
	host_end(&host);
}

/* Signals have to be handed on to a process that is traced. */
static bool run_to_sync(pid_t pid)
{
	struct __ptrace_syscall_info info = { 0 };
	int status, signal = 0;

	for (unsigned i = 0; i < 100000; i++) {
		ATF_REQUIRE_EQ(0, ptrace(PTRACE_SYSCALL, pid, NULL, signal));
		ATF_REQUIRE_EQ(pid, waitpid(pid, &status, __WALL));
		if (!WIFSTOPPED(status))
			return false;
		signal = WSTOPSIG(status);
		if (signal != (SIGTRAP | 0x80))
			continue;
		signal = 0;
		ATF_REQUIRE(ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info),
				   &info) > 0);
		if (info.op == PTRACE_SYSCALL_INFO_ENTRY &&
		    info.entry.nr == SYS_fdatasync)
			return true;
	}
	return false;
}

CLEAT_TC(end__on_sigterm_syncs)
{
	struct host host = { 0 };
	int status;

	start(&host);
	ATF_REQUIRE_EQ(NVME_SUCCESS, host_rw(&host, NVME_IO_WRITE, 0, 8));
	trace(host.child.pid);
	ATF_REQUIRE_EQ(0, kill(host.child.pid, SIGTERM));
	ATF_REQUIRE(run_to_sync(host.child.pid));
	untrace(host.child.pid);
	status = child_wait(&host.child, PATIENCE_MS);
	ATF_REQUIRE(WIFEXITED(status) && !WEXITSTATUS(status));
	host_end(&host);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, flush__completes_after_fdatasync);
	ATF_TP_ADD_TC(tp, flush__fdatasync_fails);
	ATF_TP_ADD_TC(tp, flush__interrupted);
	ATF_TP_ADD_TC(tp, write__fua_is_durable);
	ATF_TP_ADD_TC(tp, write__fails_part_way);
	ATF_TP_ADD_TC(tp, zeroes__where_fallocate_cannot);
	ATF_TP_ADD_TC(tp, flush__survives_a_kill);
	ATF_TP_ADD_TC(tp, end__on_sigterm_syncs);
	return atf_no_error();
}
