/* SPDX-License-Identifier: BSD-2-Clause */
/* cleatctl: look at a device server, speak to it, and listen in. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/ctl/ctl.h"

/* Where one is closed another file would get its number, and our words. */
static int check_standard_fds(void)
{
	for (int fd = 0; fd < 3; fd++)
		while (fcntl(fd, F_GETFD) < 0)
			if (open("/dev/null", O_RDWR) < 0)
				return -errno;
	return 0;
}

/* "fd:N" is a socket that was inherited. */
static bool inherited_fd(const char *socket, int *ret_fd)
{
	uint64_t fd;

	if (strncmp(socket, "fd:", 3) != 0 ||
	    !cleat_ctl_number(socket + 3, 0, 1 << 20, &fd))
		return false;
	*ret_fd = (int)fd;
	return true;
}

static int explain(const struct cleat_error *why, const char *peer)
{
	if (peer && why->origin == CLEAT_ORIGIN_LOCAL && why->code == -EINVAL &&
	    strstr(why->text, peer))
		return cleat_ctl_say(CTL_USAGE, "--peer: %s", why->text);
	if (why->code == -ENOMEM)
		return cleat_ctl_say(CTL_LOCAL, "%s", why->text);
	if (why->code == -EPROTO || why->origin == CLEAT_ORIGIN_DEVICE)
		return cleat_ctl_say(CTL_DEVICE, "%s", why->text);
	return cleat_ctl_no_connection(why);
}

static int open_device(struct ctl *ctl)
{
	struct cleat_device_config config = {
		.size = sizeof(config),
		.flags = (ctl->given & CTL_NO_TWIN ? CLEAT_DEVICE_NO_TWIN : 0) |
			 (ctl->command->own_loop ? CLEAT_DEVICE_OWN_LOOP : 0),
		.access_ms = ctl->timeout_ms,
		.control_ms = ctl->timeout_ms,
		.quiesce_ms = ctl->timeout_ms,
		.peer = ctl->peer,
	};
	struct cleat_error why;

	if (!inherited_fd(ctl->socket, &config.fd))
		config.path = ctl->socket;
	if (!cleat_device_open(&config, &ctl->dev, &why))
		return CTL_OK;
	return explain(&why, ctl->peer);
}

/* A full disk or a closed pipe must not look like success. */
static int finish(int status)
{
	if (!fflush(stdout) && !ferror(stdout))
		return status;
	return cleat_ctl_say(CTL_LOCAL, "cannot write the output: %s",
			     strerror(errno));
}

int main(int argc, char **argv)
{
	struct ctl ctl;
	int status;

	if (check_standard_fds())
		return CTL_LOCAL;
	status = cleat_ctl_options(&ctl, argc, argv);
	if (status >= 0)
		return finish(status);
	status = ctl.command->check ? ctl.command->check(&ctl) : CTL_OK;
	if (!status && ctl.command->opens)
		status = open_device(&ctl);
	if (!status)
		status = ctl.command->run(&ctl);
	cleat_device_unref(ctl.dev);
	return finish(status);
}
