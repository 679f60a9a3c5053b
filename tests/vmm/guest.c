/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
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

void start_vmm(struct child *child, const char *const *words)
{
	const char *argv[32];
	size_t i;

	argv[0] = program("vmm/cleat-vmm");
	for (i = 0; words[i]; i++)
		argv[1 + i] = words[i];
	argv[1 + i] = NULL;
	child_start(child, "vmm", argv);
}

int finish_vmm(struct child *child)
{
	int status = child_wait(child, 3 * PATIENCE_MS);

	ATF_REQUIRE_MSG(status >= 0 && WIFEXITED(status), "status %d", status);
	return WEXITSTATUS(status);
}

const char *said(const char *path)
{
	static char text[4096];
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
