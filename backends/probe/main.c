/* SPDX-License-Identifier: BSD-2-Clause */
/* cleat-probe: a PCI device for measuring and testing, over vfio-user. */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "backends/probe/probe.h"

const char cleat_program_name[] = "cleat-probe";

static struct probe probe;

static void on_signal(int number)
{
	probe.stopping = 1;
	cleat_server_stop(probe.srv);
}

static int run(const struct probe_options *options)
{
	int status, stats, err;

	status = cleat_program_stats(options->stats, &stats);
	if (status)
		return status;
	status = cleat_program_serve(probe.srv, options->socket_path,
				     options->fd, NULL);
	if (stats < 0)
		return status;
	err = cleat_probe_write_stats(&probe, stats);
	close(stats);
	return err ? cleat_program_say(PROGRAM_FAILED, "%s: %s",
				       options->stats, strerror(-err)) :
		     status;
}

int main(int argc, char **argv)
{
	struct probe_options options;
	struct cleat_error why;
	int status;

	if (cleat_program_fds())
		return PROGRAM_FAILED;
	status = cleat_probe_options(&options, argc, argv);
	if (status != PROGRAM_GO_ON)
		return status;
	if (cleat_probe_create(&probe, &options, &why))
		return cleat_program_say(PROGRAM_FAILED, "cannot start: %s",
					 why.text);
	cleat_program_signals(on_signal);
	status = run(&options);
	cleat_program_signals(SIG_IGN);
	cleat_probe_destroy(&probe);
	return status;
}
