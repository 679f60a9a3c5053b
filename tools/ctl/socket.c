/* SPDX-License-Identifier: BSD-2-Clause */
/* The relay's sockets: nothing here waits. */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tools/ctl/relay.h"

#define BACKLOG 8

static int set_address(struct sockaddr_un *address, socklen_t *ret_size,
		       const char *path)
{
	size_t length = strlen(path);

	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	if (!length)
		return -ENOENT;
	if (length >= sizeof(address->sun_path))
		return -ENAMETOOLONG;
	memcpy(address->sun_path, path, length);
	if (path[0] == '@')
		address->sun_path[0] = '\0';
	else
		length++;
	*ret_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
				length);
	return 0;
}

static int make_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

int cleat_ctl_connect(const char *path)
{
	struct sockaddr_un address;
	socklen_t size;
	int fd, err = set_address(&address, &size, path);

	if (err)
		return err;
	fd = make_socket();
	if (fd < 0)
		return fd;
	if (!connect(fd, (const struct sockaddr *)&address, size))
		return fd;
	err = -errno;
	close(fd);
	return err;
}

/* A socket that nobody listens on any more is in the way. */
static int remove_stale(const char *path)
{
	struct stat st;
	int fd;

	if (path[0] == '@' || lstat(path, &st) || !S_ISSOCK(st.st_mode))
		return -EADDRINUSE;
	fd = cleat_ctl_connect(path);
	if (fd >= 0)
		close(fd);
	if (fd != -ECONNREFUSED)
		return -EADDRINUSE;
	return unlink(path) ? -errno : 0;
}

static int bind_to(int fd, const char *path)
{
	struct sockaddr_un address;
	socklen_t size;
	int err = set_address(&address, &size, path);

	if (err)
		return err;
	if (!bind(fd, (const struct sockaddr *)&address, size))
		return 0;
	if (errno != EADDRINUSE)
		return -errno;
	err = remove_stale(path);
	if (err)
		return err;
	return bind(fd, (const struct sockaddr *)&address, size) ? -errno : 0;
}

int cleat_ctl_listen(const char *path, struct stat *ret_file)
{
	int fd = make_socket(), err;

	if (fd < 0)
		return fd;
	err = bind_to(fd, path);
	if (!err && path[0] != '@' && lstat(path, ret_file))
		err = -errno;
	if (!err && listen(fd, BACKLOG))
		err = -errno;
	if (!err)
		return fd;
	close(fd);
	return err;
}

void cleat_ctl_unlisten(int fd, const char *path, const struct stat *file)
{
	struct stat now;

	close(fd);
	/* Somebody may have put another in its place: that one stays. */
	if (path[0] != '@' && !lstat(path, &now) &&
	    now.st_dev == file->st_dev && now.st_ino == file->st_ino)
		unlink(path);
}
