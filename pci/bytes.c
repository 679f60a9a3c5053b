/* SPDX-License-Identifier: BSD-2-Clause */
#include <endian.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "pci/function.h"

uint16_t cleat_pci_get16(const uint8_t *bytes)
{
	uint16_t value;

	memcpy(&value, bytes, sizeof(value));
	return le16toh(value);
}

uint32_t cleat_pci_get32(const uint8_t *bytes)
{
	uint32_t value;

	memcpy(&value, bytes, sizeof(value));
	return le32toh(value);
}

uint64_t cleat_pci_get64(const uint8_t *bytes)
{
	uint64_t value;

	memcpy(&value, bytes, sizeof(value));
	return le64toh(value);
}

void cleat_pci_put16(uint8_t *bytes, uint16_t value)
{
	value = htole16(value);
	memcpy(bytes, &value, sizeof(value));
}

void cleat_pci_put32(uint8_t *bytes, uint32_t value)
{
	value = htole32(value);
	memcpy(bytes, &value, sizeof(value));
}

void cleat_pci_log(struct cleat_pci *pci, const char *format, ...)
{
	char text[256];
	va_list args;
	int n;

	/* The guest can make the same thing fail as often as it likes. */
	if (!pci->ops.log || atomic_load(&pci->logged) >= PCI_LOG_LINES)
		return;
	atomic_fetch_add(&pci->logged, 1);
	n = snprintf(text, sizeof(text),
		     "pci %02x:%02x.%x: ", pci->function >> 8 & 0xff,
		     pci->function >> 3 & 0x1f, pci->function & 7);
	va_start(args, format);
	vsnprintf(text + n, sizeof(text) - (size_t)n, format, args);
	va_end(args);
	pci->ops.log(pci->ops.opaque, text);
}
