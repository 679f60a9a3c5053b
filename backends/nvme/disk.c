/* SPDX-License-Identifier: BSD-2-Clause */
/* The disk: a regular file or a block device. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "backends/nvme/nvme.h"
#include "wire/wire.h"

static const char zeroes[65536];

static int open_file(const struct cleat_nvme_disk_config *config,
		     struct cleat_error *reterr)
{
	/* Without O_NONBLOCK a FIFO could keep us here for ever. */
	int flags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	int fd, err;

	flags |= config->read_only ? O_RDONLY : O_RDWR;
	if (config->create_size && !config->read_only)
		flags |= O_CREAT;
	fd = open(config->path, flags, 0600);
	if (fd >= 0)
		return fd;
	err = -errno;
	switch (err) {
	case -ENOENT:
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
				  "%s: no such file: give --size=BYTES "
				  "to create it",
				  config->path);
	case -EISDIR:
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
				  "%s: is a directory: name a file or "
				  "a block device",
				  config->path);
	case -EACCES:
	case -EPERM:
	case -EROFS:
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
				  "%s: %s: give --read-only if reading "
				  "is enough",
				  config->path, strerror(-err));
	}
	return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err, "%s: %s",
			  config->path, strerror(-err));
}

/*
 * The lock belongs to the open file, so that it ends with us whatever kills
 * us. Readers may share the file with one another only.
 */
static int set_lock(struct cleat_nvme_disk *disk, short type)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET };

	if (!fcntl(disk->fd, F_OFD_SETLK, &lock))
		return 0;
	return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
}

int cleat_nvme_disk_lock(struct cleat_nvme_disk *disk)
{
	int err = 0;

	if (!disk->locked)
		err = set_lock(disk, disk->read_only ? F_RDLCK : F_WRLCK);
	disk->locked = !err;
	return err;
}

void cleat_nvme_disk_unlock(struct cleat_nvme_disk *disk)
{
	if (disk->locked)
		set_lock(disk, F_UNLCK);
	disk->locked = false;
}

static int lock_file(const struct cleat_nvme_disk_config *config,
		     struct cleat_nvme_disk *disk, struct cleat_error *reterr)
{
	int err = config->incoming ? 0 : cleat_nvme_disk_lock(disk);

	if (err == -EBUSY)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EBUSY,
				  "%s: in use by another process: "
				  "stop that one first, or give "
				  "--incoming to take over from it",
				  config->path);
	if (err)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
				  "%s: cannot be locked: %s", config->path,
				  strerror(-err));
	return 0;
}

static int file_size(const struct cleat_nvme_disk_config *config, int fd,
		     struct stat *st, uint64_t *ret, struct cleat_error *reterr)
{
	uint64_t want = config->create_size;

	*ret = (uint64_t)st->st_size;
	if (!want || *ret == want)
		return 0;
	if (*ret || config->read_only)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EEXIST,
				  "%s: is %llu bytes, not %llu: "
				  "leave out --size",
				  config->path, (unsigned long long)*ret,
				  (unsigned long long)want);
	if (ftruncate(fd, (off_t)want))
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -errno,
				  "%s: cannot become %llu bytes: %s",
				  config->path, (unsigned long long)want,
				  strerror(errno));
	*ret = want;
	return 0;
}

static int find_size(const struct cleat_nvme_disk_config *config,
		     struct cleat_nvme_disk *disk, struct cleat_error *reterr)
{
	struct stat st;

	if (fstat(disk->fd, &st))
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -errno, "%s: %s",
				  config->path, strerror(errno));
	disk->identity[0] = st.st_dev;
	disk->identity[1] = st.st_ino;
	if (S_ISREG(st.st_mode))
		return file_size(config, disk->fd, &st, &disk->size, reterr);
	if (S_ISDIR(st.st_mode))
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EISDIR,
				  "%s: is a directory: name a file "
				  "or a block device",
				  config->path);
	if (!S_ISBLK(st.st_mode))
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ENOTBLK,
				  "%s: neither a regular file nor "
				  "a block device",
				  config->path);
	disk->identity[1] = st.st_rdev;
	if (ioctl(disk->fd, BLKGETSIZE64, &disk->size))
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -errno,
				  "%s: size unknown: %s", config->path,
				  strerror(errno));
	return 0;
}

static int check_size(const struct cleat_nvme_disk_config *config,
		      const struct cleat_nvme_disk *disk,
		      struct cleat_error *reterr)
{
	if (!disk->size)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "%s: is empty: give --size=BYTES",
				  config->path);
	if (disk->size % disk->block_size)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "%s: %llu bytes are no multiple "
				  "of the block size %u",
				  config->path, (unsigned long long)disk->size,
				  disk->block_size);
	return 0;
}

