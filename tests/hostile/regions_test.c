/* SPDX-License-Identifier: BSD-2-Clause */
/* Regions, their capabilities, and the files that are to be their pages. */
#include <fcntl.h>
#include <linux/vfio.h>
#include <sys/mman.h>

#include "tests/hostile/fuse.h"
#include "tests/hostile/scene.h"

#define LENGTH 0x10000
#define MAPS (RW | CLEAT_REGION_MMAP)

/* The answer to REGION_INFO of region 0: built by the case. */
struct answer {
	union {
		struct cleat_wire_region_info info;
		uint8_t bytes[8192];
	};
	size_t length;
	int fds[64];
	unsigned n_fds;
	unsigned asked;
};

static int say_answer(struct model *model, const struct peer_message *m)
{
	struct answer *answer = model->arg;

	if (m->header.command != VFIO_USER_DEVICE_GET_REGION_INFO)
		return 0;
	answer->asked++;
	return scene_say(model, scene_header(m, answer->length), answer->bytes,
			 answer->length, answer->fds, answer->n_fds);
}

static void plain(struct answer *answer, uint32_t flags)
{
	memset(answer, 0, sizeof(*answer));
	answer->length = sizeof(answer->info);
	answer->info.argsz = sizeof(answer->info);
	answer->info.flags = flags;
	answer->info.size = LENGTH;
}

/* A capability header at @at; then the answer is as long as @end. */
static void put_cap(struct answer *answer, uint32_t at, uint16_t id,
		    uint32_t next, uint32_t end)
{
	struct vfio_info_cap_header cap = { id, 1, next };

	memcpy(answer->bytes + at, &cap, sizeof(cap));
	answer->info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
	if (!answer->info.cap_offset)
		answer->info.cap_offset = at;
	answer->length = end;
	answer->info.argsz = end;
}

/* Sparse areas of one file, in 64-bit words: offset, length, ... */
static void put_areas(struct answer *answer, uint32_t at, uint32_t count,
		      const uint64_t *words)
{
	put_cap(answer, at, VFIO_REGION_INFO_CAP_SPARSE_MMAP, 0,
		at + 16 + count * 16);
	memcpy(answer->bytes + at + 8, &count, 4);
	memcpy(answer->bytes + at + 16, words, count * 16);
}

static void close_fds(struct answer *answer)
{
	for (unsigned i = 0; i < answer->n_fds; i++)
		close(answer->fds[i]);
	answer->n_fds = 0;
}

static void refused(struct answer *answer, const char *reason)
{
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = say_answer;
	scene.bad.arg = answer;
	scene_refused(&scene, -EPROTO, reason);
	close_fds(answer);
	scene_end(&scene);
}

/* --- Chains of capabilities ------------------------------------------------------- */

CLEAT_TC(caps__loop)
{
	struct answer answer;

	plain(&answer, RW);
	put_cap(&answer, 32, 77, 32, 64);
	refused(&answer, "region 0: its capabilities run backwards");
}

CLEAT_TC(caps__backwards)
{
	struct answer answer;

	plain(&answer, RW);
	put_cap(&answer, 48, 77, 32, 64);
	put_cap(&answer, 32, 77, 48, 64);
	answer.info.cap_offset = 48;
	refused(&answer, "its capabilities run backwards");
}

CLEAT_TC(caps__inside_the_fixed_part)
{
	struct answer answer;

	plain(&answer, RW);
	put_cap(&answer, 8, 77, 0, 64);
	refused(&answer, "its capabilities run backwards|another region");
}

CLEAT_TC(caps__outside_the_reply)
{
	struct answer answer;

	plain(&answer, RW);
	put_cap(&answer, 32, 77, 0xfffffff0u, 64);
	refused(&answer, "a capability outside the reply");
}

CLEAT_TC(caps__cut_off)
{
	struct answer answer;

	plain(&answer, MAPS);
	put_areas(&answer, 32, 4, (uint64_t[8]){ 0 });
	answer.length = answer.info.argsz = 32 + 16 + 24;
	refused(&answer, "sparse capability is cut off");
	plain(&answer, RW);
	put_cap(&answer, 32, VFIO_REGION_INFO_CAP_TYPE, 0, 44);
	refused(&answer, "type capability is cut off");
}

