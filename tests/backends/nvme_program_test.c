/* SPDX-License-Identifier: BSD-2-Clause */
/* cleat-nvme, the program, from its command line to its last flush. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cleat/device.h>

#include "tests/backends/nvme_host.h"

/* The program's sanitizers need what its filter refuses. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static const char *const plain[] = { "--file=disk", "--size=4M",
				     "--stats=stats", NULL };

static void read_text(const char *path, char *text, size_t size)
{
	FILE *file = fopen(path, "r");

	ATF_REQUIRE_MSG(file, "%s is missing", path);
	text[fread(text, 1, size - 1, file)] = 0;
	fclose(file);
}

static void require_file(unsigned offset, const void *data, size_t length)
{
	char bytes[8192];
	int fd = open("disk", O_RDONLY);

	ATF_REQUIRE(fd >= 0);
	ATF_REQUIRE(length <= sizeof(bytes));
	ATF_REQUIRE_EQ((ssize_t)length, pread(fd, bytes, length, offset));
	ATF_REQUIRE(!memcmp(bytes, data, length));
	close(fd);
}

/* The value of a counter in the statistics, wherever in them it is. */
static long long counter(const char *name)
{
	char text[16384], key[64];
	const char *at;

	read_text("stats", text, sizeof(text));
	snprintf(key, sizeof(key), "\"%s\":", name);
	at = strstr(text, key);
	ATF_REQUIRE_MSG(at, "no %s in the statistics", name);
	return atoll(at + strlen(key));
}

static void write_and_read(struct host *host)
{
	for (unsigned i = 0; i < 4096; i++)
		host->ram[HOST_DATA + i] = (uint8_t)(i * 3 + i / 256);
	ATF_REQUIRE_EQ(NVME_SUCCESS, host_rw(host, NVME_IO_WRITE, 16, 8));
	require_file(16 * 512, host->ram + HOST_DATA, 4096);
	memset(host->ram + HOST_DATA, 0, 4096);
	ATF_REQUIRE_EQ(NVME_SUCCESS, host_rw(host, NVME_IO_READ, 16, 8));
	require_file(16 * 512, host->ram + HOST_DATA, 4096);
}

static void serve(const char *doorbells, bool by_message)
{
	struct host host = { .doorbells = doorbells, .by_message = by_message };

	host_start(&host, plain);
	host_enable(&host);
	for (unsigned i = 0; i < 3 * HOST_ENTRIES; i++)
		write_and_read(&host);
	/* And once more after a controller reset */
	host_write32(&host, NVME_REG_CC, 0);
	ATF_REQUIRE_EQ(0, host_read32(&host, NVME_REG_CSTS));
	host_enable(&host);
	write_and_read(&host);
	ATF_REQUIRE_EQ(0, host_stop(&host));
	ATF_REQUIRE_EQ(3 * HOST_ENTRIES + 1, counter("write"));
	ATF_REQUIRE_EQ(3 * HOST_ENTRIES + 1, counter("read"));
	ATF_REQUIRE_EQ(0, counter("failed"));
	host_end(&host);
}

CLEAT_TC(serve__trapped)
{
	serve("trapped", false);
	ATF_REQUIRE_EQ(0, counter("mapped"));
	ATF_REQUIRE_EQ(0, counter("eventfd"));
	ATF_REQUIRE(counter("message") >= 2 * 6 * HOST_ENTRIES);
}

CLEAT_TC(serve__mapped)
{
	serve("mapped", false);
	ATF_REQUIRE(counter("mapped") >= 6 * HOST_ENTRIES);
	ATF_REQUIRE_EQ(0, counter("message"));
}

CLEAT_TC(serve__shadow)
{
	serve("shadow", false);
	ATF_REQUIRE(counter("eventfd") >= 6 * HOST_ENTRIES);
	ATF_REQUIRE_EQ(0, counter("message"));
}

CLEAT_TC(serve__ioeventfd)
{
	serve("ioeventfd", false);
	ATF_REQUIRE(counter("eventfd") >= 6 * HOST_ENTRIES);
}

CLEAT_TC(serve__memory_without_descriptor)
{
	serve("trapped", true);
}

CLEAT_TC(serve__default_is_mapped)
{
	struct host host = { 0 };

	char text[16384];

	host_start(&host, plain);
	host_enable(&host);
	write_and_read(&host);
	ATF_REQUIRE_EQ(0, host_stop(&host));
	read_text("stats", text, sizeof(text));
	ATF_REQUIRE(strstr(text, "\"doorbell_mode\": \"mapped\""));
	host_end(&host);
}

