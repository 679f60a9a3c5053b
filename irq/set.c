/* SPDX-License-Identifier: BSD-2-Clause */
/* SET_IRQS, the message, and the same for users. */
#include <errno.h>
#include <linux/vfio.h>

#include <cleat/irq.h>

#include "irq/private.h"

_Static_assert(CLEAT_IRQ_DATA_EVENTFD == VFIO_IRQ_SET_DATA_EVENTFD &&
		       CLEAT_IRQ_TRIGGER == VFIO_IRQ_SET_ACTION_TRIGGER,
	       "the flags are the protocol's");

int cleat_irqs_send(struct cleat_device *dev, struct cleat_wire_irq_set set,
		    const uint8_t *bools, const int *fds, unsigned num_fds)
{
	/* None is due, but one that echoes the request does no harm. */
	uint8_t reply[sizeof(set)];
	struct cleat_call call = {
		.command = VFIO_USER_DEVICE_SET_IRQS,
		.deadline_class = CLEAT_CALL_CONTROL,
		.head = &set,
		.head_size = sizeof(set),
		.data = bools,
		.data_size = bools ? set.count : 0,
		.fds = fds,
		.num_fds = num_fds,
		.reply = reply,
		.reply_size = sizeof(reply),
	};

	set.argsz = (uint32_t)(sizeof(set) + call.data_size);
	/*
	 * Where an eventfd leads must be known. Masking, unmasking and firing
	 * can be done again, and a vCPU may be called back from them: they are
	 * no reason to give the device up.
	 */
	if (set.flags & VFIO_IRQ_SET_DATA_EVENTFD || !set.count)
		call.flags = CLEAT_CALL_STATE;
	return cleat_call(dev, &call, NULL);
}

int cleat_irq_info(struct cleat_device *dev, unsigned index,
		   struct cleat_irq_info *info)
{
	if (info->size != sizeof(*info))
		return -EINVAL;
	return cleat_device_irq_info(dev, index, info);
}

static bool is_one_of(uint32_t flags, uint32_t mask)
{
	uint32_t one = flags & mask;

	return one && !(one & (one - 1));
}

static int check(struct cleat_device *dev, const struct cleat_wire_irq_set *set,
		 const uint8_t *bools, const int *fds)
{
	const uint32_t data = VFIO_IRQ_SET_DATA_TYPE_MASK;
	const uint32_t action = VFIO_IRQ_SET_ACTION_TYPE_MASK;
	struct cleat_irq_info info;
	int err = cleat_device_irq_info(dev, set->index, &info);

	if (err)
		return err;
	if (set->flags & ~(data | action) || !is_one_of(set->flags, data) ||
	    !is_one_of(set->flags, action))
		return -EINVAL;
	if (set->start > info.count || set->count > info.count - set->start)
		return -EINVAL;
	/* Of nothing there is only: disable. */
	if (!set->count &&
	    (set->flags != (VFIO_IRQ_SET_DATA_NONE |
			    VFIO_IRQ_SET_ACTION_TRIGGER) || set->start))
		return -EINVAL;
	if (!bools == !!(set->flags & VFIO_IRQ_SET_DATA_BOOL) ||
	    !fds == !!(set->flags & VFIO_IRQ_SET_DATA_EVENTFD))
		return -EINVAL;
	return 0;
}

/* A message has all its vectors' descriptors or none. */
static unsigned count_run(const int *fds, unsigned count, unsigned most)
{
	bool given = fds[0] >= 0;
	unsigned run = 1;

	while (run < count && (fds[run] >= 0) == given &&
	       (!given || run < most))
		run++;
	return run;
}

static int send_runs(struct cleat_device *dev, struct cleat_wire_irq_set set,
		     const int *fds)
{
	struct cleat_device_info info = {.size = sizeof(info)};
	unsigned left = set.count;
	int err = cleat_device_info(dev, &info);

	while (left && !err) {
		bool given = fds[0] >= 0;

		if (given && !info.max_msg_fds)
			return -EOPNOTSUPP;
		set.count = count_run(fds, left, info.max_msg_fds);
		err = cleat_irqs_send(dev, set, NULL, given ? fds : NULL,
				      given ? set.count : 0);
		set.start += set.count;
		fds += set.count;
		left -= set.count;
	}
	return err;
}

int cleat_irq_set(struct cleat_device *dev, unsigned index, uint32_t flags,
		  unsigned start, unsigned count, const uint8_t *bools,
		  const int *fds)
{
	struct cleat_wire_irq_set set = {
		.flags = flags,
		.index = index,
		.start = start,
		.count = count,
	};
	int err = check(dev, &set, bools, fds);

	if (err)
		return err;
	if (fds)
		return send_runs(dev, set, fds);
	return cleat_irqs_send(dev, set, bools, NULL, 0);
}
