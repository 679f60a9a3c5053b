/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>

#include "tests/server/rig.h"

#define PAGE 4096u
#define RAM (64 * PAGE)
#define BASE 0x100000u
#define RW (CLEAT_DMA_READ | CLEAT_DMA_WRITE)

/* What the actions below are to do, and what they found. */
static uint64_t at_iova;
static size_t at_count;
static unsigned iov_count;
static struct iovec iov[4];

static void map_action(struct rig *rig)
{
	rig->action_result = cleat_server_dma_map(rig->srv, at_iova, at_count,
						  CLEAT_READ | CLEAT_WRITE, iov,
						  iov_count);
}

static void read_action(struct rig *rig)
{
	int err = cleat_server_dma_read(rig->srv, at_iova, rig->scratch,
					at_count);

	__atomic_store_n(&rig->action_result, err, __ATOMIC_RELEASE);
}

static void write_action(struct rig *rig)
{
	rig->action_result = cleat_server_dma_write(rig->srv, at_iova,
						    rig->scratch, at_count);
}

static int64_t act(struct rig *rig, void (*action)(struct rig *rig),
		   uint64_t iova, size_t count)
{
	rig->action = action;
	at_iova = iova;
	at_count = count;
	iov_count = 4;
	ATF_REQUIRE_EQ(0, rig_write32(rig, RIG_ACTION_NOW, 1));
	return rig->action_result;
}

CLEAT_TC(map__and_reach)
{
	int fd = memfd(RAM, F_SEAL_SHRINK);
	char *ram = map_fd(fd, RAM, PROT_READ | PROT_WRITE);
	struct rig rig;

	rig_start(&rig);
	ATF_REQUIRE_EQ(-ENOENT, act(&rig, map_action, BASE, 1));
	ATF_REQUIRE_EQ(0, rig_map(&rig, BASE, 4 * PAGE, RW, fd, PAGE));
	ATF_REQUIRE_EQ(0, rig_map(&rig, BASE + 4 * PAGE, PAGE, RW, fd, 0));
	ATF_REQUIRE_EQ(2, rig.mapped);
	strcpy(ram + PAGE + 100, "from the guest");
	ATF_REQUIRE_EQ(1, act(&rig, map_action, BASE + 100, 50));
	ATF_REQUIRE_STREQ("from the guest", (char *)iov[0].iov_base);
	ATF_REQUIRE_EQ(50, iov[0].iov_len);
	/* Over two ranges, and past their end. */
	ATF_REQUIRE_EQ(2, act(&rig, map_action, BASE, 5 * PAGE));
	ATF_REQUIRE_EQ(4 * PAGE, iov[0].iov_len);
	ATF_REQUIRE_EQ(PAGE, iov[1].iov_len);
	ATF_REQUIRE_EQ(-ENOENT, act(&rig, map_action, BASE, 5 * PAGE + 1));
	ATF_REQUIRE_EQ(-ENOENT, act(&rig, map_action, BASE - 1, 2));
	ATF_REQUIRE_EQ(-EINVAL, act(&rig, map_action, BASE, 0));
	ATF_REQUIRE_EQ(-EINVAL, act(&rig, map_action, UINT64_MAX, 2));
	strcpy((char *)rig.scratch, "from the device");
	ATF_REQUIRE_EQ(0, act(&rig, write_action, BASE + 4 * PAGE - 5, 16));
	ATF_REQUIRE(!memcmp("from ", ram + 5 * PAGE - 5, 5));
	ATF_REQUIRE_STREQ("the device", ram);
	rig_end(&rig);
	ATF_REQUIRE_EQ(2, rig.unmapping);
	munmap(ram, RAM);
	close(fd);
}

CLEAT_TC(map__rights)
{
	int fd = memfd(RAM, 0), read_only;
	char path[32];
	struct rig rig;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	read_only = open(path, O_RDONLY);
	ATF_REQUIRE(read_only >= 0);
	rig_start(&rig);
	ATF_REQUIRE_EQ(0, rig_map(&rig, BASE, PAGE, CLEAT_DMA_READ, read_only,
				  0));
	ATF_REQUIRE_EQ(-EACCES, rig_map(&rig, 2 * BASE, PAGE, RW, read_only,
					0));
	ATF_REQUIRE_EQ(-EACCES, act(&rig, map_action, BASE, 1));
	ATF_REQUIRE_EQ(-EACCES, act(&rig, write_action, BASE, 1));
	ATF_REQUIRE_EQ(0, act(&rig, read_action, BASE, 1));
	ATF_REQUIRE_EQ(-EINVAL, rig_map(&rig, 2 * BASE, PAGE, 0, fd, 0));
	rig_end(&rig);
	close(read_only);
	close(fd);
}

CLEAT_TC(map__impossible)
{
	int fd = memfd(RAM, 0), ends[2], null = open("/dev/zero", O_RDWR);
	struct rig rig;

	ATF_REQUIRE_EQ(0, pipe(ends));
	rig_start(&rig);
	ATF_CHECK_EQ(-EINVAL, rig_map(&rig, BASE, 0, RW, fd, 0));
	ATF_CHECK_EQ(-EINVAL, rig_map(&rig, BASE, RAM + 1, RW, fd, 0));
	ATF_CHECK_EQ(-EINVAL, rig_map(&rig, BASE, PAGE, RW, fd, RAM));
	ATF_CHECK_EQ(-EINVAL, rig_map(&rig, BASE, PAGE, RW, fd, UINT64_MAX));
	ATF_CHECK_EQ(-EINVAL, rig_map(&rig, UINT64_MAX, PAGE, RW, fd, 0));
	ATF_CHECK_EQ(-EINVAL, rig_map(&rig, BASE, PAGE, 0x80000001, fd, 0));
	ATF_CHECK_EQ(-EINVAL, rig_map(&rig, BASE, PAGE, RW, ends[0], 0));
	ATF_CHECK_EQ(-EINVAL, rig_map(&rig, BASE, PAGE, RW, null, 0));
	ATF_CHECK_EQ(-EINVAL, rig_map(&rig, BASE, PAGE, RW | CLEAT_DMA_MMAP, -1,
				      0));
	ATF_CHECK_EQ(-EINVAL, rig_call(&rig, VFIO_USER_DMA_MAP, ends, 8));
	ATF_REQUIRE_EQ(0, rig.mapped);
	/* The top of the address space is as good as any. */
	ATF_CHECK_EQ(0, rig_map(&rig, UINT64_MAX - PAGE + 1, PAGE, RW, fd, 0));
	ATF_CHECK_EQ(0, act(&rig, read_action, UINT64_MAX - 7, 8));
	rig_end(&rig);
	close(ends[0]);
	close(ends[1]);
	close(null);
	close(fd);
}

