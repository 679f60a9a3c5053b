/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which system calls the calling thread makes, counted by the kernel: a seccomp
 * filter turns each into a signal, whose handler counts it and makes it in the
 * thread's stead. It needs no privilege and no tracer, and it cannot be taken
 * off again: for a case that does nothing else. Other threads are
 * counted if they ask for it themselves; a watched one can neither make threads
 * nor end.
 */
#ifndef TESTS_SYSCALLS_H
#define TESTS_SYSCALLS_H

#include <stdbool.h>

/* False where it cannot be done: another architecture, valgrind,
 * sanitizers. */
bool syscalls_watch(void);
/* Since the last syscalls_forget(). */
unsigned syscalls_counted(long number);
unsigned syscalls_all(void);
void syscalls_forget(void);
/* One that was made, other than the @num in @but; -1: none. */
long syscalls_other(const long *but, unsigned num);

#endif
