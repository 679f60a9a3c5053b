/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tools/ctl/ctl.h"
#include "tools/ctl/out.h"

/* Longest text of a peer's that is shown. */
#define MAX_CHARS 1024
#define MAX_BYTES 4096

void cleat_ctl_printable(char *to, size_t room, const char *from,
			 size_t length)
{
	size_t n = length < room ? length : room - 1;

	for (size_t i = 0; i < n; i++)
		to[i] = from[i] >= ' ' && from[i] <= '~' ? from[i] : '.';
	to[n] = '\0';
}

void cleat_ctl_hexline(char *line, uint64_t offset, const uint8_t *bytes,
		       size_t count, unsigned width)
{
	char text[17];
	int at = sprintf(line, "%08" PRIx64 " ", offset);

	/* The least significant byte last, as numbers are written. */
	for (size_t i = 0; i < 16; i++) {
		size_t from = i / width * width + width - 1 - i % width;

		if (i % width == 0)
			line[at++] = ' ';
		if (from < count)
			at += sprintf(line + at, "%02x", bytes[from]);
		else
			at += sprintf(line + at, "  ");
	}
	cleat_ctl_printable(text, sizeof(text), (const char *)bytes, count);
	sprintf(line + at, "  %s", text);
}

void cleat_ctl_hexdump(uint64_t offset, const uint8_t *bytes, size_t count,
		       unsigned width)
{
	char line[CTL_HEX_LINE];

	for (size_t i = 0; i < count; i += 16) {
		size_t n = count - i < 16 ? count - i : 16;

		cleat_ctl_hexline(line, offset + i, bytes + i, n, width);
		puts(line);
	}
}

int cleat_out_begin(struct ctl_out *out, bool json, bool pretty)
{
	out->gen = NULL;
	out->used = 0;
	out->fresh = true;
	if (!json)
		return 0;
	out->gen = yajl_gen_alloc(NULL);
	if (!out->gen)
		return -ENOMEM;
	yajl_gen_config(out->gen, yajl_gen_beautify, (int)pretty);
	yajl_gen_config(out->gen, yajl_gen_indent_string, "  ");
	yajl_gen_map_open(out->gen);
	return 0;
}

const char *cleat_out_get(struct ctl_out *out, size_t *ret_size)
{
	const unsigned char *text = (const unsigned char *)"";

	if (!out->gen) {
		*ret_size = out->used;
		return out->text;
	}
	yajl_gen_map_close(out->gen);
	*ret_size = 0;
	yajl_gen_get_buf(out->gen, &text, ret_size);
	while (*ret_size && text[*ret_size - 1] == '\n')
		--*ret_size;
	return (const char *)text;
}

void cleat_out_end(struct ctl_out *out)
{
	if (out->gen)
		yajl_gen_free(out->gen);
	out->gen = NULL;
}

int cleat_out_print(struct ctl_out *out)
{
	size_t size;
	const char *text = cleat_out_get(out, &size);

	fwrite(text, 1, size, stdout);
	putchar('\n');
	cleat_out_end(out);
	return CTL_OK;
}

/* --- Text ----------------------------------------------------------------- */

static void add(struct ctl_out *out, const char *text, size_t length)
{
	static const char cut[] = " [...]";
	size_t room = sizeof(out->text) - sizeof(cut) - out->used;

	if (out->used >= sizeof(out->text) - sizeof(cut))
		return; /* it is cut */
	if (length < room) {
		memcpy(out->text + out->used, text, length);
		out->used += length;
		return;
	}
	memcpy(out->text + out->used, text, room);
	out->used += room;
	memcpy(out->text + out->used, cut, sizeof(cut) - 1);
	out->used += sizeof(cut) - 1;
}

static void add_text(struct ctl_out *out, const char *text)
{
	add(out, text, strlen(text));
}

static void key(struct ctl_out *out, const char *name)
{
	if (out->gen) {
		if (name)
			yajl_gen_string(out->gen, (const uint8_t *)name,
					strlen(name));
		return;
	}
	if (!out->fresh)
		add(out, " ", 1);
	out->fresh = false;
	if (name) {
		add_text(out, name);
		add(out, "=", 1);
	}
}

void cleat_out_words(struct ctl_out *out, const char *format, ...)
{
	char text[256];
	va_list args;

	if (out->gen)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	key(out, NULL);
	add_text(out, text);
}

/* --- Fields --------------------------------------------------------------- */

static void put_number(struct ctl_out *out, const char *name, const char *text)
{
	key(out, name);
	if (out->gen)
		yajl_gen_number(out->gen, text, strlen(text));
	else
		add_text(out, text);
}

