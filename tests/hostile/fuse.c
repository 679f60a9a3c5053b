/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/hostile/fuse.h"

/* --- The server's process: no ATF in here ------------------------------------ */

static void reply(int dev, const struct fuse_in_header *in, int err,
		  const void *body, size_t length)
{
	char message[sizeof(struct fuse_out_header) + 256];
	struct fuse_out_header out = {
		.len = (uint32_t)(sizeof(out) + length),
		.error = -err,
		.unique = in->unique,
	};

	memcpy(message, &out, sizeof(out));
	memcpy(message + sizeof(out), body, length);
	if (write(dev, message, out.len) != (ssize_t)out.len)
		_exit(1);
}

/* As much as opening a file takes; then never again. */
static void answer(int dev, const struct fuse_in_header *in)
{
	struct fuse_init_out init = { .major = FUSE_KERNEL_VERSION,
				      .minor = 31,
				      .max_write = 4096 };
	struct fuse_entry_out entry = {
		.nodeid = 2,
		.attr = { .ino = 2, .size = 1u << 20, .mode = S_IFREG | 0666,
			  .nlink = 1 },
	};
	struct fuse_attr_out root = {
		.attr = { .ino = 1, .mode = S_IFDIR | 0755, .nlink = 1 },
	};
	struct fuse_open_out opened = { .fh = 1 };

	if (in->opcode == FUSE_INIT)
		reply(dev, in, 0, &init, sizeof(init));
	else if (in->opcode == FUSE_LOOKUP)
		reply(dev, in, 0, &entry, sizeof(entry));
	else if (in->opcode == FUSE_GETATTR && in->nodeid == 1)
		reply(dev, in, 0, &root, sizeof(root));
	else if (in->opcode == FUSE_OPEN)
		reply(dev, in, 0, &opened, sizeof(opened));
	else if (in->opcode == FUSE_ACCESS || in->opcode == FUSE_GETXATTR)
		reply(dev, in, ENOSYS, NULL, 0);
}

static void serve(int dev)
{
	_Alignas(struct fuse_in_header) static char message[1u << 17];

	while (read(dev, message, sizeof(message)) > 0)
		answer(dev, (const struct fuse_in_header *)message);
	_exit(0);
}

static int mount_it(void)
{
	int dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	char options[100];

	if (dev < 0 || unshare(CLONE_NEWNS) ||
	    mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) ||
	    mkdir("fuse", 0755))
		return -1;
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40000,user_id=0,group_id=0", dev);
	return mount("fuse", "fuse", "fuse", MS_NOSUID | MS_NODEV, options) ?
		       -1 : dev;
}

/* Opening waits for the server, which is this process: a child does it. */
static void run_server(int to_test)
{
	int dev, fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dev = mount_it();
	if (dev < 0)
		_exit(1);
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(dev);
		fd = open("fuse/file", O_RDWR | O_CLOEXEC);
		if (fd >= 0)
			peer_send_raw(to_test, "", 1, &fd, 1);
		/* (its own close() waits until the server ends) */
		_exit(0);
	}
	close(to_test);
	serve(dev);
}

/* --- The test's -------------------------------------------------------------------- */

static int take_file(int from)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1,
			      .msg_control = control,
			      .msg_controllen = sizeof(control) };
	int fd = -1;

	if (recvmsg(from, &msg, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&msg))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

int fuse_start(struct fuse *fuse)
{
	int ends[2], fd;

	skip_on_valgrind("all of it waits when one thread closes");
	peer_pair(ends);
	fuse->pid = fork();
	ATF_REQUIRE(fuse->pid >= 0);
	if (!fuse->pid) {
		close(ends[0]);
		run_server(ends[1]);
	}
	close(ends[1]);
	fd = take_file(ends[0]);
	close(ends[0]);
	if (fd < 0) {
		fuse_end(fuse);
		atf_tc_skip("no FUSE file system can be mounted here");
	}
	return fd;
}

void fuse_end(struct fuse *fuse)
{
	kill(fuse->pid, SIGKILL);
	waitpid(fuse->pid, NULL, 0);
}
