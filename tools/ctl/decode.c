/* SPDX-License-Identifier: BSD-2-Clause */
/* What a message's payload says. It may say anything. */
#include <stdlib.h>
#include <string.h>

#include <linux/vfio.h>

#include "tools/ctl/relay.h"

/* Elements of one list that are shown. */
#define MAX_ITEMS 32
#define MAX_DATA 32

/* What is left of a payload. */
struct rest {
	struct ctl_out *out;
	const struct ctl_event *event;
	const uint8_t *data;
	size_t size;
};

static bool take(struct rest *rest, void *to, size_t size)
{
	if (rest->size < size) {
		cleat_out_bool(rest->out, "cut_short", true);
		return false;
	}
	memcpy(to, rest->data, size);
	rest->data += size;
	rest->size -= size;
	return true;
}

/* A number where it can be one, as accesses of registers are. */
static void put_data(struct rest *rest)
{
	uint64_t value = 0;

	if (rest->size > 8 || !rest->size || rest->size & (rest->size - 1)) {
		if (rest->size)
			cleat_out_bytes(rest->out, "data", rest->data,
					rest->size, MAX_DATA);
		return;
	}
	memcpy(&value, rest->data, rest->size);
	cleat_out_hex(rest->out, "value", value);
}

static void put_index(struct ctl_out *out, const char *name, uint32_t index,
		      const char *word)
{
	cleat_out_number(out, name, index);
	if (*word)
		cleat_out_string(out, "name", word);
}

static void put_region_number(struct ctl_out *out, uint32_t region)
{
	put_index(out, "region", region, cleat_ctl_region_name(region));
}

static void decode_version(struct rest *rest, bool reply)
{
	struct cleat_wire_version version;

	if (!take(rest, &version, sizeof(version)))
		return;
	cleat_out_number(rest->out, "major", version.major);
	cleat_out_number(rest->out, "minor", version.minor);
	if (rest->size)
		cleat_out_chars(rest->out, "json", (const char *)rest->data,
				strnlen((const char *)rest->data, rest->size));
}

static const struct ctl_bit dma_flags[] = {
	{ CLEAT_DMA_READ, "read" },
	{ CLEAT_DMA_WRITE, "write" },
	{ CLEAT_DMA_MMAP, "mmap" },
	{ CLEAT_DMA_FILE_IO, "file-io" },
};

static void decode_map(struct rest *rest, bool reply)
{
	struct cleat_wire_dma_map map;

	if ((reply && !rest->size) || !take(rest, &map, sizeof(map)))
		return;
	cleat_out_hex(rest->out, "address", map.address);
	cleat_out_hex(rest->out, "size", map.size);
	cleat_out_hex(rest->out, "offset", map.offset);
	cleat_out_bits(rest->out, "flags", map.flags, dma_flags,
		       CTL_NUM(dma_flags));
}

static void put_bitmap(struct rest *rest, bool reply)
{
	struct cleat_wire_bitmap bitmap;

	if (!take(rest, &bitmap, sizeof(bitmap)))
		return;
	cleat_out_hex(rest->out, "page_size", bitmap.page_size);
	cleat_out_hex(rest->out, "bitmap_size", bitmap.size);
	if (reply && rest->size)
		cleat_out_bytes(rest->out, "bitmap", rest->data, rest->size,
				MAX_DATA);
}

static const struct ctl_bit unmap_flags[] = {
	{ CLEAT_UNMAP_DIRTY, "dirty-bitmap" },
	{ CLEAT_UNMAP_ALL, "all" },
};

static void decode_unmap(struct rest *rest, bool reply)
{
	struct cleat_wire_dma_unmap unmap;

	if ((reply && !rest->size) || !take(rest, &unmap, sizeof(unmap)))
		return;
	cleat_out_hex(rest->out, "address", unmap.address);
	cleat_out_hex(rest->out, "size", unmap.size);
	cleat_out_bits(rest->out, "flags", unmap.flags, unmap_flags,
		       CTL_NUM(unmap_flags));
	if (unmap.flags & CLEAT_UNMAP_DIRTY)
		put_bitmap(rest, reply);
}

static const struct ctl_bit device_flags[] = {
	{ VFIO_DEVICE_FLAGS_RESET, "reset" },
	{ VFIO_DEVICE_FLAGS_PCI, "pci" },
};

