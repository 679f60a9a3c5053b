/* SPDX-License-Identifier: BSD-2-Clause */
/* Opening, describing, reading, writing and closing a device. */
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cleat/cancel.h>

#include "client/client.h"
#include "tests/support/model.h"

#define RW (CLEAT_REGION_READ | CLEAT_REGION_WRITE)

static struct model good_model(void)
{
	return (struct model){
		.json = "{\"capabilities\":{\"max_msg_fds\":8,"
			"\"max_data_xfer_size\":4096,\"extra\":[1,{}]}}",
		.num_regions = MODEL_REGIONS,
		.regions = { [0] = { 65536, RW },
			     [2] = { 4096, CLEAT_REGION_READ },
			     [7] = { 256, RW } },
		.irqs = { 1, 0, 16, 0, 1 },
	};
}

CLEAT_TC(open__good_server)
{
	struct model model = good_model();
	struct cleat_device *dev = model_open(&model, NULL);
	struct cleat_device_info info = { .size = sizeof(info) };
	struct cleat_region_info region = { .size = sizeof(region) };
	struct cleat_irq_info irq;

	ATF_REQUIRE_EQ(0, cleat_device_info(dev, &info));
	ATF_REQUIRE_EQ(8, info.max_msg_fds);
	ATF_REQUIRE_EQ(4096, info.max_transfer);
	ATF_REQUIRE_EQ(1, info.minor);
	ATF_REQUIRE_EQ(MODEL_REGIONS, info.num_regions);
	ATF_REQUIRE_EQ(CLEAT_DEVICE_INFO_RESET | CLEAT_DEVICE_INFO_PCI,
		       info.flags);
	ATF_REQUIRE_EQ(0, cleat_region_info(dev, 0, &region));
	ATF_REQUIRE_EQ(65536, region.length);
	ATF_REQUIRE_EQ(-ENOENT, cleat_region_info(dev, 99, &region));
	ATF_REQUIRE_EQ(0, cleat_device_irq_info(dev, 2, &irq));
	ATF_REQUIRE_EQ(16, irq.count);
	ATF_REQUIRE_EQ(0, cleat_device_failure(dev, NULL));
	cleat_device_unref(dev);
	model_end(&model);
}

CLEAT_TC(open__struct_of_another_version)
{
	struct cleat_device_config config = { .size = 4 };
	struct cleat_device *dev;
	struct cleat_error why;

	ATF_REQUIRE_EQ(-EINVAL, cleat_device_open(&config, &dev, &why));
	ATF_REQUIRE_EQ(CLEAT_ORIGIN_LOCAL, why.origin);
}

CLEAT_TC(open__nobody_there)
{
	struct cleat_device_config config = { .size = sizeof(config),
					      .path = "nobody.sock" };
	struct cleat_device *dev;
	struct cleat_error why;

	ATF_REQUIRE_EQ(-ENOENT, cleat_device_open(&config, &dev, &why));
	ATF_REQUIRE_MATCH("nobody.sock: no server listens", why.text);
}

static void open_by(const char *path, const char *listen_at)
{
	struct cleat_device_config config = { .size = sizeof(config),
					      .path = path,
					      .control_ms = 300 };
	int listener = peer_listen(listen_at);
	struct cleat_device *dev;
	struct cleat_error why;

	/* It connects; that the other end says nothing is its time limit. */
	ATF_REQUIRE_EQ(-ETIMEDOUT, cleat_device_open(&config, &dev, &why));
	ATF_REQUIRE_MATCH("VERSION: no reply in time", why.text);
	close(listener);
}

CLEAT_TC(open__silent_server)
{
	struct deadline spent = deadline_in(PATIENCE_MS);

	open_by("silent.sock", "silent.sock");
	ATF_REQUIRE(deadline_spent(&spent) >= 300);
}

CLEAT_TC(open__long_path)
{
	char folder[] = "a/././././././././././././././././././././././././././"
			"./././././././././././././././././././././././././././"
			"./././././././././././././././././././././long.sock";

	ATF_REQUIRE(strlen(folder) > 108);
	ATF_REQUIRE_EQ(0, system("mkdir a"));
	open_by(folder, "a/long.sock");
}

