/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The NVMe controller of cleat-nvme, without the program around it: it knows
 * neither sockets nor the server library, and reaches guest memory and
 * interrupts through struct cleat_nvme_ops. Tests drive it directly.
 *
 * Register and doorbell accesses only note what the guest wants; commands run
 * in cleat_nvme_poll(), because a client may be unable to serve DMA while an
 * access of its own waits for us.
 *
 * One thread. While an op that copies guest memory waits for the client,
 * cleat_nvme_bar_read() and _write() may be called again from inside it;
 * nothing else.
 */
#ifndef CLEAT_NVME_H
#define CLEAT_NVME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <cleat/error.h>

#define NVME_QUEUES_MAX 256
#define NVME_QUEUE_ENTRIES 4096

/*
 * The disk: disk.c. Return values are 0 or -errno; offsets and lengths have
 * been checked against its size.
 */
struct cleat_nvme_disk_config {
	const char *path;
	uint64_t create_size; /* 0: the file must be there */
	uint32_t block_size;
	bool read_only;
	bool incoming; /* another process has it until the state has come */
};

struct cleat_nvme_disk {
	int fd;
	uint64_t size;
	uint32_t block_size;
	bool read_only;
	uint64_t identity[2]; /* device and inode: names are made from it */
	bool locked;
	/*
	 * Linux tells of a lost write once and then forgets it: a later
	 * fdatasync that succeeds says nothing about it. So the first error
	 * is kept.
	 */
	int sync_error;
};

int cleat_nvme_disk_open(struct cleat_nvme_disk *disk,
			 const struct cleat_nvme_disk_config *config,
			 struct cleat_error *reterr);
void cleat_nvme_disk_close(struct cleat_nvme_disk *disk);
/* One process has the disk: -EBUSY while it is another. */
int cleat_nvme_disk_lock(struct cleat_nvme_disk *disk);
void cleat_nvme_disk_unlock(struct cleat_nvme_disk *disk);
/* The vectors are used up. A short file is -ENODATA, never stale bytes. */
int cleat_nvme_disk_read(struct cleat_nvme_disk *disk, struct iovec *iov,
			 unsigned n_iov, uint64_t offset);
int cleat_nvme_disk_write(struct cleat_nvme_disk *disk, struct iovec *iov,
			  unsigned n_iov, uint64_t offset, bool durable);
int cleat_nvme_disk_flush(struct cleat_nvme_disk *disk);
int cleat_nvme_disk_zero(struct cleat_nvme_disk *disk, uint64_t offset,
			 uint64_t length, bool deallocate);
int cleat_nvme_disk_discard(struct cleat_nvme_disk *disk, uint64_t offset,
			    uint64_t length);

/* Where doorbell values come from. */
enum cleat_nvme_doorbells {
	NVME_TRAPPED,	/* messages */
	NVME_MAPPED,	/* the page, which is polled */
	NVME_SHADOW,	/* the page, when an eventfd has been kicked */
	NVME_IOEVENTFD, /* guest memory (DBBUF), when an eventfd has been */
};

/* How a doorbell reached us, for the statistics. */
enum cleat_nvme_way {
	NVME_BY_MAPPED,
	NVME_BY_EVENTFD,
	NVME_BY_MESSAGE,
	NVME_WAYS,
};

#define NVME_LATENCY_BUCKETS 640

struct cleat_nvme_stats {
	uint64_t admin[256];
	uint64_t io[256];
	uint64_t failed;
	uint64_t bytes_read;
	uint64_t bytes_written;
	uint64_t doorbells[NVME_WAYS];
	uint64_t doorbells_bad;
	uint64_t cq_full;
	uint64_t resets;
	uint64_t interrupts[NVME_QUEUES_MAX + 1];
	/* Doorbell seen to interrupt raised; see stats.c for the buckets. */
	uint64_t latency[NVME_LATENCY_BUCKETS];
	uint64_t latency_count;
	uint64_t latency_worst_ns;
};

void cleat_nvme_stats_latency(struct cleat_nvme_stats *stats, uint64_t ns);
/* The latency that @permille of the commands did not exceed, in ns. */
uint64_t cleat_nvme_stats_quantile(const struct cleat_nvme_stats *stats,
				   unsigned permille);
/* The whole as JSON into an open file, which is truncated first. */
int cleat_nvme_stats_write(const struct cleat_nvme_stats *stats,
			   enum cleat_nvme_doorbells doorbells,
			   unsigned vectors, int fd);

