/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cleat/memory.h>

#include "tests/support/support.h"

#define MIB (1u << 20)

CLEAT_TC(alloc__sealed)
{
	int wanted = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	struct stat stat;
	char *host;
	int fd = cleat_memory_alloc(3 * MIB, 0, (void **)&host, NULL);

	ATF_REQUIRE(fd >= 0);
	ATF_REQUIRE_EQ(0, fstat(fd, &stat));
	ATF_REQUIRE_EQ(3 * MIB, stat.st_size);
	ATF_REQUIRE_EQ(wanted, fcntl(fd, F_GET_SEALS));
	ATF_REQUIRE_EQ(-1, ftruncate(fd, 4096));
	ATF_REQUIRE_EQ(-1, fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
	ATF_REQUIRE(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	munmap(host, 3 * MIB);
	close(fd);
}

CLEAT_TC(alloc__mapped)
{
	char byte, *host;
	int fd = cleat_memory_alloc(3 * MIB, 0, (void **)&host, NULL);

	ATF_REQUIRE(fd >= 0);
	ATF_REQUIRE_EQ(0, (uintptr_t)host % (2 * MIB));
	host[3 * MIB - 1] = 'x';
	ATF_REQUIRE_EQ(1, pread(fd, &byte, 1, 3 * MIB - 1));
	ATF_REQUIRE_EQ('x', byte);
	munmap(host, 3 * MIB);
	close(fd);
}

CLEAT_TC(alloc__impossible)
{
	static const struct {
		uint64_t length;
		uint32_t flags;
		int err;
	} tries[] = {
		{ 0, 0, -EINVAL },
		{ 4095, 0, -EINVAL },
		{ 4097, 0, -EINVAL },
		{ 4096, 0x80, -EINVAL },
		{ 4096, CLEAT_MEMORY_HUGETLB, -EINVAL },
		{ UINT64_MAX - 4095, 0, -EINVAL },
		{ 1ull << 62, 0, -ENOMEM },
	};

	skip_on_valgrind("it says itself what is too large");
	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		struct cleat_error why = { 0 };
		void *host = NULL;

		ATF_CHECK_EQ(tries[i].err,
			     cleat_memory_alloc(tries[i].length, tries[i].flags,
						&host, &why));
		ATF_CHECK_EQ(tries[i].err, why.code);
		ATF_CHECK(why.text[0]);
		ATF_CHECK(!host);
	}
}

CLEAT_TC(alloc__huge_pages)
{
	struct cleat_error why;
	void *host;
	int fd = cleat_memory_alloc(2 * MIB, CLEAT_MEMORY_HUGETLB, &host,
				    &why);

	if (fd == -ENOMEM)
		atf_tc_skip("this machine has set no huge pages aside");
	ATF_REQUIRE_MSG(fd >= 0, "%s", why.text);
	ATF_REQUIRE(fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK);
	munmap(host, 2 * MIB);
	close(fd);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, alloc__sealed);
	ATF_TP_ADD_TC(tp, alloc__mapped);
	ATF_TP_ADD_TC(tp, alloc__impossible);
	ATF_TP_ADD_TC(tp, alloc__huge_pages);
	return atf_no_error();
}
