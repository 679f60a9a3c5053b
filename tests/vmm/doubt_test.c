/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The source has said GO and hears nothing of it: the target may have the guest.
 * The machine stands still, its devices too, until somebody who knows says
 * `resume`; then both go on, and can move again.
 */
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "tests/support/support.h"
#include "tests/vmm/moving.h"

#define RESUME "{\"command\":\"resume\"}"
#define MAKE_SURE "it had been told to go on: make sure that it does not run there, then resume"

struct scene {
	struct child here, there; /* servers */
	struct child source;
	int control;
};

static void start_server(struct child *server, const char *path,
			 const char *const *words)
{
	const char *argv[10] = { words[0] };
	char option[64];
	size_t i;

	snprintf(option, sizeof(option), "--socket-path=%s", path);
	argv[1] = option;
	/* What a killed one left behind is not the new one. */
	unlink(path);
	for (i = 1; words[i]; i++)
		argv[1 + i] = words[i];
	child_start(server, path, argv);
	REQUIRE_SOON(!access(path, F_OK) || child_ended(server));
}

static void start_probe(struct child *probe, const char *path, const char *how)
{
	start_server(probe, path, (const char *const[]){
		program("backends/cleat-probe"), "--no-mapped",
		"--no-ioeventfd", "--no-shadow", how, NULL });
}

/* A guest that looks after each burst of stores whether its device has them. */
static void begin(const atf_tc_t *tc, struct scene *scene, const char *how)
{
	close(kvm_open(tc));
	start_probe(&scene->here, "here.dev", how);
	start_probe(&scene->there, "there.dev", how);
	GUEST("kernel", STORES_AND_READS(10), PRINT_AND_AGAIN);
	start_prepared(&scene->source, "here.dev");
	scene->control = control_connect("source.sock");
}

static void end(struct scene *scene)
{
	arrive(&scene->source, scene->control, "there.dev");
	child_end(&scene->here);
	child_end(&scene->there);
}

/* It stands still, says why, and takes orders. */
static void require_doubtful(const struct scene *scene, const char *words)
{
	const char *answer = await_status(scene->control, "\"doubtful\"");
	size_t before = printed("source");

	ATF_REQUIRE_MSG(strstr(answer, "\"state\":\"paused\"") &&
				strstr(answer, words) &&
				strstr(answer, MAKE_SURE),
			"no %s in: %s", words, answer);
	ATF_REQUIRE(strstr(said("source.err"), words));
	ATF_REQUIRE(strstr(said("source.err"), MAKE_SURE));
	require_answer(scene->control,
		       "{\"command\":\"migrate\",\"to\":\"file:snap\"}",
		       "may run elsewhere");
	require_answer(scene->control, CANCEL, "no migration is under way");
	require_answer(scene->control, "{\"command\":\"pause\"}", OK);
	usleep(50000); /* what must not happen has no event */
	ATF_REQUIRE_EQ(before, printed("source"));
}

static void take_back(const struct scene *scene)
{
	require_answer(scene->control, RESUME, OK);
	await_status(scene->control, "\"state\":\"running\"");
	await_status(scene->control, "\"phase\":\"failed\"");
	require_runs_on("source");
	ATF_REQUIRE(strstr(said("source.err"),
			   "resume: the machine runs on here"));
	/* Once more is nothing. */
	require_answer(scene->control, RESUME, OK);
}

/* ---- A target that is played, as far as GO ---- */

enum manner { HANGS_UP, SAYS_AGAIN, TALKS_NONSENSE, IS_SILENT };

struct player {
	enum manner manner;
	atomic_bool told; /* to go on */
	atomic_bool leave; /* who is silent hangs up at last */
	int listener;
	struct script script;
};

