/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Lines on their way to stdout. Whoever reads them may stop reading (a pager, a
 * terminal on which somebody has pressed Ctrl-S), and no device may stop for
 * that: what finds no room is dropped, and counted.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/ctl/relay.h"

#define ROOM (4u * 1024 * 1024)
/* poll() promises that a pipe takes so much at once, and no more. */
#define AT_ONCE 4096
#define LAST_WORDS_MS 1000

int cleat_ctl_output_begin(struct ctl_output *output, bool json)
{
	*output = (struct ctl_output){ .buf = malloc(ROOM), .json = json };
	return output->buf ? 0 : -ENOMEM;
}

static bool put(struct ctl_output *output, const char *text, size_t size)
{
	if (size >= ROOM - output->used)
		return false;
	memcpy(output->buf + output->used, text, size);
	output->buf[output->used + size] = '\n';
	output->used += size + 1;
	return true;
}

static bool put_dropped(struct ctl_output *output)
{
	char text[80];
	int n;

	if (!output->dropped)
		return true;
	n = snprintf(text, sizeof(text),
		     output->json ? "{\"event\":\"dropped\",\"lines\":%" PRIu64
				    "}" :
				    "%" PRIu64 " lines dropped: nobody reads "
				    "this output fast enough",
		     output->dropped);
	if (!put(output, text, (size_t)n))
		return false;
	output->dropped = 0;
	return true;
}

void cleat_ctl_output_line(void *opaque, const char *line, size_t size)
{
	struct ctl_output *output = opaque;

	/* One gap rather than many small ones. */
	if (output->dropped && output->used > ROOM / 2)
		output->dropped++;
	else if (!put_dropped(output) || !put(output, line, size))
		output->dropped++;
}

static bool is_writable(int ms)
{
	struct pollfd poller = { .fd = STDOUT_FILENO, .events = POLLOUT };

	return poll(&poller, 1, ms) == 1;
}

void cleat_ctl_output_flush(struct ctl_output *output)
{
	size_t done = 0;

	while (done < output->used && is_writable(0)) {
		size_t left = output->used - done;
		ssize_t n = write(STDOUT_FILENO, output->buf + done,
				  left < AT_ONCE ? left : AT_ONCE);

		if (n < 0 && errno != EINTR && errno != EAGAIN) {
			output->error = errno;
			break;
		}
		if (n > 0)
			done += (size_t)n;
	}
	memmove(output->buf, output->buf + done, output->used - done);
	output->used -= done;
	/* It may be the last that there is to say. */
	if (output->used <= ROOM / 2)
		put_dropped(output);
}

void cleat_ctl_output_end(struct ctl_output *output)
{
	uint64_t until = cleat_ctl_now_ns() + LAST_WORDS_MS * 1000000ull;

	while (output->used && !output->error &&
	       is_writable(cleat_ctl_poll_ms(until)))
		cleat_ctl_output_flush(output);
	free(output->buf);
	output->buf = NULL;
}
