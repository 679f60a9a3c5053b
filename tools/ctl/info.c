/* SPDX-License-Identifier: BSD-2-Clause */
/* What the handshake told, and reset. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/ctl/ctl.h"
#include "tools/ctl/out.h"

static const struct ctl_bit flag_names[] = {
	{ CLEAT_DEVICE_INFO_PCI, "pci" },
	{ CLEAT_DEVICE_INFO_RESET, "reset" },
	{ CLEAT_DEVICE_INFO_TWIN, "twin-socket" },
	{ CLEAT_DEVICE_INFO_WRITE_MULTI, "write-multiple" },
};

/* The server's name, which it chose itself; "" if it cannot be told. */
static void find_name(pid_t pid, char *name, size_t room)
{
	char path[40], text[64];
	ssize_t n = -1;
	int fd;

	name[0] = '\0';
	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	fd = pid > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd >= 0) {
		n = read(fd, text, sizeof(text));
		close(fd);
	}
	if (n > 1)
		cleat_ctl_printable(name, room, text, (size_t)n - 1);
}

static int print_json(struct ctl *ctl, const struct cleat_device_info *info,
		      pid_t pid, const char *name)
{
	const char *quirks = cleat_device_quirks(ctl->dev);
	struct ctl_out out;

	if (cleat_out_begin(&out, true, true))
		return cleat_ctl_say(CTL_LOCAL, "out of memory");
	cleat_out_string(&out, "socket", ctl->socket);
	cleat_out_map(&out, "server");
	if (pid > 0)
		cleat_out_number(&out, "pid", (uint64_t)pid);
	else
		cleat_out_null(&out, "pid");
	cleat_out_string(&out, "name", name);
	cleat_out_map_end(&out);
	cleat_out_map(&out, "version");
	cleat_out_number(&out, "major", info->major);
	cleat_out_number(&out, "minor", info->minor);
	cleat_out_map_end(&out);
	if (quirks)
		cleat_out_string(&out, "quirks", quirks);
	else
		cleat_out_null(&out, "quirks");
	cleat_out_bits(&out, "flags", info->flags, flag_names,
		       CTL_NUM(flag_names));
	cleat_out_number(&out, "regions", info->num_regions);
	cleat_out_number(&out, "irqs", info->num_irqs);
	cleat_out_map(&out, "limits");
	cleat_out_number(&out, "max_msg_fds", info->max_msg_fds);
	cleat_out_number(&out, "max_data_xfer_size", info->max_transfer);
	cleat_out_number(&out, "max_dma_maps", info->max_dma_maps);
	cleat_out_number(&out, "pgsizes", info->page_sizes);
	cleat_out_map_end(&out);
	return cleat_out_print(&out);
}

static void print_flags(uint32_t flags)
{
	struct ctl_out out;

	cleat_out_begin(&out, false, false);
	for (size_t i = 0; i < CTL_NUM(flag_names); i++)
		if (flags & flag_names[i].bit)
			cleat_out_words(&out, "%s", flag_names[i].name);
	printf("flags           %.*s\n", (int)out.used, out.text);
}

static int print_text(struct ctl *ctl, const struct cleat_device_info *info,
		      pid_t pid, const char *name)
{
	const char *quirks = cleat_device_quirks(ctl->dev);

	printf("socket          %s\n", ctl->socket);
	if (pid > 0)
		printf("server          pid %d%s%s%s\n", (int)pid,
		       *name ? " (" : "", name, *name ? ")" : "");
	else
		printf("server          pid not known\n");
	printf("version         %u.%u\n", info->major, info->minor);
	printf("quirks          %s\n", quirks ? quirks : "none");
	print_flags(info->flags);
	printf("regions         %u\n", info->num_regions);
	printf("interrupts      %u types\n", info->num_irqs);
	printf("descriptors     %u in a message\n", info->max_msg_fds);
	printf("transfer        %u bytes in a message\n", info->max_transfer);
	printf("DMA maps        %u\n", info->max_dma_maps);
	printf("page sizes      %#" PRIx64 "\n", info->page_sizes);
	return CTL_OK;
}

int cleat_ctl_info(struct ctl *ctl)
{
	struct cleat_device_info info = { .size = sizeof(info) };
	pid_t pid = cleat_device_pid(ctl->dev);
	char name[64];

	cleat_device_info(ctl->dev, &info);
	find_name(pid, name, sizeof(name));
	return ctl->json ? print_json(ctl, &info, pid, name) :
			   print_text(ctl, &info, pid, name);
}

int cleat_ctl_reset(struct ctl *ctl)
{
	uint64_t start = cleat_ctl_now_ns(), us;
	struct ctl_out out;
	int err = cleat_device_reset(ctl->dev);

	if (err)
		return cleat_ctl_failed(ctl, "reset", err);
	us = (cleat_ctl_now_ns() - start) / 1000;
	if (!ctl->json) {
		printf("reset in %" PRIu64 ".%03" PRIu64 " ms\n", us / 1000,
		       us % 1000);
		return CTL_OK;
	}
	if (cleat_out_begin(&out, true, true))
		return cleat_ctl_say(CTL_LOCAL, "out of memory");
	cleat_out_bool(&out, "reset", true);
	cleat_out_millionths(&out, "seconds", us);
	return cleat_out_print(&out);
}
