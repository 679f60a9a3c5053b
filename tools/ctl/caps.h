/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TOOLS_CTL_CAPS_H
#define TOOLS_CTL_CAPS_H

#include "tools/ctl/ctl.h"
#include "tools/ctl/out.h"

/* The fields of the capability at @at. */
void cleat_ctl_capability(struct ctl_out *out, const struct ctl_config *config,
			  unsigned at, bool extended);

/* MSI-X: where its table and its pending bits are; false if it has none. */
struct ctl_msix {
	unsigned at;
	unsigned vectors;
	unsigned table_bar;
	uint32_t table_offset;
	unsigned pba_bar;
	uint32_t pba_offset;
};
bool cleat_ctl_find_msix(const struct ctl_config *config,
			 struct ctl_msix *ret);

#endif
