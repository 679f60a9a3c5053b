/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What every test may use. A test program is
 *
 *	#include "tests/support/support.h"
 *
 *	CLEAT_TC(read__session_lost)
 *	{
 *		...ATF_REQUIRE(...)...
 *	}
 *
 *	ATF_TP_ADD_TCS(tp)
 *	{
 *		ATF_TP_ADD_TC(tp, read__session_lost);
 *		return atf_no_error();
 *	}
 *
 * and each case runs in a process and a directory of its own. Two rules that
 * the compiler cannot check: assert from the case's own thread only (others
 * return a result), and in a child process only one that atf_utils_fork()
 * made, because a failed requirement in a plain fork() child passes.
 */
#ifndef TESTS_SUPPORT_H
#define TESTS_SUPPORT_H

#include <atf-c.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/*
 * Leaks: leaks.c
 *
 * CLEAT_TC() is ATF_TC() whose body is wrapped: a case that passes with more
 * descriptors open or more threads alive than it began with fails, and says
 * which. Inside the body `tc` is the case, for atf_tc_get_config_var().
 * Those that something of the library's keeps for the whole life of the
 * process are listed in leaks.c, with the reason.
 */
struct leaks {
	unsigned fds;
	unsigned threads;
	unsigned char open[1024];
};

void leaks_begin(struct leaks *leaks);
void leaks_end(const struct leaks *leaks);
/* How many leaked, told on stderr; for testing leaks_end() itself. */
unsigned leaks_found(const struct leaks *leaks);

/* How many descriptors the process has open now. */
unsigned count_fds(void);

/*
 * Valgrind (docs/testing.md): leaks.c. What it cannot run, such as a limit on
 * descriptors that the kernel is to keep, is skipped there with the reason.
 */
bool on_valgrind(void);
/* There, and with a sanitizer: several times as slow as users have it. */
bool is_slowed(void);
void skip_on_valgrind(const char *why);

#define CLEAT_TC(name)                                                         \
	static void name##_case(const atf_tc_t *tc);                           \
	ATF_TC_WITHOUT_HEAD(name);                                             \
	ATF_TC_BODY(name, tc)                                                  \
	{                                                                      \
		struct leaks leaks;                                            \
									       \
		leaks_begin(&leaks);                                           \
		name##_case(tc);                                               \
		leaks_end(&leaks);                                             \
	}                                                                      \
	static void name##_case(const atf_tc_t *tc)

/*
 * Time: time.c
 *
 * A case must not sleep to give something time to happen: wait for the event,
 * with a deadline that is far longer than it can take.
 */
#define PATIENCE_MS 10000

struct deadline {
	uint64_t start_ns;
	uint64_t end_ns;
};

uint64_t now_ns(void);
struct deadline deadline_in(unsigned ms);
/* Whole milliseconds left, 0 when over: what poll() wants. */
int deadline_left(const struct deadline *deadline);
/* Milliseconds since deadline_in(). */
unsigned deadline_spent(const struct deadline *deadline);
/* Waits until poll() says @events; false when @ms went by. */
bool wait_fd(int fd, short events, unsigned ms);
/* Reads an eventfd within @ms; its count, or 0 when none came. */
uint64_t wait_eventfd(int fd, unsigned ms);

/*
 * For what has no event, such as a counter of another process's: runs the
 * expression until it is true, and fails the case after PATIENCE_MS.
 */
