/* SPDX-License-Identifier: BSD-2-Clause */
/* cleat-nvme: an NVMe disk as a vfio-user device. */
#include <signal.h>
#include <string.h>

#include "backends/nvme/device.h"

const char cleat_program_name[] = "cleat-nvme";

static struct cleat_server *to_stop;

static void stop(int signal)
{
	cleat_server_stop(to_stop);
}

/* Everything that the guest was told is written, and then what it was not. */
static int finish(struct nvme_device *device)
{
	int err = cleat_nvme_disk_flush(&device->disk);

	cleat_nvme_device_destroy(device);
	return err ? cleat_program_say(PROGRAM_FAILED,
				       "the last data was lost: %s",
				       strerror(-err))
		   : PROGRAM_OK;
}

int main(int argc, char **argv)
{
	struct nvme_options options;
	struct nvme_device device;
	struct cleat_error why;
	int status, err;

	if (cleat_program_fds())
		return PROGRAM_FAILED;
	status = cleat_nvme_options(&options, argc, argv);
	if (status != PROGRAM_GO_ON)
		return status;
	if (cleat_nvme_device_create(&device, &options, &why))
		return cleat_program_say(PROGRAM_FAILED, "cannot start: %s",
					 why.text);
	to_stop = device.srv;
	cleat_program_signals(stop);
	status = cleat_program_stats(options.stats, &device.stats_fd);
	if (!status)
		status = cleat_program_serve(device.srv, options.socket_path,
					     options.fd,
					     cleat_nvme_refuse_calls);
	cleat_program_signals(SIG_IGN);
	err = finish(&device);
	return status ? status : err;
}
