/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Copies that are made to last: the guest page they touch is not there, and
 * whoever touches it waits until the case puts it in (userfaultfd).
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "dma/dma.h"
#include "tests/dma/server.h"

struct slow_page {
	int uffd;
	char *host;
};

static void slow_page_make(struct slow_page *page)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	page->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (page->uffd < 0 || ioctl(page->uffd, UFFDIO_API, &api))
		atf_tc_skip("no userfaultfd here: %s", strerror(errno));
	page->host = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ATF_REQUIRE(page->host != MAP_FAILED);
	range.range.start = (uintptr_t)page->host;
	range.range.len = PAGE;
	ATF_REQUIRE_EQ(0, ioctl(page->uffd, UFFDIO_REGISTER, &range));
}

/* Returns when somebody waits for the page. */
static void slow_page_wanted(struct slow_page *page)
{
	struct uffd_msg msg;

	ATF_REQUIRE(wait_fd(page->uffd, POLLIN, PATIENCE_MS));
	ATF_REQUIRE_EQ(sizeof(msg), read(page->uffd, &msg, sizeof(msg)));
	ATF_REQUIRE_EQ(UFFD_EVENT_PAGEFAULT, msg.event);
}

static void slow_page_fill(struct slow_page *page, int byte)
{
	static char data[PAGE];
	struct uffdio_copy copy = {
		.dst = (uintptr_t)page->host,
		.src = (uintptr_t)data,
		.len = PAGE,
	};

	memset(data, byte, sizeof(data));
	ATF_REQUIRE_EQ(0, ioctl(page->uffd, UFFDIO_COPY, &copy));
}

static void slow_page_free(struct slow_page *page)
{
	munmap(page->host, PAGE);
	close(page->uffd);
}

static struct cleat_memory *memory_of(struct slow_page *page)
{
	struct cleat_memory_range range = {
		.size = sizeof(range),
		.rights = READ_WRITE,
		.length = PAGE,
		.host = page->host,
		.fd = -1,
	};
	struct cleat_memory *memory;

	ATF_REQUIRE_EQ(0, cleat_memory_create(&memory));
	ATF_REQUIRE_EQ(0, cleat_memory_add(memory, &range));
	return memory;
}

struct reader {
	struct cleat_memory *memory;
	char buf[8];
};

static int copy_out(void *arg)
{
	struct reader *reader = arg;

	return cleat_dma_copy(reader->memory, 0, reader->buf,
			      sizeof(reader->buf), CLEAT_READ);
}

struct remover {
	struct cleat_memory *memory;
	int done;
};

static int remove_range(void *arg)
{
	struct remover *remover = arg;
	int err = cleat_memory_remove(remover->memory, 0, PAGE);
	uint64_t one = 1;

	if (write(remover->done, &one, sizeof(one)) != sizeof(one))
		return -EIO;
	return err;
}

CLEAT_TC(remove__waits_for_a_copy)
{
	struct slow_page page;
	struct reader reader;
	struct remover remover;
	struct script copying, removing;
	char byte;

	slow_page_make(&page);
	reader.memory = remover.memory = memory_of(&page);
	remover.done = eventfd(0, EFD_CLOEXEC);
	script_start(&copying, copy_out, &reader);
	slow_page_wanted(&page);
	script_start(&removing, remove_range, &remover);
	/* It cannot be out while a copy is at it. */
	ATF_REQUIRE_EQ(0, wait_eventfd(remover.done, 200));
	slow_page_fill(&page, 'x');
	ATF_REQUIRE_EQ(1, wait_eventfd(remover.done, PATIENCE_MS));
	script_end(&copying);
	script_end(&removing);
	ATF_REQUIRE(!memcmp(reader.buf, "xxxxxxxx", 8));
	ATF_REQUIRE_EQ(-EFAULT, cleat_dma_copy(remover.memory, 0, &byte, 1,
					       CLEAT_READ));
	cleat_memory_unref(remover.memory);
	close(remover.done);
	slow_page_free(&page);
}

/* A copy that stands still holds up nobody who has other pages to copy. */
CLEAT_TC(copy__beside_a_slow_one)
{
	struct slow_page page;
	struct script copying;
	struct reader reader;
	struct ram ram;
	struct cleat_memory_range range;
	char byte;

	slow_page_make(&page);
	ram_make(&ram, 1);
	reader.memory = memory_of(&page);
	script_start(&copying, copy_out, &reader);
	slow_page_wanted(&page);
	range = ram_range(&ram, PAGE, 0, 1, READ_WRITE);
	ATF_REQUIRE_EQ(0, cleat_memory_add(reader.memory, &range));
	ATF_REQUIRE_EQ(0, cleat_dma_copy(reader.memory, PAGE, &byte, 1,
					 CLEAT_READ));
	ATF_REQUIRE_EQ(0, cleat_memory_remove(reader.memory, PAGE, PAGE));
	slow_page_fill(&page, 'y');
	script_end(&copying);
	cleat_memory_unref(reader.memory);
	ram_free(&ram);
	slow_page_free(&page);
}

/* Gives back one of the two, and says so. */
struct closer {
	struct cleat_device *dev;
	struct cleat_memory *memory;
	int done;
};

static int give_back(void *arg)
{
	struct closer *closer = arg;
	uint64_t one = 1;

	cleat_device_unref(closer->dev);
	cleat_memory_unref(closer->memory);
	return write(closer->done, &one, sizeof(one)) == sizeof(one) ? 0 : -EIO;
}

/* Whichever is given back first, by whatever thread. */
static void unref_while_served(bool device_first)
{
	struct server server = { 0 };
	struct closer closers[2] = { { .done = eventfd(0, EFD_CLOEXEC) },
				     { .done = eventfd(0, EFD_CLOEXEC) } };
	struct script scripts[2];
	const uint64_t fixed[2] = { 0, 8 };
	struct slow_page page;

	slow_page_make(&page);
	server_open(&server);
	closers[device_first].memory = memory_of(&page);
	closers[!device_first].dev = server.dev;
	ATF_REQUIRE_EQ(0, cleat_memory_attach(closers[device_first].memory,
					      server.dev));
	server.dev = NULL;
	ATF_REQUIRE_EQ(0, peer_command(server.fd, 1, SERVER_READ, fixed,
				       sizeof(fixed), NULL, 0));
	slow_page_wanted(&page);
	for (int i = 0; i < 2; i++) {
		script_start(&scripts[i], give_back, &closers[i]);
		ATF_REQUIRE_EQ(0, wait_eventfd(closers[i].done, 200));
	}
	slow_page_fill(&page, 'z');
	for (int i = 0; i < 2; i++) {
		script_end(&scripts[i]);
		close(closers[i].done);
	}
	server_close(&server);
	slow_page_free(&page);
}

CLEAT_TC(unref__device_then_memory_while_served)
{
	unref_while_served(true);
}

CLEAT_TC(unref__memory_then_device_while_served)
{
	unref_while_served(false);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, remove__waits_for_a_copy);
	ATF_TP_ADD_TC(tp, copy__beside_a_slow_one);
	ATF_TP_ADD_TC(tp, unref__device_then_memory_while_served);
	ATF_TP_ADD_TC(tp, unref__memory_then_device_while_served);
	return atf_no_error();
}
