/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/migration/rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#define ARGS 16

static int start_program(struct end *end, const char *name,
			 const char *const extra[])
{
	const char *argv[ARGS] = { program(name) };
	char option[32];
	unsigned n = 1;
	int ends[2];

	peer_pair(ends);
	ATF_REQUIRE_EQ(0, fcntl(ends[1], F_SETFD, 0));
	snprintf(option, sizeof(option), "--fd=%d", ends[1]);
	argv[n++] = option;
	while (extra && *extra && n < ARGS - 1)
		argv[n++] = *extra++;
	child_start(&end->child, strrchr(name, '/') + 1, argv);
	close(ends[1]);
	return ends[0];
}

void end_start(struct end *end, const char *name, const char *const extra[])
{
	end_start_with(end, name, extra, 0);
}

void end_start_with(struct end *end, const char *name,
		    const char *const extra[], uint32_t flags)
{
	struct cleat_device_config config = { .size = sizeof(config),
					      .flags = flags };
	struct cleat_memory_range range = { .size = sizeof(range),
					    .rights = CLEAT_READ | CLEAT_WRITE,
					    .length = RAM_SIZE };
	struct cleat_error why;
	void *ram;

	memset(end, 0, sizeof(*end));
	config.fd = start_program(end, name, extra);
	ATF_REQUIRE_MSG(!cleat_device_open(&config, &end->dev, &why), "%s",
			why.text);
	close(config.fd);
	end->ram_fd = cleat_memory_alloc(RAM_SIZE, 0, &ram, NULL);
	ATF_REQUIRE(end->ram_fd >= 0);
	end->ram = range.host = ram;
	range.fd = end->ram_fd;
	ATF_REQUIRE_EQ(0, cleat_memory_create(&end->memory));
	ATF_REQUIRE_EQ(0, cleat_memory_add(end->memory, &range));
	ATF_REQUIRE_EQ(0, cleat_memory_attach(end->memory, end->dev));
}

void end_migration(struct end *end, uint32_t flags)
{
	struct cleat_error why = { .text = "" };

	ATF_REQUIRE_MSG(!cleat_migration_create(end->dev, flags, &end->mig,
						&why),
			"%s", why.text);
}

void end_stop(struct end *end)
{
	cleat_migration_unref(end->mig);
	cleat_memory_unref(end->memory);
	cleat_device_unref(end->dev);
	munmap(end->ram, RAM_SIZE);
	close(end->ram_fd);
	/* Without its only client it ends by itself; zeroed: waited for. */
	if (end->child.pid)
		ATF_CHECK_EQ(0, child_wait(&end->child, PATIENCE_MS));
	child_end(&end->child);
}

uint32_t end_get(struct end *end, uint64_t offset)
{
	uint32_t value = 0;

	ATF_REQUIRE_EQ(0, cleat_region_read(end->dev, 0, offset, &value, 4));
	return value;
}

void end_set(struct end *end, uint64_t offset, uint32_t value)
{
	ATF_REQUIRE_EQ(0, cleat_region_write(end->dev, 0, offset, &value, 4));
}

enum cleat_migration_state end_state(struct end *end)
{
	enum cleat_migration_state state = CLEAT_MIGRATION_ERROR;

	ATF_REQUIRE_EQ(0, cleat_migration_state(end->mig, &state));
	return state;
}

/* --- The stream ---------------------------------------------------------- */

static int tape_write(void *opaque, const void *buf, size_t count)
{
	struct tape *tape = opaque;

	if (tape->limit && tape->size + count > tape->limit)
		return -ENOSPC;
	while (tape->size + count > tape->room) {
		tape->room = tape->room ? 2 * tape->room : 65536;
		tape->data = realloc(tape->data, tape->room);
	}
	memcpy(tape->data + tape->size, buf, count);
	tape->size += count;
	return 0;
}

static int tape_read(void *opaque, void *buf, size_t count)
{
	struct tape *tape = opaque;

	if (tape->size - tape->at < count)
		return -ENODATA;
	memcpy(buf, tape->data + tape->at, count);
	tape->at += count;
	return 0;
}

static int tape_progress(void *opaque,
			 const struct cleat_migration_progress *progress)
{
	struct tape *tape = opaque;

	tape->told++;
	return tape->stop_at && progress->bytes >= tape->stop_at;
}

void tape_make(struct tape *tape)
{
	memset(tape, 0, sizeof(*tape));
	tape->io = (struct cleat_migration_io){
		.size = sizeof(tape->io),
		.opaque = tape,
		.write = tape_write,
		.read = tape_read,
		.progress = tape_progress,
	};
}

void tape_free(struct tape *tape)
{
	free(tape->data);
}

void save_all(struct end *end, struct tape *tape, unsigned rounds)
{
	struct cleat_error why = { .text = "" };

	ATF_REQUIRE_MSG(!cleat_migration_start(end->mig, &why), "%s", why.text);
	for (unsigned i = 0; i < rounds; i++)
		ATF_REQUIRE_MSG(!cleat_migration_save(end->mig, &tape->io, 0,
						      &why),
				"%s", why.text);
	ATF_REQUIRE_MSG(!cleat_migration_stop(end->mig, &why), "%s", why.text);
	ATF_REQUIRE_MSG(!cleat_migration_save(end->mig, &tape->io, 0, &why),
			"%s", why.text);
}

int load_all(struct end *end, struct tape *tape, struct cleat_error *why)
{
	bool done = false;
	int err = 0;

	while (!err && !done)
		err = cleat_migration_load(end->mig, &tape->io, &done, why);
	return err;
}