CLEAT_TC(map__overlap)
{
	int fd = memfd(RAM, 0);
	struct rig rig;

	rig_start(&rig);
	ATF_REQUIRE_EQ(0, rig_map(&rig, BASE, 4 * PAGE, RW, fd, 0));
	ATF_CHECK_EQ(-EEXIST, rig_map(&rig, BASE, 4 * PAGE, RW, fd, 0));
	ATF_CHECK_EQ(-EEXIST, rig_map(&rig, BASE + PAGE, PAGE, RW, fd, 0));
	ATF_CHECK_EQ(-EEXIST, rig_map(&rig, BASE - PAGE, 2 * PAGE, RW, fd, 0));
	ATF_CHECK_EQ(-EEXIST, rig_map(&rig, BASE - PAGE, RAM, RW, fd, 0));
	ATF_CHECK_EQ(-EEXIST, rig_map(&rig, BASE + 4 * PAGE - 1, PAGE, RW, fd,
				      0));
	ATF_CHECK_EQ(0, rig_map(&rig, BASE - PAGE, PAGE, RW, fd, 0));
	ATF_CHECK_EQ(0, rig_map(&rig, BASE + 4 * PAGE, PAGE, RW, fd, 0));
	rig_end(&rig);
	close(fd);
}

CLEAT_TC(map__too_many)
{
	const struct cleat_server_config config = { .size = sizeof(config),
						    .max_dma_maps = 3 };
	int fd = memfd(RAM, 0);
	struct peer_message reply;
	struct rig rig;

	rig_create(&rig, &config);
	rig_run(&rig);
	rig_version(&rig, NULL, &reply);
	peer_message_end(&reply);
	for (unsigned i = 0; i < 3; i++)
		ATF_REQUIRE_EQ(0, rig_map(&rig, i * BASE, PAGE, RW, fd, 0));
	ATF_REQUIRE_EQ(-ENOSPC, rig_map(&rig, 9 * BASE, PAGE, RW, fd, 0));
	rig_end(&rig);
	close(fd);
}

CLEAT_TC(unmap__exactly)
{
	int fd = memfd(RAM, 0);
	struct rig rig;

	rig_start(&rig);
	for (unsigned i = 0; i < 8; i++)
		ATF_REQUIRE_EQ(0, rig_map(&rig, BASE + 2 * i * PAGE, PAGE, RW,
					  fd, i * PAGE));
	ATF_CHECK_EQ(-ENOENT, rig_unmap(&rig, BASE, 2 * PAGE, 0));
	ATF_CHECK_EQ(-ENOENT, rig_unmap(&rig, BASE + PAGE, PAGE, 0));
	ATF_CHECK_EQ(-ENOENT, rig_unmap(&rig, 0, UINT64_MAX, 0));
	ATF_CHECK_EQ(-EINVAL, rig_unmap(&rig, BASE, PAGE, CLEAT_UNMAP_ALL));
	ATF_REQUIRE_EQ(0, rig.unmapping);
	ATF_REQUIRE_EQ(0, rig_unmap(&rig, BASE + 6 * PAGE, PAGE, 0));
	ATF_REQUIRE_EQ(1, rig.unmapping);
	ATF_REQUIRE_EQ(BASE + 6 * PAGE, rig.unmapped_iova);
	ATF_REQUIRE_EQ(-ENOENT, act(&rig, read_action, BASE + 6 * PAGE, 1));
	ATF_REQUIRE_EQ(0, act(&rig, read_action, BASE + 8 * PAGE, 1));
	ATF_REQUIRE_EQ(0, rig_unmap(&rig, 0, 0, CLEAT_UNMAP_ALL));
	ATF_REQUIRE_EQ(8, rig.unmapping);
	ATF_REQUIRE_EQ(-ENOENT, act(&rig, read_action, BASE, 1));
	rig_end(&rig);
	close(fd);
}

/* ---- By message --------------------------------------------------- */

static void start_action(struct rig *rig, void (*action)(struct rig *rig),
			 uint64_t iova, size_t count)
{
	rig->action = action;
	at_iova = iova;
	at_count = count;
	ATF_REQUIRE_EQ(0, rig_write32(rig, RIG_ACTION, 1));
}

/* The server's DMA_READ, answered with @fill. */
static void serve_read(int fd, uint64_t iova, uint64_t count, char fill)
{
	struct peer_message request;
	struct cleat_wire_dma dma;
	char *body = malloc(sizeof(dma) + count);

	ATF_REQUIRE(body);
	ATF_REQUIRE_EQ(0, peer_expect(fd, VFIO_USER_DMA_READ, &request));
	ATF_REQUIRE_EQ(sizeof(dma), request.length);
	memcpy(&dma, request.body, sizeof(dma));
	ATF_REQUIRE_EQ(iova, dma.address);
	ATF_REQUIRE_EQ(count, dma.count);
	memcpy(body, &dma, sizeof(dma));
	memset(body + sizeof(dma), fill, count);
	ATF_REQUIRE_EQ(0, peer_reply(fd, &request, body, sizeof(dma) + count,
				     NULL, 0));
	peer_message_end(&request);
	free(body);
}