CLEAT_TC(caps__two_sparse)
{
	struct answer answer;

	plain(&answer, MAPS);
	put_areas(&answer, 64, 0, (uint64_t[1]){ 0 });
	put_cap(&answer, 32, VFIO_REGION_INFO_CAP_SPARSE_MMAP, 64, 80);
	answer.info.cap_offset = 32;
	refused(&answer, "two sparse capabilities");
}

/* --- Areas ------------------------------------------------------------------------- */

static void areas_refused(uint32_t count, const uint64_t *words,
			  const char *reason)
{
	struct answer answer;

	plain(&answer, MAPS);
	put_areas(&answer, 32, count, words);
	answer.fds[0] = memfd(LENGTH, F_SEAL_SHRINK);
	answer.n_fds = 1;
	refused(&answer, reason);
}

CLEAT_TC(areas__overlap)
{
	areas_refused(2, (uint64_t[]){ 0x1000, 0x2000, 0x2000, 0x1000 },
		      "sparse areas overlap");
}

CLEAT_TC(areas__past_the_region)
{
	areas_refused(1, (uint64_t[]){ 0xf000, 0x2000 },
		      "a sparse area outside the region");
}

CLEAT_TC(areas__around_the_end_of_the_world)
{
	areas_refused(1, (uint64_t[]){ 0x1000, -(uint64_t)0x1000 },
		      "a sparse area outside the region");
}

CLEAT_TC(areas__a_million)
{
	struct answer answer;
	uint32_t count = 1000000;

	plain(&answer, MAPS);
	put_areas(&answer, 32, 0, (uint64_t[1]){ 0 });
	memcpy(answer.bytes + 40, &count, 4);
	refused(&answer, "too many sparse areas");
}

CLEAT_TC(areas__file_offset_past_all_files)
{
	struct answer answer;

	plain(&answer, MAPS);
	answer.info.offset = INT64_MAX - 0x1000;
	answer.fds[0] = memfd(LENGTH, 0);
	answer.n_fds = 1;
	refused(&answer, "an impossible file offset");
}

/* Capability 16 says which descriptor each area has. */
CLEAT_TC(areas__file_that_was_not_sent)
{
	struct answer answer;
	uint64_t area[4] = { 0, 0, 0x1000, 5 };
	uint32_t count = 1;

	plain(&answer, MAPS);
	put_cap(&answer, 32, 16, 0, 32 + 16 + 32);
	memcpy(answer.bytes + 40, &count, 4);
	memcpy(answer.bytes + 48, area, sizeof(area));
	answer.fds[0] = memfd(LENGTH, 0);
	answer.n_fds = 1;
	refused(&answer, "a sparse area without its file");
}

/* --- The fixed part ------------------------------------------------------------------ */

CLEAT_TC(info__cut_off)
{
	struct answer answer;

	plain(&answer, RW);
	answer.length = 24;
	refused(&answer, "GET_REGION_INFO has 24 bytes, which cannot be");
}

CLEAT_TC(info__larger_than_the_world)
{
	struct answer answer;

	plain(&answer, RW);
	answer.info.size = UINT64_MAX;
	refused(&answer, "an impossible size");
}

CLEAT_TC(info__of_another_region)
{
	struct answer answer;

	plain(&answer, RW);
	answer.info.index = 6;
	refused(&answer, "described another region");
}

CLEAT_TC(info__wants_four_gib_of_room)
{
	struct answer answer;

	plain(&answer, RW);
	answer.info.argsz = UINT32_MAX;
	refused(&answer, "description is too long");
}

/* However much it is asked with, it wants more. */
CLEAT_TC(info__wants_ever_more_room)
{
	struct answer answer;

	plain(&answer, RW);
	answer.info.argsz = 2000;
	refused(&answer, "its description is cut off");
	ATF_CHECK_EQ(2, answer.asked);
}

/* --- Files --------------------------------------------------------------------------- */

