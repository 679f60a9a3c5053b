/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <linux/vfio.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "irq/private.h"

/* More than PCI has of any type is nothing that a guest could use. */
#define MAX_VECTORS 2048

/*
 * One interrupt type.
 *
 * @at_server: it may be enabled there: something was handed over, and no
 *             disabling has been acknowledged since
 * @fds:       one place for each vector, -1 where none is armed; NULL before
 *             the first is
 * @unmask_fd: -1, or what the server has taken
 * @no_unmask: it has refused one
 */
struct type {
	struct cleat_irq_info info;
	bool at_server;
	int *fds;
	int unmask_fd;
	bool no_unmask;
};

/*
 * @lock guards what other threads may ask for while the one caller in control
 * changes it: descriptors. It is never held over a message.
 */
struct cleat_irqs {
	struct cleat_device *dev;
	pthread_mutex_t lock;
	unsigned piece;
	atomic_int enabled;
	unsigned num_types;
	struct type types[];
};

/* Servers keep one array of eventfds for these, whichever is enabled. */
static bool is_exclusive(unsigned index)
{
	return index <= VFIO_PCI_MSIX_IRQ_INDEX;
}

static struct type *find(struct cleat_irqs *irqs, unsigned index)
{
	return index < irqs->num_types ? &irqs->types[index] : NULL;
}

/* --- Messages ------------------------------------------------------------ */

static int set_irqs(struct cleat_irqs *irqs,
		    const struct cleat_wire_irq_set *set)
{
	return cleat_irqs_send(irqs->dev, *set, NULL, NULL, 0);
}

static int send_disable(struct cleat_irqs *irqs, unsigned index)
{
	struct cleat_wire_irq_set set = {
		.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = index,
	};

	return set_irqs(irqs, &set);
}

static int send_fds(struct cleat_irqs *irqs, unsigned index, uint32_t action,
		    unsigned first, const int *fds, unsigned count)
{
	struct cleat_wire_irq_set set = {
		.flags = VFIO_IRQ_SET_DATA_EVENTFD | action,
		.index = index,
		.start = first,
		.count = count,
	};

	return cleat_irqs_send(irqs->dev, set, NULL, fds, count);
}

/* --- Descriptors --------------------------------------------------------- */

static void close_fds(int *fds, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		cleat_close(&fds[i]);
}

static int make_fds(int *fds, unsigned count)
{
	int err = 0;

	for (unsigned i = 0; i < count; i++) {
		fds[i] = err ? -1 : eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (fds[i] < 0 && !err)
			err = -errno;
	}
	if (err)
		close_fds(fds, count);
	return err;
}

/*
 * What was pending goes with them: an eventfd is never used again, so nothing
 * has to be read out of it.
 */
static void drop_fds(struct cleat_irqs *irqs, struct type *type)
{
	pthread_mutex_lock(&irqs->lock);
	if (type->fds)
		close_fds(type->fds, type->info.count);
	cleat_close(&type->unmask_fd);
	pthread_mutex_unlock(&irqs->lock);
}

static int make_places(struct cleat_irqs *irqs, struct type *type)
{
	int *fds;

	if (type->fds)
		return 0;
	fds = malloc(type->info.count * sizeof(*fds));
	if (!fds)
		return -ENOMEM;
	for (unsigned i = 0; i < type->info.count; i++)
		fds[i] = -1;
	pthread_mutex_lock(&irqs->lock);
	type->fds = fds;
	pthread_mutex_unlock(&irqs->lock);
	return 0;
}

/* --- Enabling and disabling ---------------------------------------------- */

static void set_enabled(struct cleat_irqs *irqs, unsigned index, bool on)
{
	irqs->types[index].at_server = on;
	if (is_exclusive(index))
		atomic_store(&irqs->enabled, on ? (int)index : -1);
}

int cleat_irqs_disable(struct cleat_irqs *irqs, unsigned index)
{
	struct type *type = find(irqs, index);
	int err;

	/* Servers refuse to disable what they do not have, or fall over it. */
	if (!type || !type->at_server)
		return 0;
	err = send_disable(irqs, index);
	drop_fds(irqs, type);
	/* Where it was refused, the next attempt asks again. */
	if (!err || cleat_device_is_lost(irqs->dev))
		set_enabled(irqs, index, false);
	return err;
}

/*
 * The type that is on goes off before another goes on: the other order would
 * take away what was just handed over.
 */
static int make_way(struct cleat_irqs *irqs, unsigned index)
{
	int enabled = atomic_load(&irqs->enabled);

	if (!is_exclusive(index) || enabled < 0 || enabled == (int)index)
		return 0;
	return cleat_irqs_disable(irqs, (unsigned)enabled);
}