static int play_to_go(struct stream *stream)
{
	struct section section;
	int err;

	do
		err = cleat_vmm_stream_receive(stream, &section);
	while (!err && section.type != SECTION_END);
	if (err)
		return err;
	cleat_vmm_stream_begin(stream, SECTION_READY);
	err = cleat_vmm_stream_send(stream);
	if (!err)
		err = cleat_vmm_stream_receive(stream, &section);
	return !err && section.type != SECTION_GO ? -EBADMSG : err;
}

static void await_leave(const struct player *player)
{
	struct deadline deadline = deadline_in(3 * PATIENCE_MS);

	while (!atomic_load(&player->leave) && deadline_left(&deadline))
		usleep(200);
}

static int play(void *arg)
{
	static const atomic_bool never;
	struct player *player = arg;
	const char nonsense[64] = "";
	struct stream stream;
	int fd = peer_accept(player->listener), err;

	if (fd < 0)
		return fd;
	err = cleat_vmm_stream_open(&stream, fd, &never);
	if (!err)
		err = play_to_go(&stream);
	atomic_store(&player->told, !err);
	if (!err && player->manner == SAYS_AGAIN)
		err = cleat_vmm_stream_send(&stream);
	if (!err && player->manner == TALKS_NONSENSE)
		err = peer_send_raw(fd, nonsense, sizeof(nonsense), NULL, 0);
	if (!err && player->manner == IS_SILENT)
		await_leave(player);
	else if (!err && player->manner != HANGS_UP)
		poll(&(struct pollfd){ .fd = fd, .events = POLLRDHUP }, 1,
		     3 * PATIENCE_MS);
	cleat_vmm_stream_close(&stream);
	close(fd);
	return err;
}

static void play_target(struct scene *scene, enum manner manner)
{
	struct player player = { .manner = manner };

	player.listener = peer_listen("move.sock");
	script_start(&player.script, play, &player);
	migrate(scene->control, "unix:move.sock", "");
	if (manner == IS_SILENT) {
		await_status(scene->control, "\"stopped\"");
		REQUIRE_SOON(atomic_load(&player.told));
		require_answer(scene->control, CANCEL, "too late");
		atomic_store(&player.leave, true);
	}
	await_status(scene->control, "\"doubtful\"");
	script_end(&player.script);
	close(player.listener);
	unlink("move.sock");
}

static void hang_up_after_go(const atf_tc_t *tc, const char *how)
{
	struct scene scene;

	begin(tc, &scene, how);
	play_target(&scene, HANGS_UP);
	require_doubtful(&scene, "it ends too early");
	take_back(&scene);
	end(&scene);
}

CLEAT_TC(go__target_hangs_up)
{
	hang_up_after_go(tc, "--migration=v2");
}

CLEAT_TC(go__target_hangs_up_first_generation)
{
	hang_up_after_go(tc, "--migration=v1");
}

/* It said something, but not that the guest runs. */
CLEAT_TC(go__other_answers)
{
	struct scene scene;

	begin(tc, &scene, "--migration=v2");
	play_target(&scene, SAYS_AGAIN);
	require_doubtful(&scene, "the other side says something else");
	take_back(&scene);
	play_target(&scene, TALKS_NONSENSE);
	require_doubtful(&scene, "this is no machine");
	take_back(&scene);
	end(&scene);
}

/* It is too late to call it off: the target may be about to say that it runs. */
CLEAT_TC(go__called_off)
{
	struct scene scene;

	begin(tc, &scene, "--migration=v2");
	play_target(&scene, IS_SILENT);
	require_doubtful(&scene, "it ends too early");
	take_back(&scene);
	end(&scene);
}

CLEAT_TC(doubt__quit)
{
	struct scene scene;

	begin(tc, &scene, "--migration=v2");
	play_target(&scene, HANGS_UP);
	quit(&scene.source, scene.control);
	child_end(&scene.here);
	child_end(&scene.there);
}

