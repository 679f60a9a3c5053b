/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Our own descriptors of the files behind ranges: one for each file and right,
 * whatever number of ranges is in it, or a vIOMMU's pages would take all that a
 * process may have. An inode is known as long as we have it open.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "dma/private.h"
#include "wire/wire.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct cleat_dma_file *files;

/*
 * A duplicate would let the server write to what it may only read: the rights
 * in DMA_MAP are a word, those of the open file are kept by the kernel.
 */
static int reopen_read_only(int fd)
{
	char path[32];
	int ret;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ret = open(path, O_RDONLY | O_CLOEXEC);
	return ret < 0 ? -errno : ret;
}

static int make(int fd, const struct stat *stat, bool writable,
		struct cleat_dma_file **ret)
{
	struct cleat_dma_file *file = calloc(1, sizeof(*file));

	if (!file)
		return -ENOMEM;
	*file = (struct cleat_dma_file){
		.refs = 1,
		.dev = stat->st_dev,
		.ino = stat->st_ino,
		/* One device may be another thing each time it is opened. */
		.known = S_ISREG(stat->st_mode),
		.writable = writable,
		.fd = writable ? cleat_dup(fd) : reopen_read_only(fd),
	};
	if (file->fd < 0) {
		int err = file->fd;

		free(file);
		return err;
	}
	file->next = files;
	files = file;
	*ret = file;
	return 0;
}

int cleat_dma_file_get(int fd, bool writable, struct cleat_dma_file **ret)
{
	struct cleat_dma_file *file;
	struct stat stat;
	int err = 0;

	if (fstat(fd, &stat) < 0)
		return -errno;
	pthread_mutex_lock(&lock);
	for (file = files; file; file = file->next)
		if (file->known && S_ISREG(stat.st_mode) &&
		    file->writable == writable && file->dev == stat.st_dev &&
		    file->ino == stat.st_ino)
			break;
	if (file)
		file->refs++;
	else
		err = make(fd, &stat, writable, &file);
	pthread_mutex_unlock(&lock);
	if (!err)
		*ret = file;
	return err;
}

struct cleat_dma_file *cleat_dma_file_ref(struct cleat_dma_file *file)
{
	if (!file)
		return NULL;
	pthread_mutex_lock(&lock);
	file->refs++;
	pthread_mutex_unlock(&lock);
	return file;
}

void cleat_dma_file_put(struct cleat_dma_file *file)
{
	struct cleat_dma_file **link;

	if (!file)
		return;
	pthread_mutex_lock(&lock);
	if (--file->refs) {
		pthread_mutex_unlock(&lock);
		return;
	}
	for (link = &files; *link != file; link = &(*link)->next)
		;
	*link = file->next;
	pthread_mutex_unlock(&lock);
	cleat_close(&file->fd);
	free(file);
}
