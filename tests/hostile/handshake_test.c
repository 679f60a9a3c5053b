/* SPDX-License-Identifier: BSD-2-Clause */
/* Servers that never become a device. */
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/hostile/scene.h"

#define TWIN(index)                                                            \
	"{\"capabilities\":{\"twin_socket\":{\"supported\":true," index "}}}"

/* --- Silence, and the end ----------------------------------------------------- */

static void silent_at(uint16_t command, const char *reason)
{
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = scene_silent;
	scene.bad.arg = &command;
	scene.bad.irqs[0] = 1;
	scene_refused(&scene, -ETIMEDOUT, reason);
	scene_end(&scene);
}

CLEAT_TC(silence__at_version)
{
	silent_at(VFIO_USER_VERSION, "VERSION: no reply in time");
}

CLEAT_TC(silence__at_device_info)
{
	silent_at(VFIO_USER_DEVICE_GET_INFO, "GET_INFO: no reply in time");
}

CLEAT_TC(silence__at_region_info)
{
	silent_at(VFIO_USER_DEVICE_GET_REGION_INFO, "what the device has");
}

CLEAT_TC(silence__at_irq_info)
{
	silent_at(VFIO_USER_DEVICE_GET_IRQ_INFO, "what the device has");
}

/* Closes after so many bytes of its answers to the handshake. */
struct closer {
	size_t left;
	bool through; /* it had something left at the end */
};

static int close_in_time(struct model *model, const struct peer_message *m)
{
	struct closer *closer = model->arg;
	uint32_t words[8] = { 32 };
	size_t length = 32;

	if (m->header.command == VFIO_USER_VERSION) {
		words[0] = 1u << 16; /* major 0, minor 1 */
		length = 4;
	} else if (m->header.command == VFIO_USER_DEVICE_GET_INFO) {
		words[2] = words[3] = 1; /* regions, interrupts */
		length = 16;
	} else if (m->header.command == VFIO_USER_DEVICE_GET_IRQ_INFO) {
		length = 16;
	}
	length += 16;
	if (length > closer->left) {
		struct peer_header header = scene_header(m, length - 16);
		char whole[48];

		memcpy(whole, &header, 16);
		memcpy(whole + 16, words, 32);
		peer_send_raw(model->fd, whole, closer->left, NULL, 0);
		return -EPIPE;
	}
	closer->left -= length;
	closer->through = m->header.command == VFIO_USER_DEVICE_GET_IRQ_INFO;
	return scene_say(model, scene_header(m, length - 16), words,
			 length - 16, NULL, 0);
}

CLEAT_TC(close__at_each_byte_of_each_message)
{
	struct closer closer = { 0 };
	struct scene scene;
	size_t bytes;

	scene_begin(&scene);
	scene.config.control_ms = 5000;
	scene.bad.arg = &closer;
	/* 20 + 32 + 48 + 32 bytes in all. */
	for (bytes = 0; bytes < 132; bytes++) {
		closer = (struct closer){ bytes };
		scene.bad.on = close_in_time;
		scene_refused(&scene, -ECONNRESET, "closed the connection");
		ATF_REQUIRE(!closer.through);
	}
	closer = (struct closer){ bytes };
	scene_open(&scene);
	ATF_CHECK(closer.through);
	scene_end(&scene);
}

/* The whole of it has one deadline, however often a byte comes. */
static int drip(struct model *model, const struct peer_message *m)
{
	struct peer_header header = scene_header(m, 4);
	char byte = 0;

	if (peer_send_raw(model->fd, &header, sizeof(header), NULL, 0))
		return -EPIPE;
	while (!wait_fd(model->fd, POLLIN, 50))
		if (peer_send_raw(model->fd, &byte, 1, NULL, 0))
			break;
	return -EPIPE;
}

CLEAT_TC(drip__a_byte_now_and_then)
{
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = drip;
	scene.config.control_ms = 120;
	scene_refused(&scene, -ETIMEDOUT, "no reply in time");
	scene_end(&scene);
}