static void decode_info(struct rest *rest, bool reply)
{
	struct cleat_wire_device_info info;

	if (!take(rest, &info, sizeof(info)) || !reply)
		return;
	cleat_out_bits(rest->out, "flags", info.flags, device_flags,
		       CTL_NUM(device_flags));
	cleat_out_number(rest->out, "regions", info.num_regions);
	cleat_out_number(rest->out, "irqs", info.num_irqs);
}

static const struct ctl_bit region_flags[] = {
	{ VFIO_REGION_INFO_FLAG_READ, "read" },
	{ VFIO_REGION_INFO_FLAG_WRITE, "write" },
	{ VFIO_REGION_INFO_FLAG_MMAP, "mmap" },
	{ VFIO_REGION_INFO_FLAG_CAPS, "caps" },
};

static void put_areas(struct rest *rest, const struct cleat_wire_region *region)
{
	if (!region->num_areas)
		return;
	cleat_out_list(rest->out, "areas");
	for (unsigned i = 0; i < region->num_areas && i < MAX_ITEMS; i++) {
		const struct cleat_wire_area *area = &region->areas[i];

		cleat_out_map(rest->out, NULL);
		cleat_out_hex(rest->out, "offset", area->offset);
		cleat_out_hex(rest->out, "length", area->length);
		cleat_out_number(rest->out, "fd", area->fd_index);
		cleat_out_hex(rest->out, "fd_offset", area->fd_offset);
		cleat_out_map_end(rest->out);
	}
	cleat_out_list_end(rest->out);
	if (region->num_areas > MAX_ITEMS)
		cleat_out_number(rest->out, "num_areas", region->num_areas);
}

/* What a client would make of it, its complaints included. */
static void put_chain(struct rest *rest, const uint8_t *payload, size_t size,
		      const struct cleat_wire_region_info *info)
{
	struct cleat_wire_region region;
	struct cleat_error why;

	if (info->argsz > size) {
		cleat_out_number(rest->out, "needs", info->argsz);
		return;
	}
	if (cleat_wire_parse_region(payload, size, info->index,
				    rest->event->num_fds, &region, &why)) {
		cleat_out_string(rest->out, "wrong", why.text);
		return;
	}
	if (region.type) {
		cleat_out_hex(rest->out, "type", region.type);
		cleat_out_hex(rest->out, "subtype", region.subtype);
	}
	put_areas(rest, &region);
	cleat_wire_region_free(&region);
}

static void decode_region(struct rest *rest, bool reply)
{
	const uint8_t *payload = rest->data;
	size_t size = rest->size;
	struct cleat_wire_region_info info;

	if (!take(rest, &info, sizeof(info)))
		return;
	put_region_number(rest->out, info.index);
	if (!reply) {
		cleat_out_number(rest->out, "argsz", info.argsz);
		return;
	}
	cleat_out_hex(rest->out, "size", info.size);
	cleat_out_bits(rest->out, "flags", info.flags, region_flags,
		       CTL_NUM(region_flags));
	put_chain(rest, payload, size, &info);
}

static void put_io_fd(struct ctl_out *out, const struct cleat_wire_io_fd *io)
{
	static const char *const types[] = { "ioeventfd", "ioregionfd",
					     "shadow" };

	cleat_out_map(out, NULL);
	cleat_out_hex(out, "offset", io->offset);
	cleat_out_number(out, "width", io->size);
	if (io->type < CTL_NUM(types))
		cleat_out_string(out, "type", types[io->type]);
	else
		cleat_out_number(out, "type", io->type);
	if (io->fd_index != CLEAT_WIRE_NO_FD)
		cleat_out_number(out, "fd", io->fd_index);
	if (io->flags & CLEAT_WIRE_IO_FD_MATCH)
		cleat_out_hex(out, "datamatch", io->datamatch);
	if (io->type == 2) {
		cleat_out_number(out, "shadow_fd", io->shadow_fd_index);
		cleat_out_hex(out, "shadow_offset", io->shadow_offset);
	}
	cleat_out_map_end(out);
}

static void put_io_fds(struct rest *rest, const uint8_t *payload, size_t size,
		       uint32_t index)
{
	struct cleat_wire_io_fd *entries;
	struct cleat_error why;
	int num = cleat_wire_parse_io_fds(payload, size, index, UINT64_MAX,
					  rest->event->num_fds, &entries, &why);

	if (num < 0) {
		cleat_out_string(rest->out, "wrong", why.text);
		return;
	}
	cleat_out_list(rest->out, "entries");
	for (int i = 0; i < num && i < MAX_ITEMS; i++)
		put_io_fd(rest->out, &entries[i]);
	cleat_out_list_end(rest->out);
	free(entries);
}

