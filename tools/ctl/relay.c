/* SPDX-License-Identifier: BSD-2-Clause */
/* Between clients and a server: what is waited for, and where events go. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tools/ctl/relay.h"

/* How often what could not be done for want of room is tried again. */
#define RETRY_MS 50
#define MAX_POLLS (3 + 4 * CTL_MAX_SESSIONS)

/* --- Events --------------------------------------------------------------- */

/* The devices go on; what is saved ends here. */
static void save_failed(struct ctl_relay *relay, int err)
{
	if (!relay->save_error)
		cleat_ctl_say(CTL_LOCAL, "%s: %s: nothing more is saved",
			      relay->ctl->save, strerror(-err));
	relay->save_error = err;
}

struct ctl_save cleat_ctl_relay_save(struct ctl_relay *relay, unsigned number)
{
	struct ctl_save save = relay->first_save;
	int err = 0;

	relay->first_save = (struct ctl_save){ 0 };
	if (!(relay->ctl->given & CTL_SAVE) || relay->save_error)
		return save;
	if (!save.file)
		err = cleat_ctl_save_open(relay->ctl->save, number, &save);
	if (err)
		save_failed(relay, err);
	return save;
}

static void save(struct ctl_relay *relay, const struct ctl_event *event)
{
	int err = 0;

	for (unsigned i = 0; i < CTL_MAX_SESSIONS; i++) {
		struct ctl_session *session = &relay->sessions[i];

		if (session->number != event->client || !session->save.file)
			continue;
		if (!relay->save_error)
			err = cleat_ctl_save(&session->save, event);
		if (err)
			save_failed(relay, err);
	}
}

void cleat_ctl_relay_event(struct ctl_relay *relay, struct ctl_event *event)
{
	event->time_ns = cleat_ctl_now_ns() - relay->start_ns;
	save(relay, event);
	cleat_ctl_show(relay->show, event);
}

void cleat_ctl_relay_tell(struct ctl_relay *relay, uint16_t client,
			  enum ctl_event_kind kind, const char *text)
{
	static struct ctl_event event;

	event.kind = kind;
	event.client = client;
	event.data = (const uint8_t *)text;
	event.size = (uint32_t)strlen(text);
	cleat_ctl_relay_event(relay, &event);
}

/* --- Waiting -------------------------------------------------------------- */

static struct ctl_session *free_session(struct ctl_relay *relay)
{
	for (unsigned i = 0; i < CTL_MAX_SESSIONS; i++)
		if (!relay->sessions[i].number)
			return &relay->sessions[i];
	return NULL;
}

