/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The DMA engine. A command is written, the write is answered, and only
 * then does the engine move: a client may be unable to answer a DMA by message
 * while an access of its own is open.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "backends/probe/probe.h"

#define COMMAND 0xffu
#define IOVECS 16

static void add_up(struct probe *probe, const uint8_t *data, size_t count)
{
	for (size_t i = 0; i < count; i++)
		probe->regs.dma_sum += data[i];
}

static void fill(struct probe *probe, uint8_t *to, size_t count)
{
	const uint8_t *pattern = (const uint8_t *)&probe->regs.dma_pattern;

	for (size_t i = 0; i < count; i++)
		to[i] = pattern[i % sizeof(probe->regs.dma_pattern)];
}

static void note_way(struct probe *probe, uint64_t iova)
{
	struct iovec iov;
	int n = cleat_server_dma_map(probe->srv, iova, 1, 0, &iov, 1);

	probe->regs.dma_way |= n == 1 ? PROBE_DMA_BY_MAPPING :
					PROBE_DMA_BY_MESSAGE;
}

static int read_part(struct probe *probe, uint64_t at, size_t count)
{
	uint64_t source = probe->regs.dma_source + at;
	int err = cleat_server_dma_read(probe->srv, source, probe->buffer,
					count);

	if (err)
		return err;
	note_way(probe, source);
	add_up(probe, probe->buffer, count);
	return 0;
}

static int write_part(struct probe *probe, uint64_t at, size_t count)
{
	uint64_t target = probe->regs.dma_target + at;
	int err = cleat_server_dma_write(probe->srv, target, probe->buffer,
					 count);

	if (!err)
		note_way(probe, target);
	return err;
}

static int move_part(struct probe *probe, uint32_t command, uint64_t at,
		     size_t count)
{
	int err = 0;

	if (command == PROBE_DMA_COPY || command == PROBE_DMA_READ)
		err = read_part(probe, at, count);
	else if (command == PROBE_DMA_FILL)
		fill(probe, probe->buffer, count);
	if (err || command == PROBE_DMA_READ)
		return err;
	return write_part(probe, at, count);
}

/* Straight into the client's memory, the same bytes as the long way. */
static int fill_by_pointer(struct probe *probe, uint32_t length)
{
	struct probe_registers *regs = &probe->regs;
	struct iovec iov[IOVECS];
	int n = cleat_server_dma_map(probe->srv, regs->dma_target, length,
				     CLEAT_WRITE, iov, IOVECS);

	for (int i = 0; i < n; i++)
		fill(probe, iov[i].iov_base, iov[i].iov_len);
	if (n < 0)
		return n;
	cleat_server_dma_dirty(probe->srv, regs->dma_target, length);
	regs->dma_way |= PROBE_DMA_BY_MAPPING;
	probe->counters.dma_bytes += length;
	return 0;
}

static int move(struct probe *probe, uint32_t go, uint32_t length)
{
	uint32_t command = go & COMMAND;
	uint64_t at = 0;
	int err = 0;

	if (command < PROBE_DMA_COPY || command > PROBE_DMA_WRITE || !length ||
	    length > PROBE_DMA_MOST)
		return -EINVAL;
	if (go & PROBE_DMA_POINTER)
		return command == PROBE_DMA_FILL ?
			       fill_by_pointer(probe, length) :
			       -EINVAL;
	while (at < length && !err) {
		size_t part = length - at < sizeof(probe->buffer) ?
				      length - at :
				      sizeof(probe->buffer);

		err = move_part(probe, command, at, part);
		if (!err)
			probe->counters.dma_bytes += part;
		at += part;
	}
	return err;
}

void cleat_probe_on_work(void *opaque, int fd, uint32_t events)
{
	struct probe *probe = opaque;
	struct probe_registers *regs = &probe->regs;
	uint32_t go = regs->dma_go;
	uint64_t count;
	int err;

	if (read(fd, &count, sizeof(count)) != sizeof(count) ||
	    regs->dma_status != PROBE_DMA_BUSY)
		return;
	regs->dma_sum = regs->dma_way = 0;
	err = move(probe, go, regs->dma_length);
	/* A reset that came meanwhile has the last word. */
	if (regs->dma_status != PROBE_DMA_BUSY)
		return;
	regs->dma_status = err ? (uint32_t)-err : PROBE_DMA_DONE;
	if (go & PROBE_DMA_IRQ)
		cleat_probe_raise(probe, go >> 16 & 0x7fff);
}

void cleat_probe_start_dma(struct probe *probe, uint32_t command)
{
	uint64_t one = 1;

	if (probe->regs.dma_status == PROBE_DMA_BUSY)
		return;
	probe->regs.dma_go = command;
	probe->regs.dma_status = PROBE_DMA_BUSY;
	if (write(probe->work, &one, sizeof(one)) != sizeof(one))
		probe->regs.dma_status = EIO;
}
