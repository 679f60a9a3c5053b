/* SPDX-License-Identifier: BSD-2-Clause */
/* Accesses that travel as a message. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "mmio/private.h"

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void prepare(struct cleat_flight *flight, unsigned region,
		    uint64_t offset, const void *data, unsigned count,
		    bool write)
{
	memset(flight, 0, sizeof(*flight));
	flight->count = count;
	flight->asked.offset = offset;
	flight->asked.region = region;
	flight->asked.count = count;
	flight->call.deadline_class = CLEAT_CALL_ACCESS;
	flight->call.flags = CLEAT_CALL_KEPT;
	flight->call.head = &flight->asked;
	flight->call.head_size = sizeof(flight->asked);
	flight->call.reply = &flight->reply;
	flight->call.reply_min = sizeof(flight->reply);
	flight->call.reply_size = sizeof(flight->reply);
	if (write) {
		memcpy(flight->data, data, count);
		flight->call.command = VFIO_USER_REGION_WRITE;
		flight->call.data = flight->data;
		flight->call.data_size = count;
	} else {
		flight->call.command = VFIO_USER_REGION_READ;
		flight->call.reply_data = flight->data;
		flight->call.reply_data_size = count;
	}
}

/* What came is the answer to what was asked, and as much of it. */
static int check_reply(struct cleat_device *dev,
		       const struct cleat_flight *flight)
{
	const struct cleat_wire_access *asked = &flight->asked;
	const struct cleat_wire_access *reply = &flight->reply;
	size_t data = flight->call.got - sizeof(*reply);

	if (reply->offset != asked->offset || reply->region != asked->region ||
	    reply->count > asked->count) {
		cleat_device_fail(dev, -EPROTO,
				  "the server's reply is to "
				  "another region access");
		return -EPROTO;
	}
	if (reply->count < asked->count)
		return -EIO;
	return flight->call.reply_data && data < asked->count ? -EIO : 0;
}

/* The outcome of its call, which is @err, becomes that of the access. */
static int take_outcome(struct cleat_device *dev, struct cleat_flight *flight,
			int err, void *data)
{
	if (!err)
		err = check_reply(dev, flight);
	if (!err && flight->call.reply_data)
		memcpy(data, flight->data, flight->count);
	return err;
}

/* False if the binding is being taken away. */
static bool enter(struct cleat_binding *binding, struct cleat_flight *flight)
{
	bool may;

	pthread_mutex_lock(&binding->flights_lock);
	may = !binding->recalled;
	if (may) {
		flight->prev = NULL;
		flight->next = binding->flights;
		if (flight->next)
			flight->next->prev = flight;
		binding->flights = flight;
	}
	pthread_mutex_unlock(&binding->flights_lock);
	return may;
}

static void leave(struct cleat_binding *binding, struct cleat_flight *flight)
{
	pthread_mutex_lock(&binding->flights_lock);
	if (flight->prev)
		flight->prev->next = flight->next;
	else
		binding->flights = flight->next;
	if (flight->next)
		flight->next->prev = flight->prev;
	pthread_mutex_unlock(&binding->flights_lock);
}

void cleat_flights_recall(struct cleat_binding *binding)
{
	struct cleat_flight *flight;

	pthread_mutex_lock(&binding->flights_lock);
	binding->recalled = true;
	for (flight = binding->flights; flight; flight = flight->next)
		cleat_call_expire(binding->dev, &flight->call);
	pthread_mutex_unlock(&binding->flights_lock);
}

static void count_wait(struct cleat_binding *binding, uint64_t ns)
{
	uint64_t worst = atomic_load_explicit(&binding->wait_worst_ns,
					      memory_order_relaxed);
	unsigned bucket = 63 - (unsigned)__builtin_clzll(ns | 1);

	if (bucket >= CLEAT_MMIO_BUCKETS)
		bucket = CLEAT_MMIO_BUCKETS - 1;
	atomic_fetch_add_explicit(&binding->wait_ns[bucket], 1,
				  memory_order_relaxed);
	while (worst < ns &&
	       !atomic_compare_exchange_weak_explicit(
		       &binding->wait_worst_ns, &worst, ns,
		       memory_order_relaxed, memory_order_relaxed))
		;
}

int cleat_flight_go(struct cleat_binding *binding, struct cleat_flight *flight,
		    uint64_t offset, void *data, unsigned count, bool write,
		    bool park)
{
	uint64_t start_ns = now_ns();
	int err;

	prepare(flight, binding->region, offset, data, count, write);
	if (park)
		flight->call.flags |= CLEAT_CALL_PARK;
	/* Before it is begun: whoever takes the binding away meanwhile finds it
	 * and ends its wait, which otherwise nothing would. */
	if (!enter(binding, flight))
		return -ESHUTDOWN;
	err = cleat_call(binding->dev, &flight->call, NULL);
	leave(binding, flight);
	err = take_outcome(binding->dev, flight, err, data);
	/* Called back before anything was sent. */
	if (err == -ECANCELED && park)
		err = -EINTR;
	if (err != -EINTR)
		count_wait(binding, now_ns() - start_ns);
	return err;
}

int cleat_flight_resume(struct cleat_device *dev, struct cleat_flight *flight,
			void *data)
{
	int err = cleat_call_finish(dev, &flight->call);

	return take_outcome(dev, flight, err, data);
}
