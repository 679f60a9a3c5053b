/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's code: position-independent between the two outer labels, copied
 * to GUEST_CODE. The vectors' entries come first, 256 of GUEST_STUB bytes.
 */
#include "bench/guest-code.h"

	.section .rodata
	.balign 16
	.globl cleat_guest_code_start
	.globl cleat_guest_code_entry
	.globl cleat_guest_code_end

cleat_guest_code_start:
	.set vector, 0
	.rept 256
	.balign GUEST_STUB
	.if vector < 32
	movl $vector, %eax
	jmp exception
	.else
	pushq $vector
	jmp interrupt
	.endif
	.set vector, vector + 1
	.endr

/* Count it and end it at the local APIC. Any instruction costs here. */
	.balign 16
interrupt:
	pushq %rax
	movq 8(%rsp), %rax
	lock incq GUEST_COUNTERS(,%rax,8)
	movl $0xfee000b0, %eax
	movl $0, (%rax)
	popq %rax
	addq $8, %rsp
	iretq

/* Tell the host which, and where from; it does not run us again. */
exception:
	movq %cr2, %rcx
	movq (%rsp), %rdx
	movq 8(%rsp), %rsi
	outl %eax, $GUEST_PORT_EXCEPTION
	jmp exception

/* RDI: this vCPU's program. Each end of it is a beginning. */
	.balign 16
cleat_guest_code_entry:
	movq %rdi, %rbx
next:
	movzwl GUEST_OP_CODE(%rbx), %eax
	testl %eax, %eax
	jz done
	leaq routines(%rip), %rcx
	movslq (%rcx,%rax,4), %r13
	addq %rcx, %r13
	movq GUEST_OP_ADDRESS(%rbx), %rsi
	movq GUEST_OP_VALUE(%rbx), %r8
	movq GUEST_OP_STEP(%rbx), %r9
	movq GUEST_OP_COUNT(%rbx), %r10
	movq GUEST_OP_WAIT_AT(%rbx), %r11
	movq GUEST_OP_RECORD(%rbx), %r12
	xorl %ebp, %ebp
again:
	testq %r10, %r10
	jz op_done
	testq %r11, %r11
	jz 1f
	movq (%r11), %r14
1:	movl GUEST_OP_BATCH(%rbx), %ecx
	testq %r12, %r12
	jz 2f
	xorl %r15d, %r15d
	cmpw $0, GUEST_OP_STAMP(%rbx)
	jne 2f
	lfence
	rdtsc
	shlq $32, %rdx
	orq %rdx, %rax
	movq %rax, %r15
2:	jmpq *%r13
accessed:
	subl $1, %ecx
	jg 2b
	testq %r11, %r11
	jz 4f
3:	cmpq %r14, (%r11)
	jne 4f
	pause
	jmp 3b
4:	testq %r12, %r12
	jz 5f
	lfence
	rdtsc
	shlq $32, %rdx
	orq %rdx, %rax
	subq %r15, %rax
	movq %rax, (%r12)
	addq $8, %r12
5:	addq %r9, %r8
	decq %r10
	jmp again
op_done:
	movq %rbp, GUEST_OP_RESULT(%rbx)
	addq $GUEST_OP_SIZE, %rbx
	jmp next
done:
	outb %al, $GUEST_PORT_DONE
	jmp cleat_guest_code_entry

store1:	movb %r8b, (%rsi)
	jmp accessed
store2:	movw %r8w, (%rsi)
	jmp accessed
store4:	movl %r8d, (%rsi)
	jmp accessed
store8:	movq %r8, (%rsi)
	jmp accessed
load1:	xorl %eax, %eax
	movb (%rsi), %al
	jmp loaded
load2:	xorl %eax, %eax
	movw (%rsi), %ax
	jmp loaded
load4:	movl (%rsi), %eax
	jmp loaded
load8:	movq (%rsi), %rax
loaded:	movq %rax, %rbp
	jmp accessed
out1:	movl %esi, %edx
	movl %r8d, %eax
	outb %al, %dx
	jmp accessed
out2:	movl %esi, %edx
	movl %r8d, %eax
	outw %ax, %dx
	jmp accessed
out4:	movl %esi, %edx
	movl %r8d, %eax
	outl %eax, %dx
	jmp accessed
in1:	movl %esi, %edx
	xorl %eax, %eax
	inb %dx, %al
	jmp loaded
in2:	movl %esi, %edx
	xorl %eax, %eax
	inw %dx, %ax
	jmp loaded
in4:	movl %esi, %edx
	inl %dx, %eax
	jmp loaded
wait:	cmpq %r8, (%rsi)
	jae accessed
	pause
	jmp wait

	.balign 4
routines:
	.long 0
	.long store1 - routines, store2 - routines
	.long store4 - routines, store8 - routines
	.long load1 - routines, load2 - routines
	.long load4 - routines, load8 - routines
	.long out1 - routines, out2 - routines, out4 - routines
	.long in1 - routines, in2 - routines, in4 - routines
	.long wait - routines
cleat_guest_code_end:

	.section .note.GNU-stack, "", @progbits
