/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guests and their VMMs are not trusted, so nothing is kept that they could
 * make use of through us: once the disk and the socket are open nothing is ever
 * executed or opened again. Without the filter a process of root's could still
 * open what root owns, though it has no capability any more.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "backends/nvme/device.h"

/* Sanitizers open files and start processes of their own at the end. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||     \
	__has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

#ifdef ARCHITECTURE
/*
 * What an intruder would want first. unlink() stays, for the end of our socket,
 * and socketpair(), which makes the twin of a connection.
 */
static const unsigned refused[] = {
	SYS_execve,
	SYS_execveat,
	SYS_openat,
	SYS_openat2,
	SYS_open_by_handle_at,
	SYS_socket,
	SYS_connect,
	SYS_bind,
	SYS_ptrace,
	SYS_process_vm_readv,
	SYS_process_vm_writev,
	SYS_pidfd_getfd,
	SYS_mount,
	SYS_umount2,
	SYS_pivot_root,
	SYS_chroot,
	SYS_unshare,
	SYS_setns,
	SYS_renameat,
	SYS_renameat2,
	SYS_linkat,
	SYS_symlinkat,
	SYS_mkdirat,
	SYS_mknodat,
	SYS_fchmod,
	SYS_fchmodat,
	SYS_fchown,
	SYS_fchownat,
	SYS_setxattr,
	SYS_fsetxattr,
	SYS_bpf,
	SYS_perf_event_open,
	SYS_io_uring_setup,
	SYS_keyctl,
	SYS_add_key,
#ifdef SYS_open
	SYS_open,
	SYS_creat,
	SYS_rename,
	SYS_link,
	SYS_symlink,
	SYS_mkdir,
	SYS_mknod,
	SYS_chmod,
	SYS_chown,
#endif
};

#define REFUSED (sizeof(refused) / sizeof(refused[0]))
#define RET_EPERM (SECCOMP_RET_ERRNO | EPERM)

/* Another architecture's numbers, 32-bit ones and x32's too, mean others. */
static unsigned fill_head(struct sock_filter *filter)
{
	const struct sock_filter head[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, RET_EPERM),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, RET_EPERM),
	};
	unsigned n = sizeof(head) / sizeof(head[0]);

	for (unsigned i = 0; i < n; i++)
		filter[i] = head[i];
	return n;
}

/* A kernel without filters is no reason not to serve. */
int cleat_nvme_refuse_calls(void)
{
	struct sock_filter filter[6 + 2 * REFUSED + 1];
	struct sock_fprog program = { .filter = filter };
	unsigned n = fill_head(filter);

	for (unsigned i = 0; i < REFUSED; i++) {
		filter[n++] = (struct sock_filter)BPF_JUMP(
			BPF_JMP | BPF_JEQ | BPF_K, refused[i], 0, 1);
		filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
							   RET_EPERM);
	}
	filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
						   SECCOMP_RET_ALLOW);
	program.len = (unsigned short)n;
	if (SANITIZED ||
	    !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) ||
	    errno == EINVAL)
		return 0;
	return -errno;
}
#else
int cleat_nvme_refuse_calls(void)
{
	return 0;
}
#endif