/* The action's end shows in a register that the test can wait for. */
static void finish(struct rig *rig)
{
	ATF_REQUIRE_EQ(0, rig_write32(rig, 0, 0));
}

CLEAT_TC(message__on_the_main_socket)
{
	struct peer_message request;
	struct cleat_wire_dma dma;
	struct rig rig;

	rig_start(&rig);
	ATF_REQUIRE_EQ(0, rig_map(&rig, BASE, RAM, RW, -1, 0));
	ATF_REQUIRE_EQ(-EOPNOTSUPP, act(&rig, map_action, BASE, 4));
	start_action(&rig, read_action, BASE + 8, 5000);
	serve_read(rig.fd, BASE + 8, 5000, 'x');
	finish(&rig);
	ATF_REQUIRE_EQ(0, rig.action_result);
	ATF_REQUIRE_EQ('x', rig.scratch[4999]);
	start_action(&rig, write_action, BASE + 16, 100);
	ATF_REQUIRE_EQ(0, peer_expect(rig.fd, VFIO_USER_DMA_WRITE, &request));
	ATF_REQUIRE_EQ(sizeof(dma) + 100, request.length);
	ATF_REQUIRE_EQ('x', ((char *)request.body)[sizeof(dma) + 99]);
	ATF_REQUIRE_EQ(0, peer_reply(rig.fd, &request, request.body,
				     sizeof(dma), NULL, 0));
	peer_message_end(&request);
	finish(&rig);
	ATF_REQUIRE_EQ(0, rig.action_result);
	rig_end(&rig);
}

/* QEMU cannot answer a DMA before its own region access has been served. */
CLEAT_TC(message__access_in_between)
{
	struct peer_message request;
	struct rig rig;
	uint32_t value;

	rig_start(&rig);
	ATF_REQUIRE_EQ(0, rig_map(&rig, BASE, RAM, RW, -1, 0));
	ATF_REQUIRE_EQ(0, rig_write32(&rig, 0x20, 42));
	start_action(&rig, read_action, BASE, 64);
	ATF_REQUIRE_EQ(0, peer_expect(rig.fd, VFIO_USER_DMA_READ, &request));
	for (unsigned i = 0; i < 100; i++) {
		ATF_REQUIRE_EQ(0, rig_read(&rig, 0, 0x20, &value, 4));
		ATF_REQUIRE_EQ(42, value);
	}
	ATF_REQUIRE_EQ(0, peer_reply_error(rig.fd, &request, EFAULT));
	peer_message_end(&request);
	finish(&rig);
	ATF_REQUIRE_EQ(-EFAULT, rig.action_result);
	rig_end(&rig);
}

static void copy_action(struct rig *rig)
{
	rig->action_result = cleat_server_dma_read(rig->srv, at_iova,
						   rig->scratch, at_count);
	if (!rig->action_result)
		rig->action_result = cleat_server_dma_write(
			rig->srv, at_iova, rig->scratch, at_count);
}

/* The reply to a DMA and a command, in one piece. */
static void reply_and_read(struct rig *rig, struct peer_message *request)
{
	struct {
		struct cleat_header header;
		struct cleat_wire_dma dma;
		uint8_t data[64];
		struct cleat_header next;
		struct cleat_wire_access access;
	} both = {
		.header = { .id = request->header.id,
			    .command = VFIO_USER_DMA_READ,
			    .size = 16 + 16 + 64,
			    .flags = PEER_REPLY },
		.dma = { BASE, 64 },
		.next = { .id = 77,
			  .command = VFIO_USER_REGION_READ,
			  .size = 16 + 16 },
		.access = { .offset = 0x20, .count = 4 },
	};

	ATF_REQUIRE_EQ(0, peer_send_raw(rig->fd, &both, sizeof(both), NULL, 0));
	peer_message_end(request);
}

/* A command that came in with the reply to one DMA is served before the reply
 * to the next one, for which it may have to be. */
CLEAT_TC(message__command_behind_a_reply)
{
	struct peer_message request, reply;
	struct rig rig;

	rig_start(&rig);
	ATF_REQUIRE_EQ(0, rig_map(&rig, BASE, RAM, RW, -1, 0));
	start_action(&rig, copy_action, BASE, 64);
	ATF_REQUIRE_EQ(0, peer_expect(rig.fd, VFIO_USER_DMA_READ, &request));
	reply_and_read(&rig, &request);
	ATF_REQUIRE_EQ(0, peer_expect(rig.fd, VFIO_USER_DMA_WRITE, &request));
	ATF_REQUIRE(wait_fd(rig.fd, POLLIN, 1000));
	ATF_REQUIRE_EQ(0, peer_expect(rig.fd, VFIO_USER_REGION_READ, &reply));
	ATF_REQUIRE_EQ(77, reply.header.id);
	peer_message_end(&reply);
	ATF_REQUIRE_EQ(0, peer_reply(rig.fd, &request, request.body,
				     sizeof(struct cleat_wire_dma), NULL, 0));
	peer_message_end(&request);
	finish(&rig);
	ATF_REQUIRE_EQ(0, rig.action_result);
	rig_end(&rig);
}

/* And from inside a write, whose bytes must stay where they are meanwhile. */
CLEAT_TC(message__from_inside_an_access)
{
	struct peer_message reply;
	struct rig rig;

	rig_start(&rig);
	ATF_REQUIRE_EQ(0, rig_map(&rig, BASE, RAM, RW, -1, 0));
	rig.action = read_action;
	at_iova = BASE;
	at_count = 64;
	rig_post32(&rig, RIG_ACTION_NOW, 1, 1000);
	for (uint16_t i = 0; i < 200; i++)
		rig_post32(&rig, 4u * i, i, i);
	serve_read(rig.fd, BASE, 64, 'y');
	for (unsigned i = 0; i < 201; i++) {
		ATF_REQUIRE_EQ(0, peer_receive(rig.fd, &reply));
		ATF_REQUIRE_EQ(0, reply.header.error);
		peer_message_end(&reply);
	}
	ATF_REQUIRE_EQ(0, rig.action_result);
	ATF_REQUIRE_EQ('y', rig.scratch[63]);
	ATF_REQUIRE_EQ(199, rig.bar[4 * 199]);
	rig_end(&rig);
}

