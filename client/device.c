/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "client/engine.h"

#define DEFAULT_ACCESS_MS 5000
#define DEFAULT_CONTROL_MS 5000
#define DEFAULT_QUIESCE_MS 60000

static uint64_t limit_ns(uint32_t ms, uint32_t otherwise)
{
	return (ms ? ms : otherwise) * 1000000ull;
}

static void init_stream(struct cleat_stream *stream)
{
	stream->fd = -1;
	stream->out_tail = &stream->out;
}

static struct cleat_device *
make_device(const struct cleat_device_config *config)
{
	struct cleat_device *dev = calloc(1, sizeof(*dev));

	if (!dev)
		return NULL;
	atomic_init(&dev->refs, 1);
	atomic_init(&dev->pins, 1);
	dev->fork_count = cleat_fork_count();
	dev->flags = config->flags;
	dev->limit_ns[CLEAT_CALL_ACCESS] =
		limit_ns(config->access_ms, DEFAULT_ACCESS_MS);
	dev->limit_ns[CLEAT_CALL_CONTROL] =
		limit_ns(config->control_ms, DEFAULT_CONTROL_MS);
	dev->limit_ns[CLEAT_CALL_QUIESCE] =
		limit_ns(config->quiesce_ms, DEFAULT_QUIESCE_MS);
	dev->on_lost = config->lost;
	dev->on_lost_opaque = config->opaque;
	cleat_spin_init(&dev->spin, config->spin_us);
	dev->epoll_fd = -1;
	dev->server_pidfd = -1;
	dev->info.size = sizeof(dev->info);
	init_stream(&dev->main);
	init_stream(&dev->twin);
	pthread_mutex_init(&dev->lock, NULL);
	pthread_cond_init(&dev->left, NULL);
	pthread_mutex_init(&dev->serve_lock, NULL);
	cleat_hooks_init(dev);
	return dev;
}

static void free_device(struct cleat_device *dev)
{
	cleat_describe_free(dev);
	for (unsigned i = 0; i < sizeof(dev->chunks) / sizeof(dev->chunks[0]);
	     i++)
		free(dev->chunks[i]);
	pthread_mutex_destroy(&dev->lock);
	pthread_cond_destroy(&dev->left);
	pthread_mutex_destroy(&dev->serve_lock);
	pthread_mutex_destroy(&dev->hook_lock);
	pthread_cond_destroy(&dev->hook_done);
	free(dev);
}

void cleat_device_pin(struct cleat_device *dev)
{
	atomic_fetch_add_explicit(&dev->pins, 1, memory_order_relaxed);
}

void cleat_device_unpin(struct cleat_device *dev)
{
	if (atomic_fetch_sub_explicit(&dev->pins, 1, memory_order_acq_rel) == 1)
		free_device(dev);
}

bool cleat_device_is_lost(struct cleat_device *dev)
{
	return atomic_load_explicit(&dev->lost, memory_order_relaxed);
}

static void wake_everybody(struct cleat_device *dev)
{
	while (dev->sleepers) {
		struct cleat_slot *slot = dev->sleepers;

		cleat_sleepers_remove(dev, slot);
		atomic_store(&slot->word, 1);
		cleat_futex_wake(&slot->word);
	}
}

/*
 * The sockets are shut down, not closed: the leader sits in recvmsg, and its
 * descriptor's number must not become another file's meanwhile. The shutdown
 * also brings the events context, which tells the rooms above.
 */
static void lose(struct cleat_device *dev, const struct cleat_error *why)
{
	pthread_mutex_lock(&dev->lock);
	if (!dev->lost) {
		dev->why = *why;
		atomic_store(&dev->lost, true);
		if (dev->main.fd >= 0)
			shutdown(dev->main.fd, SHUT_RDWR);
		if (dev->twin.fd >= 0)
			shutdown(dev->twin.fd, SHUT_RDWR);
		wake_everybody(dev);
	}
	pthread_mutex_unlock(&dev->lock);
}

void cleat_device_fail(struct cleat_device *dev, int code, const char *format,
		       ...)
{
	struct cleat_error why;
	char text[CLEAT_ERROR_TEXT];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	cleat_fail(&why, CLEAT_ORIGIN_TRANSPORT, code, "%s", text);
	lose(dev, &why);
}

int cleat_device_failure(struct cleat_device *dev, struct cleat_error *why)
{
	int err = 0;

	pthread_mutex_lock(&dev->lock);
	if (dev->lost) {
		err = -ENOTCONN;
		if (why)
			*why = dev->why;
	}
	pthread_mutex_unlock(&dev->lock);
	return err;
}

/* Nothing of the connection's is used by any thread when this is called. */
static void close_connection(struct cleat_device *dev)
{
	cleat_events_close(dev);
	cleat_stream_destroy(&dev->main);
	cleat_stream_destroy(&dev->twin);
	cleat_disconnect(dev);
	cleat_describe_close(dev);
}

static int open_device(struct cleat_device *dev,
		       const struct cleat_device_config *config,
		       struct cleat_error *reterr)
{
	int fd, err;

	err = cleat_quirks_by_word(dev, config->peer, reterr);
	if (err)
		return err;
	dev->open_deadline_ns =
		cleat_deadline_ns(dev->limit_ns[CLEAT_CALL_CONTROL]);
	fd = cleat_connect(config, dev->open_deadline_ns, dev, reterr);
	if (fd < 0)
		return fd;
	err = cleat_stream_init(&dev->main, fd);
	if (err) {
		cleat_close(&fd);
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
				  "out of memory");
	}
	err = cleat_handshake(dev, reterr);
	if (!err)
		err = cleat_describe(dev, reterr);
	if (!err)
		cleat_quirks_by_handshake(dev);
	dev->open_deadline_ns = 0;
	if (err)
		return err;
	err = cleat_events_open(dev);
	return err ? cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
				"cannot watch the connection: %s",
				strerror(-err))
		   : 0;
}

