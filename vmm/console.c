/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The main thread while the guest runs: what the user types goes to the serial
 * port, servers' own requests are served, and something says when it is over.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/vmm.h"

#define ESCAPE 1 /* Ctrl-A */

enum {
	POLL_WAKE,
	POLL_SIGNAL,
	POLL_INPUT,
	POLL_CONTROL,
	POLL_DEVICES = POLL_CONTROL + CONTROL_FDS,
};

/* One per process: there is one standard input. */
static struct termios saved;

/* What was read and not yet taken by the serial port. */
struct input {
	uint8_t data[256];
	size_t used;
	size_t taken;
	bool escaped;
	bool ended;
};

static void make_raw(struct vm *vm)
{
	struct termios raw;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &saved))
		return;
	raw = saved;
	cfmakeraw(&raw);
	vm->raw = !tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	cleat_vmm_say_raw(vm->raw);
}

int cleat_vmm_console_open(struct vm *vm)
{
	sigset_t ending;

	sigemptyset(&ending);
	sigaddset(&ending, SIGINT);
	sigaddset(&ending, SIGTERM);
	sigaddset(&ending, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &ending, NULL);
	/* Whoever reads our output may leave; the guest need not. */
	signal(SIGPIPE, SIG_IGN);
	/* A snapshot that may not get so large is no reason to end. */
	signal(SIGXFSZ, SIG_IGN);
	vm->signals = signalfd(-1, &ending, SFD_CLOEXEC | SFD_NONBLOCK);
	vm->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vm->signals < 0 || vm->wake < 0)
		return cleat_vmm_fail(-errno, "console: %m");
	make_raw(vm);
	return 0;
}

void cleat_vmm_console_close(struct vm *vm)
{
	if (vm->raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &saved);
	cleat_vmm_say_raw(false);
	if (vm->signals >= 0)
		close(vm->signals);
	if (vm->wake >= 0)
		close(vm->wake);
}

/* Ctrl-A x ends the run, Ctrl-A Ctrl-A is one Ctrl-A for the guest. */
static void take_escapes(struct vm *vm, struct input *input)
{
	size_t from, to = 0;

	for (from = 0; from < input->used; from++) {
		uint8_t byte = input->data[from];

		if (!input->escaped && byte == ESCAPE) {
			input->escaped = true;
			continue;
		}
		if (input->escaped && byte == 'x')
			cleat_vmm_stop(vm, OUTCOME_STOPPED);
		input->escaped = false;
		input->data[to++] = byte;
	}
	input->used = to;
}

static void read_input(struct vm *vm, struct input *input)
{
	ssize_t n = read(STDIN_FILENO, input->data, sizeof(input->data));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		input->ended = true;
		return;
	}
	input->taken = 0;
	input->used = (size_t)n;
	if (vm->raw)
		take_escapes(vm, input);
}

static void pass_input(struct vm *vm, struct input *input)
{
	input->taken += cleat_vmm_serial_input(&vm->serial,
					       input->data + input->taken,
					       input->used - input->taken);
	if (input->taken == input->used)
		input->taken = input->used = 0;
}

static nfds_t watch(struct vm *vm, const struct input *input,
		    struct pollfd *fds)
{
	nfds_t count = POLL_DEVICES;
	unsigned i;

	fds[POLL_WAKE] = (struct pollfd){ .fd = vm->wake, .events = POLLIN };
	fds[POLL_SIGNAL] =
		(struct pollfd){ .fd = vm->signals, .events = POLLIN };
	fds[POLL_INPUT] = (struct pollfd){
		.fd = input->ended || input->used ? -1 : STDIN_FILENO,
		.events = POLLIN,
	};
	cleat_vmm_control_watch(&vm->control, fds + POLL_CONTROL);
	for (i = 0; i < vm->devices.count; i++, count++)
		fds[count] = (struct pollfd){
			.fd = cleat_device_fd(vm->devices.device[i].device),
			.events = POLLIN,
		};
	return count;
}

static void handle(struct vm *vm, struct input *input,
		   const struct pollfd *fds)
{
	uint64_t drained;
	unsigned i;

	if (fds[POLL_WAKE].revents &&
	    read(vm->wake, &drained, sizeof(drained)) < 0)
		return; /* somebody else's wake-up: look again */
	if (fds[POLL_SIGNAL].revents)
		cleat_vmm_stop(vm, OUTCOME_STOPPED);
	if (fds[POLL_INPUT].revents)
		read_input(vm, input);
	if (input->used)
		pass_input(vm, input);
	/* That a connection is lost, devices.c is told from in there. */
	for (i = 0; i < vm->devices.count; i++)
		if (fds[POLL_DEVICES + i].revents)
			cleat_device_dispatch(vm->devices.device[i].device);
	cleat_vmm_control_handle(vm, fds + POLL_CONTROL);
}

void cleat_vmm_console_run(struct vm *vm)
{
	struct pollfd fds[POLL_DEVICES + DEVICES_MAX];
	/* A machine that comes this way needs each byte of it. */
	struct input input = {
		.ended = cleat_vmm_channel_is_input(vm->options.incoming),
	};

	while (!cleat_vmm_stopping(vm)) {
		nfds_t count = watch(vm, &input, fds);

		if (poll(fds, count, -1) > 0)
			handle(vm, &input, fds);
	}
}