/* One message; its eventfds are all valid, as servers want a run to be. */
static int arm_piece(struct cleat_irqs *irqs, unsigned index, unsigned first,
		     unsigned count)
{
	struct type *type = find(irqs, index);
	int fds[CLEAT_MAX_FDS] = {-1};
	int err = make_fds(fds, count);

	if (err)
		return err;
	err = send_fds(irqs, index, VFIO_IRQ_SET_ACTION_TRIGGER, first, fds,
		       count);
	if (err) {
		close_fds(fds, count);
		return err;
	}
	set_enabled(irqs, index, true);
	pthread_mutex_lock(&irqs->lock);
	for (unsigned i = 0; i < count; i++)
		type->fds[first + i] = fds[i];
	pthread_mutex_unlock(&irqs->lock);
	return 0;
}

/* How many from @first on have no eventfd, no more than one message takes. */
static unsigned count_piece(const struct cleat_irqs *irqs,
			    const struct type *type, unsigned first,
			    unsigned end)
{
	unsigned count = 0;

	while (first + count < end && count < irqs->piece &&
	       type->fds[first + count] < 0)
		count++;
	return count;
}

static int arm_range(struct cleat_irqs *irqs, unsigned index, unsigned first,
		     unsigned end)
{
	struct type *type = find(irqs, index);
	int err = 0;

	while (!err && first < end) {
		unsigned count = count_piece(irqs, type, first, end);

		if (count)
			err = arm_piece(irqs, index, first, count);
		first += count ? count : 1;
	}
	return err;
}

int cleat_irqs_arm(struct cleat_irqs *irqs, unsigned index, unsigned first,
		   unsigned count)
{
	struct type *type = find(irqs, index);
	bool was_on;
	int err;

	if (!type || !count || count > type->info.count ||
	    first > type->info.count - count)
		return -EINVAL;
	/* Such a type takes no vectors later: it gets all at once. */
	if (type->info.flags & VFIO_IRQ_INFO_NORESIZE) {
		first = 0;
		count = type->info.count;
	}
	err = make_places(irqs, type);
	if (!err)
		err = make_way(irqs, index);
	if (err)
		return err;
	was_on = type->at_server;
	err = arm_range(irqs, index, first, first + count);
	/* Half a type is none; but what was there before stays. */
	if (err && !was_on)
		cleat_irqs_disable(irqs, index);
	return err;
}

int cleat_irqs_enable(struct cleat_irqs *irqs, unsigned index, unsigned count)
{
	return cleat_irqs_arm(irqs, index, 0, count);
}

/* --- Masking by message -------------------------------------------------- */

static int act(struct cleat_irqs *irqs, unsigned index, uint32_t action,
	       unsigned first, unsigned count)
{
	struct type *type = find(irqs, index);
	struct cleat_wire_irq_set set = {
		.flags = VFIO_IRQ_SET_DATA_NONE | action,
		.index = index,
		.start = first,
		.count = count,
	};

	/* A count of 0 would mean: disable. */
	if (!type || !count || count > type->info.count ||
	    first > type->info.count - count)
		return -EINVAL;
	return set_irqs(irqs, &set);
}

int cleat_irqs_mask(struct cleat_irqs *irqs, unsigned index, unsigned first,
		    unsigned count)
{
	return act(irqs, index, VFIO_IRQ_SET_ACTION_MASK, first, count);
}

int cleat_irqs_unmask(struct cleat_irqs *irqs, unsigned index, unsigned first,
		      unsigned count)
{
	return act(irqs, index, VFIO_IRQ_SET_ACTION_UNMASK, first, count);
}

int cleat_irqs_trigger(struct cleat_irqs *irqs, unsigned index, unsigned first,
		       unsigned count)
{
	return act(irqs, index, VFIO_IRQ_SET_ACTION_TRIGGER, first, count);
}

static int hand_over_unmask(struct cleat_irqs *irqs, unsigned index,
			    struct type *type)
{
	int fd = -1, err = make_fds(&fd, 1);

	if (err)
		return err;
	err = send_fds(irqs, index, VFIO_IRQ_SET_ACTION_UNMASK, 0, &fd, 1);
	if (err) {
		cleat_close(&fd);
		if (cleat_device_is_lost(irqs->dev))
			return err;
		type->no_unmask = true;
		return -EOPNOTSUPP;
	}
	pthread_mutex_lock(&irqs->lock);
	type->unmask_fd = fd;
	pthread_mutex_unlock(&irqs->lock);
	return 0;
}

