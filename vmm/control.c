/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control socket: a JSON object a line asks, another one answers. It is
 * served by the main thread between two looks around, so that nothing here may
 * wait for a client: one who does not read his answers is hung up on.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/vmm.h"

#define PAUSE_MS 2000

void cleat_vmm_control_init(struct control *control)
{
	unsigned i;

	*control = (struct control){ .listener = -1 };
	for (i = 0; i < CONTROL_CLIENTS; i++)
		control->clients[i].fd = -1;
}

int cleat_vmm_control_open(struct control *control, const char *path)
{
	int fd;

	if (!path)
		return 0;
	fd = cleat_vmm_listen("--control", path);
	if (fd < 0)
		return fd;
	control->listener = fd;
	control->path = path;
	return 0;
}

static void hang_up(struct control_client *client)
{
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
	client->used = 0;
}

void cleat_vmm_control_close(struct control *control)
{
	unsigned i;

	for (i = 0; i < CONTROL_CLIENTS; i++)
		hang_up(&control->clients[i]);
	if (control->listener < 0)
		return;
	close(control->listener);
	unlink(control->path);
	control->listener = -1;
}

static struct control_client *free_place(const struct control *control)
{
	unsigned i;

	for (i = 0; i < CONTROL_CLIENTS; i++)
		if (control->clients[i].fd < 0)
			return (struct control_client *)&control->clients[i];
	return NULL;
}

/* Who finds no place free waits in the queue of the socket. */
void cleat_vmm_control_watch(const struct control *control, struct pollfd *fds)
{
	unsigned i;

	fds[0] = (struct pollfd){
		.fd = free_place(control) ? control->listener : -1,
		.events = POLLIN,
	};
	for (i = 0; i < CONTROL_CLIENTS; i++)
		fds[1 + i] = (struct pollfd){
			.fd = control->clients[i].fd,
			.events = POLLIN,
		};
}

/* ---- Answers ---- */

static void put_string(yajl_gen gen, const char *text)
{
	yajl_gen_string(gen, (const unsigned char *)text, strlen(text));
}

static void send_answer(struct control_client *client, yajl_gen gen)
{
	const unsigned char *text = NULL;
	struct iovec parts[2] = { { 0 }, { (char[]){ '\n' }, 1 } };
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
	size_t length = 0;

	yajl_gen_get_buf(gen, &text, &length);
	parts[0] = (struct iovec){ (void *)text, length };
	if (sendmsg(client->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) !=
	    (ssize_t)length + 1)
		hang_up(client);
}

/* @why is NULL where it was done. */
static void answer(struct vm *vm, struct control_client *client,
		   const char *why, bool status)
{
	yajl_gen gen = yajl_gen_alloc(NULL);

	if (!gen) {
		hang_up(client);
		return;
	}
	/* Paths are the user's, and need not be UTF-8. */
	yajl_gen_config(gen, yajl_gen_validate_utf8, 0);
	yajl_gen_map_open(gen);
	put_string(gen, "ok");
	yajl_gen_bool(gen, !why);
	if (why) {
		put_string(gen, "error");
		put_string(gen, why);
	}
	if (status)
		cleat_vmm_status_put(vm, gen);
	yajl_gen_map_close(gen);
	send_answer(client, gen);
	yajl_gen_free(gen);
}

/* ---- Commands; each returns why not, or NULL ---- */

static const char *do_status(struct vm *vm, const struct command *command)
{
	return NULL;
}

static const char *do_pause(struct vm *vm, const struct command *command)
{
	if (cleat_vmm_pause(vm, PAUSE_USER, PAUSE_MS))
		return "a CPU does not come to a stop: all run on";
	return NULL;
}

static const char *do_resume(struct vm *vm, const struct command *command)
{
	cleat_vmm_resume(vm, PAUSE_USER);
	return cleat_vmm_migration_return(vm);
}

static const char *do_migrate(struct vm *vm, const struct command *command)
{
	bool go_on = !strcmp(command->then, "resume");

	if (cleat_vmm_migrating(vm))
		return "the machine is on its way already";
	if (atomic_load(&vm->migration.phase) == PHASE_DOUBTFUL)
		return "the machine may run elsewhere: make sure that it does not, then resume";
	if (!cleat_vmm_channel_known(command->to))
		return "\"to\" is not unix:PATH, fd:N, exec:COMMAND or file:PATH";
	if (!go_on && command->then[0] && strcmp(command->then, "quit"))
		return "\"then\" is quit or resume";
	/* Else there would be two of it. */
	if (go_on && strncmp(command->to, "file:", 5) &&
	    strncmp(command->to, "exec:", 5))
		return "\"then\": \"resume\" is for file: and exec:";
	if (cleat_vmm_migration_start(vm, command->to, true, go_on))
		return "no memory";
	return NULL;
}

static const char *do_cancel(struct vm *vm, const struct command *command)
{
	if (!cleat_vmm_migrating(vm))
		return "no migration is under way";
	if (!cleat_vmm_migration_cancel(vm))
		return "too late: the other side has been told to go on";
	return NULL;
}

static const char *do_quit(struct vm *vm, const struct command *command)
{
	cleat_vmm_stop(vm, OUTCOME_STOPPED);
	return NULL;
}

static const struct {
	const char *name;
	const char *(*run)(struct vm *vm, const struct command *command);
} commands[] = {
	{ "status", do_status },
	{ "pause", do_pause },
	{ "resume", do_resume },
	{ "migrate", do_migrate },
	{ "cancel", do_cancel },
	{ "quit", do_quit },
};

static void do_line(struct vm *vm, struct control_client *client,
		    const char *line, size_t length)
{
	struct command command;
	const char *why;
	size_t i;

	if (cleat_vmm_command_parse(line, length, &command, &why)) {
		answer(vm, client, why, false);
		return;
	}
	why = "unknown command";
	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(command.command, commands[i].name))
			why = commands[i].run(vm, &command);
	answer(vm, client, why, !strcmp(command.command, "status"));
}

/* Does the whole lines and keeps what is left for later. */
static void do_lines(struct vm *vm, struct control_client *client)
{
	char *line = client->line, *end;
	size_t left = client->used;

	while (client->fd >= 0 && (end = memchr(line, '\n', left))) {
		do_line(vm, client, line, (size_t)(end - line));
		left -= (size_t)(end + 1 - line);
		line = end + 1;
	}
	if (client->fd < 0)
		return;
	memmove(client->line, line, left);
	client->used = left;
	if (left == sizeof(client->line)) {
		answer(vm, client, "the line is too long", false);
		hang_up(client);
	}
}

static void read_client(struct vm *vm, struct control_client *client)
{
	ssize_t n = recv(client->fd, client->line + client->used,
			 sizeof(client->line) - client->used, MSG_DONTWAIT);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		hang_up(client);
		return;
	}
	client->used += (size_t)n;
	do_lines(vm, client);
}

void cleat_vmm_control_handle(struct vm *vm, const struct pollfd *fds)
{
	struct control *control = &vm->control;
	struct control_client *client;
	unsigned i;

	for (i = 0; i < CONTROL_CLIENTS; i++)
		if (fds[1 + i].revents)
			read_client(vm, &control->clients[i]);
	client = free_place(control);
	/* A client that left in the meantime is no client: nothing to do. */
	if (fds[0].revents && client)
		client->fd = accept4(control->listener, NULL, NULL,
				     SOCK_CLOEXEC | SOCK_NONBLOCK);
}
