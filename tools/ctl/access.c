/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading and writing regions. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/ctl/ctl.h"
#include "tools/ctl/out.h"

/* So much is on its way at a time, however much is asked for. */
#define PIECE 65536u
/* What is printed is kept; more goes to a file. */
#define MAX_JSON (1u << 20)

/**
 * struct span - what the command line asks for
 * @width: bytes of one access; 0: as few messages as can be
 * @bytes: in all
 */
struct span {
	unsigned region;
	uint64_t offset;
	unsigned width;
	uint64_t bytes;
};

/* Without --width the count is one of bytes; one number is one of 4. */
static int take_span(struct ctl *ctl, struct span *span)
{
	int status = cleat_ctl_region(ctl->words[0], &span->region);

	if (!status)
		status = cleat_ctl_word_number("offset", ctl->words[1],
					       UINT64_MAX, &span->offset);
	if (status)
		return status;
	span->width = ctl->width;
	if (!(ctl->given & (CTL_WIDTH | CTL_COUNT)))
		span->width = 4;
	span->bytes = ctl->given & CTL_COUNT ? ctl->count : 1;
	if (span->width &&
	    __builtin_mul_overflow(span->bytes, span->width, &span->bytes))
		return cleat_ctl_say(CTL_USAGE, "--count: too many");
	return CTL_OK;
}

static int read_piece(struct ctl *ctl, const struct span *span, uint64_t at,
		      uint8_t *buf, size_t count)
{
	size_t step = span->width ? span->width : count;
	int err = 0;

	for (size_t done = 0; done < count && !err; done += step)
		err = cleat_region_read(ctl->dev, span->region, at + done,
					buf + done, step);
	return err;
}

static int write_piece(struct ctl *ctl, const struct span *span, uint64_t at,
		       const uint8_t *buf, size_t count)
{
	size_t step = span->width ? span->width : count;
	int err = 0;

	for (size_t done = 0; done < count && !err; done += step)
		err = cleat_region_write(ctl->dev, span->region, at + done,
					 buf + done, step);
	return err;
}

static int failed(struct ctl *ctl, const struct span *span, const char *verb,
		  uint64_t at, int err)
{
	char what[80];

	snprintf(what, sizeof(what), "%s of region %u at %#" PRIx64, verb,
		 span->region, at);
	return cleat_ctl_failed(ctl, what, err);
}

static int write_all(int fd, const uint8_t *buf, size_t count)
{
	while (count) {
		ssize_t n = write(fd, buf, count);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			buf += n;
			count -= (size_t)n;
		}
	}
	return 0;
}

/* --- read ----------------------------------------------------------------- */

static void put_values(struct ctl_out *out, const struct span *span,
		       const uint8_t *buf, size_t count)
{
	cleat_out_list(out, "values");
	for (size_t i = 0; i + span->width <= count; i += span->width) {
		uint64_t value = 0;

		memcpy(&value, buf + i, span->width);
		cleat_out_number(out, NULL, value);
	}
	cleat_out_list_end(out);
}

static int print_json(const struct span *span, const uint8_t *buf,
		      size_t count)
{
	struct ctl_out out;

	if (cleat_out_begin(&out, true, true))
		return cleat_ctl_say(CTL_LOCAL, "out of memory");
	cleat_out_number(&out, "region", span->region);
	cleat_out_number(&out, "offset", span->offset);
	cleat_out_number(&out, "count", count);
	if (span->width) {
		cleat_out_number(&out, "width", span->width);
		put_values(&out, span, buf, count);
	} else {
		cleat_out_list(&out, "bytes");
		for (size_t i = 0; i < count; i++)
			cleat_out_number(&out, NULL, buf[i]);
		cleat_out_list_end(&out);
	}
	return cleat_out_print(&out);
}

static int read_json(struct ctl *ctl, const struct span *span)
{
	uint8_t *buf;
	int err, status;

	buf = malloc((size_t)span->bytes);
	if (!buf)
		return cleat_ctl_say(CTL_LOCAL, "out of memory");
	err = read_piece(ctl, span, span->offset, buf, (size_t)span->bytes);
	status = err ? failed(ctl, span, "read", span->offset, err) :
		       print_json(span, buf, (size_t)span->bytes);
	free(buf);
	return status;
}

static void print_one(const struct span *span, const uint8_t *buf)
{
	uint64_t value = 0;

	memcpy(&value, buf, span->width);
	printf("0x%0*" PRIx64 "\n", (int)span->width * 2, value);
}

/* @fd: where the bytes go; -1: they are shown. */
static int read_on(struct ctl *ctl, const struct span *span, int fd)
{
	static uint8_t buf[PIECE];
	uint64_t left = span->bytes, at = span->offset;

	while (left) {
		size_t n = left < PIECE ? (size_t)left : PIECE;
		int err = read_piece(ctl, span, at, buf, n);

		if (err)
			return failed(ctl, span, "read", at, err);
		if (fd >= 0)
			err = write_all(fd, buf, n);
		else if (span->bytes == span->width)
			print_one(span, buf);
		else
			cleat_ctl_hexdump(at, buf, n,
					  span->width ? span->width : 1);
		if (err)
			return cleat_ctl_say(CTL_LOCAL, "%s: %s", ctl->output,
					     strerror(-err));
		at += n;
		left -= n;
	}
	return CTL_OK;
}