CLEAT_TC(message__unmap_and_reset_wait)
{
	struct cleat_wire_dma_unmap unmap = { sizeof(unmap), 0, BASE, RAM };
	struct peer_message request, reply;
	struct cleat_wire_dma dma = { BASE, 64 };
	char body[sizeof(dma) + 64] = { 0 };
	struct rig rig;

	rig_start(&rig);
	ATF_REQUIRE_EQ(0, rig_map(&rig, BASE, RAM, RW, -1, 0));
	start_action(&rig, read_action, BASE, 64);
	ATF_REQUIRE_EQ(0, peer_expect(rig.fd, VFIO_USER_DMA_READ, &request));
	ATF_REQUIRE_EQ(0, peer_command(rig.fd, 1, VFIO_USER_DMA_UNMAP, &unmap,
				       sizeof(unmap), NULL, 0));
	ATF_REQUIRE_EQ(0, peer_command(rig.fd, 2, VFIO_USER_DEVICE_RESET, NULL,
				       0, NULL, 0));
	rig_post32(&rig, 0, 1, 3);
	/* None of them is answered before the DMA has ended. */
	ATF_REQUIRE(!wait_fd(rig.fd, 1 /* POLLIN */, 50));
	ATF_REQUIRE_EQ(0, rig.unmapping + rig.resets);
	memcpy(body, &dma, sizeof(dma));
	ATF_REQUIRE_EQ(0, peer_reply(rig.fd, &request, body, sizeof(body), NULL,
				     0));
	peer_message_end(&request);
	for (uint16_t id = 1; id <= 3; id++) {
		ATF_REQUIRE_EQ(0, peer_receive(rig.fd, &reply));
		ATF_REQUIRE_EQ(id, reply.header.id);
		ATF_REQUIRE_EQ(0, reply.header.error);
		peer_message_end(&reply);
	}
	ATF_REQUIRE_EQ(0, rig.action_result);
	ATF_REQUIRE_EQ(1, rig.unmapping);
	ATF_REQUIRE_EQ(1, rig.resets);
	rig_end(&rig);
}

static int no_state(void *opaque, void *buf, size_t room)
{
	return 0;
}

static int any_state(void *opaque, uint32_t version, const void *buf,
		     size_t count)
{
	return 0;
}

static int loaded(void *opaque)
{
	return 0;
}

static void start_migratable(struct rig *rig)
{
	const struct cleat_server_migration migration = {
		.size = sizeof(migration),
		.flags = CLEAT_SERVER_MIGRATE_V1,
		.name = "nothing",
		.save = no_state,
		.load = any_state,
		.loaded = loaded,
	};
	struct peer_message reply;

	rig_create(rig, NULL);
	ATF_REQUIRE_EQ(0, cleat_server_add_migration(rig->srv, &migration,
						     NULL));
	rig_run(rig);
	rig_version(rig, NULL, &reply);
	peer_message_end(&reply);
}

/* The first generation's device is stopped by a write to a region. */
CLEAT_TC(message__state_change_waits)
{
	const struct {
		struct cleat_wire_access access;
		uint32_t state;
	} __attribute__((packed)) stop = { { 0, 9, 4 }, CLEAT_MIG_V1_STOP };
	struct peer_message request, reply;
	struct cleat_wire_dma dma = { BASE, 64 };
	char body[sizeof(dma) + 64] = { 0 };
	uint32_t state = UINT32_MAX;
	struct rig rig;

	start_migratable(&rig);
	ATF_REQUIRE_EQ(0, rig_map(&rig, BASE, RAM, RW, -1, 0));
	start_action(&rig, read_action, BASE, 64);
	ATF_REQUIRE_EQ(0, peer_expect(rig.fd, VFIO_USER_DMA_READ, &request));
	ATF_REQUIRE_EQ(0, peer_command(rig.fd, 1, VFIO_USER_REGION_WRITE, &stop,
				       sizeof(stop), NULL, 0));
	ATF_REQUIRE(!wait_fd(rig.fd, POLLIN, 50));
	memcpy(body, &dma, sizeof(dma));
	ATF_REQUIRE_EQ(0, peer_reply(rig.fd, &request, body, sizeof(body), NULL,
				     0));
	peer_message_end(&request);
	ATF_REQUIRE_EQ(0, peer_expect(rig.fd, VFIO_USER_REGION_WRITE, &reply));
	ATF_CHECK_EQ(0, reply.header.error);
	peer_message_end(&reply);
	ATF_REQUIRE_EQ(0, rig_read(&rig, 9, 0, &state, sizeof(state)));
	ATF_CHECK_EQ(CLEAT_MIG_V1_STOP, state);
	ATF_CHECK_EQ(0, rig.action_result);
	rig_end(&rig);
}

CLEAT_TC(message__late_reply)
{
	const struct cleat_server_config config = { .size = sizeof(config),
						    .dma_timeout_ms = 50 };
	struct peer_message request, reply;
	struct rig rig;
	uint32_t value;

	rig_create(&rig, &config);
	rig_run(&rig);
	rig_version(&rig, NULL, &reply);
	peer_message_end(&reply);
	ATF_REQUIRE_EQ(0, rig_map(&rig, BASE, RAM, RW, -1, 0));
	start_action(&rig, read_action, BASE, 64);
	ATF_REQUIRE_EQ(0, peer_expect(rig.fd, VFIO_USER_DMA_READ, &request));
	finish(&rig);
	REQUIRE_SOON(__atomic_load_n(&rig.action_result, __ATOMIC_ACQUIRE));
	ATF_REQUIRE_EQ(-ETIMEDOUT, rig.action_result);
	ATF_REQUIRE_EQ(0, peer_reply_error(rig.fd, &request, EIO));
	ATF_REQUIRE_EQ(0, rig_read(&rig, 0, 0, &value, 4));
	/* But a second one was never asked for. */
	ATF_REQUIRE_EQ(0, peer_reply_error(rig.fd, &request, EIO));
	peer_message_end(&request);
	rig_expect_end(&rig);
	rig_end(&rig);
}

