/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Regions: what the server offers for each, and what a VMM would make of it.
 * The latter is the library's own answer: each region is bound as a VMM does,
 * though never placed.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include <cleat/mmio.h>

#include "tools/ctl/caps.h"
#include "tools/ctl/ctl.h"
#include "tools/ctl/out.h"

/**
 * struct listing - what all regions' output needs
 * @config: NULL where it is no PCI device, or its configuration space cannot be
 *          read
 * @msix:   with @has_msix
 */
struct listing {
	struct ctl *ctl;
	struct ctl_out out;
	struct cleat_mmio *mmio;
	struct ctl_config *config;
	bool has_msix;
	struct ctl_msix msix;
};

static const struct ctl_bit flag_names[] = {
	{ CLEAT_REGION_READ, "read" },
	{ CLEAT_REGION_WRITE, "write" },
	{ CLEAT_REGION_MMAP, "mmap" },
	{ CLEAT_REGION_CAPS, "caps" },
};

static const char *const ways[CLEAT_NUM_WAYS] = {
	"message", "map", "ioeventfd", "shadow", "emulated",
};

static const char *const io_types[] = { "ioeventfd", "ioregionfd", "shadow" };

/* A line of text begins with a word that says of what it is. */
static void begin_item(struct listing *list, const char *word)
{
	if (list->ctl->json)
		cleat_out_map(&list->out, NULL);
	else
		cleat_out_words(&list->out, "       %-8s", word);
}

static void end_item(struct listing *list)
{
	if (list->ctl->json) {
		cleat_out_map_end(&list->out);
		return;
	}
	cleat_out_print(&list->out);
	cleat_out_begin(&list->out, false, false);
}

static void begin_list(struct listing *list, const char *name)
{
	if (list->ctl->json)
		cleat_out_list(&list->out, name);
}

static void end_list(struct listing *list)
{
	if (list->ctl->json)
		cleat_out_list_end(&list->out);
}

static void put_span(struct listing *list, uint64_t offset, uint64_t length)
{
	if (!list->ctl->json) {
		cleat_out_words(&list->out, "0x%06" PRIx64 "-0x%06" PRIx64 " ",
				offset, length ? offset + length - 1 : offset);
		return;
	}
	cleat_out_hex(&list->out, "offset", offset);
	cleat_out_hex(&list->out, "length", length);
}

/* --- Areas and IO descriptors --------------------------------------------- */

static void put_areas(struct listing *list, unsigned index, unsigned num)
{
	begin_list(list, "areas");
	for (unsigned i = 0; i < num; i++) {
		struct cleat_region_area area;
		struct ctl_fd fd;

		if (cleat_region_area(list->ctl->dev, index, i, &area))
			continue;
		fd = cleat_ctl_fd(area.fd);
		begin_item(list, "area");
		put_span(list, area.offset, area.length);
		cleat_out_fd(&list->out, "fd", &fd);
		cleat_out_hex(&list->out, "fd_offset", area.fd_offset);
		end_item(list);
	}
	end_list(list);
}

/* Which of the reply's descriptors it is: several entries may have one. */
static void put_fd_number(struct ctl_out *out, const char *name,
			  const struct cleat_io_fds *all, int fd)
{
	for (unsigned i = 0; i < all->num_fds; i++)
		if (all->fds[i] == fd)
			cleat_out_number(out, name, i);
}

static void put_io_fd(struct listing *list, const struct cleat_io_fds *all,
		      const struct cleat_io_fd *io)
{
	struct ctl_out *out = &list->out;
	struct ctl_fd fd;

	begin_item(list, "io-fd");
	put_span(list, io->offset, io->length);
	if (io->type < CTL_NUM(io_types))
		cleat_out_string(out, "type", io_types[io->type]);
	else
		cleat_out_number(out, "type", io->type);
	cleat_out_number(out, "width", io->length);
	if (io->match)
		cleat_out_hex(out, "datamatch", io->datamatch);
	if (io->ports)
		cleat_out_bool(out, "ports", true);
	put_fd_number(out, "fd", all, io->fd);
	if (io->shadow_fd >= 0) {
		fd = cleat_ctl_fd(io->shadow_fd);
		cleat_out_fd(out, "shadow", &fd);
		cleat_out_hex(out, "shadow_offset", io->shadow_offset);
	}
	end_item(list);
}

