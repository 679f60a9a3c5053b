/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The device that vfu_device.c serves by means of libvfio-user.
 *
 * Region 0: registers, always by message. Region 1: four pages, of which the
 * second and the fourth can be mapped. Region 2: doorbells. Region 4: 1 MiB of
 * memory, always by message.
 */
#ifndef TESTS_INTEROP_VFU_REGS_H
#define TESTS_INTEROP_VFU_REGS_H

#define VFU_VENDOR 0xc1ea
#define VFU_DEVICE 0xcb0f
#define VFU_VECTORS 8

#define VFU_REGS 0
#define VFU_PAGES 1
#define VFU_DOORBELLS 2
#define VFU_BULK 4

#define VFU_REGS_LENGTH 0x1000
#define VFU_PAGES_LENGTH 0x4000
#define VFU_DOORBELLS_LENGTH 0x1000
#define VFU_BULK_LENGTH 0x100000

/* Registers, 4 bytes each if nothing else is said. */
#define VFU_MAGIC 0x44554656
#define VFU_AT_MAGIC 0x00
#define VFU_AT_DMA_ADDRESS 0x08 /* 8 bytes */
#define VFU_AT_DMA_LENGTH 0x10
#define VFU_AT_DMA_GO 0x14 /* VFU_DMA_*; done when it is answered */
#define VFU_AT_DMA_RESULT 0x18 /* 0 or an error number */
#define VFU_AT_DMA_SUM 0x1c
#define VFU_AT_RAISE 0x20 /* vector */
#define VFU_AT_KICKS 0x24 /* the plain eventfd, times read */
#define VFU_AT_MATCHES 0x28
#define VFU_AT_SHADOWS 0x2c
#define VFU_AT_SHADOW_VALUE 0x30
#define VFU_AT_RESETS 0x34
#define VFU_AT_MESSAGES                                      \
	0x38 /* accesses to the doorbells that were messages \
	      */
#define VFU_AT_SCRATCH 0x100 /* to the end */

#define VFU_DMA_FILL_MAPPED 1
#define VFU_DMA_FILL_MESSAGE 2
#define VFU_DMA_SUM_MAPPED 3
#define VFU_DMA_SUM_MESSAGE 4
#define VFU_DMA_PATTERN 0x5a
#define VFU_DMA_MOST 65536

/* Doorbells of 4 bytes. */
#define VFU_AT_PLAIN 0x00
#define VFU_AT_MATCH 0x08
#define VFU_MATCH 7
#define VFU_AT_SHADOW 0x10
#define VFU_SHADOW_OFFSET 0x40

#endif
