/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One direction of a connection. A message is read to its end, no further:
 * whatever descriptors come meanwhile are then its own. It goes on in one
 * sendmsg, as real servers need it, its descriptors on its first byte, before
 * anything more is read. So this holds one message at a time, and a reader that
 * is slow is felt by the one who sends to it, not by us.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "tools/ctl/relay.h"

#define FIRST_ROOM 4096u
#define PIECE 65536u
/* Of one pipe, before the others have their turn. */
#define TURNS 32

static void next_message(struct ctl_pipe *pipe)
{
	pipe->state = CTL_PIPE_READING;
	pipe->got = pipe->sent = 0;
	switch (pipe->mode) {
	case CTL_PIPE_RAW:
		pipe->want = PIECE;
		return;
	case CTL_PIPE_REST:
		if (pipe->left) {
			pipe->want = pipe->left < PIECE ? pipe->left : PIECE;
			return;
		}
		pipe->mode = CTL_PIPE_MESSAGES;
		break;
	case CTL_PIPE_MESSAGES:
		break;
	}
	pipe->want = sizeof(struct cleat_header);
}

void cleat_ctl_pipe_begin(struct ctl_pipe *pipe, int from, int to)
{
	memset(pipe, 0, sizeof(*pipe));
	pipe->from = from;
	pipe->to = to;
	next_message(pipe);
}

void cleat_ctl_pipe_end(struct ctl_pipe *pipe)
{
	cleat_fds_close(&pipe->fds);
	free(pipe->buf);
	pipe->buf = NULL;
}

/* --- Reading -------------------------------------------------------------- */

/* Room grows with what has come, not with what a header promises. */
static int make_room(struct ctl_pipe *pipe)
{
	size_t room = pipe->room ? pipe->room : FIRST_ROOM;
	uint8_t *buf;

	if (pipe->got < pipe->room)
		return 0;
	if (pipe->room)
		room *= 4;
	if (room > CLEAT_MAX_MESSAGE)
		room = CLEAT_MAX_MESSAGE;
	buf = realloc(pipe->buf, room);
	if (!buf)
		return -ENOMEM;
	pipe->buf = buf;
	pipe->room = room;
	return 0;
}

static void keep_fds(struct ctl_pipe *pipe, struct cleat_fds *fds)
{
	for (unsigned i = 0; i < fds->num; i++)
		if (pipe->fds.num < CLEAT_MAX_FDS)
			pipe->fds.fd[pipe->fds.num++] = cleat_fds_take(fds, i);
	cleat_fds_close(fds);
}

/* Bytes; 0 at the end; -EAGAIN; or another -errno. */
static ssize_t receive(struct ctl_pipe *pipe)
{
	struct cleat_fds fds;
	struct iovec iov;
	ssize_t n;
	int err = make_room(pipe);

	if (err)
		return err;
	iov.iov_base = pipe->buf + pipe->got;
	iov.iov_len = pipe->want - pipe->got;
	if (iov.iov_len > pipe->room - pipe->got)
		iov.iov_len = pipe->room - pipe->got;
	n = cleat_wire_recv(pipe->from, &iov, 1, &fds, MSG_DONTWAIT);
	if (n == -EINTR)
		return -EAGAIN;
	if (n == -ENOTCONN)
		return 0;
	if (n < 0)
		return n;
	keep_fds(pipe, &fds);
	pipe->got += (size_t)n;
	return n;
}

static void tell(struct ctl_relay *relay, struct ctl_link *link,
		 struct ctl_pipe *pipe, enum ctl_event_kind kind)
{
	static struct ctl_event event;

	event.kind = kind;
	event.client = link->session->number;
	event.from_server = pipe == &link->pipes[1];
	event.twin = link->twin;
	event.data = pipe->buf;
	event.size = (uint32_t)pipe->got;
	event.num_fds = pipe->fds.num;
	for (unsigned i = 0; i < pipe->fds.num; i++)
		event.fds[i] = cleat_ctl_fd(pipe->fds.fd[i]);
	cleat_ctl_relay_event(relay, &event);
}

/*
 * A header that cannot be: where the next one is nobody knows. The other side
 * is to see for itself, so everything goes on as it comes.
 */
static void take_header(struct ctl_relay *relay, struct ctl_link *link,
			struct ctl_pipe *pipe)
{
	struct cleat_header header;