/* The region is taken on without that file: its first segment says why. */
static void bound_without_of(int fd, const char *why, struct fuse *fuse)
{
	struct cleat_segment segment;
	struct deadline spent;
	struct answer answer;
	struct bound bound;
	struct scene scene;

	plain(&answer, MAPS);
	answer.fds[0] = fd;
	answer.n_fds = 1;
	scene_begin(&scene);
	scene.bad.on = say_answer;
	scene.bad.arg = &answer;
	spent = deadline_in(PATIENCE_MS);
	scene_open(&scene);
	bound_begin(&bound, scene.dev);
	ATF_REQUIRE_EQ(0, cleat_binding_segment(bound.binding, 0, &segment));
	ATF_CHECK_EQ(CLEAT_WAY_TRAP, segment.read_way);
	ATF_CHECK_MATCH(why, segment.why);
	bound_store(&bound, 0, 0x1234, 4);
	ATF_CHECK_EQ(1, model_count(&scene.bad, VFIO_USER_REGION_WRITE));
	bound_end(&bound);
	cleat_device_unref(scene.dev);
	ATF_CHECK(deadline_spent(&spent) < SLACK_MS);
	model_end(&scene.bad);
	scene.dev = NULL;
	scene_check_friend(&scene);
	if (fuse)
		fuse_end(fuse);
	close_fds(&answer);
	scene_end(&scene);
}

static void bound_without(int fd, const char *why)
{
	bound_without_of(fd, why, NULL);
}

CLEAT_TC(file__a_directory)
{
	bound_without(open("/", O_RDONLY | O_CLOEXEC), "not on tmpfs");
}

CLEAT_TC(file__dev_zero)
{
	bound_without(open("/dev/zero", O_RDWR | O_CLOEXEC), "not on tmpfs");
}

CLEAT_TC(file__a_pipe)
{
	int ends[2];

	ATF_REQUIRE_EQ(0, pipe2(ends, O_CLOEXEC));
	bound_without(ends[0], "not on tmpfs");
	close(ends[1]);
}

CLEAT_TC(file__a_socket)
{
	int ends[2];

	peer_pair(ends);
	bound_without(ends[0], "not on tmpfs");
	close(ends[1]);
}

CLEAT_TC(file__on_a_disk)
{
	int fd = open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	ATF_REQUIRE_EQ(0, ftruncate(fd, LENGTH));
	if (fcntl(fd, F_GET_SEALS) >= 0)
		atf_tc_skip("the work directory is on tmpfs");
	bound_without(fd, "not on tmpfs");
}

CLEAT_TC(file__too_small)
{
	bound_without(memfd(LENGTH - 1, F_SEAL_SHRINK), "smaller than that");
}

/* Its server answers nothing: not fstat(), not close(). */
CLEAT_TC(file__on_fuse)
{
	struct fuse fuse;
	int fd = fuse_start(&fuse);

	bound_without_of(fd, "not on tmpfs", &fuse);
}

/* --- A file that shrinks ---------------------------------------------------------------- */

/* Whose file has no seal is never touched by a thread of ours. */
CLEAT_TC(shrunk__host_access)
{
	struct answer answer;
	struct bound bound;
	struct scene scene;

	plain(&answer, MAPS);
	answer.fds[0] = memfd(LENGTH, 0);
	answer.n_fds = 1;
	scene_begin(&scene);
	scene.bad.on = say_answer;
	scene.bad.arg = &answer;
	scene_open(&scene);
	bound_begin(&bound, scene.dev);
	ATF_CHECK_EQ(1, bound.slots);
	ATF_REQUIRE_EQ(0, ftruncate(answer.fds[0], 0));
	bound_load(&bound, 0, 4);
	ATF_CHECK_EQ(1, model_count(&scene.bad, VFIO_USER_REGION_READ));
	bound_end(&bound);
	close_fds(&answer);
	scene_end(&scene);
}

/* A file without a seal is under the guest. */
static void shrinkable_begin(struct scene *scene, struct answer *answer,
			     struct bound *bound,
			     int (*on)(struct model *model,
				       const struct peer_message *m))
{
	plain(answer, MAPS);
	answer->fds[0] = memfd(LENGTH, 0);
	answer->n_fds = 1;
	scene_begin(scene);
	scene->bad.on = on;
	scene->bad.arg = answer;
	scene_open(scene);
	bound_begin(bound, scene->dev);
	ATF_REQUIRE_EQ(1, bound->slots);
}

static void shrinkable_end(struct scene *scene, struct answer *answer,
			   struct bound *bound)
{
	/* Nothing is left that the guest could run into. */
	ATF_CHECK_EQ(0, bound->slots);
	ATF_CHECK_EQ(-ENOENT, cleat_mmio_fault(bound->mmio));
	bound_end(bound);
	close_fds(answer);
	scene_end(scene);
}