/* --- Connecting ------------------------------------------------------------------ */

CLEAT_TC(connect__taken_by_nobody)
{
	struct cleat_device *dev;
	struct cleat_error why;
	struct scene scene;
	int listener;

	scene_begin(&scene);
	listener = peer_listen("socket");
	scene.config.path = "socket";
	ATF_CHECK_EQ(-ETIMEDOUT,
		     cleat_device_open(&scene.config, &dev, &why));
	ATF_CHECK_MATCH("VERSION: no reply in time", why.text);
	close(listener);
	scene_end(&scene);
}

CLEAT_TC(connect__backlog_full)
{
	struct deadline spent = deadline_in(PATIENCE_MS);
	struct cleat_device *dev;
	struct cleat_error why;
	struct scene scene;
	int listener, first;

	scene_begin(&scene);
	listener = peer_listen("socket");
	ATF_REQUIRE_EQ(0, listen(listener, 0));
	first = peer_connect("socket");
	scene.config.path = "socket";
	ATF_CHECK_EQ(-ETIMEDOUT,
		     cleat_device_open(&scene.config, &dev, &why));
	ATF_CHECK_MATCH("socket: the server takes no connection", why.text);
	ATF_CHECK(deadline_spent(&spent) < SHORT_MS + SLACK_MS);
	close(first);
	close(listener);
	scene_end(&scene);
}

static void spawn_refused(const char *script, int code, const char *reason)
{
	const char *argv[] = { "/bin/sh", "-c", script, NULL };
	struct cleat_device *dev;
	struct cleat_error why;
	struct scene scene;

	scene_begin(&scene);
	scene.config.argv = argv;
	ATF_CHECK_EQ(code, cleat_device_open(&scene.config, &dev, &why));
	ATF_CHECK_MATCH(reason, why.text);
	scene_end(&scene);
}

CLEAT_TC(spawn__ends_at_once)
{
	spawn_refused("exit 3", -ECONNRESET, "closed the connection|is gone");
}

/* Nor does it end when it is told to. */
CLEAT_TC(spawn__silent_and_stubborn)
{
	spawn_refused("trap '' TERM; while :; do sleep 1; done", -ETIMEDOUT,
		      "VERSION: no reply in time");
}

/* --- VERSION ----------------------------------------------------------------------- */

struct version {
	uint16_t major;
	uint16_t minor;
	size_t length;
};

static int say_version(struct model *model, const struct peer_message *m)
{
	const struct version *version = model->arg;

	if (m->header.command != VFIO_USER_VERSION)
		return 0;
	return scene_say(model, scene_header(m, version->length), version,
			 version->length, NULL, 0);
}

static void version_refused(struct version version, const char *reason)
{
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = say_version;
	scene.bad.arg = &version;
	scene_refused(&scene, -EPROTO, reason);
	scene_end(&scene);
}

CLEAT_TC(version__major_1)
{
	version_refused((struct version){ 1, 0, 4 }, "wants version 1.0");
}

CLEAT_TC(version__minor_above_ours)
{
	version_refused((struct version){ 0, 77, 4 }, "wants version 0.77");
}

CLEAT_TC(version__cut_off)
{
	version_refused((struct version){ 0, 1, 3 },
			"VERSION has 3 bytes, which cannot be");
}

static int refuse_version(struct model *model, const struct peer_message *m)
{
	return peer_reply_error(model->fd, m, EACCES) ? -EPIPE : 1;
}

CLEAT_TC(version__refused)
{
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = refuse_version;
	scene_refused(&scene, -EACCES, "VERSION: the server says: Permission");
	scene_end(&scene);
}

static int ask_for_version(struct model *model, const struct peer_message *m)
{
	static const uint32_t version = 1u << 16;

	if (m->header.command == VFIO_USER_VERSION) /* its reply, or ours */
		return m->header.flags & PEER_REPLY ? 1 : 0;
	if (!scene_is_read(m))
		return 0;
	return peer_command(model->fd, 99, VFIO_USER_VERSION, &version, 4,
			    NULL, 0);
}

