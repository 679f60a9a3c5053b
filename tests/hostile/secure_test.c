/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Secure mode, from end to end: cleat-probe in a process of its own is made to
 * do DMA, and what that process has of guest memory is looked at.
 */
#include <dirent.h>
#include <stdio.h>
#include <sys/mman.h>

#include "backends/probe/probe_regs.h"
#include "tests/hostile/scene.h"

#define GUEST 0x100000u
#define LENGTH 0x100000u
/* DMA_WAY: bit 0: through a mapping, bit 1: by message. */
#define BY_MAPPING 1u
#define BY_MESSAGE 2u

struct guest {
	struct cleat_device *dev;
	struct cleat_memory *memory;
	uint8_t *host;
	int fd;
};

static void begin(struct guest *guest, uint32_t flags, uint32_t rights)
{
	const char *argv[] = { program("backends/cleat-probe"), NULL };
	struct cleat_device_config config = { .size = sizeof(config),
					      .flags = flags,
					      .argv = argv };
	struct cleat_memory_range range = { .size = sizeof(range),
					    .rights = rights,
					    .guest = GUEST,
					    .length = LENGTH };
	struct cleat_error why;

	guest->fd = cleat_memory_alloc(LENGTH, 0, (void **)&guest->host, NULL);
	ATF_REQUIRE(guest->fd >= 0);
	range.host = guest->host;
	range.fd = guest->fd;
	ATF_REQUIRE_EQ(0, cleat_memory_create(&guest->memory));
	ATF_REQUIRE_EQ(0, cleat_memory_add(guest->memory, &range));
	ATF_REQUIRE_MSG(!cleat_device_open(&config, &guest->dev, &why),
			"open: %s", why.text);
	ATF_REQUIRE_EQ(0, cleat_memory_attach(guest->memory, guest->dev));
}

static void end(struct guest *guest)
{
	cleat_device_unref(guest->dev);
	cleat_memory_unref(guest->memory);
	munmap(guest->host, LENGTH);
	close(guest->fd);
}

static void set(struct guest *guest, uint32_t reg, uint64_t value,
		size_t count)
{
	ATF_REQUIRE_EQ(0, cleat_region_write(guest->dev, 0, reg, &value,
					     count));
}

static uint32_t get(struct guest *guest, uint32_t reg)
{
	uint32_t value = 0;

	ATF_REQUIRE_EQ(0, cleat_region_read(guest->dev, 0, reg, &value, 4));
	return value;
}

/* Copy by the device's engine: DMA_STATUS at the end. */
static uint32_t copy(struct guest *guest, uint64_t from, uint64_t to,
		     uint32_t length)
{
	set(guest, PROBE_DMA_SOURCE, from, 8);
	set(guest, PROBE_DMA_TARGET, to, 8);
	set(guest, PROBE_DMA_LENGTH, length, 4);
	set(guest, PROBE_DMA_GO, 1, 4);
	REQUIRE_SOON(get(guest, PROBE_DMA_STATUS) != 0x10001);
	return get(guest, PROBE_DMA_STATUS);
}

/* Lines of the server's memory map that name guest memory. */
static unsigned mapped_by(pid_t pid)
{
	char path[64], line[512];
	unsigned found = 0;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	maps = fopen(path, "re");
	ATF_REQUIRE(maps);
	while (fgets(line, sizeof(line), maps))
		found += strstr(line, "cleat-memory") != NULL;
	fclose(maps);
	return found;
}

static unsigned held_by(pid_t pid)
{
	char path[64], target[256];
	struct dirent *entry;
	unsigned found = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	ATF_REQUIRE(dir);
	while ((entry = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), entry->d_name, target,
				       sizeof(target) - 1);

		target[n < 0 ? 0 : n] = '\0';
		found += strstr(target, "cleat-memory") != NULL;
	}
	closedir(dir);
	return found;
}

static void copy_by(uint32_t flags, uint32_t way, bool mapped)
{
	struct guest guest;

	begin(&guest, flags, CLEAT_READ | CLEAT_WRITE);
	for (unsigned i = 0; i < 200000; i++)
		guest.host[i] = (uint8_t)(i * 7);
	ATF_CHECK_EQ(0x10002, copy(&guest, GUEST, GUEST + 0x80000, 200000));
	ATF_CHECK_EQ(0, memcmp(guest.host, guest.host + 0x80000, 200000));
	ATF_CHECK_EQ(way, get(&guest, PROBE_DMA_WAY));
	ATF_CHECK_EQ(mapped, mapped_by(cleat_device_pid(guest.dev)) > 0);
	if (!mapped)
		ATF_CHECK_EQ(0, held_by(cleat_device_pid(guest.dev)));
	end(&guest);
}

/* That the next case could fail. */
CLEAT_TC(copy__with_its_file)
{
	copy_by(0, BY_MAPPING, true);
}

CLEAT_TC(copy__secure)
{
	copy_by(CLEAT_DEVICE_SECURE, BY_MESSAGE, false);
}

CLEAT_TC(copy__secure_without_a_twin)
{
	copy_by(CLEAT_DEVICE_SECURE | CLEAT_DEVICE_NO_TWIN, BY_MESSAGE, false);
}

CLEAT_TC(copy__secure_to_read_only)
{
	struct guest guest;

	begin(&guest, CLEAT_DEVICE_SECURE, CLEAT_READ);
	ATF_CHECK_EQ(EACCES, copy(&guest, GUEST, GUEST + 0x80000, 4096));
	ATF_CHECK_EQ(0, guest.host[0x80000]);
	end(&guest);
}