/* The guest ran into the hole: KVM_RUN has failed with EFAULT. */
CLEAT_TC(shrunk__guest_access)
{
	struct answer answer;
	struct bound bound;
	struct scene scene;

	shrinkable_begin(&scene, &answer, &bound, say_answer);
	ATF_REQUIRE_EQ(0, ftruncate(answer.fds[0], 0x1000));
	ATF_CHECK_EQ(0, cleat_mmio_fault(bound.mmio));
	scene_lost(&scene, -EFAULT, "shrank a file under the guest");
	ATF_CHECK_EQ(UINT32_MAX, bound_load(&bound, 0x8000, 4));
	shrinkable_end(&scene, &answer, &bound);
}

/* It was there for as long as it took to stop the guest. */
CLEAT_TC(shrunk__and_grown)
{
	struct answer answer;
	struct bound bound;
	struct scene scene;

	shrinkable_begin(&scene, &answer, &bound, say_answer);
	ATF_REQUIRE_EQ(0, ftruncate(answer.fds[0], 0x1000));
	ATF_REQUIRE_EQ(0, ftruncate(answer.fds[0], LENGTH));
	ATF_CHECK_EQ(0, cleat_mmio_fault(bound.mmio));
	scene_stands(&scene);
	bound_load(&bound, 0x8000, 4);
	ATF_CHECK_EQ(1, model_count(&scene.bad, VFIO_USER_REGION_READ));
	shrinkable_end(&scene, &answer, &bound);
}

static int shrink_and_leave(struct model *model, const struct peer_message *m)
{
	struct answer *answer = model->arg;

	if (m->header.command != VFIO_USER_REGION_READ)
		return say_answer(model, m);
	return ftruncate(answer->fds[0], 0x1000) ? -errno : -ESHUTDOWN;
}

static bool is_trapped(struct bound *bound)
{
	struct cleat_segment segment;

	return !cleat_binding_segment(bound->binding, 0, &segment) &&
	       segment.read_way == CLEAT_WAY_TRAP;
}

/* And is gone itself before the guest's thread can ask why it was stopped. */
CLEAT_TC(shrunk__and_left)
{
	struct answer answer;
	struct bound bound;
	struct scene scene;

	shrinkable_begin(&scene, &answer, &bound, shrink_and_leave);
	ATF_CHECK_EQ(-ENOTCONN, scene_read(&scene));
	REQUIRE_SOON(is_trapped(&bound));
	ATF_CHECK_EQ(0, cleat_mmio_fault(bound.mmio));
	shrinkable_end(&scene, &answer, &bound);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, caps__loop);
	ATF_TP_ADD_TC(tp, caps__backwards);
	ATF_TP_ADD_TC(tp, caps__inside_the_fixed_part);
	ATF_TP_ADD_TC(tp, caps__outside_the_reply);
	ATF_TP_ADD_TC(tp, caps__cut_off);
	ATF_TP_ADD_TC(tp, caps__two_sparse);
	ATF_TP_ADD_TC(tp, areas__overlap);
	ATF_TP_ADD_TC(tp, areas__past_the_region);
	ATF_TP_ADD_TC(tp, areas__around_the_end_of_the_world);
	ATF_TP_ADD_TC(tp, areas__a_million);
	ATF_TP_ADD_TC(tp, areas__file_offset_past_all_files);
	ATF_TP_ADD_TC(tp, areas__file_that_was_not_sent);
	ATF_TP_ADD_TC(tp, info__cut_off);
	ATF_TP_ADD_TC(tp, info__larger_than_the_world);
	ATF_TP_ADD_TC(tp, info__of_another_region);
	ATF_TP_ADD_TC(tp, info__wants_four_gib_of_room);
	ATF_TP_ADD_TC(tp, info__wants_ever_more_room);
	ATF_TP_ADD_TC(tp, file__a_directory);
	ATF_TP_ADD_TC(tp, file__dev_zero);
	ATF_TP_ADD_TC(tp, file__a_pipe);
	ATF_TP_ADD_TC(tp, file__a_socket);
	ATF_TP_ADD_TC(tp, file__on_a_disk);
	ATF_TP_ADD_TC(tp, file__too_small);
	ATF_TP_ADD_TC(tp, file__on_fuse);
	ATF_TP_ADD_TC(tp, shrunk__host_access);
	ATF_TP_ADD_TC(tp, shrunk__guest_access);
	ATF_TP_ADD_TC(tp, shrunk__and_grown);
	ATF_TP_ADD_TC(tp, shrunk__and_left);
	return atf_no_error();
}
