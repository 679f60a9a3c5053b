/* SPDX-License-Identifier: BSD-2-Clause */
/* Doorbells: by message, by descriptor, by a mapped or a shadow page. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "backends/probe/probe.h"

/* Offsets, widths and numbers of those that are alone at their place. */
static const struct {
	uint32_t at, length, doorbell;
} plain[] = {
	{ PROBE_AT_ANY, 0, PROBE_DB_ANY },
	{ PROBE_AT_1, 1, PROBE_DB_1 },
	{ PROBE_AT_2, 2, PROBE_DB_2 },
	{ PROBE_AT_4, 4, PROBE_DB_4 },
	{ PROBE_AT_8, 8, PROBE_DB_8 },
	{ PROBE_AT_SHARED_A, 4, PROBE_DB_SHARED },
	{ PROBE_AT_SHARED_B, 4, PROBE_DB_SHARED },
};
#define PLAIN (sizeof(plain) / sizeof(plain[0]))

static int number_of(uint64_t offset, uint64_t value)
{
	uint64_t n = (offset - PROBE_AT_SHADOW(0)) / 8;

	if (offset >= PROBE_AT_SHADOW(0))
		return n < PROBE_SHADOWS && !(offset & 7) ?
			       PROBE_DB_SHADOW((int)n) :
			       -1;
	n = (offset - PROBE_AT_ECHO(0)) / 8;
	if (offset >= PROBE_AT_ECHO(0))
		return n < PROBE_ECHOES && !(offset & 7) ?
			       PROBE_DB_ECHO((int)n) :
			       -1;
	if (offset == PROBE_AT_MATCH)
		return value < PROBE_MATCHES ? PROBE_DB_MATCH((int)value) :
					       PROBE_DB_NO_MATCH;
	if (offset == PROBE_AT_MESSAGE)
		return PROBE_DB_MESSAGE;
	for (size_t i = 0; i < PLAIN; i++)
		if (plain[i].at == offset)
			return (int)plain[i].doorbell;
	return -1;
}

static void echo(struct probe *probe, unsigned number)
{
	if (number >= PROBE_DB_SHADOW(0))
		cleat_probe_echo(probe, number - PROBE_DB_SHADOW(0));
	else if (number >= PROBE_DB_ECHO(0))
		cleat_probe_echo(probe, number - PROBE_DB_ECHO(0));
	else if (number == PROBE_DB_MAPPED || number == PROBE_DB_IO_4 ||
		 number == PROBE_DB_MESSAGE)
		cleat_probe_echo(probe, 0);
}

static void by_message(struct probe *probe, unsigned number, uint64_t value)
{
	probe->counters.messages[number]++;
	probe->counters.values[number] = value;
	echo(probe, number);
}

void cleat_probe_doorbell(struct probe *probe, uint64_t offset, uint64_t value,
			  size_t count)
{
	int number = number_of(offset, value);
	uint32_t word = (uint32_t)value;

	if (number < 0)
		return;
	/* Both ways leave the same behind. */
	if (number >= PROBE_DB_SHADOW(0))
		memcpy(probe->shadow + 8 * (number - PROBE_DB_SHADOW(0)), &word,
		       sizeof(word));
	by_message(probe, (unsigned)number, value);
}

void cleat_probe_io_doorbell(struct probe *probe, uint64_t offset,
			     uint32_t value)
{
	switch (offset) {
	case PROBE_IO_AT_4:
		by_message(probe, PROBE_DB_IO_4, value);
		break;
	case PROBE_IO_AT_2:
		by_message(probe, PROBE_DB_IO_2, value);
		break;
	case PROBE_IO_AT_MESSAGE:
		by_message(probe, PROBE_DB_IO_MESSAGE, value);
		break;
	}
}

static uint64_t take_events(struct probe *probe, int fd)
{
	uint64_t events;

	probe->counters.wakeups++;
	return read(fd, &events, sizeof(events)) == sizeof(events) ? events :
								     0;
}

static void on_kick(void *opaque, int fd, uint32_t events)
{
	struct probe *probe = opaque;
	uint64_t count = take_events(probe, fd);

	for (unsigned i = 0; count && i < PROBE_DOORBELLS; i++) {
		if (probe->kicks[i] != fd)
			continue;
		probe->counters.events[i] += count;
		echo(probe, i);
	}
}

/* The client stores before it kicks: what changed is what was rung. */
static void on_shadow(void *opaque, int fd, uint32_t events)
{
	struct probe *probe = opaque;
	uint32_t *words = (uint32_t *)probe->shadow;

	probe->counters.shadow_kicks += take_events(probe, fd);
	for (unsigned i = 0; i < PROBE_SHADOWS; i++) {
		unsigned number = PROBE_DB_SHADOW(i);
		uint32_t value = __atomic_load_n(&words[2 * i],
						 __ATOMIC_ACQUIRE);

		if (value == (uint32_t)probe->counters.values[number])
			continue;
		probe->counters.values[number] = value;
		probe->counters.events[number]++;
		echo(probe, number);
	}
}