static int close_at_once(void *arg)
{
	int fd = *(int *)arg;
	struct peer_message m;
	int err = peer_expect(fd, VFIO_USER_VERSION, &m);

	if (!err)
		peer_message_end(&m);
	shutdown(fd, SHUT_RDWR);
	return err;
}

CLEAT_TC(open__server_closes)
{
	struct cleat_device_config config = { .size = sizeof(config) };
	struct cleat_device *dev;
	struct cleat_error why;
	struct script script;
	int ends[2];

	peer_pair(ends);
	config.fd = ends[0];
	script_start(&script, close_at_once, &ends[1]);
	ATF_REQUIRE_EQ(-ECONNRESET, cleat_device_open(&config, &dev, &why));
	ATF_REQUIRE_EQ(CLEAT_ORIGIN_TRANSPORT, why.origin);
	script_end(&script);
	close(ends[0]);
	close(ends[1]);
}

CLEAT_TC(open__not_a_socket)
{
	struct cleat_device_config config = { .size = sizeof(config) };
	struct cleat_device *dev;
	int pipe_ends[2];

	ATF_REQUIRE_EQ(0, pipe(pipe_ends));
	config.fd = pipe_ends[0];
	ATF_REQUIRE_EQ(-EINVAL, cleat_device_open(&config, &dev, NULL));
	close(pipe_ends[0]);
	close(pipe_ends[1]);
}

static void refuse_json(const char *json, const char *text)
{
	struct cleat_device_config config = { .size = sizeof(config) };
	struct model model = good_model();
	struct cleat_device *dev;
	struct cleat_error why;

	model.json = json;
	config.fd = model_start(&model);
	ATF_REQUIRE_EQ(-EPROTO, cleat_device_open(&config, &dev, &why));
	ATF_REQUIRE_MATCH(text, why.text);
	close(config.fd);
	model_end(&model);
}

CLEAT_TC(open__wrong_json)
{
	refuse_json("{\"capabilities\":{\"max_msg_fds\":\"8\"}}",
		    "max_msg_fds.*wrong type");
	refuse_json("{\"capabilities\":{\"max_data_xfer_size\":0}}",
		    "max_data_xfer_size.*out of range");
	refuse_json("{\"capabilities\":[]}", "capabilities.*must be an object");
	refuse_json("{\"capabilities\":", "not JSON");
	refuse_json("[[[[[[[[[[[[[[[[[[[[", "not inside an object");
	refuse_json("{\"capabilities\":{\"twin_socket\":{\"supported\":true}}}",
		    "twin socket without");
}

CLEAT_TC(access__reads_what_was_written)
{
	struct model model = good_model();
	struct cleat_device *dev = model_open(&model, NULL);
	uint8_t wrote[10000], read[10000];
	uint32_t value = 0x12345678, back = 0;

	for (size_t i = 0; i < sizeof(wrote); i++)
		wrote[i] = (uint8_t)(i * 7);
	ATF_REQUIRE_EQ(0, cleat_region_write(dev, 0, 16, &value, 4));
	ATF_REQUIRE_EQ(0, cleat_region_read(dev, 0, 16, &back, 4));
	ATF_REQUIRE_EQ(value, back);
	/* In pieces of the server's 4096 bytes. */
	ATF_REQUIRE_EQ(0, cleat_region_write(dev, 0, 100, wrote, 10000));
	ATF_REQUIRE_EQ(0, cleat_region_read(dev, 0, 100, read, 10000));
	ATF_REQUIRE_EQ(0, memcmp(wrote, read, sizeof(read)));
	ATF_REQUIRE_EQ(4, model_count(&model, VFIO_USER_REGION_READ));
	ATF_REQUIRE_EQ(4, model_count(&model, VFIO_USER_REGION_WRITE));
	cleat_device_unref(dev);
	model_end(&model);
}

