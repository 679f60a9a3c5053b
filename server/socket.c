/* SPDX-License-Identifier: BSD-2-Clause */
/* Where clients come from. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/server.h"

static void on_client(void *opaque, int fd, uint32_t events)
{
	struct cleat_server *srv = opaque;
	int client;

	if (srv->conn.fd >= 0)
		return;
	client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	if (client >= 0 && cleat_srv_conn_begin(srv, client))
		close(client);
}

/* A second client waits in the backlog until the first has gone. */
void cleat_srv_listen_pause(struct cleat_server *srv, bool pause)
{
	if (srv->listener < 0)
		return;
	cleat_server_unwatch(srv, srv->listener);
	if (!pause)
		cleat_srv_watch_internal(srv, srv->listener, EPOLLIN, on_client,
					 srv);
}

static int set_address(struct sockaddr_un *address, socklen_t *length,
		       const char *path)
{
	size_t size = strlen(path);

	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	if (!size || size >= sizeof(address->sun_path))
		return -ENAMETOOLONG;
	memcpy(address->sun_path, path, size);
	*length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
	if (*path == '@')
		address->sun_path[0] = '\0';
	else
		(*length)++;
	return 0;
}

/* True when @path is a socket that nobody listens on. */
static bool is_stale(const struct sockaddr_un *address, socklen_t length)
{
	struct stat st;
	bool stale;
	int fd;

	if (!address->sun_path[0] || lstat(address->sun_path, &st) ||
	    !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	stale = connect(fd, (const struct sockaddr *)address, length) &&
		errno == ECONNREFUSED;
	close(fd);
	return stale;
}

/*
 * A client that sees the socket's file may connect at once: so it gets its name
 * only when somebody listens. (An abstract name is bound as it is: it is found
 * by nobody's looking.)
 */
static int listen_then_name(int fd, struct sockaddr_un *address,
			    const char *path)
{
	char temporary[sizeof(address->sun_path)];
	socklen_t length;
	int err;

	if (snprintf(temporary, sizeof(temporary), "%s.%d", path, getpid()) >=
	    (int)sizeof(temporary))
		return -ENAMETOOLONG;
	err = set_address(address, &length, temporary);
	if (err)
		return err;
	unlink(temporary);
	if (bind(fd, (const struct sockaddr *)address, length))
		return -errno;
	if (!listen(fd, 1) && !rename(temporary, path))
		return 0;
	err = -errno;
	unlink(temporary);
	return err;
}

static int listen_at(int fd, const char *path)
{
	struct sockaddr_un address;
	struct stat st;
	socklen_t length;
	int err = set_address(&address, &length, path);

	if (err)
		return err;
	if (*path == '@') {
		if (bind(fd, (const struct sockaddr *)&address, length) ||
		    listen(fd, 1))
			return -errno;
		return 0;
	}
	if (!lstat(path, &st) && !is_stale(&address, length))
		return -EADDRINUSE;
	return listen_then_name(fd, &address, path);
}

/* Remember which file it is: somebody may put another in its place. */
static int remember_path(struct cleat_server *srv, const char *path)
{
	struct stat st;

	if (*path == '@')
		return 0;
	if (stat(path, &st))
		return -errno;
	srv->path = strdup(path);
	if (!srv->path)
		return -ENOMEM;
	srv->path_dev = st.st_dev;
	srv->path_ino = st.st_ino;
	return 0;
}

static int open_listener(struct cleat_server *srv, const char *path, int fd)
{
	int err = listen_at(fd, path);

	if (!err)
		err = remember_path(srv, path);
	if (!err)
		err = cleat_srv_watch_internal(srv, fd, EPOLLIN, on_client,
					       srv);
	return err;
}

int cleat_server_listen(struct cleat_server *srv, const char *path,
			struct cleat_error *reterr)
{
	int fd, err;

	if (srv->listener >= 0 || srv->conn.fd >= 0)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EBUSY,
				  "%s: the server has a socket already", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	err = fd < 0 ? -errno : open_listener(srv, path, fd);
	if (!err) {
		srv->listener = fd;
		return 0;
	}
	cleat_close(&fd);
	if (err == -EADDRINUSE)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
				  "%s: in use: another server listens on it, "
				  "or it is not a socket",
				  path);
	return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
			  "%s: cannot listen: %s", path, strerror(-err));
}

static int socket_option(int fd, int option)
{
	int value = 0;
	socklen_t length = sizeof(value);

	if (getsockopt(fd, SOL_SOCKET, option, &value, &length))
		return -errno;
	return value;
}

static int adopt(struct cleat_server *srv, int fd)
{
	int type = socket_option(fd, SO_TYPE);
	int listening = socket_option(fd, SO_ACCEPTCONN);

	if (type < 0)
		return type;
	if (type != SOCK_STREAM)
		return -EINVAL;
	if (srv->listener >= 0 || srv->conn.fd >= 0)
		return -EBUSY;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	if (listening <= 0)
		return cleat_srv_conn_begin(srv, fd);
	/* The client that made it readable may have gone before accept(). */
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	listening = cleat_srv_watch_internal(srv, fd, EPOLLIN, on_client, srv);
	if (!listening)
		srv->listener = fd;
	return listening;
}

int cleat_server_adopt(struct cleat_server *srv, int fd,
		       struct cleat_error *reterr)
{
	int err = adopt(srv, fd);

	if (err)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
				  "descriptor %d: not a usable stream "
				  "socket: %s",
				  fd, strerror(-err));
	return 0;
}

void cleat_srv_listen_end(struct cleat_server *srv)
{
	struct stat st;

	if (srv->path && !stat(srv->path, &st) && st.st_dev == srv->path_dev &&
	    st.st_ino == srv->path_ino)
		unlink(srv->path);
	free(srv->path);
	cleat_close(&srv->listener);
}
