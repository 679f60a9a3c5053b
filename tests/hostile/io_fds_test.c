/* SPDX-License-Identifier: BSD-2-Clause */
/* GET_REGION_IO_FDS, and eventfds that are none or cannot take a kick. */
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>

#include "tests/hostile/fuse.h"
#include "tests/hostile/scene.h"

#define MOST_ENTRIES 10000

/* The answer: a head, entries, and what else the case makes of it. */
struct answer {
	struct cleat_wire_io_fds head;
	struct cleat_wire_io_fd entries[MOST_ENTRIES];
	size_t length; /* 0: as long as the head's count says */
	int fds[4];
	unsigned n_fds;
	bool silent;
};

static int say_answer(struct model *model, const struct peer_message *m)
{
	const struct answer *answer = model->arg;
	size_t length = answer->length;

	if (m->header.command != VFIO_USER_DEVICE_GET_REGION_IO_FDS)
		return 0;
	if (answer->silent)
		return 1;
	if (!length)
		length = sizeof(answer->head) +
			 answer->head.count * sizeof(answer->entries[0]);
	return scene_say(model, scene_header(m, length), answer, length,
			 answer->fds, answer->n_fds);
}

/* One good ioeventfd at offset 0. */
static struct answer *good_answer(void)
{
	struct answer *answer = calloc(1, sizeof(*answer));

	answer->head.count = 1;
	answer->head.argsz = sizeof(answer->head) + sizeof(answer->entries[0]);
	answer->entries[0].size = 4;
	answer->entries[0].shadow_fd_index = CLEAT_WIRE_NO_FD;
	answer->fds[0] = eventfd(0, EFD_CLOEXEC);
	answer->n_fds = 1;
	return answer;
}

static void begin(struct scene *scene, struct answer *answer)
{
	scene_begin(scene);
	scene->bad.on = say_answer;
	scene->bad.arg = answer;
	scene_open(scene);
}

static void end(struct scene *scene, struct answer *answer)
{
	for (unsigned i = 0; i < answer->n_fds; i++)
		close(answer->fds[i]);
	free(answer);
	scene_end(scene);
}

/* Asked by name they are refused; a guest reaches the region all the same. */
static void refused_with(struct answer *answer, int code, const char *reason)
{
	struct cleat_io_fds io_fds;
	struct cleat_error why;
	struct bound bound;
	struct scene scene;

	begin(&scene, answer);
	ATF_CHECK_EQ(code, cleat_device_io_fds(scene.dev, 0, &io_fds, &why));
	ATF_CHECK_MATCH(reason, why.text);
	cleat_io_fds_free(&io_fds);
	scene_stands(&scene);
	bound_begin(&bound, scene.dev);
	bound_store(&bound, 0, 0x1234, 4);
	ATF_CHECK_EQ(0x1234, bound_load(&bound, 0, 4));
	ATF_CHECK_EQ(1, model_count(&scene.bad, VFIO_USER_REGION_WRITE));
	bound_end(&bound);
	scene_stands(&scene);
	end(&scene, answer);
}

static void refused(struct answer *answer, const char *reason)
{
	refused_with(answer, -EPROTO, reason);
}

CLEAT_TC(entry__behind_the_region)
{
	struct answer *answer = good_answer();

	answer->entries[0].offset = 65536;
	refused(answer, "region 0: .*range lies outside");
}

CLEAT_TC(entry__over_the_end)
{
	struct answer *answer = good_answer();

	answer->entries[0].offset = 65533;
	refused(answer, "range lies outside");
}

CLEAT_TC(entry__around_the_end_of_the_world)
{
	struct answer *answer = good_answer();

	answer->entries[0].offset = 8;
	answer->entries[0].size = UINT64_MAX - 4;
	refused(answer, "range lies outside");
}

CLEAT_TC(entry__descriptor_not_sent)
{
	struct answer *answer = good_answer();

	answer->entries[0].fd_index = 1;
	refused(answer, "descriptor that was not sent");
}

CLEAT_TC(entry__no_descriptor)
{
	struct answer *answer = good_answer();

	answer->entries[0].fd_index = CLEAT_WIRE_NO_FD;
	refused(answer, "ioeventfd that is no eventfd");
}

