/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cleat/memory.h>

#include "wire/wire.h"

#define HUGE_PAGE (2u << 20)
#define SMALL_PAGE 4096u

#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21u << 26)
#endif

static int complain(struct cleat_error *reterr, const char *what, uint64_t n)
{
	int code = errno;

	return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -code,
			  "cannot %s %llu bytes of guest memory: %s", what,
			  (unsigned long long)n, strerror(code));
}

static int check(uint64_t length, uint32_t flags, struct cleat_error *reterr)
{
	uint64_t page = flags & CLEAT_MEMORY_HUGETLB ? HUGE_PAGE : SMALL_PAGE;

	if (flags & ~CLEAT_MEMORY_HUGETLB)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "guest memory: unknown flags %#x", flags);
	if (!length || length % page || length > INT64_MAX - HUGE_PAGE)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "guest memory: %llu bytes are not a multiple "
				  "of %llu", (unsigned long long)length,
				  (unsigned long long)page);
	return 0;
}

/*
 * Without F_SEAL_SEAL a server could seal the file against writing, and with it
 * the guest out of its own memory.
 */
static int make_file(uint64_t length, uint32_t flags)
{
	unsigned mfd = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int fd, code;

	if (flags & CLEAT_MEMORY_HUGETLB)
		mfd |= MFD_HUGETLB | MFD_HUGE_2MB;
	fd = memfd_create("cleat-memory", mfd);
	if (fd < 0)
		return -1;
	if (!ftruncate(fd, (off_t)length) &&
	    !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return fd;
	code = errno;
	close(fd);
	errno = code;
	return -1;
}

/* 2 MiB-aligned, so that the host can back it with large pages. */
static void *map_aligned(int fd, uint64_t length)
{
	char *start, *aligned, *map;
	size_t before;

	start = mmap(NULL, length + HUGE_PAGE, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (start == MAP_FAILED)
		return start;
	before = -(uintptr_t)start % HUGE_PAGE;
	aligned = start + before;
	map = mmap(aligned, length, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_FIXED, fd, 0);
	if (map == MAP_FAILED) {
		int code = errno;

		munmap(start, length + HUGE_PAGE);
		errno = code;
		return map;
	}
	if (before)
		munmap(start, before);
	munmap(aligned + length, HUGE_PAGE - before);
	return map;
}

int cleat_memory_alloc(uint64_t length, uint32_t flags, void **ret_host,
		       struct cleat_error *reterr)
{
	int err = check(length, flags, reterr);
	void *host;
	int fd;

	if (err)
		return err;
	fd = make_file(length, flags);
	if (fd < 0)
		return complain(reterr, "make", length);
	host = map_aligned(fd, length);
	if (host == MAP_FAILED) {
		err = complain(reterr, "map", length);
		close(fd);
		return err;
	}
	*ret_host = host;
	return fd;
}