static int put_io_fds(struct listing *list, unsigned index)
{
	struct cleat_error why = { 0 };
	struct cleat_io_fds all;
	int err = cleat_device_io_fds(list->ctl->dev, index, &all, &why);

	begin_list(list, "io_fds");
	for (unsigned i = 0; i < all.num && !err; i++)
		put_io_fd(list, &all, &all.entries[i]);
	end_list(list);
	cleat_io_fds_free(&all);
	if (!err)
		return CTL_OK;
	if (list->ctl->json) {
		cleat_out_string(&list->out, "io_fds_error", why.text);
	} else {
		cleat_out_words(&list->out, "       io-fds   %s", why.text);
		end_item(list);
	}
	return cleat_device_failure(list->ctl->dev, NULL) ? CTL_DEVICE :
							     CTL_OK;
}

/* --- Segments ------------------------------------------------------------- */

/* Asked for, these would say that there is a VM; nothing is ever placed. */
static int no_slot(void *opaque, uint64_t guest, uint64_t length, void *host,
		   uint32_t flags, uint32_t *ret_slot)
{
	return -EOPNOTSUPP;
}

static int no_removal(void *opaque, uint32_t slot)
{
	return -EOPNOTSUPP;
}

static int no_ioeventfd(void *opaque, const struct cleat_ioeventfd *kick)
{
	return -EOPNOTSUPP;
}

static const struct cleat_vm_ops vm_ops = {
	.size = sizeof(vm_ops),
	.slot_add = no_slot,
	.slot_remove = no_removal,
	.ioeventfd_add = no_ioeventfd,
	.ioeventfd_remove = no_ioeventfd,
};

static int no_access(void *opaque, uint64_t offset, void *data, unsigned length,
		     bool write)
{
	return 0;
}

static unsigned add_window(struct cleat_emulated *windows, unsigned num,
			   uint64_t offset, uint64_t bytes, uint64_t length)
{
	if (offset >= length || bytes > length - offset)
		return num;
	windows[num] = (struct cleat_emulated){ .offset = offset,
						.length = bytes,
						.access = no_access };
	return num + 1;
}

/* The MSI-X table and pending bits, which a VMM keeps to itself. */
static unsigned find_windows(const struct listing *list, unsigned index,
			     uint64_t length, struct cleat_emulated *windows)
{
	const struct ctl_msix *msix = &list->msix;
	unsigned num = 0;

	if (list->has_msix && msix->table_bar == index)
		num = add_window(windows, num, msix->table_offset,
				 msix->vectors * PCI_MSIX_ENTRY_SIZE, length);
	if (list->has_msix && msix->pba_bar == index)
		num = add_window(windows, num, msix->pba_offset,
				 (msix->vectors + 63) / 64 * 8, length);
	return num;
}

static void put_segment(struct listing *list,
			const struct cleat_segment *segment)
{
	struct ctl_out *out = &list->out;

	begin_item(list, "segment");
	put_span(list, segment->offset, segment->length);
	cleat_out_string(out, "read", ways[segment->read_way]);
	cleat_out_string(out, "write", ways[segment->write_way]);
	if (segment->write_way == CLEAT_WAY_IOEVENTFD)
		cleat_out_string(out, "other_write",
				 ways[segment->other_way]);
	if (segment->num_kicks)
		cleat_out_number(out, "kicks", segment->num_kicks);
	if (segment->why && list->ctl->json)
		cleat_out_string(out, "why", segment->why);
	else if (segment->why)
		cleat_out_words(out, "(%s)", segment->why);
	end_item(list);
}

static int bind(struct listing *list, unsigned index, uint64_t length,
		struct cleat_binding **ret_binding, struct cleat_error *why)
{
	struct cleat_emulated windows[2];
	struct cleat_binding_config config = {
		.size = sizeof(config),
		.device = list->ctl->dev,
		.region = index,
		.ops = &vm_ops,
		.emulated = windows,
	};
	int err;

