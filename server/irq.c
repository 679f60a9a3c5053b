/* SPDX-License-Identifier: BSD-2-Clause */
/* Interrupts: what the client has set, and firing them. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "server/server.h"

#define DATA_FLAGS                                                             \
	(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_DATA_BOOL |                     \
	 VFIO_IRQ_SET_DATA_EVENTFD)
#define ACTION_FLAGS                                                           \
	(VFIO_IRQ_SET_ACTION_MASK | VFIO_IRQ_SET_ACTION_UNMASK |               \
	 VFIO_IRQ_SET_ACTION_TRIGGER)

static struct cleat_srv_vector *find(const struct cleat_server *srv,
				     uint32_t index, uint32_t vector)
{
	if (index >= CLEAT_SRV_IRQ_TYPES || vector >= srv->irqs[index].count)
		return NULL;
	return &srv->irqs[index].vectors[vector];
}

int cleat_server_add_irqs(struct cleat_server *srv, uint32_t index,
			  uint32_t count, uint32_t flags,
			  struct cleat_error *reterr)
{
	struct cleat_srv_irqs *irqs;
	int err = 0;

	if (index >= CLEAT_SRV_IRQ_TYPES || count > CLEAT_SRV_VECTORS ||
	    (index == CLEAT_IRQ_INTX && count > 1))
		err = -EINVAL;
	else if (srv->irqs[index].added)
		err = -EEXIST;
	else if (srv->conn.fd >= 0)
		err = -EBUSY;
	if (err)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
				  "interrupt type %u: %s", index,
				  strerror(-err));
	irqs = &srv->irqs[index];
	irqs->vectors = calloc(count + 1, sizeof(*irqs->vectors));
	if (!irqs->vectors)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ENOMEM,
				  "interrupt type %u: no memory", index);
	for (uint32_t i = 0; i < count; i++)
		irqs->vectors[i] = (struct cleat_srv_vector){ -1, -1, -1 };
	irqs->added = true;
	irqs->count = count;
	irqs->flags = flags;
	if (!flags && count)
		irqs->flags = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE;
	if (!flags && count && index == CLEAT_IRQ_INTX)
		irqs->flags |= VFIO_IRQ_INFO_AUTOMASKED;
	return 0;
}

/*
 * A counter that is full is a kick that has not been looked at, and
 * writing it would block: the client chose the descriptor and its flags.
 */
static void signal_vector(struct cleat_server *srv, uint32_t index,
			  const struct cleat_srv_vector *vector)
{
	struct pollfd poller = { .fd = vector->trigger, .events = POLLOUT };
	uint64_t one = 1;

	if (poll(&poller, 1, 0) != 1 || !(poller.revents & POLLOUT) ||
	    write(vector->trigger, &one, sizeof(one)) != sizeof(one))
		return;
	srv->stats.irqs[index]++;
}

static void update_level(struct cleat_server *srv)
{
	struct cleat_srv_vector *vector = find(srv, CLEAT_IRQ_INTX, 0);

	if (!vector || !vector->level || vector->masked || vector->inhibited ||
	    vector->trigger < 0)
		return;
	signal_vector(srv, CLEAT_IRQ_INTX, vector);
	if (srv->irqs[CLEAT_IRQ_INTX].flags & VFIO_IRQ_INFO_AUTOMASKED)
		vector->masked = true;
}

static int raise_level(struct cleat_server *srv,
		       struct cleat_srv_vector *vector)
{
	bool armed = vector->trigger >= 0, was = vector->level;

	vector->level = true;
	/* Without automasking it is the edge that is told, once. */
	if (!was || srv->irqs[CLEAT_IRQ_INTX].flags & VFIO_IRQ_INFO_AUTOMASKED)
		update_level(srv);
	if (!armed)
		srv->stats.irqs_lost++;
	return armed ? 0 : -ENOENT;
}

int cleat_server_irq_raise(struct cleat_server *srv, uint32_t index,
			   uint32_t number)
{
	struct cleat_srv_vector *vector = find(srv, index, number);

	if (!vector)
		return -EINVAL;
	if (index == CLEAT_IRQ_INTX)
		return raise_level(srv, vector);
	if (vector->trigger < 0) {
		srv->stats.irqs_lost++;
		return -ENOENT;
	}
	if (vector->masked)
		vector->pending = true;
	else
		signal_vector(srv, index, vector);
	return 0;
}

void cleat_server_irq_lower(struct cleat_server *srv, uint32_t index,
			    uint32_t number)
{
	struct cleat_srv_vector *vector = find(srv, index, number);

	if (vector && index == CLEAT_IRQ_INTX)
		vector->level = false;
}

