/* SPDX-License-Identifier: BSD-2-Clause */
/* cleat-probe: each way in and each way out, and how it goes wrong. */
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/backends/probe_host.h"

#define IRQ_INTX 0
#define IRQ_MSI 1
#define IRQ_MSIX 2
#define CONFIG 7
#define RAM (1u << 20)
#define BASE 0x200000u

static void close_all(const int *fds, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		close(fds[i]);
}

static void enable_msix(struct probe_host *host)
{
	uint64_t at = probe_read(host, CONFIG, PCI_CAPABILITY_LIST, 1);

	while (at && probe_read(host, CONFIG, at, 1) != PCI_CAP_ID_MSIX)
		at = probe_read(host, CONFIG, at + 1, 1);
	ATF_REQUIRE(at);
	probe_write(host, CONFIG, at + PCI_MSIX_FLAGS, 2,
		    PCI_MSIX_FLAGS_ENABLE);
}

CLEAT_TC(registers__say_and_keep)
{
	struct probe_host host;

	probe_start(&host, NULL);
	ATF_CHECK_EQ(PROBE_MAGIC, probe_reg(&host, PROBE_ID));
	ATF_CHECK_EQ(PROBE_VERSION, probe_reg(&host, PROBE_VERSION_REG));
	ATF_CHECK_EQ(0x7f, probe_reg(&host, PROBE_FEATURES));
	ATF_CHECK_EQ(16, probe_reg(&host, PROBE_VECTORS));
	probe_set(&host, PROBE_SCRATCH, 0xdeadbeef);
	ATF_CHECK_EQ(0xdeadbeef, probe_reg(&host, PROBE_SCRATCH));
	probe_write(&host, 0, PROBE_SCRATCH64, 8, 0x1122334455667788);
	ATF_CHECK_EQ(0x1122334455667788, probe_read(&host, 0, PROBE_SCRATCH64,
						    8));
	ATF_CHECK_EQ(0x3344, probe_read(&host, 0, PROBE_SCRATCH64 + 4, 2));
	ATF_CHECK_EQ(PROBE_MAGIC, probe_read(&host, PROBE_BAR_IO, 0, 4));
	probe_write(&host, PROBE_BAR_IO, PROBE_IO_SCRATCH, 4, 99);
	ATF_CHECK_EQ(99, probe_read(&host, PROBE_BAR_IO, PROBE_IO_SCRATCH, 1));
	ATF_CHECK_EQ(0, probe_call(&host, VFIO_USER_DEVICE_RESET, NULL, 0, NULL,
				   0, NULL));
	ATF_CHECK_EQ(0, probe_reg(&host, PROBE_SCRATCH));
	ATF_CHECK_EQ(1, probe_counter(&host, PROBE_RESETS));
	ATF_CHECK_EQ(2, probe_counter(&host,
				      PROBE_MESSAGE_READS(PROBE_BAR_IO)));
	probe_set(&host, PROBE_CLEAR, 1);
	ATF_CHECK_EQ(0, probe_counter(&host, PROBE_RESETS));
	probe_stop(&host);
}

/* Rings each entry as KVM would, and sees it counted as an event. */
static void ring_all(struct probe_host *host, uint32_t region, unsigned expect)
{
	struct cleat_wire_io_fd *entries;
	struct peer_message reply;
	uint64_t one = 1;
	unsigned count = probe_io_fds(host, region, &entries, &reply);

	ATF_REQUIRE_EQ(expect, count);
	for (unsigned i = 0; i < count; i++)
		ATF_REQUIRE_EQ(8, write(reply.fds[entries[i].fd_index], &one,
					8));
	free(entries);
	peer_message_end(&reply);
}

CLEAT_TC(doorbells__by_eventfd)
{
	static const char *const extra[] = { "--no-shadow", NULL };
	struct probe_host host;

	probe_start(&host, extra);
	ring_all(&host, PROBE_BAR_DOORBELLS, 7 + 8 + 8);
	ring_all(&host, PROBE_BAR_IO, 2);
	for (unsigned i = 0; i < PROBE_MATCHES; i++)
		REQUIRE_SOON(probe_counter(&host,
					   PROBE_EVENTS(PROBE_DB_MATCH(i))) ==
			     1);
	for (unsigned i = 0; i < PROBE_ECHOES; i++)
		REQUIRE_SOON(probe_counter(&host,
					   PROBE_EVENTS(PROBE_DB_ECHO(i))) ==
			     1);
	REQUIRE_SOON(probe_counter(&host, PROBE_EVENTS(PROBE_DB_SHARED)) == 2);
	REQUIRE_SOON(probe_counter(&host, PROBE_EVENTS(PROBE_DB_IO_4)) == 1);
	ATF_REQUIRE_EQ(0, probe_counter(&host, PROBE_MESSAGES(PROBE_DB_4)));
	probe_stop(&host);
}

