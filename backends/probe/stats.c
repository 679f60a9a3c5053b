/* SPDX-License-Identifier: BSD-2-Clause */
/* The counters as JSON. */
#include <errno.h>
#include <stdio.h>

#include "backends/json.h"
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

	cleat_json_open(gen, "doorbells");
	for (unsigned i = 0; i < PROBE_DOORBELLS; i++) {
		if (!counters->events[i] && !counters->messages[i])
			continue;
		name_doorbell(i, name, sizeof(name));
		cleat_json_open(gen, name);
		cleat_json_number(gen, "events", counters->events[i]);
		cleat_json_number(gen, "messages", counters->messages[i]);
		cleat_json_number(gen, "value", counters->values[i]);
		yajl_gen_map_close(gen);
	}
	yajl_gen_map_close(gen);
}

static void put_accesses(yajl_gen gen, const char *name, const uint64_t *counts)
{
	char region[16];

	cleat_json_open(gen, name);
	for (unsigned i = 0; i < 7; i++) {
		if (!counts[i])
			continue;
		snprintf(region, sizeof(region), i == PROBE_ROM ? "rom" :
								  "bar%u", i);
		cleat_json_number(gen, region, counts[i]);
	}
	yajl_gen_map_close(gen);
}

static void put_device(yajl_gen gen, const struct probe_counters *counters)
{
	cleat_json_open(gen, "device");
	put_accesses(gen, "message_reads", counters->reads);
	put_accesses(gen, "message_writes", counters->writes);
	put_doorbells(gen, counters);
	cleat_json_number(gen, "eventfd_wakeups", counters->wakeups);
	cleat_json_number(gen, "shadow_kicks", counters->shadow_kicks);
	cleat_json_number(gen, "mapped_changes", counters->polls);
	cleat_json_number(gen, "irqs_raised", counters->irqs);
	cleat_json_number(gen, "irqs_lost", counters->irqs_lost);
	cleat_json_number(gen, "dma_bytes", counters->dma_bytes);
	cleat_json_number(gen, "resets", counters->resets);
	yajl_gen_map_close(gen);
}

static void put_commands(yajl_gen gen, const struct cleat_server_stats *stats)
{
	cleat_json_open(gen, "commands");
	for (unsigned i = 0; i < CLEAT_SERVER_COMMANDS; i++) {
		const char *name = cleat_server_command_name(i);

		if (name && stats->commands[i])
			cleat_json_number(gen, name, stats->commands[i]);
	}
	yajl_gen_map_close(gen);
}

static void put_irqs(yajl_gen gen, const struct cleat_server_stats *stats)
{
	static const char *const names[] = { "intx", "msi", "msix" };

	cleat_json_open(gen, "eventfds_written");
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		cleat_json_number(gen, names[i], stats->irqs[i]);
	yajl_gen_map_close(gen);
}

static void put_server(yajl_gen gen, const struct cleat_server_stats *stats)
{
	cleat_json_open(gen, "server");
	put_commands(gen, stats);
	cleat_json_number(gen, "unknown", stats->unknown);
	cleat_json_number(gen, "errors", stats->errors);
	cleat_json_number(gen, "no_reply", stats->no_reply);
	cleat_json_number(gen, "clients", stats->clients);
	put_irqs(gen, stats);
	cleat_json_number(gen, "dma_reads", stats->dma_reads);
	cleat_json_number(gen, "dma_writes", stats->dma_writes);
	cleat_json_number(gen, "wakeups", stats->wakeups);
	yajl_gen_map_close(gen);
}

int cleat_probe_write_stats(const struct probe *probe, int fd)
{
	struct cleat_server_stats stats = { .size = sizeof(stats) };
	yajl_gen gen = cleat_json_begin();

	if (!gen)
		return -ENOMEM;
	cleat_server_get_stats(probe->srv, &stats);
	put_device(gen, &probe->counters);
	put_server(gen, &stats);
	return cleat_json_end(gen, fd);
}