static void decode_io_fds(struct rest *rest, bool reply)
{
	const uint8_t *payload = rest->data;
	size_t size = rest->size;
	struct cleat_wire_io_fds head;

	if (!take(rest, &head, sizeof(head)))
		return;
	put_region_number(rest->out, head.index);
	if (!reply) {
		cleat_out_number(rest->out, "argsz", head.argsz);
		return;
	}
	cleat_out_number(rest->out, "count", head.count);
	if (head.argsz > size)
		cleat_out_number(rest->out, "needs", head.argsz);
	else
		put_io_fds(rest, payload, size, head.index);
}

static const struct ctl_bit irq_flags[] = {
	{ VFIO_IRQ_INFO_EVENTFD, "eventfd" },
	{ VFIO_IRQ_INFO_MASKABLE, "maskable" },
	{ VFIO_IRQ_INFO_AUTOMASKED, "automasked" },
	{ VFIO_IRQ_INFO_NORESIZE, "noresize" },
};

static void decode_irq(struct rest *rest, bool reply)
{
	struct cleat_wire_irq_info info;

	if (!take(rest, &info, sizeof(info)))
		return;
	put_index(rest->out, "irq", info.index,
		  cleat_ctl_irq_name(info.index));
	if (!reply)
		return;
	cleat_out_number(rest->out, "count", info.count);
	cleat_out_bits(rest->out, "flags", info.flags, irq_flags,
		       CTL_NUM(irq_flags));
}

static const struct ctl_bit set_flags[] = {
	{ VFIO_IRQ_SET_DATA_NONE, "none" },
	{ VFIO_IRQ_SET_DATA_BOOL, "bool" },
	{ VFIO_IRQ_SET_DATA_EVENTFD, "eventfd" },
	{ VFIO_IRQ_SET_ACTION_MASK, "mask" },
	{ VFIO_IRQ_SET_ACTION_UNMASK, "unmask" },
	{ VFIO_IRQ_SET_ACTION_TRIGGER, "trigger" },
};

static void decode_set_irqs(struct rest *rest, bool reply)
{
	struct cleat_wire_irq_set set;

	if ((reply && !rest->size) || !take(rest, &set, sizeof(set)))
		return;
	put_index(rest->out, "irq", set.index, cleat_ctl_irq_name(set.index));
	cleat_out_number(rest->out, "start", set.start);
	cleat_out_number(rest->out, "count", set.count);
	cleat_out_bits(rest->out, "flags", set.flags, set_flags,
		       CTL_NUM(set_flags));
	if (rest->size)
		cleat_out_bytes(rest->out, "bools", rest->data, rest->size,
				MAX_DATA);
}

static void decode_access(struct rest *rest, bool reply)
{
	struct cleat_wire_access access;

	/* That of a count of 0 may have none. */
	if ((reply && !rest->size) || !take(rest, &access, sizeof(access)))
		return;
	put_region_number(rest->out, access.region);
	cleat_out_hex(rest->out, "offset", access.offset);
	cleat_out_number(rest->out, "count", access.count);
	put_data(rest);
}

static void decode_dma(struct rest *rest, bool reply)
{
	struct cleat_wire_dma dma;

	if (!take(rest, &dma, sizeof(dma)))
		return;
	cleat_out_hex(rest->out, "address", dma.address);
	cleat_out_number(rest->out, "count", dma.count);
	put_data(rest);
}

static const struct ctl_bit dirty_flags[] = {
	{ CLEAT_DIRTY_START, "start" },
	{ CLEAT_DIRTY_STOP, "stop" },
	{ CLEAT_DIRTY_GET_BITMAP, "get-bitmap" },
};

static void decode_dirty(struct rest *rest, bool reply)
{
	struct cleat_wire_dirty_pages dirty;
	uint64_t range[2];

	if ((reply && !rest->size) || !take(rest, &dirty, sizeof(dirty)))
		return;
	cleat_out_bits(rest->out, "flags", dirty.flags, dirty_flags,
		       CTL_NUM(dirty_flags));
	if (!(dirty.flags & CLEAT_DIRTY_GET_BITMAP) ||
	    !take(rest, range, sizeof(range)))
		return;
	cleat_out_hex(rest->out, "iova", range[0]);
	cleat_out_hex(rest->out, "size", range[1]);
	put_bitmap(rest, reply);
}

