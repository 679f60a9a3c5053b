/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Machines that move. Their guest checks its own memory: it counts up a word in
 * each of 512 pages, all of which must be as it left them, and prints the
 * count; so a page that is lost is a triple fault, and what two programs
 * printed, one after the other, must be every number once.
 */
#ifndef TESTS_VMM_MOVING_H
#define TESTS_VMM_MOVING_H

#include "tests/vmm/guest.h"

#define QUIT "{\"command\":\"quit\"}"
#define STATUS "{\"command\":\"status\"}"
#define CANCEL "{\"command\":\"cancel\"}"
#define OK "{\"ok\":true}"

/*
 * Another guest, which checks a cleat-probe that has nothing but messages.
 * BAR 0 is put to 0xc0000000, BAR 1 to 0xc0010000. Then @bursts (126 at most) of
 * one, two, three ... times three stores of a number that counts up: all of
 * SCRATCH64, its upper half alone, the doorbell. After each burst SCRATCH64 must
 * have the number in both halves, which another order of the first two would
 * not leave, and the device must have got as many doorbells, the last with this
 * number.
 *
 *	   mov $0xfc008000, %ebx
 *	   movl $0xc0000000, 0x10(%rbx); movl $0xc0010000, 0x14(%rbx)
 *	   movl $2, 4(%rbx)
 *	   mov $0xc0000000, %ecx; mov $0x3f8, %dx
 *	   mov 0x470(%rcx), %rbp; jmp 1f
 *	0: ud2
 *	1: mov $1, %esi
 *	2: mov %esi, %edi
 *	3: inc %ebp
 *	   mov %rbp, 0x18(%rcx); mov %ebp, 0x1c(%rcx)
 *	   mov %ebp, 0x10070(%rcx)
 *	   dec %edi; jnz 3b
 *	   mov %rbp, %rax; shl $32, %rax; or %rbp, %rax
 *	   cmp %rax, 0x18(%rcx); jne 0b
 *	   cmp %rbp, 0x670(%rcx); jne 0b
 *	   cmp %rbp, 0x470(%rcx); jne 0b
 *	   inc %esi; cmp $(bursts + 1), %esi; jne 2b
 */
#define STORES_AND_READS(bursts)                                               \
	0xbb, 0x00, 0x80, 0x00, 0xfc, 0xc7, 0x43, 0x10, 0x00, 0x00, 0x00,      \
	0xc0, 0xc7, 0x43, 0x14, 0x00, 0x00, 0x01, 0xc0, 0xc7, 0x43, 0x04,      \
	0x02, 0x00, 0x00, 0x00, 0xb9, 0x00, 0x00, 0x00, 0xc0, 0x66, 0xba,      \
	0xf8, 0x03, 0x48, 0x8b, 0xa9, 0x70, 0x04, 0x00, 0x00, 0xeb, 0x02,      \
	0x0f, 0x0b, 0xbe, 0x01, 0x00, 0x00, 0x00, 0x89, 0xf7, 0xff, 0xc5,      \
	0x48, 0x89, 0x69, 0x18, 0x89, 0x69, 0x1c, 0x89, 0xa9, 0x70, 0x00,      \
	0x01, 0x00, 0xff, 0xcf, 0x75, 0xed, 0x48, 0x89, 0xe8, 0x48, 0xc1,      \
	0xe0, 0x20, 0x48, 0x09, 0xe8, 0x48, 0x39, 0x41, 0x18, 0x75, 0xd4,      \
	0x48, 0x39, 0xa9, 0x70, 0x06, 0x00, 0x00, 0x75, 0xcb, 0x48, 0x39,      \
	0xa9, 0x70, 0x04, 0x00, 0x00, 0x75, 0xc2, 0xff, 0xc6, 0x83, 0xfe,      \
	(bursts) + 1, 0x75, 0xc2
/* Counts these: inc %r8d; mov %r8d, %eax; out %al, %dx; jmp 1b */
#define PRINT_AND_AGAIN 0x41, 0xff, 0xc0, 0x44, 0x89, 0xc0, 0xee, 0xeb, 0xb4

/* At source.sock and target.sock; @device: a server's socket, or NULL. */
void start_source(struct child *vmm, const char *device);
/* The same with the guest in the file "kernel", which counts up and prints. */
void start_prepared(struct child *vmm, const char *device);
void start_target(struct child *vmm, const char *from, const char *device);
/* Begins it. */
void migrate(int control, const char *to, const char *then);
/* Asks until the answer has the words; the answer, in static storage. */
const char *await_status(int control, const char *words);
void quit(struct child *vmm, int control);

/* Bytes that a machine has printed; and those, after others. */
size_t printed(const char *name);
size_t append(const char *name, uint8_t *to, size_t room);
/* Every number once, whoever printed it. */
void require_all_counted(const char *one, const char *two);
/* It runs, and all that it printed is right. */
void require_runs_on(const char *name);

/* The source does not get there, says why, and runs on. */
void fail_to(int control, const char *to, const char *words);
/* The source gets to a target at move.sock, and that does all that is right. */
void arrive(struct child *source, int control, const char *device);

/*
 * A target at move.sock, as a script: takes @count bytes and then dies, or with
 * @stay waits until the source hangs up.
 */
struct taker {
	size_t count;
	bool stay;
	atomic_bool full;
	int listener;
	struct script script;
};

void taker_start(struct taker *taker, size_t count, bool stay);
void taker_end(struct taker *taker);

#endif
