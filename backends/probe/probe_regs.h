/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a driver of cleat-probe needs to know; docs/probe.md says what it all
 * does. Plain numbers: for tests, for assembly, for a guest without libc.
 */
#ifndef CLEAT_PROBE_REGS_H
#define CLEAT_PROBE_REGS_H

#define PROBE_VENDOR 0xc1ea
#define PROBE_DEVICE 0xcb01
#define PROBE_MAGIC 0x42525043 /* "CPRB" */
#define PROBE_VERSION 1

/* ---- Regions ------------------------------------------------------- */

#define PROBE_BAR_REGS 0
#define PROBE_BAR_DOORBELLS 1
#define PROBE_BAR_PAGES 2 /* 64 bits: takes 3 as well */
#define PROBE_BAR_IO 4
#define PROBE_ROM 6

#define PROBE_REGS_LENGTH 0x10000
#define PROBE_MSIX_TABLE 0x4000 /* in the registers' BAR */
#define PROBE_MSIX_PBA 0xc000
#define PROBE_DOORBELLS_LENGTH 0x2000
#define PROBE_PAGES_LENGTH 0x10000
#define PROBE_IO_LENGTH 64
#define PROBE_ROM_LENGTH 0x1000

/* The two mapped areas of the pages; the rest of them is by message. */
#define PROBE_AREA_0 0x1000
#define PROBE_AREA_0_LENGTH 0x2000
#define PROBE_AREA_1 0x8000
#define PROBE_AREA_1_LENGTH 0x8000
/* This word is the mapped doorbell, while PROBE_POLL is on. */
#define PROBE_MAPPED_DOORBELL PROBE_AREA_0

/* ---- Registers: 4 bytes, those marked 64 may be written as 8 -------- */

#define PROBE_ID 0x000
#define PROBE_VERSION_REG 0x004
#define PROBE_FEATURES 0x008
#define PROBE_VECTORS 0x00c
#define PROBE_SCRATCH 0x010
#define PROBE_SCRATCH64 0x018 /* 64 */

#define PROBE_IRQ_RAISE 0x020
#define PROBE_IRQ_COUNT 0x024
#define PROBE_IRQ_DELAY_US 0x028
#define PROBE_IRQ_LOWER 0x02c
#define PROBE_ECHO 0x030
#define PROBE_STATUS 0x034
#define PROBE_SLOW_US 0x038
#define PROBE_SLOW 0x03c

#define PROBE_DMA_SOURCE 0x040 /* 64 */
#define PROBE_DMA_TARGET 0x048 /* 64 */
#define PROBE_DMA_LENGTH 0x050
#define PROBE_DMA_GO 0x054
#define PROBE_DMA_STATUS 0x058
#define PROBE_DMA_SUM 0x05c
#define PROBE_DMA_PATTERN 0x060
#define PROBE_DMA_WAY 0x064

#define PROBE_CLEAR 0x068
#define PROBE_FAULT 0x06c
#define PROBE_POLL 0x070
#define PROBE_STAMP 0x074
#define PROBE_STATE_SUM 0x078
#define PROBE_STATE_MIB 0x07c

/* PROBE_FEATURES */
#define PROBE_HAS_MAPPED 0x01
#define PROBE_HAS_IOEVENTFD 0x02
#define PROBE_HAS_SHADOW 0x04
#define PROBE_HAS_IO 0x08
#define PROBE_HAS_INTX 0x10
#define PROBE_HAS_MSI 0x20
#define PROBE_HAS_MSIX 0x40
#define PROBE_HAS_ROM 0x80

/* PROBE_IRQ_RAISE: a vector, and by what */
#define PROBE_IRQ_ENABLED 0x00000 /* whichever the guest has enabled */
#define PROBE_IRQ_INTX 0x10000
#define PROBE_IRQ_MSI 0x20000
#define PROBE_IRQ_MSIX 0x30000

/* PROBE_ECHO: the first vector, and this */
#define PROBE_ECHO_ON 0x80000000

/* PROBE_STATUS */
#define PROBE_STATUS_IRQS 0x1
#define PROBE_STATUS_DMA 0x2

