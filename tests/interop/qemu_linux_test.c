/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A stock Linux in QEMU, its disk served by cleat-nvme: a file system made,
 * written, read back past the caches; and the same bytes then in the backing
 * file. Beside it a cleat-probe, whose registers are read and which is reset.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include "tests/interop/qemu.h"

#define DISK_SIZE (16u << 20)
/* A boot takes 7 s; this is for a machine that does much else. */
#define BOOT_MS 110000

struct machine {
	struct child nvme;
	struct child probe;
	struct qemu qemu;
	char kernel[128];
};

/* What a program says on its only line. */
static void first_line(const char *path, char *line, size_t size)
{
	FILE *file = fopen(path, "r");

	ATF_REQUIRE_MSG(file && fgets(line, (int)size, file), "%s", path);
	line[strcspn(line, "\n")] = '\0';
	fclose(file);
}

static void run(const char *name, const char *const argv[])
{
	struct child child;

	child_start(&child, name, argv);
	ATF_REQUIRE_EQ_MSG(0, child_wait(&child, 60000), "%s failed", name);
}

/* Tests download nothing: what ./check has fetched is used. */
static void find_kernel(struct machine *m)
{
	const char *dir = getenv("CLEAT_KERNELS");
	char tools[256], path[512];

	snprintf(tools, sizeof(tools), "%s", source_file("tools/kernels"));
	if (dir)
		snprintf(path, sizeof(path), "%s/cloud/package", dir);
	else
		snprintf(path, sizeof(path), "%.*sbuild/kernels/cloud/package",
			 (int)(strlen(tools) - strlen("tools/kernels")), tools);
	if (access(path, R_OK))
		atf_tc_skip("no kernel for the guest: run tools/kernels");
	run("kernels", (const char *[]){ tools, "--print", "cloud", NULL });
	first_line("kernels.out", m->kernel, sizeof(m->kernel));
}

static void make_initramfs(void)
{
	char tools[256], script[256];

	snprintf(tools, sizeof(tools), "%s",
		 source_file("tools/guest-initramfs"));
	snprintf(script, sizeof(script), "%s",
		 source_file("tests/interop/guest.sh"));
	run("initramfs",
	    (const char *[]){ tools, "--script", script, "--module", "nvme",
			      "--module", "ext4", "--output", "initrd.gz",
			      NULL });
}

static void serve(struct child *child, const char *name,
		  const char *const argv[], const char *socket)
{
	child_start(child, name, argv);
	REQUIRE_SOON(!access(socket, F_OK) || child_ended(child));
	ATF_REQUIRE(!child_ended(child));
}

static void start_servers(struct machine *m, const char *doorbells)
{
	char path[256];

	snprintf(path, sizeof(path), "%s", program("backends/cleat-nvme"));
	serve(&m->nvme, "nvme",
	      (const char *[]){ path, "--socket-path=nvme.sock",
				"--file=disk.img", "--size=16M", doorbells,
				"--stats=nvme.json", NULL },
	      "nvme.sock");
	snprintf(path, sizeof(path), "%s", program("backends/cleat-probe"));
	serve(&m->probe, "probe",
	      (const char *[]){ path, "--socket-path=probe.sock", NULL },
	      "probe.sock");
}

static void boot(struct machine *m, bool shared)
{
	qemu_memory(&m->qemu, 256, shared);
	qemu_word(&m->qemu, "-accel");
	qemu_word(&m->qemu, "tcg");
	qemu_word(&m->qemu, "-cpu");
	qemu_word(&m->qemu, "max");
	qemu_word(&m->qemu, "-kernel");
	qemu_word(&m->qemu, "%s", m->kernel);
	qemu_word(&m->qemu, "-initrd");
	qemu_word(&m->qemu, "initrd.gz");
	qemu_word(&m->qemu, "-append");
	qemu_word(&m->qemu, "console=ttyS0 quiet panic=-1");
	qemu_word(&m->qemu, "-serial");
	qemu_word(&m->qemu, "file:console");
	qemu_word(&m->qemu, "-no-reboot");
	qemu_device(&m->qemu, "nvme.sock", 4);
	qemu_device(&m->qemu, "probe.sock", 5);
	qemu_start(&m->qemu);
}

/* What the guest said after "interop: @what: ". */
static void said(const char *what, char *ret, size_t size)
{
	FILE *file = fopen("console", "r");
	char line[256], key[64];
	bool found = false;

	ATF_REQUIRE(file);
	snprintf(key, sizeof(key), "interop: %s: ", what);
	while (fgets(line, sizeof(line), file)) {
		char *at = strstr(line, key);

		if (!at)
			continue;
		at[strcspn(at, "\r\n")] = '\0';
		snprintf(ret, size, "%s", at + strlen(key));
		found = true;
	}
	fclose(file);
	ATF_REQUIRE_MSG(found, "the guest did not say \"%s\"", what);
}

static void require_said(const char *what, const char *wanted)
{
	char found[128];

	said(what, found, sizeof(found));
	ATF_REQUIRE_STREQ(wanted, found);
}

static void require_disk(void)
{
	char sum[128], found[128];

	run("sum", (const char *[]){ "/usr/bin/sha256sum", "disk.img", NULL });
	first_line("sum.out", sum, sizeof(sum));
	said("sum", found, sizeof(found));
	ATF_REQUIRE_EQ(64, strlen(found));
	ATF_REQUIRE(!strncmp(sum, found, 64));
}

static void end_server(struct child *child)
{
	ATF_REQUIRE(!child_ended(child));
	kill(child->pid, SIGTERM);
	ATF_REQUIRE_EQ(0, child_wait(child, PATIENCE_MS));
}

static void use_disk(const char *doorbells, bool shared)
{
	struct machine m = { .qemu.qtest = -1 };
	int status;

	qemu_prepare(&m.qemu);
	find_kernel(&m);
	make_initramfs();
	start_servers(&m, doorbells);
	boot(&m, shared);
	status = child_wait(&m.qemu.child, BOOT_MS);
	qemu_end(&m.qemu);
	if (status)
		atf_utils_cat_file("console", "guest: ");
	ATF_REQUIRE_EQ_MSG(0, status, "the guest did not end in time");
	end_server(&m.nvme);
	end_server(&m.probe);
	require_said("disk", "32768 sectors");
	require_disk();
	require_said("probe", "0x42525043");
	require_said("scratch", "0x12345678");
	require_said("after reset", "0x00000000");
}

CLEAT_TC(disk__mapped_doorbells)
{
	use_disk("--doorbells=mapped", true);
}

CLEAT_TC(disk__trapped_doorbells)
{
	use_disk("--doorbells=trapped", true);
}

CLEAT_TC(disk__ioeventfd_doorbells_unused)
{
	use_disk("--doorbells=ioeventfd", true);
}

CLEAT_TC(disk__dma_by_message)
{
	use_disk("--doorbells=trapped", false);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, disk__mapped_doorbells);
	ATF_TP_ADD_TC(tp, disk__trapped_doorbells);
	ATF_TP_ADD_TC(tp, disk__ioeventfd_doorbells_unused);
	ATF_TP_ADD_TC(tp, disk__dma_by_message);
	return atf_no_error();
}