bool cleat_server_irq_armed(const struct cleat_server *srv, uint32_t index,
			    uint32_t number)
{
	const struct cleat_srv_vector *vector = find(srv, index, number);

	return vector && vector->trigger >= 0;
}

bool cleat_srv_irq_pending(const struct cleat_server *srv, uint32_t index,
			   uint32_t number)
{
	const struct cleat_srv_vector *vector = find(srv, index, number);

	return vector && (vector->pending || vector->level);
}

void cleat_srv_intx_inhibit(struct cleat_server *srv, bool inhibited)
{
	struct cleat_srv_vector *vector = find(srv, CLEAT_IRQ_INTX, 0);

	if (!vector)
		return;
	vector->inhibited = inhibited;
	update_level(srv);
}

static void mask(struct cleat_srv_vector *vector)
{
	vector->masked = true;
}

static void unmask(struct cleat_server *srv, uint32_t index,
		   struct cleat_srv_vector *vector)
{
	vector->masked = false;
	if (index == CLEAT_IRQ_INTX) {
		update_level(srv);
		return;
	}
	if (!vector->pending || vector->trigger < 0)
		return;
	vector->pending = false;
	signal_vector(srv, index, vector);
}

/*
 * Mask and unmask eventfds, as KVM's resampling writes them. They are watched
 * for edges and never read: a read could block, when somebody else has read
 * it first.
 */
struct found {
	struct cleat_srv_vector *vector;
	uint32_t index;
};

static struct found find_by_fd(struct cleat_server *srv, int fd)
{
	for (uint32_t i = 0; i < CLEAT_SRV_IRQ_TYPES; i++) {
		struct cleat_srv_irqs *irqs = &srv->irqs[i];

		for (uint32_t k = 0; k < irqs->count; k++)
			if (irqs->vectors[k].mask_fd == fd ||
			    irqs->vectors[k].unmask_fd == fd)
				return (struct found){ &irqs->vectors[k], i };
	}
	return (struct found){ NULL, 0 };
}

static void on_mask_fd(void *opaque, int fd, uint32_t events)
{
	struct cleat_server *srv = opaque;
	struct found found = find_by_fd(srv, fd);

	if (!found.vector)
		return;
	if (found.vector->mask_fd == fd)
		mask(found.vector);
	else
		unmask(srv, found.index, found.vector);
	if (srv->ops.irqs_changed)
		srv->ops.irqs_changed(srv->opaque, found.index);
}

static void drop_watched(struct cleat_server *srv, int *fd)
{
	if (*fd >= 0)
		cleat_server_unwatch(srv, *fd);
	cleat_close(fd);
}

static void reset_vector(struct cleat_server *srv,
			 struct cleat_srv_vector *vector)
{
	drop_watched(srv, &vector->mask_fd);
	drop_watched(srv, &vector->unmask_fd);
	cleat_close(&vector->trigger);
	vector->masked = vector->pending = false;
}

static void reset_type(struct cleat_server *srv, struct cleat_srv_irqs *irqs)
{
	for (uint32_t i = 0; i < irqs->count; i++)
		reset_vector(srv, &irqs->vectors[i]);
}

void cleat_srv_irqs_forget(struct cleat_server *srv)
{
	for (unsigned i = 0; i < CLEAT_SRV_IRQ_TYPES; i++)
		reset_type(srv, &srv->irqs[i]);
}

void cleat_srv_irqs_end(struct cleat_server *srv)
{
	cleat_srv_irqs_forget(srv);
	for (unsigned i = 0; i < CLEAT_SRV_IRQ_TYPES; i++) {
		free(srv->irqs[i].vectors);
		srv->irqs[i] = (struct cleat_srv_irqs){ 0 };
	}
}

void cleat_srv_irqs_reset(struct cleat_server *srv)
{
	for (unsigned i = 0; i < CLEAT_SRV_IRQ_TYPES; i++)
		for (uint32_t k = 0; k < srv->irqs[i].count; k++) {
			srv->irqs[i].vectors[k].pending = false;
			srv->irqs[i].vectors[k].level = false;
		}
}

/* ---- SET_IRQS ----------------------------------------------------- */

static bool one_bit(uint32_t value)
{
	return value && !(value & (value - 1));
}

