/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests that go out together. A leader that brings others their replies is
 * awake, and they ask again at once, each waking the server anew if they send
 * for themselves. So while it is awake they leave their requests with it, and
 * it sends them all before it sleeps. Conn lock held, but where it is said.
 */
#include <string.h>

#include "client/engine.h"

static size_t message_size(const struct cleat_call *call)
{
	return sizeof(struct cleat_header) + call->head_size + call->data_size;
}

bool cleat_may_gather(const struct cleat_call *call)
{
	return call->flags & CLEAT_CALL_KEPT && !call->num_fds &&
	       message_size(call) <= CLEAT_GATHER_MOST;
}

static void set_first(struct cleat_device *dev, struct cleat_slot *slot)
{
	/* (looked at without the lock) */
	__atomic_store_n(&dev->gathered, slot, __ATOMIC_SEQ_CST);
}

/* (its own thread looks at it without the lock, when it leads) */
static void set_gathered(struct cleat_slot *slot, bool gathered)
{
	__atomic_store_n(&slot->gathered, gathered, __ATOMIC_RELAXED);
}

bool cleat_gather(struct cleat_device *dev, struct cleat_slot *slot)
{
	set_gathered(slot, true);
	slot->next_gathered = NULL;
	if (dev->gathered)
		dev->last_gathered->next_gathered = slot;
	else
		set_first(dev, slot);
	dev->last_gathered = slot;
	return ++dev->num_gathered >= CLEAT_GATHER_NUM;
}

bool cleat_has_gathered(struct cleat_device *dev)
{
	return __atomic_load_n(&dev->gathered, __ATOMIC_SEQ_CST);
}

static void take_first(struct cleat_device *dev)
{
	set_gathered(dev->gathered, false);
	dev->num_gathered--;
	set_first(dev, dev->gathered->next_gathered);
}

void cleat_ungather(struct cleat_device *dev, struct cleat_slot *slot)
{
	struct cleat_slot *before = dev->gathered;

	if (!slot->gathered)
		return;
	if (before == slot) {
		take_first(dev);
		return;
	}
	while (before->next_gathered != slot)
		before = before->next_gathered;
	before->next_gathered = slot->next_gathered;
	if (dev->last_gathered == slot)
		dev->last_gathered = before;
	set_gathered(slot, false);
	dev->num_gathered--;
}

size_t cleat_write_request(const struct cleat_slot *slot, uint8_t *to)
{
	const struct cleat_call *call = slot->call;
	struct cleat_header header = {
		.id = slot->id,
		.command = call->command,
		.size = (uint32_t)message_size(call),
	};

	memcpy(to, &header, sizeof(header));
	to += sizeof(header);
	if (call->head_size)
		memcpy(to, call->head, call->head_size);
	if (call->data_size)
		memcpy(to + call->head_size, call->data, call->data_size);
	return header.size;
}

size_t cleat_gathered_take(struct cleat_device *dev, uint8_t *buf, size_t room)
{
	size_t size = 0;

	while (dev->gathered && room - size >= CLEAT_GATHER_MOST) {
		size += cleat_write_request(dev->gathered, buf + size);
		take_first(dev);
	}
	return size;
}
