/* SPDX-License-Identifier: BSD-2-Clause */
/* cleat-nvme: an NVMe disk as a vfio-user device. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "backends/nvme/device.h"

static struct cleat_server *to_stop;

static void stop(int signal)
{
	cleat_server_stop(to_stop);
}

/* SIGXFSZ would kill us where EFBIG can be answered to the guest. */
static void set_signals(struct cleat_server *srv)
{
	struct sigaction action = { .sa_handler = stop };

	to_stop = srv;
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	action.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &action, NULL);
	sigaction(SIGXFSZ, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
}

/* It ends already, and soon there is no server that could be stopped. */
static void ignore_signals(void)
{
	struct sigaction action = { .sa_handler = SIG_IGN };

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
}

static int complain(const char *what, const char *why)
{
	fprintf(stderr, "cleat-nvme: %s: %s\n", what, why);
	return 1;
}

/* Where one is closed the disk could get its number, and our messages. */
static int check_standard_fds(void)
{
	for (int fd = 0; fd < 3; fd++)
		while (fcntl(fd, F_GETFD) < 0)
			if (open("/dev/null", O_RDWR) < 0)
				return -errno;
	return 0;
}

static int open_stats(struct nvme_device *device, const char *path)
{
	if (!path)
		return 0;
	device->stats_fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (device->stats_fd >= 0)
		return 0;
	return complain(path, strerror(errno));
}

static int get_socket(struct nvme_device *device,
		      const struct nvme_options *options,
		      struct cleat_error *why)
{
	if (options->socket_path)
		return cleat_server_listen(device->srv, options->socket_path,
					   why);
	return cleat_server_adopt(device->srv, options->fd, why);
}

/* Everything that the guest was told is written, and then what it was not. */
static int finish(struct nvme_device *device)
{
	int err = cleat_nvme_disk_flush(&device->disk);

	cleat_nvme_device_destroy(device);
	return err ? complain("the last data was lost", strerror(-err)) : 0;
}

static int serve(struct nvme_device *device,
		 const struct nvme_options *options)
{
	struct cleat_error why;
	int err;

	if (open_stats(device, options->stats))
		return 1;
	if (get_socket(device, options, &why))
		return complain("socket", why.text);
	err = cleat_nvme_drop_rights();
	if (err)
		return complain("cannot drop rights", strerror(-err));
	err = cleat_server_run(device->srv);
	return err ? complain("cannot go on", strerror(-err)) : 0;
}

int main(int argc, char **argv)
{
	struct nvme_options options;
	struct nvme_device device;
	struct cleat_error why;
	int status, err;

	if (check_standard_fds())
		return 1;
	status = cleat_nvme_options(&options, argc, argv);
	if (status >= 0)
		return status;
	err = cleat_nvme_device_create(&device, &options, &why);
	if (err)
		return complain("cannot start", why.text);
	set_signals(device.srv);
	status = serve(&device, &options);
	ignore_signals();
	err = finish(&device);
	return status ? status : err;
}
