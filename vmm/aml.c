/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The DSDT's definitions, encoded by hand (ACPI 6, "ACPI Machine Language
 * Specification" and "Resource Data Types for ACPI"). Written as ASL it says:
 *
 *	Name (\_S5, Package () { 5, 0 })
 *	Scope (\_SB) {
 *		Device (PCI0) {		_HID PNP0A08, _CID PNP0A03, one bus,
 *			_CRS windows	_PRT pins to GSIs
 *		}
 *		Device (MBRD) { _HID PNP0C02, _CRS ECAM and our own ports }
 *		Device (COM1) { _HID PNP0501, _CRS ports and IRQ }
 *	}
 */
#include <string.h>

#include "vmm/vmm.h"

#define OP_NAME 0x08
#define OP_BYTE 0x0a
#define OP_WORD 0x0b
#define OP_DWORD 0x0c
#define OP_SCOPE 0x10
#define OP_BUFFER 0x11
#define OP_PACKAGE 0x12
#define OP_EXTENDED 0x5b
#define OP_DEVICE 0x82 /* after OP_EXTENDED */

/* Resource descriptors, with their length where that is part of the tag. */
#define RESOURCE_IRQ 0x22
#define RESOURCE_IO 0x47
#define RESOURCE_END 0x79
#define RESOURCE_MEMORY32_FIXED 0x86
#define RESOURCE_DWORD 0x87
#define RESOURCE_WORD 0x88
#define RESOURCE_QWORD 0x8a

#define RANGE_MEMORY 0
#define RANGE_IO 1
#define RANGE_BUS 2
#define RANGE_FIXED 0x0c /* both ends; we produce, positive decode */
#define MEMORY_WRITABLE 0x01 /* not cacheable, not prefetchable */
#define IO_ENTIRE 0x03 /* ISA and non-ISA addresses */
#define IO_DECODE16 0x01

static void put(struct aml *aml, uint64_t value, unsigned bytes)
{
	if (aml->overflow || aml->size - aml->used < bytes) {
		aml->overflow = true;
		return;
	}
	for (; bytes; bytes--, value >>= 8)
		aml->data[aml->used++] = (uint8_t)value;
}

static void put_name(struct aml *aml, const char *segment)
{
	for (; *segment; segment++)
		put(aml, (uint8_t)*segment, 1);
}

static void put_integer(struct aml *aml, uint32_t value)
{
	unsigned bytes = value > 0xffff ? 4 : value > 0xff ? 2 : 1;
	uint8_t op = bytes == 4 ? OP_DWORD : bytes == 2 ? OP_WORD : OP_BYTE;

	put(aml, op, 1);
	put(aml, value, bytes);
}

/*
 * A PkgLength counts itself. Three bytes of it hold every length that occurs
 * here, and readers take them for short ones too.
 */
static size_t begin(struct aml *aml)
{
	size_t at = aml->used;

	put(aml, 0, 3);
	return at;
}

static void end(struct aml *aml, size_t at)
{
	size_t length = aml->used - at;

	if (aml->overflow)
		return;
	aml->data[at] = (uint8_t)(0x80 | (length & 0xf));
	aml->data[at + 1] = (uint8_t)(length >> 4);
	aml->data[at + 2] = (uint8_t)(length >> 12);
}

static size_t begin_device(struct aml *aml, const char *name)
{
	size_t at;

	put(aml, OP_EXTENDED, 1);
	put(aml, OP_DEVICE, 1);
	at = begin(aml);
	put_name(aml, name);
	return at;
}

static void name_integer(struct aml *aml, const char *name, uint32_t value)
{
	put(aml, OP_NAME, 1);
	put_name(aml, name);
	put_integer(aml, value);
}

/* Three letters of five bits and a number of 16, big-endian. */
static uint32_t eisa_id(const char *letters, unsigned number)
{
	uint32_t id = 0;
	int i;

	for (i = 0; i < 3; i++)
		id = id << 5 | (uint32_t)(letters[i] - '@');
	return __builtin_bswap32(id << 16 | number);
}

/*
 * A buffer is its size and its bytes: the size is known at the end only, so a
 * fixed two-byte number is filled in then.
 */
static size_t begin_resources(struct aml *aml)
{
	size_t at;

	put(aml, OP_NAME, 1);
	put_name(aml, "_CRS");
	put(aml, OP_BUFFER, 1);
	at = begin(aml);
	put(aml, OP_WORD, 1);
	put(aml, 0, 2);
	return at;
}

static void end_resources(struct aml *aml, size_t at)
{
	size_t first = at + 3 + 3;

	put(aml, RESOURCE_END, 1);
	put(aml, 0, 1); /* a checksum of zero is not checked */
	end(aml, at);
	if (aml->overflow)
		return;
	aml->data[first - 2] = (uint8_t)(aml->used - first);
	aml->data[first - 1] = (uint8_t)((aml->used - first) >> 8);
}