CLEAT_TC(doorbells__by_message)
{
	static const char *const extra[] = { "--no-ioeventfd", "--no-shadow",
					     NULL };
	struct cleat_wire_io_fd *entries;
	struct peer_message reply;
	struct probe_host host;

	probe_start(&host, extra);
	ATF_REQUIRE_EQ(0, probe_io_fds(&host, 1, &entries, &reply));
	peer_message_end(&reply);
	probe_write(&host, 1, PROBE_AT_ANY, 2, 5);
	probe_write(&host, 1, PROBE_AT_8, 8, 1ull << 40);
	probe_write(&host, 1, PROBE_AT_MATCH, 4, 3);
	probe_write(&host, 1, PROBE_AT_MATCH, 4, 77);
	probe_write(&host, 1, PROBE_AT_SHADOW(15), 4, 6);
	probe_write(&host, 1, 0x1ff8, 4, 6);
	probe_write(&host, PROBE_BAR_IO, PROBE_IO_AT_MESSAGE, 1, 7);
	ATF_CHECK_EQ(1, probe_counter(&host, PROBE_MESSAGES(PROBE_DB_ANY)));
	ATF_CHECK_EQ(1ull << 40, probe_counter(&host,
					       PROBE_VALUE(PROBE_DB_8)));
	ATF_CHECK_EQ(1, probe_counter(&host,
				      PROBE_MESSAGES(PROBE_DB_MATCH(3))));
	ATF_CHECK_EQ(77, probe_counter(&host,
				       PROBE_VALUE(PROBE_DB_NO_MATCH)));
	ATF_CHECK_EQ(6, probe_counter(&host,
				      PROBE_VALUE(PROBE_DB_SHADOW(15))));
	ATF_CHECK_EQ(7, probe_counter(&host,
				      PROBE_VALUE(PROBE_DB_IO_MESSAGE)));
	ATF_CHECK_EQ(0, probe_counter(&host, PROBE_WAKEUPS));
	probe_stop(&host);
}

CLEAT_TC(doorbells__by_shadow)
{
	static const char *const extra[] = { "--no-ioeventfd", NULL };
	struct cleat_wire_io_fd *entries;
	struct peer_message reply;
	struct probe_host host;
	uint64_t one = 1;
	char *page;

	probe_start(&host, extra);
	ATF_REQUIRE_EQ(PROBE_SHADOWS, probe_io_fds(&host, 1, &entries,
						   &reply));
	page = map_fd(reply.fds[entries[3].shadow_fd_index], 4096,
		      PROT_READ | PROT_WRITE);
	__atomic_store_n((uint32_t *)(page + entries[3].shadow_offset), 42,
			 __ATOMIC_RELEASE);
	ATF_REQUIRE_EQ(8, write(reply.fds[entries[3].fd_index], &one, 8));
	REQUIRE_SOON(probe_counter(&host,
				   PROBE_EVENTS(PROBE_DB_SHADOW(3))) == 1);
	ATF_REQUIRE_EQ(42, probe_counter(&host,
					 PROBE_VALUE(PROBE_DB_SHADOW(3))));
	ATF_REQUIRE_EQ(1, probe_counter(&host, PROBE_SHADOW_KICKS));
	munmap(page, 4096);
	free(entries);
	peer_message_end(&reply);
	probe_stop(&host);
}