int cleat_device_open(const struct cleat_device_config *config,
		      struct cleat_device **ret_device,
		      struct cleat_error *reterr)
{
	const uint32_t known = CLEAT_DEVICE_OWN_LOOP | CLEAT_DEVICE_NO_TWIN |
			       CLEAT_DEVICE_SECURE;
	struct cleat_error why = { 0 };
	struct cleat_device *dev;
	int err;

	if (config->size != sizeof(*config) || config->flags & ~known)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "struct cleat_device_config of another "
				  "version");
	dev = make_device(config);
	if (!dev)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ENOMEM,
				  "out of memory");
	err = open_device(dev, config, &why);
	if (!err) {
		*ret_device = dev;
		return 0;
	}
	/* A server that closes in the handshake: say reset, not "lost". */
	if (err == -ENOTCONN)
		err = why.code =
			dev->why.code == -EPROTO ? -EPROTO : -ECONNRESET;
	if (reterr)
		*reterr = why;
	close_connection(dev);
	cleat_device_unpin(dev);
	return err;
}

struct cleat_device *cleat_device_ref(struct cleat_device *dev)
{
	atomic_fetch_add_explicit(&dev->refs, 1, memory_order_relaxed);
	return dev;
}

static void shut_down(struct cleat_device *dev)
{
	struct cleat_error why;

	/*
	 * The connection first: what the rooms above have to undo is undone at
	 * the server by its end, and nobody waits for one that is silent.
	 */
	cleat_hooks_close(dev);
	cleat_fail(&why, CLEAT_ORIGIN_LOCAL, -ESHUTDOWN,
		   "the device was closed");
	lose(dev, &why);
	cleat_hooks_shutdown(dev);
	pthread_mutex_lock(&dev->lock);
	while (dev->inside)
		pthread_cond_wait(&dev->left, &dev->lock);
	pthread_mutex_unlock(&dev->lock);
	close_connection(dev);
}

/*
 * In a child of fork() the connection is the parent's: its end would be the
 * parent's too, and the threads that may hold locks or wait inside are not
 * here. Only the child's own descriptors go.
 */
static void let_go(struct cleat_device *dev)
{
	cleat_close(&dev->epoll_fd);
	cleat_close(&dev->main.fd);
	cleat_close(&dev->twin.fd);
	cleat_close(&dev->server_pidfd);
	for (uint32_t i = 0; i < dev->info.num_regions; i++)
		for (unsigned n = 0; n < dev->regions[i].num_fds; n++)
			cleat_close(&dev->regions[i].fds[n]);
}

struct cleat_device *cleat_device_unref(struct cleat_device *dev)
{
	if (!dev)
		return NULL;
	if (dev->fork_count != cleat_fork_count()) {
		let_go(dev);
		return NULL;
	}
	if (atomic_fetch_sub_explicit(&dev->refs, 1, memory_order_acq_rel) > 1)
		return NULL;
	shut_down(dev);
	cleat_device_unpin(dev);
	return NULL;
}

int cleat_device_info(struct cleat_device *dev, struct cleat_device_info *info)
{
	if (info->size != sizeof(*info))
		return -EINVAL;
	*info = dev->info;
	return 0;
}

uint32_t cleat_device_flags(struct cleat_device *dev)
{
	return dev->flags;
}

int cleat_device_irq_info(struct cleat_device *dev, unsigned index,
			  struct cleat_irq_info *ret)
{
	if (index >= dev->info.num_irqs)
		return -ENOENT;
	*ret = dev->irqs[index];
	ret->size = sizeof(*ret);
	return 0;
}

int cleat_device_reset(struct cleat_device *dev)
{
	struct cleat_call call = {
		.command = VFIO_USER_DEVICE_RESET,
		.deadline_class = CLEAT_CALL_QUIESCE,
		.flags = CLEAT_CALL_STATE,
	};

	int err;

	if (!(dev->info.flags & CLEAT_DEVICE_INFO_RESET))
		return -EOPNOTSUPP;
	cleat_device_pin(dev);
	err = cleat_call(dev, &call, NULL);
	cleat_device_unpin(dev);
	return err;
}

int cleat_device_fd(struct cleat_device *dev)
{
	return dev->flags & CLEAT_DEVICE_OWN_LOOP ? dev->epoll_fd : -EINVAL;
}

int cleat_device_dispatch(struct cleat_device *dev)
{
	return cleat_events_run(dev);
}

pid_t cleat_device_pid(struct cleat_device *dev)
{
	return dev->server_pid;
}

static uint64_t count_of(const uint64_t *count)
{
	return __atomic_load_n(count, __ATOMIC_RELAXED);
}

/* Some are counted under the lock, the others by whoever has the socket. */
int cleat_device_stats(struct cleat_device *dev,
		       struct cleat_device_stats *stats)
{
	const struct cleat_device_stats *counts = &dev->stats;

	if (stats->size != sizeof(*stats))
		return -EINVAL;
	pthread_mutex_lock(&dev->lock);
	stats->requests = counts->requests;
	stats->posted = counts->posted;
	stats->replies = counts->replies;
	stats->timeouts = counts->timeouts;
	pthread_mutex_unlock(&dev->lock);
	stats->server_requests = count_of(&counts->server_requests);
	stats->bytes_sent =
		count_of(&dev->main.sent) + count_of(&dev->twin.sent);
	stats->bytes_received =
		count_of(&dev->main.received) + count_of(&dev->twin.received);
	return 0;
}
