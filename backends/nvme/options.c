/* SPDX-License-Identifier: BSD-2-Clause */
/* The command line. */
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "backends/nvme/device.h"

#define QUEUES_DEFAULT 16

static const char help_text[] =
	"usage: cleat-nvme --file=PATH --socket-path=PATH [OPTION...]\n"
	"\n"
	"Serves an NVMe disk, backed by a file, as a PCI device over "
	"vfio-user.\n"
	"\n"
	"  --socket-path=PATH  make a socket here and wait for clients on it\n"
	"  --fd=N              or use this inherited socket\n"
	"  --file=PATH         regular file or block device\n"
	"  --size=BYTES        create the file with this size; K, M, G, T\n"
	"  --read-only         refuse writes; the file may be shared with "
	"other readers\n"
	"  --block-size=BYTES  512 (default) or 4096\n"
	"  --serial=TEXT       up to 20 characters; by default made from the "
	"file\n"
	"  --queues=N          I/O queue pairs, 1 to 256, default 16\n"
	"  --doorbells=HOW     mapped (default), shadow, ioeventfd, trapped\n"
	"  --busy-us=N         mapped: poll this long after the last work\n"
	"  --sleep-us=N        mapped: longest sleep between two polls\n"
	"  --migration=HOW     v2 (default), v1 (the region), none\n"
	"  --incoming          another process has the file until its state "
	"has come\n"
	"  --stats=FILE        write counters here, as JSON, when a client "
	"goes and at the end\n"
	"  --help, --version\n"
	"\n"
	"Ends on SIGTERM, with everything written out. See cleat-nvme(1).\n";

enum {
	OPT_SOCKET_PATH = 1,
	OPT_FD,
	OPT_FILE,
	OPT_SIZE,
	OPT_READ_ONLY,
	OPT_BLOCK_SIZE,
	OPT_SERIAL,
	OPT_QUEUES,
	OPT_DOORBELLS,
	OPT_BUSY,
	OPT_SLEEP,
	OPT_MIGRATION,
	OPT_INCOMING,
	OPT_STATS,
	OPT_HELP,
	OPT_VERSION,
};

static const struct option long_options[] = {
	{ "socket-path", required_argument, NULL, OPT_SOCKET_PATH },
	{ "fd", required_argument, NULL, OPT_FD },
	{ "file", required_argument, NULL, OPT_FILE },
	{ "size", required_argument, NULL, OPT_SIZE },
	{ "read-only", no_argument, NULL, OPT_READ_ONLY },
	{ "block-size", required_argument, NULL, OPT_BLOCK_SIZE },
	{ "serial", required_argument, NULL, OPT_SERIAL },
	{ "queues", required_argument, NULL, OPT_QUEUES },
	{ "doorbells", required_argument, NULL, OPT_DOORBELLS },
	{ "busy-us", required_argument, NULL, OPT_BUSY },
	{ "sleep-us", required_argument, NULL, OPT_SLEEP },
	{ "migration", required_argument, NULL, OPT_MIGRATION },
	{ "incoming", no_argument, NULL, OPT_INCOMING },
	{ "stats", required_argument, NULL, OPT_STATS },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ 0 },
};

static bool parse_size(const char *text, uint64_t *ret)
{
	static const char units[] = "KMGT";
	char number[32];
	size_t length = strlen(text);
	const char *unit = length ? strchr(units, text[length - 1]) : NULL;
	unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
	uint64_t value;

	if (!length || length >= sizeof(number))
		return false;
	memcpy(number, text, length + 1);
	if (unit)
		number[length - 1] = 0;
	if (!cleat_program_number(number, 1, LLONG_MAX >> shift, &value))
		return false;
	*ret = value << shift;
	return true;
}

static int parse_doorbells(struct nvme_options *options, const char *text)
{
	static const char *const names[] = {
		[NVME_TRAPPED] = "trapped",
		[NVME_MAPPED] = "mapped",
		[NVME_SHADOW] = "shadow",
		[NVME_IOEVENTFD] = "ioeventfd",
	};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(text, names[i])) {
			options->doorbells = i;
			return -1;
		}
	return cleat_program_bad(
		"doorbells", text,
		"not one of mapped, shadow, ioeventfd, trapped");
}