/* The library's own client, which asks for all that there is. */
CLEAT_TC(serve__libcleat)
{
	const char *argv[] = { program("backends/cleat-nvme"), "--file=disk",
			       "--size=1M", NULL };
	struct cleat_device_config config = {
		.size = sizeof(config),
		.argv = argv,
	};
	struct cleat_device_info info = { .size = sizeof(info) };
	struct cleat_device *dev;
	struct cleat_error why;
	uint32_t version = 0;

	ATF_REQUIRE_EQ_MSG(0, cleat_device_open(&config, &dev, &why), "%s",
			   why.text);
	ATF_REQUIRE_EQ(0, cleat_device_info(dev, &info));
	ATF_REQUIRE(info.flags & CLEAT_DEVICE_INFO_TWIN);
	ATF_REQUIRE(info.flags & CLEAT_DEVICE_INFO_RESET);
	ATF_REQUIRE_EQ(0, cleat_region_read(dev, 0, NVME_REG_VS, &version, 4));
	ATF_REQUIRE_EQ(NVME_VERSION, version);
	ATF_REQUIRE_EQ(0, cleat_device_reset(dev));
	cleat_device_unref(dev);
}

static void fill_queue(struct host *host)
{
	struct nvme_command flush = { .opcode = NVME_IO_FLUSH, .nsid = 1 };

	for (unsigned i = 0; i < HOST_ENTRIES - 1; i++)
		host_put(host, 1, flush);
	host_ring(host, 1);
	for (unsigned i = 0; i < HOST_ENTRIES - 1; i++)
		host_take(host, 1);
}

/* The head is all that the guest rings, and the program is asleep. */
static void require_wakes(const char *doorbells)
{
	struct host host = { .doorbells = doorbells };
	struct nvme_command nothing = { .opcode = NVME_ADMIN_ABORT };

	host_start(&host, plain);
	host_enable(&host);
	fill_queue(&host);
	host_submit(&host, 1, (struct nvme_command){ .nsid = 1 });
	/* When the second is done, a whole turn has gone by. */
	ATF_REQUIRE_EQ(NVME_SUCCESS, host_command(&host, 0, nothing));
	ATF_REQUIRE_EQ(NVME_SUCCESS, host_command(&host, 0, nothing));
	ATF_REQUIRE(!host_done(&host, 1));
	host_ring_head(&host, 1);
	host_complete(&host, 1);
	ATF_REQUIRE_EQ(0, host_stop(&host));
	ATF_REQUIRE_EQ(1, counter("cq_full"));
	host_end(&host);
}

CLEAT_TC(complete__queue_full)
{
	require_wakes("trapped");
	require_wakes("mapped");
	require_wakes("shadow");
	require_wakes("ioeventfd");
}

CLEAT_TC(kick__without_dbbuf)
{
	struct host host = { .doorbells = "ioeventfd", .no_dbbuf = true };
	char text[1024];

	host_start(&host, plain);
	host_enable(&host);
	host_submit(&host, 1, (struct nvme_command){ .nsid = 1 });
	REQUIRE_SOON(host_read32(&host, NVME_REG_CSTS) & NVME_CSTS_CFS);
	read_text("nvme.err", text, sizeof(text));
	ATF_REQUIRE(strstr(text, "--doorbells=shadow or mapped"));
	/* And a guest that does know of it can have the disk back. */
	host_write32(&host, NVME_REG_CC, 0);
	host.no_dbbuf = false;
	host_enable(&host);
	write_and_read(&host);
	ATF_REQUIRE_EQ(0, host_stop(&host));
	host_end(&host);
}

CLEAT_TC(end__client_goes)
{
	struct host host = { .doorbells = "mapped" };
	int status;

	host_start(&host, plain);
	host_enable(&host);
	write_and_read(&host);
	shutdown(host.fd, SHUT_RDWR);
	status = child_wait(&host.child, PATIENCE_MS);
	ATF_REQUIRE(WIFEXITED(status) && !WEXITSTATUS(status));
	ATF_REQUIRE_EQ(1, counter("write"));
	host_end(&host);
}

CLEAT_TC(start__second_on_one_file)
{
	struct host host = { 0 };
	const char *argv[] = { program("backends/cleat-nvme"), "--file=disk",
			       "--socket-path=s", NULL };
	struct child child;
	char text[512];
	int status;

	host_start(&host, plain);
	child_start(&child, "second", argv);
	status = child_wait(&child, PATIENCE_MS);
	ATF_REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	read_text("second.err", text, sizeof(text));
	ATF_REQUIRE_MSG(strstr(text, "disk: in use by another process"), "%s",
			text);
	ATF_REQUIRE_EQ(0, host_stop(&host));
	host_end(&host);
}