int cleat_probe_poll(void *opaque)
{
	struct probe *probe = opaque;
	uint32_t *word = (uint32_t *)(probe->pages + PROBE_MAPPED_DOORBELL);
	uint32_t value;

	if (!probe->regs.poll)
		return -1;
	value = __atomic_load_n(word, __ATOMIC_ACQUIRE);
	if (value == probe->mapped_seen)
		return 0;
	probe->mapped_seen = value;
	probe->counters.polls++;
	probe->counters.events[PROBE_DB_MAPPED]++;
	probe->counters.values[PROBE_DB_MAPPED] = value;
	echo(probe, PROBE_DB_MAPPED);
	return 1;
}

/* ---- What the client is told of ----------------------------------- */

static int new_kick(struct probe *probe, int *place,
		    void (*func)(void *opaque, int fd, uint32_t events))
{
	if (*place >= 0)
		return 0;
	*place = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (*place < 0)
		return -errno;
	return cleat_server_watch(probe->srv, *place, EPOLLIN, func, probe);
}

struct entries {
	struct probe *probe;
	struct cleat_server_io_fd list[PROBE_DOORBELLS];
	unsigned count;
	int err;
};

static void add(struct entries *entries, unsigned doorbell,
		struct cleat_server_io_fd entry)
{
	int *kick = &entries->probe->kicks[doorbell];

	if (!entries->err)
		entries->err = new_kick(entries->probe, kick, on_kick);
	entry.fd = *kick;
	entries->list[entries->count++] = entry;
}

static void add_plain(struct entries *entries)
{
	for (size_t i = 0; i < PLAIN; i++)
		add(entries, plain[i].doorbell,
		    (struct cleat_server_io_fd){ .offset = plain[i].at,
						 .length = plain[i].length });
	for (unsigned i = 0; i < PROBE_MATCHES; i++)
		add(entries, PROBE_DB_MATCH(i),
		    (struct cleat_server_io_fd){
			    .offset = PROBE_AT_MATCH,
			    .length = 4,
			    .flags = CLEAT_IO_FD_DATAMATCH,
			    .datamatch = i });
	for (unsigned i = 0; i < PROBE_ECHOES; i++)
		add(entries, PROBE_DB_ECHO(i),
		    (struct cleat_server_io_fd){ .offset = PROBE_AT_ECHO(i),
						 .length = 4 });
}

static void add_shadow(struct entries *entries)
{
	struct probe *probe = entries->probe;

	if (!entries->err)
		entries->err = new_kick(probe, &probe->shadow_kick, on_shadow);
	for (unsigned i = 0; i < PROBE_SHADOWS; i++)
		entries->list[entries->count++] = (struct cleat_server_io_fd){
			.offset = PROBE_AT_SHADOW(i),
			.length = 4,
			.type = CLEAT_IO_FD_SHADOW,
			.fd = probe->shadow_kick,
			.shadow_fd = probe->shadow_fd,
			.shadow_offset = 8 * i,
		};
}

static int add_memory_doorbells(struct probe *probe)
{
	struct entries entries = { .probe = probe };

	if (probe->options.features & PROBE_HAS_SHADOW)
		add_shadow(&entries);
	if (probe->options.features & PROBE_HAS_IOEVENTFD)
		add_plain(&entries);
	if (entries.err)
		return entries.err;
	return cleat_server_set_io_fds(probe->srv, PROBE_BAR_DOORBELLS,
				       entries.list, entries.count);
}

static int add_io_doorbells(struct probe *probe)
{
	struct entries entries = { .probe = probe };

	add(&entries, PROBE_DB_IO_4,
	    (struct cleat_server_io_fd){ .offset = PROBE_IO_AT_4,
					 .length = 4,
					 .flags = CLEAT_IO_FD_PIO });
	add(&entries, PROBE_DB_IO_2,
	    (struct cleat_server_io_fd){ .offset = PROBE_IO_AT_2,
					 .length = 2,
					 .flags = CLEAT_IO_FD_PIO });
	if (entries.err)
		return entries.err;
	return cleat_server_set_io_fds(probe->srv, PROBE_BAR_IO, entries.list,
				       entries.count);
}

int cleat_probe_add_doorbells(struct probe *probe)
{
	int err = add_memory_doorbells(probe);

	if (err || !(probe->options.features & PROBE_HAS_IO) ||
	    !(probe->options.features & PROBE_HAS_IOEVENTFD))
		return err;
	return add_io_doorbells(probe);
}
