/* SPDX-License-Identifier: BSD-2-Clause */
/* The processes at the other end, and the echo among them. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/messages.h"

#define MOST_MESSAGE (1u << 20)

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void unpin(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (int i = 0; i < CPU_SETSIZE; i++)
		CPU_SET(i, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

void cleat_bench_pin_us(enum bench_pinning pinning)
{
	if (pinning == BENCH_FREE)
		unpin();
	else
		pin(0);
}

const char *cleat_bench_pinning_name(enum bench_pinning pinning)
{
	static const char *const names[] = { "cpu 0, both", "cpu 0, cpu 1",
					     "not pinned" };

	return names[pinning];
}

ssize_t cleat_bench_receive(int fd, void *buf, size_t size, unsigned spin_us)
{
	uint64_t until = spin_us ? cleat_bench_now_ns() + spin_us * 1000ull : 0;
	ssize_t n;

	do {
		n = recv(fd, buf, size, spin_us ? MSG_DONTWAIT : 0);
		if (n >= 0 || (errno != EAGAIN && errno != EINTR))
			return n;
	} while (cleat_bench_now_ns() < until);
	return recv(fd, buf, size, 0);
}

bool cleat_bench_take(int fd, void *buf, size_t size, unsigned spin_us)
{
	while (size) {
		ssize_t n = cleat_bench_receive(fd, buf, size, spin_us);

		if (n <= 0)
			return false;
		size -= (size_t)n;
	}
	return true;
}

bool cleat_bench_give(int fd, const void *buf, size_t size)
{
	const char *from = buf;

	while (size) {
		ssize_t n = send(fd, from, size, MSG_NOSIGNAL);

		if (n < 0)
			return false;
		from += n;
		size -= (size_t)n;
	}
	return true;
}

static void serve_echo(const struct bench_peer *peer, int fd)
{
	static char in[MOST_MESSAGE], out[MOST_MESSAGE];

	while (cleat_bench_take(fd, in, peer->send, peer->spin_us) &&
	       cleat_bench_give(fd, out, peer->receive))
		;
}

/* In the child: only its own socket, and its end with ours. */
static void serve(const struct bench_peer *peer, enum bench_pinning pinning,
		  int fd)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(fd, 3);
	close_range(4, ~0u, 0);
	if (pinning == BENCH_FREE)
		unpin();
	else
		pin(pinning == BENCH_TWO_CORES ? 1 : 0);
	switch (peer->kind) {
	case BENCH_PEER_ECHO:
		serve_echo(peer, 3);
		break;
	case BENCH_PEER_CANNED:
		cleat_bench_serve_canned(peer, 3);
		break;
	case BENCH_PEER_SERVER:
		cleat_bench_serve_server(peer, 3);
		break;
	case BENCH_PEER_MANY:
		cleat_bench_serve_many(peer);
		break;
	}
	_exit(0);
}

int cleat_bench_peer_start(struct bench_peer *peer, enum bench_pinning pinning)
{
	int ends[2] = { -1, peer->listener };

	peer->fd = -1;
	if (peer->kind != BENCH_PEER_MANY &&
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return -errno;
	fflush(stdout);
	peer->pid = fork();
	if (!peer->pid)
		serve(peer, pinning, ends[1]);
	close(ends[1]);
	peer->fd = ends[0];
	return peer->pid < 0 ? -errno : 0;
}

void cleat_bench_peer_end(struct bench_peer *peer)
{
	if (peer->pid > 0) {
		kill(peer->pid, SIGKILL);
		waitpid(peer->pid, NULL, 0);
	}
	if (peer->fd >= 0)
		close(peer->fd);
	peer->pid = 0;
	peer->fd = -1;
}

int cleat_bench_peer_open(struct bench_peer *peer, uint32_t flags,
			  uint32_t spin_us, struct cleat_device **ret)
{
	struct cleat_device_config config = {
		.size = sizeof(config),
		.flags = flags,
		.fd = peer->fd,
		.spin_us = spin_us,
	};
	struct cleat_error why;
	int err = cleat_device_open(&config, ret, &why);

	if (err)
		fprintf(stderr, "cleat-bench-messages: %s\n", why.text);
	return err;
}
