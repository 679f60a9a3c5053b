/* SPDX-License-Identifier: BSD-2-Clause */
/* One client, its connection to the server, and the twin of that. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "tools/ctl/relay.h"

static void open_link(struct ctl_session *session, struct ctl_link *link,
		      int client_fd, int server_fd)
{
	*link = (struct ctl_link){
		.session = session,
		.client_fd = client_fd,
		.server_fd = server_fd,
		.open = true,
		.twin = link == &session->links[1],
	};
	cleat_ctl_pipe_begin(&link->pipes[0], client_fd, server_fd);
	cleat_ctl_pipe_begin(&link->pipes[1], server_fd, client_fd);
}

static void close_link(struct ctl_link *link)
{
	if (!link->open)
		return;
	cleat_ctl_pipe_end(&link->pipes[0]);
	cleat_ctl_pipe_end(&link->pipes[1]);
	cleat_close(&link->client_fd);
	cleat_close(&link->server_fd);
	link->open = false;
}

void cleat_ctl_session_end(struct ctl_relay *relay,
			   struct ctl_session *session, const char *why)
{
	int err;

	cleat_ctl_relay_tell(relay, session->number, CTL_EVENT_CLOSE, why);
	err = cleat_ctl_save_close(&session->save);
	if (err && !relay->save_error)
		relay->save_error = err;
	close_link(&session->links[0]);
	close_link(&session->links[1]);
	if (!session->connected && session->links[0].client_fd >= 0)
		cleat_close(&session->links[0].client_fd);
	session->number = 0;
	if (relay->ctl->given & CTL_ONCE)
		relay->ended = true;
}

/* --- Connecting ----------------------------------------------------------- */

/* The server's backlog may be full: that is asked again at every tick. */
static void try_server(struct ctl_relay *relay, struct ctl_session *session)
{
	int fd = cleat_ctl_connect(relay->server_path);
	char why[128];

	if (fd >= 0) {
		session->connected = true;
		open_link(session, &session->links[0],
			  session->links[0].client_fd, fd);
		cleat_ctl_relay_tell(relay, session->number, CTL_EVENT_OPEN,
				     "");
		return;
	}
	if (fd == -EAGAIN && cleat_ctl_now_ns() < session->give_up_ns)
		return;
	snprintf(why, sizeof(why), "cannot connect to the server: %s",
		 fd == -EAGAIN ? "it takes no more clients" : strerror(-fd));
	relay->status = CTL_CONNECT;
	cleat_ctl_session_end(relay, session, why);
}

void cleat_ctl_session_begin(struct ctl_relay *relay,
			     struct ctl_session *session, int client_fd)
{
	uint32_t ms = relay->ctl->timeout_ms ? relay->ctl->timeout_ms : 5000;

	memset(session, 0, sizeof(*session));
	/* Numbers go round after 65535 clients; 0 stays free. */
	session->number = ++relay->clients ? relay->clients : ++relay->clients;
	session->give_up_ns = cleat_ctl_now_ns() + ms * 1000000ull;
	session->links[0].client_fd = client_fd;
	session->links[0].server_fd = -1;
	session->save = cleat_ctl_relay_save(relay, session->number);
	try_server(relay, session);
}

/* --- The twin socket ------------------------------------------------------ */

static void note(struct ctl_relay *relay, const struct ctl_session *session,
		 const char *text)
{
	cleat_ctl_relay_tell(relay, session->number, CTL_EVENT_NOTE, text);
}

static bool is_stream(int fd)
{
	socklen_t size = sizeof(int);
	int type = 0;

	return !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) &&
	       type == SOCK_STREAM;
}

/* The client gets one end of a pair of ours, the server's stays with us. */
static void step_between(struct ctl_relay *relay, struct ctl_session *session,
			 int *place)
{
	int ends[2];

	if (!is_stream(*place)) {
		note(relay, session, "the twin socket is no stream socket; it "
				     "is passed on as it is");
		return;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) {
		note(relay, session, "no socket for the twin; what goes over "
				     "it is not seen");
		return;
	}
	open_link(session, &session->links[1], ends[0], *place);
	*place = ends[1];
}

