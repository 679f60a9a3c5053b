/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A client that shrinks a file of guest memory makes our next access to it a
 * SIGBUS. The handler puts zeroes in the place of that range and marks the
 * connection as broken; the loop ends it. One server of a process can have it.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "server/server.h"

static struct cleat_server *guarded;
static struct sigaction former;

static bool cover(const struct cleat_srv_range *range, const uint8_t *address)
{
	uint8_t *start = range->map;

	if (!start || address < start || address >= start + range->map_length)
		return false;
	/* For hugetlbfs too: the whole range goes, so the sizes fit. */
	return mmap(start, range->map_length, PROT_READ | PROT_WRITE,
		    MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		    -1, 0) != MAP_FAILED;
}

/*
 * The fault is the server thread's own, in the middle of a copy: the table
 * is not being changed, and mmap() is a system call and nothing else.
 */
static void on_sigbus(int number, siginfo_t *info, void *context)
{
	int saved = errno;
	bool covered = false;

	for (size_t i = 0; guarded && i < guarded->dma.count && !covered; i++)
		covered = cover(cleat_srv_range_at(&guarded->dma, i),
				info->si_addr);
	if (covered)
		guarded->conn.broken = 1;
	else
		/* Not ours: what would have happened without us does. */
		sigaction(SIGBUS, &former, NULL);
	errno = saved;
}

int cleat_srv_guard_begin(struct cleat_server *srv)
{
	struct sigaction action = {
		.sa_sigaction = on_sigbus,
		.sa_flags = SA_SIGINFO,
	};

	if (guarded)
		return -EBUSY;
	if (sigaction(SIGBUS, &action, &former))
		return -errno;
	guarded = srv;
	return 0;
}

void cleat_srv_guard_end(struct cleat_server *srv)
{
	if (guarded != srv)
		return;
	sigaction(SIGBUS, &former, NULL);
	guarded = NULL;
}
