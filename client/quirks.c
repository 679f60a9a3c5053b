/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Servers whose faults can only be lived with if they are known. A row is taken
 * at the handshake or by the caller's word, never guessed later. What is safe
 * with every server is done always and has no row.
 */
#include <errno.h>
#include <string.h>

#include "client/engine.h"

static const struct row {
	const char *peer;
	/* At the handshake: what the server says of itself, all of it. NULL:
	 * only by the caller's word. */
	bool (*recognise)(const struct cleat_device *dev);
	uint32_t quirks;
} rows[] = {
	/* Ends itself at an 8-byte access, at DMA_UNMAP and at DEVICE_RESET. */
	{ "usbvfiod", NULL,
	  CLEAT_QUIRK_SPLIT_8 | CLEAT_QUIRK_NO_UNMAP | CLEAT_QUIRK_NO_RESET |
		  CLEAT_QUIRK_MORE_FDS },
	/* Announces one descriptor for each message and takes 16. */
	{ "rust-vmm", NULL, CLEAT_QUIRK_MORE_FDS },
	/* DMA_UNMAP tells what is dirty, though their text has it no more. */
	{ "libvfio-user", NULL, CLEAT_QUIRK_UNMAP_TELLS },
	{ "cleat", NULL, CLEAT_QUIRK_UNMAP_TELLS },
	/* Nothing is known against it; the word may be given all the same. */
	{ "spdk", NULL, 0 },
};

#define NUM_ROWS (sizeof(rows) / sizeof(rows[0]))

static void take_row(struct cleat_device *dev, const struct row *row)
{
	dev->quirk_row = row->peer;
	dev->quirks = row->quirks;
}

int cleat_quirks_by_word(struct cleat_device *dev, const char *peer,
			 struct cleat_error *reterr)
{
	if (!peer)
		return 0;
	for (size_t i = 0; i < NUM_ROWS; i++) {
		if (strcmp(rows[i].peer, peer) == 0) {
			take_row(dev, &rows[i]);
			return 0;
		}
	}
	return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
			  "no server is known by the name \"%s\"", peer);
}

void cleat_quirks_by_handshake(struct cleat_device *dev)
{
	for (size_t i = 0; i < NUM_ROWS && !dev->quirk_row; i++)
		if (rows[i].recognise && rows[i].recognise(dev))
			take_row(dev, &rows[i]);
	if (dev->quirks & CLEAT_QUIRK_MORE_FDS && dev->info.max_msg_fds &&
	    dev->info.max_msg_fds < 16)
		dev->info.max_msg_fds = 16;
	if (dev->quirks & CLEAT_QUIRK_NO_RESET)
		dev->info.flags &= ~CLEAT_DEVICE_INFO_RESET;
}

bool cleat_device_has_quirk(struct cleat_device *dev, uint32_t quirk)
{
	return dev->quirks & quirk;
}

const char *cleat_device_quirks(struct cleat_device *dev)
{
	return dev->quirk_row;
}
