/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stock Debian kernels, unmodified, up to a shell script and down again. As
 * few boots as tell everything: in the lab each takes a while.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/support/support.h"
#include "tests/vmm/guest.h"

#define TOOL_MS 60000
/* The emulated CPU of the lab loses a guest now and then: it stands still. */
#define SILENT_MS 45000
#define TRIES 2
#define TRAVEL_MS 400000
/* What tools/migrate-guest ends with then. */
#define STOOD_STILL 75

/* Runs a tool of the tree and gives back the first line it prints. */
static const char *tool_says(const char *const *words)
{
	static char line[PATH_MAX];
	const char *argv[12] = { "/bin/bash" };
	struct child child;
	size_t i;

	for (i = 0; words[i]; i++)
		argv[1 + i] = words[i];
	child_start(&child, "tool", argv);
	ATF_REQUIRE_EQ_MSG(0, child_wait(&child, TOOL_MS), "%s",
			   said("tool.err"));
	snprintf(line, sizeof(line), "%s", said("tool.out"));
	line[strcspn(line, "\n")] = 0;
	return line;
}

static void write_script(const char *text)
{
	FILE *stream = fopen("script", "we");

	ATF_REQUIRE(stream);
	ATF_REQUIRE(fputs(text, stream) >= 0);
	ATF_REQUIRE_EQ(0, fclose(stream));
}

/* The wait status, or -ETIMEDOUT when it has said nothing for long. */
static int wait_while_it_talks(struct child *vmm)
{
	struct stat st;
	off_t before = -1;
	int status = -ETIMEDOUT;

	while (status == -ETIMEDOUT) {
		status = child_wait(vmm, SILENT_MS);
		if (stat("vmm.out", &st) || st.st_size == before)
			break;
		before = st.st_size;
	}
	return status;
}

static void prepare(const char *flavour, const char *script, char *kernel)
{
	char tool[PATH_MAX];

	write_script(script);
	strcpy(tool, source_file("tools/guest-initramfs"));
	tool_says((const char *const[]){ tool, "--script", "script",
					 "--kernel", flavour, "--output",
					 "initrd", NULL });
	strcpy(tool, source_file("tools/kernels"));
	strcpy(kernel, tool_says((const char *const[]){ tool, "--print",
							flavour, NULL }));
}

/* A second try is told of: who sees many of them should look for the cause. */
static int run_guest(const char *const *words)
{
	int status = -ETIMEDOUT, tries;

	for (tries = 0; tries < TRIES && status == -ETIMEDOUT; tries++) {
		struct child vmm;

		if (tries)
			fprintf(stderr, "retry: the guest stood still:\n%s\n",
				said("vmm.out"));
		start_vmm(&vmm, words);
		status = wait_while_it_talks(&vmm);
		child_end(&vmm);
	}
	return status;
}

/* Boots a flavour with a script that must end well. */
static void boot(const char *flavour, const char *script,
		 const char *const *more)
{
	char kernel[PATH_MAX];
	const char *words[20] = { "--kernel", kernel, "--initrd", "initrd",
				  "--append", "console=ttyS0 quiet panic=-1",
				  "--memory", "256", "--stats", "stats" };
	size_t i = 10;
	int status;

	prepare(flavour, script, kernel);
	while (*more)
		words[i++] = *more++;
	status = run_guest(words);
	ATF_REQUIRE_EQ_MSG(0, status, "status %#x, guest:\n%s", status,
			   said("vmm.out"));
	ATF_REQUIRE_MSG(strstr(said("vmm.out"), "guest: exit 0"), "guest:\n%s",
			said("vmm.out"));
	ATF_REQUIRE_STREQ("", said("vmm.err"));
	ATF_REQUIRE(strstr(said("stats"), "\"outcome\": \"power-off\""));
}

