/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The loop: one epoll set for the socket, the stop eventfd and the device's
 * descriptors, and the choice of how long to sleep.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "server/server.h"

#define EVENTS 32
#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)
#define NO_LIMIT UINT64_MAX
#define FIRST_SLEEP (10 * NS_PER_US)
/* A client that connects and says nothing keeps others out this long. */
#define HANDSHAKE (10 * NS_PER_S)
/* With spin_us: looks at the socket between two looks at the rest. */
#define SPINS 32

uint64_t cleat_srv_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static struct cleat_srv_watch *find_watch(struct cleat_server *srv, int fd)
{
	struct cleat_srv_watch *watch = srv->watches;

	while (watch && watch->fd != fd)
		watch = watch->next;
	return watch;
}

static int add_watch(struct cleat_server *srv, struct cleat_srv_watch *watch,
		     uint32_t events)
{
	bool asleep = srv->paused && !watch->internal;
	struct epoll_event event = { .events = asleep ? 0 : events,
				     .data.ptr = watch };

	watch->events = events;
	if (epoll_ctl(srv->epoll, EPOLL_CTL_ADD, watch->fd, &event))
		return -errno;
	watch->next = srv->watches;
	srv->watches = watch;
	return 0;
}

static int new_watch(struct cleat_server *srv, struct cleat_srv_watch init,
		     uint32_t events)
{
	struct cleat_srv_watch *watch;
	int err;

	if (find_watch(srv, init.fd))
		return -EEXIST;
	watch = malloc(sizeof(*watch));
	if (!watch)
		return -ENOMEM;
	*watch = init;
	err = add_watch(srv, watch, events);
	if (err)
		free(watch);
	return err;
}

int cleat_server_watch(struct cleat_server *srv, int fd, uint32_t events,
		       void (*func)(void *opaque, int fd, uint32_t events),
		       void *opaque)
{
	return new_watch(srv,
			 (struct cleat_srv_watch){
				 .fd = fd, .func = func, .opaque = opaque },
			 events);
}

int cleat_srv_watch_internal(struct cleat_server *srv, int fd, uint32_t events,
			     void (*func)(void *opaque, int fd,
					  uint32_t events),
			     void *opaque)
{
	return new_watch(srv,
			 (struct cleat_srv_watch){ .fd = fd,
						   .internal = true,
						   .func = func,
						   .opaque = opaque },
			 events);
}

int cleat_srv_watch_change(struct cleat_server *srv, int fd, uint32_t events)
{
	struct cleat_srv_watch *watch = find_watch(srv, fd);
	struct epoll_event event = { .events = events, .data.ptr = watch };

	if (watch)
		watch->events = events;
	return epoll_ctl(srv->epoll, EPOLL_CTL_MOD, fd, &event) ? -errno : 0;
}

void cleat_srv_pause(struct cleat_server *srv, bool pause)
{
	struct cleat_srv_watch *watch;

	if (srv->paused == pause)
		return;
	srv->paused = pause;
	for (watch = srv->watches; watch; watch = watch->next) {
		struct epoll_event event = {
			.events = pause ? 0 : watch->events,
			.data.ptr = watch,
		};

		if (!watch->internal)
			epoll_ctl(srv->epoll, EPOLL_CTL_MOD, watch->fd, &event);
	}
}

/*
 * The turn of the loop that is under way may hold events for this watch: it
 * is made deaf now and freed when the turn is over.
 */
void cleat_server_unwatch(struct cleat_server *srv, int fd)
{
	struct cleat_srv_watch **link = &srv->watches, *watch;

	while (*link && (*link)->fd != fd)
		link = &(*link)->next;
	watch = *link;
	if (!watch)
		return;
	*link = watch->next;
	epoll_ctl(srv->epoll, EPOLL_CTL_DEL, fd, NULL);
	watch->func = NULL;
	watch->next = srv->graveyard;
	srv->graveyard = watch;
}

static void free_watches(struct cleat_srv_watch **list)
{
	struct cleat_srv_watch *watch = *list, *next;

	for (; watch; watch = next) {
		next = watch->next;
		free(watch);
	}
	*list = NULL;
}

void cleat_srv_watch_end(struct cleat_server *srv)
{
	free_watches(&srv->watches);
	free_watches(&srv->graveyard);
}

static uint64_t until(uint64_t time, uint64_t now)
{
	return time > now ? time - now : 0;
}

