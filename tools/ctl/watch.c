/* SPDX-License-Identifier: BSD-2-Clause */
/* Interrupts as they arrive, and the end of the connection. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cleat/irq.h>

#include "tools/ctl/ctl.h"
#include "tools/ctl/out.h"

#define MAX_VECTORS 4096
#define MAX_TYPES 16
#define AT_ONCE 64

/* One armed vector. */
struct vector {
	unsigned index;
	unsigned number;
	int fd;
};

/**
 * struct watch
 * @end_ns: when to end, UINT64_MAX for never
 * @seen:   interrupts so far
 */
struct watch {
	struct ctl *ctl;
	int epoll_fd;
	int signal_fd;
	uint64_t start_ns;
	uint64_t end_ns;
	uint64_t seen;
	unsigned num;
	struct vector *vectors;
};

/* What the epoll tells apart: vectors are numbered from 0. */
#define TAG_SIGNAL UINT64_MAX
#define TAG_DEVICE (UINT64_MAX - 1)

static int add_fd(struct watch *watch, int fd, uint64_t tag)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = tag };

	return epoll_ctl(watch->epoll_fd, EPOLL_CTL_ADD, fd, &event) ? -errno :
									0;
}

/* --- Arming --------------------------------------------------------------- */

static int make_fds(struct watch *watch, unsigned index, unsigned first,
		    unsigned count, int *fds)
{
	for (unsigned i = 0; i < count; i++) {
		struct vector *vector = &watch->vectors[watch->num];
		int err;

		vector->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (vector->fd < 0)
			return -errno;
		vector->index = index;
		vector->number = first + i;
		fds[i] = vector->fd;
		err = add_fd(watch, vector->fd, watch->num++);
		if (err)
			return err;
	}
	return 0;
}

static int arm(struct watch *watch, unsigned index, unsigned first,
	       unsigned count)
{
	int *fds = calloc(count, sizeof(*fds));
	int err, status = CTL_OK;
	char what[32];

	if (!fds)
		return cleat_ctl_say(CTL_LOCAL, "out of memory");
	err = make_fds(watch, index, first, count, fds);
	if (err) {
		status = cleat_ctl_say(CTL_LOCAL, "eventfd: %s",
				       strerror(-err));
	} else {
		err = cleat_irq_set(watch->ctl->dev, index,
				    CLEAT_IRQ_DATA_EVENTFD | CLEAT_IRQ_TRIGGER,
				    first, count, NULL, fds);
		snprintf(what, sizeof(what), "arming %s",
			 cleat_ctl_irq_name(index));
		if (err)
			status = cleat_ctl_failed(watch->ctl, what, err);
	}
	free(fds);
	return status;
}

static unsigned count_vectors(struct ctl *ctl, unsigned index)
{
	struct cleat_irq_info info = { .size = sizeof(info) };

	if (cleat_irq_info(ctl->dev, index, &info))
		return 0;
	return info.count;
}

static int arm_chosen(struct watch *watch, unsigned index)
{
	unsigned count = count_vectors(watch->ctl, index);
	uint32_t first = watch->ctl->first_vector;
	uint32_t last = watch->ctl->last_vector;

	if (!count)
		return cleat_ctl_say(CTL_DEVICE,
				     "the device has no interrupt type %u; see "
				     "cleatctl irqs",
				     index);
	if (!(watch->ctl->given & CTL_VECTORS))
		last = count - 1;
	if (last >= count)
		return cleat_ctl_say(CTL_USAGE,
				     "--vectors: %s has vectors 0 to %u",
				     cleat_ctl_irq_name(index), count - 1);
	if (last - first >= MAX_VECTORS)
		return cleat_ctl_say(CTL_USAGE,
				     "--vectors: no more than %u at once",
				     MAX_VECTORS);
	return arm(watch, index, first, last - first + 1);
}

/* Of INTx, MSI and MSI-X servers have one at a time: the best there is. */
static int choose(struct ctl *ctl)
{
	static const unsigned order[] = { CLEAT_IRQ_MSIX, CLEAT_IRQ_MSI,
					  CLEAT_IRQ_INTX };

	if (ctl->given & CTL_IRQ)
		return (int)ctl->irq;
	for (unsigned i = 0; i < CTL_NUM(order); i++)
		if (count_vectors(ctl, order[i]))
			return (int)order[i];
	return -1;
}

static int arm_all(struct watch *watch, unsigned *ret_index)
{
	struct ctl *ctl = watch->ctl;
	int index = choose(ctl), status;

	if (index < 0)
		return cleat_ctl_say(CTL_DEVICE,
				     "the device has no interrupts");
	*ret_index = (unsigned)index;
	status = arm_chosen(watch, (unsigned)index);
	for (unsigned i = CLEAT_IRQ_ERR; i <= CLEAT_IRQ_REQ && !status; i++) {
		unsigned count = count_vectors(ctl, i);

		if (count && count <= AT_ONCE && !(ctl->given & CTL_IRQ))
			status = arm(watch, i, 0, count);
	}
	return status;
}

/* --- What happens --------------------------------------------------------- */

static int begin_event(struct watch *watch, struct ctl_out *out,
		       const char *event)
{
	uint64_t us = (cleat_ctl_now_ns() - watch->start_ns) / 1000;

	if (cleat_out_begin(out, watch->ctl->json, false))
		return -ENOMEM;
	if (watch->ctl->json) {
		cleat_out_millionths(out, "time", us);
		cleat_out_string(out, "event", event);
	} else {
		cleat_out_words(out, "%5" PRIu64 ".%06" PRIu64 "  %-9s",
				us / 1000000, us % 1000000, event);
	}
	return 0;
}

