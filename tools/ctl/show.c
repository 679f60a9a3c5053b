/* SPDX-License-Identifier: BSD-2-Clause */
/* Events as lines, and which reply belongs to which request. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/ctl/relay.h"

/* Requests of one side that are remembered; an older one is forgotten when a
 * newer one's id falls into its place. */
#define PENDING 1024
#define MAX_HEX 4096

struct pending {
	uint64_t time_ns;
	uint16_t id;
	uint16_t command;
	bool used;
};

/* @asked: on the main socket and the twin, by the client and the server. */
struct shown {
	uint16_t client;
	uint64_t stamp;
	struct pending asked[2][2][PENDING];
};

struct ctl_show {
	bool json;
	bool hex;
	ctl_line_handler *line;
	void *opaque;
	uint64_t stamps;
	struct shown *clients[CTL_MAX_SESSIONS];
	struct ctl_out out;
};

struct ctl_show *cleat_ctl_show_create(bool json, bool hex,
				       ctl_line_handler *line, void *opaque)
{
	struct ctl_show *show = calloc(1, sizeof(*show));

	if (!show)
		return NULL;
	show->json = json;
	show->hex = hex;
	show->line = line;
	show->opaque = opaque;
	return show;
}

void cleat_ctl_show_destroy(struct ctl_show *show)
{
	if (!show)
		return;
	for (unsigned i = 0; i < CTL_MAX_SESSIONS; i++)
		free(show->clients[i]);
	free(show);
}

/* --- Matching ------------------------------------------------------------- */

/* A saved stream may have had more clients: the one seen longest ago goes. */
static struct shown *find_client(struct ctl_show *show, uint16_t client)
{
	struct shown **oldest = &show->clients[0];

	for (unsigned i = 0; i < CTL_MAX_SESSIONS; i++) {
		struct shown **at = &show->clients[i];

		if (*at && (*at)->client == client) {
			(*at)->stamp = ++show->stamps;
			return *at;
		}
		if (!*at || (*oldest && (*at)->stamp < (*oldest)->stamp))
			oldest = at;
	}
	free(*oldest);
	*oldest = calloc(1, sizeof(**oldest));
	if (!*oldest)
		return NULL;
	(*oldest)->client = client;
	(*oldest)->stamp = ++show->stamps;
	return *oldest;
}

static void forget_client(struct ctl_show *show, uint16_t client)
{
	for (unsigned i = 0; i < CTL_MAX_SESSIONS; i++) {
		if (!show->clients[i] || show->clients[i]->client != client)
			continue;
		free(show->clients[i]);
		show->clients[i] = NULL;
	}
}

static bool is_reply(const struct cleat_header *header)
{
	return (header->flags & CLEAT_HEADER_TYPE) == CLEAT_HEADER_REPLY ||
	       header->flags & CLEAT_HEADER_ERROR;
}

static void remember(struct ctl_show *show, const struct ctl_event *event,
		     const struct cleat_header *header)
{
	struct shown *shown = find_client(show, event->client);

	if (shown)
		shown->asked[event->twin][event->from_server]
			    [header->id % PENDING] = (struct pending){
			.time_ns = event->time_ns,
			.id = header->id,
			.command = header->command,
			.used = true,
		};
}

/* What a reply is the reply to. */
static bool match(struct ctl_show *show, const struct ctl_event *event,
		  const struct cleat_header *header, uint64_t *ret_ns)
{
	struct shown *shown = find_client(show, event->client);
	struct pending *asked;

	if (!shown)
		return false;
	asked = &shown->asked[event->twin][!event->from_server]
			     [header->id % PENDING];
	if (!asked->used || asked->id != header->id ||
	    asked->command != header->command ||
	    event->time_ns < asked->time_ns)
		return false;
	asked->used = false;
	*ret_ns = event->time_ns - asked->time_ns;
	return true;
}

/* --- Lines ---------------------------------------------------------------- */

static const char *const event_names[CTL_NUM_EVENT_KINDS] = {
	"message", "more", "raw", "open", "close", "note",
};

static int begin_line(struct ctl_show *show, const struct ctl_event *event)
{
	static const char *const arrows[2][2] = { { "-->", "<--" },
						  { "==>", "<==" } };
	struct ctl_out *out = &show->out;
	uint64_t us = event->time_ns / 1000;
	bool moves = event->kind <= CTL_EVENT_RAW;

	if (cleat_out_begin(out, show->json, false))
		return -ENOMEM;
	if (!show->json) {
		cleat_out_words(out, "%5" PRIu64 ".%06" PRIu64 " %3u %s",
				us / 1000000, us % 1000000, event->client,
				moves ? arrows[event->twin]
					      [event->from_server] :
					"   ");
		return 0;
	}
	cleat_out_millionths(out, "time", us);
	cleat_out_string(out, "event", event_names[event->kind]);
	cleat_out_number(out, "client", event->client);
	if (moves) {
		cleat_out_string(out, "socket", event->twin ? "twin" : "main");
		cleat_out_string(out, "from", event->from_server ? "server" :
								   "client");
	}
	return 0;
}