/* Exit status, and one line on stderr with @text in it. */
static void refuses(int status, const char *text, const char *const options[])
{
	const char *argv[8] = { program("backends/cleat-nvme") };
	struct child child;
	char line[1024];
	int ended;

	for (unsigned i = 0; options[i]; i++)
		argv[i + 1] = options[i];
	child_start(&child, "refused", argv);
	ended = child_wait(&child, PATIENCE_MS);
	ATF_REQUIRE(WIFEXITED(ended));
	ATF_REQUIRE_EQ_MSG(status, WEXITSTATUS(ended), "%s", text);
	read_text("refused.err", line, sizeof(line));
	ATF_REQUIRE_MSG(strstr(line, text), "wanted %s, got %s", text, line);
	ATF_REQUIRE(!strncmp(line, "cleat-nvme: ", 12));
	ATF_REQUIRE(strchr(line, '\n') == line + strlen(line) - 1);
}

#define REFUSES(status, text, ...)                                             \
	refuses(status, text, (const char *const[]){ __VA_ARGS__, NULL })

CLEAT_TC(start__readers_share)
{
	static const char *const reader[] = { "--file=disk", "--read-only",
					      NULL };
	struct host first = { 0 }, second = { 0 };
	int fd = open("disk", O_WRONLY | O_CREAT, 0600);

	ATF_REQUIRE_EQ(0, ftruncate(fd, 1 << 20));
	close(fd);
	host_start(&first, reader);
	host_start(&second, reader);
	host_enable(&second);
	ATF_REQUIRE_EQ(NVME_SUCCESS, host_rw(&second, NVME_IO_READ, 0, 8));
	ATF_REQUIRE_EQ(NVME_WRITE_PROTECTED,
		       host_rw(&second, NVME_IO_WRITE, 0, 8));
	REFUSES(1, "disk: in use by another process", "--file=disk", "--fd=0");
	ATF_REQUIRE_EQ(0, host_stop(&first));
	ATF_REQUIRE_EQ(0, host_stop(&second));
	host_end(&first);
	host_end(&second);
}

CLEAT_TC(start__bad_options)
{
	REFUSES(2, "no --file", "--fd=3");
	REFUSES(2, "one of --socket-path", "--file=x");
	REFUSES(2, "one of --socket-path", "--file=x", "--fd=3",
		"--socket-path=s");
	REFUSES(2, "--queues=0", "--queues=0");
	REFUSES(2, "--queues=-1", "--queues=-1");
	REFUSES(2, "--size=1X", "--size=1X");
	REFUSES(2, "--size=99999999999T", "--size=99999999999T");
	REFUSES(2, "--block-size=1024", "--block-size=1024");
	REFUSES(2, "--doorbells=bell", "--doorbells=bell");
	REFUSES(2, "--serial=", "--serial=123456789012345678901");
	REFUSES(2, "only options", "--file=x", "--fd=3", "more");
	REFUSES(2, "creates nothing", "--file=x", "--fd=3", "--size=1M",
		"--read-only");
}

CLEAT_TC(start__bad_files)
{
	int fd = open("odd", O_WRONLY | O_CREAT, 0600);

	ATF_REQUIRE_EQ(0, ftruncate(fd, 1000));
	close(fd);
	ATF_REQUIRE_EQ(0, mkdir("folder", 0700));
	ATF_REQUIRE_EQ(0, mkfifo("pipe", 0600));
	ATF_REQUIRE_EQ(0, symlink("nowhere/at/all", "dangling"));
	fd = open("empty", O_WRONLY | O_CREAT, 0600);
	close(fd);
	REFUSES(1, "missing: no such file", "--file=missing", "--fd=3");
	REFUSES(1, "folder: is a directory", "--file=folder", "--fd=3");
	REFUSES(1, "folder: is a directory", "--file=folder", "--fd=3",
		"--read-only");
	REFUSES(1, "pipe: neither", "--file=pipe", "--fd=3");
	REFUSES(1, "null: neither", "--file=/dev/null", "--fd=3");
	REFUSES(1, "dangling: no such file", "--file=dangling", "--fd=3");
	REFUSES(1, "empty: is empty", "--file=empty", "--fd=3");
	REFUSES(1, "odd: 1000 bytes are no multiple", "--file=odd", "--fd=3");
	REFUSES(1, "odd: is 1000 bytes, not 1048576", "--file=odd", "--fd=3",
		"--size=1M");
	REFUSES(1, "no multiple of the block size 4096", "--file=new",
		"--fd=3", "--size=4608", "--block-size=4096");
}