/* A second VERSION from the wrong side: an error for it, nothing for us. */
CLEAT_TC(version__asked_of_us)
{
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = ask_for_version;
	scene_open(&scene);
	ATF_CHECK_EQ(0, scene_read(&scene));
	REQUIRE_SOON(model_count(&scene.bad, VFIO_USER_VERSION) == 2);
	scene_stands(&scene);
	scene_end(&scene);
}

static int answer_twice(struct model *model, const struct peer_message *m)
{
	static const uint32_t version = 1u << 16;

	if (m->header.command != VFIO_USER_VERSION)
		return 0;
	scene_say(model, scene_header(m, 4), &version, 4, NULL, 0);
	return scene_say(model, scene_header(m, 4), &version, 4, NULL, 0);
}

CLEAT_TC(version__answered_twice)
{
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = answer_twice;
	scene_refused(&scene, -EPROTO, "nobody made .*VERSION");
	scene_end(&scene);
}

/* --- The twin socket ------------------------------------------------------------------ */

/* What is passed for it: descriptors, of which the model closes its own. */
struct twin {
	int fds[4];
	unsigned n_fds;
	const char *json;
};

static int say_twin(struct model *model, const struct peer_message *m)
{
	const struct twin *twin = model->arg;
	char body[256] = { 0, 0, 1, 0 };

	if (m->header.command != VFIO_USER_VERSION)
		return 0;
	strcpy(body + 4, twin->json);
	return scene_say(model, scene_header(m, 5 + strlen(twin->json)), body,
			 5 + strlen(twin->json), twin->fds, twin->n_fds);
}

static void twin_refused(struct twin twin, const char *reason)
{
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = say_twin;
	scene.bad.arg = &twin;
	scene_refused(&scene, -EPROTO, reason);
	for (unsigned i = 0; i < twin.n_fds; i++)
		close(twin.fds[i]);
	scene_end(&scene);
}

CLEAT_TC(twin__without_its_descriptor)
{
	twin_refused((struct twin){ .json = TWIN("\"fd_index\":0") },
		     "twin socket without its descriptor");
}

CLEAT_TC(twin__index_past_the_descriptors)
{
	int pair[2];

	peer_pair(pair);
	twin_refused((struct twin){ { pair[0], pair[1] }, 2,
				    TWIN("\"fd_index\":2") },
		     "twin socket without its descriptor");
}

CLEAT_TC(twin__index_negative)
{
	twin_refused((struct twin){ .json = TWIN("\"fd_index\":-1") },
		     "\"fd_index\": out of range");
}

CLEAT_TC(twin__a_pipe)
{
	int pair[2];

	ATF_REQUIRE_EQ(0, pipe2(pair, O_CLOEXEC));
	twin_refused((struct twin){ { pair[0], pair[1] }, 2,
				    TWIN("\"fd_index\":1") },
		     "twin socket is no stream socket");
}

CLEAT_TC(twin__a_datagram_socket)
{
	int pair[2];

	ATF_REQUIRE_EQ(0, socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0,
				     pair));
	twin_refused((struct twin){ { pair[0], pair[1] }, 2,
				    TWIN("\"fd_index\":0") },
		     "twin socket is no stream socket");
}

CLEAT_TC(twin__a_directory)
{
	twin_refused((struct twin){ { open("/", O_RDONLY | O_CLOEXEC) }, 1,
				    TWIN("\"fd_index\":0") },
		     "twin socket is no stream socket");
}

/* --- What the device says that it has -------------------------------------------------- */

struct numbers {
	uint32_t regions;
	uint32_t irqs;
	uint32_t vectors;
	uint32_t irq_index;
};