static void bad_dma_reply(const void *body, size_t length)
{
	struct peer_message request;
	struct rig rig;

	rig_start(&rig);
	ATF_REQUIRE_EQ(0, rig_map(&rig, BASE, RAM, RW, -1, 0));
	start_action(&rig, read_action, BASE, 8);
	ATF_REQUIRE_EQ(0, peer_expect(rig.fd, VFIO_USER_DMA_READ, &request));
	ATF_REQUIRE_EQ(0, peer_reply(rig.fd, &request, body, length, NULL, 0));
	peer_message_end(&request);
	rig_expect_end(&rig);
	rig_end(&rig);
}

CLEAT_TC(message__reply_lies)
{
	uint64_t body[8] = { BASE, 9, 1, 2, 3 };

	bad_dma_reply(body, 16 + 9);
	body[1] = UINT64_MAX;
	bad_dma_reply(body, 16 + 8);
	body[1] = 8;
	bad_dma_reply(body, 16 + 7);
	bad_dma_reply(body, 0);
	body[0]++;
	bad_dma_reply(body, 16 + 8);
}

/* A short answer is gone on from; one of nothing ends it. */
CLEAT_TC(message__short)
{
	struct peer_message request;
	struct cleat_wire_dma dma;
	char body[sizeof(dma) + 3] = { 0 };
	struct rig rig;

	rig_start(&rig);
	ATF_REQUIRE_EQ(0, rig_map(&rig, BASE, RAM, RW, -1, 0));
	start_action(&rig, read_action, BASE, 10);
	ATF_REQUIRE_EQ(0, peer_expect(rig.fd, VFIO_USER_DMA_READ, &request));
	dma = (struct cleat_wire_dma){ BASE, 3 };
	memcpy(body, &dma, sizeof(dma));
	ATF_REQUIRE_EQ(0, peer_reply(rig.fd, &request, body, sizeof(body), NULL,
				     0));
	peer_message_end(&request);
	ATF_REQUIRE_EQ(0, peer_expect(rig.fd, VFIO_USER_DMA_READ, &request));
	memcpy(&dma, request.body, sizeof(dma));
	ATF_REQUIRE_EQ(BASE + 3, dma.address);
	ATF_REQUIRE_EQ(7, dma.count);
	dma.count = 0;
	ATF_REQUIRE_EQ(0, peer_reply(rig.fd, &request, &dma, sizeof(dma), NULL,
				     0));
	peer_message_end(&request);
	finish(&rig);
	ATF_REQUIRE_EQ(-EIO, rig.action_result);
	rig_end(&rig);
}

CLEAT_TC(message__client_goes)
{
	struct peer_message request;
	struct rig rig;

	rig_start(&rig);
	ATF_REQUIRE_EQ(0, rig_map(&rig, BASE, RAM, RW, -1, 0));
	start_action(&rig, read_action, BASE, 10);
	ATF_REQUIRE_EQ(0, peer_expect(rig.fd, VFIO_USER_DMA_READ, &request));
	peer_message_end(&request);
	close(rig.fd);
	rig.fd = -1;
	script_end(&rig.script);
	rig.running = false;
	ATF_REQUIRE_EQ(-ENOTCONN, rig.action_result);
	ATF_REQUIRE_EQ(1, rig.disconnected);
	rig_end(&rig);
}

CLEAT_TC(message__on_the_twin)
{
	struct peer_message version, request;
	struct cleat_wire_dma dma;
	struct rig rig;

	rig_create(&rig, NULL);
	rig_run(&rig);
	rig_version(&rig,
		    "{\"capabilities\":{\"max_data_xfer_size\":4096,"
		    "\"twin_socket\":{\"supported\":true}}}",
		    &version);
	ATF_REQUIRE_EQ(1, version.nr_fds);
	ATF_REQUIRE_EQ(0, rig_map(&rig, BASE, RAM, RW, -1, 0));
	start_action(&rig, read_action, BASE, 5000);
	/* In pieces of what the client takes. */
	serve_read(version.fds[0], BASE, 4096, 'x');
	serve_read(version.fds[0], BASE + 4096, 904, 'z');
	finish(&rig);
	ATF_REQUIRE_EQ(0, rig.action_result);
	ATF_REQUIRE_EQ('x', rig.scratch[4095]);
	ATF_REQUIRE_EQ('z', rig.scratch[4999]);
	start_action(&rig, write_action, BASE, 16);
	ATF_REQUIRE_EQ(0, peer_expect(version.fds[0], VFIO_USER_DMA_WRITE,
				      &request));
	dma = (struct cleat_wire_dma){ BASE, 16 };
	/* As the specification prints it: with four bytes of count. */
	ATF_REQUIRE_EQ(0, peer_reply(version.fds[0], &request, &dma, 12, NULL,
				     0));
	peer_message_end(&request);
	finish(&rig);
	ATF_REQUIRE_EQ(0, rig.action_result);
	peer_message_end(&version);
	rig_end(&rig);
}

CLEAT_TC(message__twin_closed)
{
	struct peer_message version;
	struct rig rig;

	rig_create(&rig, NULL);
	rig_run(&rig);
	rig_version(&rig,
		    "{\"capabilities\":{\"twin_socket\":{\"supported\":true}}}",
		    &version);
	peer_message_end(&version);
	ATF_REQUIRE_EQ(0, rig_map(&rig, BASE, RAM, RW, -1, 0));
	start_action(&rig, read_action, BASE, 10);
	rig_expect_end(&rig);
	ATF_REQUIRE_EQ(-ENOTCONN, rig.action_result);
	rig_end(&rig);
}

