/* SPDX-License-Identifier: BSD-2-Clause */
#include <limits.h>
#include <stdio.h>

#include "tests/interop/samples.h"

static void find_libraries(const char *prefix)
{
	char path[3 * PATH_MAX];

	snprintf(path, sizeof(path), "%s/lib:%s/lib64:%s/lib/x86_64-linux-gnu",
		 prefix, prefix, prefix);
	setenv("LD_LIBRARY_PATH", path, 1);
}

/* One of them ends when its stdin does. */
static int keep_stdin_open(void)
{
	int ends[2];

	ATF_REQUIRE_EQ(0, pipe(ends));
	ATF_REQUIRE(dup2(ends[0], STDIN_FILENO) >= 0);
	close(ends[0]);
	return ends[1];
}

static void launch(struct sample *sample, const char *name, const char *socket)
{
	const char *prefix = getenv("CLEAT_LIBVFIO_USER");
	const char *argv[] = { NULL, socket, NULL };
	char path[PATH_MAX];

	if (!prefix)
		atf_tc_skip("no libvfio-user samples: set CLEAT_LIBVFIO_USER");
	snprintf(path, sizeof(path), "%s/bin/%s", prefix, name);
	if (access(path, X_OK))
		atf_tc_skip("%s is not there", path);
	find_libraries(prefix);
	argv[0] = path;
	*sample = (struct sample){ .terminal = keep_stdin_open() };
	child_start(&sample->server, socket, argv);
}

bool sample_begin(struct sample *sample, const char *name, const char *socket)
{
	launch(sample, name, socket);
	REQUIRE_SOON(!access(socket, F_OK) || child_ended(&sample->server));
	/* What it does not like it says after it has made the socket. */
	return child_wait(&sample->server, 300) == -ETIMEDOUT;
}

static int try_open(struct sample *sample, const char *socket,
		    struct cleat_error *why)
{
	struct cleat_device_config config = { .size = sizeof(config),
					      .path = socket,
					      .control_ms = PATIENCE_MS };

	if (child_ended(&sample->server))
		return -ESRCH;
	return cleat_device_open(&config, &sample->dev, why);
}

bool sample_open(struct sample *sample, const char *name, const char *socket)
{
	struct cleat_error why = { 0 };
	int err;

	launch(sample, name, socket);
	REQUIRE_SOON((err = try_open(sample, socket, &why)) != -ENOENT &&
		     err != -ECONNREFUSED);
	if (err && child_wait(&sample->server, 1000) != -ETIMEDOUT)
		return false;
	ATF_REQUIRE_EQ_MSG(0, err, "%s", why.text);
	return true;
}

void sample_end(struct sample *sample)
{
	if (sample->dev)
		ATF_REQUIRE_EQ(0, cleat_device_failure(sample->dev, NULL));
	cleat_device_unref(sample->dev);
	child_end(&sample->server);
	close(sample->terminal);
}