CLEAT_TC(pages__mapped_and_by_message)
{
	struct cleat_wire_region region;
	struct peer_message reply;
	struct probe_host host;
	char *pages;
	int fd;

	probe_start(&host, NULL);
	probe_region(&host, PROBE_BAR_PAGES, &region, &reply);
	ATF_REQUIRE_EQ(2, region.num_areas);
	ATF_REQUIRE_EQ(PROBE_AREA_0, region.areas[0].offset);
	ATF_REQUIRE_EQ(PROBE_AREA_1_LENGTH, region.areas[1].length);
	pages = map_fd(reply.fds[0], PROBE_PAGES_LENGTH,
		       PROT_READ | PROT_WRITE);
	strcpy(pages + PROBE_AREA_1, "mapped");
	ATF_REQUIRE_EQ('m', probe_read(&host, 2, PROBE_AREA_1, 1));
	probe_write(&host, 2, PROBE_AREA_1, 1, 'M');
	ATF_REQUIRE_STREQ("Mapped", pages + PROBE_AREA_1);
	/* The mapped doorbell, first unwatched, then watched. */
	*(volatile uint32_t *)(pages + PROBE_MAPPED_DOORBELL) = 1;
	probe_set(&host, PROBE_POLL, 1);
	REQUIRE_SOON(probe_counter(&host, PROBE_VALUE(PROBE_DB_MAPPED)) == 1);
	probe_arm(&host, IRQ_INTX, 1, &fd);
	probe_set(&host, PROBE_ECHO, PROBE_ECHO_ON);
	*(volatile uint32_t *)(pages + PROBE_MAPPED_DOORBELL) = 2;
	ATF_REQUIRE_EQ(1, wait_eventfd(fd, PATIENCE_MS));
	close(fd);
	munmap(pages, PROBE_PAGES_LENGTH);
	cleat_wire_region_free(&region);
	peer_message_end(&reply);
	probe_stop(&host);
}

CLEAT_TC(irqs__on_command)
{
	int fds[16], msi[4], intx;
	struct probe_host host;

	probe_start(&host, NULL);
	probe_set(&host, PROBE_IRQ_RAISE, PROBE_IRQ_MSIX | 2);
	ATF_REQUIRE_EQ(1, probe_counter(&host, PROBE_IRQS_LOST));
	probe_arm(&host, IRQ_MSIX, 16, fds);
	probe_arm(&host, IRQ_MSI, 4, msi);
	probe_arm(&host, IRQ_INTX, 1, &intx);
	probe_set(&host, PROBE_IRQ_RAISE, PROBE_IRQ_MSIX | 15);
	ATF_REQUIRE_EQ(1, wait_eventfd(fds[15], 0));
	probe_set(&host, PROBE_IRQ_RAISE, PROBE_IRQ_MSI | 3);
	ATF_REQUIRE_EQ(1, wait_eventfd(msi[3], 0));
	/* Nothing is enabled: the line. */
	probe_set(&host, PROBE_IRQ_RAISE, PROBE_IRQ_ENABLED);
	ATF_REQUIRE_EQ(1, wait_eventfd(intx, 0));
	ATF_REQUIRE(probe_read(&host, CONFIG, PCI_STATUS, 2) &
		    PCI_STATUS_INTERRUPT);
	probe_set(&host, PROBE_IRQ_LOWER, 1);
	ATF_REQUIRE(!(probe_read(&host, CONFIG, PCI_STATUS, 2) &
		      PCI_STATUS_INTERRUPT));
	enable_msix(&host);
	probe_set(&host, PROBE_IRQ_RAISE, PROBE_IRQ_ENABLED | 7);
	ATF_REQUIRE_EQ(1, wait_eventfd(fds[7], 0));
	ATF_REQUIRE_EQ(4, probe_counter(&host, PROBE_IRQS_RAISED));
	close_all(fds, 16);
	close_all(msi, 4);
	close(intx);
	probe_stop(&host);
}

CLEAT_TC(irqs__train)
{
	int fds[16];
	struct probe_host host;

	probe_start(&host, NULL);
	probe_arm(&host, IRQ_MSIX, 16, fds);
	probe_set(&host, PROBE_IRQ_COUNT, 5);
	probe_set(&host, PROBE_IRQ_DELAY_US, 300);
	probe_set(&host, PROBE_IRQ_RAISE, PROBE_IRQ_MSIX | 1);
	REQUIRE_SOON(probe_counter(&host, PROBE_IRQS_RAISED) == 5);
	ATF_REQUIRE_EQ(5, wait_eventfd(fds[1], 0));
	ATF_REQUIRE_EQ(0, probe_reg(&host, PROBE_STATUS));
	/* A reset ends one that would take an hour. */
	probe_set(&host, PROBE_IRQ_DELAY_US, 3600000000u);
	probe_set(&host, PROBE_IRQ_RAISE, PROBE_IRQ_MSIX | 1);
	ATF_REQUIRE_EQ(PROBE_STATUS_IRQS, probe_reg(&host, PROBE_STATUS));
	ATF_REQUIRE_EQ(0, probe_call(&host, VFIO_USER_DEVICE_RESET, NULL, 0,
				     NULL, 0, NULL));
	ATF_REQUIRE_EQ(0, probe_reg(&host, PROBE_STATUS));
	close_all(fds, 16);
	probe_stop(&host);
}

