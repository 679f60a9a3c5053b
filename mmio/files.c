/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Files of the server's. It chose them, so that what is mapped is looked at
 * first: a file on a file system of the server's making could stop a vCPU for
 * ever at its first load, and a file that shrinks takes its pages with it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "mmio/private.h"

/* Of one region. The process has 65,530 of them by default, for everything. */
#define MAX_MAPS 1024

static const char why_file_system[] =
	"its file is not on tmpfs or hugetlbfs";
static const char why_too_small[] = "its file is smaller than that";
static const char why_shrinks[] = "its file can shrink (no F_SEAL_SHRINK)";
static const char why_huge[] = "its file is of huge pages, which can run out";
static const char why_no_map[] = "its file cannot be mapped";
static const char why_too_many[] = "too many mappings in one region";

/*
 * Bytes that a mapping of the file is made of, or 0: not a file for us. Only
 * tmpfs and hugetlbfs have seals, which the kernel tells without asking the
 * file system: fstat() of a file on one of the server's making would wait for
 * the server.
 */
static uint64_t grain_of(int fd)
{
	struct statfs fs;
	struct stat st;

	if (fcntl(fd, F_GET_SEALS) < 0)
		return 0;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || fstatfs(fd, &fs))
		return 0;
	if ((uint32_t)fs.f_type == TMPFS_MAGIC)
		return (uint64_t)sysconf(_SC_PAGESIZE);
	/* Mappings of hugetlbfs begin and end at its own pages. */
	if ((uint32_t)fs.f_type == HUGETLBFS_MAGIC)
		return (uint64_t)fs.f_bsize;
	return 0;
}

static bool is_large_enough(int fd, uint64_t end)
{
	struct stat st;

	return !fstat(fd, &st) && st.st_size >= 0 &&
	       (uint64_t)st.st_size >= end;
}

static void map_pages(struct cleat_file_map *map, bool write)
{
	void *host = MAP_FAILED;

	if (write)
		host = mmap(NULL, map->length, PROT_READ | PROT_WRITE,
			    MAP_SHARED, map->fd, (off_t)map->start);
	map->writable = host != MAP_FAILED;
	if (host == MAP_FAILED)
		host = mmap(NULL, map->length, PROT_READ, MAP_SHARED, map->fd,
			    (off_t)map->start);
	if (host == MAP_FAILED)
		map->why = why_no_map;
	else
		map->host = host;
}

static void judge_file(struct cleat_file_map *map, uint64_t offset,
		       uint64_t length, bool write)
{
	uint64_t grain = grain_of(map->fd), end = offset + length;
	bool huge = grain > (uint64_t)sysconf(_SC_PAGESIZE);
	int seals = fcntl(map->fd, F_GET_SEALS);
	bool sealed = seals >= 0 && seals & F_SEAL_SHRINK;

	/* The seal allows holes, and the pool may be empty when one is hit. */
	map->safe = sealed && !huge;
	if (!map->safe)
		map->why = sealed ? why_huge : why_shrinks;
	/* Looked at after the seals: once sealed, the size holds. */
	if (!grain)
		map->why = why_file_system;
	else if (end < offset || end > INT64_MAX - grain ||
		 !is_large_enough(map->fd, end))
		map->why = why_too_small;
	if (map->why && map->why != why_shrinks && map->why != why_huge)
		return;
	map->start = offset / grain * grain;
	map->length = (end - map->start + grain - 1) / grain * grain;
	map_pages(map, write);
}

static struct cleat_file_map *find_map(struct cleat_binding *binding, int fd,
				       uint64_t offset, uint64_t length,
				       bool write)
{
	for (unsigned i = 0; i < binding->num_maps; i++) {
		struct cleat_file_map *map = &binding->maps[i];

		if (map->fd == fd && map->host && offset >= map->start &&
		    offset - map->start <= map->length &&
		    length <= map->length - (offset - map->start) &&
		    (map->writable || !write) &&
		    is_large_enough(fd, offset + length))
			return map;
	}
	return NULL;
}

/* A place for one more; doubled at each power of two. */
static bool make_room(struct cleat_binding *binding)
{
	unsigned num = binding->num_maps;
	struct cleat_file_map *maps;

	if (num & (num - 1))
		return true;
	maps = reallocarray(binding->maps, num ? 2 * (size_t)num : 1,
			    sizeof(*maps));
	if (maps)
		binding->maps = maps;
	return maps;
}

struct cleat_file_map *cleat_file_map(struct cleat_binding *binding, int fd,
				      uint64_t offset, uint64_t length,
				      bool write)
{
	static struct cleat_file_map none = { .why = why_too_many };
	struct cleat_file_map *map =
		find_map(binding, fd, offset, length, write);

	if (map)
		return map;
	if (binding->num_maps == MAX_MAPS)
		return &none;
	if (!make_room(binding))
		return NULL;
	map = &binding->maps[binding->num_maps++];
	*map = (struct cleat_file_map){ .fd = fd };
	judge_file(map, offset, length, write);
	return map;
}

uint8_t *cleat_file_host(const struct cleat_file_map *map, uint64_t offset)
{
	return map->host ? map->host + (offset - map->start) : NULL;
}

void cleat_file_keep(struct cleat_binding *binding, const uint8_t *host)
{
	for (unsigned i = 0; i < binding->num_maps; i++) {
		struct cleat_file_map *map = &binding->maps[i];

		if (map->host &&
		    (uintptr_t)host - (uintptr_t)map->host < map->length)
			map->host = NULL;
	}
}

void cleat_files_unmap(struct cleat_binding *binding)
{
	for (unsigned i = 0; i < binding->num_maps; i++)
		if (binding->maps[i].host)
			munmap(binding->maps[i].host, binding->maps[i].length);
	free(binding->maps);
	binding->maps = NULL;
	binding->num_maps = 0;
}
