/* SPDX-License-Identifier: BSD-2-Clause */
/* The subcommands; the first line of each help says what it is for. */
#include <string.h>

#include "tools/ctl/ctl.h"

const struct ctl_command cleat_ctl_commands[] = {
	{
		.name = "info",
		.usage = "SOCKET [OPTION...]",
		.help = "what the server is and what it takes\n",
		.options = CTL_DEVICE_OPTIONS,
		.least = 1,
		.most = 1,
		.opens = true,
		.run = cleat_ctl_info,
	},
	{
		.name = "regions",
		.usage = "SOCKET [OPTION...]",
		.help = "regions, and which way accesses to them would go\n"
			"\n"
			"Of each region: the areas that can be mapped, its IO "
			"descriptors, and its\nsegments as a VMM would have "
			"them, with the reason where there is a better way.\n",
		.options = CTL_DEVICE_OPTIONS,
		.least = 1,
		.most = 1,
		.opens = true,
		.run = cleat_ctl_regions,
	},
	{
		.name = "irqs",
		.usage = "SOCKET [OPTION...]",
		.help = "interrupt types\n",
		.options = CTL_DEVICE_OPTIONS,
		.least = 1,
		.most = 1,
		.opens = true,
		.run = cleat_ctl_irqs,
	},
	{
		.name = "config",
		.usage = "SOCKET [-x] [OPTION...]",
		.help = "PCI configuration space, decoded\n"
			"\n"
			"  -x, --hex  and as bytes\n",
		.options = CTL_DEVICE_OPTIONS | CTL_HEX,
		.least = 1,
		.most = 1,
		.opens = true,
		.run = cleat_ctl_config,
	},
	{
		.name = "read",
		.usage = "SOCKET REGION OFFSET [OPTION...]",
		.help = "read from a region\n"
			"\n"
			"REGION is a number, or bar0 to bar5, rom, config, "
			"vga.\n"
			"\n"
			"  -w, --width 1|2|4|8  bytes of each access; 4 for a "
			"single one\n"
			"  -n, --count N        accesses; without --width "
			"bytes, in few messages\n"
			"  -o, --output FILE    bytes as they are into a file, "
			"- for the output\n",
		.options = CTL_DEVICE_OPTIONS | CTL_WIDTH | CTL_COUNT |
			   CTL_OUTPUT,
		.least = 3,
		.most = 3,
		.opens = true,
		.check = cleat_ctl_check_read,
		.run = cleat_ctl_read,
	},
	{
		.name = "write",
		.usage = "SOCKET REGION OFFSET VALUE... | --input FILE "
			 "[OPTION...]",
		.help = "write to a region\n"
			"\n"
			"REGION is a number, or bar0 to bar5, rom, config, "
			"vga. VALUEs go one after the\nother.\n"
			"\n"
			"  -w, --width 1|2|4|8  bytes of each access, "
			"otherwise 4\n"
			"  -n, --count N        the VALUEs so many times; of a "
			"FILE no more accesses\n"
			"                       than this, without --width "
			"bytes\n"
			"  -i, --input FILE     bytes as they are from a file, "
			"- for the input;\n"
			"                       without --width in few "
			"messages\n",
		.options = CTL_DEVICE_OPTIONS | CTL_WIDTH | CTL_COUNT |
			   CTL_INPUT,
		.least = 3,
		.most = 1024,
		.opens = true,
		.check = cleat_ctl_check_write,
		.run = cleat_ctl_write,
	},
	{
		.name = "reset",
		.usage = "SOCKET [OPTION...]",
		.help = "reset the device\n",
		.options = CTL_DEVICE_OPTIONS,
		.least = 1,
		.most = 1,
		.opens = true,
		.run = cleat_ctl_reset,
	},
	{
		.name = "features",
		.usage = "SOCKET [OPTION...]",
		.help = "DEVICE_FEATUREs, and how the device migrates\n"
			"\n"
			"Each is probed; what can be got without a change is "
			"got.\n",
		.options = CTL_DEVICE_OPTIONS,
		.least = 1,
		.most = 1,
		.opens = true,
		.run = cleat_ctl_features,
	},
	{
		.name = "watch",
		.usage = "SOCKET [OPTION...]",
		.help = "interrupts as they arrive, and the end of the "
			"connection\n"
			"\n"
			"Arms MSI-X, MSI or INTx, the first of them that the "
			"device has, and ERR and REQ.\nEnds on Ctrl-C.\n"
			"\n"
			"      --irq TYPE       arm only this: intx, msi, "
			"msi-x, err, req, or a number\n"
			"      --vectors A-B    of it only these\n"
			"      --trigger N      let the server fire vector N "
			"once they are armed\n"
			"      --write REGION:OFFSET=VALUE[/WIDTH]\n"
			"                       and write this; may be given "
			"16 times\n"
			"  -n, --count N        end after so many interrupts\n"
			"      --seconds N      end after so long\n",
		.options = CTL_DEVICE_OPTIONS | CTL_IRQ | CTL_VECTORS |
			   CTL_TRIGGER | CTL_WRITE | CTL_COUNT | CTL_SECONDS,
		.least = 1,
		.most = 1,
		.opens = true,
		.own_loop = true,
		.run = cleat_ctl_watch,
	},
	{
		.name = "relay",
		.usage = "LISTEN SERVER [OPTION...]",
		.help = "stand between clients and a server, and show what "
			"they say\n"
			"\n"
			"Clients connect to LISTEN, and each is connected to "
			"SERVER. Ends on Ctrl-C.\n"
			"\n"
			"  -x, --hex        messages as bytes too\n"
			"      --save FILE  keep the stream of the first "
			"client, for cleatctl replay;\n"
			"                   of the next ones in FILE.2, FILE.3 "
			"and so on\n"
			"      --once       end when the first client has "
			"gone\n"
			"  -t, --timeout MS how long to try to connect to a "
			"busy SERVER, otherwise 5000\n",
		.options = CTL_HEX | CTL_SAVE | CTL_ONCE | CTL_TIMEOUT,
		.least = 2,
		.most = 2,
		.run = cleat_ctl_relay,
	},
	{
		.name = "replay",
		.usage = "FILE [OPTION...]",
		.help = "show a stream that relay has saved\n"
			"\n"
			"  -x, --hex  messages as bytes too\n",
		.options = CTL_HEX,
		.least = 1,
		.most = 1,
		.run = cleat_ctl_replay,
	},
	{
		.name = "vmm",
		.usage = "SOCKET COMMAND [TO [THEN]] [OPTION...]",
		.help = "give a running cleat-vmm a command\n"
			"\n"
			"SOCKET is its --control. COMMAND is one of\n"
			"\n"
			"  status           what it does, and how far a "
			"migration is\n"
			"  pause, resume    its CPUs\n"
			"  migrate TO       to unix:PATH, fd:N, exec:COMMAND "
			"or file:PATH; THEN is\n"
			"                   quit (if absent), or resume, for "
			"a snapshot\n"
			"  cancel           call a migration off; it is "
			"refused when the other side has\n"
			"                   been told to go on, and ends one "
			"that waits for a machine\n"
			"  quit             end it\n"
			"\n"
			"  -t, --timeout MS how long to wait for its answer, "
			"otherwise 15000\n",
		.options = CTL_TIMEOUT,
		.least = 2,
		.most = 4,
		.check = cleat_ctl_check_vmm,
		.run = cleat_ctl_vmm,
	},
	{ 0 },
};

const struct ctl_command *cleat_ctl_find(const char *name)
{
	const struct ctl_command *command = cleat_ctl_commands;

	while (command->name && strcmp(command->name, name) != 0)
		command++;
	return command->name ? command : NULL;
}