/* The source's own device goes meanwhile: the guest goes on without it. */
CLEAT_TC(doubt__source_server_dies)
{
	struct scene scene;

	close(kvm_open(tc));
	start_probe(&scene.here, "here.dev", "--migration=v2");
	start_source(&scene.source, "here.dev");
	scene.control = control_connect("source.sock");
	play_target(&scene, HANGS_UP);
	child_end(&scene.here);
	await_status(scene.control, "\"lost\":true");
	require_doubtful(&scene, "it ends too early");
	take_back(&scene);
	ATF_REQUIRE(strstr(said("source.err"), "goes on without it"));
	quit(&scene.source, scene.control);
}

/* ---- A real target, and somebody between who passes on what he likes ---- */

#define HEAD 32
#define HEAD_TYPE 6
#define HEAD_LENGTH 12

/* In this order; each is waited for, and the next one then allowed. */
enum stage { BEFORE_GO, GO_HELD, GO_TAKEN, ANSWERED, OVER };

struct between {
	int listener;
	atomic_int at; /* enum stage */
	atomic_int may; /* how far to go */
	bool pass_answer;
	uint8_t section[HEAD + SECTION_MAX];
	size_t size;
	struct script script;
};

static int receive(int fd, uint8_t *to, size_t count)
{
	while (count) {
		ssize_t n = 0;

		if (!wait_fd(fd, POLLIN, 3 * PATIENCE_MS))
			return -ETIMEDOUT;
		n = recv(fd, to, count, 0);
		if (n <= 0)
			return n ? -errno : -ENODATA;
		to += n;
		count -= (size_t)n;
	}
	return 0;
}

static int receive_section(struct between *between, int fd)
{
	uint32_t length;
	int err = receive(fd, between->section, HEAD);

	if (err)
		return err;
	memcpy(&length, between->section + HEAD_LENGTH, sizeof(length));
	between->size = HEAD + length;
	if (length > SECTION_MAX)
		return -EMSGSIZE;
	return receive(fd, between->section + HEAD, length);
}

static bool is_type(const struct between *between, uint16_t type)
{
	return !memcmp(between->section + HEAD_TYPE, &type, sizeof(type));
}

static int pass_section(struct between *between, int to)
{
	return peer_send_raw(to, between->section, between->size, NULL, 0);
}

static int relay(struct between *between, int from, int to)
{
	int err = receive_section(between, from);

	return err ? err : pass_section(between, to);
}

static int reach(struct between *between, enum stage stage)
{
	struct deadline deadline = deadline_in(3 * PATIENCE_MS);

	atomic_store(&between->at, stage);
	while (atomic_load(&between->may) <= (int)stage) {
		if (!deadline_left(&deadline))
			return -ETIMEDOUT;
		usleep(200);
	}
	return 0;
}

/* Until the other side has read all that was sent. */
static int await_taken(int fd)
{
	struct deadline deadline = deadline_in(PATIENCE_MS);
	int left = 1;

	while (left) {
		if (!deadline_left(&deadline))
			return -ETIMEDOUT;
		if (ioctl(fd, SIOCOUTQ, &left))
			return -errno;
		usleep(200);
	}
	return 0;
}

/* Return: as scripts do; a target that ends is what some cases want. */
static int after_go(struct between *between, int source, int target)
{
	int err = pass_section(between, target);

	if (!err)
		err = await_taken(target);
	if (!err)
		err = reach(between, GO_TAKEN);
	if (err)
		return err;
	err = receive_section(between, target);
	if (err == -ENODATA || err == -ECONNRESET)
		return 0;
	if (!err && between->pass_answer)
		err = pass_section(between, source);
	return err ? err : reach(between, ANSWERED);
}

static int stand(struct between *between, int source, int target)
{
	int err;

	do
		err = relay(between, source, target);
	while (!err && !is_type(between, SECTION_END));
	if (!err)
		err = relay(between, target, source);
	if (!err)
		err = receive_section(between, source);
	if (!err && !is_type(between, SECTION_GO))
		err = -EBADMSG;
	if (!err)
		err = reach(between, GO_HELD);
	return err ? err : after_go(between, source, target);
}

