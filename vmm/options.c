/* SPDX-License-Identifier: BSD-2-Clause */
/* The command line. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/vmm.h"

#define MEMORY_DEFAULT 512 /* MiB */
#define MEMORY_MIN 16
#define MEMORY_MAX (1ull << 20) /* a TiB, in MiB */

#define APPEND_DEFAULT "console=ttyS0"

static const char help[] =
	"usage: cleat-vmm --kernel BZIMAGE [OPTION]...\n"
	"       cleat-vmm --incoming SOURCE [OPTION]...\n"
	"Boot Linux in a virtual machine with PCI devices that other processes\n"
	"serve over vfio-user. The guest's serial port is standard input and\n"
	"output; in a terminal, Ctrl-A x quits.\n"
	"\n"
	"  --kernel BZIMAGE   the kernel, an x86-64 bzImage (vmlinuz)\n"
	"  --initrd FILE      its initial RAM disk\n"
	"  --append STRING    its command line (default \"" APPEND_DEFAULT "\")\n"
	"  --memory MIB       RAM (default 512)\n"
	"  --hugetlb          take the RAM from huge pages of 2 MiB\n"
	"  --cpus N           virtual CPUs (default 1)\n"
	"  --device SOCKET[,coalesce=BAR:OFFSET+LENGTH]...\n"
	"                     a device: the UNIX socket of its server, and which\n"
	"                     of its registers are written in bulk, so that KVM\n"
	"                     may collect the stores; up to 31 times\n"
	"  --control SOCKET   take commands at a UNIX socket\n"
	"  --incoming SOURCE  go on with a machine that was migrated from\n"
	"                     unix:PATH, fd:N, exec:COMMAND or file:PATH\n"
	"  --stats FILE       write counts and latencies as JSON at the end\n"
	"  --help, --version  print this or the version, and end\n"
	"\n"
	"Exit status: 0 the guest powered off, 1 failure, 2 bad command line,\n"
	"3 the guest asked for a reset, 4 triple fault, 5 stopped from outside,\n"
	"6 the guest goes on elsewhere.\n";

enum option_id {
	OPTION_KERNEL = 1,
	OPTION_INITRD,
	OPTION_APPEND,
	OPTION_MEMORY,
	OPTION_HUGETLB,
	OPTION_CPUS,
	OPTION_DEVICE,
	OPTION_STATS,
	OPTION_CONTROL,
	OPTION_INCOMING,
	OPTION_HELP,
	OPTION_VERSION,
};

static const struct option known[] = {
	{ "kernel", required_argument, NULL, OPTION_KERNEL },
	{ "initrd", required_argument, NULL, OPTION_INITRD },
	{ "append", required_argument, NULL, OPTION_APPEND },
	{ "memory", required_argument, NULL, OPTION_MEMORY },
	{ "hugetlb", no_argument, NULL, OPTION_HUGETLB },
	{ "cpus", required_argument, NULL, OPTION_CPUS },
	{ "device", required_argument, NULL, OPTION_DEVICE },
	{ "stats", required_argument, NULL, OPTION_STATS },
	{ "incoming", required_argument, NULL, OPTION_INCOMING },
	{ "control", required_argument, NULL, OPTION_CONTROL },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ "version", no_argument, NULL, OPTION_VERSION },
	{ 0 },
};

static int usage(const char *what, const char *why)
{
	cleat_vmm_say("%s: %s: see cleat-vmm --help", what, why);
	return OUTCOME_USAGE;
}

/* Return: -1, or the exit status. */
static int parse_number(const char *option, const char *text, uint64_t min,
			uint64_t max, uint64_t *ret)
{
	unsigned long long value;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 10);
	/* strtoull() takes signs and spaces, and negates. */
	if (text[0] < '0' || text[0] > '9' || *end || errno || value < min ||
	    value > max) {
		cleat_vmm_say("%s %s: give a number from %llu to %llu", option,
			      text, (unsigned long long)min,
			      (unsigned long long)max);
		return OUTCOME_USAGE;
	}
	*ret = value;
	return -1;
}

static int add_device(struct options *options, char *text)
{
	struct device_option *device;

	if (options->device_count == DEVICES_MAX)
		return usage("--device", "more than 31 devices");
	device = &options->devices[options->device_count++];
	return cleat_vmm_device_parse(text, device) ? OUTCOME_USAGE : -1;
}

static int parse_option(struct options *options, int id, char *value)
{
	uint64_t number;
	int status = -1;

	switch (id) {
	case OPTION_KERNEL:
		options->kernel = value;
		break;
	case OPTION_INITRD:
		options->initrd = value;
		break;
	case OPTION_APPEND:
		options->append = value;
		break;
	case OPTION_MEMORY:
		status = parse_number("--memory", value, MEMORY_MIN, MEMORY_MAX,
				      &number);
		if (status < 0)
			options->memory = number * MiB;
		break;
	case OPTION_HUGETLB:
		options->hugetlb = true;
		break;
	case OPTION_CPUS:
		status = parse_number("--cpus", value, 1, CPUS_MAX, &number);
		if (status < 0)
			options->cpus = (unsigned)number;
		break;
	case OPTION_DEVICE:
		return add_device(options, value);
	case OPTION_STATS:
		options->stats = value;
		break;
	case OPTION_CONTROL:
		options->control = value;
		break;
	case OPTION_INCOMING:
		options->incoming = value;
		break;
	case OPTION_HELP:
		fputs(help, stdout);
		return 0;
	case OPTION_VERSION:
		puts("cleat-vmm " CLEAT_VERSION);
		return 0;
	}
	return status;
}

static int check(const struct options *options)
{
	if (options->incoming && !cleat_vmm_channel_known(options->incoming))
		return usage("--incoming", "not unix:, fd:, exec: or file:");
	if (!options->kernel && !options->incoming)
		return usage("--kernel", "a kernel must be named");
	if (options->hugetlb && options->memory % (2 * MiB))
		return usage("--memory", "must be even with --hugetlb");
	return -1;
}

int cleat_vmm_options_parse(int argc, char **argv, struct options *ret)
{
	struct options options = {
		.append = APPEND_DEFAULT,
		.memory = MEMORY_DEFAULT * MiB,
		.cpus = 1,
	};
	int id, status;

	opterr = 0;
	optind = 0; /* start over: tests parse more than once */
	while ((id = getopt_long(argc, argv, ":", known, NULL)) != -1) {
		if (id == '?')
			return usage(argv[optind - 1], "unknown option");
		if (id == ':')
			return usage(argv[optind - 1], "needs a value");
		status = parse_option(&options, id, optarg);
		if (status >= 0)
			return status;
	}
	if (optind < argc)
		return usage(argv[optind], "not an option");
	status = check(&options);
	if (status < 0)
		*ret = options;
	return status;
}
