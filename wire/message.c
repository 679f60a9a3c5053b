/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "wire/calls.h"
#include "wire/wire.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	       "the wire is little-endian and is not swapped");
_Static_assert(sizeof(struct cleat_header) == 16, "header");
_Static_assert(sizeof(struct cleat_wire_dma_map) == 32, "DMA_MAP");
_Static_assert(sizeof(struct cleat_wire_dma_unmap) == 24, "DMA_UNMAP");
_Static_assert(sizeof(struct cleat_wire_region_info) == 32, "REGION_INFO");
_Static_assert(sizeof(struct cleat_wire_io_fd) == 48, "IO_FDS");
_Static_assert(sizeof(struct cleat_wire_irq_set) == 20, "SET_IRQS");
_Static_assert(sizeof(struct cleat_wire_write) == 24, "WRITE_MULTI");

const char *cleat_command_name(uint16_t command)
{
	static const char *const names[] = {
		[VFIO_USER_VERSION] = "VERSION",
		[VFIO_USER_DMA_MAP] = "DMA_MAP",
		[VFIO_USER_DMA_UNMAP] = "DMA_UNMAP",
		[VFIO_USER_DEVICE_GET_INFO] = "DEVICE_GET_INFO",
		[VFIO_USER_DEVICE_GET_REGION_INFO] = "DEVICE_GET_REGION_INFO",
		[VFIO_USER_DEVICE_GET_REGION_IO_FDS] =
			"DEVICE_GET_REGION_IO_FDS",
		[VFIO_USER_DEVICE_GET_IRQ_INFO] = "DEVICE_GET_IRQ_INFO",
		[VFIO_USER_DEVICE_SET_IRQS] = "DEVICE_SET_IRQS",
		[VFIO_USER_REGION_READ] = "REGION_READ",
		[VFIO_USER_REGION_WRITE] = "REGION_WRITE",
		[VFIO_USER_DMA_READ] = "DMA_READ",
		[VFIO_USER_DMA_WRITE] = "DMA_WRITE",
		[VFIO_USER_DEVICE_RESET] = "DEVICE_RESET",
		[VFIO_USER_DIRTY_PAGES] = "DIRTY_PAGES",
		[VFIO_USER_REGION_WRITE_MULTI] = "REGION_WRITE_MULTI",
		[VFIO_USER_DEVICE_FEATURE] = "DEVICE_FEATURE",
		[VFIO_USER_MIG_DATA_READ] = "MIG_DATA_READ",
		[VFIO_USER_MIG_DATA_WRITE] = "MIG_DATA_WRITE",
	};

	if (command >= sizeof(names) / sizeof(names[0]))
		return NULL;
	return names[command];
}

int cleat_header_check(const struct cleat_header *header)
{
	uint32_t type = header->flags & CLEAT_HEADER_TYPE;

	if (header->size < sizeof(*header) || header->size > CLEAT_MAX_MESSAGE)
		return -EPROTO;
	if (type == CLEAT_HEADER_REPLY)
		return 0;
	/*
	 * Some servers answer an error with the error flag alone. A command
	 * never has it, so it says "reply" as well as the type does.
	 */
	if (type == CLEAT_HEADER_COMMAND)
		return 0;
	return -EPROTO;
}

int cleat_header_error(const struct cleat_header *header)
{
	if (!(header->flags & CLEAT_HEADER_ERROR))
		return 0;
	if (header->error == 0)
		return -EIO;
	if (header->error > 4095)
		return -EPROTO;
	return -(int)header->error;
}

static int socket_error(int err)
{
	switch (err) {
	case EPIPE:
	case ECONNRESET:
	case ENOTCONN:
	case ESHUTDOWN:
		return -ENOTCONN;
	default:
		return -err;
	}
}

/*
 * Most messages are a few dozen bytes, in two or three pieces. To put them
 * together costs less than the kernel's reading of a msghdr and its iovecs.
 */
#define SMALL_MESSAGE 128

