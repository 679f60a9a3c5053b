/* SPDX-License-Identifier: BSD-2-Clause */
/* The counters as JSON. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <yajl/yajl_gen.h>

#include "backends/probe/probe.h"

static const char *const doorbell_names[PROBE_DOORBELLS] = {
	[PROBE_DB_ANY] = "any",
	[PROBE_DB_1] = "1",
	[PROBE_DB_2] = "2",
	[PROBE_DB_4] = "4",
	[PROBE_DB_8] = "8",
	[PROBE_DB_SHARED] = "shared",
	[PROBE_DB_MESSAGE] = "message",
	[PROBE_DB_IO_4] = "io-4",
	[PROBE_DB_IO_2] = "io-2",
	[PROBE_DB_IO_MESSAGE] = "io-message",
	[PROBE_DB_NO_MATCH] = "no-match",
	[PROBE_DB_MAPPED] = "mapped",
};

static void put_key(yajl_gen gen, const char *name)
{
	yajl_gen_string(gen, (const unsigned char *)name, strlen(name));
}

static void put(yajl_gen gen, const char *name, uint64_t value)
{
	put_key(gen, name);
	yajl_gen_integer(gen, (long long)value);
}

static void open_map(yajl_gen gen, const char *name)
{
	put_key(gen, name);
	yajl_gen_map_open(gen);
}

static void name_doorbell(unsigned number, char *name, size_t size)
{
	if (doorbell_names[number])
		snprintf(name, size, "%s", doorbell_names[number]);
	else if (number >= PROBE_DB_SHADOW(0))
		snprintf(name, size, "shadow-%u", number - PROBE_DB_SHADOW(0));
	else if (number >= PROBE_DB_ECHO(0))
		snprintf(name, size, "echo-%u", number - PROBE_DB_ECHO(0));
	else
		snprintf(name, size, "match-%u", number - PROBE_DB_MATCH(0));
}

/* Only those that were rung: there are many. */
static void put_doorbells(yajl_gen gen, const struct probe_counters *counters)
{
	char name[32];

	open_map(gen, "doorbells");
	for (unsigned i = 0; i < PROBE_DOORBELLS; i++) {
		if (!counters->events[i] && !counters->messages[i])
			continue;
		name_doorbell(i, name, sizeof(name));
		open_map(gen, name);
		put(gen, "events", counters->events[i]);
		put(gen, "messages", counters->messages[i]);
		put(gen, "value", counters->values[i]);
		yajl_gen_map_close(gen);
	}
	yajl_gen_map_close(gen);
}

static void put_accesses(yajl_gen gen, const char *name, const uint64_t *counts)
{
	char region[16];

	open_map(gen, name);
	for (unsigned i = 0; i < 7; i++) {
		if (!counts[i])
			continue;
		snprintf(region, sizeof(region), i == PROBE_ROM ? "rom" :
								  "bar%u", i);
		put(gen, region, counts[i]);
	}
	yajl_gen_map_close(gen);
}

static void put_device(yajl_gen gen, const struct probe_counters *counters)
{
	open_map(gen, "device");
	put_accesses(gen, "message_reads", counters->reads);
	put_accesses(gen, "message_writes", counters->writes);
	put_doorbells(gen, counters);
	put(gen, "eventfd_wakeups", counters->wakeups);
	put(gen, "shadow_kicks", counters->shadow_kicks);
	put(gen, "mapped_changes", counters->polls);
	put(gen, "irqs_raised", counters->irqs);
	put(gen, "irqs_lost", counters->irqs_lost);
	put(gen, "dma_bytes", counters->dma_bytes);
	put(gen, "resets", counters->resets);
	yajl_gen_map_close(gen);
}

static void put_commands(yajl_gen gen, const struct cleat_server_stats *stats)
{
	open_map(gen, "commands");
	for (unsigned i = 0; i < CLEAT_SERVER_COMMANDS; i++) {
		const char *name = cleat_server_command_name(i);

		if (name && stats->commands[i])
			put(gen, name, stats->commands[i]);
	}
	yajl_gen_map_close(gen);
}

static void put_irqs(yajl_gen gen, const struct cleat_server_stats *stats)
{
	static const char *const names[] = { "intx", "msi", "msix" };

	open_map(gen, "eventfds_written");
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		put(gen, names[i], stats->irqs[i]);
	yajl_gen_map_close(gen);
}

static void put_server(yajl_gen gen, const struct cleat_server_stats *stats)
{
	open_map(gen, "server");
	put_commands(gen, stats);
	put(gen, "unknown", stats->unknown);
	put(gen, "errors", stats->errors);
	put(gen, "no_reply", stats->no_reply);
	put(gen, "clients", stats->clients);
	put_irqs(gen, stats);
	put(gen, "dma_reads", stats->dma_reads);
	put(gen, "dma_writes", stats->dma_writes);
	put(gen, "wakeups", stats->wakeups);
	yajl_gen_map_close(gen);
}

static int write_all(int fd, const unsigned char *text, size_t length)
{
	while (length) {
		ssize_t n = write(fd, text, length);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			text += n;
			length -= (size_t)n;
		}
	}
	return 0;
}

int cleat_probe_write_stats(const struct probe *probe, int fd)
{
	struct cleat_server_stats stats = { .size = sizeof(stats) };
	yajl_gen gen = yajl_gen_alloc(NULL);
	const unsigned char *text;
	size_t length;
	int err = -ENOMEM;

	if (!gen)
		return err;
	cleat_server_get_stats(probe->srv, &stats);
	yajl_gen_config(gen, yajl_gen_beautify, 1);
	yajl_gen_map_open(gen);
	put_device(gen, &probe->counters);
	put_server(gen, &stats);
	yajl_gen_map_close(gen);
	if (yajl_gen_get_buf(gen, &text, &length) == yajl_gen_status_ok)
		err = write_all(fd, text, length);
	yajl_gen_free(gen);
	return err;
}