static uint64_t stamp_of(struct probe_host *host, unsigned n)
{
	return probe_read(host, PROBE_BAR_PAGES, PROBE_STAMPS + 8 * n, 8);
}

CLEAT_TC(irqs__stamped)
{
	struct probe_host host;

	probe_start(&host, NULL);
	probe_set(&host, PROBE_IRQ_RAISE, PROBE_IRQ_MSIX | 1);
	ATF_CHECK_EQ(0, stamp_of(&host, 0));
	probe_set(&host, PROBE_STAMP, 1);
	for (unsigned i = 0; i < 3; i++)
		probe_set(&host, PROBE_IRQ_RAISE, PROBE_IRQ_MSIX | 1);
	ATF_CHECK(stamp_of(&host, 0) > 0);
	ATF_CHECK(stamp_of(&host, 1) > stamp_of(&host, 0));
	ATF_CHECK(stamp_of(&host, 2) > stamp_of(&host, 1));
	ATF_CHECK_EQ(0, stamp_of(&host, 3));
	/* From the first place again. */
	probe_set(&host, PROBE_STAMP, 1);
	probe_set(&host, PROBE_IRQ_RAISE, PROBE_IRQ_MSIX | 1);
	ATF_CHECK(stamp_of(&host, 0) > stamp_of(&host, 2));
	ATF_CHECK_EQ(0, stamp_of(&host, 3));
	probe_stop(&host);
}

CLEAT_TC(echo__doorbell_to_interrupt)
{
	struct cleat_wire_io_fd *entries;
	struct peer_message reply;
	struct probe_host host;
	uint64_t one = 1;
	unsigned count, i;
	int fds[16];

	probe_start(&host, NULL);
	probe_arm(&host, IRQ_MSIX, 16, fds);
	enable_msix(&host);
	probe_set(&host, PROBE_ECHO, PROBE_ECHO_ON | 4);
	count = probe_io_fds(&host, 1, &entries, &reply);
	for (i = 0; i < count && entries[i].offset != PROBE_AT_ECHO(3); i++)
		;
	ATF_REQUIRE(i < count);
	for (unsigned round = 0; round < 100; round++) {
		ATF_REQUIRE_EQ(8, write(reply.fds[entries[i].fd_index], &one,
					8));
		ATF_REQUIRE_EQ(1, wait_eventfd(fds[7], PATIENCE_MS));
	}
	probe_write(&host, 1, PROBE_AT_MESSAGE, 4, 1);
	ATF_REQUIRE_EQ(1, wait_eventfd(fds[4], 0));
	ATF_REQUIRE_EQ(100, probe_counter(&host,
					  PROBE_EVENTS(PROBE_DB_ECHO(3))));
	free(entries);
	peer_message_end(&reply);
	close_all(fds, 16);
	probe_stop(&host);
}

/* ---- DMA ---------------------------------------------------------- */

static void go(struct probe_host *host, uint64_t source, uint64_t target,
	       uint32_t length, uint32_t command)
{
	probe_write(host, 0, PROBE_DMA_SOURCE, 8, source);
	probe_write(host, 0, PROBE_DMA_TARGET, 8, target);
	probe_set(host, PROBE_DMA_LENGTH, length);
	probe_set(host, PROBE_DMA_GO, command);
}

static uint64_t finished(struct probe_host *host)
{
	REQUIRE_SOON(probe_reg(host, PROBE_DMA_STATUS) != PROBE_DMA_BUSY);
	return probe_reg(host, PROBE_DMA_STATUS);
}