static int check_set(const struct cleat_server *srv,
		     const struct cleat_wire_irq_set *set,
		     const struct cleat_srv_msg *msg)
{
	const struct cleat_srv_irqs *irqs;

	if (set->flags & ~(uint32_t)(DATA_FLAGS | ACTION_FLAGS) ||
	    !one_bit(set->flags & DATA_FLAGS) ||
	    !one_bit(set->flags & ACTION_FLAGS) ||
	    set->index >= CLEAT_SRV_IRQ_TYPES)
		return -EINVAL;
	irqs = &srv->irqs[set->index];
	if (!irqs->added && set->index >= VFIO_PCI_NUM_IRQS)
		return -EINVAL;
	if (set->start > irqs->count || set->count > irqs->count - set->start)
		return -EINVAL;
	if (set->flags & VFIO_IRQ_SET_DATA_BOOL &&
	    msg->length - sizeof(*set) < set->count)
		return -EINVAL;
	if (set->flags & VFIO_IRQ_SET_DATA_EVENTFD)
		return msg->fds->num && msg->fds->num != set->count ? -EINVAL :
								      0;
	return msg->fds->num ? -EINVAL : 0;
}

static void act(struct cleat_server *srv, const struct cleat_wire_irq_set *set,
		struct cleat_srv_vector *vector)
{
	if (set->flags & VFIO_IRQ_SET_ACTION_MASK)
		mask(vector);
	else if (set->flags & VFIO_IRQ_SET_ACTION_UNMASK)
		unmask(srv, set->index, vector);
	else if (vector->trigger >= 0 && !vector->masked)
		signal_vector(srv, set->index, vector);
	else
		vector->pending = vector->trigger >= 0;
}

static int watch_fd(struct cleat_server *srv, int *place, int fd)
{
	int err;

	drop_watched(srv, place);
	if (fd < 0)
		return 0;
	err = cleat_srv_watch_internal(srv, fd, EPOLLIN | EPOLLET, on_mask_fd,
				       srv);
	if (err)
		close(fd);
	else
		*place = fd;
	return err;
}

/* Takes @fd over; -1 takes the old one away. */
static int set_fd(struct cleat_server *srv,
		  const struct cleat_wire_irq_set *set,
		  struct cleat_srv_vector *vector, int fd)
{
	if (set->flags & VFIO_IRQ_SET_ACTION_MASK)
		return watch_fd(srv, &vector->mask_fd, fd);
	if (set->flags & VFIO_IRQ_SET_ACTION_UNMASK)
		return watch_fd(srv, &vector->unmask_fd, fd);
	cleat_close(&vector->trigger);
	vector->trigger = fd;
	if (fd < 0)
		vector->masked = vector->pending = false;
	else if (set->index == CLEAT_IRQ_INTX)
		update_level(srv);
	return 0;
}

static int set_fds(struct cleat_server *srv,
		   const struct cleat_wire_irq_set *set,
		   struct cleat_srv_msg *msg)
{
	struct cleat_srv_vector *vectors = srv->irqs[set->index].vectors;

	/* All of them, or none. */
	for (unsigned i = 0; i < msg->fds->num; i++)
		if (!cleat_is_eventfd(msg->fds->fd[i]))
			return -EINVAL;
	for (uint32_t i = 0; i < set->count; i++) {
		int err = set_fd(srv, set, &vectors[set->start + i],
				 cleat_fds_take(msg->fds, i));

		if (err)
			return err;
	}
	return 0;
}

static int apply(struct cleat_server *srv,
		 const struct cleat_wire_irq_set *set,
		 struct cleat_srv_msg *msg)
{
	struct cleat_srv_irqs *irqs = &srv->irqs[set->index];
	const uint8_t *bools = msg->body + sizeof(*set);

	if (set->flags & VFIO_IRQ_SET_DATA_EVENTFD)
		return set_fds(srv, set, msg);
	if (set->flags & VFIO_IRQ_SET_DATA_NONE && !set->count && !set->start) {
		if (set->flags & VFIO_IRQ_SET_ACTION_TRIGGER)
			reset_type(srv, irqs);
		return 0;
	}
	for (uint32_t i = 0; i < set->count; i++)
		if (set->flags & VFIO_IRQ_SET_DATA_NONE || bools[i])
			act(srv, set, &irqs->vectors[set->start + i]);
	return 0;
}

int cleat_srv_set_irqs(struct cleat_server *srv, struct cleat_srv_msg *msg)
{
	struct cleat_wire_irq_set set;
	int err;

	if (msg->length < sizeof(set))
		return -EINVAL;
	memcpy(&set, msg->body, sizeof(set));
	err = check_set(srv, &set, msg);
	if (!err)
		err = apply(srv, &set, msg);
	if (err)
		return err;
	cleat_srv_reply(srv, msg, NULL, 0);
	if (srv->ops.irqs_changed)
		srv->ops.irqs_changed(srv->opaque, set.index);
	return 0;
}
