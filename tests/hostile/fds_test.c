/* SPDX-License-Identifier: BSD-2-Clause */
/* Descriptors where none belong, in odd places, and more than there are. */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "tests/hostile/fuse.h"
#include "tests/hostile/scene.h"

/* The reply to a read of offset 0 comes with these. */
struct gift {
	int fds[64];
	unsigned n_fds;
};

static int give(struct model *model, const struct peer_message *m)
{
	const struct gift *gift = model->arg;
	uint32_t reply[5] = { 0, 0, 0, 4, 7 };

	if (!scene_is_read(m))
		return 0;
	return scene_say(model, scene_header(m, 20), reply, 20, gift->fds,
			 gift->n_fds);
}

static void begin(struct scene *scene, struct gift *gift)
{
	scene_begin(scene);
	scene->bad.on = give;
	scene->bad.arg = gift;
	scene_open(scene);
}

static struct gift eventfds(unsigned number)
{
	struct gift gift = { .n_fds = number };

	for (unsigned i = 0; i < number; i++)
		gift.fds[i] = eventfd(0, EFD_CLOEXEC);
	return gift;
}

static void end(struct scene *scene, struct gift *gift)
{
	for (unsigned i = 0; i < gift->n_fds; i++)
		close(gift->fds[i]);
	scene_end(scene);
}

/* CLEAT_TC counts: each of them is closed. */
CLEAT_TC(unwanted__with_every_reply)
{
	struct gift gift = eventfds(32);
	struct scene scene;

	begin(&scene, &gift);
	for (unsigned i = 0; i < 200; i++)
		ATF_REQUIRE_EQ(0, scene_read(&scene));
	scene_stands(&scene);
	end(&scene, &gift);
}

static int give_with_request(struct model *model, const struct peer_message *m)
{
	const struct gift *gift = model->arg;
	struct cleat_wire_dma dma = { 0x1000, 8 };

	if (m->header.command == VFIO_USER_DMA_READ)
		return 1; /* our answer to it */
	if (!scene_is_read(m))
		return 0;
	for (uint16_t i = 0; i < 50; i++)
		if (peer_command(model->fd, i, VFIO_USER_DMA_READ, &dma,
				 sizeof(dma), gift->fds, gift->n_fds))
			return -EPIPE;
	return 0;
}

CLEAT_TC(unwanted__with_every_request)
{
	struct gift gift = eventfds(16);
	struct scene scene;

	begin(&scene, &gift);
	scene.bad.on = give_with_request;
	ATF_CHECK_EQ(0, scene_read(&scene));
	REQUIRE_SOON(model_count(&scene.bad, VFIO_USER_DMA_READ) == 50);
	scene_stands(&scene);
	end(&scene, &gift);
}

/* Closing them may wait for the server: once is enough. */
static void ends_it(int fd, struct fuse *fuse)
{
	struct gift gift = { { fd }, 1 };
	struct deadline spent;
	struct scene scene;
	int err;

	begin(&scene, &gift);
	spent = deadline_in(PATIENCE_MS);
	err = scene_read(&scene);
	ATF_CHECK(err == 0 || err == -ENOTCONN);
	scene_lost(&scene, -EPROTO, "files where none belong");
	cleat_device_unref(scene.dev);
	ATF_CHECK(deadline_spent(&spent) < SHORT_MS + SLACK_MS);
	model_end(&scene.bad);
	scene.dev = NULL;
	scene_check_friend(&scene);
	if (fuse)
		fuse_end(fuse);
	end(&scene, &gift);
}

CLEAT_TC(unwanted__a_directory)
{
	ends_it(open("/", O_RDONLY | O_CLOEXEC), NULL);
}

CLEAT_TC(unwanted__on_fuse)
{
	struct fuse fuse;

	ends_it(fuse_start(&fuse), &fuse);
}

/* --- In odd places ---------------------------------------------------------------- */

/* Else the kernel hands over all in one piece, and who is to know where in it
 * the descriptors came. */
static int await_reader(struct model *model)
{
	struct deadline soon = deadline_in(PATIENCE_MS);
	int left;

	while (!ioctl(model->fd, TIOCOUTQ, &left) && left) {
		if (!deadline_left(&soon))
			return -ETIMEDOUT;
		usleep(200);
	}
	return 0;
}

static int give_in_the_middle(struct model *model, const struct peer_message *m)
{
	const struct gift *gift = model->arg;
	struct peer_header header = scene_header(m, 20);

	if (!scene_is_read(m))
		return 0;
	if (peer_send_raw(model->fd, &header, 7, NULL, 0) ||
	    await_reader(model) ||
	    peer_send_raw(model->fd, (char *)&header + 7, 9, gift->fds, 1))
		return -EPIPE;
	return 1;
}

CLEAT_TC(place__inside_a_header)
{
	struct gift gift = eventfds(1);
	struct scene scene;

	begin(&scene, &gift);
	scene.bad.on = give_in_the_middle;
	ATF_CHECK_EQ(-ENOTCONN, scene_read(&scene));
	scene_lost(&scene, -EPROTO, "in the middle of a message");
	end(&scene, &gift);
}