	config.num_emulated = find_windows(list, index, length, windows);
	if (list->config && cleat_ctl_bar_is_ports(list->config, index))
		config.space = CLEAT_PORTS;
	err = cleat_mmio_bind(list->mmio, &config, ret_binding, why);
	if (err != -EINVAL || !config.num_emulated)
		return err;
	/* Its MSI-X table and pending bits overlap: see the rest at least. */
	config.num_emulated = 0;
	return cleat_mmio_bind(list->mmio, &config, ret_binding, why);
}

static void put_segments(struct listing *list, unsigned index, uint64_t length)
{
	struct cleat_binding *binding = NULL;
	struct cleat_segment segment;
	struct cleat_error why;
	int err = bind(list, index, length, &binding, &why);

	begin_list(list, "segments");
	for (unsigned i = 0;
	     !err && !cleat_binding_segment(binding, i, &segment); i++)
		put_segment(list, &segment);
	end_list(list);
	cleat_mmio_unbind(binding);
	if (!err)
		return;
	if (list->ctl->json) {
		cleat_out_string(&list->out, "segments_error", why.text);
	} else {
		cleat_out_words(&list->out, "       segments %s", why.text);
		end_item(list);
	}
}

/* --- One region, and all -------------------------------------------------- */

static void put_head(struct listing *list, unsigned index,
		     const struct cleat_region_info *info)
{
	struct ctl_out *out = &list->out;
	const char *name = cleat_ctl_region_name(index);

	if (list->ctl->json) {
		cleat_out_map(out, NULL);
		cleat_out_number(out, "index", index);
		cleat_out_string(out, "name", name);
		cleat_out_hex(out, "size", info->length);
		cleat_out_bits(out, "flags", info->flags, flag_names,
			       CTL_NUM(flag_names));
		if (info->type) {
			cleat_out_hex(out, "type", info->type);
			cleat_out_hex(out, "subtype", info->subtype);
		}
		return;
	}
	cleat_out_words(out, "%3u  %-6s %#12" PRIx64 " ", index, name,
			info->length);
	cleat_out_bits(out, NULL, info->flags, flag_names,
		       CTL_NUM(flag_names));
	if (info->type)
		cleat_out_words(out, "type %#x.%#x", info->type,
				info->subtype);
	end_item(list);
}

static int put_region(struct listing *list, unsigned index)
{
	struct cleat_region_info info = { .size = sizeof(info) };
	int status = CTL_OK;

	if (cleat_region_info(list->ctl->dev, index, &info) || !info.length)
		return CTL_OK;
	put_head(list, index, &info);
	put_areas(list, index, info.num_areas);
	/* Nobody has a shorter way into configuration space. */
	if (!list->config || index != VFIO_PCI_CONFIG_REGION_INDEX) {
		status = put_io_fds(list, index);
		put_segments(list, index, info.length);
	}
	if (list->ctl->json)
		cleat_out_map_end(&list->out);
	return status;
}

static int print_all(struct listing *list)
{
	struct cleat_device_info info = { .size = sizeof(info) };
	int status = CTL_OK;

	cleat_device_info(list->ctl->dev, &info);
	if (cleat_out_begin(&list->out, list->ctl->json, true))
		return cleat_ctl_say(CTL_LOCAL, "out of memory");
	if (!list->ctl->json)
		puts("  #  NAME           SIZE  FLAGS");
	begin_list(list, "regions");
	for (unsigned i = 0; i < info.num_regions && !status; i++)
		status = put_region(list, i);
	end_list(list);
	if (list->ctl->json)
		cleat_out_print(&list->out);
	if (status)
		return cleat_ctl_failed(list->ctl, "regions", -ENOTCONN);
	return CTL_OK;
}

/* What lies where decides which way is open; without it the rest is shown. */
static void load_config(struct listing *list)
{
	list->config = malloc(sizeof(*list->config));
	if (!list->config)
		return;
	if (cleat_ctl_config_load(list->ctl, list->config)) {
		free(list->config);
		list->config = NULL;
		return;
	}
	list->has_msix = cleat_ctl_find_msix(list->config, &list->msix);
}

int cleat_ctl_regions(struct ctl *ctl)
{
	struct listing list = { .ctl = ctl };
	int status;

	if (cleat_mmio_create(&list.mmio))
		return cleat_ctl_say(CTL_LOCAL, "out of memory");
	load_config(&list);
	status = print_all(&list);
	free(list.config);
	cleat_mmio_unref(list.mmio);
	return status;
}