/* ---- A file that shrinks ------------------------------------------ */

CLEAT_TC(guard__client_shrinks_its_file)
{
	const struct cleat_server_config config = {
		.size = sizeof(config),
		.flags = CLEAT_SERVER_SIGBUS,
	};
	int fd = memfd(RAM, 0);
	struct peer_message reply;
	struct rig rig;

	rig_create(&rig, &config);
	rig_run(&rig);
	rig_version(&rig, NULL, &reply);
	peer_message_end(&reply);
	ATF_REQUIRE_EQ(0, rig_map(&rig, BASE, RAM, RW, fd, 0));
	ATF_REQUIRE_EQ(0, ftruncate(fd, PAGE));
	rig.action = read_action;
	at_iova = BASE + 3 * PAGE;
	at_count = 8;
	memset(rig.scratch, 0xff, 8);
	rig_post32(&rig, RIG_ACTION_NOW, 1, 1);
	rig_expect_end(&rig);
	ATF_REQUIRE_EQ(0, rig.scratch[0]);
	ATF_REQUIRE_EQ(1, rig.disconnected);
	rig_end(&rig);
	close(fd);
}

/* ---- Dirty pages -------------------------------------------------- */

#define GET (1u << 16)
#define SET (1u << 17)
#define PROBE (1u << 18)

struct logging {
	uint32_t argsz, flags;
	uint64_t page_size;
	uint32_t n_ranges, reserved;
};

struct report {
	uint32_t argsz, flags;
	uint64_t iova, length, page_size;
	uint64_t bitmap[2];
};

static int fetch(struct rig *rig, uint64_t iova, uint64_t length,
		 uint64_t page, uint64_t *bits)
{
	struct report report = { sizeof(report), 8 | GET, iova, length, page,
				 { 0 } };
	struct peer_message reply;
	int err;

	rig_call_fds(rig, VFIO_USER_DEVICE_FEATURE, &report, 32, NULL, 0,
		     &reply);
	err = -(int)reply.header.error;
	if (!err) {
		ATF_REQUIRE(reply.length > 32 && reply.length <=
						 sizeof(report));
		memcpy(&report, reply.body, reply.length);
		*bits = report.bitmap[0];
	}
	peer_message_end(&reply);
	return err;
}

CLEAT_TC(dirty__logged_and_cleared)
{
	struct logging start = { sizeof(start), 6 | SET, 4096, 0, 0 };
	int fd = memfd(RAM, 0);
	uint64_t bits = 0;
	struct rig rig;

	rig_start(&rig);
	ATF_REQUIRE_EQ(0, rig_map(&rig, BASE, RAM / 2, RW, fd, 0));
	ATF_REQUIRE_EQ(-EINVAL, fetch(&rig, BASE, RAM, PAGE, &bits));
	ATF_REQUIRE_EQ(0, rig_call(&rig, VFIO_USER_DEVICE_FEATURE, &start,
				   sizeof(start)));
	ATF_REQUIRE_EQ(0, rig_map(&rig, BASE + RAM / 2, RAM / 2, RW, fd,
				  RAM / 2));
	ATF_REQUIRE_EQ(0, act(&rig, write_action, BASE + PAGE - 1, 2));
	ATF_REQUIRE_EQ(0, act(&rig, write_action, BASE + 40 * PAGE, 1));
	ATF_REQUIRE_EQ(0, fetch(&rig, BASE, RAM, PAGE, &bits));
	ATF_REQUIRE_EQ(UINT64_C(3) | UINT64_C(1) << 40, bits);
	ATF_REQUIRE_EQ(0, fetch(&rig, BASE, RAM, PAGE, &bits));
	ATF_REQUIRE_EQ(0, bits);
	ATF_REQUIRE_EQ(0, act(&rig, write_action, BASE + 5 * PAGE, 1));
	ATF_REQUIRE_EQ(0, act(&rig, write_action, BASE + 9 * PAGE, 1));
	/* What is not asked about stays; coarser pages are fine. */
	ATF_REQUIRE_EQ(0, fetch(&rig, BASE, 8 * PAGE, 4 * PAGE, &bits));
	ATF_REQUIRE_EQ(2, bits);
	ATF_REQUIRE_EQ(0, fetch(&rig, BASE + 8 * PAGE, 8 * PAGE, PAGE, &bits));
	ATF_REQUIRE_EQ(2, bits);
	ATF_REQUIRE_EQ(-EINVAL, fetch(&rig, BASE, RAM, 2048, &bits));
	ATF_REQUIRE_EQ(-E2BIG, fetch(&rig, 0, UINT64_MAX & ~4095ull, PAGE,
				     &bits));
	ATF_REQUIRE_EQ(-EINVAL, rig_call(&rig, VFIO_USER_DEVICE_FEATURE, &start,
					 sizeof(start)));
	start.flags = 7 | SET;
	ATF_REQUIRE_EQ(0, rig_call(&rig, VFIO_USER_DEVICE_FEATURE, &start, 8));
	ATF_REQUIRE_EQ(-EINVAL, fetch(&rig, BASE, RAM, PAGE, &bits));
	rig_end(&rig);
	close(fd);
}