static int parse_serial(struct nvme_options *options, const char *text)
{
	size_t length = strlen(text);

	options->serial = text;
	for (size_t i = 0; i < length; i++)
		if (text[i] < ' ' || text[i] > '~')
			length = 0;
	if (!length || length > 20)
		return cleat_program_bad("serial", text,
					 "not 1 to 20 printable characters");
	return -1;
}

static int parse_count(struct nvme_options *options, int option,
		       const char *text)
{
	uint64_t value;

	switch (option) {
	case OPT_FD:
		if (!cleat_program_number(text, 0, INT_MAX, &value))
			return cleat_program_bad("fd", text,
						 "not a descriptor's number");
		options->fd = (int)value;
		return -1;
	case OPT_QUEUES:
		if (!cleat_program_number(text, 1, NVME_QUEUES_MAX, &value))
			return cleat_program_bad("queues", text,
						 "not from 1 to 256");
		options->queues = (unsigned)value;
		return -1;
	case OPT_BUSY:
		if (!cleat_program_number(text, 1, 1000000, &value))
			return cleat_program_bad("busy-us", text,
						 "not from 1 to 1000000");
		options->busy_us = (uint32_t)value;
		return -1;
	}
	if (!cleat_program_number(text, 1, 1000000, &value))
		return cleat_program_bad("sleep-us", text,
					 "not from 1 to 1000000");
	options->sleep_us = (uint32_t)value;
	return -1;
}

static int parse_disk(struct nvme_options *options, int option,
		      const char *text)
{
	uint64_t value;

	if (option == OPT_SIZE) {
		if (!parse_size(text, &options->disk.create_size))
			return cleat_program_bad("size", text,
						 "not a number of bytes, or "
						 "of K, M, G, T");
		return -1;
	}
	if (!cleat_program_number(text, 512, 4096, &value) ||
	    (value != 512 && value != 4096))
		return cleat_program_bad("block-size", text, "not 512 or 4096");
	options->disk.block_size = (uint32_t)value;
	return -1;
}

static int show(const char *text)
{
	fputs(text, stdout);
	return PROGRAM_OK;
}

static int take(struct nvme_options *options, int option, const char *text)
{
	switch (option) {
	case OPT_SOCKET_PATH:
		options->socket_path = text;
		return -1;
	case OPT_FILE:
		options->disk.path = text;
		return -1;
	case OPT_READ_ONLY:
		options->disk.read_only = true;
		return -1;
	case OPT_STATS:
		options->stats = text;
		return -1;
	case OPT_SIZE:
	case OPT_BLOCK_SIZE:
		return parse_disk(options, option, text);
	case OPT_SERIAL:
		return parse_serial(options, text);
	case OPT_MIGRATION:
		return cleat_program_migration(text, &options->migration);
	case OPT_INCOMING:
		options->disk.incoming = true;
		return -1;
	case OPT_DOORBELLS:
		return parse_doorbells(options, text);
	case OPT_HELP:
		return show(help_text);
	case OPT_VERSION:
		return show("cleat-nvme " CLEAT_VERSION "\n");
	case '?':
		return cleat_program_refuse(NULL);
	}
	return parse_count(options, option, text);
}

int cleat_nvme_options(struct nvme_options *options, int argc, char **argv)
{
	int option, status = -1;

	*options = (struct nvme_options){
		.fd = -1,
		.queues = QUEUES_DEFAULT,
		.doorbells = NVME_MAPPED,
		.disk.block_size = 512,
	};
	while (status < 0) {
		option = getopt_long(argc, argv, "", long_options, NULL);
		if (option < 0)
			break;
		status = take(options, option, optarg);
	}
	if (status >= 0)
		return status;
	if (optind < argc)
		return cleat_program_refuse("only options are taken");
	if (!options->disk.path)
		return cleat_program_refuse("no --file=PATH");
	if (!options->socket_path == (options->fd < 0))
		return cleat_program_refuse(
			"one of --socket-path=PATH and --fd=N is needed");
	if (options->disk.read_only && options->disk.create_size)
		return cleat_program_refuse(
			"--size with --read-only creates nothing");
	if (options->disk.incoming && options->disk.create_size)
		return cleat_program_refuse(
			"--size with --incoming creates nothing");
	if (options->disk.incoming &&
	    options->migration == PROGRAM_MIGRATION_NONE)
		return cleat_program_refuse(
			"--incoming with --migration=none takes no "
			"state");
	return -1;
}
