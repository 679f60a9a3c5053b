/* SPDX-License-Identifier: BSD-2-Clause */
/* cleat-probe: a PCI device for measuring and testing, over vfio-user. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "backends/probe/probe.h"

static struct probe probe;

static void on_signal(int number)
{
	probe.stopping = 1;
	cleat_server_stop(probe.srv);
}

static void set_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal };

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	action.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &action, NULL);
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
	fprintf(stderr, "cleat-probe: %s: %s\n", what, why);
	return 1;
}

/* Where one is closed another file would get its number, and our words. */
static int check_standard_fds(void)
{
	for (int fd = 0; fd < 3; fd++)
		while (fcntl(fd, F_GETFD) < 0)
			if (open("/dev/null", O_RDWR) < 0)
				return -errno;
	return 0;
}

/* A client that took us over would find little to go on with. */
static int drop_rights(void)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    syscall(SYS_capset, &header, none))
		return -errno;
	return 0;
}

static int get_socket(const struct probe_options *options,
		      struct cleat_error *why)
{
	if (options->socket_path)
		return cleat_server_listen(probe.srv, options->socket_path,
					   why);
	return cleat_server_adopt(probe.srv, options->fd, why);
}

static int open_stats(const char *path, int *ret_fd)
{
	*ret_fd = -1;
	if (!path)
		return 0;
	*ret_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	return *ret_fd < 0 ? complain(path, strerror(errno)) : 0;
}

static int serve(void)
{
	int err = drop_rights();

	if (err)
		return complain("cannot drop rights", strerror(-err));
	err = cleat_server_run(probe.srv);
	return err ? complain("cannot go on", strerror(-err)) : 0;
}

static int run(const struct probe_options *options)
{
	struct cleat_error why;
	int status, stats, err;

	if (open_stats(options->stats, &stats))
		return 1;
	status = get_socket(options, &why) ? complain("socket", why.text) :
					     serve();
	if (stats < 0)
		return status;
	err = cleat_probe_write_stats(&probe, stats);
	close(stats);
	return err ? complain(options->stats, strerror(-err)) : status;
}

int main(int argc, char **argv)
{
	struct probe_options options;
	struct cleat_error why;
	int status;

	if (check_standard_fds())
		return 1;
	status = cleat_probe_options(&options, argc, argv);
	if (status >= 0)
		return status;
	if (cleat_probe_create(&probe, &options, &why))
		return complain("cannot start", why.text);
	set_signals();
	status = run(&options);
	ignore_signals();
	cleat_probe_destroy(&probe);
	return status;
}