CLEAT_TC(dma__by_mapping)
{
	int fd = memfd(RAM, F_SEAL_SHRINK), fds[16];
	uint8_t *ram = map_fd(fd, RAM, PROT_READ | PROT_WRITE);
	struct probe_host host;

	probe_start(&host, NULL);
	probe_arm(&host, IRQ_MSIX, 16, fds);
	enable_msix(&host);
	ATF_REQUIRE_EQ(0, probe_map(&host, BASE, RAM, fd));
	for (unsigned i = 0; i < 200000; i++)
		ram[i] = (uint8_t)(i * 31);
	go(&host, BASE, BASE + 300001, 200000,
	   PROBE_DMA_COPY | PROBE_DMA_IRQ | 9 << 16);
	ATF_REQUIRE_EQ(1, wait_eventfd(fds[9], PATIENCE_MS));
	ATF_REQUIRE_EQ(PROBE_DMA_DONE, finished(&host));
	ATF_REQUIRE(!memcmp(ram, ram + 300001, 200000));
	ATF_REQUIRE_EQ(PROBE_DMA_BY_MAPPING, probe_reg(&host, PROBE_DMA_WAY));
	probe_set(&host, PROBE_DMA_PATTERN, 0x04030201);
	go(&host, 0, BASE + 16, 10, PROBE_DMA_FILL | PROBE_DMA_POINTER);
	ATF_REQUIRE_EQ(PROBE_DMA_DONE, finished(&host));
	ATF_REQUIRE(!memcmp(ram + 16, "\1\2\3\4\1\2\3\4\1\2", 10));
	go(&host, BASE + 16, 0, 10, PROBE_DMA_READ);
	ATF_REQUIRE_EQ(PROBE_DMA_DONE, finished(&host));
	ATF_REQUIRE_EQ(23, probe_reg(&host, PROBE_DMA_SUM));
	go(&host, 0, BASE + 100, 10, PROBE_DMA_WRITE);
	ATF_REQUIRE_EQ(PROBE_DMA_DONE, finished(&host));
	ATF_REQUIRE(!memcmp(ram + 16, ram + 100, 10));
	ATF_REQUIRE_EQ(200000 + 30, probe_counter(&host, PROBE_DMA_BYTES));
	close_all(fds, 16);
	munmap(ram, RAM);
	close(fd);
	probe_stop(&host);
}

CLEAT_TC(dma__nowhere)
{
	struct probe_host host;

	probe_start(&host, NULL);
	ATF_REQUIRE_EQ(PROBE_DMA_IDLE, finished(&host));
	go(&host, BASE, BASE, 16, PROBE_DMA_COPY);
	ATF_REQUIRE_EQ(ENOENT, finished(&host));
	go(&host, BASE, BASE, 0, PROBE_DMA_COPY);
	ATF_REQUIRE_EQ(EINVAL, finished(&host));
	go(&host, BASE, BASE, UINT32_MAX, PROBE_DMA_COPY);
	ATF_REQUIRE_EQ(EINVAL, finished(&host));
	go(&host, BASE, BASE, 16, 99);
	ATF_REQUIRE_EQ(EINVAL, finished(&host));
	go(&host, BASE, BASE, 16, PROBE_DMA_COPY | PROBE_DMA_POINTER);
	ATF_REQUIRE_EQ(EINVAL, finished(&host));
	probe_stop(&host);
}

CLEAT_TC(dma__by_message)
{
	struct peer_message request;
	struct probe_host host;
	struct cleat_wire_dma dma;
	char body[sizeof(dma) + 100];

	probe_start(&host, NULL);
	ATF_REQUIRE_EQ(0, probe_map(&host, BASE, RAM, -1));
	go(&host, BASE, BASE + 4096, 100, PROBE_DMA_COPY);
	ATF_REQUIRE_EQ(0, peer_expect(host.fd, VFIO_USER_DMA_READ, &request));
	/* The device answers while it waits. */
	ATF_REQUIRE_EQ(PROBE_STATUS_DMA, probe_reg(&host, PROBE_STATUS));
	memcpy(body, request.body, sizeof(dma));
	memset(body + sizeof(dma), 3, 100);
	ATF_REQUIRE_EQ(0, peer_reply(host.fd, &request, body, sizeof(body),
				     NULL, 0));
	peer_message_end(&request);
	ATF_REQUIRE_EQ(0, peer_expect(host.fd, VFIO_USER_DMA_WRITE, &request));
	ATF_REQUIRE(!memcmp(body + sizeof(dma),
			    (char *)request.body + sizeof(dma), 100));
	ATF_REQUIRE_EQ(0, peer_reply(host.fd, &request, request.body,
				     sizeof(dma), NULL, 0));
	peer_message_end(&request);
	ATF_REQUIRE_EQ(PROBE_DMA_DONE, finished(&host));
	ATF_REQUIRE_EQ(PROBE_DMA_BY_MESSAGE, probe_reg(&host, PROBE_DMA_WAY));
	ATF_REQUIRE_EQ(300, probe_reg(&host, PROBE_DMA_SUM));
	probe_stop(&host);
}

