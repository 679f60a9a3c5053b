/* SPDX-License-Identifier: BSD-2-Clause */
/* The command line. */
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "backends/probe/probe.h"

#define MSIX_DEFAULT 16
#define MSI_DEFAULT 4
#define ALL_FEATURES                                                           \
	(PROBE_HAS_MAPPED | PROBE_HAS_IOEVENTFD | PROBE_HAS_SHADOW |           \
	 PROBE_HAS_IO | PROBE_HAS_INTX | PROBE_HAS_MSI | PROBE_HAS_MSIX)

static const char help_text[] =
	"usage: cleat-probe --socket-path=PATH [OPTION...]\n"
	"\n"
	"Serves a PCI device for measuring and testing over vfio-user.\n"
	"\n"
	"  --socket-path=PATH  make a socket here and wait for clients on it\n"
	"  --fd=N              or use this inherited socket\n"
	"  --vectors=N         MSI-X vectors, 1 to 2048, default 16\n"
	"  --msi=N             MSI vectors, 1, 2, 4, 8, 16 or 32, default 4\n"
	"  --no-mapped --no-ioeventfd --no-shadow --no-io\n"
	"  --no-intx --no-msi --no-msix\n"
	"                      leave a kind of segment or interrupt out\n"
	"  --rom               have an expansion ROM\n"
	"  --bar-32            the pages in a 32-bit BAR, not a 64-bit one\n"
	"  --io-fds-40         IO descriptor entries of 40 bytes\n"
	"  --no-twin           no twin socket, even for who asks\n"
	"  --max-fds=N         descriptors taken in one message, 1 to 253\n"
	"  --max-xfer=BYTES    largest transfer, 8 to 1048576\n"
	"  --max-maps=N        ranges of guest memory\n"
	"  --spin-us=N         look at the socket this long before sleeping\n"
	"  --busy-us=N         mapped doorbell: poll on this long after work\n"
	"  --sleep-us=N        mapped doorbell: longest sleep between polls\n"
	"  --once              end when the first client has gone\n"
	"  --fault=WHAT        hang-read, hang-write, slow=MS, error=ERRNO,\n"
	"                      die-after=N, drop-after=N (accesses)\n"
	"  --migration=HOW     v2 (default), v1 (the region), none\n"
	"  --state-size=MIB    state that keeps changing, to 1024, default 0\n"
	"  --stats=FILE        write counters here, as JSON, at the end\n"
	"  --help, --version\n"
	"\n"
	"Ends on SIGTERM. See cleat-probe(1).\n";

enum {
	OPT_SOCKET_PATH = 1,
	OPT_FD,
	OPT_VECTORS,
	OPT_MSI,
	OPT_LEAVE_OUT,
	OPT_ROM,
	OPT_BAR_32,
	OPT_IO_FDS_40,
	OPT_NO_TWIN,
	OPT_MAX_FDS,
	OPT_MAX_XFER,
	OPT_MAX_MAPS,
	OPT_SPIN,
	OPT_BUSY,
	OPT_SLEEP,
	OPT_ONCE,
	OPT_FAULT,
	OPT_MIGRATION,
	OPT_STATE_SIZE,
	OPT_STATS,
	OPT_HELP,
	OPT_VERSION,
};