CLEAT_TC(copy__secure_after_removal)
{
	struct guest guest;

	begin(&guest, CLEAT_DEVICE_SECURE, CLEAT_READ | CLEAT_WRITE);
	ATF_CHECK_EQ(0x10002, copy(&guest, GUEST, GUEST + 4096, 4096));
	ATF_REQUIRE_EQ(0, cleat_memory_remove(guest.memory, GUEST, LENGTH));
	ATF_CHECK(copy(&guest, GUEST, GUEST + 4096, 4096) < 0x10000);
	end(&guest);
}

/* --- A server that ends itself at DMA_UNMAP ------------------------------------------ */

static int note_fds(struct model *model, const struct peer_message *m)
{
	unsigned *fds = model->arg;

	if (m->header.flags & PEER_REPLY)
		return 1;
	if (m->header.command == VFIO_USER_DMA_UNMAP)
		return -EPIPE;
	*fds += m->nr_fds;
	return 0;
}

struct frail {
	struct scene scene;
	struct cleat_memory *memory;
	unsigned fds;
	void *host;
	int fd;
};

static void begin_frail(struct frail *frail, uint32_t flags)
{
	struct cleat_memory_range range = {
		.size = sizeof(range),
		.rights = CLEAT_READ | CLEAT_WRITE,
		.guest = GUEST,
		.length = LENGTH,
	};

	scene_begin(&frail->scene);
	frail->fds = 0;
	frail->scene.bad.on = note_fds;
	frail->scene.bad.arg = &frail->fds;
	frail->scene.config.peer = "usbvfiod";
	frail->scene.config.flags = flags;
	scene_open(&frail->scene);
	frail->fd = cleat_memory_alloc(LENGTH, 0, &frail->host, NULL);
	range.host = frail->host;
	range.fd = frail->fd;
	ATF_REQUIRE_EQ(0, cleat_memory_create(&frail->memory));
	ATF_REQUIRE_EQ(0, cleat_memory_add(frail->memory, &range));
	ATF_REQUIRE_EQ(0, cleat_memory_attach(frail->memory,
					      frail->scene.dev));
}

static void end_frail(struct frail *frail)
{
	scene_stands(&frail->scene);
	ATF_CHECK_EQ(0, model_count(&frail->scene.bad, VFIO_USER_DMA_UNMAP));
	scene_end(&frail->scene);
	cleat_memory_unref(frail->memory);
	munmap(frail->host, LENGTH);
	close(frail->fd);
}

/* What the file was given of cannot be taken back: not begun. */
CLEAT_TC(no_unmap__with_its_file)
{
	struct frail frail;

	begin_frail(&frail, 0);
	ATF_CHECK_EQ(1, frail.fds);
	ATF_CHECK_EQ(-EOPNOTSUPP,
		     cleat_memory_remove(frail.memory, GUEST, LENGTH));
	ATF_CHECK_EQ(-EOPNOTSUPP,
		     cleat_memory_detach(frail.memory, frail.scene.dev));
	/* It is still there, for this device and for others. */
	ATF_CHECK_EQ(0, cleat_memory_attach(frail.memory,
					    frail.scene.friend));
	ATF_CHECK_EQ(1, model_count(&frail.scene.good, VFIO_USER_DMA_MAP));
	end_frail(&frail);
}

CLEAT_TC(no_unmap__secure)
{
	struct frail frail;

	begin_frail(&frail, CLEAT_DEVICE_SECURE);
	ATF_CHECK_EQ(0, frail.fds);
	ATF_CHECK_EQ(0, cleat_memory_remove(frail.memory, GUEST, LENGTH));
	ATF_CHECK_EQ(0, cleat_memory_detach(frail.memory, frail.scene.dev));
	end_frail(&frail);
}

static int refuse_map(struct model *model, const struct peer_message *m)
{
	if (m->header.command != VFIO_USER_DMA_MAP)
		return 0;
	return peer_reply_error(model->fd, m, ENOMEM) ? -EPIPE : 1;
}

/* Another device refuses a range that this one was given the file of. */
CLEAT_TC(no_unmap__mapped_in_vain)
{
	struct cleat_memory_range range = {
		.size = sizeof(range), .rights = CLEAT_READ,
		.guest = 1ull << 32, .length = 4096,
	};
	struct frail frail;

	begin_frail(&frail, 0);
	ATF_REQUIRE_EQ(0, cleat_memory_attach(frail.memory,
					      frail.scene.friend));
	frail.scene.good.on = refuse_map;
	range.host = frail.host;
	range.fd = frail.fd;
	ATF_CHECK_EQ(-ENOMEM, cleat_memory_add(frail.memory, &range));
	scene_lost(&frail.scene, -EOPNOTSUPP, "cannot give memory back");
	scene_end(&frail.scene);
	cleat_memory_unref(frail.memory);
	munmap(frail.host, LENGTH);
	close(frail.fd);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, copy__with_its_file);
	ATF_TP_ADD_TC(tp, copy__secure);
	ATF_TP_ADD_TC(tp, copy__secure_without_a_twin);
	ATF_TP_ADD_TC(tp, copy__secure_to_read_only);
	ATF_TP_ADD_TC(tp, copy__secure_after_removal);
	ATF_TP_ADD_TC(tp, no_unmap__with_its_file);
	ATF_TP_ADD_TC(tp, no_unmap__secure);
	ATF_TP_ADD_TC(tp, no_unmap__mapped_in_vain);
	return atf_no_error();
}
