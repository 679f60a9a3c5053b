/* SPDX-License-Identifier: BSD-2-Clause */
/* Configuration space as bytes, and the ways through it. */
#include <errno.h>
#include <string.h>

#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include "tools/ctl/ctl.h"

#define CONVENTIONAL 256
#define EXTENDED 0x100

int cleat_ctl_config_load(struct ctl *ctl, struct ctl_config *config)
{
	struct cleat_device_info info = { .size = sizeof(info) };
	struct cleat_region_info region = { .size = sizeof(region) };
	const unsigned index = VFIO_PCI_CONFIG_REGION_INDEX;
	size_t first;
	int err;

	memset(config, 0, sizeof(*config));
	cleat_device_info(ctl->dev, &info);
	if (!(info.flags & CLEAT_DEVICE_INFO_PCI) ||
	    cleat_region_info(ctl->dev, index, &region) ||
	    region.length < PCI_STD_HEADER_SIZEOF)
		return -ENODEV;
	config->size = region.length < CTL_CONFIG_MAX ? region.length :
							CTL_CONFIG_MAX;
	first = config->size < CONVENTIONAL ? config->size : CONVENTIONAL;
	err = cleat_region_read(ctl->dev, index, 0, config->bytes, first);
	if (err || config->size == first)
		return err;
	/* A server may describe more than it answers for. */
	err = cleat_region_read(ctl->dev, index, first, config->bytes + first,
				config->size - first);
	if (err && !cleat_device_failure(ctl->dev, NULL)) {
		config->size = first;
		return 0;
	}
	return err;
}

uint32_t cleat_ctl_config_get(const struct ctl_config *config, size_t at,
			      unsigned width)
{
	uint32_t value = 0;

	if (at <= config->size && width <= config->size - at)
		memcpy(&value, config->bytes + at, width);
	return value;
}

static unsigned next_conventional(const struct ctl_config *config,
				  struct ctl_chain *chain)
{
	unsigned at;

	if (!chain->at) {
		if (!(cleat_ctl_config_get(config, PCI_STATUS, 2) &
		      PCI_STATUS_CAP_LIST))
			return 0;
		at = cleat_ctl_config_get(config, PCI_CAPABILITY_LIST, 1);
	} else {
		at = cleat_ctl_config_get(config, chain->at + PCI_CAP_LIST_NEXT,
					  1);
	}
	at &= ~3u;
	/* 48 fit: more is a circle. */
	if (at && (at < PCI_STD_HEADER_SIZEOF || at >= config->size ||
		   chain->count >= 48)) {
		chain->broken = true;
		return 0;
	}
	return at;
}

static unsigned next_extended(const struct ctl_config *config,
			      struct ctl_chain *chain)
{
	uint32_t header = cleat_ctl_config_get(
		config, chain->at ? chain->at : EXTENDED, 4);
	unsigned at = chain->at ? PCI_EXT_CAP_NEXT(header) : EXTENDED;

	if (!chain->at && (!header || header == UINT32_MAX))
		return 0;
	if (at && (at < EXTENDED || at + 4 > config->size ||
		   chain->count >= (CTL_CONFIG_MAX - EXTENDED) / 4)) {
		/* There need not be any at all. */
		chain->broken = chain->at;
		return 0;
	}
	return at;
}

unsigned cleat_ctl_chain_next(const struct ctl_config *config,
			      struct ctl_chain *chain)
{
	chain->at = chain->extended ? next_extended(config, chain) :
				      next_conventional(config, chain);
	chain->count++;
	return chain->at;
}

bool cleat_ctl_bar_is_ports(const struct ctl_config *config, unsigned bar)
{
	return bar < PCI_STD_NUM_BARS &&
	       cleat_ctl_config_get(config, PCI_BASE_ADDRESS_0 + 4 * bar, 4) &
		       PCI_BASE_ADDRESS_SPACE_IO;
}
