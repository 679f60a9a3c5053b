/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Our client beside QEMU's, on servers of one kind: QEMU emulates a processor
 * that runs bench/firmware-code.S, so that each access is a guest's, and the
 * server takes the time.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/firmware.h"
#include "bench/messages-qemu.h"

#define PROGRAM "/usr/bin/qemu-system-x86_64"
#define LIBRARIES "/usr/lib/x86_64-linux-gnu"
#define MOST_WORDS 40
#define START_NS 30000000000u
#define TURN_NS 60000000000u

/* --- Which QEMU --------------------------------------------------------------- */

struct words {
	char *word[MOST_WORDS + 1];
	unsigned num;
};

static void put(struct words *words, const char *format, const char *value)
	__attribute__((format(printf, 2, 0)));
static void put(struct words *words, const char *format, const char *value)
{
	char *word;
	int length;

	if (words->num == MOST_WORDS)
		return;
	length = asprintf(&word, format, value);
	if (length >= 0)
		words->word[words->num++] = word;
	words->word[words->num] = NULL;
}

static void free_words(struct words *words)
{
	while (words->num)
		free(words->word[--words->num]);
}

static bool find_in_path(char *path, size_t size)
{
	const char *from = getenv("PATH");

	while (from && *from) {
		size_t length = strcspn(from, ":");

		snprintf(path, size, "%.*s/qemu-system-x86_64", (int)length,
			 from);
		if (!access(path, X_OK))
			return true;
		from += length + (from[length] == ':');
	}
	return false;
}

/*
 * In a whole tree of another system it runs with that tree's loader, libraries
 * and firmware.
 */
static void begin(struct words *words, const char *path)
{
	size_t length = strlen(path), tail = strlen(PROGRAM);
	char tree[PATH_MAX] = "", loader[PATH_MAX + 64];

	if (length > tail && !strcmp(path + length - tail, PROGRAM))
		snprintf(tree, sizeof(tree), "%.*s", (int)(length - tail),
			 path);
	snprintf(loader, sizeof(loader), "%s/lib64/ld-linux-x86-64.so.2", tree);
	if (!*tree || access(loader, X_OK)) {
		put(words, "%s", path);
		return;
	}
	snprintf(loader, sizeof(loader), "%s" LIBRARIES "/qemu", tree);
	setenv("QEMU_MODULE_DIR", loader, 1);
	put(words, "%s/lib64/ld-linux-x86-64.so.2", tree);
	put(words, "%s", "--library-path");
	put(words, "%s" LIBRARIES, tree);
	put(words, "%s", path);
	put(words, "%s", "-L");
	put(words, "%s/usr/share/qemu", tree);
	put(words, "%s", "-L");
	put(words, "%s/usr/share/seabios", tree);
}

/* The child's part: what it says goes to @out. */
static void ask_for_help(const struct words *qemu, int out)
{
	struct words words = *qemu;
	int null = open("/dev/null", O_RDWR);

	dup2(null, 0);
	dup2(out, 1);
	dup2(null, 2);
	words.word[words.num++] = (char *)"-device";
	words.word[words.num++] = (char *)"vfio-user-pci,help";
	words.word[words.num] = NULL;
	execv(words.word[0], words.word);
	_exit(127);
}

static bool is_said(int from, const char *what)
{
	FILE *in = fdopen(from, "r");
	bool is_there = false;
	char line[512];

	while (in && fgets(line, sizeof(line), in))
		is_there |= strstr(line, what) != NULL;
	if (in)
		fclose(in);
	else
		close(from);
	return is_there;
}

/*
 * Versions before 10.1, and some builds, have no vfio-user. (Asked for help
 * with a device that they do not have, they succeed.)
 */
static bool has_client(const struct words *qemu)
{
	int ends[2], status = -1;
	bool is_there;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		return false;
	pid = cleat_bench_fork(BENCH_FREE, true);
	if (!pid)
		ask_for_help(qemu, ends[1]);
	close(ends[1]);
	is_there = is_said(ends[0], "vfio-user-pci options");
	return pid > 0 && waitpid(pid, &status, 0) == pid && !status &&
	       is_there;
}

