/* SPDX-License-Identifier: BSD-2-Clause */
/* Orders and questions to a running cleat-vmm, by its control socket. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <yajl/yajl_tree.h>

#include "tools/ctl/ctl.h"
#include "tools/ctl/out.h"
#include "tools/ctl/relay.h"

/* Beyond what cleat-vmm takes for a command or gives with all devices. */
#define LINE_MAX_BYTES (64u << 10)
/* It stops CPUs before it answers; each access may take a while. */
#define ANSWER_MS 15000
#define DEPTH_MAX 8

static const char *const commands[] = {
	"status", "pause", "resume", "migrate", "cancel", "quit",
};

int cleat_ctl_check_vmm(struct ctl *ctl)
{
	const char *command = ctl->words[0];
	bool migrate = !strcmp(command, "migrate");
	size_t i;

	for (i = 0; i < CTL_NUM(commands); i++)
		if (!strcmp(command, commands[i]))
			break;
	if (i == CTL_NUM(commands))
		return cleat_ctl_say(CTL_USAGE,
				     "no vmm command \"%s\"; see cleatctl vmm --help",
				     command);
	if (migrate == (ctl->num_words > 1))
		return CTL_OK;
	return cleat_ctl_say(CTL_USAGE, "%s %s; see cleatctl vmm --help",
			     command,
			     migrate ? "needs to know where to" :
				       "takes nothing more");
}

/* ---- One line each way ---- */

static void put_member(yajl_gen gen, const char *key, const char *text)
{
	yajl_gen_string(gen, (const uint8_t *)key, strlen(key));
	yajl_gen_string(gen, (const uint8_t *)text, strlen(text));
}

static int send_all(int fd, const uint8_t *text, size_t length)
{
	while (length) {
		struct pollfd pollfd = { .fd = fd, .events = POLLOUT };
		ssize_t n = send(fd, text, length, MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n < 0 && poll(&pollfd, 1, ANSWER_MS) == 0)
			return -ETIMEDOUT;
		if (n > 0) {
			text += n;
			length -= (size_t)n;
		}
	}
	return 0;
}

static int send_command(const struct ctl *ctl, int fd)
{
	static const char *const keys[] = { "command", "to", "then" };
	yajl_gen gen = yajl_gen_alloc(NULL);
	const uint8_t *text = NULL;
	size_t length = 0;
	unsigned i;
	int err;

	if (!gen)
		return -ENOMEM;
	yajl_gen_config(gen, yajl_gen_validate_utf8, 0);
	yajl_gen_map_open(gen);
	for (i = 0; i < ctl->num_words && i < CTL_NUM(keys); i++)
		put_member(gen, keys[i], ctl->words[i]);
	yajl_gen_map_close(gen);
	yajl_gen_get_buf(gen, &text, &length);
	err = send_all(fd, text, length);
	if (!err)
		err = send_all(fd, (const uint8_t *)"\n", 1);
	yajl_gen_free(gen);
	return err;
}

/* @line has room for LINE_MAX_BYTES. */
static int receive_line(int fd, int ms, char *line)
{
	size_t used = 0;

	while (used < LINE_MAX_BYTES - 1) {
		struct pollfd pollfd = { .fd = fd, .events = POLLIN };
		ssize_t n;

		if (poll(&pollfd, 1, ms) == 0)
			return -ETIMEDOUT;
		n = recv(fd, line + used, LINE_MAX_BYTES - 1 - used, 0);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0)
			return n ? -errno : -ECONNRESET;
		used += (size_t)n;
		line[used] = '\0';
		if (line[used - 1] == '\n')
			return 0;
	}
	return -EMSGSIZE;
}

/* ---- The answer ---- */

static void put_value(struct ctl_out *out, const char *name, yajl_val value);

static void put_members(struct ctl_out *out, yajl_val map)
{
	size_t i;

	for (i = 0; i < map->u.object.len; i++)
		put_value(out, map->u.object.keys[i], map->u.object.values[i]);
}

static void put_value(struct ctl_out *out, const char *name, yajl_val value)
{
	size_t i;

	if (YAJL_IS_STRING(value)) {
		cleat_out_string(out, name, YAJL_GET_STRING(value));
	} else if (YAJL_IS_INTEGER(value)) {
		cleat_out_number(out, name,
				 (uint64_t)YAJL_GET_INTEGER(value));
	} else if (YAJL_IS_TRUE(value) || YAJL_IS_FALSE(value)) {
		cleat_out_bool(out, name, YAJL_IS_TRUE(value));
	} else if (YAJL_IS_OBJECT(value)) {
		cleat_out_map(out, name);
		put_members(out, value);
		cleat_out_map_end(out);
	} else if (YAJL_IS_ARRAY(value)) {
		cleat_out_list(out, name);
		for (i = 0; i < value->u.array.len; i++)
			put_value(out, NULL, value->u.array.values[i]);
		cleat_out_list_end(out);
	} else {
		cleat_out_null(out, name);
	}
}

