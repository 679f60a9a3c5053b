/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Closing descriptors that a peer has sent. close() asks the file's own file
 * system, and where that is one of the peer's making (FUSE) it waits until the
 * peer answers, which it need not: neither a deadline nor a cancel would end
 * that. So a file that may be on such a one is closed by a thread that nobody
 * waits for. It ends when it has closed what there was; as long as it is stuck,
 * what comes later waits behind it, and who asked for the closing is told, so
 * that there is an end to it.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "wire/wire.h"

struct job {
	struct job *next;
	int fd;
};

static struct {
	pthread_mutex_t lock;
	struct job *jobs;
	bool running;
} janitor = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
};

/*
 * Neither question is put to the file system. Only tmpfs and hugetlbfs have
 * seals; what has no path (sockets, pipes, eventfds) is on no file system.
 */
static bool is_harmless(int fd)
{
	char path[32], first;

	if (fcntl(fd, F_GET_SEALS) >= 0)
		return true;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return readlink(path, &first, 1) == 1 && first != '/';
}

static struct job *next_job(void)
{
	struct job *job;

	pthread_mutex_lock(&janitor.lock);
	job = janitor.jobs;
	if (job)
		janitor.jobs = job->next;
	else
		janitor.running = false;
	pthread_mutex_unlock(&janitor.lock);
	return job;
}

static void *close_all(void *unused)
{
	struct job *job;

	while ((job = next_job())) {
		close(job->fd);
		free(job);
	}
	return NULL;
}

static bool start_thread(void)
{
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t thread;
	int err;

	/* The program's signals are not for a thread it does not know. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	err = pthread_create(&thread, &attr, close_all, NULL);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return !err;
}

static bool hand_over(int fd)
{
	struct job *job = malloc(sizeof(*job));
	bool taken;

	if (!job)
		return false;
	pthread_mutex_lock(&janitor.lock);
	taken = janitor.running || start_thread();
	if (taken) {
		janitor.running = true;
		job->fd = fd;
		job->next = janitor.jobs;
		janitor.jobs = job;
	}
	pthread_mutex_unlock(&janitor.lock);
	if (!taken)
		free(job);
	return taken;
}

bool cleat_close_foreign(int *fd)
{
	bool handed_over = *fd >= 0 && !is_harmless(*fd) && hand_over(*fd);

	if (handed_over)
		*fd = -1;
	cleat_close(fd);
	return handed_over;
}

unsigned cleat_fds_close(struct cleat_fds *fds)
{
	unsigned handed_over = 0;

	for (unsigned i = 0; i < fds->num; i++)
		handed_over += cleat_close_foreign(&fds->fd[i]);
	fds->num = 0;
	return handed_over;
}