static bool find(struct words *words)
{
	const char *named = getenv("CLEAT_QEMU");
	char path[PATH_MAX];

	if (named)
		snprintf(path, sizeof(path), "%s", named);
	if (!named && !find_in_path(path, sizeof(path))) {
		fprintf(stderr, "cleat-bench-messages: qemu: skipped: no "
				"qemu-system-x86_64: set CLEAT_QEMU\n");
		return false;
	}
	begin(words, path);
	if (has_client(words))
		return true;
	fprintf(stderr,
		"cleat-bench-messages: qemu: skipped: %s does not run or has "
		"no vfio-user-pci, which is in 10.1 and later: set "
		"CLEAT_QEMU\n",
		path);
	return false;
}

/* --- Its guest ---------------------------------------------------------------------- */

/**
 * struct rig - QEMU on one server, us on another
 * @turn: of either server; the second one's is not used
 */
struct rig {
	char folder[32];
	char sockets[2][64];
	char firmware[64];
	struct bench_turn *turn;
	pid_t servers[2];
	pid_t qemu;
	char log[64];
	struct bench_way ways[3];
};

static int write_firmware(const char *path)
{
	size_t size = (size_t)(cleat_firmware_end - cleat_firmware_start);
	FILE *out = fopen(path, "we");

	if (!out)
		return -errno;
	if (fwrite(cleat_firmware_start, 1, size, out) != size) {
		fclose(out);
		return -EIO;
	}
	return fclose(out) ? -errno : 0;
}

static void put_machine(struct words *words, const struct rig *rig)
{
	static const char *const fixed[] = {
		"-nodefaults", "-display", "none", "-accel", "tcg", "-m", "64M",
		"-machine", "q35,memory-backend=ram", "-object",
		"memory-backend-memfd,id=ram,size=64M,share=on", "-bios",
	};

	for (unsigned i = 0; i < sizeof(fixed) / sizeof(*fixed); i++)
		put(words, "%s", fixed[i]);
	put(words, "%s", rig->firmware);
	put(words, "%s", "-device");
	put(words,
	    "{\"driver\":\"vfio-user-pci\",\"addr\":\"4\",\"socket\":"
	    "{\"type\":\"unix\",\"path\":\"%s\"}}",
	    rig->sockets[0]);
}

static bool has_ended(pid_t *pid)
{
	if (*pid > 0 && waitpid(*pid, NULL, WNOHANG) == *pid)
		*pid = 0;
	return *pid <= 0;
}

static void show_log(const struct rig *rig)
{
	char line[512];
	FILE *in = fopen(rig->log, "re");

	fprintf(stderr, "cleat-bench-messages: qemu: it has ended:\n");
	while (in && fgets(line, sizeof(line), in))
		fprintf(stderr, "  %s", line);
	if (in)
		fclose(in);
}

/* Until the guest sets it. */
static int await(struct rig *rig, _Atomic uint32_t *flag, uint64_t ns)
{
	uint64_t until = cleat_bench_now_ns() + ns;

	while (!atomic_load(flag)) {
		if (has_ended(&rig->qemu) || has_ended(&rig->servers[0])) {
			show_log(rig);
			return -EPIPE;
		}
		if (cleat_bench_now_ns() > until)
			return -ETIMEDOUT;
		usleep(1000);
	}
	atomic_store(flag, 0);
	return 0;
}

static int run_guest(const struct bench_messages *bench, struct bench_way *way,
		     struct bench_sample *ret)
{
	struct rig *rig = way->opaque;
	int err;

	atomic_store(&rig->turn->go,
		     bench->count | (way->flags & BENCH_WAY_WRITE ?
					     FIRMWARE_STORES :
					     0));
	err = await(rig, &rig->turn->done, TURN_NS);
	if (!err)
		ret->value = (double)(rig->turn->end_ns -
				      rig->turn->start_ns) /
			     bench->count;
	return err;
}

static int start_servers(struct rig *rig, enum bench_pinning pinning)
{
	for (unsigned i = 0; i < 2; i++) {
		snprintf(rig->sockets[i], sizeof(rig->sockets[i]), "%s/%u",
			 rig->folder, i);
		rig->servers[i] = cleat_bench_fork(pinning, false);
		if (!rig->servers[i])
			cleat_bench_serve_timed(&rig->turn[i],
						rig->sockets[i]);
		if (rig->servers[i] < 0)
			return -errno;
	}
	return 0;
}