/**
 * struct cleat_nvme_ops - what the controller needs of the world
 * @map:   where guest memory is in this process, as cleat_server_dma_map()
 * @dirty: after a store through a mapped pointer, before the guest is told
 * @read:  copy out of guest memory, whichever way there is
 * @write: copy into guest memory
 * @raise: fire a message-signalled vector
 * @pin:   pull INTx up or let it go
 * @warn:  one line for the administrator; bounded in number by the controller
 */
struct cleat_nvme_ops {
	int (*map)(void *opaque, uint64_t addr, uint64_t length,
		   uint32_t rights, struct iovec *iov, unsigned n_iov);
	void (*dirty)(void *opaque, uint64_t addr, uint64_t length);
	int (*read)(void *opaque, uint64_t addr, void *buf, size_t count);
	int (*write)(void *opaque, uint64_t addr, const void *buf,
		     size_t count);
	void (*raise)(void *opaque, unsigned vector);
	void (*pin)(void *opaque, bool level);
	void (*warn)(void *opaque, const char *line);
};

/**
 * struct cleat_nvme_config - one controller
 * @disk:      open, used until cleat_nvme_free()
 * @queues:    I/O queue pairs, 1 to NVME_QUEUES_MAX
 * @doorbells: where their values come from
 * @page:      NVME_MAPPED, NVME_SHADOW: NVME_DOORBELL_BYTES that the client
 *             may write at any time
 * @serial:    at most 20 printable characters; NULL: made from the disk
 * @pci_vendor, @pci_subvendor: as in configuration space
 */
struct cleat_nvme_config {
	struct cleat_nvme_disk *disk;
	unsigned queues;
	enum cleat_nvme_doorbells doorbells;
	uint32_t *page;
	const char *serial;
	uint16_t pci_vendor;
	uint16_t pci_subvendor;
};

enum cleat_nvme_irq_mode {
	NVME_IRQ_PIN,
	NVME_IRQ_MSI,
	NVME_IRQ_MSIX,
};

struct cleat_nvme;

struct cleat_nvme *cleat_nvme_new(const struct cleat_nvme_config *config,
				  const struct cleat_nvme_ops *ops,
				  void *opaque);
void cleat_nvme_free(struct cleat_nvme *n);

/* As after power-on: function-level reset, RESET, the client gone. */
void cleat_nvme_reset(struct cleat_nvme *n);

/* BAR 0. A PCI access does not fail: bad ones read zero or do nothing. */
void cleat_nvme_bar_read(struct cleat_nvme *n, uint64_t offset, void *buf,
			 size_t count);
void cleat_nvme_bar_write(struct cleat_nvme *n, uint64_t offset,
			  const void *buf, size_t count);

/* The guest chose another interrupt type, or bus mastering. */
void cleat_nvme_set_irq_mode(struct cleat_nvme *n,
			     enum cleat_nvme_irq_mode mode);
void cleat_nvme_set_bus_master(struct cleat_nvme *n, bool on);

/* An eventfd was found kicked @count times; cleat_nvme_poll() comes next. */
void cleat_nvme_kicked(struct cleat_nvme *n, uint64_t count);
/*
 * NVME_IOEVENTFD: a doorbell was rung before there was a doorbell buffer, so
 * its value is not known. A guest may do that for the moment that it needs to
 * set the buffer (after a reset, Linux does), and then nothing is lost. The
 * program gives it some time, then gives up, which fails the controller.
 */
bool cleat_nvme_misses_value(const struct cleat_nvme *n);
void cleat_nvme_give_up_value(struct cleat_nvme *n);
/* A completion queue is full: kicks for CQ heads matter just now. */
bool cleat_nvme_wants_heads(const struct cleat_nvme *n);

/**
 * cleat_nvme_poll() - look at the doorbells and run commands, for a bounded
 * time
 *
 * Return: 1 when there was work, and may be more; 0 when there was none and
 * doorbells must be polled; -1 when there is none until the next register
 * write or cleat_nvme_kicked().
 */
int cleat_nvme_poll(struct cleat_nvme *n);

/*
 * The state of the controller, at rest, as records from 0 on: the length of
 * each, and 0 after the last. @buf has room for 8 KiB.
 */
int cleat_nvme_save(struct cleat_nvme *n, unsigned record, void *buf);
/* And in again; the controller is what it was until cleat_nvme_loaded(). */
int cleat_nvme_load_begin(struct cleat_nvme *n);
int cleat_nvme_load(struct cleat_nvme *n, const void *buf, size_t count);
int cleat_nvme_loaded(struct cleat_nvme *n);
void cleat_nvme_load_end(struct cleat_nvme *n);

struct cleat_nvme_stats *cleat_nvme_get_stats(struct cleat_nvme *n);

#endif