static void put_write(struct ctl_out *out, const struct cleat_wire_write *write)
{
	uint64_t value = 0;

	memcpy(&value, write->data, write->count < 8 ? write->count : 8);
	cleat_out_map(out, NULL);
	put_region_number(out, write->region);
	cleat_out_hex(out, "offset", write->offset);
	cleat_out_number(out, "count", write->count);
	cleat_out_hex(out, "value", value);
	cleat_out_map_end(out);
}

static void decode_multi(struct rest *rest, bool reply)
{
	struct cleat_wire_write_multi head;
	struct cleat_wire_write write;

	if (!take(rest, &head, sizeof(head)))
		return;
	cleat_out_number(rest->out, "count", head.count);
	if (reply)
		return;
	cleat_out_list(rest->out, "writes");
	for (unsigned i = 0; i < MAX_ITEMS && i < head.count &&
			     rest->size >= sizeof(write);
	     i++)
		if (take(rest, &write, sizeof(write)))
			put_write(rest->out, &write);
	cleat_out_list_end(rest->out);
}

static const struct ctl_bit feature_flags[] = {
	{ VFIO_DEVICE_FEATURE_GET, "get" },
	{ VFIO_DEVICE_FEATURE_SET, "set" },
	{ VFIO_DEVICE_FEATURE_PROBE, "probe" },
};

static void decode_feature(struct rest *rest, bool reply)
{
	struct cleat_wire_feature feature;

	if (!take(rest, &feature, sizeof(feature)))
		return;
	cleat_out_number(rest->out, "feature", feature.flags & 0xffff);
	cleat_out_bits(rest->out, "flags", feature.flags & ~0xffffu,
		       feature_flags, CTL_NUM(feature_flags));
	put_data(rest);
}

static void decode_mig_data(struct rest *rest, bool reply)
{
	struct cleat_wire_mig_data data;

	if ((reply && !rest->size) || !take(rest, &data, sizeof(data)))
		return;
	cleat_out_number(rest->out, "size", data.size);
	if (rest->size)
		cleat_out_bytes(rest->out, "data", rest->data, rest->size,
				MAX_DATA);
}

static void decode_other(struct rest *rest, bool reply)
{
	if (rest->size)
		cleat_out_bytes(rest->out, "data", rest->data, rest->size,
				MAX_DATA);
}

static void (*const decoders[])(struct rest *rest, bool reply) = {
	[VFIO_USER_VERSION] = decode_version,
	[VFIO_USER_DMA_MAP] = decode_map,
	[VFIO_USER_DMA_UNMAP] = decode_unmap,
	[VFIO_USER_DEVICE_GET_INFO] = decode_info,
	[VFIO_USER_DEVICE_GET_REGION_INFO] = decode_region,
	[VFIO_USER_DEVICE_GET_REGION_IO_FDS] = decode_io_fds,
	[VFIO_USER_DEVICE_GET_IRQ_INFO] = decode_irq,
	[VFIO_USER_DEVICE_SET_IRQS] = decode_set_irqs,
	[VFIO_USER_REGION_READ] = decode_access,
	[VFIO_USER_REGION_WRITE] = decode_access,
	[VFIO_USER_DMA_READ] = decode_dma,
	[VFIO_USER_DMA_WRITE] = decode_dma,
	[VFIO_USER_DIRTY_PAGES] = decode_dirty,
	[VFIO_USER_REGION_WRITE_MULTI] = decode_multi,
	[VFIO_USER_DEVICE_FEATURE] = decode_feature,
	[VFIO_USER_MIG_DATA_READ] = decode_mig_data,
	[VFIO_USER_MIG_DATA_WRITE] = decode_mig_data,
};

void cleat_ctl_decode(struct ctl_out *out, const struct ctl_event *event,
		      const struct cleat_header *header)
{
	bool reply = (header->flags & CLEAT_HEADER_TYPE) ==
			     CLEAT_HEADER_REPLY ||
		     header->flags & CLEAT_HEADER_ERROR;
	struct rest rest = {
		.out = out,
		.event = event,
		.data = event->data + sizeof(*header),
		.size = event->size - sizeof(*header),
	};

	/* An error's payload is whatever the server had at hand. */
	if (header->flags & CLEAT_HEADER_ERROR ||
	    header->command >= CTL_NUM(decoders) || !decoders[header->command])
		decode_other(&rest, reply);
	else
		decoders[header->command](&rest, reply);
}
