/* SPDX-License-Identifier: BSD-2-Clause */
/* Interrupt types. */
#include <stdio.h>

#include <cleat/irq.h>

#include "tools/ctl/ctl.h"
#include "tools/ctl/out.h"

static const struct ctl_bit flag_names[] = {
	{ CLEAT_IRQ_INFO_EVENTFD, "eventfd" },
	{ CLEAT_IRQ_INFO_MASKABLE, "maskable" },
	{ CLEAT_IRQ_INFO_AUTOMASKED, "automasked" },
	{ CLEAT_IRQ_INFO_NORESIZE, "noresize" },
};

static void print_one(struct ctl_out *out, unsigned index,
		      const struct cleat_irq_info *info)
{
	if (!out->gen) {
		cleat_out_words(out, "%3u  %-6s %8u ", index,
				cleat_ctl_irq_name(index), info->count);
		cleat_out_bits(out, NULL, info->flags, flag_names,
			       CTL_NUM(flag_names));
		return;
	}
	cleat_out_map(out, NULL);
	cleat_out_number(out, "index", index);
	cleat_out_string(out, "name", cleat_ctl_irq_name(index));
	cleat_out_number(out, "vectors", info->count);
	cleat_out_bits(out, "flags", info->flags, flag_names,
		       CTL_NUM(flag_names));
	cleat_out_map_end(out);
}

static void print_all(struct ctl *ctl, struct ctl_out *out, unsigned num)
{
	for (unsigned i = 0; i < num; i++) {
		struct cleat_irq_info info = { .size = sizeof(info) };

		if (cleat_irq_info(ctl->dev, i, &info))
			continue;
		print_one(out, i, &info);
		if (!ctl->json) {
			cleat_out_print(out);
			cleat_out_begin(out, false, false);
		}
	}
}

int cleat_ctl_irqs(struct ctl *ctl)
{
	struct cleat_device_info info = { .size = sizeof(info) };
	struct ctl_out out;

	cleat_device_info(ctl->dev, &info);
	if (cleat_out_begin(&out, ctl->json, true))
		return cleat_ctl_say(CTL_LOCAL, "out of memory");
	if (!ctl->json) {
		puts("  #  NAME    VECTORS  FLAGS");
		print_all(ctl, &out, info.num_irqs);
		return CTL_OK;
	}
	cleat_out_list(&out, "irqs");
	print_all(ctl, &out, info.num_irqs);
	cleat_out_list_end(&out);
	return cleat_out_print(&out);
}