/* Two CPUs, a disk of another process's, its BAR above 4 GiB. */
static const char disk_script[] =
	"set -e\n"
	"[ $(nproc) = 2 ]\n"
	"[ $(cat /sys/bus/pci/devices/0000:00:01.0/class) = 0x010802 ]\n"
	"head -1 /sys/bus/pci/devices/0000:00:01.0/resource\n"
	"mke2fs /dev/nvme0n1\n"
	"mount -t ext2 /dev/nvme0n1 /mnt || mount -t ext4 /dev/nvme0n1 /mnt\n"
	"dd if=/dev/urandom of=/mnt/file bs=64k count=32\n"
	"sum=$(sha256sum </mnt/file)\n"
	"umount /mnt\n"
	"mount -t ext2 /dev/nvme0n1 /mnt || mount -t ext4 /dev/nvme0n1 /mnt\n"
	"[ \"$(sha256sum </mnt/file)\" = \"$sum\" ]\n"
	"umount /mnt\n"
	"grep -q MSI.*nvme0q1 /proc/interrupts\n";

CLEAT_TC(boot__cloud_with_disk)
{
	struct child nvme;
	const char *path;
	int fd;

	close(kvm_open_for_linux(tc));
	path = program("backends/cleat-nvme");
	fd = open("disk", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	ATF_REQUIRE(fd >= 0);
	ATF_REQUIRE_EQ(0, ftruncate(fd, 32 * MiB));
	close(fd);
	child_start(&nvme, "nvme", (const char *const[]){
		path, "--socket-path=disk.sock", "--file=disk", NULL });
	REQUIRE_SOON(!access("disk.sock", F_OK) || child_ended(&nvme));
	boot("cloud", disk_script, (const char *const[]){
		"--device", "disk.sock", "--cpus", "2", NULL });
	ATF_REQUIRE(!child_ended(&nvme));
	child_end(&nvme);
}

/* The other flavour has a decompressor of its own kind and less built in. */
CLEAT_TC(boot__amd64)
{
	close(kvm_open_for_linux(tc));
	boot("amd64", "uname -r; [ $(nproc) = 1 ]", (const char *const[]){
		NULL });
}

/* The folder that has vmm/ and tools/ in it. */
static const char *build_folder(void)
{
	static char path[PATH_MAX];
	char *end;

	snprintf(path, sizeof(path), "%s", program("vmm/cleat-vmm"));
	end = strstr(path, "/vmm/cleat-vmm");
	ATF_REQUIRE(end);
	*end = 0;
	return path;
}

/* Runs tools/migrate-guest; its output is in travel.out. */
static int travel(const char *times, const char *what)
{
	char tool[PATH_MAX];
	const char *argv[] = { "/bin/bash", tool,   "--build", build_folder(),
			       "--times",   times,  what,      NULL };
	int status = STOOD_STILL, tries;

	strcpy(tool, source_file("tools/migrate-guest"));
	for (tries = 0; tries < TRIES && status == STOOD_STILL; tries++) {
		struct child child;

		if (tries)
			fprintf(stderr, "retry: the guest stood still:\n%s\n",
				said("travel.out"));
		child_start(&child, "travel", argv);
		status = child_wait(&child, TRAVEL_MS);
		child_end(&child);
		if (status >= 0 && WIFEXITED(status))
			status = WEXITSTATUS(status);
	}
	return status;
}

/* It writes to its disk and verifies, and is migrated again and again. */
CLEAT_TC(migrate__fio)
{
	const char *text;
	int status;

	close(kvm_open_for_linux(tc));
	status = travel("3", NULL);
	fputs(said("travel.err"), stderr);
	text = said("travel.out");
	ATF_REQUIRE_EQ_MSG(0, status, "status %d:\n%s", status, text);
	ATF_REQUIRE(strstr(text, "migration 3 of 3"));
	ATF_REQUIRE(strstr(text, "MiB are in the file as the guest sees"));
	fputs(text, stdout);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, boot__cloud_with_disk);
	ATF_TP_ADD_TC(tp, boot__amd64);
	ATF_TP_ADD_TC(tp, migrate__fio);
	return atf_no_error();
}