static int read_to_file(struct ctl *ctl, const struct span *span)
{
	int fd, status;

	if (!strcmp(ctl->output, "-"))
		return read_on(ctl, span, STDOUT_FILENO);
	fd = open(ctl->output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return cleat_ctl_say(CTL_LOCAL, "%s: %s", ctl->output,
				     strerror(errno));
	status = read_on(ctl, span, fd);
	if (close(fd) && status == CTL_OK)
		status = cleat_ctl_say(CTL_LOCAL, "%s: %s", ctl->output,
				       strerror(errno));
	return status;
}

int cleat_ctl_check_read(struct ctl *ctl)
{
	struct span span;
	int status = take_span(ctl, &span);

	if (!status && ctl->json && !ctl->output && span.bytes > MAX_JSON)
		status = cleat_ctl_say(CTL_USAGE,
				       "--json: no more than %u bytes; "
				       "--output takes any number",
				       MAX_JSON);
	return status;
}

int cleat_ctl_read(struct ctl *ctl)
{
	struct span span;
	int status = take_span(ctl, &span);

	if (status)
		return status;
	if (ctl->given & CTL_OUTPUT)
		return read_to_file(ctl, &span);
	return ctl->json ? read_json(ctl, &span) : read_on(ctl, &span, -1);
}

/* --- write ---------------------------------------------------------------- */

static int report_written(struct ctl *ctl, const struct span *span,
			  uint64_t bytes)
{
	struct ctl_out out;

	if (!ctl->json)
		return CTL_OK;
	if (cleat_out_begin(&out, true, true))
		return cleat_ctl_say(CTL_LOCAL, "out of memory");
	cleat_out_number(&out, "region", span->region);
	cleat_out_number(&out, "offset", span->offset);
	cleat_out_number(&out, "written", bytes);
	return cleat_out_print(&out);
}

/* Fills @buf, but for the end of the file. */
static ssize_t read_full(int fd, uint8_t *buf, size_t room)
{
	size_t got = 0;

	while (got < room) {
		ssize_t n = read(fd, buf + got, room - got);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			break;
		if (n > 0)
			got += (size_t)n;
	}
	return (ssize_t)got;
}

static int write_from(struct ctl *ctl, struct span *span, int fd)
{
	uint64_t left = ctl->given & CTL_COUNT ? span->bytes : UINT64_MAX;
	uint64_t at = span->offset;
	static uint8_t buf[PIECE];

	while (left) {
		ssize_t n = read_full(fd, buf, left < PIECE ? left : PIECE);
		int err;

		if (n < 0)
			return cleat_ctl_say(CTL_LOCAL, "%s: %s", ctl->input,
					     strerror((int)-n));
		if (n == 0)
			break;
		if (span->width && (size_t)n % span->width)
			return cleat_ctl_say(CTL_USAGE,
					     "%s: its length is not a multiple "
					     "of --width",
					     ctl->input);
		err = write_piece(ctl, span, at, buf, (size_t)n);
		if (err)
			return failed(ctl, span, "write", at, err);
		at += (uint64_t)n;
		left -= (uint64_t)n;
	}
	return report_written(ctl, span, at - span->offset);
}

static int write_from_file(struct ctl *ctl, struct span *span)
{
	int fd, status;

	span->width = ctl->width;
	if (!strcmp(ctl->input, "-"))
		return write_from(ctl, span, STDIN_FILENO);
	fd = open(ctl->input, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return cleat_ctl_say(CTL_LOCAL, "%s: %s", ctl->input,
				     strerror(errno));
	status = write_from(ctl, span, fd);
	close(fd);
	return status;
}

static int write_values(struct ctl *ctl, struct span *span)
{
	uint64_t times = ctl->given & CTL_COUNT ? ctl->count : 1;
	uint64_t at = span->offset, value;

	span->width = ctl->width ? ctl->width : 4;
	for (; times; times--) {
		for (unsigned i = 2; i < ctl->num_words; i++) {
			int err;

			cleat_ctl_number(ctl->words[i], 0, UINT64_MAX,
					 &value);
			err = cleat_region_write(ctl->dev, span->region, at,
						 &value, span->width);
			if (err)
				return failed(ctl, span, "write", at, err);
			at += span->width;
		}
	}
	return report_written(ctl, span, at - span->offset);
}

int cleat_ctl_check_write(struct ctl *ctl)
{
	unsigned width = ctl->width ? ctl->width : 4;
	uint64_t most = width == 8 ? UINT64_MAX : (1ull << width * 8) - 1;
	uint64_t value;
	struct span span;
	int status = take_span(ctl, &span);

	if (status)
		return status;
	if (!ctl->input == (ctl->num_words < 3))
		return cleat_ctl_say(CTL_USAGE,
				     "write: either VALUE or --input is "
				     "needed");
	for (unsigned i = 2; i < ctl->num_words; i++)
		if (cleat_ctl_word_number("value", ctl->words[i], most, &value))
			return CTL_USAGE;
	return CTL_OK;
}

int cleat_ctl_write(struct ctl *ctl)
{
	struct span span;
	int status = take_span(ctl, &span);

	if (status)
		return status;
	return ctl->given & CTL_INPUT ? write_from_file(ctl, &span) :
					write_values(ctl, &span);
}