static int start_qemu(struct rig *rig, enum bench_pinning pinning,
		      const struct words *qemu)
{
	struct words words = *qemu;

	/* It tries no more than once. */
	for (unsigned i = 0; i < 5000 && access(rig->sockets[0], F_OK); i++)
		usleep(1000);
	rig->qemu = cleat_bench_fork(pinning, true);
	if (!rig->qemu) {
		put_machine(&words, rig);
		dup2(open(rig->log, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), 2);
		execv(words.word[0], words.word);
		_exit(127);
	}
	return rig->qemu < 0 ? -errno :
			       await(rig, &rig->turn->ready, START_NS);
}

static int start(struct rig *rig, enum bench_pinning pinning,
		 const struct words *qemu)
{
	int err;

	snprintf(rig->firmware, sizeof(rig->firmware), "%s/firmware",
		 rig->folder);
	snprintf(rig->log, sizeof(rig->log), "%s/log", rig->folder);
	err = write_firmware(rig->firmware);
	if (!err)
		err = start_servers(rig, pinning);
	if (!err)
		err = start_qemu(rig, pinning, qemu);
	cleat_bench_pin_us(pinning);
	rig->ways[0] = (struct bench_way){ .name = "QEMU's client",
					   .run = run_guest,
					   .opaque = rig };
	rig->ways[1] = (struct bench_way){ .name = "our client",
					   .run = cleat_bench_run_mean };
	if (!err)
		err = cleat_bench_open_path(rig->sockets[1], 0,
					    &rig->ways[1].dev);
	rig->ways[2] = rig->ways[1];
	rig->ways[2].size = 64;
	return err;
}

static void end(struct rig *rig)
{
	cleat_device_unref(rig->ways[1].dev);
	cleat_bench_kill(rig->qemu);
	for (unsigned i = 0; i < 2; i++) {
		cleat_bench_kill(rig->servers[i]);
		unlink(rig->sockets[i]);
	}
	unlink(rig->firmware);
	unlink(rig->log);
	rmdir(rig->folder);
	if (rig->turn != MAP_FAILED)
		munmap(rig->turn, 2 * sizeof(*rig->turn));
}

static int compare(struct bench_messages *bench, enum bench_pinning pinning,
		   struct rig *rig)
{
	struct bench_way *ways = rig->ways;
	int err = cleat_bench_by_turns(bench, ways, 2);

	if (!err)
		err = cleat_bench_compare(bench, "read 4, beside QEMU's guest",
					  pinning, "ns", &ways[1], &ways[0],
					  0.55);
	for (unsigned i = 0; i < 3; i++)
		ways[i].flags = BENCH_WAY_WRITE;
	if (!err)
		err = cleat_bench_by_turns(bench, ways, 3);
	if (!err)
		err = cleat_bench_compare(bench,
					  "posted write 4, beside QEMU's guest",
					  pinning, "ns", &ways[1], &ways[0],
					  0);
	return err ? err :
		     cleat_bench_compare(bench,
					 "64 in a batch, beside QEMU's guest",
					 pinning, "ns", &ways[2], &ways[0], 0);
}

static int measure(struct bench_messages *bench, enum bench_pinning pinning,
		   const struct words *qemu)
{
	static struct rig rig;
	int err = 0;

	rig = (struct rig){ .folder = "/tmp/cleat-bench.XXXXXX" };
	if (!mkdtemp(rig.folder))
		return -errno;
	rig.turn = mmap(NULL, 2 * sizeof(*rig.turn), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (rig.turn == MAP_FAILED)
		err = -ENOMEM;
	if (!err)
		err = start(&rig, pinning, qemu);
	if (!err)
		err = compare(bench, pinning, &rig);
	end(&rig);
	return err;
}

int cleat_bench_row_qemu(struct bench_messages *bench)
{
	struct words words = { .num = 0 };
	int err = 0;

	if (find(&words))
		for (unsigned i = 0; i < 2 && !err; i++)
			err = measure(bench,
				      i ? BENCH_TWO_CORES : BENCH_ONE_CORE,
				      &words);
	free_words(&words);
	return err;
}
