/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Output by fields: the same calls make JSON, or a line of name=value. What
 * came from a server or a file is made printable on the way.
 */
#ifndef TOOLS_CTL_OUT_H
#define TOOLS_CTL_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <yajl/yajl_gen.h>

/* A line of text is cut here, so that nobody else decides how long it is. */
#define CTL_LINE 4096

/**
 * struct ctl_out - one document or line
 * @gen:   NULL: text
 * @text:  the line so far
 * @fresh: the next field needs no blank before it
 */
struct ctl_out {
	yajl_gen gen;
	char text[CTL_LINE];
	size_t used;
	bool fresh;
};

/* @pretty: JSON over several lines. -ENOMEM, or 0. */
int cleat_out_begin(struct ctl_out *out, bool json, bool pretty);
/* What there is, without a newline; valid until the end. */
const char *cleat_out_get(struct ctl_out *out, size_t *ret_size);
void cleat_out_end(struct ctl_out *out);
/* Prints it, and ends it: an exit status. */
int cleat_out_print(struct ctl_out *out);

/* Fields. A @name of NULL is that of a list's element. */
void cleat_out_number(struct ctl_out *out, const char *name, uint64_t value);
void cleat_out_hex(struct ctl_out *out, const char *name, uint64_t value);
/* "1.5" for 1500000: both forms as a decimal fraction of six digits. */
void cleat_out_millionths(struct ctl_out *out, const char *name,
			  uint64_t value);
void cleat_out_bool(struct ctl_out *out, const char *name, bool value);
void cleat_out_null(struct ctl_out *out, const char *name);
void cleat_out_string(struct ctl_out *out, const char *name, const char *text);
void cleat_out_chars(struct ctl_out *out, const char *name, const char *text,
		     size_t length);
/* Hexadecimal, no more than @most of them. */
void cleat_out_bytes(struct ctl_out *out, const char *name,
		     const uint8_t *bytes, size_t count, size_t most);
/* The names of the bits that are set; those without a name as one number. */
struct ctl_bit {
	uint32_t bit;
	const char *name;
};
void cleat_out_bits(struct ctl_out *out, const char *name, uint32_t value,
		    const struct ctl_bit *bits, size_t num);
void cleat_out_map(struct ctl_out *out, const char *name);
void cleat_out_map_end(struct ctl_out *out);
void cleat_out_list(struct ctl_out *out, const char *name);
void cleat_out_list_end(struct ctl_out *out);
/* Text only: words as they are. */
void cleat_out_words(struct ctl_out *out, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#define CTL_NUM(array) (sizeof(array) / sizeof((array)[0]))

/* Printable ASCII only, everything else becomes a dot; NUL-terminated. */
void cleat_ctl_printable(char *to, size_t room, const char *from,
			 size_t length);
/* Offsets, bytes and characters, 16 a line, on stdout; @width bytes together.
 */
void cleat_ctl_hexdump(uint64_t offset, const uint8_t *bytes, size_t count,
		       unsigned width);
/* One line of it, for @count up to 16; no newline. */
#define CTL_HEX_LINE 96
void cleat_ctl_hexline(char *line, uint64_t offset, const uint8_t *bytes,
		       size_t count, unsigned width);

/* fd.c: what a descriptor is, without asking whoever serves the file. */
enum ctl_fd_kind {
	CTL_FD_NONE,
	CTL_FD_EVENTFD,
	CTL_FD_MEMFD, /* tmpfs or hugetlbfs, with or without a name */
	CTL_FD_FILE,
	CTL_FD_SOCKET,
	CTL_FD_PIPE,
	CTL_FD_OTHER,
	CTL_NUM_FD_KINDS,
};

/* @only_size: what else there is to know is not known. */
struct ctl_fd {
	enum ctl_fd_kind kind;
	bool only_size;
	bool writable;
	uint32_t seals;
	uint64_t size;
};

struct ctl_fd cleat_ctl_fd(int fd);
/* A map of its own in a list or under a name. */
void cleat_out_fd(struct ctl_out *out, const char *name,
		  const struct ctl_fd *fd);

#endif
