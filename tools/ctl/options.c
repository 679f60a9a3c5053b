/* SPDX-License-Identifier: BSD-2-Clause */
/* The command line: options may stand anywhere. */
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "tools/ctl/ctl.h"

enum {
	OPT_JSON = 'j',
	OPT_HELP = 'h',
	OPT_VERSION = 'V',
	OPT_HEX = 'x',
	OPT_WIDTH = 'w',
	OPT_COUNT = 'n',
	OPT_OUTPUT = 'o',
	OPT_INPUT = 'i',
	OPT_TIMEOUT = 't',
	OPT_PEER = 256,
	OPT_NO_TWIN,
	OPT_IRQ,
	OPT_VECTORS,
	OPT_SECONDS,
	OPT_TRIGGER,
	OPT_WRITE,
	OPT_SAVE,
	OPT_ONCE,
};

static const struct option long_options[] = {
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ "timeout", required_argument, NULL, OPT_TIMEOUT },
	{ "peer", required_argument, NULL, OPT_PEER },
	{ "no-twin", no_argument, NULL, OPT_NO_TWIN },
	{ "hex", no_argument, NULL, OPT_HEX },
	{ "width", required_argument, NULL, OPT_WIDTH },
	{ "count", required_argument, NULL, OPT_COUNT },
	{ "output", required_argument, NULL, OPT_OUTPUT },
	{ "input", required_argument, NULL, OPT_INPUT },
	{ "irq", required_argument, NULL, OPT_IRQ },
	{ "vectors", required_argument, NULL, OPT_VECTORS },
	{ "seconds", required_argument, NULL, OPT_SECONDS },
	{ "trigger", required_argument, NULL, OPT_TRIGGER },
	{ "write", required_argument, NULL, OPT_WRITE },
	{ "save", required_argument, NULL, OPT_SAVE },
	{ "once", no_argument, NULL, OPT_ONCE },
	{ 0 },
};

static const struct {
	int option;
	uint32_t bit;
	const char *name;
} bits[] = {
	{ OPT_HEX, CTL_HEX, "hex" },
	{ OPT_WIDTH, CTL_WIDTH, "width" },
	{ OPT_COUNT, CTL_COUNT, "count" },
	{ OPT_OUTPUT, CTL_OUTPUT, "output" },
	{ OPT_INPUT, CTL_INPUT, "input" },
	{ OPT_IRQ, CTL_IRQ, "irq" },
	{ OPT_VECTORS, CTL_VECTORS, "vectors" },
	{ OPT_SECONDS, CTL_SECONDS, "seconds" },
	{ OPT_TRIGGER, CTL_TRIGGER, "trigger" },
	{ OPT_WRITE, CTL_WRITE, "write" },
	{ OPT_SAVE, CTL_SAVE, "save" },
	{ OPT_ONCE, CTL_ONCE, "once" },
	{ OPT_PEER, CTL_PEER, "peer" },
	{ OPT_TIMEOUT, CTL_TIMEOUT, "timeout" },
	{ OPT_NO_TWIN, CTL_NO_TWIN, "no-twin" },
};

#define NUM_BITS (sizeof(bits) / sizeof(bits[0]))

static int bad(const char *option, const char *text, const char *what)
{
	return cleat_ctl_say(CTL_USAGE, "--%s %s: %s", option, text, what);
}

static int take_u32(const char *option, const char *text, uint64_t least,
		    uint64_t most, uint32_t *ret)
{
	uint64_t value;
	char what[64];

	if (cleat_ctl_number(text, least, most, &value)) {
		*ret = (uint32_t)value;
		return -1;
	}
	snprintf(what, sizeof(what), "not a number from %llu to %llu",
		 (unsigned long long)least, (unsigned long long)most);
	return bad(option, text, what);
}

static int take_width(struct ctl *ctl, const char *text)
{
	uint64_t value;

	if (!cleat_ctl_number(text, 1, 8, &value) || value & (value - 1))
		return bad("width", text, "not 1, 2, 4 or 8");
	ctl->width = (unsigned)value;
	return -1;
}

static int take_count(struct ctl *ctl, const char *text)
{
	if (!cleat_ctl_number(text, 1, UINT64_MAX, &ctl->count))
		return bad("count", text, "not a number above 0");
	return -1;
}

/* "3" or "0-15" */
static int take_vectors(struct ctl *ctl, const char *text)
{
	char first[24];
	const char *dash = strchr(text, '-');
	size_t length = dash ? (size_t)(dash - text) : strlen(text);
	uint64_t from, to;

	if (length >= sizeof(first))
		return bad("vectors", text, "not a range such as 0-15");
	memcpy(first, text, length);
	first[length] = '\0';
	if (!cleat_ctl_number(first, 0, UINT32_MAX, &from) ||
	    !cleat_ctl_number(dash ? dash + 1 : first, from, UINT32_MAX, &to))
		return bad("vectors", text, "not a range such as 0-15");
	ctl->first_vector = (uint32_t)from;
	ctl->last_vector = (uint32_t)to;
	return -1;
}

static int take_write(struct ctl *ctl, const char *text)
{
	int status;

	if (ctl->num_writes == CTL_MAX_WRITES)
		return bad("write", text, "there are too many of them");
	status = cleat_ctl_store(text, &ctl->writes[ctl->num_writes]);
	if (status)
		return status;
	ctl->num_writes++;
	return -1;
}