/* A range that begins and ends in the middle of a page of the log. */
CLEAT_TC(dirty__pages_larger_than_where_it_begins)
{
	struct logging start = { sizeof(start), 6 | SET, 4 * PAGE, 0, 0 };
	uint64_t odd = BASE + 3 * PAGE, length = 10 * PAGE, bits;
	int fd = memfd(RAM, 0);
	struct rig rig;

	rig_start(&rig);
	ATF_REQUIRE_EQ(0, rig_map(&rig, odd, length, RW, fd, 0));
	ATF_REQUIRE_EQ(0, rig_call(&rig, VFIO_USER_DEVICE_FEATURE, &start,
				   sizeof(start)));
	/* One that lies in the first of the pages told. */
	ATF_REQUIRE_EQ(0, act(&rig, write_action, odd, 1));
	ATF_REQUIRE_EQ(0, fetch(&rig, odd, length, 4 * PAGE, &bits));
	ATF_CHECK_EQ(1, bits);
	/* One that lies in two of them, one at the very end. */
	ATF_REQUIRE_EQ(0, act(&rig, write_action, odd + PAGE, 1));
	ATF_REQUIRE_EQ(0, act(&rig, write_action, odd + length - 1, 1));
	ATF_REQUIRE_EQ(0, fetch(&rig, odd, length, 4 * PAGE, &bits));
	ATF_CHECK_EQ(7, bits);
	ATF_REQUIRE_EQ(0, fetch(&rig, odd, length, 4 * PAGE, &bits));
	ATF_CHECK_EQ(0, bits);
	/* What was told in part is told once more with the rest. */
	ATF_REQUIRE_EQ(0, act(&rig, write_action, odd + PAGE, 1));
	ATF_REQUIRE_EQ(0, fetch(&rig, odd, 2 * PAGE, 4 * PAGE, &bits));
	ATF_CHECK_EQ(1, bits);
	ATF_REQUIRE_EQ(0, fetch(&rig, odd + 2 * PAGE, 8 * PAGE, 4 * PAGE,
				&bits));
	ATF_CHECK_EQ(1, bits);
	ATF_CHECK_EQ(-EINVAL, fetch(&rig, odd + 1, PAGE, 4 * PAGE, &bits));
	rig_end(&rig);
	close(fd);
}

/* ---- Dirty pages with DMA_UNMAP ----------------------------------- */

struct telling {
	struct cleat_wire_dma_unmap unmap;
	struct cleat_wire_bitmap bitmap;
};

static struct telling telling(uint64_t size, uint64_t page, uint64_t bytes)
{
	return (struct telling){
		{ (uint32_t)(sizeof(struct telling) + bytes), CLEAT_UNMAP_DIRTY,
		  BASE, size },
		{ page, bytes },
	};
}

/* The bits of a range that is now gone. */
static uint64_t unmap_and_tell(struct rig *rig, const struct telling *ask)
{
	struct peer_message reply;
	uint64_t bits;

	rig_call_fds(rig, VFIO_USER_DMA_UNMAP, ask, sizeof(*ask), NULL, 0,
		     &reply);
	ATF_REQUIRE_EQ(0, reply.header.error);
	ATF_REQUIRE_EQ(sizeof(*ask) + 8, reply.length);
	ATF_REQUIRE_EQ(0, memcmp(reply.body, ask, sizeof(*ask)));
	memcpy(&bits, (char *)reply.body + sizeof(*ask), sizeof(bits));
	peer_message_end(&reply);
	return bits;
}

static void start_log(struct rig *rig, uint64_t page)
{
	struct logging start = { sizeof(start), 6 | SET, page, 0, 0 };

	ATF_REQUIRE_EQ(0, rig_call(rig, VFIO_USER_DEVICE_FEATURE, &start,
				   sizeof(start)));
}

CLEAT_TC(unmap__tells_what_is_dirty)
{
	struct telling fine = telling(RAM / 2, PAGE, 8);
	struct telling coarse = telling(RAM / 2, 4 * PAGE, 8);
	int fd = memfd(RAM, 0);
	uint64_t bits;
	struct rig rig;

	rig_start(&rig);
	ATF_REQUIRE_EQ(0, rig_map(&rig, BASE, RAM / 2, RW, fd, 0));
	ATF_REQUIRE_EQ(0, rig_map(&rig, BASE + RAM / 2, RAM / 2, RW, fd,
				  RAM / 2));
	start_log(&rig, PAGE);
	/* The last page of the one and the first of the other. */
	ATF_REQUIRE_EQ(0, act(&rig, write_action, BASE + RAM / 2 - 1, 2));
	ATF_REQUIRE_EQ(0, act(&rig, write_action, BASE + PAGE, 1));
	bits = unmap_and_tell(&rig, &fine);
	ATF_CHECK_EQ(UINT64_C(1) << (RAM / 2 / PAGE - 1) | 2, bits);
	ATF_CHECK_EQ(1, rig.unmapping);
	ATF_CHECK_EQ(-ENOENT, act(&rig, read_action, BASE, 1));
	ATF_REQUIRE_EQ(0, fetch(&rig, BASE, RAM, PAGE, &bits));
	ATF_CHECK_EQ(UINT64_C(1) << RAM / 2 / PAGE, bits);
	/* It comes back clean. */
	ATF_REQUIRE_EQ(0, rig_map(&rig, BASE, RAM / 2, RW, fd, 0));
	ATF_REQUIRE_EQ(0, act(&rig, write_action, BASE + 9 * PAGE, 1));
	ATF_CHECK_EQ(4, unmap_and_tell(&rig, &coarse));
	rig_end(&rig);
	close(fd);
}

static int refused(struct rig *rig, struct telling ask, size_t length)
{
	return rig_call(rig, VFIO_USER_DMA_UNMAP, &ask, length);
}