static void resource_range(struct aml *aml, uint8_t tag, uint8_t kind,
			   uint8_t flags, uint64_t start, uint64_t size)
{
	unsigned width = tag == RESOURCE_QWORD ? 8 :
			 tag == RESOURCE_DWORD ? 4 : 2;

	put(aml, tag, 1);
	put(aml, 3 + 5 * width, 2);
	put(aml, kind, 1);
	put(aml, RANGE_FIXED, 1);
	put(aml, flags, 1);
	put(aml, 0, width); /* granularity */
	put(aml, start, width);
	put(aml, start + size - 1, width);
	put(aml, 0, width); /* translation */
	put(aml, size, width);
}

static void resource_ports(struct aml *aml, uint16_t start, uint8_t count)
{
	put(aml, RESOURCE_IO, 1);
	put(aml, IO_DECODE16, 1);
	put(aml, start, 2);
	put(aml, start, 2);
	put(aml, 1, 1); /* alignment */
	put(aml, count, 1);
}

static void put_host_windows(struct aml *aml, const struct acpi_config *config)
{
	size_t at = begin_resources(aml);

	resource_range(aml, RESOURCE_WORD, RANGE_BUS, 0, 0, 1);
	resource_ports(aml, PORT_PCI_ADDRESS, 8);
	resource_range(aml, RESOURCE_WORD, RANGE_IO, IO_ENTIRE,
		       PORT_WINDOW_START, PORT_WINDOW_END - PORT_WINDOW_START);
	resource_range(aml, RESOURCE_DWORD, RANGE_MEMORY, MEMORY_WRITABLE,
		       WINDOW32_START, WINDOW32_END - WINDOW32_START);
	resource_range(aml, RESOURCE_QWORD, RANGE_MEMORY, MEMORY_WRITABLE,
		       config->window64_start, config->window64_size);
	end_resources(aml, at);
}

/* Pins rotate over the slots, so that four devices' INTA are four GSIs. */
static void put_interrupt_routes(struct aml *aml)
{
	unsigned slot, pin;
	size_t all, one;

	put(aml, OP_NAME, 1);
	put_name(aml, "_PRT");
	put(aml, OP_PACKAGE, 1);
	all = begin(aml);
	put(aml, DEVICES_MAX * 4, 1);
	for (slot = 1; slot <= DEVICES_MAX; slot++) {
		for (pin = 0; pin < 4; pin++) {
			put(aml, OP_PACKAGE, 1);
			one = begin(aml);
			put(aml, 4, 1);
			put_integer(aml, slot << 16 | 0xffff);
			put_integer(aml, pin);
			put_integer(aml, 0); /* no link device: a GSI */
			put_integer(aml, cleat_vmm_pci_gsi(slot, pin));
			end(aml, one);
		}
	}
	end(aml, all);
}

static void put_host_bridge(struct aml *aml, const struct acpi_config *config)
{
	size_t at = begin_device(aml, "PCI0");

	name_integer(aml, "_HID", eisa_id("PNP", 0x0a08));
	name_integer(aml, "_CID", eisa_id("PNP", 0x0a03));
	name_integer(aml, "_UID", 0);
	name_integer(aml, "_SEG", 0);
	name_integer(aml, "_BBN", 0);
	put_host_windows(aml, config);
	put_interrupt_routes(aml);
	end(aml, at);
}

/* What the kernel must not give to anybody. */
static void put_board(struct aml *aml)
{
	size_t device = begin_device(aml, "MBRD");
	size_t at;

	name_integer(aml, "_HID", eisa_id("PNP", 0x0c02));
	name_integer(aml, "_UID", 0);
	at = begin_resources(aml);
	put(aml, RESOURCE_MEMORY32_FIXED, 1);
	put(aml, 9, 2);
	put(aml, MEMORY_WRITABLE, 1);
	put(aml, ECAM_START, 4);
	put(aml, ECAM_SIZE, 4);
	resource_ports(aml, PORT_PM1_EVENT, 8);
	end_resources(aml, at);
	end(aml, device);
}

static void put_serial(struct aml *aml)
{
	size_t device = begin_device(aml, "COM1");
	size_t at;

	name_integer(aml, "_HID", eisa_id("PNP", 0x0501));
	name_integer(aml, "_UID", 0);
	at = begin_resources(aml);
	resource_ports(aml, PORT_COM1, 8);
	put(aml, RESOURCE_IRQ, 1);
	put(aml, 1u << IRQ_COM1, 2);
	end_resources(aml, at);
	end(aml, device);
}

static void put_power_off(struct aml *aml)
{
	size_t at;

	put(aml, OP_NAME, 1);
	put_name(aml, "\\_S5_");
	put(aml, OP_PACKAGE, 1);
	at = begin(aml);
	put(aml, 2, 1);
	put_integer(aml, ACPI_SLEEP_TYPE_OFF);
	put_integer(aml, 0);
	end(aml, at);
}

void cleat_vmm_aml_dsdt(struct aml *aml, const struct acpi_config *config)
{
	size_t at;

	put_power_off(aml);
	put(aml, OP_SCOPE, 1);
	at = begin(aml);
	put_name(aml, "\\_SB_");
	put_host_bridge(aml, config);
	put_board(aml);
	put_serial(aml);
	end(aml, at);
}