static int give_late(struct model *model, const struct peer_message *m)
{
	const struct gift *gift = model->arg;
	struct peer_header header = scene_header(m, 16 + 60000);
	static char data[30000];

	if (m->header.command != VFIO_USER_REGION_READ)
		return 0;
	if (peer_send_raw(model->fd, &header, sizeof(header), NULL, 0) ||
	    peer_send_raw(model->fd, data, sizeof(data), NULL, 0) ||
	    await_reader(model) ||
	    peer_send_raw(model->fd, data, 1, gift->fds, 1))
		return -EPIPE;
	return 1;
}

CLEAT_TC(place__inside_a_large_body)
{
	struct gift gift = eventfds(1);
	char *data = malloc(60000);
	struct scene scene;

	begin(&scene, &gift);
	scene.bad.on = give_late;
	ATF_CHECK_EQ(-ENOTCONN,
		     cleat_region_read(scene.dev, 0, 0, data, 60000));
	scene_lost(&scene, -EPROTO, "in the middle of a message");
	free(data);
	end(&scene, &gift);
}

/* --- More than a device may have -------------------------------------------------- */

static int give_regions(struct model *model, const struct peer_message *m)
{
	const struct gift *gift = model->arg;
	struct cleat_wire_region_info info = { .argsz = sizeof(info) };

	if (m->header.command != VFIO_USER_DEVICE_GET_REGION_INFO)
		return 0;
	memcpy(&info, m->body, sizeof(info));
	info.argsz = sizeof(info);
	return scene_say(model, scene_header(m, sizeof(info)), &info,
			 sizeof(info), gift->fds, gift->n_fds);
}

CLEAT_TC(limit__of_a_device)
{
	struct gift gift = eventfds(60);
	struct scene scene;

	scene_begin(&scene);
	scene.bad.num_regions = 9;
	scene.bad.on = give_regions;
	scene.bad.arg = &gift;
	scene_refused(&scene, -EPROTO, "passes more than 512 descriptors");
	end(&scene, &gift);
}

/* --- More than the process may have -------------------------------------------------- */

static void set_limit(unsigned more, struct rlimit *old)
{
	struct rlimit limit;

	ATF_REQUIRE_EQ(0, getrlimit(RLIMIT_NOFILE, old));
	limit = *old;
	limit.rlim_cur = count_fds() + more;
	ATF_REQUIRE_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
}

CLEAT_TC(limit__of_the_process_while_receiving)
{
	struct gift gift = eventfds(32);
	struct rlimit old;
	struct scene scene;

	skip_on_valgrind("it keeps limits on descriptors itself");
	begin(&scene, &gift);
	set_limit(8, &old);
	ATF_CHECK_EQ(-ENOTCONN, scene_read(&scene));
	scene_lost(&scene, -EMFILE, "receiving failed: Too many open files");
	scene_check_friend(&scene);
	ATF_REQUIRE_EQ(0, setrlimit(RLIMIT_NOFILE, &old));
	end(&scene, &gift);
}

/* The socket and its copy, the epoll, and what else it takes: one less each
 * time. Nothing is left behind, and with enough of them it works. */
CLEAT_TC(limit__of_the_process_while_opening)
{
	struct cleat_device_config config = { .size = sizeof(config) };
	struct cleat_device *dev;
	struct cleat_error why;
	struct scene scene;
	struct rlimit old;
	unsigned more;
	int err = -EMFILE;

	skip_on_valgrind("it keeps limits on descriptors itself");
	scene_begin(&scene);
	for (more = 0; err && more < 20; more++) {
		config.fd = model_start(&scene.bad);
		set_limit(more, &old);
		err = cleat_device_open(&config, &dev, &why);
		ATF_CHECK_EQ(0, setrlimit(RLIMIT_NOFILE, &old));
		if (err)
			ATF_CHECK_EQ_MSG(-EMFILE, err, "%u: %s", more,
					 why.text);
		else
			cleat_device_unref(dev);
		close(config.fd);
		model_end(&scene.bad);
		scene_check_friend(&scene);
	}
	ATF_CHECK_EQ(0, err);
	ATF_CHECK(more > 1);
	scene_end(&scene);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, unwanted__with_every_reply);
	ATF_TP_ADD_TC(tp, unwanted__with_every_request);
	ATF_TP_ADD_TC(tp, unwanted__a_directory);
	ATF_TP_ADD_TC(tp, unwanted__on_fuse);
	ATF_TP_ADD_TC(tp, place__inside_a_header);
	ATF_TP_ADD_TC(tp, place__inside_a_large_body);
	ATF_TP_ADD_TC(tp, limit__of_a_device);
	ATF_TP_ADD_TC(tp, limit__of_the_process_while_receiving);
	ATF_TP_ADD_TC(tp, limit__of_the_process_while_opening);
	return atf_no_error();
}
