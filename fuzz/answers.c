/* SPDX-License-Identifier: BSD-2-Clause */
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz/answers.h"
#include "wire/wire.h"

#define REGIONS 10
#define STATE_REGION 9
#define STATE_LENGTH 0x10000
#define MOST (1u << 20)

struct reply {
	struct cleat_header header;
	uint8_t payload[MOST + 64];
};

static size_t take(struct fuzz_answers *answers, void *to, size_t most)
{
	size_t n = answers->size < most ? answers->size : most;

	memcpy(to, answers->data, n);
	answers->data += n;
	answers->size -= n;
	return n;
}

static size_t describe_region(void *payload)
{
	struct {
		struct cleat_wire_region_info info;
		struct vfio_info_cap_header cap;
		uint32_t type[2];
	} reply = { .info.argsz = sizeof(reply.info) };

	memcpy(&reply.info.index, (uint8_t *)payload + 8, 4);
	reply.info.flags = CLEAT_REGION_READ | CLEAT_REGION_WRITE;
	if (reply.info.index == VFIO_PCI_CONFIG_REGION_INDEX)
		reply.info.size = 256;
	if (reply.info.index == STATE_REGION) {
		reply.info.size = STATE_LENGTH;
		reply.info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
		reply.info.argsz = sizeof(reply);
		reply.info.cap_offset = sizeof(reply.info);
		reply.cap.id = VFIO_REGION_INFO_CAP_TYPE;
		reply.type[0] = CLEAT_MIG_REGION_TYPE;
		reply.type[1] = CLEAT_MIG_REGION_SUBTYPE;
	}
	memcpy(payload, &reply, reply.info.argsz);
	return reply.info.argsz;
}

static size_t load(struct fuzz_answers *answers, uint8_t *payload)
{
	struct cleat_wire_access access;

	memcpy(&access, payload, sizeof(access));
	if (access.count > MOST)
		abort();
	memset(payload + sizeof(access), 0, access.count);
	if (access.region == STATE_REGION)
		take(answers, payload + sizeof(access), access.count);
	return sizeof(access) + access.count;
}

/* A piece of the input. */
static size_t next_piece(struct fuzz_answers *answers, struct reply *reply)
{
	uint8_t what = 0, value = 0;
	uint16_t length = 0;

	take(answers, &what, 1);
	take(answers, &length, 2);
	if (what) {
		reply->header.flags |= CLEAT_HEADER_ERROR;
		reply->header.error = what;
		return 0;
	}
	if (length <= 0x8000)
		return take(answers, reply->payload, length);
	take(answers, &value, 1);
	length &= 0x7fff;
	memset(reply->payload, value, (size_t)length * 16);
	return (size_t)length * 16;
}

/* A DMA_UNMAP that asks for a bitmap; with 1 before the piece, after its words.
 */
static size_t tell(struct fuzz_answers *answers, struct reply *reply)
{
	uint8_t words[sizeof(struct cleat_wire_dma_unmap) +
		      sizeof(struct cleat_wire_bitmap)];
	uint8_t *payload = reply->payload, echo = 0;
	size_t size;

	if (reply->header.size < sizeof(reply->header) + sizeof(words))
		return 0;
	memcpy(words, payload, sizeof(words));
	take(answers, &echo, 1);
	size = next_piece(answers, reply);
	if (echo != 1 || reply->header.flags & CLEAT_HEADER_ERROR)
		return size;
	memmove(payload + sizeof(words), payload, size);
	memcpy(payload, words, sizeof(words));
	return sizeof(words) + size;
}

static size_t answer(struct fuzz_answers *answers, struct reply *reply)
{
	struct cleat_wire_device_info info = { sizeof(info), 3, REGIONS, 0 };

	switch (reply->header.command) {
	case VFIO_USER_VERSION:
		memset(reply->payload, 0, 4);
		return 4;
	case VFIO_USER_DEVICE_GET_INFO:
		memcpy(reply->payload, &info, sizeof(info));
		return sizeof(info);
	case VFIO_USER_DEVICE_GET_REGION_INFO:
		return describe_region(reply->payload);
	case VFIO_USER_DMA_MAP:
		return 0;
	case VFIO_USER_DMA_UNMAP:
		return tell(answers, reply);
	case VFIO_USER_REGION_WRITE:
		return sizeof(struct cleat_wire_access);
	case VFIO_USER_REGION_READ:
		return load(answers, reply->payload);
	default:
		return next_piece(answers, reply);
	}
}

static bool is_canned(uint16_t command)
{
	return command <= VFIO_USER_DEVICE_GET_REGION_INFO;
}

static bool receive(int fd, struct reply *reply)
{
	struct iovec iov = { &reply->header, sizeof(reply->header) };
	struct cleat_fds fds;
	size_t left;

	if (cleat_wire_recv(fd, &iov, 1, &fds, MSG_WAITALL) !=
	    sizeof(reply->header))
		return false;
	cleat_fds_close(&fds);
	left = reply->header.size - sizeof(reply->header);
	if (left > sizeof(reply->payload))
		abort();
	return !left || recv(fd, reply->payload, left, MSG_WAITALL) ==
				(ssize_t)left;
}

static void *serve(void *arg)
{
	static struct reply reply;
	struct fuzz_answers *answers = arg;

	while (receive(answers->fd, &reply)) {
		struct iovec rest[1] = { { &reply, 0 } }, *iov = rest;

		if (!is_canned(reply.header.command) && !answers->size)
			break;
		reply.header.flags = CLEAT_HEADER_REPLY;
		reply.header.size = (uint32_t)(sizeof(reply.header) +
					       answer(answers, &reply));
		iov->iov_len = reply.header.size;
		for (unsigned num = 1; num;) {
			ssize_t n = cleat_wire_send(answers->fd, iov, num, NULL,
						    0, 0);

			if (n < 0)
				return NULL;
			num = cleat_iov_advance(&iov, num, (size_t)n);
		}
	}
	shutdown(answers->fd, SHUT_RDWR);
	return NULL;
}

struct cleat_device *cleat_fuzz_open(struct fuzz_answers *answers,
				     const uint8_t *data, size_t size)
{
	struct cleat_device_config config = {
		.size = sizeof(config),
		.flags = CLEAT_DEVICE_OWN_LOOP | CLEAT_DEVICE_NO_TWIN,
	};
	struct cleat_device *dev;
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		abort();
	*answers = (struct fuzz_answers){ data, size, ends[1] };
	if (pthread_create(&answers->thread, NULL, serve, answers))
		abort();
	config.fd = ends[0];
	if (cleat_device_open(&config, &dev, NULL))
		abort();
	close(ends[0]);
	return dev;
}

void cleat_fuzz_close(struct fuzz_answers *answers)
{
	pthread_join(answers->thread, NULL);
	close(answers->fd);
}
