/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest memory. Other processors change it while we look: what is checked is
 * first copied, and each word that two sides use as a signal is one atomic
 * load or store.
 */
#include <errno.h>
#include <string.h>

#include "backends/nvme/private.h"

/* The host's address of one naturally aligned piece, or NULL. */
void *cleat_nvme_map_word(struct cleat_nvme *n, uint64_t addr, size_t length,
			  uint32_t rights)
{
	struct iovec iov;

	if (n->ops.map(n->opaque, addr, length, rights, &iov, 1) != 1)
		return NULL;
	/* A client may have mapped a page at an odd address. */
	return (uintptr_t)iov.iov_base % length ? NULL : iov.iov_base;
}

/* Keeps the compiler from looking into guest memory a second time. */
static void copied(void)
{
	__asm__ volatile("" ::: "memory");
}

int cleat_nvme_copy_in(struct cleat_nvme *n, uint64_t addr, void *buf,
		       size_t count)
{
	struct iovec iov;

	if (n->ops.map(n->opaque, addr, count, CLEAT_READ, &iov, 1) != 1)
		return n->ops.read(n->opaque, addr, buf, count);
	memcpy(buf, iov.iov_base, count);
	copied();
	return 0;
}

int cleat_nvme_copy_out(struct cleat_nvme *n, uint64_t addr, const void *buf,
			size_t count)
{
	struct iovec iov;

	if (n->ops.map(n->opaque, addr, count, CLEAT_WRITE, &iov, 1) != 1)
		return n->ops.write(n->opaque, addr, buf, count);
	memcpy(iov.iov_base, buf, count);
	n->ops.dirty(n->opaque, addr, count);
	return 0;
}

/* Acquire: what the guest stored before this word is seen after it. */
int cleat_nvme_load32(struct cleat_nvme *n, uint64_t addr, uint32_t *ret)
{
	uint32_t *word = cleat_nvme_map_word(n, addr, 4, CLEAT_READ);

	if (!word)
		return n->ops.read(n->opaque, addr, ret, 4);
	*ret = __atomic_load_n(word, __ATOMIC_ACQUIRE);
	return 0;
}

/* Release: the guest that sees this word sees what we stored before it. */
int cleat_nvme_store32(struct cleat_nvme *n, uint64_t addr, uint32_t value)
{
	uint32_t *word = cleat_nvme_map_word(n, addr, 4, CLEAT_WRITE);

	if (!word)
		return n->ops.write(n->opaque, addr, &value, 4);
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
	n->ops.dirty(n->opaque, addr, 4);
	return 0;
}

unsigned cleat_nvme_data_out(struct cleat_nvme *n,
			     const struct nvme_request *req, const void *buf,
			     uint32_t length)
{
	struct nvme_data data;
	unsigned status = cleat_nvme_prps(n, &req->cmd, length, &data);
	const char *from = buf;

	for (unsigned i = 0; !status && i < data.n; i++) {
		if (cleat_nvme_copy_out(n, data.ranges[i].addr, from,
					data.ranges[i].length))
			status = NVME_DATA_TRANSFER;
		from += data.ranges[i].length;
	}
	return status;
}

unsigned cleat_nvme_data_in(struct cleat_nvme *n,
			    const struct nvme_request *req, void *buf,
			    uint32_t length)
{
	struct nvme_data data;
	unsigned status = cleat_nvme_prps(n, &req->cmd, length, &data);
	char *to = buf;

	for (unsigned i = 0; !status && i < data.n; i++) {
		if (cleat_nvme_copy_in(n, data.ranges[i].addr, to,
				       data.ranges[i].length))
			status = NVME_DATA_TRANSFER;
		to += data.ranges[i].length;
	}
	return status;
}