static const struct option long_options[] = {
	{ "socket-path", required_argument, NULL, OPT_SOCKET_PATH },
	{ "fd", required_argument, NULL, OPT_FD },
	{ "vectors", required_argument, NULL, OPT_VECTORS },
	{ "msi", required_argument, NULL, OPT_MSI },
	{ "no-mapped", no_argument, NULL, OPT_LEAVE_OUT },
	{ "no-ioeventfd", no_argument, NULL, OPT_LEAVE_OUT },
	{ "no-shadow", no_argument, NULL, OPT_LEAVE_OUT },
	{ "no-io", no_argument, NULL, OPT_LEAVE_OUT },
	{ "no-intx", no_argument, NULL, OPT_LEAVE_OUT },
	{ "no-msi", no_argument, NULL, OPT_LEAVE_OUT },
	{ "no-msix", no_argument, NULL, OPT_LEAVE_OUT },
	{ "rom", no_argument, NULL, OPT_ROM },
	{ "bar-32", no_argument, NULL, OPT_BAR_32 },
	{ "io-fds-40", no_argument, NULL, OPT_IO_FDS_40 },
	{ "no-twin", no_argument, NULL, OPT_NO_TWIN },
	{ "max-fds", required_argument, NULL, OPT_MAX_FDS },
	{ "max-xfer", required_argument, NULL, OPT_MAX_XFER },
	{ "max-maps", required_argument, NULL, OPT_MAX_MAPS },
	{ "spin-us", required_argument, NULL, OPT_SPIN },
	{ "busy-us", required_argument, NULL, OPT_BUSY },
	{ "sleep-us", required_argument, NULL, OPT_SLEEP },
	{ "once", no_argument, NULL, OPT_ONCE },
	{ "fault", required_argument, NULL, OPT_FAULT },
	{ "migration", required_argument, NULL, OPT_MIGRATION },
	{ "state-size", required_argument, NULL, OPT_STATE_SIZE },
	{ "stats", required_argument, NULL, OPT_STATS },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ 0 },
};

static const struct {
	const char *option;
	uint32_t feature;
} left_out[] = {
	{ "no-mapped", PROBE_HAS_MAPPED },
	{ "no-ioeventfd", PROBE_HAS_IOEVENTFD },
	{ "no-shadow", PROBE_HAS_SHADOW },
	{ "no-io", PROBE_HAS_IO },
	{ "no-intx", PROBE_HAS_INTX },
	{ "no-msi", PROBE_HAS_MSI },
	{ "no-msix", PROBE_HAS_MSIX },
};

static int leave_out(struct probe_options *options, const char *name)
{
	for (size_t i = 0; i < sizeof(left_out) / sizeof(left_out[0]); i++)
		if (!strcmp(name, left_out[i].option))
			options->features &= ~left_out[i].feature;
	return -1;
}

/* Those that are numbers: the place of each, and what it may be. */
static uint32_t *number_place(struct probe_options *options, int option,
			      uint64_t *least, uint64_t *most)
{
	*least = 1;
	*most = 1000000;
	switch (option) {
	case OPT_FD:
		*least = 0;
		*most = INT_MAX;
		return (uint32_t *)&options->fd;
	case OPT_VECTORS:
		*most = 2048;
		return &options->msix_vectors;
	case OPT_MSI:
		*most = 32;
		return &options->msi_vectors;
	case OPT_MAX_FDS:
		*most = 253;
		return &options->server.max_msg_fds;
	case OPT_MAX_XFER:
		*least = 8;
		*most = 1048576;
		return &options->server.max_data_xfer;
	case OPT_MAX_MAPS:
		return &options->server.max_dma_maps;
	case OPT_SPIN:
		return &options->server.spin_us;
	case OPT_STATE_SIZE:
		*least = 0;
		*most = 1024;
		return &options->state_mib;
	case OPT_BUSY:
		return &options->server.poll_busy_us;
	}
	return &options->server.poll_sleep_us;
}

static int take_number(struct probe_options *options, int option,
		       const char *name, const char *text)
{
	uint64_t least, most, value;
	uint32_t *place = number_place(options, option, &least, &most);
	char what[64];

	if (!cleat_program_number(text, least, most, &value)) {
		snprintf(what, sizeof(what), "not a number from %llu to %llu",
			 (unsigned long long)least, (unsigned long long)most);
		return cleat_program_bad(name, text, what);
	}
	if (option == OPT_MSI && value & (value - 1))
		return cleat_program_bad(name, text, "not a power of two");
	*place = (uint32_t)value;
	return -1;
}

