/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include "tests/support/syscalls.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__) || \
	__has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SANITIZED true
#else
#define SANITIZED false
#endif

#define MOST 512

static unsigned counts[MOST];

unsigned syscalls_counted(long number)
{
	return counts[number];
}

unsigned syscalls_all(void)
{
	unsigned all = 0;

	for (unsigned i = 0; i < MOST; i++)
		all += counts[i];
	return all;
}

void syscalls_forget(void)
{
	for (unsigned i = 0; i < MOST; i++)
		counts[i] = 0;
}

long syscalls_other(const long *but, unsigned num)
{
	for (long i = 0; i < MOST; i++) {
		unsigned k = 0;

		while (k < num && but[k] != i)
			k++;
		if (counts[i] && k == num)
			return i;
	}
	return -1;
}

#ifdef __x86_64__
/*
 * The only place from which calls pass the filter, which knows it by the
 * address behind the instruction.
 */
__asm__(".text\n"
	"cleat_test_syscall:\n"
	"	mov %rdi, %rax\n"
	"	mov %rsi, %rdi\n"
	"	mov %rdx, %rsi\n"
	"	mov %rcx, %rdx\n"
	"	mov %r8, %r10\n"
	"	mov %r9, %r8\n"
	"	mov 8(%rsp), %r9\n"
	"	syscall\n"
	"cleat_test_syscall_end:\n"
	"	ret\n");
long cleat_test_syscall(long number, long a, long b, long c, long d, long e,
			long f);
extern const char cleat_test_syscall_end[];

static void on_call(int signal, siginfo_t *info, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
	long number = regs[REG_RAX];

	if (number >= 0 && number < MOST)
		__atomic_fetch_add(&counts[number], 1, __ATOMIC_RELAXED);
	regs[REG_RAX] = cleat_test_syscall(number, regs[REG_RDI],
					   regs[REG_RSI], regs[REG_RDX],
					   regs[REG_R10], regs[REG_R8],
					   regs[REG_R9]);
}

static int filter_calls(void)
{
	uint64_t passes = (uintptr_t)cleat_test_syscall_end;
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		/* The way back out of the handler. */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 4, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, instruction_pointer)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)passes, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, instruction_pointer) +
				 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(passes >> 32), 0,
			 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
	};
	struct sock_fprog program = { .len = sizeof(code) / sizeof(code[0]),
				      .filter = code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) ? -errno :
								     0;
}

bool syscalls_watch(void)
{
	struct sigaction action = { .sa_sigaction = on_call,
				    .sa_flags = SA_SIGINFO | SA_NODEFER };

	/* Valgrind makes the calls itself, from an address of its own;
	 * sanitizers have handlers run late, and make calls of their own. */
	if (SANITIZED || getenv("CLEAT_VALGRIND"))
		return false;
	return !sigaction(SIGSYS, &action, NULL) && !filter_calls();
}
#else
bool syscalls_watch(void)
{
	return false;
}
#endif