void cleat_out_number(struct ctl_out *out, const char *name, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	put_number(out, name, text);
}

/* JSON has no hexadecimal numbers. */
void cleat_out_hex(struct ctl_out *out, const char *name, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), out->gen ? "%" PRIu64 : "%#" PRIx64,
		 value);
	put_number(out, name, text);
}

void cleat_out_millionths(struct ctl_out *out, const char *name,
			  uint64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64 ".%06" PRIu64, value / 1000000,
		 value % 1000000);
	put_number(out, name, text);
}

void cleat_out_bool(struct ctl_out *out, const char *name, bool value)
{
	key(out, name);
	if (out->gen)
		yajl_gen_bool(out->gen, value);
	else
		add_text(out, value ? "yes" : "no");
}

void cleat_out_null(struct ctl_out *out, const char *name)
{
	key(out, name);
	if (out->gen)
		yajl_gen_null(out->gen);
	else
		add_text(out, "none");
}

void cleat_out_chars(struct ctl_out *out, const char *name, const char *text,
		     size_t length)
{
	char clean[MAX_CHARS];

	cleat_ctl_printable(clean, sizeof(clean), text, length);
	key(out, name);
	if (out->gen)
		yajl_gen_string(out->gen, (const uint8_t *)clean,
				strlen(clean));
	else
		add_text(out, clean);
}

void cleat_out_string(struct ctl_out *out, const char *name, const char *text)
{
	cleat_out_chars(out, name, text, strlen(text));
}

void cleat_out_bytes(struct ctl_out *out, const char *name,
		     const uint8_t *bytes, size_t count, size_t most)
{
	char text[2 * MAX_BYTES + 1];
	size_t n = count < most ? count : most;

	if (n > MAX_BYTES)
		n = MAX_BYTES;
	for (size_t i = 0; i < n; i++)
		sprintf(text + 2 * i, "%02x", bytes[i]);
	text[2 * n] = '\0';
	key(out, name);
	if (out->gen)
		yajl_gen_string(out->gen, (const uint8_t *)text, 2 * n);
	else
		add_text(out, text);
	if (!out->gen && n < count)
		cleat_out_words(out, "(of %zu bytes)", count);
}

static void put_bits(struct ctl_out *out, uint32_t value,
		     const struct ctl_bit *bits, size_t num)
{
	for (size_t i = 0; i < num; i++) {
		if (value & bits[i].bit)
			cleat_out_string(out, NULL, bits[i].name);
		value &= ~bits[i].bit;
	}
	if (value)
		cleat_out_hex(out, NULL, value);
}

static void put_joined(struct ctl_out *out, uint32_t value,
		       const struct ctl_bit *bits, size_t num)
{
	const char *between = "";
	char text[16];

	for (size_t i = 0; i < num; i++) {
		if (!(value & bits[i].bit))
			continue;
		add_text(out, between);
		add_text(out, bits[i].name);
		value &= ~bits[i].bit;
		between = "|";
	}
	if (!value && *between)
		return;
	add_text(out, between);
	snprintf(text, sizeof(text), value ? "%#x" : "0", value);
	add_text(out, text);
}

void cleat_out_bits(struct ctl_out *out, const char *name, uint32_t value,
		    const struct ctl_bit *bits, size_t num)
{
	key(out, name);
	if (!out->gen) {
		put_joined(out, value, bits, num);
		return;
	}
	yajl_gen_array_open(out->gen);
	put_bits(out, value, bits, num);
	yajl_gen_array_close(out->gen);
}

static void open_text(struct ctl_out *out, const char *mark)
{
	add_text(out, mark);
	out->fresh = true;
}

static void close_text(struct ctl_out *out, const char *mark)
{
	add_text(out, mark);
	out->fresh = false;
}

void cleat_out_map(struct ctl_out *out, const char *name)
{
	key(out, name);
	if (out->gen)
		yajl_gen_map_open(out->gen);
	else
		open_text(out, "{");
}

void cleat_out_map_end(struct ctl_out *out)
{
	if (out->gen)
		yajl_gen_map_close(out->gen);
	else
		close_text(out, "}");
}

void cleat_out_list(struct ctl_out *out, const char *name)
{
	key(out, name);
	if (out->gen)
		yajl_gen_array_open(out->gen);
	else
		open_text(out, "[");
}

void cleat_out_list_end(struct ctl_out *out)
{
	if (out->gen)
		yajl_gen_array_close(out->gen);
	else
		close_text(out, "]");
}
