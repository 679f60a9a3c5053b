/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a descriptor is. A peer chose it: neither fstat() of a file that the
 * peer serves itself may hold us up, nor a read of what may be a pipe.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/ctl/out.h"

static const char *const kinds[CTL_NUM_FD_KINDS] = {
	"none", "eventfd", "memfd", "file", "socket", "pipe", "other",
};

static const struct ctl_bit seal_names[] = {
	{ F_SEAL_SEAL, "seal" },
	{ F_SEAL_SHRINK, "shrink" },
	{ F_SEAL_GROW, "grow" },
	{ F_SEAL_WRITE, "write" },
	{ 0x10, "future-write" },
	{ 0x20, "exec" },
};

static bool begins(const char *text, const char *with)
{
	return !strncmp(text, with, strlen(with));
}

/* From the name alone, which the kernel keeps. */
static enum ctl_fd_kind kind_by_name(int fd)
{
	char path[40], name[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, name, sizeof(name) - 1);
	if (n < 0)
		return CTL_FD_NONE;
	name[n] = '\0';
	if (!strcmp(name, "anon_inode:[eventfd]"))
		return CTL_FD_EVENTFD;
	if (begins(name, "socket:"))
		return CTL_FD_SOCKET;
	if (begins(name, "pipe:"))
		return CTL_FD_PIPE;
	return name[0] == '/' ? CTL_FD_FILE : CTL_FD_OTHER;
}

struct ctl_fd cleat_ctl_fd(int fd)
{
	struct ctl_fd what = { .kind = kind_by_name(fd) };
	int flags = fcntl(fd, F_GETFL), seals;
	struct statx stat;

	what.writable = flags >= 0 && (flags & O_ACCMODE) != O_RDONLY;
	if (what.kind != CTL_FD_FILE)
		return what;
	/* Only the memory file systems have seals. */
	seals = fcntl(fd, F_GET_SEALS);
	if (seals >= 0) {
		what.kind = CTL_FD_MEMFD;
		what.seals = (uint32_t)seals;
	}
	/* What the kernel knows already: a FUSE server is not asked. */
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC,
		  STATX_TYPE | STATX_SIZE, &stat))
		return what;
	if (!S_ISREG(stat.stx_mode))
		what.kind = S_ISFIFO(stat.stx_mode) ? CTL_FD_PIPE :
						      CTL_FD_OTHER;
	else
		what.size = stat.stx_size;
	return what;
}

void cleat_out_fd(struct ctl_out *out, const char *name,
		  const struct ctl_fd *fd)
{
	const char *kind = fd->kind < CTL_NUM_FD_KINDS ? kinds[fd->kind] : "?";
	bool sized = fd->kind == CTL_FD_MEMFD || fd->kind == CTL_FD_FILE;

	if (!out->gen && !sized) {
		cleat_out_string(out, name, kind);
		return;
	}
	cleat_out_map(out, name);
	if (out->gen)
		cleat_out_string(out, "kind", kind);
	else
		cleat_out_words(out, "%s", kind);
	if (sized)
		cleat_out_hex(out, "size", fd->size);
	if (sized && !fd->only_size)
		cleat_out_bool(out, "writable", fd->writable);
	if (fd->kind == CTL_FD_MEMFD && !fd->only_size)
		cleat_out_bits(out, "seals", fd->seals, seal_names,
			       CTL_NUM(seal_names));
	cleat_out_map_end(out);
}