static int take_more(struct ctl *ctl, int option, const char *text)
{
	int status;

	switch (option) {
	case OPT_IRQ:
		status = cleat_ctl_irq(text, &ctl->irq);
		return status ? status : -1;
	case OPT_VECTORS:
		return take_vectors(ctl, text);
	case OPT_SECONDS:
		return take_u32("seconds", text, 1, UINT32_MAX, &ctl->seconds);
	case OPT_TRIGGER:
		return take_u32("trigger", text, 0, UINT32_MAX, &ctl->trigger);
	case OPT_WRITE:
		return take_write(ctl, text);
	case OPT_SAVE:
		ctl->save = text;
		return -1;
	case OPT_PEER:
		ctl->peer = text;
		return -1;
	case OPT_TIMEOUT:
		return take_u32("timeout", text, 1, INT_MAX, &ctl->timeout_ms);
	}
	return -1;
}

static int take(struct ctl *ctl, int option, const char *text)
{
	for (size_t i = 0; i < NUM_BITS; i++)
		if (bits[i].option == option)
			ctl->given |= bits[i].bit;
	switch (option) {
	case OPT_JSON:
		ctl->json = true;
		return -1;
	case OPT_WIDTH:
		return take_width(ctl, text);
	case OPT_COUNT:
		return take_count(ctl, text);
	case OPT_OUTPUT:
		ctl->output = text;
		return -1;
	case OPT_INPUT:
		ctl->input = text;
		return -1;
	case '?': /* getopt has said what */
		return cleat_ctl_say(CTL_USAGE, "see cleatctl --help");
	}
	return take_more(ctl, option, text);
}

static int show_help(const struct ctl_command *command)
{
	if (command) {
		printf("usage: cleatctl %s %s\n\n%s", command->name,
		       command->usage, command->help);
		return CTL_OK;
	}
	puts("usage: cleatctl COMMAND SOCKET [ARGUMENT...] [OPTION...]\n\n"
	     "Looks at a vfio-user device server, speaks to it, and listens "
	     "in.\n");
	for (command = cleat_ctl_commands; command->name; command++)
		printf("  %-9s %.*s\n", command->name,
		       (int)strcspn(command->help, "\n"), command->help);
	puts("\nSOCKET is a path, @NAME for an abstract socket, or fd:N for "
	     "one that was\ninherited.\n\n"
	     "  -j, --json        print JSON\n"
	     "  -t, --timeout MS  longest wait for each answer\n"
	     "      --peer NAME   which server this is, if it needs care: "
	     "usbvfiod, rust-vmm,\n"
	     "                    libvfio-user, spdk, cleat\n"
	     "      --no-twin     do not ask for a second socket\n"
	     "  -h, --help        of all, or of one COMMAND\n"
	     "  -V, --version\n\n"
	     "Exit status: 0 done, 1 the server or its device failed, 2 "
	     "usage, 3 nobody to\nspeak to, 4 a file or the output failed. "
	     "See cleatctl(1).");
	return CTL_OK;
}

static int check_options(const struct ctl *ctl)
{
	for (size_t i = 0; i < NUM_BITS; i++)
		if (ctl->given & bits[i].bit & ~ctl->command->options)
			return cleat_ctl_say(CTL_USAGE,
					     "%s takes no --%s; see cleatctl "
					     "%s --help",
					     ctl->command->name, bits[i].name,
					     ctl->command->name);
	return -1;
}

/* The words that are no options: the subcommand, and its operands. */
static int take_words(struct ctl *ctl, char **words, unsigned num, bool help)
{
	const char *name = num ? words[0] : NULL;

	if (name && !strcmp(name, "help")) {
		help = true;
		name = num > 1 ? words[1] : NULL;
	}
	if (!name && help)
		return show_help(NULL);
	if (!name)
		return cleat_ctl_say(CTL_USAGE,
				     "no command; see cleatctl --help");
	ctl->command = cleat_ctl_find(name);
	if (!ctl->command)
		return cleat_ctl_say(CTL_USAGE,
				     "no command \"%s\"; see cleatctl --help",
				     name);
	if (help)
		return show_help(ctl->command);
	words++;
	num--;
	if (num < ctl->command->least || num > ctl->command->most)
		return cleat_ctl_say(CTL_USAGE, "usage: cleatctl %s %s",
				     ctl->command->name, ctl->command->usage);
	ctl->socket = words[0];
	ctl->words = words + 1;
	ctl->num_words = num - 1;
	return check_options(ctl);
}

int cleat_ctl_options(struct ctl *ctl, int argc, char **argv)
{
	bool help = false;
	int option, status = -1;

	*ctl = (struct ctl){ .last_vector = UINT32_MAX };
	while (status < 0) {
		option = getopt_long(argc, argv, "jhVxw:n:o:i:t:", long_options,
				     NULL);
		if (option < 0)
			break;
		if (option == OPT_VERSION) {
			puts("cleatctl " CLEAT_VERSION);
			return CTL_OK;
		}
		if (option == OPT_HELP)
			help = true;
		else
			status = take(ctl, option, optarg);
	}
	if (status >= 0)
		return status;
	return take_words(ctl, argv + optind, (unsigned)(argc - optind), help);
}