static bool fault_number(const char *text, const char *name, uint64_t most,
			 uint64_t *ret)
{
	size_t length = strlen(name);

	return !strncmp(text, name, length) && text[length] == '=' &&
	       cleat_program_number(text + length + 1, 1, most, ret);
}

static int take_fault(struct probe_options *options, const char *text)
{
	struct probe_faults *faults = &options->faults;
	uint64_t value;

	if (!strcmp(text, "hang-read"))
		faults->hang_read = true;
	else if (!strcmp(text, "hang-write"))
		faults->hang_write = true;
	else if (fault_number(text, "slow", 100000, &value))
		faults->slow_ms = (unsigned)value;
	else if (fault_number(text, "error", 4095, &value))
		faults->error = (unsigned)value;
	else if (fault_number(text, "die-after", INT_MAX, &value))
		faults->die_after = value;
	else if (fault_number(text, "drop-after", INT_MAX, &value))
		faults->drop_after = value;
	else
		return cleat_program_bad("fault", text, "not a fault");
	return -1;
}

static int show(const char *text)
{
	fputs(text, stdout);
	return 0;
}

static int take_flag(struct probe_options *options, int option)
{
	switch (option) {
	case OPT_ROM:
		options->features |= PROBE_HAS_ROM;
		return -1;
	case OPT_BAR_32:
		options->bar_32 = true;
		return -1;
	case OPT_IO_FDS_40:
		options->server.flags |= CLEAT_SERVER_IO_FDS_40;
		return -1;
	case OPT_NO_TWIN:
		options->server.flags |= CLEAT_SERVER_NO_TWIN;
		return -1;
	case OPT_ONCE:
		options->server.flags |= CLEAT_SERVER_ONCE;
		return -1;
	case OPT_HELP:
		return show(help_text);
	case OPT_VERSION:
		return show("cleat-probe " CLEAT_VERSION "\n");
	}
	return cleat_program_refuse(NULL);
}

static int take(struct probe_options *options, int option, const char *name,
		const char *text)
{
	switch (option) {
	case OPT_SOCKET_PATH:
		options->socket_path = text;
		return -1;
	case OPT_STATS:
		options->stats = text;
		return -1;
	case OPT_LEAVE_OUT:
		return leave_out(options, name);
	case OPT_FAULT:
		return take_fault(options, text);
	case OPT_MIGRATION:
		return cleat_program_migration(text, &options->migration);
	case OPT_FD:
	case OPT_VECTORS:
	case OPT_MSI:
	case OPT_MAX_FDS:
	case OPT_MAX_XFER:
	case OPT_MAX_MAPS:
	case OPT_SPIN:
	case OPT_BUSY:
	case OPT_SLEEP:
	case OPT_STATE_SIZE:
		return take_number(options, option, name, text);
	}
	return take_flag(options, option);
}

static int check(struct probe_options *options)
{
	if (!options->socket_path == (options->fd < 0))
		return cleat_program_refuse(
			"one of --socket-path=PATH and --fd=N is needed");
	if (!(options->features & PROBE_HAS_MSIX))
		options->msix_vectors = 0;
	if (!(options->features & PROBE_HAS_MSI))
		options->msi_vectors = 0;
	return -1;
}

int cleat_probe_options(struct probe_options *options, int argc, char **argv)
{
	int option, index = 0, status = -1;

	*options = (struct probe_options){
		.fd = -1,
		.features = ALL_FEATURES,
		.msix_vectors = MSIX_DEFAULT,
		.msi_vectors = MSI_DEFAULT,
		.server = { .size = sizeof(options->server),
			    .flags = CLEAT_SERVER_SIGBUS },
	};
	while (status < 0) {
		option = getopt_long(argc, argv, "", long_options, &index);
		if (option < 0)
			break;
		status = take(options, option, long_options[index].name,
			      optarg);
	}
	if (status >= 0)
		return status;
	if (optind < argc)
		return cleat_program_refuse("only options are taken");
	return check(options);
}
