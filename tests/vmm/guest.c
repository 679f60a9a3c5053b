/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "tests/vmm/guest.h"

#define SETUP_SECTORS 1
#define PAYLOAD 2048
#define ENTRY 0x200

void write_kernel(const char *path, const void *code, size_t size)
{
	uint8_t file[(SETUP_SECTORS + 1) * 512 + PAYLOAD] = { 0 };
	struct setup_header header = {
		.setup_sects = SETUP_SECTORS,
		.syssize = PAYLOAD / 16,
		.boot_flag = 0xaa55,
		.header = 0x53726448,
		.version = 0x020f,
		.loadflags = LOADED_HIGH,
		.xloadflags = XLF_KERNEL_64,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 2 * MiB,
		.relocatable_kernel = 1,
		.cmdline_size = 2047,
		.pref_address = 2 * MiB,
		.init_size = 4 * MiB,
	};
	FILE *stream = fopen(path, "we");

	memcpy(file + BZIMAGE_HEADER, &header, sizeof(header));
	memcpy(file + (SETUP_SECTORS + 1) * 512 + ENTRY, code, size);
	ATF_REQUIRE(stream);
	ATF_REQUIRE_EQ(1, fwrite(file, sizeof(file), 1, stream));
	ATF_REQUIRE_EQ(0, fclose(stream));
}

void start_vmm_as(struct child *child, const char *name,
		  const char *const *words)
{
	const char *argv[32];
	size_t i;

	argv[0] = program("vmm/cleat-vmm");
	for (i = 0; words[i]; i++)
		argv[1 + i] = words[i];
	argv[1 + i] = NULL;
	child_start(child, name, argv);
}

void start_vmm(struct child *child, const char *const *words)
{
	start_vmm_as(child, "vmm", words);
}

int finish_vmm(struct child *child)
{
	int status = child_wait(child, 3 * PATIENCE_MS);

	ATF_REQUIRE_MSG(status >= 0 && WIFEXITED(status), "status %d", status);
	return WEXITSTATUS(status);
}

const char *said(const char *path)
{
	static char text[1 << 16];
	FILE *stream = fopen(path, "re");

	if (!stream)
		return strcpy(text, ""); /* the child is not as far yet */
	text[fread(text, 1, sizeof(text) - 1, stream)] = 0;
	fclose(stream);
	return text;
}

void require_complaint(const char *words)
{
	const char *text = said("vmm.err");
	const char *end = strchr(text, '\n');

	ATF_REQUIRE_MSG(end && !end[1], "not one line: %s", text);
	ATF_REQUIRE_MSG(!strncmp(text, "cleat-vmm: ", 11), "%s", text);
	ATF_REQUIRE_MSG(strstr(text, words), "no \"%s\" in: %s", words, text);
}

int control_try(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ATF_REQUIRE(fd >= 0);
	strcpy(address.sun_path, path);
	if (!connect(fd, (struct sockaddr *)&address, sizeof(address)))
		return fd;
	close(fd);
	return -1;
}

int control_connect(const char *path)
{
	int fd;

	REQUIRE_SOON((fd = control_try(path)) >= 0);
	return fd;
}

const char *control_answer(int control)
{
	static char line[8192];
	size_t used = 0;

	do {
		ATF_REQUIRE(used < sizeof(line) - 1);
		ATF_REQUIRE_MSG(wait_fd(control, POLLIN, PATIENCE_MS),
				"no answer");
		if (recv(control, line + used, 1, 0) <= 0)
			break;
	} while (line[used++] != '\n');
	line[used] = 0;
	return line;
}

void require_answer(int control, const char *line, const char *words)
{
	const char *answer;

	ATF_REQUIRE_EQ((ssize_t)strlen(line),
		       send(control, line, strlen(line), MSG_NOSIGNAL));
	ATF_REQUIRE_EQ(1, send(control, "\n", 1, MSG_NOSIGNAL));
	answer = control_answer(control);
	ATF_REQUIRE_MSG(strstr(answer, words), "no %s in the answer to %s: %s",
			words, line, answer);
}

/* Ticks of user and system time. */
static unsigned long cpu_ticks(pid_t pid)
{
	unsigned long user, kernel;
	char path[64];
	FILE *stream;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	stream = fopen(path, "re");
	ATF_REQUIRE(stream);
	ATF_REQUIRE_EQ(2, fscanf(stream,
				 "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
				 &user, &kernel));
	fclose(stream);
	return user + kernel;
}

void require_idle(pid_t pid)
{
	unsigned long before = cpu_ticks(pid), used;

	usleep(200000);
	used = cpu_ticks(pid) - before;
	ATF_REQUIRE_MSG(used < (unsigned long)sysconf(_SC_CLK_TCK) / 20,
			"%lu ticks", used);
}

int open_fifo(const char *path)
{
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	ATF_REQUIRE(fd >= 0);
	return fd;
}