/* ---- Options ------------------------------------------------------ */

CLEAT_TC(options__leave_out)
{
	static const char *const extra[] = {
		"--no-mapped", "--no-ioeventfd", "--no-shadow", "--no-io",
		"--no-intx",   "--no-msi",	 "--no-msix",	"--rom",
		"--bar-32",    NULL
	};
	struct cleat_wire_irq_info info = { .argsz = sizeof(info) };
	struct cleat_wire_region region;
	struct peer_message reply;
	struct probe_host host;

	probe_start(&host, extra);
	ATF_CHECK_EQ(PROBE_HAS_ROM, probe_reg(&host, PROBE_FEATURES));
	probe_region(&host, PROBE_BAR_PAGES, &region, &reply);
	ATF_CHECK_EQ(0, region.num_areas);
	peer_message_end(&reply);
	probe_region(&host, PROBE_BAR_IO, &region, &reply);
	ATF_CHECK_EQ(0, region.length);
	peer_message_end(&reply);
	for (info.index = 0; info.index < 3; info.index++) {
		struct cleat_wire_irq_info found;

		ATF_REQUIRE_EQ(0, probe_call(&host,
					     VFIO_USER_DEVICE_GET_IRQ_INFO,
					     &info, sizeof(info), NULL, 0,
					     &reply));
		memcpy(&found, reply.body, sizeof(found));
		ATF_CHECK_EQ(0, found.count);
		peer_message_end(&reply);
	}
	ATF_CHECK_EQ(0xaa55, probe_read(&host, PROBE_ROM, 0, 2));
	ATF_CHECK_EQ(0x52494350, probe_read(&host, PROBE_ROM, 0x20, 4));
	ATF_CHECK_EQ(0x23, probe_read(&host, PROBE_ROM, 0x123, 1));
	ATF_CHECK_EQ(0, probe_read(&host, CONFIG, PCI_INTERRUPT_PIN, 1));
	ATF_CHECK_EQ(PCI_BASE_ADDRESS_MEM_PREFETCH,
		     probe_read(&host, CONFIG, PCI_BASE_ADDRESS_2, 4));
	probe_stop(&host);
}

CLEAT_TC(options__most_vectors)
{
	static const char *const extra[] = { "--vectors=2048", "--msi=32",
					     NULL };
	struct probe_host host;

	probe_start(&host, extra);
	probe_write(&host, 0, PROBE_MSIX_TABLE + 2047 * 16, 8, 0x1234);
	ATF_CHECK_EQ(0x1234, probe_read(&host, 0, PROBE_MSIX_TABLE + 2047 * 16,
					8));
	ATF_CHECK_EQ(0, probe_read(&host, 0, PROBE_MSIX_PBA + 2048 / 8 - 8, 8));
	ATF_CHECK_EQ(2048, probe_reg(&host, PROBE_VECTORS));
	probe_stop(&host);
}

