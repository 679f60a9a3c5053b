/* SPDX-License-Identifier: BSD-2-Clause */
/* Configuration space, decoded as lspci does. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <linux/pci_regs.h>

#include "tools/ctl/caps.h"
#include "tools/ctl/ctl.h"
#include "tools/ctl/out.h"

static const struct {
	uint16_t class;
	const char *name;
} classes[] = {
	{ 0x0100, "SCSI controller" },	   { 0x0106, "SATA controller" },
	{ 0x0108, "non-volatile memory" }, { 0x0180, "mass storage" },
	{ 0x0200, "Ethernet controller" }, { 0x0280, "network controller" },
	{ 0x0300, "VGA controller" },	   { 0x0302, "3D controller" },
	{ 0x0380, "display controller" },  { 0x0403, "audio device" },
	{ 0x0500, "RAM" },		   { 0x0604, "PCI bridge" },
	{ 0x0700, "serial controller" },   { 0x0c03, "USB controller" },
	{ 0x0880, "system peripheral" },   { 0x00ff, "unclassified" },
	{ 0xff00, "unassigned" },
};

static const struct ctl_bit command_bits[] = {
	{ PCI_COMMAND_IO, "io" },
	{ PCI_COMMAND_MEMORY, "memory" },
	{ PCI_COMMAND_MASTER, "bus-master" },
	{ PCI_COMMAND_PARITY, "parity" },
	{ PCI_COMMAND_SERR, "serr" },
	{ PCI_COMMAND_INTX_DISABLE, "intx-disable" },
};

static const struct ctl_bit status_bits[] = {
	{ PCI_STATUS_INTERRUPT, "intx" },
	{ PCI_STATUS_CAP_LIST, "capabilities" },
	{ PCI_STATUS_66MHZ, "66mhz" },
	{ PCI_STATUS_FAST_BACK, "fast-back" },
	{ PCI_STATUS_PARITY, "parity" },
	{ PCI_STATUS_SIG_TARGET_ABORT, "sent-target-abort" },
	{ PCI_STATUS_REC_TARGET_ABORT, "target-abort" },
	{ PCI_STATUS_REC_MASTER_ABORT, "master-abort" },
	{ PCI_STATUS_SIG_SYSTEM_ERROR, "serr" },
	{ PCI_STATUS_DETECTED_PARITY, "parity-error" },
};

static const char *class_name(uint32_t class)
{
	for (size_t i = 0; i < CTL_NUM(classes); i++)
		if (classes[i].class == class >> 8)
			return classes[i].name;
	return "";
}

static uint32_t get(const struct ctl_config *config, size_t at, unsigned width)
{
	return cleat_ctl_config_get(config, at, width);
}

/* Ends a line of text; JSON goes on. */
static void end_line(struct ctl_out *out)
{
	if (out->gen)
		return;
	cleat_out_print(out);
	cleat_out_begin(out, false, false);
}

static void put_id(struct ctl_out *out, const char *name, uint32_t id)
{
	char text[16];

	snprintf(text, sizeof(text), "%04x", id);
	cleat_out_string(out, name, text);
}

static void put_ids(struct ctl_out *out, const struct ctl_config *config)
{
	uint32_t class = get(config, PCI_CLASS_REVISION, 4) >> 8;
	const char *name = class_name(class);
	char text[16];

	snprintf(text, sizeof(text), "%06x", class);
	if (!out->gen) {
		cleat_out_words(out, "%04x:%04x class %s%s%s%s rev %02x",
				get(config, PCI_VENDOR_ID, 2),
				get(config, PCI_DEVICE_ID, 2), text,
				*name ? " (" : "", name, *name ? ")" : "",
				get(config, PCI_REVISION_ID, 1));
		end_line(out);
		cleat_out_words(out, "  subsystem %04x:%04x",
				get(config, PCI_SUBSYSTEM_VENDOR_ID, 2),
				get(config, PCI_SUBSYSTEM_ID, 2));
		return;
	}
	put_id(out, "vendor", get(config, PCI_VENDOR_ID, 2));
	put_id(out, "device", get(config, PCI_DEVICE_ID, 2));
	put_id(out, "subsystem_vendor",
	       get(config, PCI_SUBSYSTEM_VENDOR_ID, 2));
	put_id(out, "subsystem", get(config, PCI_SUBSYSTEM_ID, 2));
	cleat_out_string(out, "class", text);
	cleat_out_string(out, "class_name", name);
	cleat_out_number(out, "revision", get(config, PCI_REVISION_ID, 1));
}