	memcpy(&header, pipe->buf, sizeof(header));
	if (header.size < sizeof(header)) {
		pipe->mode = CTL_PIPE_RAW;
		tell(relay, link, pipe, CTL_EVENT_RAW);
		pipe->state = CTL_PIPE_SENDING;
		return;
	}
	pipe->want = header.size;
	if (header.size > CLEAT_MAX_MESSAGE) {
		pipe->want = CLEAT_MAX_MESSAGE;
		pipe->left = header.size - CLEAT_MAX_MESSAGE;
		pipe->mode = CTL_PIPE_REST;
	}
}

static void take_message(struct ctl_relay *relay, struct ctl_link *link,
			 struct ctl_pipe *pipe)
{
	tell(relay, link, pipe, CTL_EVENT_MESSAGE);
	if (pipe == &link->pipes[1] && !link->twin)
		cleat_ctl_session_saw(relay, link->session, pipe);
}

/* What is held is complete, or there will be no more of it. */
static void take_held(struct ctl_relay *relay, struct ctl_link *link,
		      struct ctl_pipe *pipe, bool first)
{
	if (pipe->mode == CTL_PIPE_RAW)
		tell(relay, link, pipe, CTL_EVENT_RAW);
	else if (first && pipe->got >= sizeof(struct cleat_header))
		take_message(relay, link, pipe);
	else if (first)
		tell(relay, link, pipe, CTL_EVENT_RAW);
	else
		tell(relay, link, pipe, CTL_EVENT_MORE);
	if (!first && pipe->mode == CTL_PIPE_REST)
		pipe->left -= pipe->got < pipe->left ? pipe->got : pipe->left;
	pipe->state = CTL_PIPE_SENDING;
}

/* The end is passed on, so that the other side sees what it would have seen. */
static void finish(struct ctl_pipe *pipe)
{
	shutdown(pipe->to, SHUT_WR);
	pipe->state = CTL_PIPE_DONE;
}

static bool has_header(const struct ctl_pipe *pipe)
{
	return pipe->want > sizeof(struct cleat_header) ||
	       pipe->mode != CTL_PIPE_MESSAGES;
}

static int read_some(struct ctl_relay *relay, struct ctl_link *link,
		     struct ctl_pipe *pipe)
{
	/* The pieces after the first of a large message. */
	bool first = pipe->mode == CTL_PIPE_MESSAGES ||
		     (pipe->mode == CTL_PIPE_REST &&
		      pipe->want == CLEAT_MAX_MESSAGE);
	ssize_t n = receive(pipe);

	if (n < 0)
		return (int)n;
	if (n == 0) {
		pipe->ended = true;
		pipe->ended_first = !link->pipes[0].ended_first &&
				    !link->pipes[1].ended_first;
		if (pipe->got)
			take_held(relay, link, pipe, first);
		else
			finish(pipe);
		return 0;
	}
	if (pipe->got == sizeof(struct cleat_header) && !has_header(pipe)) {
		take_header(relay, link, pipe);
		if (pipe->state == CTL_PIPE_SENDING ||
		    pipe->want > pipe->got)
			return 0;
	}
	if (pipe->got == pipe->want || pipe->mode == CTL_PIPE_RAW)
		take_held(relay, link, pipe, first);
	return 0;
}

/* --- Sending -------------------------------------------------------------- */

static int send_some(struct ctl_pipe *pipe)
{
	struct iovec iov = { pipe->buf + pipe->sent, pipe->got - pipe->sent };
	ssize_t n = cleat_wire_send(pipe->to, &iov, 1, pipe->fds.fd,
				    pipe->fds.num, MSG_DONTWAIT);

	/* Nobody is there to read it: nothing more need be read either. */
	if (n == -ENOTCONN) {
		pipe->state = CTL_PIPE_DONE;
		return 0;
	}
	if (n < 0)
		return (int)n;
	cleat_fds_close(&pipe->fds);
	pipe->sent += (size_t)n;
	if (pipe->sent < pipe->got)
		return 0;
	if (pipe->ended)
		finish(pipe);
	else
		next_message(pipe);
	return 0;
}

int cleat_ctl_pipe_run(struct ctl_relay *relay, struct ctl_link *link,
		       struct ctl_pipe *pipe)
{
	for (unsigned i = 0; i < TURNS; i++) {
		int err = 0;

		if (pipe->state == CTL_PIPE_READING)
			err = read_some(relay, link, pipe);
		else if (pipe->state == CTL_PIPE_SENDING)
			err = send_some(pipe);
		else
			return 0;
		if (err == -EAGAIN)
			return 0;
		if (err)
			return err;
	}
	return 0;
}