int cleat_nvme_disk_open(struct cleat_nvme_disk *disk,
			 const struct cleat_nvme_disk_config *config,
			 struct cleat_error *reterr)
{
	int err;

	*disk = (struct cleat_nvme_disk){
		.block_size = config->block_size,
		.read_only = config->read_only,
	};
	disk->fd = open_file(config, reterr);
	if (disk->fd < 0)
		return disk->fd;
	/* Locked before it is made larger: nobody's file changes under him. */
	err = lock_file(config, disk, reterr);
	if (!err)
		err = find_size(config, disk, reterr);
	if (!err)
		err = check_size(config, disk, reterr);
	if (err)
		cleat_nvme_disk_close(disk);
	return err;
}

void cleat_nvme_disk_close(struct cleat_nvme_disk *disk)
{
	cleat_close(&disk->fd);
}

int cleat_nvme_disk_read(struct cleat_nvme_disk *disk, struct iovec *iov,
			 unsigned n_iov, uint64_t offset)
{
	while (n_iov) {
		ssize_t got = preadv(disk->fd, iov, (int)n_iov, (off_t)offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		/* Somebody made the file shorter. */
		if (!got)
			return -ENODATA;
		offset += (uint64_t)got;
		n_iov = cleat_iov_advance(&iov, n_iov, (size_t)got);
	}
	return 0;
}

static int write_all(struct cleat_nvme_disk *disk, struct iovec *iov,
		     unsigned n_iov, uint64_t offset, int flags)
{
	while (n_iov) {
		ssize_t put = pwritev2(disk->fd, iov, (int)n_iov,
				       (off_t)offset, flags);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return put ? -errno : -EIO;
		offset += (uint64_t)put;
		n_iov = cleat_iov_advance(&iov, n_iov, (size_t)put);
	}
	return 0;
}

int cleat_nvme_disk_write(struct cleat_nvme_disk *disk, struct iovec *iov,
			  unsigned n_iov, uint64_t offset, bool durable)
{
	int err;

	if (durable && disk->sync_error)
		return disk->sync_error;
	err = write_all(disk, iov, n_iov, offset, durable ? RWF_DSYNC : 0);
	if (durable && err == -EOPNOTSUPP) {
		err = write_all(disk, iov, n_iov, offset, 0);
		return err ? err : cleat_nvme_disk_flush(disk);
	}
	/* It may have been another write's data that was lost. */
	if (durable && err == -EIO)
		disk->sync_error = err;
	return err;
}

int cleat_nvme_disk_flush(struct cleat_nvme_disk *disk)
{
	if (disk->read_only)
		return 0;
	while (!disk->sync_error && fdatasync(disk->fd))
		if (errno != EINTR)
			disk->sync_error = -errno;
	return disk->sync_error;
}

static int punch(struct cleat_nvme_disk *disk, int mode, uint64_t offset,
		 uint64_t length)
{
	while (fallocate(disk->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			 (off_t)length))
		if (errno != EINTR)
			return -errno;
	return 0;
}

static bool unsupported(int err)
{
	return err == -EOPNOTSUPP || err == -ENOSYS || err == -ENODEV;
}

static int write_zeroes(struct cleat_nvme_disk *disk, uint64_t offset,
			uint64_t length)
{
	int err = 0;

	while (!err && length) {
		size_t chunk = length < sizeof(zeroes) ? (size_t)length :
							 sizeof(zeroes);
		struct iovec iov = { (void *)(uintptr_t)zeroes, chunk };

		err = write_all(disk, &iov, 1, offset, 0);
		offset += chunk;
		length -= chunk;
	}
	return err;
}

int cleat_nvme_disk_zero(struct cleat_nvme_disk *disk, uint64_t offset,
			 uint64_t length, bool deallocate)
{
	int err = -EOPNOTSUPP;

	if (!deallocate)
		err = punch(disk, FALLOC_FL_ZERO_RANGE, offset, length);
	if (unsupported(err))
		err = punch(disk, FALLOC_FL_PUNCH_HOLE, offset, length);
	if (unsupported(err))
		err = write_zeroes(disk, offset, length);
	return err;
}

/* A hint: where it cannot be done the blocks stay as they are. */
int cleat_nvme_disk_discard(struct cleat_nvme_disk *disk, uint64_t offset,
			    uint64_t length)
{
	int err = punch(disk, FALLOC_FL_PUNCH_HOLE, offset, length);

	return unsupported(err) ? 0 : err;
}