/* PROBE_STAMP: where in the pages, and how many places of 8 bytes */
#define PROBE_STAMPS PROBE_AREA_1
#define PROBE_STAMPS_MAX (PROBE_AREA_1_LENGTH / 8)

/* PROBE_DMA_GO: one of four, and a vector in bits 16 to 30 */
#define PROBE_DMA_COPY 1
#define PROBE_DMA_FILL 2
#define PROBE_DMA_READ 3
#define PROBE_DMA_WRITE 4
#define PROBE_DMA_POINTER 0x100 /* through the mapping, or not at all */
#define PROBE_DMA_IRQ 0x80000000
#define PROBE_DMA_MOST 0x1000000

/* PROBE_DMA_STATUS, or an error number below these */
#define PROBE_DMA_IDLE 0x10000
#define PROBE_DMA_BUSY 0x10001
#define PROBE_DMA_DONE 0x10002

/* PROBE_DMA_WAY */
#define PROBE_DMA_BY_MAPPING 0x1
#define PROBE_DMA_BY_MESSAGE 0x2

/* PROBE_FAULT */
#define PROBE_FAULT_DIE 1
#define PROBE_FAULT_HANG 2
#define PROBE_FAULT_DISCONNECT 3

/* ---- Counters: 8 bytes, read-only ---------------------------------- */

#define PROBE_MESSAGE_READS(bar) (0x100 + 8 * (bar))
#define PROBE_MESSAGE_WRITES(bar) (0x140 + 8 * (bar))
#define PROBE_WAKEUPS 0x180
#define PROBE_SHADOW_KICKS 0x188
#define PROBE_IRQS_RAISED 0x190
#define PROBE_IRQS_LOST 0x198
#define PROBE_DMA_BYTES 0x1a0
#define PROBE_RESETS 0x1a8
#define PROBE_CLIENTS 0x1b0
#define PROBE_POLLS 0x1b8

/* For each doorbell: how it came, and the value where that is known. */
#define PROBE_EVENTS(doorbell) (0x200 + 8 * (doorbell))
#define PROBE_MESSAGES(doorbell) (0x400 + 8 * (doorbell))
#define PROBE_VALUE(doorbell) (0x600 + 8 * (doorbell))

#define PROBE_DOORBELLS 64
#define PROBE_DB_ANY 0
#define PROBE_DB_1 1
#define PROBE_DB_2 2
#define PROBE_DB_4 3
#define PROBE_DB_8 4
#define PROBE_DB_MATCH(value) (5 + (value)) /* 0 to 7 */
#define PROBE_DB_SHARED 13
#define PROBE_DB_MESSAGE 14
#define PROBE_DB_IO_4 15
#define PROBE_DB_IO_2 16
#define PROBE_DB_IO_MESSAGE 17
#define PROBE_DB_NO_MATCH 18
#define PROBE_DB_MAPPED 19
#define PROBE_DB_ECHO(n) (24 + (n)) /* 0 to 7 */
#define PROBE_DB_SHADOW(n) (32 + (n)) /* 0 to 15 */

#define PROBE_MATCHES 8
#define PROBE_ECHOES 8
#define PROBE_SHADOWS 16

/* ---- Doorbells: offsets in their BAR ------------------------------- */

#define PROBE_AT_ANY 0x00
#define PROBE_AT_1 0x10
#define PROBE_AT_2 0x20
#define PROBE_AT_4 0x30
#define PROBE_AT_8 0x40
#define PROBE_AT_MATCH 0x50
#define PROBE_AT_SHARED_A 0x60
#define PROBE_AT_SHARED_B 0x68
#define PROBE_AT_MESSAGE 0x70
#define PROBE_AT_ECHO(n) (0x100 + 8 * (n))
#define PROBE_AT_SHADOW(n) (0x1000 + 8 * (n))

/* ---- I/O ports: offsets in their BAR ------------------------------- */

#define PROBE_IO_ID 0x00
#define PROBE_IO_SCRATCH 0x04
#define PROBE_IO_AT_4 0x08
#define PROBE_IO_AT_2 0x10
#define PROBE_IO_AT_MESSAGE 0x18

#endif