static int run_to_end(const char *const argv[])
{
	struct child child;
	int status;

	child_start(&child, "run", argv);
	status = child_wait(&child, PATIENCE_MS);
	ATF_REQUIRE(status >= 0);
	ATF_REQUIRE(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int run_with(const char *one, const char *two)
{
	const char *argv[] = { program("backends/cleat-probe"), one, two,
			       NULL };

	return run_to_end(argv);
}

CLEAT_TC(options__wrong)
{
	struct stat st;

	ATF_CHECK_EQ(0, run_with("--help", NULL));
	ATF_CHECK_EQ(0, run_with("--version", NULL));
	ATF_CHECK_EQ(2, run_with(NULL, NULL));
	ATF_CHECK_EQ(2, run_with("--socket-path=a", "--fd=3"));
	ATF_CHECK_EQ(2, run_with("--fd=3", "--vectors=0"));
	ATF_CHECK_EQ(2, run_with("--fd=3", "--vectors=2049"));
	ATF_CHECK_EQ(2, run_with("--fd=3", "--msi=3"));
	ATF_CHECK_EQ(2, run_with("--fd=3", "--fault=nonsense"));
	ATF_CHECK_EQ(2, run_with("--fd=3", "--fault=slow=x"));
	ATF_CHECK_EQ(2, run_with("--fd=-1", NULL));
	ATF_CHECK_EQ(2, run_with("--fd=3", "more"));
	ATF_CHECK_EQ(2, run_with("--nonsense", NULL));
	ATF_CHECK_EQ(1, run_with("--fd=99", NULL));
	ATF_CHECK_EQ(1, run_with("--socket-path=no/such/place", NULL));
	ATF_CHECK_EQ(1, run_with("--fd=99", "--stats=no/such/place"));
	ATF_REQUIRE_EQ(0, stat("run.err", &st));
	ATF_CHECK(st.st_size > 0);
}

CLEAT_TC(socket__client_after_client)
{
	const char *argv[] = { program("backends/cleat-probe"),
			       "--socket-path=sock", "--stats=stats", NULL };
	struct probe_host host = { .fd = -1 };
	char text[4096] = { 0 };
	struct stat st;
	FILE *file;

	child_start(&host.child, "probe", argv);
	REQUIRE_SOON(!stat("sock", &st));
	for (unsigned i = 0; i < 3; i++) {
		host.fd = peer_connect("sock");
		ATF_REQUIRE_EQ(0, probe_call(&host, VFIO_USER_VERSION,
					     "\0\0\1\0", 4, NULL, 0, NULL));
		ATF_REQUIRE_EQ(i + 1, probe_counter(&host, PROBE_CLIENTS));
		/* What one wrote, the next finds. */
		ATF_REQUIRE_EQ(i, probe_reg(&host, PROBE_SCRATCH));
		probe_set(&host, PROBE_SCRATCH, i + 1);
		if (i < 2)
			close(host.fd);
	}
	probe_stop(&host);
	ATF_REQUIRE(stat("sock", &st));
	file = fopen("stats", "r");
	ATF_REQUIRE(file);
	ATF_REQUIRE(fread(text, 1, sizeof(text) - 1, file) > 100);
	fclose(file);
	ATF_REQUIRE(strstr(text, "\"clients\": 3"));
	ATF_REQUIRE(strstr(text, "\"REGION_READ\": 6"));
}

/* It says so, where the signal would kill it. */
CLEAT_TC(stats__no_room)
{
	const char *argv[] = { program("backends/cleat-probe"),
			       "--socket-path=sock", "--stats=stats", NULL };
	const struct rlimit limit = { 64, 64 };
	struct child child;
	char text[256] = { 0 };
	FILE *file;
	int status;

	child_start(&child, "full", argv);
	REQUIRE_SOON(!access("sock", F_OK));
	ATF_REQUIRE_EQ(0, prlimit(child.pid, RLIMIT_FSIZE, &limit, NULL));
	ATF_REQUIRE_EQ(0, kill(child.pid, SIGTERM));
	status = child_wait(&child, PATIENCE_MS);
	ATF_REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	file = fopen("full.err", "r");
	ATF_REQUIRE(file && fread(text, 1, sizeof(text) - 1, file));
	fclose(file);
	ATF_CHECK(strstr(text, "cleat-probe: stats: File too large\n"));
}

/* ---- Faults ------------------------------------------------------- */

static void post_read(struct probe_host *host)
{
	struct cleat_wire_access access = { PROBE_ID, 0, 4 };

	ATF_REQUIRE_EQ(0, peer_command(host->fd, 1, VFIO_USER_REGION_READ,
				       &access, sizeof(access), NULL, 0));
}

/* The two ends cross: whichever is first, it ends well. */
CLEAT_TC(socket__client_gone_and_signal)
{
	for (unsigned i = 0; i < 30; i++) {
		struct probe_host host;

		probe_start(&host, NULL);
		close(host.fd);
		usleep(50 * i);
		kill(host.child.pid, SIGTERM);
		ATF_REQUIRE_EQ(0, child_wait(&host.child, PATIENCE_MS));
	}
}

CLEAT_TC(fault__hang)
{
	static const char *const extra[] = { "--fault=hang-read", NULL };
	struct probe_host host;

	probe_start(&host, extra);
	probe_set(&host, PROBE_SCRATCH, 1);
	post_read(&host);
	ATF_REQUIRE(!wait_fd(host.fd, 1 /* POLLIN */, 100));
	probe_stop(&host);
}

CLEAT_TC(fault__die)
{
	static const char *const extra[] = { "--fault=die-after=2", NULL };
	struct probe_host host;
	int status;

	probe_start(&host, extra);
	probe_reg(&host, PROBE_ID);
	probe_reg(&host, PROBE_ID);
	post_read(&host);
	ATF_REQUIRE_EQ(0, peer_expect_close(host.fd));
	status = child_wait(&host.child, PATIENCE_MS);
	ATF_REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	close(host.fd);
}

CLEAT_TC(fault__others)
{
	static const char *const extra[] = { "--fault=error=5",
					     "--fault=slow=20", NULL };
	struct cleat_wire_access access = { PROBE_ID, 0, 4 };
	uint64_t before = now_ns();
	struct probe_host host;

	probe_start(&host, extra);
	ATF_REQUIRE_EQ(-EIO, probe_call(&host, VFIO_USER_REGION_READ, &access,
					sizeof(access), NULL, 0, NULL));
	ATF_REQUIRE(now_ns() - before >= 20000000);
	probe_stop(&host);
}

CLEAT_TC(fault__drop)
{
	static const char *const extra[] = { "--fault=drop-after=1", NULL };
	struct probe_host host;

	probe_start(&host, extra);
	probe_reg(&host, PROBE_ID);
	post_read(&host);
	ATF_REQUIRE_EQ(0, peer_expect_close(host.fd));
	/* Its only client could be no other: it ends. */
	ATF_REQUIRE_EQ(0, child_wait(&host.child, PATIENCE_MS));
	close(host.fd);
}

CLEAT_TC(rights__dropped)
{
	char path[64], text[4096] = { 0 };
	struct probe_host host;
	FILE *file;

	probe_start(&host, NULL);
	snprintf(path, sizeof(path), "/proc/%d/status", (int)host.child.pid);
	file = fopen(path, "r");
	ATF_REQUIRE(file && fread(text, 1, sizeof(text) - 1, file));
	fclose(file);
	ATF_CHECK(strstr(text, "NoNewPrivs:\t1"));
	ATF_CHECK(strstr(text, "CapEff:\t0000000000000000"));
	ATF_CHECK(strstr(text, "CapPrm:\t0000000000000000"));
	probe_stop(&host);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, registers__say_and_keep);
	ATF_TP_ADD_TC(tp, doorbells__by_eventfd);
	ATF_TP_ADD_TC(tp, doorbells__by_message);
	ATF_TP_ADD_TC(tp, doorbells__by_shadow);
	ATF_TP_ADD_TC(tp, pages__mapped_and_by_message);
	ATF_TP_ADD_TC(tp, irqs__on_command);
	ATF_TP_ADD_TC(tp, irqs__train);
	ATF_TP_ADD_TC(tp, irqs__stamped);
	ATF_TP_ADD_TC(tp, echo__doorbell_to_interrupt);
	ATF_TP_ADD_TC(tp, dma__by_mapping);
	ATF_TP_ADD_TC(tp, dma__nowhere);
	ATF_TP_ADD_TC(tp, dma__by_message);
	ATF_TP_ADD_TC(tp, options__leave_out);
	ATF_TP_ADD_TC(tp, options__most_vectors);
	ATF_TP_ADD_TC(tp, options__wrong);
	ATF_TP_ADD_TC(tp, socket__client_after_client);
	ATF_TP_ADD_TC(tp, stats__no_room);
	ATF_TP_ADD_TC(tp, socket__client_gone_and_signal);
	ATF_TP_ADD_TC(tp, fault__hang);
	ATF_TP_ADD_TC(tp, fault__die);
	ATF_TP_ADD_TC(tp, fault__others);
	ATF_TP_ADD_TC(tp, fault__drop);
	ATF_TP_ADD_TC(tp, rights__dropped);
	return atf_no_error();
}
