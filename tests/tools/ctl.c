/* SPDX-License-Identifier: BSD-2-Clause */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "tests/tools/ctl.h"

#define MAX_WORDS 32

static void collect(const char **argv, va_list words)
{
	unsigned n = 1;

	argv[0] = program("tools/ctl/cleatctl");
	do {
		ATF_REQUIRE(n < MAX_WORDS);
		argv[n] = va_arg(words, const char *);
	} while (argv[n++]);
}

static void read_file(const char *name, const char *suffix, char *text,
		      size_t size)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s.%s", name, suffix);
	file = fopen(path, "r");
	text[0] = '\0';
	if (!file)
		return;
	text[fread(text, 1, size - 1, file)] = '\0';
	fclose(file);
}

void read_out(const char *name, char *text, size_t size)
{
	read_file(name, "out", text, size);
}

bool out_has(const char *name, const char *words)
{
	static char text[CTL_TEXT];

	read_out(name, text, sizeof(text));
	return strstr(text, words);
}

void run_ctl(struct run *run, ...)
{
	const char *argv[MAX_WORDS];
	struct child child;
	va_list words;
	int status;

	va_start(words, run);
	collect(argv, words);
	va_end(words);
	child_start(&child, "ctl", argv);
	status = child_wait(&child, 3 * PATIENCE_MS);
	ATF_REQUIRE_MSG(status >= 0 && WIFEXITED(status),
			"cleatctl ended with %#x", status);
	run->status = WEXITSTATUS(status);
	read_file("ctl", "out", run->out, sizeof(run->out));
	read_file("ctl", "err", run->err, sizeof(run->err));
}

void start_ctl(struct child *child, const char *name, ...)
{
	const char *argv[MAX_WORDS];
	char path[256];
	va_list words;

	va_start(words, name);
	collect(argv, words);
	va_end(words);
	/* What one before it has said is not this one's. */
	snprintf(path, sizeof(path), "%s.out", name);
	unlink(path);
	child_start(child, name, argv);
}

void require_run(const struct run *run, int status, ...)
{
	const char *word;
	va_list words;

	ATF_REQUIRE_EQ_MSG(status, run->status, "it ended with %d: %s",
			   run->status, run->err);
	va_start(words, status);
	while ((word = va_arg(words, const char *)))
		ATF_CHECK_MSG(strstr(run->out, word), "no \"%s\" in: %s", word,
			      run->out);
	va_end(words);
}

void require_complaint(const struct run *run, int status, const char *words)
{
	const char *end = strchr(run->err, '\n');

	ATF_CHECK_EQ_MSG(status, run->status, "it ended with %d: %s",
			 run->status, run->err);
	ATF_CHECK_STREQ("", run->out);
	ATF_CHECK_MSG(!strncmp(run->err, "cleatctl: ", 10), "%s", run->err);
	ATF_CHECK_MSG(strstr(run->err, words), "no \"%s\" in: %s", words,
		      run->err);
	ATF_CHECK_MSG(end && !end[1], "not one line: %s", run->err);
}

yajl_val parse_json(const char *text)
{
	char why[256] = "";
	yajl_val json = yajl_tree_parse(text, why, sizeof(why));

	ATF_REQUIRE_MSG(json, "no JSON (%s): %s", why, text);
	return json;
}

static yajl_val child_of(yajl_val json, const char *name, size_t length)
{
	if (YAJL_IS_ARRAY(json)) {
		size_t i = strtoul(name, NULL, 10);

		return i < json->u.array.len ? json->u.array.values[i] : NULL;
	}
	if (!YAJL_IS_OBJECT(json))
		return NULL;
	for (size_t i = 0; i < json->u.object.len; i++)
		if (!strncmp(json->u.object.keys[i], name, length) &&
		    !json->u.object.keys[i][length])
			return json->u.object.values[i];
	return NULL;
}

yajl_val json_at(yajl_val json, const char *path)
{
	const char *at = path;

	while (json && *at) {
		size_t length = strcspn(at, ".");

		json = child_of(json, at, length);
		at += length + (at[length] == '.');
	}
	ATF_REQUIRE_MSG(json, "the JSON has no %s", path);
	return json;
}

long long json_number(yajl_val json, const char *path)
{
	yajl_val value = json_at(json, path);

	ATF_REQUIRE_MSG(YAJL_IS_INTEGER(value), "%s is no integer", path);
	return YAJL_GET_INTEGER(value);
}

const char *json_text(yajl_val json, const char *path)
{
	yajl_val value = json_at(json, path);

	ATF_REQUIRE_MSG(YAJL_IS_STRING(value), "%s is no string", path);
	return YAJL_GET_STRING(value);
}

size_t json_length(yajl_val json, const char *path)
{
	yajl_val value = json_at(json, path);

	ATF_REQUIRE_MSG(YAJL_IS_ARRAY(value), "%s is no list", path);
	return value->u.array.len;
}

bool json_has(yajl_val json, const char *path, const char *text)
{
	yajl_val list = json_at(json, path);

	ATF_REQUIRE(YAJL_IS_ARRAY(list));
	for (size_t i = 0; i < list->u.array.len; i++) {
		yajl_val one = list->u.array.values[i];

		if (YAJL_IS_STRING(one) && !strcmp(one->u.string, text))
			return true;
	}
	return false;
}

/* The file is there before anybody listens. */
static bool takes_clients(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool taken;

	ATF_REQUIRE(fd >= 0);
	strcpy(address.sun_path, path);
	taken = !connect(fd, (void *)&address, sizeof(address));
	close(fd);
	return taken;
}

void start_server(struct child *child, const char *name, const char *socket,
		  const char *const argv[])
{
	child_start(child, name, argv);
	REQUIRE_SOON(takes_clients(socket) || child_ended(child));
	ATF_REQUIRE(!child_ended(child));
}

void start_probe(struct child *child, const char *socket)
{
	char option[64];
	const char *argv[] = { program("backends/cleat-probe"), option, NULL };

	snprintf(option, sizeof(option), "--socket-path=%s", socket);
	start_server(child, "probe", socket, argv);
}

void stop_server(struct child *child)
{
	kill(child->pid, SIGTERM);
	ATF_REQUIRE_EQ(0, child_wait(child, PATIENCE_MS));
}