CLEAT_TC(access__outside_or_not_allowed)
{
	struct model model = good_model();
	struct cleat_device *dev = model_open(&model, NULL);
	uint64_t value = 0;

	ATF_REQUIRE_EQ(-ERANGE, cleat_region_read(dev, 0, 65536, &value, 1));
	ATF_REQUIRE_EQ(-ERANGE, cleat_region_read(dev, 0, 65535, &value, 2));
	ATF_REQUIRE_EQ(-ERANGE,
		       cleat_region_read(dev, 0, UINT64_MAX, &value, 8));
	ATF_REQUIRE_EQ(-ERANGE, cleat_region_read(dev, 1, 0, &value, 1));
	ATF_REQUIRE_EQ(-ERANGE, cleat_region_read(dev, 50, 0, &value, 1));
	ATF_REQUIRE_EQ(-EACCES, cleat_region_write(dev, 2, 0, &value, 1));
	ATF_REQUIRE_EQ(0, cleat_region_read(dev, 2, 0, &value, 0));
	ATF_REQUIRE_EQ(0, model_count(&model, VFIO_USER_REGION_READ));
	cleat_device_unref(dev);
	model_end(&model);
}

CLEAT_TC(access__large_in_one_message)
{
	struct model model = good_model();
	struct cleat_device *dev;
	uint8_t *wrote = malloc(60000), *read = malloc(60000);

	model.json = NULL;
	dev = model_open(&model, NULL);
	for (size_t i = 0; i < 60000; i++)
		wrote[i] = (uint8_t)(i * 13);
	ATF_REQUIRE_EQ(0, cleat_region_write(dev, 0, 0, wrote, 60000));
	ATF_REQUIRE_EQ(0, cleat_region_read(dev, 0, 0, read, 60000));
	ATF_REQUIRE_EQ(0, memcmp(wrote, read, 60000));
	ATF_REQUIRE_EQ(1, model_count(&model, VFIO_USER_REGION_READ));
	ATF_REQUIRE_EQ(2, model_count(&model, VFIO_USER_REGION_WRITE));
	cleat_device_unref(dev);
	model_end(&model);
	free(wrote);
	free(read);
}

CLEAT_TC(reset__good_server)
{
	struct model model = good_model();
	struct cleat_device *dev = model_open(&model, NULL);

	ATF_REQUIRE_EQ(0, cleat_device_reset(dev));
	ATF_REQUIRE_EQ(1, model_count(&model, VFIO_USER_DEVICE_RESET));
	cleat_device_unref(dev);
	model_end(&model);
}

CLEAT_TC(unref__spawned_server)
{
	const char *const argv[] = { "/bin/sh", "-c",
				     "exec sleep 1000 # \"$@\"", "sh", NULL };
	struct cleat_device_config config = { .size = sizeof(config),
					      .argv = argv,
					      .control_ms = 200 };
	struct cleat_device *dev;

	/* It does not speak; it is ended and waited for all the same. */
	ATF_REQUIRE_EQ(-ETIMEDOUT, cleat_device_open(&config, &dev, NULL));
	ATF_REQUIRE_EQ(-1, waitpid(-1, NULL, WNOHANG));
	ATF_REQUIRE_EQ(ECHILD, errno);
}

CLEAT_TC(open__program_that_is_not_there)
{
	const char *const argv[] = { "./no-such-program", NULL };
	struct cleat_device_config config = { .size = sizeof(config),
					      .argv = argv };
	struct cleat_device *dev;
	struct cleat_error why;

	skip_on_valgrind("it does not tell that a program was not found");
	ATF_REQUIRE_EQ(-ENOENT, cleat_device_open(&config, &dev, &why));
	ATF_REQUIRE_MATCH("cannot start ./no-such-program", why.text);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, open__good_server);
	ATF_TP_ADD_TC(tp, open__struct_of_another_version);
	ATF_TP_ADD_TC(tp, open__nobody_there);
	ATF_TP_ADD_TC(tp, open__silent_server);
	ATF_TP_ADD_TC(tp, open__long_path);
	ATF_TP_ADD_TC(tp, open__server_closes);
	ATF_TP_ADD_TC(tp, open__not_a_socket);
	ATF_TP_ADD_TC(tp, open__wrong_json);
	ATF_TP_ADD_TC(tp, access__reads_what_was_written);
	ATF_TP_ADD_TC(tp, access__outside_or_not_allowed);
	ATF_TP_ADD_TC(tp, access__large_in_one_message);
	ATF_TP_ADD_TC(tp, reset__good_server);
	ATF_TP_ADD_TC(tp, unref__spawned_server);
	ATF_TP_ADD_TC(tp, open__program_that_is_not_there);
	return atf_no_error();
}