static bool is_flat(yajl_val value)
{
	return !YAJL_IS_OBJECT(value) && !YAJL_IS_ARRAY(value);
}

static void print_lines(const char *name, yajl_val map);

static void print_part(const char *name, yajl_val value)
{
	char text[64];
	size_t i;

	cleat_ctl_printable(text, sizeof(text), name, strlen(name));
	print_lines(text, value);
	for (i = 0; YAJL_IS_ARRAY(value) && i < value->u.array.len; i++)
		print_lines(text, value->u.array.values[i]);
}

/* A line for a map's plain members, then one for each of its maps. */
static void print_lines(const char *name, yajl_val map)
{
	struct ctl_out out;
	size_t i;

	if (!YAJL_IS_OBJECT(map))
		return;
	cleat_out_begin(&out, false, false);
	cleat_out_words(&out, "%s", name);
	for (i = 0; i < map->u.object.len; i++)
		if (is_flat(map->u.object.values[i]))
			put_value(&out, map->u.object.keys[i],
				  map->u.object.values[i]);
	cleat_out_print(&out);
	for (i = 0; i < map->u.object.len; i++)
		print_part(map->u.object.keys[i], map->u.object.values[i]);
}

static int print_answer(const struct ctl *ctl, yajl_val answer)
{
	struct ctl_out out;

	if (!ctl->json) {
		print_lines("machine", answer);
		return CTL_OK;
	}
	if (cleat_out_begin(&out, true, true))
		return cleat_ctl_say(CTL_LOCAL, "out of memory");
	put_members(&out, answer);
	return cleat_out_print(&out);
}

/* Whoever answers must not choose how deep we call ourselves. */
static bool is_deep(const char *line)
{
	bool string = false;
	int depth = 0;

	for (; *line; line++) {
		if (string && *line == '\\' && line[1])
			line++;
		else if (*line == '"')
			string = !string;
		else if (!string && (*line == '{' || *line == '['))
			depth++;
		else if (!string && (*line == '}' || *line == ']'))
			depth--;
		if (depth > DEPTH_MAX)
			return true;
	}
	return false;
}

static int refused(const struct ctl *ctl, yajl_val answer)
{
	const char *error[] = { "error", NULL };
	yajl_val why = yajl_tree_get(answer, error, yajl_t_string);
	const char *words = why ? YAJL_GET_STRING(why) : "refused";
	char text[512];

	cleat_ctl_printable(text, sizeof(text), words, strlen(words));
	return cleat_ctl_say(CTL_DEVICE, "%s: %s", ctl->words[0], text);
}

static int judge(const struct ctl *ctl, const char *line)
{
	const char *ok[] = { "ok", NULL };
	yajl_val answer = is_deep(line) ? NULL : yajl_tree_parse(line, NULL, 0);
	int status;

	if (!YAJL_IS_OBJECT(answer))
		status = cleat_ctl_say(CTL_DEVICE,
				       "%s: the answer makes no sense: is it the --control of a cleat-vmm?",
				       ctl->socket);
	else if (!YAJL_IS_TRUE(yajl_tree_get(answer, ok, yajl_t_any)))
		status = refused(ctl, answer);
	else if (ctl->json || !strcmp(ctl->words[0], "status"))
		status = print_answer(ctl, answer);
	else
		status = CTL_OK;
	yajl_tree_free(answer);
	return status;
}

static int cannot(const struct ctl *ctl, int err)
{
	if (err == -ETIMEDOUT)
		return cleat_ctl_say(CTL_DEVICE, "%s: no answer", ctl->socket);
	return cleat_ctl_say(CTL_CONNECT, "%s: %s%s", ctl->socket,
			     strerror(-err),
			     err == -ENOENT || err == -ECONNREFUSED ?
				     "; start cleat-vmm with --control first" :
			     err == -ECONNRESET ?
				     "; it has ended, or is no cleat-vmm's --control" :
				     "");
}

int cleat_ctl_vmm(struct ctl *ctl)
{
	int ms = ctl->given & CTL_TIMEOUT ? (int)ctl->timeout_ms : ANSWER_MS;
	char *line = malloc(LINE_MAX_BYTES);
	int status, err, fd = cleat_ctl_connect(ctl->socket);

	err = !line ? -ENOMEM : fd < 0 ? fd : send_command(ctl, fd);
	if (!err)
		err = receive_line(fd, ms, line);
	status = err ? cannot(ctl, err) : judge(ctl, line);
	if (fd >= 0)
		close(fd);
	free(line);
	return status;
}
