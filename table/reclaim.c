/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "table/reclaim.h"
#include "table/table.h"

/* Held over the thread's start and end, so that there is never a second. */
static pthread_mutex_t lifetime = PTHREAD_MUTEX_INITIALIZER;
static unsigned users;
static pthread_t thread;
static pid_t process;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static struct cleat_garbage *pending;
static bool ending;

static void free_all(struct cleat_garbage *list)
{
	while (list) {
		struct cleat_garbage *next = list->next;

		free(list);
		list = next;
	}
}

static struct cleat_garbage *wait_for_garbage(void)
{
	struct cleat_garbage *list;

	pthread_mutex_lock(&lock);
	while (!pending && !ending)
		pthread_cond_wait(&wake, &lock);
	list = pending;
	pending = NULL;
	pthread_mutex_unlock(&lock);
	return list;
}

static void *reclaim_thread(void *unused)
{
	struct cleat_garbage *list;

	pthread_setname_np(pthread_self(), "cleat-reclaim");
	while ((list = wait_for_garbage())) {
		cleat_synchronize();
		free_all(list);
	}
	return NULL;
}

/* The VMM's signals are for the VMM's threads. */
static int start_thread(void)
{
	sigset_t all, before;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&thread, NULL, reclaim_thread, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	process = getpid();
	return -err;
}

int cleat_reclaim_get(void)
{
	int err = 0;

	pthread_mutex_lock(&lifetime);
	if (!users)
		err = start_thread();
	if (!err)
		users++;
	pthread_mutex_unlock(&lifetime);
	return err;
}

static void end_thread(void)
{
	/* A forked child has the variables, but not the thread. */
	if (process != getpid())
		return;
	pthread_mutex_lock(&lock);
	ending = true;
	pthread_cond_signal(&wake);
	pthread_mutex_unlock(&lock);
	pthread_join(thread, NULL);
	ending = false;
}

void cleat_reclaim_put(void)
{
	pthread_mutex_lock(&lifetime);
	if (!--users)
		end_thread();
	pthread_mutex_unlock(&lifetime);
}

bool cleat_reclaim_is_used(void)
{
	bool is_used;

	pthread_mutex_lock(&lifetime);
	is_used = users > 0;
	pthread_mutex_unlock(&lifetime);
	return is_used;
}

void cleat_reclaim(struct cleat_garbage *list)
{
	struct cleat_garbage **end = &list;

	if (!list)
		return;
	while (*end)
		end = &(*end)->next;
	pthread_mutex_lock(&lock);
	*end = pending;
	pending = list;
	pthread_cond_signal(&wake);
	pthread_mutex_unlock(&lock);
}