/* Bytes put together, or 0 if they are too many. */
static size_t put_together(const struct iovec *iov, unsigned num,
			   char buf[SMALL_MESSAGE])
{
	size_t size = 0;

	for (unsigned i = 0; i < num; i++) {
		if (iov[i].iov_len > SMALL_MESSAGE - size)
			return 0;
		if (iov[i].iov_len)
			memcpy(buf + size, iov[i].iov_base, iov[i].iov_len);
		size += iov[i].iov_len;
	}
	return size;
}

static ssize_t send_plain(int fd, const void *buf, size_t size, int flags)
{
	ssize_t n;

	do {
		n = SEND(fd, buf, size, flags | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return socket_error(errno);
	return n > 0 ? n : -ENOTCONN;
}

static ssize_t send_large(int fd, const struct iovec *iov, unsigned num,
			  const int *fds, unsigned num_fds, int flags)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int) * CLEAT_MAX_FDS)];
	} control;
	struct msghdr msg = {
		.msg_iov = (struct iovec *)iov,
		.msg_iovlen = num,
	};
	ssize_t n;

	if (num_fds > CLEAT_MAX_FDS)
		return -EINVAL;
	if (num_fds) {
		struct cmsghdr *cmsg = &control.align;

		msg.msg_control = control.buf;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * num_fds);
		memset(control.buf, 0, msg.msg_controllen);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int) * num_fds);
		memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * num_fds);
	}
	do {
		n = SENDMSG(fd, &msg, flags | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return socket_error(errno);
	return n > 0 ? n : -ENOTCONN;
}

ssize_t cleat_wire_send(int fd, const struct iovec *iov, unsigned num,
			const int *fds, unsigned num_fds, int flags)
{
	char buf[SMALL_MESSAGE];
	size_t size;

	if (num == 1 && !num_fds)
		return send_plain(fd, iov->iov_base, iov->iov_len, flags);
	size = num_fds ? 0 : put_together(iov, num, buf);
	return size ? send_plain(fd, buf, size, flags)
		    : send_large(fd, iov, num, fds, num_fds, flags);
}

int cleat_wire_poll(struct pollfd *pfd, int ms)
{
	struct timespec time = { .tv_sec = ms / 1000,
				 .tv_nsec = ms % 1000 * 1000000L };

	return (int)PPOLL(pfd, &time);
}

unsigned cleat_iov_advance(struct iovec **iov, unsigned num, size_t bytes)
{
	struct iovec *v = *iov;

	while (num && bytes >= v->iov_len) {
		bytes -= v->iov_len;
		v++;
		num--;
	}
	if (num) {
		v->iov_base = (char *)v->iov_base + bytes;
		v->iov_len -= bytes;
	}
	*iov = v;
	return num;
}

static void collect_fds(struct msghdr *msg, struct cleat_fds *fds)
{
	struct cmsghdr *cmsg;

	for (cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
		size_t n;

		if (cmsg->cmsg_level != SOL_SOCKET ||
		    cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		if (n > CLEAT_MAX_FDS - fds->num)
			n = CLEAT_MAX_FDS - fds->num;
		memcpy(&fds->fd[fds->num], CMSG_DATA(cmsg), n * sizeof(int));
		fds->num += (unsigned)n;
	}
}

ssize_t cleat_wire_recv(int fd, const struct iovec *iov, unsigned num,
			struct cleat_fds *fds, int flags)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int) * CLEAT_MAX_FDS)];
	} control;
	struct msghdr msg = {
		.msg_iov = (struct iovec *)iov,
		.msg_iovlen = num,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	ssize_t n;

	fds->num = 0;
	n = RECVMSG(fd, &msg, flags | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return socket_error(errno);
	collect_fds(&msg, fds);
	if (n == 0) {
		cleat_fds_close(fds);
		return -ENOTCONN;
	}
	if (msg.msg_flags & MSG_CTRUNC) {
		cleat_fds_close(fds);
		return -EMFILE;
	}
	return n;
}
