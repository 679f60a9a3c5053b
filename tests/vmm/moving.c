/* SPDX-License-Identifier: BSD-2-Clause */
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "backends/probe/probe_regs.h"
#include "tests/vmm/moving.h"

/*
 *	   mov $0x3f8, %dx; xor %eax, %eax
 *	1: mov $0x800000, %ebx
 *	2: cmp %eax, (%rbx); jne 3f; incl (%rbx)
 *	   add $0x1000, %ebx; cmp $0xa00000, %ebx; jne 2b
 *	   inc %eax; out %al, %dx; jmp 1b
 *	3: ud2
 */
#define COUNT_PAGES                                                            \
	0x66, 0xba, 0xf8, 0x03, 0x31, 0xc0, 0xbb, 0x00, 0x00, 0x80, 0x00,     \
		0x39, 0x03, 0x75, 0x15, 0xff, 0x03, 0x81, 0xc3, 0x00, 0x10,   \
		0x00, 0x00, 0x81, 0xfb, 0x00, 0x00, 0xa0, 0x00, 0x75, 0xec,   \
		0xff, 0xc0, 0xee, 0xeb, 0xe2, 0x0f, 0x0b

_Static_assert(PROBE_SCRATCH64 == 0x18 && PROBE_AT_MESSAGE == 0x70 &&
		       PROBE_MESSAGES(PROBE_DB_MESSAGE) == 0x470 &&
		       PROBE_VALUE(PROBE_DB_MESSAGE) == 0x670,
	       "STORES_AND_READS knows these");

size_t printed(const char *name)
{
	char path[32];
	struct stat st;

	snprintf(path, sizeof(path), "%s.out", name);
	return stat(path, &st) ? 0 : (size_t)st.st_size;
}

size_t append(const char *name, uint8_t *to, size_t room)
{
	char path[32];
	FILE *stream;
	size_t n;

	snprintf(path, sizeof(path), "%s.out", name);
	stream = fopen(path, "re");
	ATF_REQUIRE(stream);
	n = fread(to, 1, room, stream);
	ATF_REQUIRE(n && n < room);
	fclose(stream);
	return n;
}

void require_all_counted(const char *one, const char *two)
{
	static uint8_t bytes[1 << 20];
	size_t n = append(one, bytes, sizeof(bytes)), i;

	n += append(two, bytes + n, sizeof(bytes) - n);
	for (i = 0; i < n; i++)
		ATF_REQUIRE_EQ_MSG((uint8_t)(i + 1), bytes[i],
				   "%#x after %zu bytes", bytes[i], i);
}

static void start(struct child *vmm, const char *name, const char *how,
		  const char *what, const char *device)
{
	char control[32];
	const char *words[] = { how,	    what,	   "--memory", "64",
				"--control", control,	   "--device", device,
				NULL };

	snprintf(control, sizeof(control), "%s.sock", name);
	if (!device)
		words[6] = NULL;
	start_vmm_as(vmm, name, words);
}

void start_prepared(struct child *vmm, const char *device)
{
	start(vmm, "source", "--kernel", "kernel", device);
	REQUIRE_SOON(printed("source") > 3 || child_ended(vmm));
}

void start_source(struct child *vmm, const char *device)
{
	GUEST("kernel", COUNT_PAGES);
	start_prepared(vmm, device);
}

void start_target(struct child *vmm, const char *from, const char *device)
{
	start(vmm, "target", "--incoming", from, device);
}

void migrate(int control, const char *to, const char *then)
{
	char line[256];

	snprintf(line, sizeof(line),
		 "{\"command\":\"migrate\",\"to\":\"%s\",\"then\":\"%s\"}", to,
		 then);
	require_answer(control, line, OK);
}

static const char *ask(int control, const char *line)
{
	ATF_REQUIRE_EQ((ssize_t)strlen(line),
		       send(control, line, strlen(line), MSG_NOSIGNAL));
	ATF_REQUIRE_EQ(1, send(control, "\n", 1, MSG_NOSIGNAL));
	return control_answer(control);
}

const char *await_status(int control, const char *words)
{
	/* KVM waits for its readers when logging starts and stops. */
	struct deadline deadline = deadline_in(3 * PATIENCE_MS);
	const char *answer = ask(control, STATUS);

	while (!strstr(answer, words) && deadline_left(&deadline)) {
		usleep(1000);
		answer = ask(control, STATUS);
	}
	ATF_REQUIRE_MSG(strstr(answer, words), "no %s in: %.*s", words,
			(int)strcspn(answer, "\n"), answer);
	return answer;
}

void quit(struct child *vmm, int control)
{
	require_answer(control, QUIT, OK);
	ATF_REQUIRE_EQ(5, finish_vmm(vmm));
	close(control);
}

void require_runs_on(const char *name)
{
	size_t before = printed(name);

	REQUIRE_SOON(printed(name) > before + 3);
}

void fail_to(int control, const char *to, const char *words)
{
	const char *answer;

	migrate(control, to, "");
	answer = await_status(control, "\"phase\":\"failed\"");
	ATF_REQUIRE_MSG(strstr(answer, words), "no %s in: %.*s", words,
			(int)strcspn(answer, "\n"), answer);
	ATF_REQUIRE(strstr(answer, "\"state\":\"running\""));
	require_runs_on("source");
}

void arrive(struct child *source, int control, const char *device)
{
	struct child target;

	start_target(&target, "unix:move.sock", device);
	REQUIRE_SOON(!access("move.sock", F_OK) || child_ended(&target));
	migrate(control, "unix:move.sock", "");
	ATF_REQUIRE_EQ_MSG(6, finish_vmm(source), "%s", said("source.err"));
	ATF_REQUIRE(strstr(said("source.err"), "migration: done: "));
	close(control);
	control = control_connect("target.sock");
	require_runs_on("target");
	quit(&target, control);
	require_all_counted("source", "target");
	ATF_REQUIRE_STREQ("", said("target.err"));
	ATF_REQUIRE(access("move.sock", F_OK));
}

static void take(int fd, size_t count)
{
	static char bytes[4096];
	ssize_t n = 1;

	while (count && n > 0) {
		n = recv(fd, bytes,
			 count < sizeof(bytes) ? count : sizeof(bytes), 0);
		if (n > 0)
			count -= (size_t)n;
	}
}

static int take_some(void *arg)
{
	struct taker *taker = arg;
	int fd = peer_accept(taker->listener);

	if (fd < 0)
		return fd;
	take(fd, taker->count);
	atomic_store(&taker->full, true);
	if (taker->stay)
		poll(&(struct pollfd){ .fd = fd, .events = POLLRDHUP }, 1, -1);
	close(fd);
	return 0;
}

void taker_start(struct taker *taker, size_t count, bool stay)
{
	*taker = (struct taker){ .count = count, .stay = stay };
	taker->listener = peer_listen("move.sock");
	script_start(&taker->script, take_some, taker);
}

void taker_end(struct taker *taker)
{
	script_end(&taker->script);
	close(taker->listener);
	unlink("move.sock");
}