void cleat_ctl_session_saw(struct ctl_relay *relay,
			   struct ctl_session *session, struct ctl_pipe *pipe)
{
	const size_t fixed = sizeof(struct cleat_header) +
			     sizeof(struct cleat_wire_version);
	struct cleat_capabilities caps;
	struct cleat_header header;

	memcpy(&header, pipe->buf, sizeof(header));
	if (header.command != VFIO_USER_VERSION ||
	    !(header.flags & CLEAT_HEADER_REPLY) ||
	    header.flags & CLEAT_HEADER_ERROR || session->versions++)
		return;
	if (pipe->got < fixed || header.size != pipe->got ||
	    cleat_capabilities_parse((const char *)pipe->buf + fixed,
				     pipe->got - fixed, &caps, NULL))
		return;
	if (caps.twin_supported && caps.twin_fd_index >= 0 &&
	    (unsigned)caps.twin_fd_index < pipe->fds.num)
		step_between(relay, session,
			     &pipe->fds.fd[caps.twin_fd_index]);
}

/* --- Waiting and working -------------------------------------------------- */

/*
 * @in reads from the socket, @out writes to it. With nothing to wait for a
 * socket is left out, or its end would be told again and again; but where no
 * more is read from it, its end is what tells that nobody reads there either.
 */
static struct pollfd poll_of(int fd, const struct ctl_pipe *in,
			     const struct ctl_pipe *out)
{
	struct pollfd poll = { .fd = fd };

	if (in->state == CTL_PIPE_READING)
		poll.events |= POLLIN;
	if (out->state == CTL_PIPE_SENDING)
		poll.events |= POLLOUT;
	if (!poll.events && !(in->state == CTL_PIPE_DONE &&
			      out->state != CTL_PIPE_DONE))
		poll.fd = -1;
	return poll;
}

unsigned cleat_ctl_session_polls(const struct ctl_session *session,
				 struct pollfd *polls)
{
	unsigned num = 0;

	for (unsigned i = 0; i < 2; i++) {
		const struct ctl_link *link = &session->links[i];

		if (!link->open)
			continue;
		polls[num++] = poll_of(link->client_fd, &link->pipes[0],
				       &link->pipes[1]);
		polls[num++] = poll_of(link->server_fd, &link->pipes[1],
				       &link->pipes[0]);
	}
	return num;
}

static bool is_gone(const struct pollfd *poll, const struct ctl_pipe *in)
{
	return poll->fd >= 0 && in->state == CTL_PIPE_DONE &&
	       poll->revents & (POLLHUP | POLLERR);
}

static int run_link(struct ctl_relay *relay, struct ctl_link *link,
		    const struct pollfd *polls)
{
	int err = 0;

	for (unsigned i = 0; i < 2 && !err; i++)
		if (polls[0].revents || polls[1].revents)
			err = cleat_ctl_pipe_run(relay, link, &link->pipes[i]);
	if (is_gone(&polls[0], &link->pipes[0]))
		link->pipes[1].state = CTL_PIPE_DONE;
	if (is_gone(&polls[1], &link->pipes[1]))
		link->pipes[0].state = CTL_PIPE_DONE;
	return err;
}

static bool is_over(const struct ctl_link *link)
{
	return link->pipes[0].state == CTL_PIPE_DONE &&
	       link->pipes[1].state == CTL_PIPE_DONE;
}

static const char *who_ended(const struct ctl_link *link)
{
	if (link->pipes[0].ended_first)
		return "the client has gone";
	return "the server has gone";
}

void cleat_ctl_session_run(struct ctl_relay *relay,
			   struct ctl_session *session,
			   const struct pollfd *polls, unsigned num)
{
	unsigned at = 0;

	if (!session->connected) {
		try_server(relay, session);
		return;
	}
	for (unsigned i = 0; i < 2; i++) {
		struct ctl_link *link = &session->links[i];
		int err;

		/* One that was opened by what the first brought has none yet.
		 */
		if (!link->open || at + 2 > num)
			continue;
		err = run_link(relay, link, &polls[at]);
		at += 2;
		if (err) {
			cleat_ctl_session_end(relay, session, strerror(-err));
			return;
		}
		if (!is_over(link))
			continue;
		if (!link->twin) {
			cleat_ctl_session_end(relay, session, who_ended(link));
			return;
		}
		close_link(link);
	}
}
