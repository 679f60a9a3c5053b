/* SPDX-License-Identifier: BSD-2-Clause */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/stream.h"

#define FIRST_LINE "cleat-stream 1\n"
#define PER_LINE 32
#define SHORTEST_RUN 8

static const char *const kinds[] = {
	[CLEAT_STREAM_OTHER] = "other",	  [CLEAT_STREAM_EVENTFD] = "eventfd",
	[CLEAT_STREAM_SOCKET] = "socket", [CLEAT_STREAM_PIPE] = "pipe",
	[CLEAT_STREAM_MEMFD] = "memfd",	  [CLEAT_STREAM_FILE] = "file",
};

#define NUM_KINDS (sizeof(kinds) / sizeof(kinds[0]))

static bool has_size(enum cleat_stream_kind kind)
{
	return kind == CLEAT_STREAM_MEMFD || kind == CLEAT_STREAM_FILE;
}

static bool is_memfd(int fd)
{
	char path[32], name[16];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, name, sizeof(name));
	return n >= 7 && memcmp(name, "/memfd:", 7) == 0;
}

struct cleat_stream_fd cleat_stream_fd(int fd)
{
	struct cleat_stream_fd ret = { CLEAT_STREAM_OTHER, 0 };
	struct stat st;

	if (fstat(fd, &st))
		return ret;
	if (cleat_is_eventfd(fd))
		ret.kind = CLEAT_STREAM_EVENTFD;
	else if (S_ISSOCK(st.st_mode))
		ret.kind = CLEAT_STREAM_SOCKET;
	else if (S_ISFIFO(st.st_mode))
		ret.kind = CLEAT_STREAM_PIPE;
	else if (S_ISREG(st.st_mode))
		ret.kind =
			is_memfd(fd) ? CLEAT_STREAM_MEMFD : CLEAT_STREAM_FILE;
	if (has_size(ret.kind))
		ret.size = (uint64_t)st.st_size;
	return ret;
}

/* --- Writing ------------------------------------------------------------- */

static int outcome(FILE *file)
{
	return ferror(file) ? -EIO : 0;
}

int cleat_stream_begin(FILE *file)
{
	fputs(FIRST_LINE, file);
	return outcome(file);
}

static void write_fds(FILE *file, const struct cleat_stream_message *message)
{
	for (unsigned i = 0; i < message->num_fds; i++) {
		const struct cleat_stream_fd *fd = &message->fds[i];

		fprintf(file, "%s%s", i ? "," : " fds=", kinds[fd->kind]);
		if (has_size(fd->kind))
			fprintf(file, ":%" PRIu64, fd->size);
	}
}

static size_t run_length(const uint8_t *bytes, size_t length)
{
	size_t n = 1;

	while (n < length && bytes[n] == bytes[0])
		n++;
	return n;
}

/* How many of the bytes go in plain: up to the next run worth a count. */
static size_t plain_length(const uint8_t *bytes, size_t length)
{
	size_t n = 0;

	while (n < length && n < PER_LINE &&
	       run_length(bytes + n, length - n) < SHORTEST_RUN)
		n++;
	return n;
}

static void write_bytes(FILE *file, const uint8_t *bytes, size_t length)
{
	while (length) {
		size_t n = plain_length(bytes, length);

		fputc(' ', file);
		for (size_t i = 0; i < n; i++)
			fprintf(file, "%02x", bytes[i]);
		if (!n) {
			n = run_length(bytes, length);
			fprintf(file, "%02x*%zu", bytes[0], n);
		}
		fputc('\n', file);
		bytes += n;
		length -= n;
	}
}

static void write_note(FILE *file, const struct cleat_stream_message *message)
{
	struct cleat_header header;
	const char *name;

	memcpy(&header, message->bytes, sizeof(header));
	name = cleat_command_name(header.command);
	fprintf(file, " # %s", name ? name : "?");
	if ((header.flags & CLEAT_HEADER_TYPE) == CLEAT_HEADER_REPLY)
		fputs(" reply", file);
	if (header.flags & CLEAT_HEADER_NO_REPLY)
		fputs(" no_reply", file);
	if (header.flags & CLEAT_HEADER_ERROR)
		fprintf(file, " error %" PRIu32, header.error);
	fputc('\n', file);
}

int cleat_stream_write(FILE *file, const struct cleat_stream_message *message)
{
	const char *arrow = message->from_server ? "<" : ">";

	fprintf(file, "%s%s %" PRIu64, arrow, message->twin ? arrow : "",
		message->time_us);
	write_fds(file, message);
	write_note(file, message);
	write_bytes(file, message->bytes, message->length);
	return outcome(file);
}

/* --- Reading ------------------------------------------------------------- */

/* A line without its comment and end, in @buf; 1, 0 at the end, -errno. */
static int read_line(FILE *file, unsigned *line, char *buf, size_t size)
{
	size_t length;

	if (!fgets(buf, (int)size, file))
		return ferror(file) ? -EIO : 0;
	++*line;
	length = strlen(buf);
	if (!length || buf[length - 1] != '\n')
		return -EPROTO;
	buf[strcspn(buf, "#\n")] = '\0';
	length = strlen(buf);
	while (length && isspace((unsigned char)buf[length - 1]))
		buf[--length] = '\0';
	return 1;
}

