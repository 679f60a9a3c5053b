/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/engine.h"

/* A server that keeps talking does not keep the events thread to itself. */
#define ROUNDS 64
#define TWIN_RUNS 16

/*
 * The main socket is in the epoll set without EPOLLIN while threads wait for
 * replies: they read it themselves, and the events thread would only be woken
 * in vain. The end of the connection is reported all the same.
 */
static void set_interest(struct cleat_device *dev, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events };

	epoll_ctl(dev->epoll_fd, EPOLL_CTL_MOD, fd, &event);
}

/*
 * What there is to wait for: replies of ours that found no room, then input. Of
 * messages that were received already the socket tells nothing: then we come
 * back as soon as there is room.
 */
static uint32_t interest_in(struct cleat_device *dev,
			    struct cleat_stream *stream, uint32_t input)
{
	switch (cleat_outbox_state(dev, stream)) {
	case -1:
		return stream->backlog ? input | EPOLLOUT : input;
	case 0:
		return input | EPOLLOUT;
	default:
		return EPOLLOUT;
	}
}

static void set_main_interest(struct cleat_device *dev, uint32_t events)
{
	if (dev->interest == events || dev->epoll_fd < 0)
		return;
	dev->interest = events;
	set_interest(dev, dev->main.fd, events);
}

void cleat_events_arm(struct cleat_device *dev)
{
	uint32_t input;

	/* (of a lost one the descriptors may be closed by now) */
	if (dev->leader || dev->sleepers || dev->lost)
		return;
	input = dev->serves && dev->twin.fd < 0 ? EPOLLIN : 0;
	set_main_interest(dev, interest_in(dev, &dev->main, input));
}

void cleat_events_disarm(struct cleat_device *dev)
{
	set_main_interest(dev, 0);
}

/*
 * What is there, and the rest of a large message. Of what comes meanwhile epoll
 * tells: to look whether there is more would be one call in vain for each
 * message. False: there was nothing.
 */
static bool receive_all(struct cleat_device *dev, struct cleat_stream *stream)
{
	bool any = false;

	for (unsigned i = 0; i < ROUNDS; i++) {
		cleat_send_waiting(dev, stream);
		if (cleat_outbox_state(dev, stream) > 0)
			break;
		if (cleat_stream_receive(dev, stream, NULL, MSG_DONTWAIT))
			break;
		any = true;
		if (stream->body_mode == CLEAT_BODY_NONE)
			break;
	}
	return any;
}

static bool run_twin(struct cleat_device *dev)
{
	uint32_t interest;
	bool any;

	if (dev->twin.fd < 0)
		return false;
	any = receive_all(dev, &dev->twin);
	interest = interest_in(dev, &dev->twin, EPOLLIN);
	if (interest != dev->twin_interest)
		set_interest(dev, dev->twin.fd, interest);
	dev->twin_interest = interest;
	return any;
}

static void run_main(struct cleat_device *dev)
{
	_Atomic uint32_t *next;

	pthread_mutex_lock(&dev->lock);
	if (dev->leader || dev->lost) {
		/* The leader reads; who is last to leave arms again. */
		cleat_events_disarm(dev);
		pthread_mutex_unlock(&dev->lock);
		return;
	}
	dev->leader = true;
	pthread_mutex_unlock(&dev->lock);

	receive_all(dev, &dev->main);

	pthread_mutex_lock(&dev->lock);
	dev->leader = false;
	next = cleat_pass_lead(dev);
	cleat_events_arm(dev);
	pthread_mutex_unlock(&dev->lock);
	cleat_wake_up(next);
}

static void tell_loss(struct cleat_device *dev)
{
	bool first;

	/* Their HUP stays for ever and would be reported for ever. */
	epoll_ctl(dev->epoll_fd, EPOLL_CTL_DEL, dev->main.fd, NULL);
	if (dev->twin.fd >= 0)
		epoll_ctl(dev->epoll_fd, EPOLL_CTL_DEL, dev->twin.fd, NULL);
	pthread_mutex_lock(&dev->lock);
	first = !dev->told;
	dev->told = true;
	pthread_mutex_unlock(&dev->lock);
	cleat_hooks_lost(dev);
	if (first && dev->on_lost && dev->why.code != -ESHUTDOWN)
		dev->on_lost(dev->on_lost_opaque, &dev->why);
}

int cleat_events_run(struct cleat_device *dev)
{
	/*
	 * What the twin had is what we were called for, nearly always; if the
	 * main socket has something too, epoll calls again. Now and then it is
	 * looked at all the same, or a server that keeps the twin busy could
	 * keep its end from being noticed.
	 */
	if (!dev->lost && (!run_twin(dev) || ++dev->twin_runs % TWIN_RUNS == 0))
		run_main(dev);
	if (!dev->lost)
		return 0;
	tell_loss(dev);
	return -ENOTCONN;
}

void cleat_events_poke(struct cleat_device *dev)
{
	struct epoll_event event = { 0 };

	/* The lost connection's HUP, which tell_loss() had taken out. */
	epoll_ctl(dev->epoll_fd, EPOLL_CTL_ADD, dev->main.fd, &event);
}

static void on_watch(void *opaque, uint32_t epoll_events)
{
	cleat_events_run(opaque);
}

int cleat_events_open(struct cleat_device *dev)
{
	struct epoll_event idle = { 0 }, input = { .events = EPOLLIN };

	dev->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (dev->epoll_fd < 0)
		return -errno;
	if (epoll_ctl(dev->epoll_fd, EPOLL_CTL_ADD, dev->main.fd, &idle))
		return -errno;
	if (dev->twin.fd >= 0 &&
	    epoll_ctl(dev->epoll_fd, EPOLL_CTL_ADD, dev->twin.fd, &input))
		return -errno;
	dev->twin_interest = EPOLLIN;
	if (dev->flags & CLEAT_DEVICE_OWN_LOOP)
		return 0;
	return cleat_watch_add(dev->epoll_fd, EPOLLIN, on_watch, dev,
			       &dev->watch);
}

void cleat_events_close(struct cleat_device *dev)
{
	cleat_watch_remove(dev->watch);
	dev->watch = NULL;
	cleat_close(&dev->epoll_fd);
}
