/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The relay: between clients and a server.
 *
 * relay.c waits; a session is one client and its connection to the server
 * (session.c), with two links once the server has given a twin socket; a link
 * has two pipes (pipe.c), one for each direction, of which each holds no more
 * than one message. What goes through becomes events: they are saved (save.c),
 * and shown (show.c, decode.c) by way of a bounded buffer (output.c), so that
 * nobody waits for whoever reads what we print. replay.c shows what was saved.
 */
#ifndef TOOLS_CTL_RELAY_H
#define TOOLS_CTL_RELAY_H

#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>

#include "tools/ctl/ctl.h"
#include "tools/ctl/out.h"
#include "tools/stream.h"
#include "wire/wire.h"

/* --- Events --------------------------------------------------------------- */

enum ctl_event_kind {
	CTL_EVENT_MESSAGE, /* as far as it is held */
	CTL_EVENT_MORE, /* what follows of the message before */
	CTL_EVENT_RAW, /* bytes that are no messages any more */
	CTL_EVENT_OPEN, /* a client, connected to the server */
	CTL_EVENT_CLOSE, /* @data: why */
	CTL_EVENT_NOTE, /* @data: text */
	CTL_NUM_EVENT_KINDS,
};

/**
 * struct ctl_event - one thing that was seen
 * @time_ns: since the relay began
 * @client:  clients are numbered from 1; 0: of none
 * @fds:     what descriptors came, not the descriptors
 */
struct ctl_event {
	enum ctl_event_kind kind;
	uint64_t time_ns;
	uint16_t client;
	bool from_server;
	bool twin;
	const uint8_t *data;
	uint32_t size;
	unsigned num_fds;
	struct ctl_fd fds[CLEAT_MAX_FDS];
};

/* --- Showing -------------------------------------------------------------- */

typedef void ctl_line_handler(void *opaque, const char *line, size_t size);

struct ctl_show;

/* Replies are matched with requests by what it has been shown before. */
struct ctl_show *cleat_ctl_show_create(bool json, bool hex,
				       ctl_line_handler *line, void *opaque);
void cleat_ctl_show_destroy(struct ctl_show *show);
void cleat_ctl_show(struct ctl_show *show, const struct ctl_event *event);

/* decode.c: the fields of a message's payload. */
void cleat_ctl_decode(struct ctl_out *out, const struct ctl_event *event,
		      const struct cleat_header *header);

/* --- Saving --------------------------------------------------------------- */

/* The file of one client, whose times begin with its first message. */
struct ctl_save {
	FILE *file;
	bool begun;
	uint64_t first_ns;
};

/* @path for the first client, @path.N for the Nth. 0 or -errno. */
int cleat_ctl_save_open(const char *path, unsigned number,
			struct ctl_save *save);
int cleat_ctl_save_close(struct ctl_save *save);
int cleat_ctl_save(struct ctl_save *save, const struct ctl_event *event);

/* --- Output --------------------------------------------------------------- */

/**
 * struct ctl_output - lines on their way to stdout
 * @dropped: lines that found no room since the last that did
 * @error:   errno of a write that failed; 0: none
 */
struct ctl_output {
	char *buf;
	size_t used;
	uint64_t dropped;
	int error;
	bool json;
};

int cleat_ctl_output_begin(struct ctl_output *output, bool json);
void cleat_ctl_output_line(void *opaque, const char *line, size_t size);
/* stdout takes something: write what it takes without waiting. */
void cleat_ctl_output_flush(struct ctl_output *output);
/* Write what is left, if it is taken within a second, and free. */
void cleat_ctl_output_end(struct ctl_output *output);

/* --- Sessions ------------------------------------------------------------- */

#define CTL_MAX_SESSIONS 16

enum ctl_pipe_state {
	CTL_PIPE_READING,
	CTL_PIPE_SENDING,
	CTL_PIPE_DONE, /* its end has been passed on, or there is nobody */
};

enum ctl_pipe_mode {
	CTL_PIPE_MESSAGES,
	CTL_PIPE_REST, /* of a message that is larger than what is held */
	CTL_PIPE_RAW, /* what came is no message: on as it comes */
};