/* No sign, no space before it, nothing but digits. */
static bool read_number(const char **text, uint64_t *ret)
{
	char *end;

	if (!isdigit((unsigned char)**text))
		return false;
	errno = 0;
	*ret = strtoull(*text, &end, 10);
	*text = end;
	return !errno;
}

static bool read_fd(const char **text, struct cleat_stream_fd *ret)
{
	size_t length = strcspn(*text, ":,");

	for (unsigned i = 0; i < NUM_KINDS; i++) {
		if (strlen(kinds[i]) != length ||
		    strncmp(kinds[i], *text, length))
			continue;
		*text += length;
		*ret = (struct cleat_stream_fd){ .kind = i };
		if (!has_size(i))
			return true;
		return *(*text)++ == ':' && read_number(text, &ret->size);
	}
	return false;
}

static bool read_fds(const char *text, struct cleat_stream_message *message)
{
	do {
		if (message->num_fds == CLEAT_MAX_FDS ||
		    !read_fd(&text, &message->fds[message->num_fds++]))
			return false;
	} while (*text++ == ',');
	return text[-1] == '\0';
}

static bool read_head(const char *text, struct cleat_stream_message *message)
{
	char arrow = text[0];

	if (arrow != '<' && arrow != '>')
		return false;
	message->from_server = arrow == '<';
	message->twin = *++text == arrow;
	text += message->twin;
	if (*text++ != ' ' || !read_number(&text, &message->time_us))
		return false;
	if (!*text)
		return true;
	if (strncmp(text, " fds=", 5))
		return false;
	return read_fds(text + 5, message);
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool repeat(struct cleat_stream_message *message, size_t group,
		   uint64_t times)
{
	size_t room = CLEAT_MAX_MESSAGE - message->length;
	const uint8_t *from = message->bytes + message->length - group;

	if (!group || !times || times - 1 > room / group)
		return false;
	for (uint64_t i = 1; i < times; i++) {
		memcpy(message->bytes + message->length, from, group);
		message->length += group;
	}
	return true;
}

/* One group of hex, and how often. */
static bool read_group(const char **text, struct cleat_stream_message *message)
{
	size_t group = 0;
	uint64_t times = 1;
	int high, low;

	while ((high = digit(**text)) >= 0) {
		low = digit((*text)[1]);
		if (low < 0 || message->length == CLEAT_MAX_MESSAGE)
			return false;
		message->bytes[message->length++] = (uint8_t)(high << 4 | low);
		*text += 2;
		group++;
	}
	if (**text == '*') {
		++*text;
		if (!read_number(text, &times))
			return false;
	}
	return repeat(message, group, times);
}

static bool read_bytes(const char *text, struct cleat_stream_message *message)
{
	for (;;) {
		while (*text == ' ')
			text++;
		if (!*text)
			return true;
		if (!read_group(&text, message))
			return false;
	}
}

static bool is_whole(const struct cleat_stream_message *message)
{
	struct cleat_header header;

	if (message->length < sizeof(header))
		return false;
	memcpy(&header, message->bytes, sizeof(header));
	return header.size == message->length;
}

/* What was allocated is the most there can be. */
static int finish_body(struct cleat_stream_message *message)
{
	uint8_t *bytes;

	if (!is_whole(message))
		return -EPROTO;
	bytes = realloc(message->bytes, message->length);
	if (bytes)
		message->bytes = bytes;
	return 1;
}

/* The lines of bytes, up to one that begins with something else. */
static int read_body(FILE *file, unsigned *line,
		     struct cleat_stream_message *message)
{
	char buf[256];
	int next, ret;

	for (;;) {
		next = getc(file);
		if (next == EOF)
			break;
		ungetc(next, file);
		if (next != ' ' && next != '#' && next != '\n')
			break;
		ret = read_line(file, line, buf, sizeof(buf));
		if (ret <= 0)
			return ret ? ret : -EPROTO;
		if (!read_bytes(buf, message))
			return -EPROTO;
	}
	return ferror(file) ? -EIO : finish_body(message);
}

static int read_first_line(FILE *file, unsigned *line)
{
	char buf[sizeof(FIRST_LINE)];

	++*line;
	if (!fgets(buf, sizeof(buf), file))
		return ferror(file) ? -EIO : -EPROTO;
	return strcmp(buf, FIRST_LINE) ? -EPROTO : 0;
}

int cleat_stream_read(FILE *file, unsigned *line,
		      struct cleat_stream_message *message)
{
	char buf[8192];
	int ret = *line ? 0 : read_first_line(file, line);

	*message = (struct cleat_stream_message){ 0 };
	if (ret)
		return ret;
	do {
		ret = read_line(file, line, buf, sizeof(buf));
		if (ret <= 0)
			return ret;
	} while (!buf[0]);
	if (!read_head(buf, message))
		return -EPROTO;
	message->bytes = malloc(CLEAT_MAX_MESSAGE);
	if (!message->bytes)
		return -ENOMEM;
	ret = read_body(file, line, message);
	if (ret < 0)
		cleat_stream_free(message);
	return ret;
}

void cleat_stream_free(struct cleat_stream_message *message)
{
	free(message->bytes);
	message->bytes = NULL;
}