static int stand_between(void *arg)
{
	struct between *between = arg;
	int source = peer_accept(between->listener), target, err;

	if (source < 0)
		return source;
	target = peer_connect("target.move");
	err = stand(between, source, target);
	close(source);
	close(target);
	atomic_store(&between->at, OVER);
	return err;
}

/* Starts a target and a migration, up to the GO that is held back. */
static struct between *move_to_go(struct scene *scene, struct child *target)
{
	/* KVM waits for its readers when logging starts. */
	struct deadline deadline = deadline_in(3 * PATIENCE_MS);
	static struct between between;

	memset(&between, 0, sizeof(between));
	start_target(target, "unix:target.move", "there.dev");
	REQUIRE_SOON(!access("target.move", F_OK) || child_ended(target));
	between.listener = peer_listen("move.sock");
	script_start(&between.script, stand_between, &between);
	migrate(scene->control, "unix:move.sock", "");
	while (atomic_load(&between.at) < GO_HELD && deadline_left(&deadline))
		usleep(1000);
	ATF_REQUIRE_EQ(GO_HELD, atomic_load(&between.at));
	return &between;
}

static void let_pass(struct between *between, enum stage stage)
{
	atomic_store(&between->may, stage);
}

static void go_on_to(struct between *between, enum stage stage)
{
	let_pass(between, stage);
	REQUIRE_SOON(atomic_load(&between->at) >= (int)stage);
	ATF_REQUIRE_EQ((int)stage, atomic_load(&between->at));
}

static void between_end(struct between *between)
{
	let_pass(between, OVER);
	script_end(&between->script);
	close(between->listener);
	unlink("move.sock");
}

static void kill_child(struct child *child)
{
	ATF_REQUIRE_EQ(0, kill(child->pid, SIGKILL));
	ATF_REQUIRE(child_wait(child, PATIENCE_MS) >= 0);
}

/* It has read GO, and its device does not run yet. */
CLEAT_TC(killed__with_go_taken)
{
	struct between *between;
	struct child target;
	struct scene scene;

	begin(tc, &scene, "--migration=v2");
	between = move_to_go(&scene, &target);
	ATF_REQUIRE_EQ(0, kill(scene.there.pid, SIGSTOP));
	go_on_to(between, GO_TAKEN);
	kill_child(&target);
	between_end(between);
	ATF_REQUIRE_EQ(0, kill(scene.there.pid, SIGCONT));
	require_doubtful(&scene, "it ends too early");
	ATF_REQUIRE_EQ(0, printed("target"));
	take_back(&scene);
	end(&scene);
}

/* The guest runs there and is killed with it: here it goes on from the move. */
CLEAT_TC(killed__running)
{
	struct between *between;
	struct child target;
	struct scene scene;

	begin(tc, &scene, "--migration=v2");
	between = move_to_go(&scene, &target);
	let_pass(between, ANSWERED);
	go_on_to(between, ANSWERED);
	REQUIRE_SOON(printed("target") > 3);
	kill_child(&target);
	between_end(between);
	require_doubtful(&scene, "it ends too early");
	take_back(&scene);
	end(&scene);
}

/* Its device does not run, and it says so; the guest has not run there. */
CLEAT_TC(refused__after_go)
{
	struct between *between;
	struct child target;
	struct scene scene;

	begin(tc, &scene, "--migration=v2");
	between = move_to_go(&scene, &target);
	between->pass_answer = true;
	kill_child(&scene.there);
	let_pass(between, OVER);
	ATF_REQUIRE_EQ(1, finish_vmm(&target));
	between_end(between);
	require_doubtful(&scene, "the other side: --device there.dev: ");
	ATF_REQUIRE_EQ(0, printed("target"));
	take_back(&scene);
	start_probe(&scene.there, "there.dev", "--migration=v2");
	end(&scene);
}

/* ---- A disk that two machines must not have at once ---- */

