/* SPDX-License-Identifier: BSD-2-Clause */
/* Accesses that arrive as messages. */
#include <errno.h>
#include <string.h>

#include "backends/probe/probe.h"

/*
 * Registers are read in slices of 8 bytes, so that a 64-bit counter read as
 * one is whole.
 */
static void read_registers(struct probe *probe, uint64_t offset, uint8_t *buf,
			   size_t count)
{
	while (count) {
		uint32_t skip = offset & 7;
		size_t part = 8 - skip < count ? 8 - skip : count;
		uint64_t value = cleat_probe_register(
			probe, (uint32_t)offset & ~7u);

		memcpy(buf, (uint8_t *)&value + skip, part);
		buf += part;
		offset += part;
		count -= part;
	}
}

/* Whole registers only: a part of one would have to guess at the rest. */
static int write_registers(struct probe *probe, uint64_t offset,
			   const uint8_t *buf, size_t count)
{
	uint32_t value;

	if ((offset | count) & 3)
		return -EINVAL;
	for (size_t at = 0; at < count; at += sizeof(value)) {
		memcpy(&value, buf + at, sizeof(value));
		cleat_probe_set_register(probe, (uint32_t)(offset + at), value);
	}
	return 0;
}

static void read_io(const struct probe *probe, uint64_t offset, uint8_t *buf,
		    size_t count)
{
	uint8_t ports[PROBE_IO_LENGTH] = { 0 };
	uint32_t id = PROBE_MAGIC;

	memcpy(ports + PROBE_IO_ID, &id, sizeof(id));
	memcpy(ports + PROBE_IO_SCRATCH, &probe->regs.io_scratch,
	       sizeof(probe->regs.io_scratch));
	memcpy(buf, ports + offset, count);
}

/* 0x55 0xaa, a PCI data structure, and then each byte its own offset. */
static void read_rom(uint64_t offset, uint8_t *buf, size_t count)
{
	static const uint8_t head[] = {
		[0] = 0x55, [1] = 0xaa, [2] = PROBE_ROM_LENGTH / 512,
		[0x18] = 0x20, [0x20] = 'P', [0x21] = 'C', [0x22] = 'I',
		[0x23] = 'R', [0x24] = PROBE_VENDOR & 0xff,
		[0x25] = PROBE_VENDOR >> 8, [0x26] = PROBE_DEVICE & 0xff,
		[0x27] = PROBE_DEVICE >> 8, [0x2a] = 0x18,
		[0x30] = PROBE_ROM_LENGTH / 512, [0x34] = 0xff, [0x35] = 0x80,
		[0x37] = 0,
	};

	for (size_t i = 0; i < count; i++)
		buf[i] = offset + i < sizeof(head) ? head[offset + i] :
						     (uint8_t)(offset + i);
}

int cleat_probe_region_read(void *opaque, uint32_t index, uint64_t offset,
			    void *buf, size_t count)
{
	struct probe *probe = opaque;
	int err = cleat_probe_fault(probe, false);

	if (err)
		return err;
	if (index < 8)
		probe->counters.reads[index]++;
	switch (index) {
	case PROBE_BAR_REGS:
		read_registers(probe, offset, buf, count);
		return 0;
	case PROBE_BAR_DOORBELLS:
		/* A doorbell has nothing to say. */
		memset(buf, 0, count);
		return 0;
	case PROBE_BAR_PAGES:
		memcpy(buf, probe->pages + offset, count);
		return 0;
	case PROBE_BAR_IO:
		read_io(probe, offset, buf, count);
		return 0;
	case PROBE_ROM:
		read_rom(offset, buf, count);
		return 0;
	default:
		return -EINVAL;
	}
}

static int write_io(struct probe *probe, uint64_t offset, const void *buf,
		    size_t count)
{
	uint32_t value = 0;

	if (count > sizeof(value))
		return -EINVAL;
	memcpy(&value, buf, count);
	if (offset == PROBE_IO_SCRATCH && count == sizeof(value))
		probe->regs.io_scratch = value;
	else
		cleat_probe_io_doorbell(probe, offset, value);
	return 0;
}

static int write_doorbell(struct probe *probe, uint64_t offset,
			  const void *buf, size_t count)
{
	uint64_t value = 0;

	if (count > sizeof(value))
		return -EINVAL;
	memcpy(&value, buf, count);
	cleat_probe_doorbell(probe, offset, value, count);
	return 0;
}

int cleat_probe_region_write(void *opaque, uint32_t index, uint64_t offset,
			     const void *buf, size_t count)
{
	struct probe *probe = opaque;
	int err = cleat_probe_fault(probe, true);

	if (err)
		return err;
	if (index < 8)
		probe->counters.writes[index]++;
	switch (index) {
	case PROBE_BAR_REGS:
		return write_registers(probe, offset, buf, count);
	case PROBE_BAR_DOORBELLS:
		return write_doorbell(probe, offset, buf, count);
	case PROBE_BAR_PAGES:
		memcpy(probe->pages + offset, buf, count);
		return 0;
	case PROBE_BAR_IO:
		return write_io(probe, offset, buf, count);
	default:
		return -EINVAL;
	}
}