static void end_event(struct ctl_out *out)
{
	cleat_out_print(out);
	fflush(stdout);
}

static void tell_armed(struct watch *watch)
{
	struct ctl_out out;

	if (begin_event(watch, &out, "armed"))
		return;
	cleat_out_number(&out, "vectors", watch->num);
	end_event(&out);
}

static void take_interrupt(struct watch *watch, const struct vector *vector)
{
	struct ctl_out out;
	uint64_t count;
	struct iovec iov = { &count, sizeof(count) };

	/* The server has the same open file: it may have read it itself, and
	 * have cleared O_NONBLOCK. */
	if (preadv2(vector->fd, &iov, 1, -1, RWF_NOWAIT) != sizeof(count))
		return;
	watch->seen += count;
	if (begin_event(watch, &out, "interrupt"))
		return;
	cleat_out_string(&out, "type", cleat_ctl_irq_name(vector->index));
	cleat_out_number(&out, "vector", vector->number);
	cleat_out_number(&out, "count", count);
	end_event(&out);
}

static int tell_lost(struct watch *watch)
{
	struct cleat_error why;
	struct ctl_out out;

	if (!cleat_device_failure(watch->ctl->dev, &why))
		return -1;
	if (!begin_event(watch, &out, "lost")) {
		cleat_out_string(&out, "why", why.text);
		end_event(&out);
	}
	return CTL_DEVICE;
}

/* An exit status, or -1 to go on. */
static int take_event(struct watch *watch, uint64_t tag)
{
	if (tag == TAG_SIGNAL)
		return CTL_OK;
	if (tag == TAG_DEVICE) {
		cleat_device_dispatch(watch->ctl->dev);
		return tell_lost(watch);
	}
	take_interrupt(watch, &watch->vectors[tag]);
	if (watch->ctl->given & CTL_COUNT && watch->seen >= watch->ctl->count)
		return CTL_OK;
	return ferror(stdout) ? CTL_LOCAL : -1;
}

static int loop(struct watch *watch)
{
	struct epoll_event events[AT_ONCE];
	int status = -1;

	while (status < 0) {
		int num = epoll_wait(watch->epoll_fd, events, AT_ONCE,
				     cleat_ctl_poll_ms(watch->end_ns));

		if (num < 0 && errno != EINTR)
			return cleat_ctl_say(CTL_LOCAL, "epoll: %s",
					     strerror(errno));
		for (int i = 0; i < num && status < 0; i++)
			status = take_event(watch, events[i].data.u64);
		if (status < 0 && cleat_ctl_now_ns() >= watch->end_ns)
			status = CTL_OK;
	}
	return status;
}

/* --- Making things happen ------------------------------------------------- */

static int act(struct watch *watch, unsigned index)
{
	struct ctl *ctl = watch->ctl;
	int err = 0;

	for (unsigned i = 0; i < ctl->num_writes && !err; i++) {
		const struct ctl_store *store = &ctl->writes[i];

		err = cleat_region_write(ctl->dev, store->region, store->offset,
					 &store->value, store->width);
		if (err)
			return cleat_ctl_failed(ctl, "--write", err);
	}
	if (ctl->given & CTL_TRIGGER)
		err = cleat_irq_set(ctl->dev, index,
				    CLEAT_IRQ_DATA_NONE | CLEAT_IRQ_TRIGGER,
				    ctl->trigger, 1, NULL, NULL);
	return err ? cleat_ctl_failed(ctl, "--trigger", err) : CTL_OK;
}

static int run(struct watch *watch)
{
	struct ctl *ctl = watch->ctl;
	unsigned index = 0;
	int status;

	if (add_fd(watch, watch->signal_fd, TAG_SIGNAL) ||
	    add_fd(watch, cleat_device_fd(ctl->dev), TAG_DEVICE))
		return cleat_ctl_say(CTL_LOCAL, "epoll: %s", strerror(errno));
	status = arm_all(watch, &index);
	if (status)
		return status;
	tell_armed(watch);
	status = act(watch, index);
	if (status)
		return status;
	watch->end_ns = ctl->given & CTL_SECONDS ?
				cleat_ctl_now_ns() +
					ctl->seconds * 1000000000ull :
				UINT64_MAX;
	return loop(watch);
}

/* Each vector is a descriptor, and one more while it is handed over. */
static void allow_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

int cleat_ctl_watch(struct ctl *ctl)
{
	struct watch watch = { .ctl = ctl, .start_ns = cleat_ctl_now_ns() };
	int status;

	allow_descriptors();
	watch.vectors = calloc(MAX_VECTORS + 2 * AT_ONCE,
			       sizeof(*watch.vectors));
	watch.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	watch.signal_fd = cleat_ctl_signals();
	if (!watch.vectors || watch.epoll_fd < 0 || watch.signal_fd < 0)
		status = cleat_ctl_say(CTL_LOCAL, "watch: %s",
				       strerror(errno));
	else
		status = run(&watch);
	for (unsigned i = 0; i < watch.num; i++)
		close(watch.vectors[i].fd);
	if (watch.epoll_fd >= 0)
		close(watch.epoll_fd);
	if (watch.signal_fd >= 0)
		close(watch.signal_fd);
	free(watch.vectors);
	return status;
}
