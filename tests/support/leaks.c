/* SPDX-License-Identifier: BSD-2-Clause */
#include <dirent.h>
#include <stdio.h>
#include <sys/syscall.h>

#include "tests/support/support.h"

/*
 * Threads that live as long as the process by design, so that one more of
 * them after a case is no leak: names as in /proc/PID/task/TID/comm.
 */
static const char *const lasting_threads[] = {
	NULL,
};

/* What the library's own last threads may need to end after a case's end. */
#define GRACE_MS 2000

static bool is_lasting(const char *tid)
{
	char path[64], name[32] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%.16s/comm", tid);
	file = fopen(path, "re");
	if (!file)
		return false;
	if (fgets(name, sizeof(name), file))
		name[strcspn(name, "\n")] = '\0';
	fclose(file);
	for (size_t i = 0; lasting_threads[i]; i++)
		if (!strcmp(name, lasting_threads[i]))
			return true;
	return false;
}

static unsigned count_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;
	unsigned count = 0;

	ATF_REQUIRE(dir);
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.' && !is_lasting(entry->d_name))
			count++;
	closedir(dir);
	return count;
}

/* Calls @visit for every descriptor but the one that this needs itself. */
static unsigned for_each_fd(void (*visit)(int fd, void *arg), void *arg)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	unsigned count = 0;

	ATF_REQUIRE(dir);
	while ((entry = readdir(dir))) {
		int fd = atoi(entry->d_name);

		if (entry->d_name[0] == '.' || fd == dirfd(dir))
			continue;
		count++;
		if (visit)
			visit(fd, arg);
	}
	closedir(dir);
	return count;
}

unsigned count_fds(void)
{
	return for_each_fd(NULL, NULL);
}

static void remember(int fd, void *arg)
{
	struct leaks *leaks = arg;

	if (fd < (int)sizeof(leaks->open))
		leaks->open[fd] = 1;
}

static void *tell_tid(void *arg)
{
	*(pid_t *)arg = (pid_t)syscall(SYS_gettid);
	return NULL;
}

/*
 * ThreadSanitizer starts a thread of its own with the first of ours, which
 * would then look like one that the case left behind.
 */
static void start_sanitizers_thread(void)
{
	struct deadline grace = deadline_in(GRACE_MS);
	pthread_t thread;
	char path[64];
	pid_t tid = 0;

	if (pthread_create(&thread, NULL, tell_tid, &tid))
		return;
	pthread_join(thread, NULL);
	snprintf(path, sizeof(path), "/proc/self/task/%d", (int)tid);
	/* A thread that was joined may be listed for a moment longer. */
	while (!access(path, F_OK) && deadline_left(&grace))
		usleep(100);
}

void leaks_begin(struct leaks *leaks)
{
	start_sanitizers_thread();
	memset(leaks, 0, sizeof(*leaks));
	leaks->threads = count_threads();
	leaks->fds = for_each_fd(remember, leaks);
}

static void complain(int fd, void *arg)
{
	const struct leaks *leaks = arg;
	char path[32], target[256];
	ssize_t length;

	if (fd < (int)sizeof(leaks->open) && leaks->open[fd])
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	length = readlink(path, target, sizeof(target) - 1);
	target[length < 0 ? 0 : length] = '\0';
	fprintf(stderr, "leaked descriptor %d: %s\n", fd, target);
}

unsigned leaks_found(const struct leaks *leaks)
{
	struct deadline grace = deadline_in(GRACE_MS);
	unsigned fds, threads;

	do {
		fds = count_fds();
		threads = count_threads();
		if (fds == leaks->fds && threads <= leaks->threads)
			return 0;
		usleep(1000);
	} while (deadline_left(&grace));
	for_each_fd(complain, (void *)leaks);
	fprintf(stderr, "descriptors: %u before, %u after; threads: %u, %u\n",
		leaks->fds, fds, leaks->threads, threads);
	return (unsigned)abs((int)fds - (int)leaks->fds) +
	       (threads > leaks->threads ? threads - leaks->threads : 0);
}

void leaks_end(const struct leaks *leaks)
{
	/* Fewer than before is as wrong: the case closed what is not its own. */
	ATF_CHECK_EQ_MSG(0, leaks_found(leaks), "something leaked");
}

/* It loads its own library before all others. */
bool on_valgrind(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return preload && strstr(preload, "vgpreload");
}

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__) || \
	__has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SANITIZED true
#else
#define SANITIZED false
#endif

bool is_slowed(void)
{
	return SANITIZED || on_valgrind();
}

void skip_on_valgrind(const char *why)
{
	if (on_valgrind())
		atf_tc_skip("valgrind: %s", why);
}