static void start_nvme(struct child *nvme, const char *path, const char *how,
		       const char *incoming)
{
	start_server(nvme, path, (const char *const[]){
		program("backends/cleat-nvme"), "--file=disk", how,
		incoming, NULL });
}

static void make_disk(void)
{
	int fd = open("disk", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	ATF_REQUIRE(fd >= 0);
	ATF_REQUIRE_EQ(0, ftruncate(fd, 1 << 20));
	close(fd);
}

static bool is_disk_free(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = open("disk", O_RDWR | O_CLOEXEC);

	ATF_REQUIRE(fd >= 0);
	ATF_REQUIRE_EQ(0, fcntl(fd, F_OFD_GETLK, &lock));
	close(fd);
	return lock.l_type == F_UNLCK;
}

/* In doubt the device does not run either: it would have its disk. */
CLEAT_TC(disk__in_doubt)
{
	struct scene scene;

	close(kvm_open(tc));
	make_disk();
	start_nvme(&scene.here, "here.dev", "--migration=v2", NULL);
	start_nvme(&scene.there, "there.dev", "--migration=v2", "--incoming");
	start_source(&scene.source, "here.dev");
	ATF_REQUIRE(!is_disk_free());
	scene.control = control_connect("source.sock");
	play_target(&scene, HANGS_UP);
	require_doubtful(&scene, "it ends too early");
	ATF_REQUIRE(is_disk_free());
	take_back(&scene);
	ATF_REQUIRE(!is_disk_free());
	end(&scene);
}

/*
 * Nobody told the source that the target runs, but it does, and has the disk:
 * `resume` is refused, and works once the target is gone.
 */
static void contend(const atf_tc_t *tc, const char *how)
{
	struct between *between;
	struct child target;
	struct scene scene;

	close(kvm_open(tc));
	make_disk();
	start_nvme(&scene.here, "here.dev", how, NULL);
	start_nvme(&scene.there, "there.dev", how, "--incoming");
	start_source(&scene.source, "here.dev");
	ATF_REQUIRE(!is_disk_free());
	scene.control = control_connect("source.sock");
	between = move_to_go(&scene, &target);
	ATF_REQUIRE(is_disk_free());
	go_on_to(between, GO_TAKEN);
	go_on_to(between, ANSWERED);
	between_end(between);
	require_doubtful(&scene, "it ends too early");
	require_runs_on("target");
	require_answer(scene.control, RESUME, "--device here.dev: ");
	await_status(scene.control, "\"state\":\"paused\"");
	require_answer(scene.control, RESUME, "resource busy");
	require_runs_on("target");
	require_doubtful(&scene, "it ends too early");
	kill_child(&target);
	kill_child(&scene.there);
	take_back(&scene);
	ATF_REQUIRE(!is_disk_free());
	start_nvme(&scene.there, "there.dev", how, "--incoming");
	end(&scene);
}

CLEAT_TC(disk__at_target)
{
	contend(tc, "--migration=v2");
}

CLEAT_TC(disk__at_target_first_generation)
{
	contend(tc, "--migration=v1");
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, go__target_hangs_up);
	ATF_TP_ADD_TC(tp, go__target_hangs_up_first_generation);
	ATF_TP_ADD_TC(tp, go__other_answers);
	ATF_TP_ADD_TC(tp, go__called_off);
	ATF_TP_ADD_TC(tp, doubt__quit);
	ATF_TP_ADD_TC(tp, doubt__source_server_dies);
	ATF_TP_ADD_TC(tp, killed__with_go_taken);
	ATF_TP_ADD_TC(tp, killed__running);
	ATF_TP_ADD_TC(tp, refused__after_go);
	ATF_TP_ADD_TC(tp, disk__in_doubt);
	ATF_TP_ADD_TC(tp, disk__at_target);
	ATF_TP_ADD_TC(tp, disk__at_target_first_generation);
	return atf_no_error();
}