/* How long the poll callback allows to sleep, in ns. */
static uint64_t poll_device(struct cleat_server *srv)
{
	uint64_t most = srv->config.poll_sleep_us * NS_PER_US;
	int work = srv->ops.poll(srv->opaque);
	uint64_t now;

	if (work < 0)
		return NO_LIMIT;
	now = cleat_srv_now();
	if (work) {
		srv->stats.polls++;
		srv->busy_until = now + srv->config.poll_busy_us * NS_PER_US;
		srv->sleep_ns = FIRST_SLEEP < most ? FIRST_SLEEP : most;
		return 0;
	}
	if (now < srv->busy_until)
		return 0;
	srv->sleep_ns = srv->sleep_ns * 2 < most ? srv->sleep_ns * 2 : most;
	return srv->sleep_ns;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t choose_sleep(struct cleat_server *srv, int64_t timeout_us)
{
	uint64_t sleep = NO_LIMIT, now;

	if (timeout_us >= 0)
		sleep = (uint64_t)timeout_us * NS_PER_US;
	if (srv->ops.poll && !srv->paused)
		sleep = least(sleep, poll_device(srv));
	if (srv->stopped || srv->conn.broken || cleat_srv_has_deferred(srv))
		return 0;
	if (!sleep || (!srv->spin_until && (srv->conn.fd < 0 ||
					    srv->conn.ready)))
		return sleep;
	now = cleat_srv_now();
	if (srv->spin_until == CLEAT_SRV_SPIN_ANEW)
		srv->spin_until = now + srv->config.spin_us * NS_PER_US;
	if (now < srv->spin_until)
		return 0;
	srv->spin_until = 0;
	if (srv->conn.fd >= 0 && !srv->conn.ready)
		sleep = least(sleep, until(srv->conn.since + HANDSHAKE, now));
	return sleep;
}

/* Kernels before 5.11 do not know the call with nanoseconds. */
static int wait_events(struct cleat_server *srv, struct epoll_event *events,
		       uint64_t sleep)
{
	struct timespec time = {
		.tv_sec = (time_t)(sleep / NS_PER_S),
		.tv_nsec = (long)(sleep % NS_PER_S),
	};
	uint64_t ms = (sleep + NS_PER_MS - 1) / NS_PER_MS;
	int n;

	if (sleep == 0 || sleep == NO_LIMIT)
		n = epoll_wait(srv->epoll, events, EVENTS, sleep ? -1 : 0);
	else
		n = epoll_pwait2(srv->epoll, events, EVENTS, &time, NULL);
	if (n < 0 && errno == ENOSYS)
		n = epoll_wait(srv->epoll, events, EVENTS,
			       ms < INT32_MAX ? (int)ms : INT32_MAX);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	if (sleep)
		srv->stats.wakeups++;
	return n;
}

static void handle_events(struct cleat_server *srv,
			  const struct epoll_event *events, int count)
{
	for (int i = 0; i < count; i++) {
		struct cleat_srv_watch *watch = events[i].data.ptr;

		/* Paused by what was handled before: it comes again. */
		if (!watch->func || (srv->paused && !watch->internal))
			continue;
		if (!watch->internal)
			srv->stats.watches++;
		watch->func(watch->opaque, watch->fd, events[i].events);
	}
	free_watches(&srv->graveyard);
}

/*
 * The client may be about to ask again: look without sleeping, and without
 * asking epoll for the rest after each message.
 */
static void spin(struct cleat_server *srv)
{
	for (unsigned i = 0; i < SPINS && srv->spin_until; i++) {
		int err;

		if (srv->conn.fd < 0 || srv->conn.writing || srv->stopped ||
		    srv->conn.broken || cleat_srv_has_deferred(srv))
			return;
		err = cleat_srv_conn_read(srv);
		if (err && err != -EAGAIN)
			return;
	}
}

static void end_broken(struct cleat_server *srv)
{
	struct cleat_srv_conn *conn = &srv->conn;

	if (conn->fd < 0)
		return;
	if (!conn->ready && cleat_srv_now() > conn->since + HANDSHAKE)
		conn->broken = 1;
	if (conn->refused && !conn->out)
		conn->broken = 1;
	if (!conn->broken)
		return;
	cleat_srv_conn_end(srv);
	if (srv->listener < 0 || srv->once)
		srv->finished = true;
}

static int turn(struct cleat_server *srv, int64_t timeout_us)
{
	struct epoll_event events[EVENTS];
	int n;

	spin(srv);
	n = wait_events(srv, events, choose_sleep(srv, timeout_us));
	if (n < 0)
		return n;
	handle_events(srv, events, n);
	cleat_srv_conn_resume(srv);
	end_broken(srv);
	return 0;
}

int cleat_server_step(struct cleat_server *srv, int64_t timeout_us)
{
	int err;

	if (srv->stepping)
		return -EBUSY;
	if (srv->conn.fd < 0 && srv->listener < 0 && !srv->finished)
		return -ENOTCONN;
	if (srv->stopped || srv->finished)
		return 0;
	srv->stepping = true;
	err = turn(srv, timeout_us);
	srv->stepping = false;
	if (err)
		return err;
	return !srv->stopped && !srv->finished;
}

int cleat_server_run(struct cleat_server *srv)
{
	int more;

	do {
		more = cleat_server_step(srv, -1);
	} while (more > 0);
	srv->stopped = false;
	return more;
}

void cleat_server_stop(struct cleat_server *srv)
{
	int saved = errno;
	uint64_t one = 1;

	/* Can only fail with the counter full, and then it is readable. */
	if (write(srv->stop, &one, sizeof(one)) < 0)
		errno = saved;
	errno = saved;
}