int cleat_irqs_unmask_fd(struct cleat_irqs *irqs, unsigned index, int *ret_fd)
{
	struct type *type = find(irqs, index);
	int err = 0;

	if (!type || !type->at_server)
		return -EINVAL;
	/*
	 * A server may take the eventfd and never look at it. Only one that
	 * says it masks by itself has a use for it.
	 */
	if (!(type->info.flags & VFIO_IRQ_INFO_AUTOMASKED) || type->no_unmask)
		return -EOPNOTSUPP;
	if (type->unmask_fd < 0)
		err = hand_over_unmask(irqs, index, type);
	if (!err)
		*ret_fd = type->unmask_fd;
	return err;
}

/* --- What is known ------------------------------------------------------- */

int cleat_irqs_enabled(struct cleat_irqs *irqs)
{
	return atomic_load(&irqs->enabled);
}

unsigned cleat_irqs_count(struct cleat_irqs *irqs, unsigned index)
{
	const struct type *type = find(irqs, index);

	return type ? type->info.count : 0;
}

uint32_t cleat_irqs_flags(struct cleat_irqs *irqs, unsigned index)
{
	const struct type *type = find(irqs, index);

	return type ? type->info.flags : 0;
}

/* Lock held. */
static int fd_of(struct cleat_irqs *irqs, unsigned index, unsigned vector)
{
	const struct type *type = find(irqs, index);

	return type && type->fds && vector < type->info.count
		       ? type->fds[vector]
		       : -1;
}

int cleat_irqs_fd(struct cleat_irqs *irqs, unsigned index, unsigned vector)
{
	int fd;

	pthread_mutex_lock(&irqs->lock);
	fd = fd_of(irqs, index, vector);
	pthread_mutex_unlock(&irqs->lock);
	return fd;
}

static bool is_readable(int fd)
{
	struct pollfd pollfd = {.fd = fd, .events = POLLIN};

	return fd >= 0 && poll(&pollfd, 1, 0) == 1 && (pollfd.revents & POLLIN);
}

bool cleat_irqs_pending(struct cleat_irqs *irqs, unsigned index,
			unsigned vector)
{
	bool pending;

	pthread_mutex_lock(&irqs->lock);
	pending = is_readable(fd_of(irqs, index, vector));
	pthread_mutex_unlock(&irqs->lock);
	return pending;
}

/*
 * O_NONBLOCK is a flag of the open file, which the server has too and may have
 * cleared; and it may read the count before we do. So not to wait is asked for
 * with the read itself.
 */
static bool take_count(int fd)
{
	uint64_t count;
	struct iovec iov = {&count, sizeof(count)};

	return fd >= 0 &&
	       preadv2(fd, &iov, 1, -1, RWF_NOWAIT) == (ssize_t)sizeof(count);
}

bool cleat_irqs_take(struct cleat_irqs *irqs, unsigned index, unsigned vector)
{
	bool taken;

	pthread_mutex_lock(&irqs->lock);
	taken = take_count(fd_of(irqs, index, vector));
	pthread_mutex_unlock(&irqs->lock);
	return taken;
}

/* --- Making and freeing -------------------------------------------------- */

static void take_info(struct cleat_irqs *irqs,
		      const struct cleat_device_info *info)
{
	irqs->piece = info->max_msg_fds;
	if (!irqs->piece)
		irqs->piece = 1;
	if (irqs->piece > CLEAT_MAX_FDS)
		irqs->piece = CLEAT_MAX_FDS;
	irqs->num_types = info->num_irqs;
	for (unsigned i = 0; i < irqs->num_types; i++) {
		struct type *type = &irqs->types[i];

		type->unmask_fd = -1;
		if (cleat_device_irq_info(irqs->dev, i, &type->info))
			type->info = (struct cleat_irq_info){0};
		if (type->info.count > MAX_VECTORS)
			type->info.count = MAX_VECTORS;
	}
}

int cleat_irqs_create(struct cleat_device *dev, struct cleat_irqs **ret_irqs)
{
	struct cleat_device_info info = {.size = sizeof(info)};
	struct cleat_irqs *irqs;
	int err = cleat_device_info(dev, &info);

	if (err)
		return err;
	irqs = calloc(1, sizeof(*irqs) + info.num_irqs * sizeof(*irqs->types));
	if (!irqs)
		return -ENOMEM;
	cleat_device_pin(dev);
	irqs->dev = dev;
	pthread_mutex_init(&irqs->lock, NULL);
	atomic_init(&irqs->enabled, -1);
	take_info(irqs, &info);
	*ret_irqs = irqs;
	return 0;
}

void cleat_irqs_destroy(struct cleat_irqs *irqs)
{
	if (!irqs)
		return;
	for (unsigned i = 0; i < irqs->num_types; i++) {
		drop_fds(irqs, &irqs->types[i]);
		free(irqs->types[i].fds);
	}
	pthread_mutex_destroy(&irqs->lock);
	cleat_device_unpin(irqs->dev);
	free(irqs);
}
