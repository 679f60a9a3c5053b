/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A file on a file system whose server answers no more: every system call that
 * asks it (fstat(), close(), ...) would wait for ever. The server is a process
 * of its own; its end lets go of whoever waits.
 */
#ifndef TESTS_FUSE_H
#define TESTS_FUSE_H

#include "tests/support/support.h"

struct fuse {
	pid_t pid;
};

/* The file; skips the case where no file system can be made. */
int fuse_start(struct fuse *fuse);
/* Closing the file may be left to be done until then. */
void fuse_end(struct fuse *fuse);

#endif
