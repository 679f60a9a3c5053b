/* SPDX-License-Identifier: BSD-2-Clause */
/* What guest.c and guest-code.S must agree on; read by the assembler too. */
#ifndef BENCH_GUEST_CODE_H
#define BENCH_GUEST_CODE_H

/* Guest-physical layout. */
#define GUEST_GDT 0x1000
#define GUEST_IDT 0x2000
#define GUEST_COUNTERS 0x3000
#define GUEST_CODE 0x4000
#define GUEST_CODE_ROOM 0x4000
/*
 * For each vCPU a TSS with a port bitmap, the stack of CPL 0, and a page with
 * its program.
 */
#define GUEST_CPU_AREA 0x8000
#define GUEST_CPU_STRIDE 0x4000
#define GUEST_PORT_BITMAP 0x68
#define GUEST_TSS_LIMIT (GUEST_PORT_BITMAP + 0x2000)
#define GUEST_PROGRAM 0x3000
#define GUEST_TABLES 0x40000
#define GUEST_TABLES_END 0x80000

/* Bytes between the entries of two vectors. */
#define GUEST_STUB 16

#define GUEST_PORT_DONE 0xf4
#define GUEST_PORT_EXCEPTION 0xf5

/* Numbers of the access routines; 0 ends the program. */
#define GUEST_CODE_STORE 1
#define GUEST_CODE_LOAD 5
#define GUEST_CODE_OUT 9
#define GUEST_CODE_IN 12
#define GUEST_CODE_WAIT 15
#define GUEST_CODES 16

/* Offsets in an operation as the guest reads it. */
#define GUEST_OP_CODE 0 /* 16 bits */
#define GUEST_OP_STAMP 2 /* 16 bits */
#define GUEST_OP_BATCH 4 /* 32 bits */
#define GUEST_OP_ADDRESS 8
#define GUEST_OP_VALUE 16
#define GUEST_OP_STEP 24
#define GUEST_OP_COUNT 32
#define GUEST_OP_WAIT_AT 40
#define GUEST_OP_RECORD 48
#define GUEST_OP_RESULT 56
#define GUEST_OP_SIZE 64

#ifndef __ASSEMBLER__
#include <stdint.h>

extern const uint8_t cleat_guest_code_start[];
extern const uint8_t cleat_guest_code_entry[];
extern const uint8_t cleat_guest_code_end[];
#endif

#endif
