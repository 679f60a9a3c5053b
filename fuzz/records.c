/* SPDX-License-Identifier: BSD-2-Clause */
/* A state given to a server by a client, in pieces of any size. */
#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "server/server.h"

static int save(void *opaque, void *buf, size_t room)
{
	return 0;
}

static int load(void *opaque, uint32_t version, const void *buf, size_t count)
{
	if (version > 1 || count > CLEAT_SERVER_RECORD)
		abort();
	return 0;
}

static int loaded(void *opaque)
{
	return 0;
}

/* With right checksums and numbers where they could be. */
static void mend(uint8_t *data, size_t size)
{
	struct cleat_srv_record record;
	uint32_t number = 0;

	while (size >= sizeof(record)) {
		memcpy(&record, data, sizeof(record));
		if (record.length > size - sizeof(record))
			return;
		record.number = number++;
		record.crc = cleat_crc32c(
			0, &record, offsetof(struct cleat_srv_record, crc));
		record.crc = cleat_crc32c(record.crc, data + sizeof(record),
					  record.length);
		memcpy(data, &record, sizeof(record));
		data += sizeof(record) + record.length;
		size -= sizeof(record) + record.length;
	}
}

static struct cleat_server *make(void)
{
	const struct cleat_server_migration migration = {
		.size = sizeof(migration),
		.name = "fuzz",
		.version = 1,
		.save = save,
		.load = load,
		.loaded = loaded,
	};
	const struct cleat_server_ops ops = { .size = sizeof(ops) };
	struct cleat_server *srv;

	if (cleat_server_create(NULL, &ops, NULL, &srv, NULL))
		return NULL;
	if (cleat_server_add_migration(srv, &migration, NULL))
		abort();
	return srv;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cleat_server *srv;
	size_t piece, at = 0;
	uint8_t *copy;

	if (size < 2)
		return 0;
	srv = make();
	copy = malloc(size);
	if (!srv || !copy)
		abort();
	piece = data[1] + 1u;
	size -= 2;
	memcpy(copy, data + 2, size);
	if (data[0] & 1)
		mend(copy, size);
	if (cleat_srv_mig_set(srv, CLEAT_SERVER_LOADING))
		abort();
	for (; at < size; at += piece)
		if (cleat_srv_records_in(srv, copy + at, size - at < piece ?
								 size - at :
								 piece))
			break;
	cleat_srv_mig_set(srv, CLEAT_SERVER_RUNNING);
	free(copy);
	cleat_server_destroy(srv);
	return 0;
}