/* Whatever is wrong with the question, the range stays. */
CLEAT_TC(unmap__asks_for_the_impossible)
{
	struct telling good = telling(RAM, PAGE, 8), bad;
	size_t size = sizeof(good);
	struct rig rig;

	rig_start(&rig);
	ATF_REQUIRE_EQ(0, rig_map(&rig, BASE, RAM, RW, -1, 0));
	/* Nobody logs. */
	ATF_CHECK_EQ(-EINVAL, refused(&rig, good, size));
	start_log(&rig, 2 * PAGE);
	ATF_CHECK_EQ(-EINVAL, refused(&rig, good, size));
	ATF_CHECK_EQ(-EINVAL, refused(&rig, telling(RAM, 0, 8), size));
	ATF_CHECK_EQ(-EINVAL, refused(&rig, telling(RAM, 3 * PAGE, 8), size));
	ATF_CHECK_EQ(-E2BIG, refused(&rig, telling(RAM, 2 * PAGE, 0), size));
	ATF_CHECK_EQ(-EINVAL, refused(&rig, telling(RAM, 2 * PAGE, 16), size));
	ATF_CHECK_EQ(-E2BIG, refused(&rig, telling(RAM, 2 * PAGE,
						   UINT64_MAX - 7), size));
	ATF_CHECK_EQ(-ENOENT, refused(&rig, telling(PAGE, 2 * PAGE, 8), size));
	good = telling(RAM, 2 * PAGE, 8);
	for (size_t length = 0; length < size; length++)
		ATF_CHECK_EQ(-EINVAL, refused(&rig, good, length));
	bad = good;
	bad.unmap.argsz--;
	ATF_CHECK_EQ(-E2BIG, refused(&rig, bad, size));
	bad = good;
	bad.unmap.flags |= CLEAT_UNMAP_ALL;
	ATF_CHECK_EQ(-EINVAL, refused(&rig, bad, size));
	ATF_REQUIRE_EQ(0, rig.unmapping);
	ATF_REQUIRE_EQ(0, unmap_and_tell(&rig, &good));
	rig_end(&rig);
}

/* 256 GiB in pages of 4 KiB: more than one reply may carry. */
CLEAT_TC(unmap__bitmap_of_many_megabytes)
{
	uint64_t size = UINT64_C(1) << 38;
	struct rig rig;

	rig_start(&rig);
	ATF_REQUIRE_EQ(0, rig_map(&rig, BASE, size, RW, -1, 0));
	start_log(&rig, PAGE);
	ATF_CHECK_EQ(-E2BIG, refused(&rig, telling(size, PAGE, size / PAGE / 8),
				     sizeof(struct telling)));
	ATF_CHECK_EQ(0, rig_unmap(&rig, BASE, size, 0));
	rig_end(&rig);
}

/* What its bitmap took is given back with a range. */
CLEAT_TC(dirty__ranges_come_and_go)
{
	uint64_t size = UINT64_C(1) << 42;
	struct rig rig;

	rig_start(&rig);
	start_log(&rig, PAGE);
	for (unsigned i = 0; i < 5; i++) {
		ATF_REQUIRE_EQ(0, rig_map(&rig, 0, size, RW, -1, 0));
		ATF_REQUIRE_EQ(-ENOMEM, rig_map(&rig, size, size, RW, -1, 0));
		ATF_REQUIRE_EQ(0, rig_unmap(&rig, 0, size, 0));
	}
	rig_end(&rig);
}

CLEAT_TC(dirty__nonsense)
{
	struct logging start = { sizeof(start), 6 | SET, 3000, 0, 0 };
	struct rig rig;

	rig_start(&rig);
	ATF_CHECK_EQ(-EINVAL, rig_call(&rig, VFIO_USER_DEVICE_FEATURE, &start,
				       sizeof(start)));
	ATF_CHECK_EQ(-EINVAL, rig_call(&rig, VFIO_USER_DEVICE_FEATURE, &start,
				       7));
	start.page_size = 0;
	ATF_CHECK_EQ(-EINVAL, rig_call(&rig, VFIO_USER_DEVICE_FEATURE, &start,
				       sizeof(start)));
	start.flags = 6 | GET;
	ATF_CHECK_EQ(-EINVAL, rig_call(&rig, VFIO_USER_DEVICE_FEATURE, &start,
				       sizeof(start)));
	start.flags = 99 | PROBE;
	ATF_CHECK_EQ(-EINVAL, rig_call(&rig, VFIO_USER_DEVICE_FEATURE, &start,
				       sizeof(start)));
	start.flags = 6 | SET | PROBE;
	ATF_CHECK_EQ(0, rig_call(&rig, VFIO_USER_DEVICE_FEATURE, &start,
				 sizeof(start)));
	rig_end(&rig);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, map__and_reach);
	ATF_TP_ADD_TC(tp, map__rights);
	ATF_TP_ADD_TC(tp, map__impossible);
	ATF_TP_ADD_TC(tp, map__overlap);
	ATF_TP_ADD_TC(tp, map__too_many);
	ATF_TP_ADD_TC(tp, unmap__exactly);
	ATF_TP_ADD_TC(tp, message__on_the_main_socket);
	ATF_TP_ADD_TC(tp, message__access_in_between);
	ATF_TP_ADD_TC(tp, message__command_behind_a_reply);
	ATF_TP_ADD_TC(tp, message__from_inside_an_access);
	ATF_TP_ADD_TC(tp, message__unmap_and_reset_wait);
	ATF_TP_ADD_TC(tp, message__state_change_waits);
	ATF_TP_ADD_TC(tp, message__late_reply);
	ATF_TP_ADD_TC(tp, message__reply_lies);
	ATF_TP_ADD_TC(tp, message__short);
	ATF_TP_ADD_TC(tp, message__client_goes);
	ATF_TP_ADD_TC(tp, message__on_the_twin);
	ATF_TP_ADD_TC(tp, message__twin_closed);
	ATF_TP_ADD_TC(tp, guard__client_shrinks_its_file);
	ATF_TP_ADD_TC(tp, dirty__logged_and_cleared);
	ATF_TP_ADD_TC(tp, dirty__pages_larger_than_where_it_begins);
	ATF_TP_ADD_TC(tp, unmap__tells_what_is_dirty);
	ATF_TP_ADD_TC(tp, unmap__asks_for_the_impossible);
	ATF_TP_ADD_TC(tp, unmap__bitmap_of_many_megabytes);
	ATF_TP_ADD_TC(tp, dirty__ranges_come_and_go);
	ATF_TP_ADD_TC(tp, dirty__nonsense);
	return atf_no_error();
}