/**
 * struct ctl_pipe - one direction
 * @from, @to: sockets of the link
 * @buf:    what is held: [0, @got), of which [0, @sent) is on its way
 * @want:   how much more will be held before it is passed on
 * @left:   with CTL_PIPE_REST: bytes of the message that are still to come
 * @fds:    that came with it
 * @ended:  there is no more to read
 * @ended_first: and that was so before it was of the other pipe
 */
struct ctl_pipe {
	enum ctl_pipe_state state;
	enum ctl_pipe_mode mode;
	int from;
	int to;
	uint8_t *buf;
	size_t room;
	size_t got;
	size_t want;
	size_t sent;
	uint64_t left;
	struct cleat_fds fds;
	bool ended;
	bool ended_first;
};

struct ctl_session;

/* @pipes: from the client, from the server. */
struct ctl_link {
	struct ctl_session *session;
	int client_fd;
	int server_fd;
	bool open;
	bool twin;
	struct ctl_pipe pipes[2];
};

/**
 * struct ctl_session
 * @number:     0: free
 * @give_up_ns: while it waits for the server to take it: until when
 * @versions:   VERSION replies seen: only the first one brings a twin socket
 * @save:       where it is kept, if anywhere
 */
struct ctl_session {
	uint16_t number;
	bool connected;
	uint64_t give_up_ns;
	unsigned versions;
	struct ctl_save save;
	struct ctl_link links[2]; /* main, twin */
};

struct ctl_relay {
	struct ctl *ctl;
	const char *listen_path;
	const char *server_path;
	int listener;
	struct stat listen_file;
	int signal_fd;
	struct ctl_save first_save;
	int save_error;
	uint64_t start_ns;
	uint16_t clients;
	bool pause; /* take no client until the next tick */
	bool ended;
	int status;
	struct ctl_output output;
	struct ctl_show *show;
	struct ctl_session sessions[CTL_MAX_SESSIONS];
};

/* relay.c: gives the event its time, and passes it on. */
void cleat_ctl_relay_event(struct ctl_relay *relay, struct ctl_event *event);
/* A client is there: where it is saved, if anything is. */
struct ctl_save cleat_ctl_relay_save(struct ctl_relay *relay,
				     unsigned number);
/* One of those whose data is text. */
void cleat_ctl_relay_tell(struct ctl_relay *relay, uint16_t client,
			  enum ctl_event_kind kind, const char *text);

/* socket.c: a socket that listens, or one that is connected, or -errno; the
 * latter is -EAGAIN while the server's backlog is full. */
int cleat_ctl_listen(const char *path, struct stat *ret_file);
/* Closes it, and removes its file if that still is its own. */
void cleat_ctl_unlisten(int fd, const char *path, const struct stat *file);
int cleat_ctl_connect(const char *path);

/* session.c */
void cleat_ctl_session_begin(struct ctl_relay *relay,
			     struct ctl_session *session, int client_fd);
/* What it waits for; up to 4 entries. */
unsigned cleat_ctl_session_polls(const struct ctl_session *session,
				 struct pollfd *polls);
/* Do what can be done now. */
void cleat_ctl_session_run(struct ctl_relay *relay,
			   struct ctl_session *session,
			   const struct pollfd *polls, unsigned num);
/* A message from the server is held, whole: if it brings a twin socket, we step
 * between that as well. */
void cleat_ctl_session_saw(struct ctl_relay *relay,
			   struct ctl_session *session, struct ctl_pipe *pipe);
void cleat_ctl_session_end(struct ctl_relay *relay,
			   struct ctl_session *session, const char *why);

/* pipe.c */
void cleat_ctl_pipe_begin(struct ctl_pipe *pipe, int from, int to);
void cleat_ctl_pipe_end(struct ctl_pipe *pipe);
/* 0, or -errno with which the session ends. */
int cleat_ctl_pipe_run(struct ctl_relay *relay, struct ctl_link *link,
		       struct ctl_pipe *pipe);

#endif
