/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guests of a few instructions inside a bzImage of our own, so that they run
 * wherever there is a KVM at all, and the program that runs them.
 */
#ifndef TESTS_VMM_GUEST_H
#define TESTS_VMM_GUEST_H

#include "tests/support/support.h"
#include "vmm/vmm.h"

/* Writes a file that the loader takes for a kernel. */
void write_kernel(const char *path, const void *code, size_t size);

/* mov $0x3400, %ax; mov $0x604, %dx; out %ax, %dx; then for ever */
#define POWER_OFF 0x66, 0xb8, 0x00, 0x34, 0x66, 0xba, 0x04, 0x06, 0x66, 0xef
#define FOR_EVER 0xeb, 0xfe
/* mov $0x3f8, %dx; mov $C, %al; out %al, %dx */
#define PRINT(c) 0x66, 0xba, 0xf8, 0x03, 0xb0, c, 0xee

#define GUEST(path, ...)                                                       \
	write_kernel(path, (const uint8_t[]){ __VA_ARGS__, FOR_EVER },         \
		     sizeof((const uint8_t[]){ __VA_ARGS__, FOR_EVER }))

/* Starts cleat-vmm; what it says is in vmm.out and vmm.err. */
void start_vmm(struct child *child, const char *const *words);
/* The same under another name: NAME.out, NAME.err. */
void start_vmm_as(struct child *child, const char *name,
		  const char *const *words);
/* Its exit status. */
int finish_vmm(struct child *child);

/* Runs it to its end; its exit status. */
#define RUN(...)                                                               \
	({                                                                     \
		struct child run_;                                             \
									       \
		start_vmm(&run_, (const char *const[]){ __VA_ARGS__, NULL });      \
		finish_vmm(&run_);                                                 \
	})

/* What a file holds, in static storage; "" if it is not there. */
const char *said(const char *path);
/* It said one line, with our name first and the words in it. */
void require_complaint(const char *words);

/* Connects to a control socket; control_try() gives -1 where nobody listens. */
int control_try(const char *path);
int control_connect(const char *path);
/* The next line it says, in static storage; "" when the connection ended. */
const char *control_answer(int control);
/* Says a line; the answer has these words in it. */
void require_answer(int control, const char *line, const char *words);
/* The process uses less than half of a tenth of a second. */
void require_idle(pid_t pid);
/* The reading end; waits until somebody writes to it. */
int open_fifo(const char *path);

#endif