#define REQUIRE_SOON(expression)                                               \
	do {                                                                   \
		struct deadline soon_ = deadline_in(PATIENCE_MS);              \
									       \
		while (!(expression)) {                                        \
			ATF_REQUIRE_MSG(deadline_left(&soon_),                 \
					"not in time: %s", #expression);       \
			usleep(200);                                           \
		}                                                              \
	} while (0)

/*
 * The scripted peer: peer.c
 *
 * The other end of a connection, one message at a time and with every field
 * in the test's hand; it checks nothing that it is not asked to, so that it
 * can also lie. All of these wait PATIENCE_MS at most and return 0 or -errno
 * (-EPIPE: the other side closed), so that they work in any thread; a script
 * gives its outcome back through script_end().
 */
#define PEER_BODY_MAX (1u << 20)
#define PEER_FDS_MAX 64

enum {
	PEER_REPLY = 1u << 0,
	PEER_NO_REPLY = 1u << 4,
	PEER_ERROR = 1u << 5,
};

struct peer_header {
	uint16_t id;
	uint16_t command;
	uint32_t size;
	uint32_t flags;
	uint32_t error;
};

struct peer_message {
	struct peer_header header;
	void *body; /* size - 16 bytes, NULL if none */
	size_t length;
	int fds[PEER_FDS_MAX];
	unsigned nr_fds;
};

/* Both ends of a new stream socket, close-on-exec. */
void peer_pair(int ends[2]);
/* @path must be relative: the work directory may be longer than sun_path. */
int peer_listen(const char *path);
int peer_accept(int listener);
/* Waits for a server that is just starting. */
int peer_connect(const char *path);

/* Any bytes at all, as one sendmsg with descriptors on the first byte. */
int peer_send_raw(int fd, const void *data, size_t length, const int *fds,
		  unsigned nr_fds);
/* A message as its struct says, header.size included. */
int peer_send(int fd, const struct peer_message *message);
/* A well-formed command. */
int peer_command(int fd, uint16_t id, uint16_t command, const void *body,
		 size_t length, const int *fds, unsigned nr_fds);
/* A well-formed reply, and one with the error flag and nothing else. */
int peer_reply(int fd, const struct peer_message *request, const void *body,
	       size_t length, const int *fds, unsigned nr_fds);
int peer_reply_error(int fd, const struct peer_message *request, int error);

/* The next whole message; peer_message_end() frees it and closes its fds. */
int peer_receive(int fd, struct peer_message *message);
/* The same, and -EBADMSG if it is not a @command command or reply. */
int peer_expect(int fd, uint16_t command, struct peer_message *message);
void peer_message_end(struct peer_message *message);
/* 0 when the other side closes without sending another byte. */
int peer_expect_close(int fd);

/*
 * A server's side of the handshake. @json is the capabilities text, or NULL
 * for none of them; the request is checked for nothing but its command.
 */
int peer_serve_version(int fd, uint16_t major, uint16_t minor,
		       const char *json);

/*
 * A script runs in a thread of its own and owns no descriptor: what it is
 * given stays the case's to close. script_end() joins it and fails the case
 * if it returned anything but 0.
 */
struct script {
	pthread_t thread;
	int (*run)(void *arg);
	void *arg;
	int result;
};

void script_start(struct script *script, int (*run)(void *arg), void *arg);
void script_end(struct script *script);

/*
 * Processes: child.c
 *
 * A child is killed when the case's process ends, however that ends. Its
 * stdout and stderr go to <name>.out and <name>.err in the work directory.
 */
struct child {
	pid_t pid;
	int pidfd;
};

/* @argv[0] is a path; see program(). */
void child_start(struct child *child, const char *name,
		 const char *const argv[]);
/* The wait status, or -ETIMEDOUT; the child is gone and freed on success. */
int child_wait(struct child *child, unsigned ms);
/* Kills it if it still runs. Fine after child_wait() and on a zeroed one. */
void child_end(struct child *child);
/* Whether it has ended by itself. */
bool child_ended(const struct child *child);

/*
 * The path of something that this build made, such as
 * "backends/cleat-nvme"; in static storage, until the next call. Skips the
 * case when it was not built.
 */
const char *program(const char *name);
/* The path of a file of the source tree, in the same way. */
const char *source_file(const char *name);

/*
 * Machines: machine.c
 *
 * An open /dev/kvm. Where there is none the case is skipped, or fails if the
 * run was told that there is one (-v test_suites.cleat.require_kvm=true).
 */
int kvm_open(const atf_tc_t *tc);
/*
 * The same where a stock Linux guest can be booted too, which takes hardware
 * virtualization or the lab; elsewhere the case is skipped. ./check runs the
 * rooms of the suite "machine" in the lab.
 */
int kvm_open_for_linux(const atf_tc_t *tc);
/* A memfd of @size bytes with the given seals (F_SEAL_*, 0 for none). */
int memfd(size_t size, unsigned seals);
/* Maps it shared; munmap() is the case's business. */
void *map_fd(int fd, size_t size, int protection);

#endif