static void end_line(struct ctl_show *show)
{
	size_t size;
	const char *line = cleat_out_get(&show->out, &size);

	show->line(show->opaque, line, size);
	cleat_out_end(&show->out);
}

static void put_fds(struct ctl_out *out, const struct ctl_event *event)
{
	if (!event->num_fds)
		return;
	cleat_out_list(out, "fds");
	for (unsigned i = 0; i < event->num_fds; i++)
		cleat_out_fd(out, NULL, &event->fds[i]);
	cleat_out_list_end(out);
}

static void put_header(struct ctl_out *out, const struct cleat_header *header)
{
	const char *name = cleat_command_name(header->command);
	char text[24];

	if (!name)
		snprintf(text, sizeof(text), "command %u", header->command);
	if (!out->gen) {
		cleat_out_words(out, "#%04x %s%s%s", header->id,
				name ? name : text,
				is_reply(header) ? " reply" : "",
				header->flags & CLEAT_HEADER_NO_REPLY ?
					" posted" :
					"");
	} else {
		cleat_out_number(out, "id", header->id);
		cleat_out_number(out, "number", header->command);
		cleat_out_string(out, "command", name ? name : text);
		cleat_out_string(out, "type", is_reply(header) ? "reply" :
								 "command");
		cleat_out_hex(out, "flags", header->flags);
		cleat_out_number(out, "size", header->size);
	}
	if (header->flags & CLEAT_HEADER_ERROR)
		cleat_out_number(out, "error", header->error);
	if (header->flags & CLEAT_HEADER_ERROR && !out->gen)
		cleat_out_words(out, "(%s)",
				header->error && header->error < 4096 ?
					strerror((int)header->error) :
					"no errno");
}

static void put_match(struct ctl_show *show, const struct ctl_event *event,
		      const struct cleat_header *header)
{
	struct ctl_out *out = &show->out;
	uint64_t ns;

	if (!is_reply(header)) {
		if (!(header->flags & CLEAT_HEADER_NO_REPLY))
			remember(show, event, header);
		return;
	}
	if (!match(show, event, header, &ns)) {
		if (show->json)
			cleat_out_bool(out, "unasked", true);
		else
			cleat_out_words(out, "(nobody asked)");
		return;
	}
	if (show->json)
		cleat_out_millionths(out, "latency", ns / 1000);
	else
		cleat_out_words(out, "(%" PRIu64 " us)", ns / 1000);
}

static void put_hex(struct ctl_show *show, const uint8_t *data, size_t size)
{
	if (size > MAX_HEX)
		size = MAX_HEX;
	for (size_t i = 0; i < size; i += 16) {
		char line[16 + CTL_HEX_LINE] = "                ";
		size_t n = size - i < 16 ? size - i : 16;

		cleat_ctl_hexline(line + 16, i, data + i, n, 1);
		show->line(show->opaque, line, strlen(line));
	}
}

static void show_message(struct ctl_show *show, const struct ctl_event *event)
{
	struct ctl_out *out = &show->out;
	struct cleat_header header;

	memcpy(&header, event->data, sizeof(header));
	put_header(out, &header);
	if (show->json)
		cleat_out_map(out, "payload");
	cleat_ctl_decode(out, event, &header);
	if (show->json)
		cleat_out_map_end(out);
	put_fds(out, event);
	if (header.size != event->size)
		cleat_out_number(out, "held", event->size);
	put_match(show, event, &header);
	if (show->hex && show->json)
		cleat_out_bytes(out, "bytes", event->data, event->size,
				MAX_HEX);
	end_line(show);
	if (show->hex && !show->json)
		put_hex(show, event->data, event->size);
}

static void show_bytes(struct ctl_show *show, const struct ctl_event *event)
{
	if (!show->json)
		cleat_out_words(&show->out, event->kind == CTL_EVENT_RAW ?
						    "not a message:" :
						    "more of it:");
	cleat_out_number(&show->out, "size", event->size);
	cleat_out_bytes(&show->out, "bytes", event->data, event->size,
			show->hex && show->json ? MAX_HEX : 16);
	put_fds(&show->out, event);
	end_line(show);
}

static void show_text(struct ctl_show *show, const struct ctl_event *event)
{
	if (!show->json)
		cleat_out_words(&show->out, "%s", event_names[event->kind]);
	if (event->size)
		cleat_out_chars(&show->out, show->json ? "text" : NULL,
				(const char *)event->data, event->size);
	end_line(show);
	if (event->kind == CTL_EVENT_CLOSE)
		forget_client(show, event->client);
}

void cleat_ctl_show(struct ctl_show *show, const struct ctl_event *event)
{
	if (begin_line(show, event))
		return;
	if (event->kind == CTL_EVENT_MESSAGE &&
	    event->size >= sizeof(struct cleat_header))
		show_message(show, event);
	else if (event->kind <= CTL_EVENT_RAW)
		show_bytes(show, event);
	else
		show_text(show, event);
}
