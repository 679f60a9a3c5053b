/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CLEAT_API_H
#define CLEAT_API_H

/* Marks what the shared library exports; everything else is hidden. */
#if defined(__GNUC__)
#define CLEAT_API __attribute__((visibility("default")))
#else
#define CLEAT_API
#endif

/* Rights of a range of guest memory, as the device sees it. */
#define CLEAT_READ (1u << 0)
#define CLEAT_WRITE (1u << 1)

/**
 * enum cleat_space - which of a guest's address spaces an address is in
 * @CLEAT_MEMORY: guest-physical memory
 * @CLEAT_PORTS:  x86 I/O ports, 0 to 0xffff
 */
enum cleat_space {
	CLEAT_MEMORY = 0,
	CLEAT_PORTS = 1,
};

/* Interrupt types of a PCI device; the numbers are VFIO's. */
#define CLEAT_IRQ_INTX 0u
#define CLEAT_IRQ_MSI 1u
#define CLEAT_IRQ_MSIX 2u
#define CLEAT_IRQ_ERR 3u
#define CLEAT_IRQ_REQ 4u

/* Kinds of IO descriptors; the numbers are the protocol's. */
#define CLEAT_IO_FD_IOEVENTFD 0u
#define CLEAT_IO_FD_IOREGIONFD 1u
#define CLEAT_IO_FD_SHADOW 2u

#endif
