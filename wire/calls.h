/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Private to wire: the kernel's calls themselves. libc's are cancellation
 * points: a thread that is cancelled in one would take with it what it holds,
 * the send side, the reading of everybody's replies, or a binding. And to be
 * one costs a process with threads four locked instructions a call. (The
 * sanitizers know libc's only.)
 */
#ifndef CLEAT_CALLS_H
#define CLEAT_CALLS_H

#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__) || \
	__has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SEND(fd, buf, size, flags) send(fd, buf, size, flags)
#define SENDMSG(fd, msg, flags) sendmsg(fd, msg, flags)
#define RECVMSG(fd, msg, flags) recvmsg(fd, msg, flags)
#define PPOLL(pfd, time) ppoll(pfd, 1, time, NULL)
#define WRITE(fd, buf, size) write(fd, buf, size)
#else
#define SEND(fd, buf, size, flags) \
	syscall(SYS_sendto, fd, buf, size, flags, NULL, 0)
#define SENDMSG(fd, msg, flags) syscall(SYS_sendmsg, fd, msg, flags)
#define RECVMSG(fd, msg, flags) syscall(SYS_recvmsg, fd, msg, flags)
#define PPOLL(pfd, time) syscall(SYS_ppoll, pfd, 1, time, NULL, 0)
#define WRITE(fd, buf, size) syscall(SYS_write, fd, buf, size)
#endif

#endif