CLEAT_TC(entry__a_pipe)
{
	struct answer *answer = good_answer();
	int ends[2];

	ATF_REQUIRE_EQ(0, pipe2(ends, O_CLOEXEC));
	close(answer->fds[0]);
	answer->fds[0] = ends[1];
	answer->fds[1] = ends[0];
	answer->n_fds = 2;
	refused(answer, "ioeventfd that is no eventfd");
}

CLEAT_TC(entry__a_file_named_like_an_eventfd)
{
	struct answer *answer = good_answer();

	close(answer->fds[0]);
	answer->fds[0] = open("anon_inode:[eventfd]",
			      O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	refused(answer, "ioeventfd that is no eventfd");
}

CLEAT_TC(entry__unknown_type)
{
	struct answer *answer = good_answer();

	answer->entries[0].type = 3;
	refused(answer, "of an unknown type");
}

CLEAT_TC(entry__shadow_without_its_page)
{
	struct answer *answer = good_answer();

	answer->entries[0].type = CLEAT_IO_FD_SHADOW;
	refused(answer, "shadow doorbell without its page");
	answer = good_answer();
	answer->entries[0].type = CLEAT_IO_FD_SHADOW;
	answer->entries[0].shadow_fd_index = 7;
	refused(answer, "shadow descriptor that was not sent");
}

CLEAT_TC(count__ten_thousand)
{
	struct answer *answer = good_answer();

	answer->head.count = MOST_ENTRIES;
	answer->head.argsz = 16 + MOST_ENTRIES * 48;
	answer->length = 16;
	refused(answer, "too many I/O descriptors");
}

/* All of them sent, unasked for. */
CLEAT_TC(count__ten_thousand_at_once)
{
	struct cleat_io_fds io_fds;
	struct cleat_error why;
	struct answer *answer = good_answer();
	struct scene scene;

	answer->head.count = MOST_ENTRIES;
	answer->head.argsz = 16 + MOST_ENTRIES * 48;
	begin(&scene, answer);
	ATF_CHECK_EQ(-EPROTO,
		     cleat_device_io_fds(scene.dev, 0, &io_fds, &why));
	scene_lost(&scene, -EPROTO, "IO_FDS has 480016 bytes, which cannot be");
	end(&scene, answer);
}

CLEAT_TC(count__more_than_are_there)
{
	struct answer *answer = good_answer();

	answer->head.count = 4;
	answer->length = 16 + 48;
	refused(answer, "of an impossible size");
}

CLEAT_TC(count__four_billion)
{
	struct answer *answer = good_answer();

	answer->head.count = UINT32_MAX;
	answer->length = 16 + 48;
	refused(answer, "too many I/O descriptors");
}

CLEAT_TC(size__wants_four_gib_of_room)
{
	struct answer *answer = good_answer();

	answer->head.argsz = UINT32_MAX;
	refused(answer, "too many I/O descriptors");
}

CLEAT_TC(size__of_nothing)
{
	struct answer *answer = good_answer();

	answer->head.argsz = 0;
	refused(answer, "of an impossible size");
}

CLEAT_TC(size__cut_off)
{
	struct answer *answer = good_answer();
	struct cleat_io_fds io_fds;
	struct cleat_error why;
	struct scene scene;

	answer->length = 8;
	begin(&scene, answer);
	ATF_CHECK_EQ(-EPROTO,
		     cleat_device_io_fds(scene.dev, 0, &io_fds, &why));
	scene_lost(&scene, -EPROTO, "IO_FDS has 8 bytes, which cannot be");
	end(&scene, answer);
}

CLEAT_TC(region__another)
{
	struct answer *answer = good_answer();

	answer->head.index = 3;
	refused(answer, "described another region");
}

CLEAT_TC(silence__then_by_message)
{
	struct answer *answer = good_answer();

	answer->silent = true;
	refused_with(answer, -ETIMEDOUT, "no reply in time");
}

/* What is more than the entries need is closed with them. */
CLEAT_TC(fds__more_than_entries)
{
	struct answer *answer = good_answer();
	struct cleat_io_fds io_fds;
	struct scene scene;

	for (answer->n_fds = 1; answer->n_fds < 4; answer->n_fds++)
		answer->fds[answer->n_fds] = eventfd(0, EFD_CLOEXEC);
	begin(&scene, answer);
	for (unsigned i = 0; i < 400; i++) {
		ATF_REQUIRE_EQ(0, cleat_device_io_fds(scene.dev, 0, &io_fds,
						      NULL));
		ATF_CHECK_EQ(4, io_fds.num_fds);
		cleat_io_fds_free(&io_fds);
	}
	end(&scene, answer);
}

/* --- Kicks ----------------------------------------------------------------------- */

static void fill(int fd)
{
	uint64_t most = UINT64_MAX - 1;

	ATF_REQUIRE_EQ(8, write(fd, &most, 8));
	ATF_REQUIRE(!wait_fd(fd, POLLOUT, 0));
}

/* The server has made it blocking and filled it: the store ends at once. */
static void kick_full(uint32_t type)
{
	struct answer *answer = good_answer();
	struct bound bound;
	struct scene scene;

	answer->entries[0].type = type;
	answer->entries[0].shadow_fd_index = 1;
	answer->fds[1] = memfd(4096, F_SEAL_SHRINK);
	answer->n_fds = 2;
	fill(answer->fds[0]);
	begin(&scene, answer);
	bound_begin(&bound, scene.dev);
	bound_store(&bound, 0, 0x1234, 4);
	ATF_CHECK_EQ(0, model_count(&scene.bad, VFIO_USER_REGION_WRITE));
	bound_end(&bound);
	end(&scene, answer);
}

CLEAT_TC(kick__full_to_the_brim)
{
	kick_full(CLEAT_IO_FD_IOEVENTFD);
}

CLEAT_TC(kick__shadow_full_to_the_brim)
{
	kick_full(CLEAT_IO_FD_SHADOW);
}

/* The shadow's file is none that may be touched: then by message. */
static void shadow_in(int fd, struct fuse *fuse)
{
	struct answer *answer = good_answer();
	struct bound bound;
	struct scene scene;

	answer->entries[0].type = CLEAT_IO_FD_SHADOW;
	answer->entries[0].shadow_fd_index = 1;
	answer->fds[1] = fd;
	answer->n_fds = 2;
	begin(&scene, answer);
	bound_begin(&bound, scene.dev);
	bound_store(&bound, 0, 0x1234, 4);
	ATF_CHECK_EQ(1, model_count(&scene.bad, VFIO_USER_REGION_WRITE));
	bound_end(&bound);
	scene_check_friend(&scene);
	if (fuse)
		fuse_end(fuse);
	end(&scene, answer);
}

CLEAT_TC(shadow__file_that_can_shrink)
{
	shadow_in(memfd(4096, 0), NULL);
}

CLEAT_TC(shadow__file_too_small)
{
	shadow_in(memfd(3, F_SEAL_SHRINK), NULL);
}

CLEAT_TC(shadow__on_fuse)
{
	struct fuse fuse;

	shadow_in(fuse_start(&fuse), &fuse);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, entry__behind_the_region);
	ATF_TP_ADD_TC(tp, entry__over_the_end);
	ATF_TP_ADD_TC(tp, entry__around_the_end_of_the_world);
	ATF_TP_ADD_TC(tp, entry__descriptor_not_sent);
	ATF_TP_ADD_TC(tp, entry__no_descriptor);
	ATF_TP_ADD_TC(tp, entry__a_pipe);
	ATF_TP_ADD_TC(tp, entry__a_file_named_like_an_eventfd);
	ATF_TP_ADD_TC(tp, entry__unknown_type);
	ATF_TP_ADD_TC(tp, entry__shadow_without_its_page);
	ATF_TP_ADD_TC(tp, count__ten_thousand);
	ATF_TP_ADD_TC(tp, count__ten_thousand_at_once);
	ATF_TP_ADD_TC(tp, count__more_than_are_there);
	ATF_TP_ADD_TC(tp, count__four_billion);
	ATF_TP_ADD_TC(tp, size__wants_four_gib_of_room);
	ATF_TP_ADD_TC(tp, size__of_nothing);
	ATF_TP_ADD_TC(tp, size__cut_off);
	ATF_TP_ADD_TC(tp, region__another);
	ATF_TP_ADD_TC(tp, silence__then_by_message);
	ATF_TP_ADD_TC(tp, fds__more_than_entries);
	ATF_TP_ADD_TC(tp, kick__full_to_the_brim);
	ATF_TP_ADD_TC(tp, kick__shadow_full_to_the_brim);
	ATF_TP_ADD_TC(tp, shadow__file_that_can_shrink);
	ATF_TP_ADD_TC(tp, shadow__file_too_small);
	ATF_TP_ADD_TC(tp, shadow__on_fuse);
	return atf_no_error();
}