static void put_control(struct ctl_out *out, const struct ctl_config *config)
{
	unsigned pin = get(config, PCI_INTERRUPT_PIN, 1);
	char letter[2] = { pin >= 1 && pin <= 4 ? (char)('@' + pin) : '?' };

	cleat_out_words(out, " ");
	cleat_out_bits(out, "command", get(config, PCI_COMMAND, 2),
		       command_bits, CTL_NUM(command_bits));
	cleat_out_bits(out, "status", get(config, PCI_STATUS, 2), status_bits,
		       CTL_NUM(status_bits));
	end_line(out);
	cleat_out_words(out, " ");
	if (pin)
		cleat_out_string(out, "interrupt_pin", letter);
	else
		cleat_out_null(out, "interrupt_pin");
	cleat_out_number(out, "interrupt_line",
			 get(config, PCI_INTERRUPT_LINE, 1));
}

static void put_bar(struct ctl *ctl, struct ctl_out *out,
		    const struct ctl_config *config, unsigned bar)
{
	struct cleat_region_info region = { .size = sizeof(region) };
	size_t at = PCI_BASE_ADDRESS_0 + 4 * bar;
	uint64_t value = get(config, at, 4);
	bool ports = cleat_ctl_bar_is_ports(config, bar);
	bool wide = !ports && bar < 5 &&
		    (value & PCI_BASE_ADDRESS_MEM_TYPE_MASK) ==
			    PCI_BASE_ADDRESS_MEM_TYPE_64;

	if (cleat_region_info(ctl->dev, bar, &region) || !region.length)
		return;
	if (wide)
		value |= (uint64_t)get(config, at + 4, 4) << 32;
	if (out->gen) {
		cleat_out_map(out, NULL);
		cleat_out_number(out, "bar", bar);
	} else {
		cleat_out_words(out, "  BAR%u", bar);
	}
	cleat_out_string(out, "space", ports ? "ports" : "memory");
	cleat_out_hex(out, "address",
		      value & (ports ? ~(uint64_t)3 : ~(uint64_t)15));
	cleat_out_hex(out, "size", region.length);
	if (!ports) {
		cleat_out_number(out, "bits", wide ? 64 : 32);
		cleat_out_bool(out, "prefetchable",
			       value & PCI_BASE_ADDRESS_MEM_PREFETCH);
	}
	if (out->gen)
		cleat_out_map_end(out);
	else
		end_line(out);
}

static void put_bars(struct ctl *ctl, struct ctl_out *out,
		     const struct ctl_config *config)
{
	unsigned type = get(config, PCI_HEADER_TYPE, 1) &
			PCI_HEADER_TYPE_MASK;
	unsigned num = type == PCI_HEADER_TYPE_NORMAL ? PCI_STD_NUM_BARS : 2;

	if (out->gen)
		cleat_out_list(out, "bars");
	for (unsigned i = 0; i < num; i++)
		put_bar(ctl, out, config, i);
	if (out->gen)
		cleat_out_list_end(out);
}

static void put_chain(struct ctl_out *out, const struct ctl_config *config,
		      bool extended)
{
	struct ctl_chain chain = { .extended = extended };

	if (out->gen)
		cleat_out_list(out, extended ? "extended_capabilities" :
					       "capabilities");
	while (cleat_ctl_chain_next(config, &chain)) {
		if (out->gen)
			cleat_out_map(out, NULL);
		cleat_ctl_capability(out, config, chain.at, extended);
		if (out->gen)
			cleat_out_map_end(out);
		end_line(out);
	}
	if (out->gen)
		cleat_out_list_end(out);
	if (chain.broken && out->gen)
		cleat_out_bool(out, "chain_broken", true);
	else if (chain.broken)
		puts("  the list of capabilities is broken here");
}

static void put_hex(struct ctl_out *out, const struct ctl_config *config)
{
	if (out->gen)
		cleat_out_bytes(out, "bytes", config->bytes, config->size,
				config->size);
	else
		cleat_ctl_hexdump(0, config->bytes, config->size, 1);
}

static int print(struct ctl *ctl, const struct ctl_config *config)
{
	struct ctl_out out;

	if (cleat_out_begin(&out, ctl->json, true))
		return cleat_ctl_say(CTL_LOCAL, "out of memory");
	put_ids(&out, config);
	end_line(&out);
	put_control(&out, config);
	end_line(&out);
	put_bars(ctl, &out, config);
	put_chain(&out, config, false);
	put_chain(&out, config, true);
	if (ctl->given & CTL_HEX)
		put_hex(&out, config);
	if (ctl->json)
		return cleat_out_print(&out);
	return CTL_OK;
}

int cleat_ctl_config(struct ctl *ctl)
{
	struct ctl_config *config = malloc(sizeof(*config));
	int err, status;

	if (!config)
		return cleat_ctl_say(CTL_LOCAL, "out of memory");
	err = cleat_ctl_config_load(ctl, config);
	if (err == -ENODEV)
		status = cleat_ctl_say(CTL_DEVICE,
				       "this is no PCI device: it has no "
				       "configuration space");
	else if (err)
		status = cleat_ctl_failed(ctl, "configuration space", err);
	else
		status = print(ctl, config);
	free(config);
	return status;
}
