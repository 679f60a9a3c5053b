/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Physical region pages: where a command's data is. The first entry may start
 * inside a page and lists inside a page too; every other entry is a whole
 * page. The last entry of a list page points to the next list page if there is
 * more data than it can say.
 */
#include <stddef.h>

#include "backends/nvme/private.h"

#define PRP_DWORD 3u
#define PRP_QWORD 7u
/* List entries fetched at a time. */
#define PRP_BATCH 64u

struct walk {
	struct cleat_nvme *n;
	struct nvme_data *data;
	uint32_t page;
	uint32_t left; /* bytes not yet resolved */
};

/* The array holds every page of NVME_MDTS_BYTES and a first partial one. */
static void add(struct walk *walk, uint64_t addr, uint32_t length)
{
	struct nvme_range *range = &walk->data->ranges[walk->data->n++];

	range->addr = addr;
	range->length = length;
	walk->left -= length;
}

static unsigned add_page(struct walk *walk, uint64_t entry)
{
	if (entry & (walk->page - 1))
		return NVME_PRP_OFFSET;
	add(walk, entry, walk->left < walk->page ? walk->left : walk->page);
	return NVME_SUCCESS;
}

/*
 * @count entries at @list, of which @chained says that the last is the next
 * list; its value goes to @ret_next.
 */
static unsigned walk_entries(struct walk *walk, uint64_t list, uint32_t count,
			     bool chained, uint64_t *ret_next)
{
	uint64_t entries[PRP_BATCH];

	while (count) {
		uint32_t batch = count < PRP_BATCH ? count : PRP_BATCH;

		if (cleat_nvme_copy_in(walk->n, list, entries, batch * 8))
			return NVME_DATA_TRANSFER;
		for (uint32_t i = 0; i < batch; i++, count--) {
			unsigned status;

			if (chained && count == 1) {
				*ret_next = entries[i];
				return NVME_SUCCESS;
			}
			status = add_page(walk, entries[i]);
			if (status)
				return status;
		}
		list += batch * 8;
	}
	return NVME_SUCCESS;
}

/*
 * Ends: a list page after the first starts at offset 0, and so resolves at
 * least one data page.
 */
static unsigned walk_lists(struct walk *walk, uint64_t list)
{
	if (list & PRP_QWORD)
		return NVME_PRP_OFFSET;
	while (walk->left) {
		uint32_t room = (uint32_t)(walk->page -
					   (list & (walk->page - 1))) / 8;
		uint32_t need = (walk->left + walk->page - 1) / walk->page;
		bool chained = need > room;
		uint64_t next = 0;
		unsigned status = walk_entries(walk, list,
					       chained ? room : need, chained,
					       &next);

		if (status)
			return status;
		if (next & (walk->page - 1))
			return NVME_PRP_OFFSET;
		list = next;
	}
	return NVME_SUCCESS;
}

unsigned cleat_nvme_prps(struct cleat_nvme *n, const struct nvme_command *cmd,
			 uint32_t length, struct nvme_data *data)
{
	struct walk walk = {
		.n = n,
		.data = data,
		.page = 1u << n->page_bits,
		.left = length,
	};
	uint32_t first;

	data->n = 0;
	if (!length)
		return NVME_SUCCESS;
	if (length > NVME_MDTS_BYTES)
		return NVME_INVALID_FIELD;
	if (cmd->prp1 & PRP_DWORD)
		return NVME_PRP_OFFSET;
	first = walk.page - (uint32_t)(cmd->prp1 & (walk.page - 1));
	add(&walk, cmd->prp1, length < first ? length : first);
	if (!walk.left)
		return NVME_SUCCESS;
	if (walk.left <= walk.page)
		return add_page(&walk, cmd->prp2);
	return walk_lists(&walk, cmd->prp2);
}
