/* SPDX-License-Identifier: BSD-2-Clause */
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>

#include "tests/interop/qemu.h"

#define PROGRAM "/usr/bin/qemu-system-x86_64"
#define LIBRARIES "/usr/lib/x86_64-linux-gnu"
#define LEAST_MAJOR 10
#define LEAST_MINOR 1

void qemu_word(struct qemu *qemu, const char *format, ...)
{
	char *word = qemu->words[qemu->num];
	va_list args;
	int length;

	ATF_REQUIRE(qemu->num < QEMU_MAX_ARGS);
	va_start(args, format);
	length = vsnprintf(word, sizeof(qemu->words[0]), format, args);
	va_end(args);
	ATF_REQUIRE(length < (int)sizeof(qemu->words[0]));
	qemu->argv[qemu->num++] = word;
	qemu->argv[qemu->num] = NULL;
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

/* The tree of another system that the program stands in, if it does. */
static bool find_tree(const char *path, char *tree, size_t size)
{
	size_t length = strlen(path), tail = strlen(PROGRAM);
	char loader[PATH_MAX + 32];

	if (length <= tail || strcmp(path + length - tail, PROGRAM))
		return false;
	snprintf(tree, size, "%.*s", (int)(length - tail), path);
	snprintf(loader, sizeof(loader), "%s/lib64/ld-linux-x86-64.so.2", tree);
	return !access(loader, X_OK);
}

static void begin_words(struct qemu *qemu, const char *path)
{
	char tree[PATH_MAX], modules[PATH_MAX + 64];

	qemu->num = 0;
	if (!find_tree(path, tree, sizeof(tree))) {
		qemu_word(qemu, "%s", path);
		return;
	}
	snprintf(modules, sizeof(modules), "%s" LIBRARIES "/qemu", tree);
	setenv("QEMU_MODULE_DIR", modules, 1);
	qemu_word(qemu, "%s/lib64/ld-linux-x86-64.so.2", tree);
	qemu_word(qemu, "--library-path");
	qemu_word(qemu, "%s" LIBRARIES, tree);
	qemu_word(qemu, "%s", path);
	qemu_word(qemu, "-L");
	qemu_word(qemu, "%s/usr/share/qemu", tree);
	qemu_word(qemu, "-L");
	qemu_word(qemu, "%s/usr/share/seabios", tree);
}

/* Runs it with one word more and leaves what it said in @name.out. */
static bool ask(const struct qemu *qemu, const char *name, const char *word,
		const char *value)
{
	struct qemu copy = *qemu;
	struct child child;
	int status;

	for (unsigned i = 0; i < copy.num; i++)
		copy.argv[i] = copy.words[i];
	qemu_word(&copy, "%s", word);
	if (value)
		qemu_word(&copy, "%s", value);
	child_start(&child, name, copy.argv);
	status = child_wait(&child, PATIENCE_MS);
	child_end(&child);
	return status == 0;
}

static void require_version(const struct qemu *qemu, const char *path)
{
	unsigned major = 0, minor = 0;
	FILE *file;

	if (!ask(qemu, "version", "--version", NULL))
		atf_tc_skip("%s does not run", path);
	file = fopen("version.out", "r");
	if (fscanf(file, "QEMU emulator version %u.%u", &major, &minor) != 2)
		major = 0;
	fclose(file);
	if (major < LEAST_MAJOR ||
	    (major == LEAST_MAJOR && minor < LEAST_MINOR))
		atf_tc_skip("%s is version %u.%u; a vfio-user client is in "
			    "10.1 and later: set CLEAT_QEMU",
			    path, major, minor);
	if (!ask(qemu, "device", "-device", "vfio-user-pci,help"))
		atf_tc_skip("%s was built without vfio-user-pci", path);
}

void qemu_prepare(struct qemu *qemu)
{
	const char *named = getenv("CLEAT_QEMU");
	char path[PATH_MAX];

	*qemu = (struct qemu){ .qtest = -1 };
	if (named)
		snprintf(path, sizeof(path), "%s", named);
	else if (!find_in_path(path, sizeof(path)))
		atf_tc_skip("no qemu-system-x86_64: set CLEAT_QEMU");
	begin_words(qemu, path);
	require_version(qemu, path);
	qemu_word(qemu, "-nodefaults");
	qemu_word(qemu, "-display");
	qemu_word(qemu, "none");
	qemu_word(qemu, "-machine");
	qemu_word(qemu, "q35,memory-backend=ram");
}

void qemu_memory(struct qemu *qemu, unsigned mib, bool shared)
{
	qemu_word(qemu, "-m");
	qemu_word(qemu, "%uM", mib);
	qemu_word(qemu, "-object");
	if (shared)
		qemu_word(qemu, "memory-backend-memfd,id=ram,size=%uM,share=on",
			  mib);
	else
		qemu_word(qemu, "memory-backend-ram,id=ram,size=%uM", mib);
}

void qemu_device(struct qemu *qemu, const char *socket, unsigned slot)
{
	qemu_word(qemu, "-device");
	qemu_word(qemu,
		  "{\"driver\":\"vfio-user-pci\",\"addr\":\"%x\","
		  "\"socket\":{\"type\":\"unix\",\"path\":\"%s\"}}",
		  slot, socket);
}

void qemu_start(struct qemu *qemu)
{
	child_start(&qemu->child, "qemu", qemu->argv);
}

void qemu_start_qtest(struct qemu *qemu)
{
	int listener = peer_listen("qtest.sock");

	qemu_word(qemu, "-accel");
	qemu_word(qemu, "qtest");
	qemu_word(qemu, "-qtest");
	qemu_word(qemu, "unix:qtest.sock");
	qemu_word(qemu, "-qtest-log");
	qemu_word(qemu, "none");
	qemu_start(qemu);
	qemu->qtest = peer_accept(listener);
	ATF_REQUIRE(qemu->qtest >= 0);
	close(listener);
	unlink("qtest.sock");
}

void qemu_end(struct qemu *qemu)
{
	if (qemu->qtest >= 0)
		close(qemu->qtest);
	qemu->qtest = -1;
	child_end(&qemu->child);
}

/* --- The test as processor ------------------------------------------------ */

/* One line; QEMU says "OK" or "OK VALUE" when it is done. */
static uint64_t command(struct qemu *qemu, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static uint64_t command(struct qemu *qemu, const char *format, ...)
{
	char line[128], *end;
	size_t length = 0;
	va_list args;
	ssize_t n;

	va_start(args, format);
	n = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	ATF_REQUIRE_EQ(n, send(qemu->qtest, line, (size_t)n, MSG_NOSIGNAL));
	do {
		ATF_REQUIRE(length < sizeof(line));
		ATF_REQUIRE_MSG(wait_fd(qemu->qtest, POLLIN, PATIENCE_MS),
				"QEMU does not answer");
		n = read(qemu->qtest, line + length, 1);
		ATF_REQUIRE_MSG(n == 1, "QEMU has gone");
	} while (line[length++] != '\n');
	line[length - 1] = '\0';
	ATF_REQUIRE_MSG(!strncmp(line, "OK", 2), "QEMU said %s", line);
	if (!line[2])
		return 0;
	errno = 0;
	return strtoull(line + 3, &end, 0);
}

static char letter(unsigned width)
{
	return width == 1 ? 'b' : width == 2 ? 'w' : width == 4 ? 'l' : 'q';
}

uint64_t qemu_load(struct qemu *qemu, uint64_t address, unsigned width)
{
	return command(qemu, "read%c 0x%" PRIx64 "\n", letter(width), address);
}

void qemu_store(struct qemu *qemu, uint64_t address, unsigned width,
		uint64_t value)
{
	command(qemu, "write%c 0x%" PRIx64 " 0x%" PRIx64 "\n", letter(width),
		address, value);
}

uint32_t qemu_in(struct qemu *qemu, uint16_t port, unsigned width)
{
	return (uint32_t)command(qemu, "in%c 0x%x\n", letter(width), port);
}

void qemu_out(struct qemu *qemu, uint16_t port, unsigned width, uint32_t value)
{
	command(qemu, "out%c 0x%x 0x%x\n", letter(width), port, value);
}

static void select_config(struct qemu *qemu, unsigned slot, unsigned offset)
{
	qemu_out(qemu, 0xcf8, 4, 0x80000000 | slot << 11 | (offset & 0xfc));
}

uint32_t qemu_config(struct qemu *qemu, unsigned slot, unsigned offset)
{
	select_config(qemu, slot, offset);
	return qemu_in(qemu, 0xcfc, 4);
}

void qemu_set_config(struct qemu *qemu, unsigned slot, unsigned offset,
		     uint32_t value)
{
	select_config(qemu, slot, offset);
	qemu_out(qemu, 0xcfc, 4, value);
}