CLEAT_TC(start__bad_sockets)
{
	const char *file = "--file=disk";
	int fd = open("occupied", O_WRONLY | O_CREAT, 0600);

	close(fd);
	REFUSES(1, "socket", file, "--size=1M", "--fd=99");
	REFUSES(1, "socket", file, "--fd=0");
	REFUSES(1, "socket", file, "--socket-path=occupied");
	REFUSES(1, "socket", file, "--socket-path=no/such/folder/s");
	ATF_REQUIRE_EQ(0, access("occupied", F_OK));
	REFUSES(1, "no/stats", file, "--socket-path=s", "--stats=no/stats");
}

/* The file is there a moment before anybody listens on it. */
static bool connects(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), err;

	ATF_REQUIRE(fd >= 0);
	strcpy(address.sun_path, path);
	err = connect(fd, (void *)&address, sizeof(address));
	close(fd);
	return !err;
}

CLEAT_TC(start__socket_path)
{
	const char *argv[] = { program("backends/cleat-nvme"), "--file=disk",
			       "--size=1M", "--socket-path=s", NULL };
	struct child child;
	int status;

	child_start(&child, "nvme", argv);
	REQUIRE_SOON(connects("s"));
	/* A client that goes does not end it. */
	REQUIRE_SOON(connects("s"));
	ATF_REQUIRE_EQ(0, kill(child.pid, SIGTERM));
	status = child_wait(&child, PATIENCE_MS);
	ATF_REQUIRE(WIFEXITED(status) && !WEXITSTATUS(status));
	/* Nothing is left behind. */
	ATF_REQUIRE_EQ(-1, access("s", F_OK));
}

CLEAT_TC(help__and_version)
{
	const char *argv[] = { program("backends/cleat-nvme"), "--help", NULL };
	struct child child;
	char text[8192];

	child_start(&child, "help", argv);
	ATF_REQUIRE_EQ(0, child_wait(&child, PATIENCE_MS));
	read_text("help.out", text, sizeof(text));
	ATF_REQUIRE(strstr(text, "--socket-path=PATH"));
	ATF_REQUIRE(strstr(text, "--doorbells=HOW"));
	argv[1] = "--version";
	child_start(&child, "help", argv);
	ATF_REQUIRE_EQ(0, child_wait(&child, PATIENCE_MS));
	read_text("help.out", text, sizeof(text));
	ATF_REQUIRE(!strncmp(text, "cleat-nvme ", 11));
}

/* Whether a line of /proc/PID/status has @value after its name. */
static void require_status(pid_t pid, const char *line, const char *value)
{
	char path[64], text[8192], want[128];

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	read_text(path, text, sizeof(text));
	snprintf(want, sizeof(want), "\n%s:\t%s\n", line, value);
	ATF_REQUIRE_MSG(strstr(text, want), "%s is not %s", line, value);
}

CLEAT_TC(rights__are_dropped)
{
	struct host host = { 0 };

	/* The handshake is answered after that. */
	host_start(&host, plain);
	require_status(host.child.pid, "NoNewPrivs", "1");
	require_status(host.child.pid, "CapEff", "0000000000000000");
	require_status(host.child.pid, "CapPrm", "0000000000000000");
	if (!SANITIZED)
		require_status(host.child.pid, "Seccomp", "2");
	ATF_REQUIRE_EQ(0, host_stop(&host));
	host_end(&host);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, serve__trapped);
	ATF_TP_ADD_TC(tp, serve__mapped);
	ATF_TP_ADD_TC(tp, serve__shadow);
	ATF_TP_ADD_TC(tp, serve__ioeventfd);
	ATF_TP_ADD_TC(tp, serve__memory_without_descriptor);
	ATF_TP_ADD_TC(tp, serve__default_is_mapped);
	ATF_TP_ADD_TC(tp, serve__libcleat);
	ATF_TP_ADD_TC(tp, complete__queue_full);
	ATF_TP_ADD_TC(tp, kick__without_dbbuf);
	ATF_TP_ADD_TC(tp, end__client_goes);
	ATF_TP_ADD_TC(tp, start__second_on_one_file);
	ATF_TP_ADD_TC(tp, start__readers_share);
	ATF_TP_ADD_TC(tp, start__bad_options);
	ATF_TP_ADD_TC(tp, start__bad_files);
	ATF_TP_ADD_TC(tp, start__bad_sockets);
	ATF_TP_ADD_TC(tp, start__socket_path);
	ATF_TP_ADD_TC(tp, help__and_version);
	ATF_TP_ADD_TC(tp, rights__are_dropped);
	return atf_no_error();
}
