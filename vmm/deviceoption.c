/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * --device: a socket, and words behind it, each after a comma. A comma of the
 * path is written twice.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/vmm.h"

#define COALESCE "coalesce="

/* Cuts off what is behind the path; the words, or NULL if there are none. */
static char *cut_path(char *text)
{
	char *to = text;

	for (; *text; text++) {
		if (*text == ',' && text[1] != ',')
			break;
		text += *text == ',';
		*to++ = *text;
	}
	if (!*text) {
		*to = 0;
		return NULL;
	}
	*to = 0;
	return text + 1;
}

static int wrong(const char *word, const char *why)
{
	if (!*word)
		why = "nothing is behind a comma";
	return cleat_vmm_fail(-EINVAL, "--device ,%s: %s: see cleat-vmm --help",
			      word, why);
}

/*
 * A number, decimal or 0x..., up to the character that ends it; strtoull()
 * alone would take signs, spaces and octal numbers too.
 */
static bool take_number(const char **text, char end, uint64_t *ret)
{
	const char *from = *text;
	bool hex = from[0] == '0' && (from[1] == 'x' || from[1] == 'X');
	const char *digits = hex ? "0123456789abcdefABCDEF" : "0123456789";
	size_t length;

	from += hex ? 2 : 0;
	length = strspn(from, digits);
	if (!length || from[length] != end)
		return false;
	errno = 0;
	*ret = strtoull(from, NULL, hex ? 16 : 10);
	*text = from + length + (end != 0);
	return !errno;
}

static bool overlaps(const struct device_option *option,
		     const struct coalesce *range)
{
	unsigned i;

	for (i = 0; i < option->coalesce_count; i++) {
		const struct coalesce *other = &option->coalesce[i];

		if (other->bar == range->bar &&
		    other->offset < range->offset + range->length &&
		    range->offset < other->offset + other->length)
			return true;
	}
	return false;
}

static int add_coalesce(const char *word, struct device_option *option)
{
	const char *text = word + strlen(COALESCE);
	struct coalesce range;
	uint64_t bar;

	if (!take_number(&text, ':', &bar) ||
	    !take_number(&text, '+', &range.offset) ||
	    !take_number(&text, 0, &range.length))
		return wrong(word, "not BAR:OFFSET+LENGTH, decimal or 0x...");
	if (bar >= BARS_MAX)
		return wrong(word, "BARs are 0 to 5");
	range.bar = (unsigned)bar;
	if (!range.length)
		return wrong(word, "no byte is in it");
	if (range.length > UINT64_MAX - range.offset)
		return wrong(word, "it ends beyond the last address");
	if (overlaps(option, &range))
		return wrong(word, "a part of it is in an earlier one");
	if (option->coalesce_count == COALESCE_MAX)
		return wrong(word, "more than 16 of them for one device");
	option->coalesce[option->coalesce_count++] = range;
	return 0;
}

int cleat_vmm_device_parse(char *text, struct device_option *ret)
{
	char *words = cut_path(text), *word;
	int err = 0;

	*ret = (struct device_option){ .path = text };
	if (!*text)
		return cleat_vmm_fail(-EINVAL,
				      "--device: no socket: see cleat-vmm --help");
	while (!err && words) {
		word = strsep(&words, ",");
		if (strncmp(word, COALESCE, strlen(COALESCE)))
			err = wrong(word, "unknown, or a comma of the path that is not written twice");
		else
			err = add_coalesce(word, ret);
	}
	return err;
}