static int say_numbers(struct model *model, const struct peer_message *m)
{
	const struct numbers *numbers = model->arg;
	struct cleat_wire_device_info info = { 16, 0, numbers->regions,
					       numbers->irqs };
	struct cleat_wire_irq_info irq = { 16, 1, numbers->irq_index,
					   numbers->vectors };

	if (m->header.command == VFIO_USER_DEVICE_GET_INFO)
		return scene_say(model, scene_header(m, 16), &info, 16, NULL,
				 0);
	if (m->header.command == VFIO_USER_DEVICE_GET_IRQ_INFO)
		return scene_say(model, scene_header(m, 16), &irq, 16, NULL, 0);
	return 0;
}

static void numbers_refused(struct numbers numbers, const char *reason)
{
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = say_numbers;
	scene.bad.arg = &numbers;
	scene_refused(&scene, -EPROTO, reason);
	scene_end(&scene);
}

CLEAT_TC(info__too_many_regions)
{
	numbers_refused((struct numbers){ .regions = UINT32_MAX },
			"too many regions");
	numbers_refused((struct numbers){ .regions = 1025 },
			"too many regions");
}

CLEAT_TC(info__too_many_interrupt_types)
{
	numbers_refused((struct numbers){ .irqs = UINT32_MAX },
			"too many interrupt types");
}

CLEAT_TC(irq_info__too_many_vectors)
{
	numbers_refused((struct numbers){ .irqs = 1, .vectors = UINT32_MAX },
			"too many vectors");
}

CLEAT_TC(irq_info__of_another_type)
{
	numbers_refused((struct numbers){ .irqs = 1, .irq_index = 3 },
			"another interrupt");
}

/* As many as there may be, none of which is there. */
CLEAT_TC(info__a_thousand_regions)
{
	struct numbers numbers = { .regions = 1024 };
	struct cleat_region_info info = { .size = sizeof(info) };
	struct scene scene;

	scene_begin(&scene);
	scene.config.control_ms = 5000;
	scene.bad.on = say_numbers;
	scene.bad.arg = &numbers;
	scene_open(&scene);
	ATF_CHECK_EQ(0, cleat_region_info(scene.dev, 1023, &info));
	ATF_CHECK_EQ(0, info.length);
	ATF_CHECK_EQ(-ENOENT, cleat_region_info(scene.dev, 1024, &info));
	scene_end(&scene);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, silence__at_version);
	ATF_TP_ADD_TC(tp, silence__at_device_info);
	ATF_TP_ADD_TC(tp, silence__at_region_info);
	ATF_TP_ADD_TC(tp, silence__at_irq_info);
	ATF_TP_ADD_TC(tp, close__at_each_byte_of_each_message);
	ATF_TP_ADD_TC(tp, drip__a_byte_now_and_then);
	ATF_TP_ADD_TC(tp, connect__taken_by_nobody);
	ATF_TP_ADD_TC(tp, connect__backlog_full);
	ATF_TP_ADD_TC(tp, spawn__ends_at_once);
	ATF_TP_ADD_TC(tp, spawn__silent_and_stubborn);
	ATF_TP_ADD_TC(tp, version__major_1);
	ATF_TP_ADD_TC(tp, version__minor_above_ours);
	ATF_TP_ADD_TC(tp, version__cut_off);
	ATF_TP_ADD_TC(tp, version__refused);
	ATF_TP_ADD_TC(tp, version__asked_of_us);
	ATF_TP_ADD_TC(tp, version__answered_twice);
	ATF_TP_ADD_TC(tp, twin__without_its_descriptor);
	ATF_TP_ADD_TC(tp, twin__index_past_the_descriptors);
	ATF_TP_ADD_TC(tp, twin__index_negative);
	ATF_TP_ADD_TC(tp, twin__a_pipe);
	ATF_TP_ADD_TC(tp, twin__a_datagram_socket);
	ATF_TP_ADD_TC(tp, twin__a_directory);
	ATF_TP_ADD_TC(tp, info__too_many_regions);
	ATF_TP_ADD_TC(tp, info__too_many_interrupt_types);
	ATF_TP_ADD_TC(tp, irq_info__too_many_vectors);
	ATF_TP_ADD_TC(tp, irq_info__of_another_type);
	ATF_TP_ADD_TC(tp, info__a_thousand_regions);
	return atf_no_error();
}