static void take_client(struct ctl_relay *relay)
{
	struct ctl_session *session = free_session(relay);
	int fd;

	if (!session)
		return;
	fd = accept4(relay->listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		cleat_ctl_session_begin(relay, session, fd);
	/* Out of descriptors: poll() would tell of this client for ever. */
	relay->pause = fd < 0;
}

static bool takes_clients(struct ctl_relay *relay)
{
	return !relay->pause && free_session(relay);
}

/* Of the sockets as they were when they were waited for. */
static void run_sessions(struct ctl_relay *relay, const struct pollfd *polls,
			 const unsigned *nums)
{
	for (unsigned i = 0; i < CTL_MAX_SESSIONS; i++) {
		if (relay->sessions[i].number)
			cleat_ctl_session_run(relay, &relay->sessions[i],
					      polls, nums[i]);
		polls += nums[i];
	}
}

static bool is_connecting(const struct ctl_relay *relay)
{
	for (unsigned i = 0; i < CTL_MAX_SESSIONS; i++)
		if (relay->sessions[i].number && !relay->sessions[i].connected)
			return true;
	return false;
}

static void run_once(struct ctl_relay *relay)
{
	struct pollfd polls[MAX_POLLS] = {
		{ .fd = relay->signal_fd, .events = POLLIN },
		{ .fd = takes_clients(relay) ? relay->listener : -1,
		  .events = POLLIN },
		{ .fd = relay->output.used ? STDOUT_FILENO : -1,
		  .events = POLLOUT },
	};
	unsigned nums[CTL_MAX_SESSIONS] = { 0 }, num = 3;
	bool tick = is_connecting(relay) || relay->pause;

	relay->pause = false;
	for (unsigned i = 0; i < CTL_MAX_SESSIONS; i++) {
		if (relay->sessions[i].number)
			nums[i] = cleat_ctl_session_polls(&relay->sessions[i],
							  polls + num);
		num += nums[i];
	}
	if (poll(polls, num, tick ? RETRY_MS : -1) < 0)
		return;
	run_sessions(relay, polls + 3, nums);
	if (polls[1].revents)
		take_client(relay);
	if (polls[2].revents)
		cleat_ctl_output_flush(&relay->output);
	if (polls[0].revents || relay->output.error)
		relay->ended = true;
}

/* --- Beginning and ending ------------------------------------------------- */

static void say_begin(const struct ctl_relay *relay)
{
	struct ctl_out out;
	const char *line;
	size_t size;

	if (cleat_out_begin(&out, relay->ctl->json, false))
		return;
	if (relay->ctl->json) {
		cleat_out_millionths(&out, "time", 0);
		cleat_out_string(&out, "event", "listening");
	} else {
		cleat_out_words(&out, "%12s", "0.000000");
		cleat_out_words(&out, "listening");
	}
	cleat_out_string(&out, "socket", relay->listen_path);
	cleat_out_string(&out, "server", relay->server_path);
	line = cleat_out_get(&out, &size);
	cleat_ctl_output_line((void *)&relay->output, line, size);
	cleat_out_end(&out);
}

static int begin(struct ctl_relay *relay)
{
	struct ctl *ctl = relay->ctl;
	int err = 0;

	/* A file that cannot be written is told before anybody waits for it. */
	if (ctl->given & CTL_SAVE)
		err = cleat_ctl_save_open(ctl->save, 1, &relay->first_save);
	if (err)
		return cleat_ctl_say(CTL_LOCAL, "%s: %s", ctl->save,
				     err == -EINVAL ? "not a plain file" :
						      strerror(-err));
	relay->signal_fd = cleat_ctl_signals();
	if (relay->signal_fd < 0 ||
	    cleat_ctl_output_begin(&relay->output, ctl->json))
		return cleat_ctl_say(CTL_LOCAL, "relay: out of memory or "
						"descriptors");
	relay->show = cleat_ctl_show_create(ctl->json, ctl->given & CTL_HEX,
					    cleat_ctl_output_line,
					    &relay->output);
	if (!relay->show)
		return cleat_ctl_say(CTL_LOCAL, "out of memory");
	relay->listener = cleat_ctl_listen(relay->listen_path,
					   &relay->listen_file);
	if (relay->listener < 0)
		return cleat_ctl_say(CTL_CONNECT, "%s: cannot listen: %s",
				     relay->listen_path,
				     strerror(-relay->listener));
	return CTL_OK;
}

static void end(struct ctl_relay *relay)
{
	for (unsigned i = 0; i < CTL_MAX_SESSIONS; i++)
		if (relay->sessions[i].number)
			cleat_ctl_session_end(relay, &relay->sessions[i],
					      "the relay has ended");
	if (relay->listener >= 0)
		cleat_ctl_unlisten(relay->listener, relay->listen_path,
				   &relay->listen_file);
	cleat_ctl_show_destroy(relay->show);
	if (relay->output.buf)
		cleat_ctl_output_end(&relay->output);
	cleat_close(&relay->signal_fd);
	cleat_ctl_save_close(&relay->first_save);
}

/* Descriptors are held for both sides, a message at a time. */
static void allow_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

int cleat_ctl_relay(struct ctl *ctl)
{
	static struct ctl_relay relay;
	int status;

	relay = (struct ctl_relay){
		.ctl = ctl,
		.listen_path = ctl->socket,
		.server_path = ctl->words[0],
		.listener = -1,
		.signal_fd = -1,
		.start_ns = cleat_ctl_now_ns(),
	};
	signal(SIGPIPE, SIG_IGN);
	allow_descriptors();
	status = begin(&relay);
	if (!status) {
		say_begin(&relay);
		while (!relay.ended)
			run_once(&relay);
		/* That the server was not there counts where there was to be
		 * one client. */
		if (ctl->given & CTL_ONCE)
			status = relay.status;
	}
	end(&relay);
	if (relay.output.error)
		return cleat_ctl_say(CTL_LOCAL, "cannot write the output: %s",
				     strerror(relay.output.error));
	return relay.save_error ? CTL_LOCAL : status;
}
