/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A firmware for a q35 machine: 64 KiB that end at 4 GiB, and nothing in it but
 * a processor that uses one device. It gives the function in FIRMWARE_SLOT a
 * place for its BAR 0, and then does for ever what the device tells it: reads
 * FIRMWARE_GO until that is not 0; reads BAR 0 so many times, or writes it if
 * bit 31 is set; and reads FIRMWARE_DONE.
 */
#include "bench/firmware.h"

	.set TOP, 0xffff0000
	.set CONFIG, 0x80000000 | FIRMWARE_SLOT << 11

	.section .rodata
	.balign 16
	.globl cleat_firmware_start
	.globl cleat_firmware_end
cleat_firmware_start:
	.code16
	cli
	lgdtl %cs:(gdtr - cleat_firmware_start)
	movl %cr0, %eax
	orb $1, %al
	movl %eax, %cr0
	ljmpl $8, $(TOP + flat - cleat_firmware_start)

	.code32
flat:	movw $16, %ax
	movw %ax, %ds
	movl $(CONFIG | 0x10), %eax
	movw $0xcf8, %dx
	outl %eax, %dx
	movl $FIRMWARE_BAR, %eax
	movw $0xcfc, %dx
	outl %eax, %dx
	movl $(CONFIG | 0x04), %eax
	movw $0xcf8, %dx
	outl %eax, %dx
	movl $2, %eax
	movw $0xcfc, %dx
	outl %eax, %dx
	movl $FIRMWARE_BAR, %ebx
poll:	movl FIRMWARE_GO(%ebx), %eax
	testl %eax, %eax
	jz poll
	movl %eax, %ecx
	andl $0x7fffffff, %ecx
	testl %eax, %eax
	js store
load:	movl (%ebx), %edx
	decl %ecx
	jnz load
	jmp over
store:	movl %ecx, (%ebx)
	decl %ecx
	jnz store
over:	movl FIRMWARE_DONE(%ebx), %eax
	jmp poll

	.balign 8
gdt:	.quad 0
	.quad 0x00cf9b000000ffff
	.quad 0x00cf93000000ffff
gdtr:	.word . - gdt - 1
	.long TOP + gdt - cleat_firmware_start

	/* The processor begins 16 bytes below the end. */
	.org cleat_firmware_start + 0xfff0, 0x90
	.code16
	.byte 0xe9
	.word cleat_firmware_start - (. + 2)
	.org cleat_firmware_start + 0x10000, 0x90
cleat_firmware_end:

	.section .note.GNU-stack, "", @progbits
